"""Reading image files: the pixels, or only the proof that a file is whole."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..harness.api import DataError
from ..harness.safe_files import read_bytes

# Whatever its ending says, a file may be of the first formats; no other decoder sees it but that of its ending.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_BY_ENDING = {
    **dict.fromkeys((".pgm", ".pbm", ".ppm", ".pnm"), "PPM"),
    **dict.fromkeys((".jp2", ".j2k"), "JPEG2000"),
    ".webp": "WEBP",
    ".gif": "GIF",
}
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", *_BY_ENDING)
_LARGEST = 2**29  # bytes of a file
PIXEL_LIMIT = 2**26
"""Images with more pixels than 8,192 x 8,192, are refused: a few bytes can claim any number of them."""
LABELS = 16
"""No set of labels has more grey levels than this in a mask; more come from JPEG's losses or from smoothing."""
HALF = 128
_GREY = ("1", "L", "LA")  # Pillow's names of pixels that have no colour
_COLOURED = 16  # of 255; channels that differ by less are grey that was saved with loss
_ORIENTATION = 0x0112  # in EXIF; a TIFF's is followed by Pillow
_TIFF, _TIFF_HEADER = (b"II*\0", b"MM\0*"), 200
_BITS, _SAMPLE_FORMAT, _SIGNED = 258, 339, 2  # in a TIFF's header


class ImageTraits(NamedTuple):
    """Properties of an image file that a score may depend on and that grey levels do not show.

    Attributes:
        values: int (K,): the values that a grey image of 9 to 16 bits without a sign has, in order; of others, none.
        kind: Of a grey image with other pixels, which do not say what value is black: what they are, in words.
        extent: The smallest and the largest value of such an image.
        cut: Whether the image is in colour of 16 bits a channel, of which Pillow reads the upper 8.
        coloured: Whether the channels differ.
        turned: Whether EXIF says that the image is to be turned or mirrored when it is shown.
    """

    values: np.ndarray
    kind: str
    extent: tuple[float, float] | None
    cut: bool
    coloured: bool
    turned: bool


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


def read_pixels(path: Path, *, colour: bool = False) -> np.ndarray:
    """Reads an image with its values as they are stored, (H, W).

    They are uint8, or uint16 where it is grey of 9 to 16 bits; pixels with a sign, of 32 bits or in floating point keep
    their type. Colour becomes luminance (ITU-R BT.601), and transparency is dropped. The orientation in EXIF is
    ignored: a mask has none.

    Args:
        path: The file.
        colour: Keeps colour: files that have three channels or more, or a palette, become uint8 (H, W, 3).

    Raises:
        DataError: The file is missing, damaged, too large, several pictures, or holds NaN or infinity; the text names
            it.
    """
    with _opened(path, _bytes(path)) as image:
        if _is_deep(image):
            return np.asarray(image).astype(np.uint16)
        if _kind(image):
            return _rangeless(image, path)
        return np.array(image.convert("RGB" if colour and image.mode not in _GREY else "L"))


