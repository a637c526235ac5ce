"""Generated patches in colour that look like tissue stained with haematoxylin and eosin."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from ..harness.api import Dataset
from .phantom import Count, Phantom, Seed, Size

# Stroma and lesion have the same luma: where a lesion has no more nuclei than what is around it, only colour shows it.
_STROMA = np.array([0.88, 0.66, 0.77])
_LESION = np.array([0.74, 0.713, 0.84])
_NUCLEUS = np.array([0.38, 0.27, 0.55])
_NUCLEI = 90
_DENSE = 140  # further nuclei of a lesion that is dense, spread over the whole patch before it cuts them out


def phantom_histology(
    _data_root: Path, *, train: Count = 60, valid: Count = 20, test: Count = 40, size: Size = 256, seed: Seed = 0
) -> Dataset:
    """Stained tissue in colour, `size` x `size`: lesions of another hue, half of them with more nuclei too."""
    counts = (train, valid, test)
    return Phantom("phantom_histology", "histopathology", _tissue, counts, size, seed, channels="rgb")


def _tissue(
    patient: np.random.Generator, own: np.random.Generator, _number: int, size: int, lesions: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a patch; see `phantom.Painter`."""
    stain = patient.normal(0, 0.015, 3)  # no two slides are stained alike
    fibres = gaussian_filter(own.standard_normal((size, size)), (size / 100, size / 25), mode="wrap")
    fibres *= 0.04 / fibres.std()
    depth = _depth(own, size) if lesions else np.full((size, size), -1.0)
    inside = gaussian_filter((depth > 0).astype(float), size / 128)[..., None]
    colour = _STROMA + inside * (_LESION - _STROMA)
    nuclei = _nuclei(own, _NUCLEI, size)
    if own.random() < 0.5:
        nuclei = np.maximum(nuclei, _nuclei(own, _DENSE, size) * inside)
    picture = (colour + fibres[..., None]) * (1 - nuclei) + _NUCLEUS * nuclei
    return picture + stain + own.normal(0, 0.012, (size, size, 3)), depth > 0


def _depth(own: np.random.Generator, size: int) -> np.ndarray:
    """How deep a pixel lies in a lesion, float (size, size): above 0 inside."""
    y, x = np.mgrid[:size, :size] / size
    radius, wobble = own.uniform(0.1, 0.22), gaussian_filter(own.standard_normal((size, size)), size / 16)
    return 1 - np.hypot(x - own.uniform(0.25, 0.75), y - own.uniform(0.25, 0.75)) / radius + 0.2 * wobble / wobble.std()


def _nuclei(own: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Ovals, float (size, size, 1), 1 inside."""
    fine = 2 * size
    canvas = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(canvas)
    for x, y, width, height in own.uniform((0, 0, 0.009, 0.009), (1, 1, 0.02, 0.02), (count, 4)):
        draw.ellipse([(x - width) * fine, (y - height) * fine, (x + width) * fine, (y + height) * fine], fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=float)[..., None] / 255
