"""Scores of one predicted mask against the truth of one image or volume, exact, in pixels of the run's frame or in mm.

Empty masks: a normal image has no lesion to overlap with or to be far from, so DICE, IoU, recall and distances are NaN
and it is left out of their means (the paper's convention). An anomalous image on which nothing is predicted gets the
worst value there is, 0 or the image's diagonal: leaving it out would reward silence (Maier-Hein, Reinke et al.,
"Metrics reloaded", Nature Methods 2024).
"""

from collections.abc import Iterable, Sequence
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
class Outline:
    """The surface of a mask, with all that distances to it need, computed once.

    Attributes:
        points: Where its surface pixels are, float64 (N, dimensions).
        distances: How far each pixel is from the surface, float32, of the mask's shape.
        diameter: An upper bound of the distance between two surface pixels: the diagonal of the box around the mask.
    """

    points: np.ndarray
    distances: np.ndarray
    diameter: float

    @classmethod
    def of(cls, mask: np.ndarray, spacing: Sequence[float] | None = None) -> "Outline":
        """Finds the surface of a mask that is not empty.

        Args:
            mask: bool, of any number of dimensions.
            spacing: The distance between neighbours along each axis; by default 1.
        """
        surface = _surface(mask)
        steps = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, float)
        places = np.argwhere(surface)
        distances = cast(np.ndarray, distance_transform_edt(~surface, sampling=spacing)).astype(np.float32)
        diameter = float(np.linalg.norm((np.ptp(places, axis=0) + 1) * steps))
        return cls(places if spacing is None else places * steps, distances, diameter)


@dataclass(frozen=True, eq=False)
class Lesions:
    """The true mask of an image or a volume, with all that every prediction is measured against, computed once.

    For an image of 256 x 256 that is 0.4 MB in the end, or 0.07 MB if it is normal.

    Attributes:
        mask: bool (H, W) or (D, H, W).
        spacing: The distance in mm between neighbours along each axis; `None` where it is not known.
    """

    mask: np.ndarray
    spacing: tuple[float, ...] | None = None

    @cached_property
    def labels(self) -> np.ndarray:
        """The number of the lesion that a pixel belongs to, from 1, or 0; unsigned, of the mask's shape.

        Pixels that touch, at a corner too, are of one lesion: 8-connected in an image, 26-connected in a volume.
        """
        labels, count = _components(self.mask)
        return labels.astype(np.min_scalar_type(count))

    @cached_property
    def count(self) -> int:
        """How many lesions there are."""
        return int(self.labels.max()) if self.mask.any() else 0

    @cached_property
    def outline(self) -> Outline:
        """In pixels; the mask is not empty."""
        return Outline.of(self.mask)

    @cached_property
    def outline_mm(self) -> Outline:
        """In mm; the mask is not empty, and the spacing is known."""
        return Outline.of(self.mask, self.spacing)


