"""From the stored predictions of a cell to its rows in the tables.

The test set's maps are passed over twice and never held together: once for what needs no threshold, and, when the
policies have chosen, once for the masks.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...results.metrics import METRICS, metrics_of
from ...results.predictions import StoredPrediction
from ...results.record import Measurements
from ...results.tables import (
    CASES,
    CURVES,
    SCORES,
    VOLUMES,
    CellTables,
    curve_convention,
    empty_tables,
    table,
    with_post,
    without_post,
)
from ..api import Diagnostic, Split
from ..config import ScoreConfig
from .decisions import NO_POLICY, Decision, decide
from .map_rows import image_score_rows, map_rows, map_rows_behind
from .mask_rows import cross_validation_rows, mask_rows, note_on_volumes, volume_ap_row, volume_rows
from .normal_rates import normal_fpr
from .patient_tally import spread_thresholds
from .post_choice import decide_behind_chains, mean_dice
from .scanning import Predictions, Scanned, SplitTruths, Truths, scan, where_scored
from .score_rows import NAN, score_row, values_of, without_value
from .second_pass import SecondPass, measure_test
from .volume_scores import MeasuredVolume, measure_volumes

EXACT_PIXELS = 2**26
"""So many test pixels are ranked exactly by default; where there are more, up to `BINNED_VALUES` different values."""
BINNED_VALUES = 2**21
CURVE_THRESHOLDS = 512


def score_cell(
    identity: dict[str, Any],
    truths: Truths,
    predictions: Predictions,
    config: ScoreConfig,
    measured: Measurements,
    lacking: Collection[str] = (),
) -> CellTables:
    """Computes every threshold policy and metric of a cell.

    Args:
        identity: The columns that name the cell.
        truths: Cases and masks of the validation and the test split.
        predictions: Predictions of the same cases, in the same order, each (S, S).
        config: How to score.
        measured: While the method ran.
        lacking: `maps`, `scores` or both, where predictions from elsewhere have none; what stands for them is not
            looked at.

    Returns:
        The tables of the cell. A policy that has nothing to look at, or that fails, has one row of `scores`, without a
        value, whose note says why. Where anomalous images have no mask, there are scores of images only.

    Raises:
        ScoringError: A map holds NaN or infinity.
    """
    predictions = {split: where_scored(predictions[split], of_split.rectangles) for split, of_split in truths.items()}
    test, stored = truths["test"], predictions["test"]
    of_images = [*image_score_rows(truths, predictions, lacking), *_rows_of_method(measured)]
    if not test.has_masks or ("maps" in lacking and stored[0].prediction.mask is None):
        return empty_tables()._replace(scores=_scores_table(identity, of_images, config, test.foreground))
    if "maps" in lacking:
        config = config.model_copy(update={"thresholds": (), "fixed_threshold": None})
    limit = values_limit(config, test)
    scanned: dict[Split, Scanned] = {split: scan(truths[split], predictions[split], limit) for split in truths}
    plain, left_out = decide(scanned, config.thresholds, config.fixed_threshold)
    chains, chosen, without = decide_behind_chains(truths, predictions, scanned, plain, config)
    decisions = [*plain, *(one for chain in chains for one in chain.decisions), *chosen]
    passed = measure_test(test, stored, scanned["test"], decisions)
    volumes = measure_volumes(test, stored, decisions, config.surface_tolerance)
    rows = map_rows(test, scanned["test"], passed)
    if volumes:
        rows.append(volume_ap_row(volumes))
    scanned["test"] = _with(scanned["test"], "aupimo", passed.budgets.aupimo())
    if "maps" in lacking:
        rows = [without_value(row, "there are no anomaly maps") for row in rows]
        volumes = [replace(one, average_precision=NAN) for one in volumes]
        scanned = {
            split: replace(one, images=[_nothing(image) for image in one.images]) for split, one in scanned.items()
        }
    else:
        of_images += [row for chain in chains if chain.chain.of_maps for row in map_rows_behind(chain, test)]
    rows += of_images
    rows += [
        score_row(columns, "dice", NAN, 0) | {"note": f"left out: {why}"} for columns, why in [*left_out, *without]
    ]
    rows += _rows_of_decisions(decisions, truths, predictions, scanned, passed, volumes)
    note = note_on_volumes(test)
    rows = [row | {"note": note} if row["level"] == "volume" and not row["note"] else row for row in rows]
    cases = [
        row for number, one in enumerate(decisions) for row in _case_rows(one, number, test, scanned["test"], passed)
    ]
    curves = [row for split, one in scanned.items() if "maps" not in lacking for row in _curve_rows(split, one, plain)]
    told = {"convention": curve_convention(config.mask_edges, config.padding)}
    return CellTables(
        table([identity | row for row in cases], CASES),
        _scores_table(identity, rows, config, test.foreground, decisions),
        table([identity | row | told for row in curves], CURVES),
        table([identity | row for volume in volumes for row in volume.rows(decisions)], VOLUMES),
    )


def _rows_of_method(measured: Measurements) -> Iterator[dict[str, Any]]:
    """What was measured while the method ran, and what it says of itself."""
    for one in metrics_of("cost"):
        value = getattr(measured, one.name, None)
        if value is not None:
            yield score_row(NO_POLICY, one.name, value, 1)
    yield from map(_diagnostic, measured.diagnostics)


def _rows_of_decisions(
    decisions: Sequence[Decision],
    truths: Truths,
    predictions: Predictions,
    scanned: Mapping[Split, Scanned],
    passed: SecondPass,
    volumes: Sequence[MeasuredVolume],
) -> Iterator[dict[str, Any]]:
    """The scores of all policies' masks."""
    names = [decision.columns.policy for decision in decisions]
    dice = {name: values_of(masks, "dice") for name, masks in zip(names, passed.masks, strict=True)}
    for index, (decision, masks) in enumerate(zip(decisions, passed.masks, strict=True)):
        _, chain = without_post(decision.columns.policy)
        yield from mask_rows(decision, truths["test"], masks, dice.get(with_post("oracle_dice", chain)))
        yield from volume_rows(decision, volumes, index)
        yield from cross_validation_rows(decision, scanned["valid"])
        yield _valid_dice(decision, truths["valid"], predictions["valid"], scanned["valid"].own_masks)


