"""From the stored predictions of a cell to its rows in the tables.

The test set's maps are passed over twice and never held together: once for what needs no threshold, and, when the
policies have chosen, once for the masks.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.special import expit

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
from .budgets import AUPIMO_RATES, Budgets
from .calibration import expected_calibration_error, platt_map
from .cross_validation import folds_of
from .decisions import NO_POLICY, Decision, PolicyColumns, decide
from .functions import OF_FOREGROUND, OF_MASK, OF_PIXELS, OF_VOLUME
from .intervals import Interval, auroc_interval, mean_interval, ratio_interval
from .lesion_metrics import lesion_counts, lesion_scores
from .masks import MaskScores, Overlap, lesion_size
from .normal_rates import foreground_counts, normal_fpr, normal_rates, promised
from .patient_tally import PatientTally, spread_thresholds
from .post import Behind
from .post_choice import decide_behind_chains, mean_dice
from .ranking import PixelRanking, PixelTally, Ranking, rank_pixels
from .scanning import Scanned, SplitTruths, Truths, scan, where_scored
from .volume_scores import MeasuredVolume, measure_volumes

NAN = float("nan")

EXACT_PIXELS = 2**26
"""So many test pixels are ranked exactly by default; where there are more, up to `BINNED_VALUES` different values."""
BINNED_VALUES = 2**21
CURVE_THRESHOLDS = 512


Predictions = Mapping[Split, Sequence[StoredPrediction]]


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
    costs = {one.name: getattr(measured, one.name, None) for one in metrics_of("cost")}
    of_method = [_score(NO_POLICY, name, value, 1) for name, value in costs.items() if value is not None]
    of_method += map(_diagnostic, measured.diagnostics)
    if not test.has_masks or ("maps" in lacking and stored[0].prediction.mask is None):
        rows = [*_image_scores(truths, predictions, lacking), *of_method]
        return empty_tables()._replace(scores=_scores_table(identity, rows, config, test.foreground))
    if "maps" in lacking:
        config = config.model_copy(update={"thresholds": (), "fixed_threshold": None})
    limit = values_limit(config, test)
    scanned: dict[Split, Scanned] = {split: scan(truths[split], predictions[split], limit) for split in truths}
    plain, left_out = decide(scanned, config.thresholds, config.fixed_threshold)
    chains, chosen, without = decide_behind_chains(truths, predictions, scanned, plain, config)
    decisions = [*plain, *(one for chain in chains for one in chain.decisions), *chosen]
    left_out += without
    masks: list[list[dict[str, Any]]] = [[] for _ in decisions]
    ranked = pooled = PatientTally(test.patients, scanned["test"].ranking)
    ranking = scanned["test"].inside
    inside = None if ranking is None else PatientTally(test.patients, ranking)
    if scanned["test"].graded:
        pooled = PatientTally(test.patients, scanned["test"].pooled)
    budgets = Budgets([truth.ranking.size for truth, label in zip(test.masks, test.labels, strict=True) if not label])
    for index, (truth, lesions) in enumerate(zip(test.masks, test.lesions, strict=True)):
        prediction = stored[index].prediction
        foreground = None if test.foregrounds is None else test.foregrounds[index]
        budgets.add(prediction.anomaly_map, truth.ranking, test.cases[index].label, foreground)
        pixels = PixelTally()
        pixels.add(prediction.anomaly_map, truth.ranking, foreground=foreground)
        ranked.add(index, pixels.ranking())
        if inside is not None:
            inside.add(index, cast(PixelRanking, pixels.foreground_ranking()))
        if pooled is not ranked:
            pooled.add(index, rank_pixels([prediction.anomaly_map], [truth.overlap]))
        for decision, of_policy in zip(decisions, masks, strict=True):
            mask = decision.mask("test", index, prediction)
            of_policy.append(_measured(MaskScores(mask, lesions)) | foreground_counts(mask, foreground))
    volumes = measure_volumes(test, stored, decisions, config.surface_tolerance)
    rows = _map_scores(test, stored, scanned["test"], ranked, pooled)
    if inside is not None and ranking is not None:
        rows += _foreground_scores(test, ranking, inside)
    aupimo = budgets.aupimo()
    rows += _budget_scores(test, budgets, aupimo)
    scanned["test"] = _with(scanned["test"], "aupimo", aupimo)
    if volumes:
        rows.append(_volume_ap(volumes))
    if "maps" in lacking:
        rows = [_left_out(row, "there are no anomaly maps") for row in rows]
        volumes = [replace(one, average_precision=NAN) for one in volumes]
        scanned = {
            split: replace(one, images=[_nothing(image) for image in one.images]) for split, one in scanned.items()
        }
    rows += [*_image_scores(truths, predictions, lacking), *of_method]
    if "maps" not in lacking:
        rows += [row for chain in chains if chain.chain.of_maps for row in _map_scores_behind(chain, test)]
    rows += [_score(columns, "dice", NAN, 0) | {"note": f"left out: {why}"} for columns, why in left_out]
    cases: list[dict[str, Any]] = []
    dice = {decision.columns.policy: _column(one, "dice") for decision, one in zip(decisions, masks, strict=True)}
    for index, (decision, of_policy) in enumerate(zip(decisions, masks, strict=True)):
        _, chain = without_post(decision.columns.policy)
        rows += _mask_scores(decision, test, of_policy, dice.get(with_post("oracle_dice", chain)))
        rows += _volume_scores(decision, volumes, index)
        rows += _cross_validation(decision, scanned["valid"])
        rows.append(_valid_dice(decision, truths["valid"], predictions["valid"], scanned["valid"].own_masks))
        cases += _case_rows(decision, test, stored, scanned["test"], of_policy)
    drawn = {} if "maps" in lacking else scanned
    curves = [row for split, one in drawn.items() for row in _curve_rows(split, one, plain)]
    told = {"convention": curve_convention(config.mask_edges, config.padding)}
    note = _note_on_volumes(test)
    rows = [row | {"note": note} if row["level"] == "volume" and not row["note"] else row for row in rows]
    return CellTables(
        table([identity | row for row in cases], CASES),
        _scores_table(identity, rows, config, test.foreground, decisions),
        table([identity | row | told for row in curves], CURVES),
        table([identity | row for volume in volumes for row in volume.rows(decisions)], VOLUMES),
    )


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


def _map_scores_behind(behind: Behind, test: SplitTruths) -> list[dict[str, Any]]:
    """Scores of the maps that a chain has changed."""
    stored, scanned = behind.stored, behind.scanned
    ranked = pooled = PatientTally(test.patients, scanned.ranking)
    if scanned.graded:
        pooled = PatientTally(test.patients, scanned.pooled)
    for index, truth in enumerate(test.masks):
        anomaly_map = stored[index].prediction.anomaly_map
        ranked.add(index, rank_pixels([anomaly_map], [truth.ranking]))
        if pooled is not ranked:
            pooled.add(index, rank_pixels([anomaly_map], [truth.overlap]))
    named = {"policy": with_post(NO_POLICY.policy, behind.chain.text), "post": behind.chain.text}
    return [row | named for row in _map_scores(test, stored, scanned, ranked, pooled)]


def values_limit(config: ScoreConfig, test: SplitTruths) -> int | None:
    """How many different values are told apart; `None` for all of them."""
    if config.pixels == "auto":
        return BINNED_VALUES if sum(mask.ranking.size for mask in test.masks) > EXACT_PIXELS else None
    return BINNED_VALUES if config.pixels == "binned" else None


def _map_scores(
    test: SplitTruths,
    stored: Sequence[StoredPrediction],
    scanned: Scanned,
    ranked: PatientTally,
    pooled: PatientTally,
) -> list[dict[str, Any]]:
    """Scores that need no threshold."""
    ranking, of_masks = scanned.ranking, scanned.pooled
    values = {
        name: float(OF_PIXELS[name](chosen.counts)) if chosen.positives else NAN
        for name in OF_PIXELS
        for chosen in [of_masks if METRICS[name].edges == "lesion" else ranking]
    }
    intervals = ranked.intervals(values)
    if pooled is not ranked:
        against_masks = {name: value for name, value in values.items() if METRICS[name].edges == "lesion"}
        intervals |= pooled.intervals(against_masks)
    bounds = ranking.error_bounds()
    errors = {
        "pixel_auroc": bounds.auroc,
        "pixel_ap": bounds.average_precision,
        "aupro": bounds.aupro,
        "best_f1": of_masks.error_bounds().best_f1,
    }
    rows = []
    for name, value in values.items():
        row = _score(NO_POLICY, name, value, len(stored), intervals[name])
        if ranking.binned:
            row["note"] = f"binned: exact to {errors[name]:.1e}" if name in errors else "binned"
        if METRICS[name].oracle:
            row |= {"looks_at": "oracle", "oracle": True}
        rows.append(row)
    return rows


def _foreground_scores(test: SplitTruths, ranking: PixelRanking, inside: PatientTally) -> list[dict[str, Any]]:
    """Scores that need no threshold, of the pixels of the foreground."""
    values = {name: float(of(ranking.counts)) if ranking.positives else NAN for name, of in OF_FOREGROUND.items()}
    intervals, bounds = inside.intervals(values), ranking.error_bounds()
    errors = dict(zip(OF_FOREGROUND, (bounds.auroc, bounds.average_precision, bounds.aupro), strict=True))
    rows = [_score(NO_POLICY, name, value, len(test.cases), intervals[name]) for name, value in values.items()]
    for row in rows if ranking.binned else ():
        row["note"] = f"binned: exact to {errors[row['metric']]:.1e}"
    return rows


def _budget_scores(test: SplitTruths, budgets: Budgets, aupimo: np.ndarray) -> list[dict[str, Any]]:
    """Scores within a budget of false positives on normal test images."""
    found, lesions = budgets.found()
    kept = (lesions > 0) & ~np.isnan(found)
    owners = [patient for patient, one in zip(test.patients, kept, strict=True) if one]
    value = float(found[kept].sum() / lesions[kept].sum()) if kept.any() else NAN
    interval = ratio_interval(found[kept], lesions[kept], owners) if kept.any() else None
    sensitivity = _score(NO_POLICY, "sensitivity_at_fpr", value, int(kept.sum()), interval)
    rows = [_mean(NO_POLICY, "aupimo", aupimo, test.patients), sensitivity]
    if not budgets.pixels:
        return [_left_out(row, "the test split has no normal image") for row in rows]
    if budgets.pixels * AUPIMO_RATES[0] < 1:
        rows[0]["note"] = f"budgets below {1 / budgets.pixels:.1e} allow no pixel of these normal images"
    return rows


def _with(scanned: Scanned, column: str, values: np.ndarray) -> Scanned:
    """With another score of each image."""
    images = [one | {column: value} for one, value in zip(scanned.images, values.tolist(), strict=True)]
    return replace(scanned, images=images)


def _image_scores(truths: Truths, predictions: Predictions, lacking: Collection[str]) -> list[dict[str, Any]]:
    """Scores of image scores."""
    return [
        _image_auroc(truths["test"], predictions["test"], lacking),
        *_image_calibration(truths, predictions, lacking),
    ]


def _image_calibration(truths: Truths, predictions: Predictions, lacking: Collection[str]) -> list[dict[str, Any]]:
    """How far image scores can be read as probabilities, after a map that the validation split gives."""
    rows = [_score(NO_POLICY, name, NAN, 0) for name in ("image_brier", "image_ece")]
    if "scores" in lacking:
        return [_left_out(row, "there are no image scores") for row in rows]
    valid, test = (
        (np.array([one.prediction.image_score for one in predictions[split]], float), truths[split].labels == 1)
        for split in ("valid", "test")
    )
    if len(np.unique(valid[1])) < 2:
        return [_left_out(row, "a map of image scores needs both labels in the validation split") for row in rows]
    slope, intercept = platt_map(*valid)
    probabilities = expit(slope * test[0] + intercept)
    brier = _mean(NO_POLICY, "image_brier", (probabilities - test[1]) ** 2, truths["test"].patients)
    return [
        brier,
        _score(NO_POLICY, "image_ece", expected_calibration_error(probabilities, test[1]), len(probabilities)),
    ]


def _image_auroc(test: SplitTruths, stored: Sequence[StoredPrediction], lacking: Collection[str]) -> dict[str, Any]:
    if "scores" in lacking:
        return _left_out(_score(NO_POLICY, "image_auroc", NAN, 0), "there are no image scores")
    scores, labels = np.array([one.prediction.image_score for one in stored]), test.labels == 1
    interval = auroc_interval(scores, labels, test.patients)
    return _score(NO_POLICY, "image_auroc", Ranking(scores, labels).auroc, len(stored), interval)


def _left_out(row: dict[str, Any], why: str) -> dict[str, Any]:
    """The same score without a value."""
    columns = PolicyColumns(**{name: row[name] for name in PolicyColumns._fields})
    return _score(columns, row["metric"], NAN, 0) | {"note": f"left out: {why}"}


def _nothing(image: Mapping[str, float]) -> dict[str, float]:
    return dict.fromkeys(image, NAN)


def _measured(scores: MaskScores) -> dict[str, Any]:
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


def _mask_scores(
    decision: Decision, test: SplitTruths, masks: Sequence[Mapping[str, Any]], oracle: np.ndarray | None
) -> list[dict[str, Any]]:
    """A policy's scores, with intervals over patients.

    Args:
        decision: The policy's thresholds.
        test: Cases and masks.
        masks: The measurements of the masks of the test images.
        oracle: Their DICE by `oracle_dice`, where there is one.
    """
    images = {"all": True, "anomalous": _column(masks, "truth_px") > 0, "normal": test.labels == 0}
    measured = _measurable(OF_MASK, any(one.spacing for one in test.lesions))
    values = {name: np.where(images[METRICS[name].images], _column(masks, name), NAN) for name in measured}
    if oracle is not None and not decision.columns.oracle:
        values = {"dice": values["dice"], "regret": oracle - values["dice"]} | values
    rows = [_mean(decision.columns, name, value, test.patients) for name, value in values.items()]
    rows.append(_lesion_recall(decision, "lesion_recall", masks, test.patients))
    rows += [
        _score(decision.columns, name, value, n, interval) | {"promised": promised(decision.promise, name)}
        for name, (value, n, interval) in (
            normal_rates(masks, test.labels, test.patients) | lesion_scores(masks, test.patients)
        ).items()
    ]
    counts = ("intersection_px", "predicted_px", "truth_px", "image_px")
    pooled = Overlap.pooled(Overlap(*(one[name] for name in counts)) for one in masks)
    rows.append(_score(decision.columns, "dice_pooled", pooled.dice, len(masks)))
    return rows


def _measurable(metrics: Iterable[str], with_spacing: bool) -> list[str]:
    """Those of the metrics that can have a value, as the spacing of pixels is known, or is not."""
    return [name for name in metrics if with_spacing or not METRICS[name].needs_spacing]


def _lesion_recall(
    decision: Decision, metric: str, masks: Sequence[Mapping[str, Any]], patients: Sequence[str]
) -> dict[str, Any]:
    """The share of lesions that are hit: each counts the same, whatever image or volume it is in."""
    lesions = _column(masks, "lesions").astype(int)
    hits = np.repeat([one["lesions_hit"] / one["lesions"] if one["lesions"] else NAN for one in masks], lesions)
    return _mean(decision.columns, metric, hits, np.repeat(patients, lesions).tolist())


def _volume_scores(decision: Decision, volumes: Sequence[MeasuredVolume], policy: int) -> list[dict[str, Any]]:
    """A policy's scores of volumes, the `policy`-th of each; none where no volume is known."""
    if not volumes:
        return []
    masks, patients = [one.masks[policy] for one in volumes], [one.slices.patient for one in volumes]
    images = {"all": True, "anomalous": _column(masks, "lesions") > 0}
    measured = _measurable(OF_VOLUME, any(one.slices.spacing for one in volumes))
    rows = [
        _mean(decision.columns, name, np.where(images[METRICS[name].images], _column(masks, name), NAN), patients)
        for name in measured
    ]
    return [*rows, _lesion_recall(decision, "volume_lesion_recall", masks, patients)]


