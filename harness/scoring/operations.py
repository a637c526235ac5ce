"""The operations of post-processing: on a map before the threshold, and on a mask after it.

Components are 8-connected in an image and 26-connected in a volume, as for the metrics.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field
from scipy.ndimage import binary_closing, binary_erosion, binary_fill_holes, gaussian_filter, label, median_filter

LARGEST = 99
"""The largest square and the largest sigma, in pixels: a median of 1,001 takes minutes and gigabytes for one image."""

Pixels = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Operation(ABC):
    """One step of post-processing, a frozen dataclass whose fields are its options.

    Attributes:
        name: As in `--post`.
    """

    name: ClassVar[str]


class MapOperation(Operation):
    """Changes a map, before a threshold is chosen."""

    @abstractmethod
    def apply(self, anomaly_map: np.ndarray) -> np.ndarray:
        """The changed map, given one of float32 (H, W), the image's own rectangle in the frame."""


class MaskOperation(Operation):
    """Changes a mask."""

    @property
    def of_volumes(self) -> bool:
        """Whether `apply` is given the mask of a whole volume, bool (D, H, W), and not that of each slice."""
        return False

    @property
    def needs_spacing(self) -> bool:
        """Whether the distances between pixels, in mm, must be known."""
        return False

    @abstractmethod
    def apply(self, mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
        """The changed mask.

        Args:
            mask: bool (H, W), or (D, H, W).
            spacing: The distance in mm between neighbours along each axis; `None` where it is not known.
        """


class ForegroundOperation(Operation):
    """Changes a mask by what of the image is the body."""

    of_volumes = False
    needs_spacing = False

    @abstractmethod
    def apply(self, mask: np.ndarray, foreground: np.ndarray | None) -> np.ndarray:
        """The changed mask.

        Args:
            mask: bool (H, W).
            foreground: bool (H, W); `None` where it is all of the image.
        """


@dataclass(frozen=True)
class Median(MapOperation):
    """On the map: the median of a square around each pixel.

    Attributes:
        size: Width of the square in pixels.
    """

    name = "median"
    size: Width = 3

    def apply(self, anomaly_map: np.ndarray) -> np.ndarray:
        return median_filter(anomaly_map, self.size)


@dataclass(frozen=True)
class Gaussian(MapOperation):
    """On the map: a Gaussian filter.

    Attributes:
        sigma: Its standard deviation in pixels.
    """

    name = "gaussian"
    sigma: Annotated[float, Field(gt=0, le=LARGEST)] = 1.0

    def apply(self, anomaly_map: np.ndarray) -> np.ndarray:
        return gaussian_filter(anomaly_map, self.sigma)


@dataclass(frozen=True)
class MinArea(MaskOperation):
    """On the mask: components that are smaller are removed.

    Attributes:
        px: The smallest area that stays, in pixels of the frame.
        mm2: The same in mm²; one of the two is given.
    """

    name = "min_area"
    px: Pixels | None = None
    mm2: Positive | None = None

    def __post_init__(self) -> None:
        if (self.px is None) == (self.mm2 is None):
            raise ValueError("give the smallest area either in pixels or in mm², as in min_area[px=20]")

    @property
    def needs_spacing(self) -> bool:
        return self.mm2 is not None

    def apply(self, mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
        return _of_size(mask, self.px or 0 if self.mm2 is None else self.mm2 / np.prod(spacing or 1))


@dataclass(frozen=True)
class MinVolume(MaskOperation):
    """On the masks of a volume: components in three dimensions that are smaller are removed.

    Attributes:
        ml: The smallest volume that stays, in millilitres.
    """

    name = "min_volume"
    ml: Positive

    @property
    def of_volumes(self) -> bool:
        return True

    @property
    def needs_spacing(self) -> bool:
        return True

    def apply(self, mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
        return _of_size(mask, 1000 * self.ml / np.prod(spacing or 1))


@dataclass(frozen=True)
class Largest(MaskOperation):
    """On the mask: only the largest components stay; of equal ones the first, from the top left.

    Attributes:
        k: How many.
        of: Whether of each image, or of each volume, whose components are in three dimensions.
    """

    name = "largest"
    k: Annotated[int, Field(ge=1)] = 1
    of: Literal["image", "volume"] = "image"

    @property
    def of_volumes(self) -> bool:
        return self.of == "volume"

    def apply(self, mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
        labels, sizes = _components(mask)
        kept = np.zeros(len(sizes), bool)
        kept[np.argsort(-sizes[1:], kind="stable")[: self.k] + 1] = True
        return kept[labels]


@dataclass(frozen=True)
class Closing(MaskOperation):
    """On the mask: gaps are closed that a square does not fit into. No predicted pixel is lost.

    Attributes:
        size: Width of the square in pixels.
    """

    name = "closing"
    size: Width = 3

    def apply(self, mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
        wide = np.pad(mask, self.size)  # so that the border of the image takes nothing away
        closed = binary_closing(wide, np.ones((self.size, self.size), bool))
        return closed[self.size : -self.size, self.size : -self.size]


@dataclass(frozen=True)
class FillHoles(MaskOperation):
    """On the mask: holes in it are filled."""

    name = "fill_holes"

    def apply(self, mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
        return np.asarray(binary_fill_holes(mask))


@dataclass(frozen=True)
class ErodeForeground(ForegroundOperation):
    """On the mask: what is outside the foreground, or near its border, is removed.

    Maps are often high where the body ends. Where the body is cut by the image's edge, nothing is removed.

    Attributes:
        px: How near, in pixels of the frame; 0 removes only what is outside.
    """

    name = "erode_foreground"
    px: Annotated[int, Field(ge=0, le=LARGEST)] = 3

    def apply(self, mask: np.ndarray, foreground: np.ndarray | None) -> np.ndarray:
        if foreground is None:
            return mask
        width = 2 * self.px + 1
        return mask & binary_erosion(foreground, np.ones((width, width), bool), border_value=1)


OPERATIONS: dict[str, type[Operation]] = {
    one.name: one for one in (Median, Gaussian, MinArea, MinVolume, Largest, Closing, FillHoles, ErodeForeground)
}
"""Every operation by its name."""


def _of_size(mask: np.ndarray, smallest: float | np.floating[Any]) -> np.ndarray:
    """The components of so many pixels or more."""
    labels, sizes = _components(mask)
    kept = sizes >= smallest * (1 - 1e-9)  # mm² and ml are rounded
    kept[0] = False
    return kept[labels]


def _components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the component that each pixel is in, 0 for none, and the pixels of each number."""
    labels, count = cast("tuple[np.ndarray, int]", label(mask, np.ones((3,) * mask.ndim, int)))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)
