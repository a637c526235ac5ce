"""Scores of the borders of predicted masks."""

import numpy as np

from .masks import MaskScores

BOUNDARY_SHARE = 0.02
"""Of the image's diagonal: how far a border reaches into its mask."""


def boundary_iou(scores: MaskScores) -> float:
    """Boundary IoU of one mask: that of the inner borders of the mask and of its truth (Cheng et al., CVPR 2021).

    A border is what is no farther than 2 % of the image's diagonal from outside of the mask, along rows, columns and
    diagonals, as in the authors' code. Beyond the image's edge is outside.

    Returns:
        0 to 1; NaN without a lesion.
    """
    if not scores.overlap.truth:
        return float("nan")
    distance = max(1, round(BOUNDARY_SHARE * float(np.hypot(*scores.predicted.shape))))
    predicted, truth = _border(scores.predicted, distance), _border(scores.truth.mask, distance)
    return np.count_nonzero(predicted & truth) / np.count_nonzero(predicted | truth)


def _border(mask: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a mask with an outside in the square around them that reaches so far."""
    inside = np.pad(mask, distance)
    for _ in range(mask.ndim):  # each axis once, the first one always in front
        width = 1  # so many pixels in a row are inside; shifts that double are faster than a filter
        while width < 2 * distance + 1:
            step = min(width, 2 * distance + 1 - width)
            inside = inside[:-step] & inside[step:]
            width += step
        inside = np.moveaxis(inside, 0, -1)
    return mask & ~inside
