"""Pixels of all images, ranked together: what AUROC, average precision, F1 and AUPRO are read from.

The pooled metrics depend on few numbers: for each distinct value of a lesion pixel, how many lesion pixels, and what
share of their lesions, lie at or above it, and how many normal pixels lie above and at or above it. Between two such
values only false positives are added: the ROC and the per-region overlap are flat there, and F1 falls. So all pixels
need only be sorted, and the few of lesions be found among them. Where values are binned (`tally.py`), the error that is
left is bounded from the bins' own counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from scipy.ndimage import label as connected_components

from . import curves
from .curves import AUPRO_LIMIT, Counts
from .masks import EIGHT_NEIGHBOURS
from .tally import CountedValues, KeptValues, SortedValues, Tally, checked_map, rounded_up, zero_first


@dataclass(frozen=True)
class ErrorBounds:
    """How far the metrics of binned values can be from those of the values themselves; 0 where none is rounded."""

    auroc: float
    average_precision: float
    best_f1: float
    aupro: float


class Ranking:
    """Scores of positives and negatives, counted from the highest down; every threshold-free metric reads from it.

    Args:
        scores: float (N,), finite; higher means more anomalous.
        positives: bool (N,).

    Attributes:
        thresholds: (K,) the distinct scores of positives, falling.
        true_positives: int (K,), positives at or above each threshold.
        false_positives: int (K,), negatives at or above each threshold.
        false_positives_above: int (K,), negatives strictly above each threshold.
        positives: How many there are.
        negatives: How many there are.
        overlap: float64 (K,), the share of positives at or above each threshold; of pixels, the share of each lesion,
            averaged over lesions.

    Raises:
        ValueError: A score is NaN or infinite.
    """

    def __init__(self, scores: np.ndarray, positives: np.ndarray) -> None:
        if not np.isfinite(scores).all():
            raise ValueError(f"score number {int(np.flatnonzero(~np.isfinite(scores))[0])} is not finite")
        self._rank(*np.unique(scores[positives], return_counts=True), SortedValues([np.sort(scores)]))

    def _rank(self, rising: np.ndarray, counts: np.ndarray, scores: "CountedValues | SortedValues") -> None:
        """Sets the attributes, from the distinct scores of positives, how often each occurs, and all scores."""
        self._positives, self._scores = CountedValues(rising, counts), scores
        self.positives, self.negatives = self._positives.total, scores.total - self._positives.total
        self.thresholds = rising[::-1]
        self.true_positives = np.cumsum(counts[::-1])
        reached, above = scores.total - scores.around(rising)[:, ::-1]
        self.false_positives = reached - self.true_positives
        self.false_positives_above = above - zero_first(self.true_positives)[:-1]
        self.overlap = self.true_positives / max(self.positives, 1)

    def at(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives of `score >= threshold` at any thresholds, each int of the same shape."""
        thresholds = rounded_up(thresholds, self.thresholds.dtype)
        true = self.positives - self._positives.below(thresholds)
        return true, self._scores.total - self._scores.below(thresholds) - true

    @property
    def counts(self) -> Counts:
        """The counts that all threshold-free metrics are computed from."""
        return Counts(
            self.true_positives,
            self.false_positives,
            self.false_positives_above,
            self.overlap,
            np.array(self.positives),
            np.array(self.negatives),
        )

    @cached_property
    def auroc(self) -> float:
        """By `curves.auroc`; NaN without positives or without negatives."""
        return float(curves.auroc(self.counts))

    @cached_property
    def average_precision(self) -> float:
        """By `curves.average_precision`; NaN without positives."""
        return float(curves.average_precision(self.counts))

    def best_f1(self) -> tuple[float, float]:
        """The highest threshold of the largest F1 (pooled DICE), and that F1; both NaN without positives."""
        if not self.positives:
            return float("nan"), float("nan")
        f1 = curves.f1(self.counts)
        best = int(f1.argmax())
        return float(self.thresholds[best]), float(f1[best])


class PixelRanking(Ranking):
    """The pixels of many images ranked together; made by `PixelTally`.

    Attributes:
        overlap: float64 (K,), the share of each lesion at or above each threshold, averaged over all lesions.
        regions: Number of 8-connected lesions.
        binned: Whether values were rounded down. All that is counted at `thresholds` is exact then too.
    """

    def __init__(self, lesions: "Tally", pixels: "CountedValues | SortedValues", regions: int) -> None:
        counts, shares = lesions.sums or (np.empty(0, np.int64), np.empty(0))
        self._rank(lesions.values, counts, pixels)
        self.overlap = np.cumsum(shares[::-1]) / max(regions, 1)
        self.regions = regions
        self.binned = lesions.shift > 0

    def overlap_at(self, thresholds: np.ndarray) -> np.ndarray:
        """The overlap at any thresholds, float64 of the same shape; 0 without lesions."""
        return zero_first(self.overlap)[len(self.overlap) - self._positives.places(thresholds)]

    def aupro(self, limit: float = AUPRO_LIMIT) -> float:
        """By `curves.aupro`; NaN without lesions or without normal pixels."""
        return float(curves.aupro(self.counts, limit)) if self.positives else float("nan")

    def error_bounds(self, limit: float = AUPRO_LIMIT) -> ErrorBounds:
        """Bounds on the error of each metric: whatever the order of values within the bins was, it lies within them.

        Each lesion pixel adds its own part to AUROC, average precision and AUPRO. That part is smallest when all normal
        pixels of its bin lie above it, and largest when all lie below.

        Args:
            limit: The largest false-positive rate of `aupro`.
        """
        if not self.binned or not self.positives:
            return ErrorBounds(0.0, 0.0, 0.0, 0.0)
        counts = self.counts
        steps, true, false, above = counts.steps, counts.true, counts.false, counts.above
        tied = int(steps @ (false - above)) / (2 * self.positives * max(self.negatives, 1))
        first, precision = true - steps + 1, true / (true + false)
        # From the first lesion pixel of a bin to its last, precision is concave: no mean is below that of these two.
        lowest, highest = (first / (first + false) + precision) / 2, true / (true + above)
        least, area, most = curves.overlap_areas(counts, limit)
        overlap = np.diff(counts.overlap, prepend=0.0)
        return ErrorBounds(
            tied,
            _larger_sum(steps / self.positives, precision - lowest, highest - precision),
            max(0.0, float((2 * true / (true + above + self.positives)).max()) - self.best_f1()[1]),
            _larger_sum(overlap, area - least, most - area) / limit,
        )


