"""Intervals that respect that slices of one patient are not independent.

An interval is Student's t around the score, with the deviation that the jackknife over patients gives: the score is
computed once without each patient and all of the patient's images (Efron and Tibshirani 1993, chapter 11; for patients
with unequal numbers of images MacKinnon, Nielsen and Webb, J. Appl. Econometrics 2023). The interval of a mean of one
image per patient is that of the t-test. Where a score can only lie between two ends, such as 0 and 1, the interval is
made on the logit scale: it stays within them, and the nearer to an end, the more lopsided it is.
`benchmarks/coverage.py` measures how often the truth lies within; docs/scores.md has the figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import betaincinv, expit, logit, stdtrit

from ...results.tables import LEVEL
from .curves import Counts
from .functions import OF_FOREGROUND, OF_PIXELS
from .ranking import Ranking

_CHUNK = 1_000_000  # numbers held at once; bounds the memory, and fits the cache
_ANYTHING = (-inf, inf)


class Interval(NamedTuple):
    """A 95 % interval of a score.

    Attributes:
        low, high: Its ends; NaN where fewer than two patients leave none.
        patients: How many it stands on. Where lesions are held against what is normal, these are the patients with the
            one or those with the other, whichever are fewer.
    """

    low: float
    high: float
    patients: int


def mean_interval(values: np.ndarray, groups: Sequence[str], bounds: tuple[float, float] = _ANYTHING) -> Interval:
    """The 95 % interval of a mean over cases, over patients.

    Args:
        values: float (N,); NaN values are left out.
        groups: The patient of each value.
        bounds: The smallest and the largest value that there can be.
    """
    kept = ~np.isnan(values)
    names, index = np.unique(np.asarray(groups, dtype=str)[kept], return_inverse=True)
    if len(names) < 2:
        return Interval(nan, nan, len(names))
    without = means_without(np.bincount(index, weights=values[kept])[:, None], np.bincount(index))
    low, high = jackknife(values[kept].mean(keepdims=True), without, len(names), bounds)
    return Interval(float(low[0]), float(high[0]), len(names))


def ratio_interval(parts: np.ndarray, wholes: np.ndarray, groups: Sequence[str]) -> Interval:
    """The 95 % interval of a ratio of sums over cases, 0 to 1, over patients.

    Args:
        parts: float (N,), such as positive pixels.
        wholes: float (N,), such as all pixels; each above 0.
        groups: The patient of each.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return Interval(nan, nan, len(names))
    of_parts, of_wholes = np.bincount(index, weights=parts), np.bincount(index, weights=wholes)
    without = means_without(of_parts[:, None], of_wholes)
    low, high = jackknife(np.array([parts.sum() / wholes.sum()]), without, len(names), (0, 1))
    return Interval(float(low[0]), float(high[0]), len(names))


