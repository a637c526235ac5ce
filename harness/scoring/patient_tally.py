"""Each patient's part of the pooled pixel curves, for their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from .intervals import Interval, PatientCurves
from .ranking import PixelRanking

PATIENT_THRESHOLDS = 256


class PatientTally:
    """Adds up each patient's part.

    Args:
        patients: Of each image.
        ranking: Of all pixels of all images.
    """

    def __init__(self, patients: Sequence[str], ranking: PixelRanking) -> None:
        names, self._index = np.unique(patients, return_inverse=True)
        self._thresholds = np.append(spread_thresholds(ranking, PATIENT_THRESHOLDS), -np.inf)
        shape = (len(names), len(self._thresholds))
        self._curves = PatientCurves(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(len(names)))

    def add(self, index: int, ranking: PixelRanking) -> None:
        """Adds an image, ranked by itself."""
        patient = self._index[index]
        true, false = ranking.at(self._thresholds)
        self._curves.true[patient] += true
        self._curves.false[patient] += false
        self._curves.overlap[patient] += ranking.regions * ranking.overlap_at(self._thresholds)
        self._curves.regions[patient] += ranking.regions

    def intervals(self, exact: Mapping[str, float]) -> dict[str, Interval]:
        """As `PatientCurves.intervals`."""
        return self._curves.intervals(exact)


def spread_thresholds(ranking: PixelRanking, count: int) -> np.ndarray:
    """So many thresholds at most, falling: half of them even steps in recall, half in the false-positive rate's log."""
    if not ranking.positives:
        return np.empty(0, np.float32)
    recall = np.searchsorted(ranking.true_positives, np.linspace(1, ranking.positives, count // 2))
    rates = np.searchsorted(ranking.false_positives, np.geomspace(1, max(ranking.negatives, 1), count // 2))
    chosen = np.unique(np.concatenate([recall, rates]))
    return ranking.thresholds[chosen[chosen < len(ranking.thresholds)]]
