"""Scores that need no threshold: of anomaly maps and of image scores."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from ...results.metrics import METRICS
from ...results.predictions import StoredPrediction
from ...results.tables import with_post
from .budgets import AUPIMO_RATES, Budgets
from .calibration import expected_calibration_error, platt_map
from .decisions import NO_POLICY
from .functions import OF_FOREGROUND, OF_PIXELS
from .intervals import auroc_interval, ratio_interval
from .patient_tally import PatientTally
from .post import Behind
from .ranking import PixelRanking, Ranking
from .scanning import Predictions, Scanned, SplitTruths, Truths
from .score_rows import NAN, mean_row, score_row, without_value
from .second_pass import SecondPass, measure_test


def map_rows(test: SplitTruths, scanned: Scanned, passed: SecondPass) -> list[dict[str, Any]]:
    """Scores of maps, which need no threshold.

    Args:
        test: Cases and masks.
        scanned: The first pass over the maps.
        passed: The second one.
    """
    rows = _pixel_rows(test, scanned, passed)
    if scanned.inside is not None and passed.inside is not None:
        rows += _foreground_rows(test, scanned.inside, passed.inside)
    return rows + _budget_rows(test, passed.budgets)


def map_rows_behind(behind: Behind, test: SplitTruths) -> list[dict[str, Any]]:
    """Scores of the maps that a chain has changed."""
    named = {"policy": with_post(NO_POLICY.policy, behind.chain.text), "post": behind.chain.text}
    rows = map_rows(test, behind.scanned, measure_test(test, behind.stored, behind.scanned))
    return [row | named for row in rows]


def _pixel_rows(test: SplitTruths, scanned: Scanned, passed: SecondPass) -> list[dict[str, Any]]:
    """Scores of all pixels of all maps."""
    ranking, of_masks = scanned.ranking, scanned.pooled
    values = {
        name: float(OF_PIXELS[name](chosen.counts)) if chosen.positives else NAN
        for name in OF_PIXELS
        for chosen in [of_masks if METRICS[name].edges == "lesion" else ranking]
    }
    intervals = passed.ranked.intervals(values)
    if passed.pooled is not passed.ranked:
        against_masks = {name: value for name, value in values.items() if METRICS[name].edges == "lesion"}
        intervals |= passed.pooled.intervals(against_masks)
    bounds = ranking.error_bounds()
    errors = {
        "pixel_auroc": bounds.auroc,
        "pixel_ap": bounds.average_precision,
        "aupro": bounds.aupro,
        "best_f1": of_masks.error_bounds().best_f1,
    }
    rows = []
    for name, value in values.items():
        row = score_row(NO_POLICY, name, value, len(test.cases), intervals[name])
        if ranking.binned:
            row["note"] = f"binned: exact to {errors[name]:.1e}" if name in errors else "binned"
        if METRICS[name].oracle:
            row |= {"looks_at": "oracle", "oracle": True}
        rows.append(row)
    return rows


def _foreground_rows(test: SplitTruths, ranking: PixelRanking, inside: PatientTally) -> list[dict[str, Any]]:
    """Scores that need no threshold, of the pixels of the foreground."""
    values = {name: float(of(ranking.counts)) if ranking.positives else NAN for name, of in OF_FOREGROUND.items()}
    intervals, bounds = inside.intervals(values), ranking.error_bounds()
    errors = dict(zip(OF_FOREGROUND, (bounds.auroc, bounds.average_precision, bounds.aupro), strict=True))
    rows = [score_row(NO_POLICY, name, value, len(test.cases), intervals[name]) for name, value in values.items()]
    for row in rows if ranking.binned else ():
        row["note"] = f"binned: exact to {errors[row['metric']]:.1e}"
    return rows


def _budget_rows(test: SplitTruths, budgets: Budgets) -> list[dict[str, Any]]:
    """Scores within a budget of false positives on normal test images."""
    found, lesions = budgets.found()
    kept = (lesions > 0) & ~np.isnan(found)
    owners = [patient for patient, one in zip(test.patients, kept, strict=True) if one]
    value = float(found[kept].sum() / lesions[kept].sum()) if kept.any() else NAN
    interval = ratio_interval(found[kept], lesions[kept], owners) if kept.any() else None
    sensitivity = score_row(NO_POLICY, "sensitivity_at_fpr", value, int(kept.sum()), interval)
    rows = [mean_row(NO_POLICY, "aupimo", budgets.aupimo(), test.patients), sensitivity]
    if not budgets.pixels:
        return [without_value(row, "the test split has no normal image") for row in rows]
    if budgets.pixels * AUPIMO_RATES[0] < 1:
        rows[0]["note"] = f"budgets below {1 / budgets.pixels:.1e} allow no pixel of these normal images"
    return rows


def image_score_rows(truths: Truths, predictions: Predictions, lacking: Collection[str]) -> list[dict[str, Any]]:
    """Scores of image scores."""
    return [
        _image_auroc(truths["test"], predictions["test"], lacking),
        *_image_calibration(truths, predictions, lacking),
    ]


def _image_calibration(truths: Truths, predictions: Predictions, lacking: Collection[str]) -> list[dict[str, Any]]:
    """How far image scores can be read as probabilities, after a map that the validation split gives."""
    rows = [score_row(NO_POLICY, name, NAN, 0) for name in ("image_brier", "image_ece")]
    if "scores" in lacking:
        return [without_value(row, "there are no image scores") for row in rows]
    valid, test = (
        (np.array([one.prediction.image_score for one in predictions[split]], float), truths[split].labels == 1)
        for split in ("valid", "test")
    )
    if len(np.unique(valid[1])) < 2:
        return [without_value(row, "a map of image scores needs both labels in the validation split") for row in rows]
    slope, intercept = platt_map(*valid)
    probabilities = expit(slope * test[0] + intercept)
    brier = mean_row(NO_POLICY, "image_brier", (probabilities - test[1]) ** 2, truths["test"].patients)
    return [
        brier,
        score_row(NO_POLICY, "image_ece", expected_calibration_error(probabilities, test[1]), len(probabilities)),
    ]


def _image_auroc(test: SplitTruths, stored: Sequence[StoredPrediction], lacking: Collection[str]) -> dict[str, Any]:
    if "scores" in lacking:
        return without_value(score_row(NO_POLICY, "image_auroc", NAN, 0), "there are no image scores")
    scores, labels = np.array([one.prediction.image_score for one in stored]), test.labels == 1
    interval = auroc_interval(scores, labels, test.patients)
    return score_row(NO_POLICY, "image_auroc", Ranking(scores, labels).auroc, len(stored), interval)