class PixelTally:
    """Counts the pixels of one image after the other, and ranks them all together.

    Args:
        limit: The most distinct values to keep, at least 512; `None` keeps all.
        truths: How many truths each image is ranked against; the pixels are kept once for all of them.

    Raises:
        ValueError: The limit is too small.
    """

    def __init__(self, limit: int | None = None, truths: int = 1) -> None:
        self._limit = limit
        self._pixels = KeptValues() if limit is None else Tally(limit)
        self._lesions = [Tally(limit) for _ in range(truths)]
        self._regions = [0] * truths
        self._inside: PixelTally | None = None  # where foregrounds are given: their pixels, against the first truth

    def add(self, anomaly_map: np.ndarray, *truths: np.ndarray, foreground: np.ndarray | None = None) -> None:
        """Counts the pixels of an image.

        Args:
            anomaly_map: float32 (H, W), finite; higher means more anomalous.
            truths: bool (H, W) each.
            foreground: bool (H, W), for all images or for none.

        Raises:
            ValueError: A value is NaN or infinite, or would be rounded to float32; or the shapes differ.
        """
        values = checked_map(anomaly_map, *truths)
        lesions = [_lesion_pixels(values, truth) for truth in truths]
        for index, of_truth in enumerate(lesions):
            self._add_lesions(index, *of_truth)
        if foreground is None:
            self._pixels.add(values.ravel())
            return
        if self._inside is None:
            self._inside = PixelTally(self._limit)
        part = truths[0] & foreground
        whole = np.array_equal(part, truths[0])
        self._inside._add_lesions(0, *(lesions[0] if whole else _lesion_pixels(values, part)))
        self._inside._pixels.add(values[foreground])
        # What is sorted inside need not be sorted again; bins are of all pixels, as without a foreground.
        self._pixels.add(values[~foreground] if self._limit is None else values.ravel())

    def _add_lesions(self, index: int, values: np.ndarray, shares: np.ndarray, regions: int) -> None:
        self._regions[index] += regions
        self._lesions[index].add(values, np.ones(len(shares), np.int64), shares)

    def ranking(self) -> PixelRanking:
        """Ranks all pixels so far against the first truth; more may be added afterwards."""
        return self.rankings()[0]

    def rankings(self) -> list[PixelRanking]:
        """Ranks all pixels so far against each truth; more may be added afterwards."""
        for lesions in self._lesions:
            lesions.join()
        if isinstance(self._pixels, KeptValues):
            pixels = self._pixels.sorted()
            if self._inside is not None and isinstance(self._inside._pixels, KeptValues):
                pixels = SortedValues([*pixels.parts, *self._inside._pixels.sorted().parts])
        else:
            self._pixels.join()
            shift = max(tally.shift for tally in (self._pixels, *self._lesions))
            for tally in (self._pixels, *self._lesions):
                tally.round_down(shift)
            pixels = self._pixels.counted()
        return [
            PixelRanking(lesions, pixels, regions)
            for lesions, regions in zip(self._lesions, self._regions, strict=True)
        ]

    def foreground_ranking(self) -> PixelRanking | None:
        """Ranks the pixels of all foregrounds so far against the first truth; `None` where none was given."""
        return None if self._inside is None else self._inside.ranking()


def rank_pixels(maps: Iterable[np.ndarray], truths: Iterable[np.ndarray], limit: int | None = None) -> PixelRanking:
    """Ranks all pixels of all images; see `PixelTally`."""
    tally = PixelTally(limit)
    for anomaly_map, truth in zip(maps, truths, strict=True):
        tally.add(anomaly_map, truth)
    return tally.ranking()


def rank_image(anomaly_map: np.ndarray, truth: np.ndarray, rising: np.ndarray) -> PixelRanking:
    """Ranks the pixels of one image, as `rank_pixels` does.

    Args:
        anomaly_map: float32 (H, W), finite.
        truth: bool (H, W).
        rising: The map's values, sorted.
    """
    values, shares, regions = _lesion_pixels(anomaly_map, truth)
    lesions = Tally(None)
    lesions.add(values, np.ones(len(shares), np.int64), shares)
    lesions.join()
    return PixelRanking(lesions, SortedValues([rising]), regions)


def _lesion_pixels(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Values of lesion pixels, one over the size of the 8-connected lesion of each, and the number of lesions."""
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    if not len(rows):
        return np.empty(0, np.float32), np.empty(0), 0
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, count = cast("tuple[np.ndarray, int]", connected_components(truth[box], EIGHT_NEIGHBOURS))
    of_lesion = labels[truth[box]]
    return values[box][truth[box]], (1 / np.maximum(np.bincount(of_lesion), 1))[of_lesion], count


def _larger_sum(weights: np.ndarray, below: np.ndarray, above: np.ndarray) -> float:
    return float(max(weights @ below, weights @ above))
