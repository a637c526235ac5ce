from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from miasbench.harness import registry, scoring
from miasbench.harness.api import (
    Case,
    ImagePolicy,
    LabelledMaps,
    OraclePolicy,
    Prediction,
    Split,
    UsageError,
    ValidationPolicy,
)
from miasbench.harness.config import ScoreConfig
from miasbench.harness.frame import Truth
from miasbench.harness.masks import Lesions, MaskScores, Overlap
from miasbench.harness.scanning import ScoringError, SplitTruths, Truths
from miasbench.harness.scoring import score_cell
from miasbench.harness.statistics import bootstrap_mean
from miasbench.results.store import StoredPrediction
from miasbench.results.tables import CASES, CONVENTIONS, CURVES, MASK_METRICS, SCORES

SIZE = 24
IDENTITY = {
    "dataset": "d",
    "dataset_fingerprint": "f",
    "method": "m",
    "options": "{}",
    "weights": "none",
    "weights_sha256": "",
    "seed": 0,
    "size": SIZE,
    "transductive": False,
    "cell": "c",
}
MEASURED = {
    "fit_seconds": 2.5,
    "predict_ms": 7.0,
    "calibration_ms": 2.0,
    "peak_memory_mib": 100.0,
    "peak_gpu_memory_mib": float("nan"),
}
Predictions = dict[Split, list[StoredPrediction]]


def make_split(split: Split, normal: int, anomalous: int, seed: int, *, own: bool) -> tuple[SplitTruths, Any]:
    rng = np.random.default_rng(seed)
    cases, masks, predictions = [], [], []
    for index in range(normal + anomalous):
        label = int(index >= normal)
        mask = np.zeros((SIZE, SIZE), bool)
        if label:
            top, left = rng.integers(0, SIZE - 8, 2)
            mask[top : top + 6, left : left + 8] = True
        anomaly_map = (rng.random((SIZE, SIZE)) + 0.5 * mask + 0.1 * index).astype(np.float32)
        made = Prediction(anomaly_map, float(anomaly_map.max()), rng.random((SIZE, SIZE)) < 0.3 if own else None)
        cases.append(Case(f"{split}{index}", f"p{index // 2}", split, label, ""))
        masks.append(Truth(mask, mask))
        predictions.append(StoredPrediction(made, 0.01 * (index + 1)))
    return with_masks(cases, masks), predictions


def with_masks(cases: Sequence[Case], masks: Sequence[Truth]) -> SplitTruths:
    return SplitTruths(cases, masks, [Lesions(mask.overlap) for mask in masks])


def make_cell(*, valid: tuple[int, int] = (3, 3), own: bool = True) -> tuple[Truths, Predictions]:
    valid_truths, valid_predictions = make_split("valid", *valid, 1, own=own)
    test_truths, test_predictions = make_split("test", 4, 6, 2, own=own)
    return (
        {"valid": valid_truths, "test": test_truths},
        {"valid": valid_predictions, "test": test_predictions},
    )


