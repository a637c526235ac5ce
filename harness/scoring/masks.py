"""Scores of one predicted mask against one image's truth, exact, in pixels of the run's frame.

Empty masks: a normal image has no lesion to overlap with or to be far from, so DICE, IoU, recall and distances are NaN
and it is left out of their means (the paper's convention). An anomalous image on which nothing is predicted gets the
worst value there is, 0 or the image's diagonal: leaving it out would reward silence (Maier-Hein, Reinke et al.,
"Metrics reloaded", Nature Methods 2024).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import label as connected_components
from scipy.spatial import KDTree

LesionSize = Literal["none", "small", "medium", "large"]

SMALL_BELOW, LARGE_ABOVE = 0.005, 0.02

EIGHT_NEIGHBOURS = np.ones((3, 3), int)


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
    def iou(self) -> float:
        """Intersection over union, 0 to 1; NaN where the truth is empty."""
        return self.intersection / (self.predicted + self.truth - self.intersection) if self.truth else float("nan")

    @property
    def precision(self) -> float:
        """Share of the predicted pixels that are lesion, 0 to 1; NaN where nothing is predicted, whatever the truth."""
        return self.intersection / self.predicted if self.predicted else float("nan")

    @property
    def recall(self) -> float:
        """Share of the lesion pixels that are predicted, 0 to 1; NaN where the truth is empty."""
        return self.intersection / self.truth if self.truth else float("nan")

    @property
    def predicted_share(self) -> float:
        """Predicted share of the image, 0 to 1: on a normal image, its false-positive area."""
        return self.predicted / self.pixels if self.pixels else float("nan")


@dataclass(frozen=True, eq=False)
class Lesions:
    """One image's true mask, bool (H, W), with all that every prediction is measured against, computed once.

    For an image of 256 x 256 that is 0.4 MB in the end, or 0.07 MB if it is normal.
    """

    mask: np.ndarray

    @cached_property
    def labels(self) -> np.ndarray:
        """The number of the 8-connected lesion that a pixel belongs to, from 1, or 0; unsigned (H, W)."""
        labels, count = _components(self.mask)
        return labels.astype(np.min_scalar_type(count))

    @cached_property
    def count(self) -> int:
        """How many 8-connected lesions there are."""
        return int(self.labels.max()) if self.mask.any() else 0

    @cached_property
    def surface(self) -> np.ndarray:
        """Rows and columns of the surface pixels, (N, 2)."""
        return np.argwhere(_surface(self.mask))

    @cached_property
    def distances(self) -> np.ndarray:
        """How far each pixel is from the surface, float32 (H, W); without a lesion there is none to be far from."""
        return cast(np.ndarray, distance_transform_edt(~_surface(self.mask))).astype(np.float32)

    @cached_property
    def diameter(self) -> float:
        """An upper bound of the distance between two surface pixels: the diagonal of the box around the mask."""
        return float(np.hypot(*(np.ptp(self.surface, axis=0) + 1)))


@dataclass(frozen=True, eq=False)
class MaskScores:
    """The measurements of one predicted mask, each made when it is first asked for.

    Attributes:
        predicted: bool (H, W).
        truth: The lesion mask, of the same size.
    """

    predicted: np.ndarray
    truth: Lesions

    @cached_property
    def overlap(self) -> Overlap:
        """Pixel counts, from which DICE, IoU, precision and recall follow."""
        return Overlap.of(self.predicted, self.truth.mask)

    @property
    def hd95(self) -> float:
        """By `surface_distances`, in pixels."""
        return self._distances[0]

    @property
    def assd(self) -> float:
        """By `surface_distances`, in pixels."""
        return self._distances[1]

    @property
    def lesions(self) -> int:
        """8-connected lesions of the truth."""
        return self.truth.count

    @property
    def lesions_hit(self) -> int:
        """Those of them with at least one predicted pixel."""
        return _distinct(self.truth.labels[self.predicted & self.truth.mask]) if self.truth.count else 0

    @property
    def false_lesions(self) -> int:
        """8-connected components of the prediction without a single lesion pixel; on a normal image, all."""
        labels, found = _components(self.predicted)
        return found - _distinct(labels[self.predicted & self.truth.mask])

    @cached_property
    def _distances(self) -> tuple[float, float]:
        return surface_distances(self.predicted, self.truth)


def surface_distances(predicted: np.ndarray, truth: Lesions) -> tuple[float, float]:
    """How far the outlines of two masks are apart.

    A surface pixel is one of the mask with a 4-neighbour outside of it; beyond the image's edge is outside. Distances
    are Euclidean, each from a surface pixel of one mask to the nearest of the other. Both values are those of MONAI's
    `compute_hausdorff_distance(percentile=95)` and `compute_average_surface_distance(symmetric=True)`.

    Args:
        predicted: bool (H, W).
        truth: The lesion mask, of the same size.

    Returns:
        The 95th percentile of the Hausdorff distance, which is the larger one of the two directions', and the mean over
        the surface pixels of both masks; in pixels, 0 or more. Both are NaN where the truth is empty, and the image's
        diagonal, which is longer than any distance, where a lesion is there but nothing is predicted.
    """
    if not truth.mask.any():
        return float("nan"), float("nan")
    surface = np.flatnonzero(_surface(predicted))
    if not len(surface):
        worst = float(np.hypot(*predicted.shape))
        return worst, worst
    to_truth = truth.distances.ravel()[surface]
    # From no surface pixel of the truth is it farther to the prediction than over the place where the two are nearest.
    # What is farther from the truth than that is nobody's nearest: of a noisy mask, most pixels.
    near = surface[to_truth <= to_truth.min() + truth.diameter]
    points = np.column_stack(np.divmod(near, predicted.shape[1]))
    # The tree is asked once and thrown away: building it fast matters more than its balance.
    tree = KDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False)
    to_predicted = tree.query(truth.surface)[0]
    hd95 = max(np.percentile(to_truth, 95), np.percentile(to_predicted, 95))
    total = to_truth.sum(dtype=np.float64) + to_predicted.sum()
    return float(hd95), float(total / (len(to_truth) + len(to_predicted)))


def lesion_size(truth_px: int, image_px: int) -> LesionSize:
    """The size class of an image's lesions, by the share of the image that they cover together.

    Below 0.5 % they are small, above 2 % large; `none` is an image without a lesion. The limits are fixed, not those of
    a test set's terciles, so that the classes of two runs or datasets can be compared.

    Args:
        truth_px: Lesion pixels.
        image_px: Pixels of the image in the run's frame.
    """
    share = truth_px / image_px
    if not truth_px:
        return "none"
    return "small" if share < SMALL_BELOW else "large" if share > LARGE_ABOVE else "medium"


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    return cast("tuple[np.ndarray, int]", connected_components(mask, EIGHT_NEIGHBOURS))


def _surface(mask: np.ndarray) -> np.ndarray:
    """Shifted slices are ten times as fast as scipy's `binary_erosion`, which gives the same."""
    inside = np.zeros_like(mask)
    inside[1:-1, 1:-1] = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return mask & ~inside


def _distinct(labels: np.ndarray) -> int:
    """How many different numbers there are; quicker than sorting them."""
    return int(np.count_nonzero(np.bincount(labels)))
