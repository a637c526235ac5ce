"""From the stored predictions of a cell to its rows in the two tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..results.store import StoredPrediction
from ..results.tables import CASES, CONVENTIONS, SCORES, table
from .api import Case, Dataset, Split
from .config import ScoreConfig
from .frame import MaskEdges, Truth, frame_mask
from .metrics import Overlap, Ranking, aupro, rank_pixels
from .statistics import bootstrap_mean
from .thresholds import (
    Fixed,
    ImagePolicy,
    NormalsPolicy,
    OraclePolicy,
    PolicyUnavailableError,
    ThresholdPolicy,
    ValidationPolicy,
    default_policies,
)

NO_POLICY = {"policy": "none", "looks_at": "nothing", "oracle": False, "threshold": float("nan")}
OWN = {"policy": "own", "looks_at": "nothing", "oracle": False, "threshold": float("nan")}


@dataclass(frozen=True)
class SplitTruths:
    """The cases of a split with their lesion masks in the run's frame."""

    cases: Sequence[Case]
    masks: Sequence[Truth]


Truths = dict[Split, SplitTruths]


def load_truths(dataset: Dataset, splits: Sequence[Split], size: int, edges: MaskEdges) -> Truths:
    """Reads every lesion mask of the given splits."""
    truths = {}
    for split in splits:
        cases = dataset.cases(split)
        truths[split] = SplitTruths(cases, [frame_mask(dataset.load(case).mask, size, edges) for case in cases])
    return truths


