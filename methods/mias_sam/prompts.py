"""Prompts that come from an anomaly map; all but `threshold_boxes` without a threshold (step 8)."""

import numpy as np
from scipy.ndimage import binary_fill_holes, find_objects, label
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from .sam import Prompt

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels."""

EIGHT_NEIGHBOURS = np.ones((3, 3), int)
_PEAK_DISTANCE = 1 / 16  # of the image's width: two patches and a half
_PEAK_SHARE = 0.5  # of the heaviest peak's weight


def centroid_prompt(weights: np.ndarray, box_scale: float | None = None) -> Prompt | None:
    """The centre of gravity of a map as a point, or a box around it.

    Args:
        weights: float (H, W), 0 or more: the map minus its floor, raised to the power gamma.
        box_scale: Half-width of the box along each axis, in weighted standard deviations; `None` for the point.

    Returns:
        The prompt in (x, y) pixels, or `None` where the map has no weight and hence no centre.
    """
    total = weights.sum(dtype=np.float64)
    if not np.isfinite(total) or total <= 0:
        return None
    across = weights.sum(axis=0, dtype=np.float64) / total
    down = weights.sum(axis=1, dtype=np.float64) / total
    (x, spread_x), (y, spread_y) = _moments(across), _moments(down)
    if box_scale is None:
        return Prompt(point=(x, y))
    half_x, half_y = box_scale * spread_x, box_scale * spread_y
    height, width = weights.shape
    return Prompt(box=(max(x - half_x, 0), max(y - half_y, 0), min(x + half_x, width - 1), min(y + half_y, height - 1)))


def peak_prompts(weights: np.ndarray, box_scale: float | None = None) -> list[Prompt]:
    """A prompt for each separate peak of a map, so that two lesions are not averaged into a point between them.

    A watershed divides the map among its local maxima, and each part is prompted by its own centre of gravity. A part
    counts when it has at least half the weight of the heaviest one: a comparison within the image, whose scale does not
    matter.

    Args:
        weights: float (H, W), as for `centroid_prompt`.
        box_scale: Likewise.

    Returns:
        A prompt for each part that counts, the heaviest first; none where the map is flat.
    """
    apart = max(1, round(_PEAK_DISTANCE * weights.shape[1]))
    maxima = peak_local_max(weights, min_distance=apart, exclude_border=False)
    markers = np.zeros(weights.shape, int)
    markers[tuple(maxima.T)] = np.arange(1, len(maxima) + 1)
    basins = watershed(-weights, markers)
    mass = np.bincount(basins.ravel(), weights.ravel(), minlength=len(maxima) + 1)
    heaviest_first = [basin for basin in np.argsort(-mass) if basin and mass[basin] >= _PEAK_SHARE * mass.max() > 0]
    prompts = (centroid_prompt(np.where(basins == basin, weights, 0), box_scale) for basin in heaviest_first)
    return [prompt for prompt in prompts if prompt is not None]


def threshold_boxes(normalised: np.ndarray, threshold: float = 0.5) -> list[Prompt]:
    """A box for each region of a map from a threshold on, with the map as mask prompt (the released code's `--use_th`).

    Args:
        normalised: float32 (H, W), the map brought to 0 to 1.
        threshold: The released code uses 0.5.

    Returns:
        A prompt for each outer contour; none where the map stays below the threshold.
    """
    # A region inside a hole of another has no outer contour of its own.
    regions, _ = label(binary_fill_holes(normalised >= threshold), structure=EIGHT_NEIGHBOURS)  # type: ignore[misc]
    return [
        Prompt(box=(columns.start, rows.start, columns.stop - 1, rows.stop - 1), mask=normalised)
        for rows, columns in find_objects(regions)
    ]


def square(centre: tuple[float, float], half: float, size: int) -> Box:
    """A square box around a point, cut off at the edges of an image of `size` pixels."""
    x, y = centre
    return max(x - half, 0), max(y - half, 0), min(x + half, size - 1), min(y + half, size - 1)


def foreground_box(image: np.ndarray, share: float) -> Prompt | None:
    """A box that is found without an anomaly map: the bounding box of pixels above Otsu's threshold, shrunk.

    Args:
        image: uint8 (H, W).
        share: The share of the bounding box's width and height that the prompt keeps, around the same centre.

    Returns:
        The prompt, or `None` where the image is constant.
    """
    if image.min() == image.max():
        return None
    foreground = image > threshold_otsu(image)
    rows, columns = np.flatnonzero(foreground.any(axis=1)), np.flatnonzero(foreground.any(axis=0))
    (left, right), (top, bottom) = (_shrink(float(edge[0]), float(edge[-1]), share) for edge in (columns, rows))
    return Prompt(box=(left, top, right, bottom))


def _shrink(low: float, high: float, share: float) -> tuple[float, float]:
    centre, half = (low + high) / 2, share * (high - low) / 2
    return centre - half, centre + half


def _moments(density: np.ndarray) -> tuple[float, float]:
    """Mean position and standard deviation of a density over pixels 0, 1, 2, …"""
    positions = np.arange(len(density))
    mean = float(density @ positions)
    return mean, float(np.sqrt(density @ (positions - mean) ** 2))
