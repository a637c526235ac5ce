"""Reading image files: the pixels, or only the proof that a file is whole."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..harness.api import DataError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
PIXEL_LIMIT = 2**26
"""Images with more pixels than 8,192 x 8,192, are refused: a few bytes can claim any number of them."""
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")  # whatever the ending says, no other decoder sees a file


def read_grey(path: Path) -> np.ndarray:
    """Reads an image as uint8 (H, W).

    Colour becomes luminance, and transparency is dropped. 16-bit grey is divided by 257, so that one image's range
    does not change another's brightness. The orientation in EXIF is ignored: a mask has none.

    Raises:
        DataError: The file is missing, damaged, of 32 bits, too large or several pictures; the text names it.
    """
    with _opened(path, _bytes(path)) as image:
        if image.mode.startswith("I;16"):
            return (np.asarray(image) / 257).round().astype(np.uint8)
        return np.array(image.convert("L"))


def read_mask(path: Path) -> np.ndarray:
    """Reads a lesion mask as bool (H, W): any grey level or colour above 0 is lesion, as in RESC's several classes.

    Raises:
        DataError: The file is missing, damaged, of 32 bits, too large or several pictures; the text names it.
    """
    with _opened(path, _bytes(path)) as image:
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(bool)
        colours = np.asarray(image.convert("RGB"))  # luminance would round a dark blue to 0
        return colours.max(axis=2).astype(bool)


def inspect(path: Path) -> tuple[str, tuple[int, int]]:
    """Proves a file whole.

    Returns:
        The SHA-256 of the file in hexadecimal, and the image's (height, width).

    Raises:
        DataError: The file is missing, damaged, of 32 bits, too large or several pictures; the text names it.
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
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


@contextmanager
def _opened(path: Path, data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.mode in ("I", "F"):
                raise DataError(f"{path} has pixels of 32 bits, whose range is unknown. Save it with 8 or 16 bits.")
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
        raise DataError(
            f"{path} is not a PNG, JPEG, BMP or TIFF image, or its beginning is lost. Copy it again from its source."
        ) from error
    except Exception as error:  # damaged bytes make the decoders raise IndexError, SyntaxError, struct.error and more
        raise DataError(f"{path} is damaged or cut short ({error}). Copy it again from its source.") from error


def _too_large(path: Path) -> DataError:
    return DataError(f"{path} has more than {PIXEL_LIMIT:,} pixels, which is the limit. Make it smaller.")