def score(truths: Truths, predictions: Predictions, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    tables = score_cell(IDENTITY, truths, dict(predictions), ScoreConfig(**options), MEASURED)
    return tables.cases, tables.scores


def value(scores: pd.DataFrame, metric: str, policy: str = "none") -> float:
    rows = scores[(scores["metric"] == metric) & (scores["policy"] == policy)]
    assert len(rows) == 1, (metric, policy)
    return float(rows["value"].iloc[0])


def test_every_policy_and_metric_has_its_rows() -> None:
    cases, scores = score(*make_cell(), fixed_threshold=0.9)
    assert list(cases) == list(CASES)
    assert list(scores) == list(SCORES)
    policies = ["own", "normal_quantile", "normal_mean_std", "valid_dice", "valid_f1", "otsu", "fixed", "oracle_dice"]
    assert cases["policy"].unique().tolist() == policies
    assert (cases.groupby("policy").size() == 10).all()
    for policy in policies:
        left_out = {"regret"} if policy == "oracle_dice" else set()
        assert set(scores.loc[scores["policy"] == policy, "metric"]) == set(MASK_METRICS) - left_out
    assert set(scores["metric"]) == set(CONVENTIONS)
    assert (scores["convention"] == scores["metric"].map(CONVENTIONS)).all()
    oracles = scores[scores["oracle"]]
    assert set(oracles["policy"]) == {"oracle_dice", "none"}
    assert oracles.loc[oracles["policy"] == "none", "metric"].tolist() == ["best_f1"]
    assert cases.loc[cases["policy"] == "fixed", "threshold"].eq(0.9).all()


def test_values_are_those_of_their_definitions() -> None:
    truths, predictions = make_cell()
    cases, scores = score(truths, predictions)
    test, stored = truths["test"], predictions["test"]
    dices, areas = [], []
    for case, truth, one in zip(test.cases, test.masks, stored, strict=True):
        own = one.prediction.mask
        assert own is not None
        if case.label:
            dices.append(2 * (own & truth.overlap).sum() / (own.sum() + truth.overlap.sum()))
        else:
            areas.append(own.mean())
    assert value(scores, "dice", "own") == pytest.approx(np.mean(dices))
    assert value(scores, "normal_fp_area", "own") == pytest.approx(np.mean(areas))
    all_own = np.stack([one.prediction.mask for one in stored if one.prediction.mask is not None])
    all_true = np.stack([truth.overlap for truth in test.masks])
    pooled = 2 * (all_own & all_true).sum() / (all_own.sum() + all_true.sum())
    assert value(scores, "dice_pooled", "own") == pytest.approx(pooled)
    maps = np.stack([one.prediction.anomaly_map for one in stored])
    assert value(scores, "pixel_auroc") == pytest.approx(roc_auc_score(all_true.ravel(), maps.ravel()))
    assert value(scores, "pixel_ap") == pytest.approx(average_precision_score(all_true.ravel(), maps.ravel()))
    labels = [case.label for case in test.cases]
    image_scores = [one.prediction.image_score for one in stored]
    assert value(scores, "image_auroc") == pytest.approx(roc_auc_score(labels, image_scores))
    for cost, expected in MEASURED.items():
        assert value(scores, cost) == pytest.approx(expected, nan_ok=True)
    row = scores[(scores["metric"] == "dice") & (scores["policy"] == "own")].iloc[0]
    patients = [case.patient for case in test.cases if case.label]
    assert (row["ci_low"], row["ci_high"]) == bootstrap_mean(np.array(dices), patients)
    assert (row["n"], row["patients"]) == (6, len(set(patients)))
    everyone = len({case.patient for case in test.cases})
    assert set(scores.loc[scores["metric"].isin(["pixel_auroc", "image_auroc", "dice_pooled"]), "patients"]) == {
        everyone
    }
    assert scores.loc[scores["metric"].isin(MEASURED), "patients"].isna().all(), "costs are not over patients"
    own_cases = cases[cases["policy"] == "own"]
    assert own_cases.loc[own_cases["label"] == 0, "dice"].isna().all(), "normal images are left out of DICE"
    np.testing.assert_allclose(own_cases["predict_ms"], [10 * (index + 1) for index in range(10)])


def test_a_policy_reaches_masks_as_at_least_its_threshold() -> None:
    truths, predictions = make_cell()
    cases, _ = score(truths, predictions)
    for _, row in cases[cases["policy"] != "own"].iterrows():
        index = [case.id for case in truths["test"].cases].index(str(row["case"]))
        predicted = predictions["test"][index].prediction.anomaly_map >= row["threshold"]
        assert row["predicted_px"] == predicted.sum()


def test_the_oracle_is_an_upper_bound() -> None:
    for seed in range(3):
        test = make_split("test", 3, 5, seed, own=False)
        valid = make_split("valid", 3, 3, seed + 50, own=False)
        _, scores = score({"valid": valid[0], "test": test[0]}, {"valid": valid[1], "test": test[1]})
        best = value(scores, "dice", "oracle_dice")
        for policy in ("normal_quantile", "normal_mean_std", "valid_dice", "valid_f1"):
            assert value(scores, "dice", policy) <= best + 1e-12


def thresholds(cases: pd.DataFrame) -> dict[str, list[float]]:
    return {str(policy): rows["threshold"].tolist() for policy, rows in cases.groupby("policy")}


def test_no_threshold_but_the_oracles_sees_a_test_mask() -> None:
    truths, predictions = make_cell()
    turned = with_masks(
        truths["test"].cases, [Truth(np.rot90(mask.overlap), np.rot90(mask.overlap)) for mask in truths["test"].masks]
    )
    before, after = (
        thresholds(score(one, predictions)[0]) for one in (truths, {"valid": truths["valid"], "test": turned})
    )
    assert before.pop("oracle_dice") != after.pop("oracle_dice")
    np.testing.assert_equal(before, after)


def test_policies_over_normals_see_no_anomalous_image() -> None:
    truths, predictions = make_cell()
    changed = [
        replace(one, prediction=replace(one.prediction, anomaly_map=one.prediction.anomaly_map * (1 + 5 * case.label)))
        for one, case in zip(predictions["valid"], truths["valid"].cases, strict=True)
    ]
    before = thresholds(score(truths, predictions)[0])
    after = thresholds(score(truths, {"valid": changed, "test": predictions["test"]})[0])
    for policy in ("normal_quantile", "normal_mean_std", "otsu", "oracle_dice"):
        assert before[policy] == after[policy]
    assert before["valid_dice"] != after["valid_dice"]


@pytest.mark.parametrize(
    ("valid", "left_out", "says"),
    [
        ((0, 3), {"normal_quantile", "normal_mean_std"}, "the validation split has no normal image"),
        ((3, 0), {"valid_dice", "valid_f1"}, "the validation split has no lesion"),
        ((0, 0), {"normal_quantile", "normal_mean_std", "valid_dice", "valid_f1"}, "the validation split has no"),
    ],
)
def test_a_policy_with_nothing_to_look_at_is_a_row_that_says_so(
    valid: tuple[int, int], left_out: set[str], says: str
) -> None:
    cases, scores = score(*make_cell(valid=valid))
    assert not left_out & set(cases["policy"])
    noted = scores[scores["note"] != ""]
    assert set(noted["policy"]) == left_out
    assert noted["value"].isna().all()
    assert noted["note"].str.startswith(f"left out: {says}").all()


def test_own_needs_a_mask_for_every_image() -> None:
    truths, predictions = make_cell(own=False)
    cases, scores = score(truths, predictions)
    assert "own" not in set(cases["policy"])
    assert "own" not in set(scores["policy"])


def test_a_lesion_that_vanishes_is_noted_and_left_out() -> None:
    truths, predictions = make_cell()
    empty = Truth(np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool))
    masks = [*truths["test"].masks[:-1], empty]
    cases, scores = score({"valid": truths["valid"], "test": with_masks(truths["test"].cases, masks)}, predictions)
    last = cases[(cases["policy"] == "own") & (cases["case"] == "test9")].iloc[0]
    assert "vanishes" in last["note"]
    assert np.isnan(last["dice"])
    assert scores.loc[(scores["metric"] == "dice") & (scores["policy"] == "own"), "n"].item() == 5


