"""How far the surfaces of two masks are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot
from typing import cast

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

BORDER_SHARE = 0.02
"""Of the image's diagonal: how far a border reaches into its mask."""

Box = tuple[slice, ...]
"""A part of an image or a volume, along each axis."""


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
        surface = surface_of(mask)
        steps = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, float)
        places = np.argwhere(surface)
        distances = cast(np.ndarray, distance_transform_edt(~surface, sampling=spacing)).astype(np.float32)
        diameter = float(np.linalg.norm((np.ptp(places, axis=0) + 1) * steps))
        return cls(places if spacing is None else places * steps, distances, diameter)


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


def surface_distances(
    predicted: np.ndarray, box: Box, outline: Outline, spacing: Sequence[float] | None
) -> SurfaceDistances:
    """Measures how far the surface of a predicted mask and an outline are apart.

    Args:
        predicted: bool, the part of the mask in the box, which is not empty.
        box: Where in the image or the volume that is; beyond it nothing is predicted.
        outline: That of the truth.
        spacing: The distance between neighbours along each axis, as of the outline.
    """
    surface = surface_of(predicted)
    to_truth = outline.distances[box][surface]
    # From no surface pixel of the truth is it farther to the prediction than over the place where the two are nearest.
    # What is farther from the truth than that is nobody's nearest: of a noisy mask, most pixels.
    near = np.flatnonzero(surface)[to_truth <= to_truth.min() + outline.diameter]
    places = np.column_stack(np.unravel_index(near, predicted.shape)) + [one.start for one in box]
    places = places if spacing is None else places * spacing
    # The tree is asked once and thrown away: building it fast matters more than its balance.
    tree = KDTree(places, leafsize=32, balanced_tree=False, compact_nodes=False)
    return SurfaceDistances(to_truth, tree.query(outline.points)[0], float("nan"))


def surface_of(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a neighbour outside of it, along a side; beyond the array's edge is outside.

    Shifted slices are ten times as fast as scipy's `binary_erosion`, which gives the same.
    """
    middle = (slice(1, -1),) * mask.ndim
    inside = mask[middle].copy()
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            inside &= mask[(*middle[:axis], shifted, *middle[axis + 1 :])]
    surface = mask.copy()
    surface[middle] &= ~inside
    return surface


def inner_border(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of a mask that are no farther than 2 % of the image's diagonal from outside of it.

    That is along rows, columns and diagonals: some pixel of the square around them that reaches so far is outside.

    Args:
        mask: bool, the part of the mask in a box, beyond which is outside.
        shape: Height and width of the image.
    """
    distance = max(1, round(BORDER_SHARE * hypot(*shape)))
    inside = np.pad(mask, distance)
    for _ in range(mask.ndim):  # each axis once, the first one always in front
        width = 1  # so many pixels in a row are inside; shifts that double are faster than a filter
        while width < 2 * distance + 1:
            step = min(width, 2 * distance + 1 - width)
            inside = inside[:-step] & inside[step:]
            width += step
        inside = np.moveaxis(inside, 0, -1)
    return mask & ~inside
