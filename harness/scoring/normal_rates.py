"""How often masks are positive on normal test images, in the foreground, held against what policies promise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..api import NormalImage, Promise
from .intervals import Interval, mean_interval, ratio_interval, share_interval
from .tally import rounded_up

RATES = ("normal_fpr", "normal_fp_area_foreground", "normal_image_fpr")
"""The metrics that a policy can make a `Promise` of."""


def foreground_counts(mask: np.ndarray, foreground: np.ndarray | None) -> dict[str, int]:
    """What a mask holds of the foreground: the columns of `cases` by which rates on normal images are counted.

    Args:
        mask: bool (H, W).
        foreground: bool (H, W); `None` for all of the image.
    """
    inside = mask if foreground is None else mask & foreground
    pixels = mask.size if foreground is None else int(np.count_nonzero(foreground))
    return {"foreground_px": pixels, "predicted_foreground_px": int(np.count_nonzero(inside))}


def normal_rates(
    masks: Sequence[Mapping[str, Any]], labels: np.ndarray, patients: Sequence[str]
) -> dict[str, tuple[float, int, Interval]]:
    """The rates on normal images: each with its value, how many images it is of, and its 95 % interval over patients.

    Args:
        masks: Of each test image, `foreground_counts`.
        labels: int (N,), 0 for a normal image.
        patients: Whose each image is.

    Returns:
        By metric; NaN without normal images.
    """
    normal = [index for index in np.flatnonzero(labels == 0).tolist() if masks[index]["foreground_px"]]
    pixels = np.array([masks[index]["foreground_px"] for index in normal], float)
    positive = np.array([masks[index]["predicted_foreground_px"] for index in normal], float)
    owners = [patients[index] for index in normal]
    if not normal:
        return dict.fromkeys(RATES, (float("nan"), 0, Interval(float("nan"), float("nan"), 0)))
    shares, any_positive = positive / pixels, (positive > 0).astype(float)
    return {
        "normal_fpr": (positive.sum() / pixels.sum(), len(normal), ratio_interval(positive, pixels, owners)),
        "normal_fp_area_foreground": (shares.mean(), len(normal), mean_interval(shares, owners, (0.0, 1.0))),
        "normal_image_fpr": (any_positive.mean(), len(normal), share_interval(any_positive, owners)),
    }


def normal_fpr(images: Sequence[NormalImage], thresholds: np.ndarray) -> np.ndarray:
    """The share of the foreground of normal images that reaches each threshold, 0 to 1, (K,); NaN without any pixel.

    Args:
        images: The normal images of a split.
        thresholds: float (K,), in any order.
    """
    reached, pixels = np.zeros(len(thresholds), int), 0
    for values, _ in images:
        pixels += len(values)
        reached += len(values) - np.searchsorted(np.sort(values), rounded_up(thresholds))
    return reached / pixels if pixels else np.full(len(thresholds), np.nan)


def promised(promise: Promise | None, metric: str) -> float:
    """The rate that a policy promises of a metric; NaN where it promises none."""
    return promise.rate if promise is not None and promise.metric == metric else float("nan")
