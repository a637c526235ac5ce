"""Reading lesion masks: which pixels a file marks, and with which levels."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..harness.api import DataError
from .image_files import is_turned, opened, read_file
from .images import is_deep, unclear_type

LABELS = 16
"""No set of labels has more grey levels than this in a mask; more come from JPEG's losses or from smoothing."""
HALF = 128


@dataclass(frozen=True)
class MaskPixels:
    """A mask as its file has it. Transparent pixels count as black, which is the background.

    Attributes:
        levels: uint8 or uint16 (H, W): grey levels, in colour the luminance, so that colours which mean different
            classes differ; of a palette that begins with black and has colours, their indices.
        grey: uint8 (H, W): how bright a pixel is.
        lossy: Whether the file's format does not keep grey levels as they were.
        turned: Whether EXIF says that the mask is to be turned or mirrored when it is shown.
        palette: uint8 (K, 3), the colours if levels are indices of a palette.
    """

    levels: np.ndarray
    grey: np.ndarray
    lossy: bool
    turned: bool
    palette: np.ndarray | None = None

    @cached_property
    def counts(self) -> dict[int, int]:
        """How many pixels have each level."""
        deep = self.levels.dtype != np.uint8
        counts = np.bincount(self.levels.ravel()).tolist() if deep else Image.fromarray(self.levels).histogram()
        return {level: count for level, count in enumerate(counts) if count}

    @property
    def is_binary(self) -> bool:
        """Whether there is, beside the background, at most one level."""
        return not self.lossy and len(self.counts.keys() - {0}) <= 1

    @property
    def has_labels(self) -> bool:
        """Whether the levels can be labels."""
        return not self.lossy and len(self.counts) <= LABELS


def read_mask(path: Path) -> np.ndarray:
    """Reads a lesion mask by itself as bool (H, W).

    Any grey level or colour above 0 is lesion, as in RESC's several classes, but what was saved with loss or smoothed
    is cut at half.

    Raises:
        DataError: As `mask_pixels`.
    """
    mask = mask_pixels(path)
    return mask.levels > 0 if mask.has_labels else mask.grey >= HALF


def mask_pixels(path: Path) -> MaskPixels:
    """Reads a lesion mask as it is.

    Raises:
        DataError: As `read_pixels`; or it has colours or transparency that do not tell lesion from background.
    """
    data = read_file(path)
    with opened(path, data) as image:
        if kind := unclear_type(image, data):
            raise DataError(
                f"The mask {path} has {kind}, and which value is black is unknown. Save it with 8 or 16 bits without a "
                "sign, where 0 is black."
            )
        lossy, turned = _is_lossy(image, data), is_turned(image)
        if is_deep(image):
            levels = np.asarray(image).astype(np.uint16)
            return MaskPixels(levels, (levels // 257).astype(np.uint8), lossy, turned)
        if image.mode in ("1", "L") and "transparency" not in image.info:
            grey = np.array(image.convert("L"))
            return MaskPixels(grey, grey, lossy, turned)
        direct = image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La")  # CMYK takes a step more
        rgba = np.asarray((image if direct else image.convert("RGB")).convert("RGBA"))
        opaque = rgba[..., 3] > 0
        grey = (rgba[..., :3].max(axis=2) * (rgba[..., 3] / 255)).round().astype(np.uint8)
        grey[opaque & (grey == 0) & (rgba[..., :3].max(axis=2) > 0)] = 1  # what is hardly opaque is not background
        if not opaque.all() and opaque.any() and not grey.any():
            raise DataError(
                f"The mask {path} is transparent but for black pixels, and whether those are lesion is unknown. "
                "Save it with white lesions on black."
            )
        colours = _colours(rgba) if grey.all() else []
        if len(colours) > 1 and not lossy and len(colours) <= LABELS:
            raise DataError(
                f"The mask {path} has no black background, only {', '.join(colours)}, and which of them is lesion is "
                "unknown. Save it with white lesions on black."
            )
        luminance = np.asarray(Image.fromarray(np.ascontiguousarray(rgba[..., :3])).convert("L"))
        levels = (luminance * (rgba[..., 3] / 255)).round().astype(np.uint8)
        levels[(grey > 0) & (levels == 0)] = 1
        palette = _palette_of_labels(image)
        if palette is not None:
            levels = np.where(levels > 0, np.asarray(image), 0).astype(np.uint8)
        return MaskPixels(levels, grey, lossy, turned, palette)


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    if image.format == "TIFF":
        return "jpeg" in str(image.info.get("compression", ""))
    return image.format in ("JPEG", "JPEG2000") or (image.format == "WEBP" and b"VP8L" not in data)


def _colours(rgba: np.ndarray) -> list[str]:
    """The colours of the pixels, the most frequent first."""
    colours, counts = np.unique(rgba[..., :3].reshape(-1, 3), axis=0, return_counts=True)
    return [f"#{bytes(colours[index]).hex()}" for index in np.argsort(-counts, kind="stable")]


def _palette_of_labels(image: Image.Image) -> np.ndarray | None:
    """The palette, uint8 (K, 3), if its indices are labels, with 0 for the background; otherwise `None`."""
    if image.mode != "P":
        return None
    palette = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return None if palette[:1].any() or (palette == palette[:, :1]).all() else palette
