"""Scores of one predicted mask against the truth of one image or volume, exact, in pixels of the run's frame or in mm.

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
from scipy.ndimage import label as connected_components

from .surfaces import Box, Outline, SurfaceDistances, inner_border, surface_distances

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
    """The true mask of an image or a volume, with all that every prediction is measured against, computed once.

    For an image of 256 x 256 that is 0.5 MB in the end, or 0.07 MB if it is normal.

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
        return int(self.labels.max()) if self.pixels else 0

    @cached_property
    def pixels(self) -> int:
        """How many pixels the mask has."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def sizes(self) -> np.ndarray:
        """The pixels of each lesion by its number, int (count + 1,); those of 0 are not counted."""
        return np.bincount(self.labels[self.mask], minlength=self.count + 1)

    @cached_property
    def border(self) -> np.ndarray:
        """By `inner_border`."""
        return inner_border(self.mask, self.mask.shape)

    @cached_property
    def border_pixels(self) -> int:
        """How many pixels the border has."""
        return int(np.count_nonzero(self.border))

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

    All are made in the smallest box around the prediction, beyond which nothing is predicted.

    Attributes:
        predicted: bool (H, W), or (D, H, W) for a volume.
        truth: The lesion mask, of the same shape.
        tolerance: How far in mm two surfaces may be apart where they count as the same, for `nsd`.
    """

    predicted: np.ndarray
    truth: Lesions
    tolerance: float = 1.0

    @cached_property
    def box(self) -> Box:
        """The smallest box around the prediction; an empty one where nothing is predicted."""
        return _box(self.predicted)

    @cached_property
    def part(self) -> np.ndarray:
        """The prediction in the box, bool."""
        return self.predicted[self.box]

    @cached_property
    def both(self) -> np.ndarray:
        """What of the box is predicted and lesion, bool."""
        return self.part & self.truth.mask[self.box]

    @cached_property
    def overlap(self) -> Overlap:
        """Pixel counts, from which DICE, IoU, precision and recall follow."""
        counts = int(np.count_nonzero(self.both)), int(np.count_nonzero(self.part)), self.truth.pixels
        return Overlap(*counts, self.predicted.size)

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
        return _distinct(self.truth.labels[self.box][self.both]) if self.overlap.intersection else 0

    @property
    def false_lesions(self) -> int:
        """Connected components of the prediction without a single lesion pixel; on a normal image, all."""
        labels, found = self.components
        return found - _distinct(labels[self.both]) if self.overlap.intersection else found

    @cached_property
    def components(self) -> tuple[np.ndarray, int]:
        """The number of the predicted lesion that a pixel of the box is of, from 1, or 0; and how many there are."""
        return _components(self.part)

    @property
    def _voxel_ml(self) -> float:
        return float(np.prod(self.truth.spacing)) / 1000 if self.truth.spacing else float("nan")

    def distances(self, in_mm: bool = False) -> SurfaceDistances:
        """How far the surfaces of the two masks are apart.

        Args:
            in_mm: Whether in mm, for which the truth's spacing must be known, or in pixels.
        """
        if not self.truth.pixels:
            return SurfaceDistances.none()
        spacing = self.truth.spacing if in_mm else None
        if not self.overlap.predicted:
            return SurfaceDistances.none(float(np.linalg.norm(np.multiply(self.predicted.shape, spacing or 1))))
        outline = self.truth.outline_mm if in_mm else self.truth.outline
        return surface_distances(self.part, self.box, outline, spacing)

    @cached_property
    def _distances(self) -> SurfaceDistances:
        return self.distances()

    @cached_property
    def _distances_mm(self) -> SurfaceDistances:
        spacing = self.truth.spacing
        if spacing is None:
            return SurfaceDistances.none()
        return self._distances.times(spacing[0]) if len(set(spacing)) == 1 else self.distances(in_mm=True)


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


def _distinct(labels: np.ndarray) -> int:
    """How many different numbers there are; quicker than sorting them."""
    return int(np.count_nonzero(np.bincount(labels)))


def _box(mask: np.ndarray) -> Box:
    """The smallest box around a mask."""
    axes = range(mask.ndim)
    inside = [np.flatnonzero(mask.any(axis=tuple(one for one in axes if one != axis))) for axis in axes]
    return tuple(slice(int(one[0]), int(one[-1]) + 1) if len(one) else slice(0, 0) for one in inside)
