"""Scores of the borders of predicted masks."""

import numpy as np

from .masks import MaskScores
from .surfaces import inner_border


def boundary_iou(scores: MaskScores) -> float:
    """Boundary IoU of one mask: that of the inner borders of the mask and of its truth (Cheng et al., CVPR 2021).

    Borders are those of `inner_border`, as in the authors' code.

    Returns:
        0 to 1; NaN without a lesion.
    """
    if not scores.overlap.truth:
        return float("nan")
    predicted = inner_border(scores.part, scores.predicted.shape)
    both = np.count_nonzero(predicted & scores.truth.border[scores.box])
    return both / (np.count_nonzero(predicted) + scores.truth.border_pixels - both)