def test_the_papers_edges_separate_overlap_from_ranking() -> None:
    truths, predictions = make_cell()
    wide = np.zeros((SIZE, SIZE), bool)
    wide[4:12, 4:14] = True
    narrow = np.zeros((SIZE, SIZE), bool)
    narrow[6:10, 6:12] = True
    masks = [Truth(wide, narrow) if mask.overlap.any() else mask for mask in truths["test"].masks]
    cases, scores = score({"valid": truths["valid"], "test": with_masks(truths["test"].cases, masks)}, predictions)
    assert set(cases.loc[cases["label"] == 1, "truth_px"]) == {80}
    ranked = np.stack([mask.ranking for mask in masks]).ravel()
    maps = np.stack([one.prediction.anomaly_map for one in predictions["test"]]).ravel()
    assert value(scores, "pixel_auroc") == pytest.approx(roc_auc_score(ranked, maps))


def test_masks_are_measured_in_every_way() -> None:
    truths, predictions = make_cell()
    cases, scores = score(truths, predictions)
    own = cases[cases["policy"] == "own"].set_index("case")
    anomalous = own[own["label"] == 1]
    for case, truth, one in zip(truths["test"].cases, truths["test"].masks, predictions["test"], strict=True):
        mask, row = one.prediction.mask, own.loc[case.id]
        assert mask is not None
        measured = MaskScores.of(mask, Lesions(truth.overlap))
        assert (row["lesions"], row["lesions_hit"]) == (measured.lesions, measured.lesions_hit)
        assert row["false_lesions"] == measured.false_lesions
        if case.label:
            assert row["iou"] == measured.overlap.iou
            assert (row["hd95_px"], row["assd_px"]) == (measured.hd95, measured.assd)
    for metric in ("iou", "precision", "recall", "hd95_px", "assd_px"):
        assert value(scores, metric, "own") == pytest.approx(anomalous[metric].mean())
    assert value(scores, "lesion_recall", "own") == anomalous["lesions_hit"].sum() / anomalous["lesions"].sum()
    assert value(scores, "false_lesions", "own") == own["false_lesions"].mean()
    for size in ("small", "medium", "large"):
        expected = anomalous.loc[anomalous["lesion_size"] == size, "dice"].mean()
        assert value(scores, f"dice_{size}", "own") == pytest.approx(expected, nan_ok=True)