def _scores_table(
    identity: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    config: ScoreConfig,
    foreground: str,
    decisions: Sequence[Decision] = (),
) -> pd.DataFrame:
    """Names the cell in every row, and the convention in those that have none yet: the metric's and the threshold's."""
    way = config.mask_edges, config.padding, config.surface_tolerance, foreground
    of_metric = {name: one.convention_of(*way) for name, one in METRICS.items()}
    of_policy = {decision.columns.policy: decision.convention for decision in decisions}
    told = []
    for row in rows:
        name, chain = without_post(row["policy"])
        behind = f"post-processing: {chain}" if name == NO_POLICY.policy and chain else ""
        parts = [of_metric.get(row["metric"], ""), of_policy.get(row["policy"], ""), behind]
        if identity["external"] and row["metric"] in METRICS and METRICS[row["metric"]].kind == "cost":
            parts = ["told by the author of the predictions, not measured here"]
        told.append(identity | {"convention": "; ".join(filter(None, parts)), "error": ""} | row)
    return table(told, SCORES)


def values_limit(config: ScoreConfig, test: SplitTruths) -> int | None:
    """How many different values are told apart; `None` for all of them."""
    if config.pixels == "auto":
        return BINNED_VALUES if sum(mask.ranking.size for mask in test.masks) > EXACT_PIXELS else None
    return BINNED_VALUES if config.pixels == "binned" else None


def _with(scanned: Scanned, column: str, values: np.ndarray) -> Scanned:
    """With another score of each image."""
    images = [one | {column: value} for one, value in zip(scanned.images, values.tolist(), strict=True)]
    return replace(scanned, images=images)


def _nothing(image: Mapping[str, float]) -> dict[str, float]:
    return dict.fromkeys(image, NAN)


def _valid_dice(
    decision: Decision, valid: SplitTruths, stored: Sequence[StoredPrediction], own_masks: bool
) -> dict[str, Any]:
    """The policy's DICE on the validation split."""
    if decision.thresholds is None and not own_masks:
        return score_row(decision.columns, "dice_valid", NAN, 0)
    return score_row(decision.columns, "dice_valid", *mean_dice(decision, valid, stored))


def _diagnostic(one: Diagnostic) -> dict[str, Any]:
    return score_row(NO_POLICY, one.metric, one.value, 1) | {"convention": one.convention, "note": one.note}


def _case_rows(
    decision: Decision, number: int, test: SplitTruths, scanned: Scanned, passed: SecondPass
) -> Iterator[dict[str, Any]]:
    """A row for each test case, by the decision of this number."""
    for index, (case, told) in enumerate(zip(test.cases, passed.told, strict=True)):
        yield (
            decision.columns._asdict()
            | scanned.images[index]
            | passed.masks[number][index]
            | {
                "threshold": decision.threshold("test", index),
                "case": case.id,
                "patient": case.patient,
                "label": case.label,
                "image_score": told.image_score,
                "predict_ms": 1000 * told.seconds,
                "note": "; ".join(filter(None, [told.note, test.notes[index]])),
            }
        )


def _curve_rows(split: Split, scanned: Scanned, decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """The split's curves at thresholds that show their course, and at those that policies have chosen."""
    ranking, pooled = scanned.ranking, scanned.pooled
    if not ranking.positives:
        return []
    chosen = [decision.columns.threshold for decision in decisions]
    best = scanned.dice.best()[0]
    marks = np.array([one for one in [*chosen, best] if np.isfinite(one)])
    thresholds = np.unique(np.concatenate([spread_thresholds(ranking, CURVE_THRESHOLDS).astype(float), marks]))[::-1]
    true, false = ranking.at(thresholds)
    columns = {
        "threshold": thresholds,
        "dice": scanned.dice.at(thresholds),
        "dice_pooled": 2 * pooled.at(thresholds)[0] / (true + false + pooled.positives),
        "true_positive_rate": true / ranking.positives,
        "false_positive_rate": false / max(ranking.negatives, 1),
        "normal_fpr": normal_fpr(scanned.normal_images, thresholds),
        "precision": np.divide(true, true + false, out=np.full(len(true), NAN), where=true + false > 0),
        "region_overlap": ranking.overlap_at(thresholds),
    }
    return [
        {"split": split} | dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
