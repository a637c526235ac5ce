"""Prompts that come from an anomaly map without a threshold."""

import numpy as np

from .sam import Prompt


def centroid_prompt(weights: np.ndarray, box_scale: float | None = None) -> Prompt | None:
    """The centre of gravity of a map as a point (step 8), or a box around it.

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


def _moments(density: np.ndarray) -> tuple[float, float]:
    """Mean position and standard deviation of a density over pixels 0, 1, 2, …"""
    positions = np.arange(len(density))
    mean = float(density @ positions)
    return mean, float(np.sqrt(density @ (positions - mean) ** 2))