def test_each_image_has_what_its_map_is_worth_alone() -> None:
    truths, predictions = make_cell()
    cases, _ = score(truths, predictions)
    own = cases[cases["policy"] == "own"].set_index("case")
    for case, truth, one in zip(truths["test"].cases, truths["test"].masks, predictions["test"], strict=True):
        row, anomaly_map = own.loc[case.id], one.prediction.anomaly_map
        if not case.label:
            assert row[["pixel_auroc", "pixel_ap", "aupro", "best_dice"]].isna().all()
            continue
        flat = truth.overlap.ravel(), anomaly_map.ravel()
        assert row["pixel_auroc"] == pytest.approx(roc_auc_score(*flat))
        assert row["pixel_ap"] == pytest.approx(average_precision_score(*flat))
        dice = [Overlap.of(anomaly_map >= at, truth.overlap).dice for at in np.unique(anomaly_map)]
        assert row["best_dice"] == pytest.approx(max(dice))


def test_regret_and_validation_follow_from_the_thresholds() -> None:
    truths, predictions = make_cell()
    cases, scores = score(truths, predictions)
    best = value(scores, "dice", "oracle_dice")
    valid = truths["valid"]
    for policy, rows in cases.groupby("policy"):
        if policy != "oracle_dice":
            assert value(scores, "regret", str(policy)) == pytest.approx(best - value(scores, "dice", str(policy)))
        if policy in ("own", "otsu"):
            continue
        dice = [
            Overlap.of(one.prediction.anomaly_map >= rows["threshold"].iloc[0], truth.overlap).dice
            for one, truth in zip(predictions["valid"], valid.masks, strict=True)
        ]
        assert value(scores, "dice_valid", str(policy)) == pytest.approx(np.nanmean(dice))
    masks = [one.prediction.mask for one in predictions["valid"]]
    own = [
        Overlap.of(mask, truth.overlap).dice for mask, truth in zip(masks, valid.masks, strict=True) if mask is not None
    ]
    assert value(scores, "dice_valid", "own") == pytest.approx(np.nanmean(own))


