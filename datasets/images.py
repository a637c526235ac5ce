"""Reading image files: their pixels, and what of them a number may depend on."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL.ImageFile import ImageFile

from ..harness.api import DataError, as_grey
from .image_files import BITS, apart, is_turned, opened, read_file

_GREY = ("1", "L", "LA")  # Pillow's names of pixels that have no colour
_COLOURED = 16  # of 255; channels that differ by less are grey that was saved with loss
_SAMPLE_FORMAT, _SIGNED, _PLANES = 339, 2, 284  # in a TIFF's header
_COLOURS_16 = ("RGB", "RGBA", "RGBX")  # Pillow's names of what a file holds in 16 bits a channel, before ;16B and such
_OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}

PixelType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]
"""What the values of pixels can be, by numpy's names."""


class ImageTraits(NamedTuple):
    """Properties of an image file that a score may depend on and that grey levels do not show.

    Attributes:
        values: int (K,): the values that a grey image of 9 to 16 bits without a sign has, in order; of others, none.
        kind: Of a grey image with other pixels, which do not say what value is black: what they are, in words.
        extent: The smallest and the largest value of such an image, and of one in colour of 16 bits a channel.
        cut: Whether it is one in colour of 16 bits a channel, of which the upper 8 are read unless all are asked for.
        coloured: Whether the channels differ.
        turned: Whether EXIF says that the image is to be turned or mirrored when it is shown.
    """

    values: np.ndarray
    kind: str
    extent: tuple[float, float] | None
    cut: bool
    coloured: bool
    turned: bool


def read_pixels(
    path: Path, *, colour: bool = False, all_bits: bool = False, dtype: PixelType | None = None
) -> np.ndarray:
    """Reads an image with its values as they are stored, (H, W).

    They are uint8, or uint16 where it is grey of 9 to 16 bits; pixels with a sign, of 32 bits or in floating point keep
    their type. Colour becomes luminance (ITU-R BT.601), and transparency is dropped. The orientation in EXIF is
    ignored: a mask has none.

    Args:
        path: The file.
        colour: Keeps colour: files that have three channels or more, or a palette, become (H, W, 3).
        all_bits: Reads colour of 16 bits a channel as uint16, and not its upper 8 bits.
        dtype: The type that the values of grey images have, whatever sign the file says: `int16` takes its 16 bits for
            signed.

    Raises:
        DataError: The file is missing, damaged, too large, several pictures, holds NaN or infinity, or is of another
            type than is stated; the text names it.
    """
    data = read_file(path)
    with opened(path, data) as image:
        stated = _stated_type(path, image, data, dtype)
        if all_bits and _is_cut(image, data):
            pixels = _all_bits(path, data)
            return pixels if colour else as_grey(pixels)
        if image.mode in _GREY or _is_single(image):
            return _grey(image, data, path).view(stated)
        return np.array(image.convert("RGB" if colour else "L"))


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


def look_at(path: Path, dtype: PixelType | None = None) -> ImageTraits:
    """Finds what a number may depend on without the grey levels showing it, mostly from the file's header.

    Args:
        path: The file.
        dtype: As of `read_pixels`.

    Raises:
        DataError: As `read_pixels`.
    """
    data = read_file(path)
    with opened(path, data) as image:
        stated = _stated_type(path, image, data, dtype)
        turned, none = is_turned(image), np.array([], dtype=int)
        if _is_cut(image, data):
            with suppress(DataError):  # which is raised where all bits are asked for
                pixels = _all_bits(path, data)
                return ImageTraits(none, "", _extent(pixels), True, _is_coloured(image), turned)
            return ImageTraits(none, "", None, True, _is_coloured(image), turned)
        if kind := _unclear(stated):
            return ImageTraits(none, kind, _extent(_grey(image, data, path).view(stated)), False, False, turned)
        if stated == np.uint16:
            values = np.flatnonzero(np.bincount(_grey(image, data, path).view(stated).ravel()))
            return ImageTraits(values, "", None, False, False, turned)
        coloured = image.mode not in _GREY and _is_coloured(image)
        return ImageTraits(none, "", None, False, coloured, turned)


def is_deep(image: ImageFile) -> bool:
    """Whether it is grey of more than 8 bits; Pillow stretches a PGM's to 16 and calls them 32."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def unclear_type(image: ImageFile, data: bytes) -> str:
    """What pixels are that do not say which value is black, in words; empty where they do."""
    return _unclear(_stored_type(image, data))


def _stored_type(image: ImageFile, data: bytes) -> np.dtype:
    """The type of the values that the file holds."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        return np.dtype(f"int{tags.get(BITS, (32,))[0]}")
    if is_deep(image) or _is_cut(image, data):
        return np.dtype(np.uint16)
    if image.mode == "F":
        return np.dtype(np.float32)
    return np.dtype((np.uint32 if tags else np.int32) if image.mode == "I" else np.uint8)


