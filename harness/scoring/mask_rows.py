"""Scores of masks: of images, and of volumes, all their slices together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...results.metrics import METRICS
from ...results.tables import without_post
from .cross_validation import folds_of
from .decisions import NO_POLICY, Decision
from .functions import OF_MASK, OF_VOLUME
from .lesion_metrics import lesion_counts, lesion_scores
from .masks import MaskScores, Overlap, lesion_size
from .normal_rates import normal_rates, promised
from .scanning import Scanned, SplitTruths
from .score_rows import NAN, mean_row, score_row, values_of
from .volume_scores import MeasuredVolume


def measured_mask(scores: MaskScores) -> dict[str, Any]:
    """The numbers of one mask: its metrics by their names, and the counts that `cases` has of it."""
    overlap = scores.overlap
    return {
        **{name: function(scores) for name, function in OF_MASK.items()},
        **lesion_counts(scores),
        "lesion_size": lesion_size(overlap.truth, overlap.pixels),
        "lesions": scores.lesions,
        "lesions_hit": scores.lesions_hit,
        "intersection_px": overlap.intersection,
        "predicted_px": overlap.predicted,
        "truth_px": overlap.truth,
        "image_px": overlap.pixels,
    }


def mask_rows(
    decision: Decision, test: SplitTruths, masks: Sequence[Mapping[str, Any]], oracle: np.ndarray | None
) -> list[dict[str, Any]]:
    """A policy's scores, with intervals over patients.

    Args:
        decision: The policy's thresholds.
        test: Cases and masks.
        masks: The measurements of the masks of the test images.
        oracle: Their DICE by `oracle_dice`, where there is one.
    """
    images = {"all": True, "anomalous": values_of(masks, "truth_px") > 0, "normal": test.labels == 0}
    measured = _measurable(OF_MASK, any(one.spacing for one in test.lesions))
    values = {name: np.where(images[METRICS[name].images], values_of(masks, name), NAN) for name in measured}
    if oracle is not None and not decision.columns.oracle:
        values = {"dice": values["dice"], "regret": oracle - values["dice"]} | values
    rows = [mean_row(decision.columns, name, value, test.patients) for name, value in values.items()]
    rows.append(_lesion_recall(decision, "lesion_recall", masks, test.patients))
    rows += [
        score_row(decision.columns, name, value, n, interval) | {"promised": promised(decision.promise, name)}
        for name, (value, n, interval) in (
            normal_rates(masks, test.labels, test.patients) | lesion_scores(masks, test.patients)
        ).items()
    ]
    counts = ("intersection_px", "predicted_px", "truth_px", "image_px")
    pooled = Overlap.pooled(Overlap(*(one[name] for name in counts)) for one in masks)
    rows.append(score_row(decision.columns, "dice_pooled", pooled.dice, len(masks)))
    return rows


def cross_validation_rows(decision: Decision, valid: Scanned) -> list[dict[str, Any]]:
    """How far the policy's threshold and its DICE on validation depend on the patients there."""
    name, chain = without_post(decision.columns.policy)
    folds = None if chain else folds_of(name, valid)
    if folds is None:
        return []
    count = len(folds.thresholds)
    values = {
        "dice_cv": (folds.mean_dice, int(folds.images.sum())),
        "dice_cv_std": (float(np.std(folds.dice)) if count else NAN, count),
        "threshold_cv_std": (float(np.std(folds.thresholds)) if count else NAN, count),
    }
    rows = [score_row(decision.columns, metric, value, n) for metric, (value, n) in values.items()]
    why = "not known: all lesions of the validation split are of one patient"
    return rows if count else [row | {"convention": why} for row in rows]


def volume_rows(decision: Decision, volumes: Sequence[MeasuredVolume], policy: int) -> list[dict[str, Any]]:
    """A policy's scores of volumes, the `policy`-th of each; none where no volume is known."""
    if not volumes:
        return []
    masks, patients = [one.masks[policy] for one in volumes], [one.slices.patient for one in volumes]
    images = {"all": True, "anomalous": values_of(masks, "lesions") > 0}
    measured = _measurable(OF_VOLUME, any(one.slices.spacing for one in volumes))
    rows = [
        mean_row(decision.columns, name, np.where(images[METRICS[name].images], values_of(masks, name), NAN), patients)
        for name in measured
    ]
    return [*rows, _lesion_recall(decision, "volume_lesion_recall", masks, patients)]


def note_on_volumes(test: SplitTruths) -> str:
    """What a reader should know of all scores of volumes."""
    stacks = "stacks of chosen slices, not whole scans" if test.stacks else ""
    left_out = f"volumes left out: {', '.join(test.volumes_left_out)}" if test.volumes_left_out else ""
    return "; ".join(filter(None, [stacks, left_out]))


def volume_ap_row(volumes: Sequence[MeasuredVolume]) -> dict[str, Any]:
    """The average precision of volumes, which needs no mask."""
    precision = np.array([one.average_precision for one in volumes])
    return mean_row(NO_POLICY, "volume_ap", precision, [one.slices.patient for one in volumes])


def _lesion_recall(
    decision: Decision, metric: str, masks: Sequence[Mapping[str, Any]], patients: Sequence[str]
) -> dict[str, Any]:
    """The share of lesions that are hit: each counts the same, whatever image or volume it is in."""
    lesions = values_of(masks, "lesions").astype(int)
    hits = np.repeat([one["lesions_hit"] / one["lesions"] if one["lesions"] else NAN for one in masks], lesions)
    return mean_row(decision.columns, metric, hits, np.repeat(patients, lesions).tolist())


def _measurable(metrics: Iterable[str], with_spacing: bool) -> list[str]:
    """Those of the metrics that can have a value, as the spacing of pixels is known, or is not."""
    return [name for name in metrics if with_spacing or not METRICS[name].needs_spacing]