@dataclass(frozen=True, eq=False)
class MaskScores:
    """The measurements of one predicted mask, each made when it is first asked for.

    Attributes:
        predicted: bool (H, W), or (D, H, W) for a volume.
        truth: The lesion mask, of the same shape.
        tolerance: How far in mm two surfaces may be apart where they count as the same, for `nsd`.
    """

    predicted: np.ndarray
    truth: Lesions
    tolerance: float = 1.0

    @cached_property
    def overlap(self) -> Overlap:
        """Pixel counts, from which DICE, IoU, precision and recall follow."""
        return Overlap.of(self.predicted, self.truth.mask)

    @property
    def hd95(self) -> float:
        """By `SurfaceDistances`, in pixels."""
        return self._distances.hd95

    @property
    def assd(self) -> float:
        """By `SurfaceDistances`, in pixels."""
        return self._distances.assd

    @property
    def hd95_mm(self) -> float:
        """By `SurfaceDistances`, in mm; NaN where the spacing is not known."""
        return self._distances_mm.hd95

    @property
    def assd_mm(self) -> float:
        """By `SurfaceDistances`, in mm; NaN where the spacing is not known."""
        return self._distances_mm.assd

    @property
    def nsd(self) -> float:
        """By `SurfaceDistances`, 0 to 1; NaN where the spacing is not known."""
        return self._distances_mm.nsd(self.tolerance)

    @property
    def predicted_ml(self) -> float:
        """The volume of what is predicted, in ml; NaN where the spacing is not known."""
        return self.overlap.predicted * self._voxel_ml

    @property
    def truth_ml(self) -> float:
        """The volume of the lesions, in ml; NaN where the spacing is not known."""
        return self.overlap.truth * self._voxel_ml

    @property
    def lesions(self) -> int:
        """Lesions of the truth."""
        return self.truth.count

    @property
    def lesions_hit(self) -> int:
        """Those of them with at least one predicted pixel."""
        return _distinct(self.truth.labels[self.predicted & self.truth.mask]) if self.truth.count else 0

    @property
    def false_lesions(self) -> int:
        """Connected components of the prediction without a single lesion pixel; on a normal image, all."""
        labels, found = self.components
        return found - _distinct(labels[self.predicted & self.truth.mask])

    @cached_property
    def components(self) -> tuple[np.ndarray, int]:
        """The number of the predicted lesion that a pixel belongs to, from 1, or 0; and how many there are."""
        return _components(self.predicted)

    @property
    def _voxel_ml(self) -> float:
        return float(np.prod(self.truth.spacing)) / 1000 if self.truth.spacing else float("nan")

    @cached_property
    def _distances(self) -> "SurfaceDistances":
        return surface_distances(self.predicted, self.truth)

    @cached_property
    def _distances_mm(self) -> "SurfaceDistances":
        spacing = self.truth.spacing
        if spacing is None:
            return SurfaceDistances.none()
        if len(set(spacing)) == 1:
            return self._distances.times(spacing[0])
        return surface_distances(self.predicted, self.truth, in_mm=True)


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far the surfaces of two masks are apart.

    A surface pixel is one of the mask with a neighbour outside of it, where neighbours share a side; beyond the image's
    edge is outside. Distances are Euclidean, each from a surface pixel of one mask to the nearest of the other.

    Attributes:
        to_truth: From each surface pixel of the prediction, 0 or more; empty where one of the masks is.
        to_predicted: From each surface pixel of the truth.
        otherwise: The value of HD95 and ASSD where one of the masks is empty: NaN without a lesion, as there is nothing
            to be far from; the diagonal, which is longer than any distance, where nothing is predicted.
    """

    to_truth: np.ndarray
    to_predicted: np.ndarray
    otherwise: float

    @classmethod
    def none(cls, otherwise: float = float("nan")) -> "SurfaceDistances":
        """There are no distances, because one of the masks is empty."""
        return cls(np.empty(0), np.empty(0), otherwise)

    @cached_property
    def hd95(self) -> float:
        """The larger of the two directions' 95th percentiles: MONAI's `compute_hausdorff_distance(percentile=95)`."""
        if not len(self.to_truth):
            return self.otherwise
        return float(max(np.percentile(self.to_truth, 95), np.percentile(self.to_predicted, 95)))

    @cached_property
    def assd(self) -> float:
        """The mean over both masks' surface pixels: MONAI's `compute_average_surface_distance(symmetric=True)`."""
        if not len(self.to_truth):
            return self.otherwise
        total = self.to_truth.sum(dtype=np.float64) + self.to_predicted.sum()
        return float(total / (len(self.to_truth) + len(self.to_predicted)))

    def nsd(self, tolerance: float) -> float:
        """Normalised surface distance: the share of both masks' surface pixels that are near the other surface.

        It is MONAI's `compute_surface_dice` (Nikolov et al., J. Med. Internet Res. 2021, with pixels for surfaces).

        Args:
            tolerance: The largest distance that is near.

        Returns:
            0 to 1; 0 where nothing is predicted, NaN without a lesion.
        """
        if not len(self.to_truth):
            return 0.0 if self.otherwise == self.otherwise else float("nan")
        near = tolerance * (1 + 1e-6)  # distances are rounded, those to the truth to float32
        found = np.count_nonzero(self.to_truth <= near) + np.count_nonzero(self.to_predicted <= near)
        return found / (len(self.to_truth) + len(self.to_predicted))

    def times(self, factor: float) -> "SurfaceDistances":
        """The same distances in another unit."""
        return SurfaceDistances(self.to_truth * factor, self.to_predicted * factor, self.otherwise * factor)


def surface_distances(predicted: np.ndarray, truth: Lesions, in_mm: bool = False) -> SurfaceDistances:
    """Measures how far the surfaces of a predicted and a true mask are apart.

    Args:
        predicted: bool, of the truth's shape.
        truth: The lesion mask.
        in_mm: Whether in mm, for which the truth's spacing must be known, or in pixels.
    """
    if not truth.mask.any():
        return SurfaceDistances.none()
    spacing = truth.spacing if in_mm else None
    steps = np.ones(predicted.ndim) if spacing is None else np.array(spacing)
    surface = np.flatnonzero(_surface(predicted))
    if not len(surface):
        return SurfaceDistances.none(float(np.linalg.norm(predicted.shape * steps)))
    outline = truth.outline_mm if in_mm else truth.outline
    to_truth = outline.distances.ravel()[surface]
    # From no surface pixel of the truth is it farther to the prediction than over the place where the two are nearest.
    # What is farther from the truth than that is nobody's nearest: of a noisy mask, most pixels.
    near = surface[to_truth <= to_truth.min() + outline.diameter]
    places = np.column_stack(np.unravel_index(near, predicted.shape))
    # The tree is asked once and thrown away: building it fast matters more than its balance.
    tree = KDTree(places if spacing is None else places * steps, leafsize=32, balanced_tree=False, compact_nodes=False)
    return SurfaceDistances(to_truth, tree.query(outline.points)[0], float("nan"))


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
    neighbours = EIGHT_NEIGHBOURS if mask.ndim == 2 else np.ones((3,) * mask.ndim, int)
    return cast("tuple[np.ndarray, int]", connected_components(mask, neighbours))


def _surface(mask: np.ndarray) -> np.ndarray:
    """Shifted slices are ten times as fast as scipy's `binary_erosion`, which gives the same."""
    middle = (slice(1, -1),) * mask.ndim
    inside = mask[middle].copy()
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            inside &= mask[(*middle[:axis], shifted, *middle[axis + 1 :])]
    surface = mask.copy()
    surface[middle] &= ~inside
    return surface


def _distinct(labels: np.ndarray) -> int:
    """How many different numbers there are; quicker than sorting them."""
    return int(np.count_nonzero(np.bincount(labels)))
