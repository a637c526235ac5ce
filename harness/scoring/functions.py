"""The functions behind `results.metrics`, by the metrics' names.

What needs more than its own mask or curves, such as `regret`, is computed in `cell_scores.py`.
"""

from collections.abc import Callable

import numpy as np

from .boundaries import boundary_iou
from .curves import Counts, aupro, auroc, average_precision, best_f1
from .masks import LesionSize, MaskScores, lesion_size

OF_MASK: dict[str, Callable[[MaskScores], float]] = {
    "dice": lambda one: one.overlap.dice,
    "iou": lambda one: one.overlap.iou,
    "precision": lambda one: one.overlap.precision,
    "recall": lambda one: one.overlap.recall,
    "hd95_px": lambda one: one.hd95,
    "assd_px": lambda one: one.assd,
    "hd95_mm": lambda one: one.hd95_mm,
    "assd_mm": lambda one: one.assd_mm,
    "boundary_iou": boundary_iou,
    "false_lesions": lambda one: one.false_lesions,
    "normal_fp_area": lambda one: one.overlap.predicted_share,
    "dice_small": lambda one: _dice_of("small", one),
    "dice_medium": lambda one: _dice_of("medium", one),
    "dice_large": lambda one: _dice_of("large", one),
}
"""The value of one image's mask; the score is the mean over the metric's `images`, without those that have NaN."""

OF_VOLUME: dict[str, Callable[[MaskScores], float]] = {
    "volume_dice": lambda one: one.overlap.dice,
    "volume_hd95_mm": lambda one: one.hd95_mm,
    "volume_assd_mm": lambda one: one.assd_mm,
    "volume_nsd": lambda one: one.nsd,
    "volume_false_lesions": lambda one: one.false_lesions,
    "volume_error_ml": lambda one: abs(one.predicted_ml - one.truth_ml),
}
"""The value of one volume's mask, (D, H, W), likewise; NaN where it needs a spacing that is not known."""

OF_PIXELS: dict[str, Callable[[Counts], np.ndarray]] = {
    "pixel_auroc": auroc,
    "pixel_ap": average_precision,
    "aupro": aupro,
    "best_f1": best_f1,
}
"""The value of all pixels of all maps ranked together, 0 to 1, from what is counted at falling thresholds; of many
rankings at once, in the axes before the last, for the intervals."""


OF_FOREGROUND: dict[str, Callable[[Counts], np.ndarray]] = {
    "pixel_auroc_foreground": auroc,
    "pixel_ap_foreground": average_precision,
    "aupro_foreground": aupro,
}
"""Likewise of the pixels of all foregrounds."""


def _dice_of(size: LesionSize, one: MaskScores) -> float:
    overlap = one.overlap
    return overlap.dice if lesion_size(overlap.truth, overlap.pixels) == size else float("nan")