def _note_on_volumes(test: SplitTruths) -> str:
    """What a reader should know of all scores of volumes."""
    stacks = "stacks of chosen slices, not whole scans" if test.stacks else ""
    left_out = f"volumes left out: {', '.join(test.volumes_left_out)}" if test.volumes_left_out else ""
    return "; ".join(filter(None, [stacks, left_out]))


def _volume_ap(volumes: Sequence[MeasuredVolume]) -> dict[str, Any]:
    precision = np.array([one.average_precision for one in volumes])
    return _mean(NO_POLICY, "volume_ap", precision, [one.slices.patient for one in volumes])


def _valid_dice(
    decision: Decision, valid: SplitTruths, stored: Sequence[StoredPrediction], own_masks: bool
) -> dict[str, Any]:
    """The policy's DICE on the validation split."""
    if decision.thresholds is None and not own_masks:
        return _score(decision.columns, "dice_valid", NAN, 0)
    return _score(decision.columns, "dice_valid", *mean_dice(decision, valid, stored))


def _cross_validation(decision: Decision, valid: Scanned) -> list[dict[str, Any]]:
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
    rows = [_score(decision.columns, metric, value, n) for metric, (value, n) in values.items()]
    why = "not known: all lesions of the validation split are of one patient"
    return rows if count else [row | {"convention": why} for row in rows]


