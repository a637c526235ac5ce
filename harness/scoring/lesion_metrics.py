"""Scores of predicted masks lesion by lesion.

Lesions and predicted lesions are 8-connected components. Two of them match where their IoU is above 0.5, so that none
can match twice. All test images count as one, and false lesions of normal images count too (Kirillov et al., "Panoptic
segmentation", CVPR 2019, with one class and without regions that are ignored).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .intervals import Interval, ratio_interval
from .masks import MaskScores

OF_LESIONS = ("lesion_f1", "panoptic_quality")
"""The metrics that are made of matches."""


def lesion_counts(scores: MaskScores) -> dict[str, float]:
    """What lesion F1 and panoptic quality are summed from, of one mask.

    Args:
        scores: The mask and its truth.

    Returns:
        `predicted_lesions`; `matched_lesions`, how many of them match a lesion; `matched_iou`, the sum of their IoU.
    """
    labels, predicted = scores.components
    if not scores.overlap.intersection:
        return {"predicted_lesions": predicted, "matched_lesions": 0, "matched_iou": 0.0}
    both, lesions = scores.both, scores.truth.labels[scores.box]
    pairs, shared = np.unique(lesions[both].astype(np.int64) * (predicted + 1) + labels[both], return_counts=True)
    lesion, found = np.divmod(pairs, predicted + 1)
    union = scores.truth.sizes[lesion] + np.bincount(labels.ravel())[found] - shared
    matched = 2 * shared > union
    iou = float((shared[matched] / union[matched]).sum())
    return {"predicted_lesions": predicted, "matched_lesions": int(matched.sum()), "matched_iou": iou}


def lesion_scores(
    masks: Sequence[Mapping[str, Any]], patients: Sequence[str]
) -> dict[str, tuple[float, int, Interval]]:
    """Lesion F1 and panoptic quality, each with how many images count and its 95 % interval over patients.

    Args:
        masks: Of each test image, `lesion_counts` and how many `lesions` there are.
        patients: Whose each image is.

    Returns:
        By metric; NaN where no image has a lesion. Images without any lesion, true or predicted, do not count.
    """
    lesions = np.array([one["lesions"] for one in masks], float)
    both = lesions + np.array([one["predicted_lesions"] for one in masks], float)
    if not lesions.any():
        nothing = Interval(float("nan"), float("nan"), 0)
        return dict.fromkeys(OF_LESIONS, (float("nan"), 0, nothing))
    counts = both > 0
    owners = [patient for patient, kept in zip(patients, counts, strict=True) if kept]
    scores = {}
    for name, column in zip(OF_LESIONS, ("matched_lesions", "matched_iou"), strict=True):
        twice = 2 * np.array([one[column] for one in masks], float)[counts]  # 2 TP + FP + FN is what both have
        value = float(twice.sum() / both.sum())
        scores[name] = value, int(counts.sum()), ratio_interval(twice, both[counts], owners)
    return scores