def to_8_bits(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Brings pixels of any type to uint8: `low` and what is below become 0, `high` and what is above 255."""
    return ((pixels.astype(np.float64).clip(low, high) - low) / ((high - low) / 255)).round().astype(np.uint8)


def read_grey(path: Path, bits: int = 16) -> np.ndarray:
    """Reads an image as uint8 (H, W).

    Args:
        path: The file.
        bits: How many bits mean something, for an image of more than 8 bits. It is to be the same for all images of a
            dataset, so that one image's range does not change another's brightness.

    Raises:
        DataError: As `read_pixels`; or nothing says which value is black.
    """
    pixels = read_pixels(path)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} has pixels of {pixels.dtype}, and which value is black is unknown.")
    return pixels if pixels.dtype == np.uint8 else to_8_bits(pixels, 0, 2**bits - 1)


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
    data = _bytes(path)
    with _opened(path, data) as image:
        if kind := _kind(image):
            raise DataError(
                f"The mask {path} has {kind}, and which value is black is unknown. Save it with 8 or 16 bits without a "
                "sign, where 0 is black."
            )
        lossy, turned = _is_lossy(image, data), _is_turned(image)
        if _is_deep(image):
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


def look_at(path: Path) -> ImageTraits:
    """Finds what a number may depend on without the grey levels showing it, mostly from the file's header.

    Raises:
        DataError: As `read_pixels`.
    """
    data = _bytes(path)
    with _opened(path, data) as image:
        kind, turned, none = _kind(image), _is_turned(image), np.array([], dtype=int)
        if kind:
            pixels = _rangeless(image, path)
            return ImageTraits(none, kind, (float(pixels.min()), float(pixels.max())), False, False, turned)
        if _is_deep(image):
            values = np.flatnonzero(np.bincount(np.asarray(image).ravel()))
            return ImageTraits(values, "", None, False, False, turned)
        cut = image.mode not in ("1", "L", "P") and _bits(image, data) > 8
        coloured = image.mode not in _GREY and _is_coloured(image)
        return ImageTraits(none, "", None, cut, coloured, turned)


def inspect(path: Path) -> tuple[str, tuple[int, int]]:
    """Proves a file whole.

    Returns:
        The SHA-256 of the file in hexadecimal, and the image's (height, width).

    Raises:
        DataError: As `read_pixels`.
    """
    data = _bytes(path)
    with _opened(path, data) as image:
        size = image.height, image.width
        if image.format == "PNG":
            image.verify()  # by its checksums, which is twenty times faster than decoding
        else:
            image.load()
    return hashlib.sha256(data).hexdigest(), size


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path, follow=True, most=_LARGEST)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


@contextmanager
def _opened(path: Path, data: bytes) -> Iterator[Image.Image]:
    try:
        formats = {*_FORMATS, _BY_ENDING.get(path.suffix.lower(), "PNG")}
        with Image.open(io.BytesIO(data), formats=sorted(formats)) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise _too_large(path)
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1:
                raise DataError(f"{path} holds {pictures} pictures, and which is meant is unknown. Save one of them.")
            yield image
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher, but its turn comes first
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        if data[:4] in _TIFF and len(data) > _TIFF_HEADER:
            raise DataError(
                f"{path} is a TIFF of a kind that cannot be read, such as floating point of 64 bits or colour of 16, "
                "or is damaged. Save it in grey of 8, 16 or 32 bits, or in colour of 8."
            ) from error
        kind = _BY_ENDING.get(path.suffix.lower(), "PNG, JPEG, BMP or TIFF")
        raise DataError(
            f"{path} is not a {kind} image, or its beginning is lost. Copy it again from its source."
        ) from error
    except Exception as error:  # damaged bytes make the decoders raise IndexError, SyntaxError, struct.error and more
        raise DataError(f"{path} is damaged or cut short ({error}). Copy it again from its source.") from error


def _too_large(path: Path) -> DataError:
    return DataError(f"{path} has more than {PIXEL_LIMIT:,} pixels, which is the limit. Make it smaller.")


def _is_deep(image: Image.Image) -> bool:
    """Whether it is grey of more than 8 bits; Pillow stretches a PGM's to 16 and calls them 32."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _kind(image: Image.Image) -> str:
    """What pixels are that do not say which value is black; empty where they do."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (32,))[0]
    if tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        return f"signed pixels of {bits} bits"
    if image.mode in ("I", "F") and not _is_deep(image):
        return f"pixels of {bits} bits{' in floating point' if image.mode == 'F' else ''}"
    return ""


def _rangeless(image: Image.Image, path: Path) -> np.ndarray:
    """The pixels of an image that has a `_kind`."""
    pixels = np.array(image)
    tags = getattr(image, "tag_v2", {})
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if pixels.dtype == np.uint8:  # Pillow drops the sign of 8 bits, and takes 32 bits without one for signed
        pixels = pixels.view(np.int8)
    elif image.mode == "I" and tags and not signed:
        pixels = pixels.view(np.uint32)
    if not np.isfinite(pixels).all():
        raise DataError(f"{path} holds NaN or infinity. Give each pixel a number, and save it again.")
    return pixels


def _bits(image: Image.Image, data: bytes) -> int:
    """The bits of a channel, as a PNG's or a TIFF's header says."""
    return data[24] if image.format == "PNG" else max(getattr(image, "tag_v2", {}).get(_BITS, (8,)))


def _is_coloured(image: Image.Image) -> bool:
    channels = np.asarray(image.convert("RGB"))
    return int((channels.max(axis=2) - channels.min(axis=2)).max(initial=0)) > _COLOURED


def _is_turned(image: Image.Image) -> bool:
    if image.format == "TIFF" or "exif" not in image.info:
        return False
    with suppress(Exception):  # what is damaged in EXIF hurts no pixel
        return image.getexif().get(_ORIENTATION, 1) != 1
    return False


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
