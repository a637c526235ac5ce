"""Reading image files: the pixels, or only the proof that a file is whole."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..harness.api import DataError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_grey(path: Path) -> np.ndarray:
    """Reads an image as uint8 (H, W): colour becomes luminance, 16-bit values are divided by 257.

    Raises:
        DataError: The file is missing or damaged; the text names it.
    """
    with _open(path) as image:
        if image.mode.startswith("I;16") or image.mode == "I":
            return (np.asarray(image).astype(np.float64).clip(0, 65535) / 257).round().astype(np.uint8)
        return np.array(image.convert("L"))


def read_mask(path: Path) -> np.ndarray:
    """Reads a lesion mask as bool (H, W): any grey level or colour above 0 is lesion, as in RESC's several classes.

    Raises:
        DataError: The file is missing or damaged; the text names it.
    """
    with _open(path) as image:
        if image.mode == "P":
            image = image.convert("RGB")
        elif image.mode in ("LA", "RGBA"):
            image = image.convert(image.mode[:-1])
        pixels = np.asarray(image)
    return pixels > 0 if pixels.ndim == 2 else (pixels > 0).any(axis=2)


def inspect(path: Path) -> tuple[str, tuple[int, int]]:
    """Proves a file whole without decoding it where the format has checksums.

    Returns:
        The SHA-256 of the file and the image's (height, width).

    Raises:
        DataError: The file is missing or damaged; the text names it.
    """
    with _open(path) as image:
        width, height = image.size
        if image.format == "PNG":
            image.verify()
        else:
            image.load()
    return hashlib.sha256(path.read_bytes()).hexdigest(), (height, width)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is damaged or cut short ({error}). Copy it again from its source.") from error
