"""The scores of curves: what is counted at falling thresholds, and the metrics that follow from it.

Each is written once, for all pixels at all thresholds and for many sets of pixels at a few.
"""

from dataclasses import dataclass

import numpy as np

AUPRO_LIMIT = 0.3


@dataclass(frozen=True)
class Counts:
    """Positives and negatives at K falling thresholds; before the last axis there may be others.

    Attributes:
        true: Positives at or above each threshold, (..., K).
        false: Negatives at or above each threshold, (..., K).
        above: Negatives above all positives of that threshold, (..., K): from there to `false`, positives and negatives
            come together, and the curves run in a straight line.
        overlap: The share of each lesion at or above each threshold, averaged over lesions, (..., K).
        positives: How many there are, (...).
        negatives: How many there are, (...).
    """

    true: np.ndarray
    false: np.ndarray
    above: np.ndarray
    overlap: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """Positives that each threshold adds, (..., K)."""
        return np.diff(self.true, prepend=0)


def auroc(counts: Counts) -> np.ndarray:
    """Area under the ROC curve by trapezoids, 0 to 1; NaN without positives or without negatives."""
    negatives = counts.negatives[..., None]
    below_or_tied = 2 * negatives - counts.false - counts.above
    with np.errstate(invalid="ignore"):  # 0 / 0
        return (counts.steps * below_or_tied).sum(axis=-1) / (2 * counts.positives * counts.negatives)


def average_precision(counts: Counts) -> np.ndarray:
    """Sum of precision times the step in recall, without interpolation, 0 to 1; NaN without positives."""
    precision = counts.true / np.maximum(counts.true + counts.false, 1)
    with np.errstate(invalid="ignore"):
        return np.vecdot(counts.steps, precision) / counts.positives


def f1(counts: Counts) -> np.ndarray:
    """F1, which is pooled DICE, at each threshold, 0 to 1, (..., K)."""
    return 2 * counts.true / (counts.true + counts.false + counts.positives[..., None])


def best_f1(counts: Counts) -> np.ndarray:
    """The largest F1, 0 to 1; there must be a threshold."""
    return f1(counts).max(axis=-1)


def aupro(counts: Counts, limit: float = AUPRO_LIMIT) -> np.ndarray:
    """Area under the per-region overlap curve up to a false-positive rate (Bergmann et al., IJCV 2021, sec. 4.3).

    Each 8-connected lesion counts the same, however large. The overlap is averaged over all lesions of all images, set
    against the false-positive rate over all normal pixels, integrated by trapezoids from 0 to the limit and divided by
    it.

    Args:
        counts: There must be a threshold.
        limit: The largest false-positive rate, above 0 and at most 1.

    Returns:
        0 to 1; NaN without negatives.
    """
    return np.vecdot(np.diff(counts.overlap, prepend=0.0), overlap_areas(counts, limit)[1]) / limit


def overlap_areas(counts: Counts, limit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area that a unit of overlap at each threshold adds below the curve up to the limit.

    Returns:
        float64 (..., K) each: when it comes after the negatives of the same threshold, together with them as a line
        (the trapezoid's area, cut at the limit), and before them.
    """
    negatives = counts.negatives[..., None]
    with np.errstate(invalid="ignore"):
        start, end = counts.above / negatives, counts.false / negatives
    after, before = np.maximum(limit - end, 0), np.maximum(limit - start, 0)
    rising = np.minimum(before, end - start)
    triangle = np.divide(rising**2, 2 * (end - start), out=np.zeros_like(rising), where=end > start)
    return after, after + triangle, before