def _stated_type(path: Path, image: ImageFile, data: bytes, dtype: PixelType | None) -> np.dtype:
    """The type that values are taken for: the stored one, or, of as many bits, the one that is stated."""
    stored = _stored_type(image, data)
    stated = stored if dtype is None else np.dtype(dtype)
    is_other_sign = stated.itemsize == stored.itemsize and "f" not in (stated.kind, stored.kind)
    if stated != stored and not (is_other_sign and (image.mode in _GREY or _is_single(image))):
        grey = image.mode in _GREY or _is_single(image)
        raise DataError(
            f"{path} is {'grey' if grey else 'in colour'} with values of {stored}, and the card says `dtype: {dtype}`. "
            "Save the file in that type, or change the card."
        )
    return stated


def _unclear(dtype: np.dtype) -> str:
    """What values of a type are that does not say which is black; empty where it does."""
    if dtype in (np.uint8, np.uint16):
        return ""
    sign, end = "signed " if dtype.kind == "i" else "", " in floating point" if dtype.kind == "f" else ""
    return f"{sign}pixels of {8 * dtype.itemsize} bits{end}"


def _is_single(image: ImageFile) -> bool:
    """Whether each pixel has one number of more than 8 bits."""
    return image.mode[:1] in ("I", "F")


def _is_cut(image: ImageFile, data: bytes) -> bool:
    """Whether it has several channels of 16 bits, of which Pillow reads the upper 8."""
    return image.mode not in ("1", "L", "P") and not _is_single(image) and _bits(image, data) > 8


def _grey(image: ImageFile, data: bytes, path: Path) -> np.ndarray:
    """The values of a grey image in the type in which they are stored."""
    stored = _stored_type(image, data)
    if not _is_single(image):
        pixels = np.array(image.convert("L"))
        return pixels.view(stored)  # Pillow drops the sign of 8 bits
    pixels = np.array(image)
    if not np.isfinite(pixels).all():
        raise DataError(f"{path} holds NaN or infinity. Give each pixel a number, and save it again.")
    if pixels.dtype.itemsize == stored.itemsize:
        return pixels.view(stored)  # Pillow takes 32 bits without a sign for signed
    return pixels.astype(stored)


def _all_bits(path: Path, data: bytes) -> np.ndarray:
    """All bits of an image of 16 bits a channel, uint16: (H, W, 3) in colour, (H, W) in grey with transparency.

    Pillow has a function for either order of bytes, and each keeps the upper byte. That for the other order than the
    file's keeps the lower one.
    """

    def read(names: dict[str, str]) -> np.ndarray:
        with opened(path, data) as image:
            image.tile = [tile._replace(args=_renamed(tile.args, names)) for tile in image.tile]
            return np.asarray(image).astype(np.uint16)

    with opened(path, data) as image:
        args = image.tile[0].args
        if getattr(image, "tag_v2", {}).get(_PLANES, 1) != 1:
            raise apart(path)
    kind, _, order = str(args[0] if isinstance(args, tuple) else args).partition(";")
    if (kind, order) == ("LA", "16B"):  # as many bytes as RGBA of 8 bits has
        both = read({"LA;16B": "RGBA"})
        return both[..., 0] << 8 | both[..., 1]
    if kind not in _COLOURS_16 or order not in _OTHER_ORDER:
        raise DataError(f"{path} has channels of 16 bits that are not RGB ({kind}). Save it in RGB.")
    upper, lower = read({}), read({f"{kind};{order}": f"{kind};{_OTHER_ORDER[order]}"})
    return (upper << 8 | lower)[..., :3]


def _renamed(args: object, names: dict[str, str]) -> object:
    """What Pillow's decoder is told, with other names for the order of bytes."""
    if isinstance(args, tuple):
        return tuple(names.get(each, each) if isinstance(each, str) else each for each in args)
    return names.get(args, args) if isinstance(args, str) else args


def _extent(pixels: np.ndarray) -> tuple[float, float]:
    return float(pixels.min()), float(pixels.max())


def _bits(image: ImageFile, data: bytes) -> int:
    """The bits of a channel, as a PNG's or a TIFF's header says."""
    return data[24] if image.format == "PNG" else max(getattr(image, "tag_v2", {}).get(BITS, (8,)))


def _is_coloured(image: ImageFile) -> bool:
    channels = np.asarray(image.convert("RGB"))
    return int((channels.max(axis=2) - channels.min(axis=2)).max(initial=0)) > _COLOURED