def test_curves_pass_through_every_policys_threshold() -> None:
    truths, predictions = make_cell()
    cases, scores, curves = score_cell(IDENTITY, truths, predictions, ScoreConfig(), MEASURED)
    assert list(curves) == list(CURVES)
    test = curves[curves["split"] == "test"]
    assert set(curves["split"]) == {"valid", "test"}
    assert test["threshold"].is_monotonic_decreasing
    for rate in ("true_positive_rate", "false_positive_rate", "region_overlap"):
        assert test[rate].is_monotonic_increasing
    for policy in ("normal_quantile", "valid_dice", "valid_f1", "oracle_dice"):
        threshold = cases.loc[cases["policy"] == policy, "threshold"].iloc[0]
        point = test[test["threshold"] == threshold].iloc[0]
        assert point["dice"] == pytest.approx(value(scores, "dice", policy))
        assert point["dice_pooled"] == pytest.approx(value(scores, "dice_pooled", policy))
    assert test["dice"].max() == pytest.approx(value(scores, "dice", "oracle_dice"))


def test_binned_pixels_state_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BINNED_VALUES", 600)
    truths, predictions = make_cell()
    _, exact = score(truths, predictions)
    _, binned = score(truths, predictions, pixels="binned")
    assert (exact["note"] == "").all()
    for metric in ("pixel_auroc", "pixel_ap", "aupro", "best_f1"):
        note = binned.loc[binned["metric"] == metric, "note"].item()
        bound = float(note.removeprefix("binned: exact to "))
        assert 0 < bound < 0.05
        assert abs(value(binned, metric) - value(exact, metric)) <= 1.06 * bound, "the note has two digits"
    monkeypatch.setattr(scoring, "EXACT_PIXELS", 100)
    pd.testing.assert_frame_equal(score(truths, predictions)[1], binned)


def test_pixel_metrics_have_intervals_over_patients() -> None:
    _, scores = score(*make_cell())
    for metric in ("pixel_auroc", "pixel_ap", "aupro", "best_f1", "image_auroc"):
        row = scores[scores["metric"] == metric].iloc[0]
        assert row["ci_low"] <= row["value"] <= row["ci_high"], metric
        assert row["ci_low"] < row["ci_high"] or metric == "image_auroc", "whose images are told apart without fault"


def test_a_stored_map_with_a_gap_is_refused_by_name() -> None:
    truths, predictions = make_cell()
    predictions["test"][2].prediction.anomaly_map[3, 4] = np.nan
    with pytest.raises(ScoringError, match=r"case test2 \(test\): a value of the map is not finite"):
        score(truths, predictions)


@dataclass(frozen=True)
class Fragile(ImagePolicy):
    name = "fragile"

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return 1 / int(anomaly_map.size != SIZE * SIZE)


@dataclass(frozen=True)
class Blank(OraclePolicy):
    name = "blank"

    def threshold(self, labelled: LabelledMaps) -> float:
        return float("nan")


@dataclass(frozen=True)
class Recall(ValidationPolicy):
    """The highest threshold that finds all lesion pixels of the validation split."""

    name = "recall"

    def threshold(self, labelled: LabelledMaps) -> float:
        return float(labelled.pixel_counts()[0][-1])


def test_plugins_policies_are_applied_and_fail_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = score(*make_cell())
    added = {"fragile": Fragile(), "recall": Recall(), "blank": Blank(), "broken": UsageError("it is broken")}
    made = {**registry.make_policies(), **added}
    monkeypatch.setattr(registry, "make_policies", lambda: made)
    truths, predictions = make_cell()
    cases, scores = score(truths, predictions)
    pd.testing.assert_frame_equal(cases[cases["policy"] != "recall"].reset_index(drop=True), before)
    values = [
        one.prediction.anomaly_map[truth.overlap]
        for one, truth in zip(predictions["valid"], truths["valid"].masks, strict=True)
    ]
    assert cases.loc[cases["policy"] == "recall", "threshold"].eq(np.concatenate(values).min()).all()
    notes = scores[scores["note"] != ""].set_index("policy")["note"].to_dict()
    assert notes == {
        "fragile": "left out: ZeroDivisionError: division by zero",
        "blank": "left out: ValueError: it chose NaN as a threshold",
        "broken": "left out: it is broken",
    }
