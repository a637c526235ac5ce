"""Scores of masks and of anomaly maps, exact.

Empty masks: a normal image has no lesion to overlap with, so its DICE is NaN and it is left out of the mean (the
paper's convention); an anomalous image on which nothing is predicted scores 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from scipy.ndimage import label as connected_components

AUPRO_LIMIT = 0.3

_EIGHT_NEIGHBOURS = np.ones((3, 3), int)


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of a predicted mask against the truth; counts of several images add up."""

    intersection: int
    predicted: int
    truth: int
    pixels: int

    @classmethod
    def of(cls, predicted: np.ndarray, truth: np.ndarray) -> "Overlap":
        """Counts two masks, bool (H, W)."""
        return cls(
            int(np.count_nonzero(predicted & truth)),
            int(np.count_nonzero(predicted)),
            int(np.count_nonzero(truth)),
            truth.size,
        )

    @classmethod
    def pooled(cls, overlaps: Iterable["Overlap"]) -> "Overlap":
        """Adds the counts of many images up."""
        counts = [(one.intersection, one.predicted, one.truth, one.pixels) for one in overlaps]
        return cls(*(sum(column) for column in zip(*counts, strict=True))) if counts else cls(0, 0, 0, 0)

    @property
    def dice(self) -> float:
        """DICE, 0 to 1; NaN where the truth is empty."""
        return 2 * self.intersection / (self.predicted + self.truth) if self.truth else float("nan")

    @property
    def predicted_share(self) -> float:
        """Predicted share of the image, 0 to 1: on a normal image, its false-positive area."""
        return self.predicted / self.pixels if self.pixels else float("nan")


class Ranking:
    """Scores of positives and negatives, sorted once; every threshold-free metric reads from it.

    Args:
        scores: float (N,), finite; higher means more anomalous.
        positives: bool (N,).

    Raises:
        ValueError: A score is NaN or infinite.
    """

    def __init__(self, scores: np.ndarray, positives: np.ndarray) -> None:
        if not np.isfinite(scores).all():
            raise ValueError(f"score number {int(np.flatnonzero(~np.isfinite(scores))[0])} is not finite")
        self.order = np.argsort(-scores, kind="stable")
        ordered = scores[self.order]
        # Equal scores switch together: only the last of each run of equal ones is a threshold.
        self.ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.empty(0, int)
        self.thresholds = ordered[self.ends]
        self.true_positives = np.cumsum(positives[self.order], dtype=np.int64)[self.ends]
        self.false_positives = self.ends + 1 - self.true_positives

    @property
    def positives(self) -> int:
        return int(self.true_positives[-1]) if len(self.ends) else 0

    @property
    def negatives(self) -> int:
        return int(self.false_positives[-1]) if len(self.ends) else 0

    @cached_property
    def auroc(self) -> float:
        """Area under the ROC curve by trapezoids, 0 to 1; NaN without positives or without negatives."""
        if not self.positives or not self.negatives:
            return float("nan")
        area = np.trapezoid(_from_zero(self.true_positives), _from_zero(self.false_positives))
        return float(area / self.positives / self.negatives)

    @cached_property
    def average_precision(self) -> float:
        """Sum of precision times the step in recall, without interpolation, 0 to 1; NaN without positives."""
        if not self.positives:
            return float("nan")
        precision = self.true_positives / (self.ends + 1)
        return float(np.diff(_from_zero(self.true_positives)) @ precision / self.positives)

    def best_f1(self) -> tuple[float, float]:
        """The highest threshold of the largest F1 (pooled DICE), and that F1."""
        f1 = 2 * self.true_positives / (self.ends + 1 + self.positives)
        best = int(f1.argmax())
        return float(self.thresholds[best]), float(f1[best])


def rank_pixels(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> Ranking:
    """Ranks all pixels of all images; maps are float32 (H, W), truths bool (H, W)."""
    return Ranking(_flat(maps, np.float32), _flat(truths, bool))


def aupro(ranking: Ranking, truths: Sequence[np.ndarray], limit: float = AUPRO_LIMIT) -> float:
    """Area under the per-region overlap curve up to a false-positive rate (Bergmann et al., IJCV 2021, section 4.3).

    Each 8-connected lesion counts the same, however large. The overlap is averaged over all lesions of all images, set
    against the false-positive rate over all normal pixels, integrated by trapezoids from 0 to the limit and divided by
    it.

    Args:
        ranking: Of the same images, by `rank_pixels`.
        truths: bool (H, W) each.
        limit: The largest false-positive rate, above 0 and at most 1.

    Returns:
        0 to 1; NaN without lesions or without normal pixels.
    """
    if not ranking.positives or not ranking.negatives:
        return float("nan")
    weights = []
    regions = 0
    for truth in truths:
        labels, count = cast("tuple[np.ndarray, int]", connected_components(truth, _EIGHT_NEIGHBOURS))
        sizes = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
        share = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        share[0] = 0.0  # the background is no region
        weights.append(share[labels].ravel())
        regions += count
    overlap = _from_zero(np.cumsum(np.concatenate(weights)[ranking.order])[ranking.ends] / regions)
    rate = _from_zero(ranking.false_positives / ranking.negatives)
    inside = int(np.searchsorted(rate, limit, side="right"))
    area = np.trapezoid(overlap[:inside], rate[:inside])
    if inside < len(rate):  # the last trapezoid is cut at the limit
        slope = (overlap[inside] - overlap[inside - 1]) / (rate[inside] - rate[inside - 1])
        width = limit - rate[inside - 1]
        area += width * (overlap[inside - 1] + slope * width / 2)
    return float(area / limit)


def mean_dice_curve(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean DICE over images at every threshold, exactly; images with an empty truth are left out.

    Walking down the values of all images together, each pixel changes the DICE of its own image only, so the mean is
    the running sum of those changes.

    Args:
        maps: float32 (H, W) each.
        truths: bool (H, W) each.

    Returns:
        Thresholds, falling, and the mean DICE of the masks `map >= threshold`; both empty without a lesion.
    """
    values, changes = [], []
    for anomaly_map, truth in zip(maps, truths, strict=True):
        positives = np.count_nonzero(truth)
        if not positives:
            continue
        flat = anomaly_map.ravel()
        order = np.argsort(-flat, kind="stable")
        intersection = np.cumsum(truth.ravel()[order])
        dice = 2 * intersection / (np.arange(1, len(flat) + 1) + positives)
        values.append(flat[order])
        changes.append(np.diff(dice, prepend=0.0))
    if not values:
        return np.empty(0, np.float32), np.empty(0)
    value, change = np.concatenate(values), np.concatenate(changes)
    order = np.argsort(-value, kind="stable")
    value = value[order]
    ends = np.flatnonzero(np.append(value[1:] != value[:-1], True))
    return value[ends], np.cumsum(change[order])[ends] / len(values)


def _flat(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays]) if len(arrays) else np.empty(0, dtype)


def _from_zero(curve: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, curve.dtype), curve])