def _column(masks: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([one[name] for one in masks], float)


def _mean(columns: PolicyColumns, metric: str, values: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    """A mean over what is not NaN, with its interval over patients."""
    kept = ~np.isnan(values)
    mean = float(values[kept].mean()) if kept.any() else NAN
    return _score(columns, metric, mean, int(kept.sum()), mean_interval(values, patients, METRICS[metric].range))


def _score(
    columns: PolicyColumns, metric: str, value: float, n: int, interval: Interval | None = None
) -> dict[str, Any]:
    return columns._asdict() | {
        "level": METRICS[metric].level if metric in METRICS else "image",
        "metric": metric,
        "value": value,
        "ci_low": interval.low if interval else NAN,
        "ci_high": interval.high if interval else NAN,
        "promised": NAN,
        "n": n,
        "patients": interval.patients if interval else NAN,
        "note": "",
    }


def _diagnostic(one: Diagnostic) -> dict[str, Any]:
    return _score(NO_POLICY, one.metric, one.value, 1) | {"convention": one.convention, "note": one.note}


def _case_rows(
    decision: Decision,
    test: SplitTruths,
    stored: Sequence[StoredPrediction],
    scanned: Scanned,
    masks: Sequence[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """A row for each test case."""
    for index, (case, numbers) in enumerate(zip(test.cases, masks, strict=True)):
        prediction = stored[index].prediction
        yield (
            decision.columns._asdict()
            | scanned.images[index]
            | numbers
            | {
                "threshold": decision.threshold("test", index),
                "case": case.id,
                "patient": case.patient,
                "label": case.label,
                "image_score": prediction.image_score,
                "predict_ms": 1000 * stored[index].seconds,
                "note": "; ".join(filter(None, [prediction.note, test.notes[index]])),
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
