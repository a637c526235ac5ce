"""The frame in which methods see images and in which everything is scored: a square of one size for all."""

from numbers import Integral
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from ..api import Method, UsageError, as_grey

MaskEdges = Literal["nearest", "paper"]

Rectangle = tuple[slice, slice]
"""Rows and columns of the frame."""


def frame_image(image: np.ndarray, size: int) -> np.ndarray:
    """Pads an image with zeros to a centred square and resizes it (the released MIAS-SAM code's first step).

    Args:
        image: uint8, grey (H, W) or RGB (H, W, 3).
        size: Width and height of the result.

    Returns:
        uint8 (size, size), or (size, size, 3).

    Raises:
        UsageError: The image is of another type or shape, or holds no pixel; or the size is no number above 0.
    """
    if not (is_image(image) and image.size):
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(
            f"An image should be a numpy array, uint8 (H, W) or (H, W, 3), with a pixel or more; this one is {given}."
        )
    if not isinstance(size, Integral) or size < 1:
        raise UsageError(f"size={size!r}: it should be a whole number of pixels above 0.")
    return _resize(_pad(image), int(size), Image.Resampling.BILINEAR)


def is_image(image: object) -> bool:
    """Whether it is an array as a dataset gives it for an image: uint8 (H, W) or (H, W, 3)."""
    return (
        isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] in ((), (3,)) and image.ndim > 1
    )


def frame_for(method: Method, image: np.ndarray, size: int) -> np.ndarray:
    """Frames an image as `frame_image` does, in grey if the method takes no colour.

    It turns grey before it is resized, so that the method gets what it would of a dataset that is read as grey.
    """
    return frame_image(image if method.colour else as_grey(image), size)


def frame_map(
    anomaly_map: np.ndarray,
    size: int,
    shape: tuple[int, int] | None = None,
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
    padding: float | None = None,
) -> np.ndarray:
    """Brings an anomaly map into the frame of `frame_image`.

    Args:
        anomaly_map: float32 (H, W).
        size: Width and height of the result.
        shape: Height and width of the image that the map covers; it is stretched to it and padded as the image is.
            `None` where it covers the padded square already.
        interpolation: How it is resized.
        padding: The value of the padding; by default the lowest of the map.

    Returns:
        float32 (size, size); the very same values where nothing has to be resized.
    """
    method = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.NEAREST
    if shape is None:
        return _stretch(anomaly_map, (size, size), method)
    stretched = _stretch(anomaly_map, shape, method)
    square = _pad(stretched, float(stretched.min()) if padding is None else padding)
    return _stretch(square, (size, size), method)


def unframe(framed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brings a map or a mask from the frame back to the pixels of its image: resizing and padding are undone.

    Args:
        framed: float32 or bool (size, size).
        shape: Height and width of the image.

    Returns:
        (H, W) of the same type; a map is resized bilinearly, a mask to the nearest pixel.
    """
    height, width = shape
    side = max(shape)
    top, left = (side - height) // 2, (side - width) // 2
    if framed.dtype == bool:
        square = _stretch(framed.astype(np.uint8), (side, side), Image.Resampling.NEAREST) > 0
    else:
        square = _stretch(framed, (side, side), Image.Resampling.BILINEAR)
    return square[top : top + height, left : left + width]


def frame_spacing(spacing: tuple[float, float, float], shape: tuple[int, int], size: int) -> tuple[float, float]:
    """The distances in mm between two rows and between two columns of the frame.

    Args:
        spacing: Those of the image, as in `Case.spacing`.
        shape: Height and width of the image before padding and resizing.
        size: Width and height of the frame.
    """
    row, column, _ = spacing
    scale = max(shape) / size
    return row * scale, column * scale


def image_rectangle(shape: tuple[int, int], size: int) -> Rectangle:
    """Where an image is in the frame: the pixels that have their centre in it. The others are padding.

    Args:
        shape: Height and width of the image before padding and resizing.
        size: Width and height of the frame.

    Returns:
        At least one row and one column: of an image so narrow that no centre lies in it, those that its middle is in.
    """
    height, width = shape
    return _inside(height, max(shape), size), _inside(width, max(shape), size)


class Truth(NamedTuple):
    """Where a lesion is, bool (H, W): as masks are compared with it, and as pixel scores are ranked against it."""

    overlap: np.ndarray
    ranking: np.ndarray

    @property
    def graded(self) -> bool:
        """Whether these are two truths, because edges are mixed."""
        return self.overlap is not self.ranking

    def within(self, rectangle: Rectangle) -> "Truth":
        """That part of it."""
        overlap = self.overlap[rectangle]
        return Truth(overlap, self.ranking[rectangle] if self.graded else overlap)


def frame_mask(mask: np.ndarray, size: int, edges: MaskEdges = "nearest") -> Truth:
    """Brings a lesion mask into the frame of `frame_image`.

    Args:
        mask: bool (H, W).
        size: Width and height of the result.
        edges: `nearest` resizes without mixing values. `paper` is the released MIAS-SAM code's convention: resized
            bilinearly like an image, any value above 0 counts as lesion for DICE, only full ones for AUROC.
    """
    grey = _pad(mask.astype(np.uint8) * 255)
    if edges == "nearest":
        framed = _resize(grey, size, Image.Resampling.NEAREST) > 0
        return Truth(framed, framed)
    framed = _resize(grey, size, Image.Resampling.BILINEAR)
    return Truth(framed > 0, framed == 255)


def _inside(length: int, side: int, size: int) -> slice:
    """The pixels of the frame that have their centre in the middle part of a side, which has this length."""
    start = (side - length) // 2
    centres = (2 * np.arange(size) + 1) * side // (2 * size)  # the pixel of the padded image that each lies in
    first, end = np.searchsorted(centres, [start, start + length]).tolist()
    if first == end:
        first = (2 * start + length) * size // (2 * side)
        end = first + 1
    return slice(first, end)


def _pad(image: np.ndarray, value: float = 0) -> np.ndarray:
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    edges = [(top, side - height - top), (left, side - width - left), (0, 0)]
    return np.pad(image, edges[: image.ndim], constant_values=value)


def _resize(square: np.ndarray, size: int, method: Image.Resampling) -> np.ndarray:
    return _stretch(square, (size, size), method)


def _stretch(image: np.ndarray, shape: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    height, width = shape
    return image if image.shape[:2] == shape else np.array(Image.fromarray(image).resize((width, height), method))