def score_cell(
    identity: dict[str, Any],
    truths: Truths,
    predictions: dict[Split, Sequence[StoredPrediction]],
    config: ScoreConfig,
    measured: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Computes every threshold policy and metric of a cell.

    Args:
        identity: The columns that name the cell.
        truths: Cases and masks of the validation and the test split.
        predictions: Of the same cases, in the same order.
        config: How to score.
        measured: While the method ran: `fit_seconds`, `predict_ms`, `peak_memory_mib`, `peak_gpu_memory_mib`, and
            `diagnostics`, a list of mappings with the attributes of `Diagnostic`.

    Returns:
        The `cases` and the `scores` of the cell. A policy that has nothing to look at has one row of `scores`,
        without a value, whose note says what is missing.
    """
    test, stored = truths["test"], predictions["test"]
    maps = [one.prediction.anomaly_map for one in stored]
    case_rows: list[dict[str, Any]] = []
    score_rows = _map_scores(test, stored, maps)
    score_rows += [_score(NO_POLICY, name, measured[name], 1) for name in list(CONVENTIONS)[-4:] if name in measured]
    score_rows += [_diagnostic(**diagnostic) for diagnostic in measured.get("diagnostics", ())]
    decided = [_own(stored)] if all(one.prediction.mask is not None for one in stored) else []
    for policy in default_policies(config.fixed_threshold):
        try:
            decided.append(_decide(policy, truths, predictions, maps))
        except PolicyUnavailableError as reason:
            row = _score(_columns(policy, float("nan")), "dice", float("nan"), 0)
            score_rows.append(row | {"note": f"left out: {reason}"})
    for columns, thresholds, masks in decided:
        overlaps = [Overlap.of(mask, truth.overlap) for mask, truth in zip(masks, test.masks, strict=True)]
        rows = [
            _case_row(columns, threshold, case, one, overlap)
            for threshold, case, one, overlap in zip(thresholds, test.cases, stored, overlaps, strict=True)
        ]
        case_rows += rows
        score_rows += _mask_scores(columns, test, overlaps)
    return (
        table([identity | row for row in case_rows], CASES),
        table([identity | row | {"error": ""} for row in score_rows], SCORES),
    )


_Decision = tuple[dict[str, Any], Sequence[float], Sequence[np.ndarray]]
"""The columns that name a policy, and each test image's threshold and mask."""


def _own(stored: Sequence[StoredPrediction]) -> _Decision:
    """The masks that the method makes without a threshold."""
    masks = [one.prediction.mask for one in stored if one.prediction.mask is not None]
    return OWN, [float("nan")] * len(masks), masks


def _decide(
    policy: ThresholdPolicy,
    truths: Truths,
    predictions: dict[Split, Sequence[StoredPrediction]],
    maps: Sequence[np.ndarray],
) -> _Decision:
    """Hands a policy what its type may see, and no more."""
    valid = truths["valid"]
    valid_maps = [one.prediction.anomaly_map for one in predictions["valid"]]
    match policy:
        case NormalsPolicy():
            normal = [one for one, case in zip(valid_maps, valid.cases, strict=True) if not case.label]
            thresholds = [policy.threshold(normal)] * len(maps)
        case ValidationPolicy():
            thresholds = [policy.threshold(valid_maps, [truth.overlap for truth in valid.masks])] * len(maps)
        case ImagePolicy():
            thresholds = [policy.threshold(anomaly_map) for anomaly_map in maps]
        case OraclePolicy():
            masks = [truth.overlap for truth in truths["test"].masks]
            thresholds = [policy.threshold(maps, masks)] * len(maps)
        case Fixed():
            thresholds = [policy.value] * len(maps)
        case _:
            raise TypeError(f"{type(policy).__name__} does not say by its type what it looks at")
    columns = _columns(policy, float("nan") if isinstance(policy, ImagePolicy) else thresholds[0])
    return columns, thresholds, [anomaly_map >= at for anomaly_map, at in zip(maps, thresholds, strict=True)]


def _columns(policy: ThresholdPolicy, threshold: float) -> dict[str, Any]:
    """The columns that name a policy."""
    return {
        "policy": policy.name,
        "looks_at": policy.looks_at,
        "oracle": policy.looks_at == "oracle",
        "threshold": threshold,
    }


def _map_scores(
    test: SplitTruths, stored: Sequence[StoredPrediction], maps: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    masks = [truth.ranking for truth in test.masks]
    pixels = rank_pixels(maps, masks)
    images = Ranking(
        np.array([one.prediction.image_score for one in stored]), np.array([case.label for case in test.cases], bool)
    )
    scores = {
        "pixel_auroc": pixels.auroc,
        "pixel_ap": pixels.average_precision,
        "aupro": aupro(pixels, masks),
        "image_auroc": images.auroc,
    }
    return [_score(NO_POLICY, name, value, len(maps)) for name, value in scores.items()]


def _mask_scores(columns: dict[str, Any], test: SplitTruths, overlaps: Sequence[Overlap]) -> list[dict[str, Any]]:
    patients = [case.patient for case in test.cases]
    dice = np.array([overlap.dice for overlap in overlaps])
    normal = np.array([case.label == 0 for case in test.cases])
    area = np.where(normal, [overlap.predicted_share for overlap in overlaps], np.nan)
    rows = []
    for name, values in (("dice", dice), ("normal_fp_area", area)):
        kept = values[~np.isnan(values)]
        mean = float(kept.mean()) if len(kept) else float("nan")
        rows.append(_score(columns, name, mean, len(kept), bootstrap_mean(values, patients)))
    rows.append(_score(columns, "dice_pooled", Overlap.pooled(overlaps).dice, len(overlaps)))
    return rows


def _score(
    columns: dict[str, Any],
    metric: str,
    value: float,
    n: int,
    interval: tuple[float, float] = (float("nan"), float("nan")),
) -> dict[str, Any]:
    return columns | {
        "metric": metric,
        "value": value,
        "ci_low": interval[0],
        "ci_high": interval[1],
        "n": n,
        "convention": CONVENTIONS.get(metric, ""),
        "note": "",
    }


def _diagnostic(metric: str, value: float, convention: str, note: str) -> dict[str, Any]:
    return _score(NO_POLICY, metric, value, 1) | {"convention": convention, "note": note}


def _case_row(
    columns: dict[str, Any], threshold: float, case: Case, stored: StoredPrediction, overlap: Overlap
) -> dict[str, Any]:
    note = stored.prediction.note
    if case.label and not overlap.truth:
        note = "; ".join(filter(None, [note, "the lesion vanishes at this size: left out of DICE"]))
    return columns | {
        "threshold": threshold,
        "case": case.id,
        "patient": case.patient,
        "label": case.label,
        "dice": overlap.dice,
        "intersection_px": overlap.intersection,
        "predicted_px": overlap.predicted,
        "truth_px": overlap.truth,
        "image_px": overlap.pixels,
        "image_score": stored.prediction.image_score,
        "predict_ms": 1000 * stored.seconds,
        "note": note,
    }
