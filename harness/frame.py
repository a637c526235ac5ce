"""The frame in which methods see images and in which everything is scored: a square of one size for all."""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

MaskEdges = Literal["nearest", "paper"]


def frame_image(image: np.ndarray, size: int) -> np.ndarray:
    """Pads a grey image with zeros to a centred square and resizes it (the released MIAS-SAM code's first step).

    Args:
        image: uint8 (H, W).
        size: Width and height of the result.

    Returns:
        uint8 (size, size).
    """
    return _resize(_pad(image), size, Image.Resampling.BILINEAR)


class Truth(NamedTuple):
    """Where a lesion is, bool (S, S): as masks are compared with it, and as pixel scores are ranked against it."""

    overlap: np.ndarray
    ranking: np.ndarray


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


def _pad(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(image, ((top, side - height - top), (left, side - width - left)))


def _resize(square: np.ndarray, size: int, method: Image.Resampling) -> np.ndarray:
    return square if len(square) == size else np.array(Image.fromarray(square).resize((size, size), method))