def share_interval(events: np.ndarray, groups: Sequence[str]) -> Interval:
    """The 95 % interval of the share of cases with an event, over patients (Korn and Graubard, Survey Meth. 1998).

    It is that of Clopper and Pearson for as many independent cases as would leave the same deviation. Where all cases
    have the event, or none has, which leaves no deviation, that is one case for each patient.

    Args:
        events: float (N,), 0 or 1.
        groups: The patient of each case.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    count, patients, share = len(events), len(names), float(events.mean())
    if patients < 2:
        return Interval(nan, nan, patients)
    without = means_without(np.bincount(index, weights=events)[:, None], np.bincount(index))
    variance = (patients - 1) / patients * float(((without - without.mean(axis=0)) ** 2).sum())
    alike = share * (1 - share) / variance if variance else float(patients)
    freedom = (stdtrit(count - 1, (1 + LEVEL) / 2) / stdtrit(patients - 1, (1 + LEVEL) / 2)) ** 2
    cases = min(alike * freedom, count) if variance else alike
    hits, tail = share * cases, (1 - LEVEL) / 2
    low = float(betaincinv(hits, cases - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, cases - hits, 1 - tail)) if hits < cases else 1.0
    return Interval(low, high, patients)


def auroc_interval(scores: np.ndarray, labels: np.ndarray, groups: Sequence[str]) -> Interval:
    """The 95 % interval of the image AUROC, over patients.

    Args:
        scores: float (N,), finite; higher means more anomalous. Equal scores count one half.
        labels: bool (N,).
        groups: The patient of each image.

    Returns:
        Without ends where fewer than two patients have anomalous images, or fewer than two normal ones.
    """
    positive = labels.astype(bool)
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    positives, negatives = (np.bincount(index[side], minlength=len(names)) for side in (positive, ~positive))
    patients = int(min(np.count_nonzero(positives), np.count_nonzero(negatives)))
    if patients < 2:
        return Interval(nan, nan, patients)
    # A pair is an anomalous and a normal image; it is won where the anomalous one scores higher. Without a patient, the
    # pairs of all its images are gone, among which those of two of its own images would be subtracted twice.
    won = _won(scores, positive)
    own = _won(scores, positive, index)
    total = won[positive].sum()
    gone = np.bincount(index, won - np.where(positive, own, 0), minlength=len(names))
    without = (total - gone) / ((positives.sum() - positives) * (negatives.sum() - negatives))
    auroc = Ranking(scores, positive).auroc
    low, high = jackknife(np.array([auroc]), without[:, None], patients, (0, 1))
    return Interval(float(low[0]), float(high[0]), patients)


@dataclass(frozen=True)
class PatientCurves:
    """The part of each patient in the pooled pixel curves at K falling thresholds, of which the last takes all pixels.

    Attributes:
        true: Lesion pixels at or above each threshold, (patients, K).
        false: Normal pixels at or above each threshold, (patients, K).
        overlap: Summed shares of lesions at or above each threshold, (patients, K): a pixel of a lesion of n pixels
            weighs 1 / n.
        regions: Number of lesions, (patients,).
    """

    true: np.ndarray
    false: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray

    def intervals(self, exact: Mapping[str, float]) -> dict[str, Interval]:
        """The 95 % intervals of the pooled pixel metrics, over patients.

        K thresholds make the curves coarse. They only say how the metric changes when a patient is left out; the
        interval is around the exact value.

        Args:
            exact: The metric over all patients and all thresholds, by name: those of `OF_PIXELS` or
                `OF_FOREGROUND` that are wanted.

        Returns:
            Without ends where fewer than two patients have lesions, or fewer than two normal pixels.
        """
        count = len(self.regions)
        patients = int(min(np.count_nonzero(counts[:, -1]) for counts in (self.true, self.false)))
        if patients < 2:
            return dict.fromkeys(exact, Interval(nan, nan, patients))
        functions = OF_PIXELS | OF_FOREGROUND
        parts = [self._without(rows) for rows in chunks(count, self.true.shape[1])]
        without = np.array([np.concatenate([functions[name](part) for part in parts]) for name in exact]).T
        low, high = jackknife(np.array(list(exact.values())), without, patients, (0, 1))
        return {name: Interval(float(low[at]), float(high[at]), patients) for at, name in enumerate(exact)}

    def _without(self, rows: slice) -> Counts:
        """All that is left without each of some patients."""
        true, false, overlap = (curve.sum(axis=0) - curve[rows] for curve in (self.true, self.false, self.overlap))
        # Between two of the few thresholds, the curves run in a straight line.
        above = np.pad(false[:, :-1], ((0, 0), (1, 0)))
        regions = (self.regions.sum() - self.regions[rows])[:, None]
        return Counts(true, false, above, overlap / regions, true[:, -1], false[:, -1])


def jackknife(
    values: np.ndarray, without: np.ndarray, patients: int, bounds: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of Student's intervals.

    Args:
        values: Scores, (K,).
        without: The same without each patient, (patients, K).
        patients: How many the degrees of freedom are counted of, at least 2.
        bounds: The smallest and the largest value of the scores.
    """
    count = len(without)
    deviation = np.sqrt((count - 1) / count * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = stdtrit(patients - 1, (1 + LEVEL) / 2) * deviation
    low, high = bounds
    plain = values - reach, values + reach
    if not np.isfinite(high - low):
        return np.clip(plain[0], low, high), np.clip(plain[1], low, high)
    slope = (values - low) * (high - values) / (high - low)  # of the score over its logit; none at an end
    curved = (slope > 0) & (reach > 0)
    middle, steps = logit(np.where(curved, (values - low) / (high - low), 0.5)), reach / np.where(curved, slope, 1)
    ends = (low + (high - low) * expit(middle + side * steps) for side in (-1, 1))
    first, last = (np.where(curved, end, np.clip(flat, low, high)) for end, flat in zip(ends, plain, strict=True))
    return first, last


def means_without(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Means over cases without each patient, (patients, K), from sums (patients, K) and sizes (patients,)."""
    return (sums.sum(axis=0) - sums) / (sizes.sum() - sizes)[:, None]


def _won(scores: np.ndarray, positive: np.ndarray, index: np.ndarray | None = None) -> np.ndarray:
    """How many pairs of each image the anomalous one wins, ties by half; only pairs within groups, if there are any."""
    images = pd.DataFrame({"group": 0 if index is None else index, "positive": positive, "score": scores})
    same = images.groupby(["group", "positive"])["score"]
    below = images.groupby("group")["score"].rank() - same.rank()  # images of the other label
    anomalous = images.groupby("group")["positive"].transform("sum")
    return np.where(positive, below, anomalous - below)


def chunks(count: int, width: int) -> Iterator[slice]:
    """Rows to be worked on at once, where each is `width` numbers wide."""
    rows = max(1, _CHUNK // width)
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))
