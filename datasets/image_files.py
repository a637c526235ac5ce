"""Opening image files: which formats, how large, and the proof that a file is whole."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

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
_ORIENTATION = 0x0112  # in EXIF; a TIFF's is followed by Pillow
_TIFF, _TIFF_HEADER = (b"II*\0", b"MM\0*"), 200
BITS = 258
"""The tag in a TIFF's header that has the bits of each channel."""


def read_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: It cannot be read, or is too large.
    """
    try:
        return read_bytes(path, follow=True, most=_LARGEST)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


@contextmanager
def opened(path: Path, data: bytes) -> Iterator[ImageFile]:
    """Opens an image; what its decoder raises becomes a sentence.

    Args:
        path: The file, for the sentence and for its ending.
        data: Its bytes.

    Raises:
        DataError: As `read_pixels`.
    """
    try:
        formats = {*_FORMATS, _BY_ENDING.get(path.suffix.lower(), "PNG")}
        with Image.open(io.BytesIO(data), formats=sorted(formats)) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise _too_large(path)
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1:
                raise DataError(f"{path} holds {pictures} pictures, and which is meant is unknown. Save one of them.")
            if _is_misread(image):
                raise apart(path)
            yield image
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher, but its turn comes first
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        if data[:4] in _TIFF and len(data) > _TIFF_HEADER:
            raise DataError(
                f"{path} is a TIFF of a kind that cannot be read, such as floating point of 64 bits, or is "
                "damaged. Save it in grey of 8, 16 or 32 bits, or in RGB of 8 or 16."
            ) from error
        kind = _BY_ENDING.get(path.suffix.lower(), "PNG, JPEG, BMP or TIFF")
        raise DataError(
            f"{path} is not a {kind} image, or its beginning is lost. Copy it again from its source."
        ) from error
    except Exception as error:  # damaged bytes make the decoders raise IndexError, SyntaxError, struct.error and more
        raise DataError(f"{path} is damaged or cut short ({error}). Copy it again from its source.") from error


def apart(path: Path) -> DataError:
    """Why channels of 16 bits that lie one after the other cannot be read."""
    return DataError(
        f"{path} holds its channels of 16 bits one after the other, which cannot be read. Save it with the channels of "
        "each pixel together (planar configuration 1)."
    )


def _too_large(path: Path) -> DataError:
    return DataError(f"{path} has more than {PIXEL_LIMIT:,} pixels, which is the limit. Make it smaller.")


def inspect(path: Path) -> tuple[str, tuple[int, int]]:
    """Proves a file whole.

    Returns:
        The SHA-256 of the file in hexadecimal, and the image's (height, width).

    Raises:
        DataError: As `read_pixels`.
    """
    data = read_file(path)
    with opened(path, data) as image:
        size = image.height, image.width
        if image.format == "PNG":
            image.verify()  # by its checksums, which is twenty times faster than decoding
        else:
            image.load()
    return hashlib.sha256(data).hexdigest(), size


def _is_misread(image: ImageFile) -> bool:
    """Whether Pillow takes channels of 16 bits for some of 8, as it does where they lie one after the other."""
    bits = getattr(image, "tag_v2", {}).get(BITS, (8,))
    return len(bits) > 1 and max(bits) > 8 and not any(";16" in str(tile.args) for tile in image.tile)


def is_turned(image: ImageFile) -> bool:
    """Whether EXIF says that the image is to be turned or mirrored when it is shown."""
    if image.format == "TIFF" or "exif" not in image.info:
        return False
    with suppress(Exception):  # what is damaged in EXIF hurts no pixel
        return image.getexif().get(_ORIENTATION, 1) != 1
    return False
