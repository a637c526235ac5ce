from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from miasbench.harness import registry
from miasbench.harness.api import (
    Card,
    Case,
    Dataset,
    ImagePolicy,
    LabelledMaps,
    NormalsPolicy,
    OraclePolicy,
    Prediction,
    Sample,
    Split,
    UsageError,
    ValidationPolicy,
)
from miasbench.harness.config import ScoreConfig
from miasbench.harness.data.frame import Truth, image_rectangle
from miasbench.harness.scoring import cell_scores
from miasbench.harness.scoring.calibration import platt_map
from miasbench.harness.scoring.cell_scores import score_cell
from miasbench.harness.scoring.functions import OF_FOREGROUND
from miasbench.harness.scoring.image_policies import Otsu
from miasbench.harness.scoring.intervals import mean_interval
from miasbench.harness.scoring.masks import Lesions, MaskScores, Overlap
from miasbench.harness.scoring.scanning import ScoringError, SplitTruths, Truths, load_truths
from miasbench.results.metrics import METRICS, metrics_of
from miasbench.results.predictions import StoredPrediction
from miasbench.results.record import Measurements
from miasbench.results.tables import CASES, CURVES, SCORES, CellTables

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
    "external": "",
    "seen": "",
    "cell": "c",
}
MEASURED = Measurements(
    fit_seconds=2.5, predict_ms=7.0, calibration_ms=2.0, peak_memory_mib=100.0, peak_gpu_memory_mib=float("nan")
)
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
    whole = [np.s_[:, :]] * len(masks)
    return SplitTruths(cases, masks, [Lesions(mask.overlap) for mask in masks], whole, [""] * len(masks))


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
    left_out = ("conformal", "conformal_risk")  # of two patients
    known = [name for name in registry.POLICIES if name not in ("oracle_dice", *left_out)]
    policies = ["own", *known, "fixed", "oracle_dice"]
    assert cases["policy"].unique().tolist() == policies
    assert (cases.groupby("policy").size() == 10).all()
    for policy in policies:
        left_out = {"regret"} if policy == "oracle_dice" else set()
        left_out |= set() if policy == "valid_dice" else {"dice_cv", "dice_cv_std", "threshold_cv_std"}
        of_masks = {one.name for one in metrics_of("mask", level="image") if one.unit != "mm"}
        assert set(scores.loc[scores["policy"] == policy, "metric"]) == of_masks - left_out
    known = {one.name for one in METRICS.values() if one.level == "image" and one.unit != "mm"}
    assert set(scores["metric"]) == known - set(OF_FOREGROUND), "all of these images is foreground"
    assert (scores["convention"] != "").all()
    oracles = scores[scores["oracle"]]
    assert set(oracles["policy"]) == {"oracle_dice", "none"}
    assert oracles.loc[oracles["policy"] == "none", "metric"].tolist() == ["best_f1"]
    (threshold,) = cases.loc[cases["policy"] == "fixed", "threshold"].unique()
    assert threshold == np.nextafter(np.float32(0.9), np.float32(1)), "the smallest float32 that is not below 0.9"


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
    for cost, expected in MEASURED.content().items():
        assert value(scores, cost) == pytest.approx(expected, nan_ok=True)
    row = scores[(scores["metric"] == "dice") & (scores["policy"] == "own")].iloc[0]
    patients = [case.patient for case in test.cases if case.label]
    assert (row["ci_low"], row["ci_high"]) == mean_interval(np.array(dices), patients, (0, 1))[:2]
    assert (row["n"], row["patients"]) == (6, len(set(patients)))
    healthy = {case.patient for case in test.cases if not case.label}
    of_maps = scores[scores["metric"].isin(["pixel_auroc", "aupro", "image_auroc"])].set_index("metric")["patients"]
    fewer = min(len(set(patients)), len(healthy))
    assert of_maps.to_dict() == {"pixel_auroc": len(set(patients)), "aupro": len(set(patients)), "image_auroc": fewer}
    assert scores.loc[scores["metric"].isin(list(MEASURED.content())), "patients"].isna().all(), (
        "costs are not over patients"
    )
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
    changed: Truths = {"valid": truths["valid"], "test": turned}
    before, after = (thresholds(score(one, predictions)[0]) for one in (truths, changed))
    assert before.pop("oracle_dice") != after.pop("oracle_dice")
    np.testing.assert_equal(before, after)


def test_a_calibrated_policy_sees_the_maps_that_its_rows_name() -> None:
    truths, predictions = make_cell()
    asked = {"thresholds": "mebin[erosion=1],mebin[erosion=1,range=test_set]"}
    first, *others = predictions["test"]
    brighter = replace(first, prediction=replace(first.prediction, anomaly_map=4 * first.prediction.anomaly_map))
    cases, _ = score(truths, predictions, **asked)
    changed, _ = score(truths, {"valid": predictions["valid"], "test": [brighter, *others]}, **asked)
    looks_at = dict(zip(cases["policy"], cases["looks_at"], strict=True))
    assert list(looks_at.values())[1:] == ["normals and image", "test set and image"]
    rest = cases["case"] != cases["case"].iloc[0]
    before, after = thresholds(cases[rest]), thresholds(changed[rest])
    assert before["mebin[erosion=1]"] == after["mebin[erosion=1]"]
    assert before["mebin[erosion=1,range=test_set]"] != after["mebin[erosion=1,range=test_set]"]


def test_policies_over_normals_see_no_anomalous_image() -> None:
    truths, predictions = make_cell()
    changed = [
        replace(one, prediction=replace(one.prediction, anomaly_map=one.prediction.anomaly_map * (1 + 5 * case.label)))
        for one, case in zip(predictions["valid"], truths["valid"].cases, strict=True)
    ]
    before = thresholds(score(truths, predictions)[0])
    after = thresholds(score(truths, {"valid": changed, "test": predictions["test"]})[0])
    for policy in ("normal_quantile", "normal_mean_std", "otsu", "triangle", "entropy", "mebin", "oracle_dice"):
        assert before[policy] == after[policy]
    assert before["valid_dice"] != after["valid_dice"]


OF_NORMALS = {
    *("normal_quantile", "normal_mean_std", "mebin", "normal_fpr", "normal_image_fpr", "conformal", "conformal_risk")
}


@pytest.mark.parametrize(
    ("valid", "left_out", "says"),
    [
        ((0, 3), OF_NORMALS, "the validation split has no normal image"),
        ((3, 0), {"valid_dice", "valid_f1"}, "the validation split has no lesion"),
        ((0, 0), {*OF_NORMALS, "valid_dice", "valid_f1"}, "the dataset has no validation image"),
    ],
)
def test_a_policy_with_nothing_to_look_at_is_a_row_that_says_so(
    valid: tuple[int, int], left_out: set[str], says: str
) -> None:
    cases, scores = score(*make_cell(valid=valid))
    assert not left_out & set(cases["policy"])
    noted = scores[(scores["note"] != "") & ~scores["note"].str.contains("cannot be promised")]
    noted = noted[noted["policy"] != "none"]
    assert set(noted["policy"]) == left_out
    assert noted["value"].isna().all()
    assert noted["note"].str.startswith(f"left out: {says}").all()


def test_own_needs_a_mask_for_every_image() -> None:
    truths, predictions = make_cell(own=False)
    cases, scores = score(truths, predictions)
    assert "own" not in set(cases["policy"])
    assert "own" not in set(scores["policy"])


@dataclass
class Drawn(Dataset):
    """Ten images of some shapes in the validation and in the test split, the last six with a lesion each."""

    shapes: tuple[tuple[int, int], ...]
    name = "drawn"
    card = Card("drawn", "", "", "", "", "")

    @property
    def fingerprint(self) -> str:
        return "f"

    def cases(self, split: Split) -> list[Case]:
        return [Case(f"{split}{index}", f"p{index // 2}", split, int(index >= 4), str(index)) for index in range(10)]

    def load(self, case: Case) -> Sample:
        index = int(case.image)
        height, width = self.shapes[index % len(self.shapes)]
        rng = np.random.default_rng([len(case.split), index])
        mask = np.zeros((height, width), bool)
        if case.label:
            top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
            mask[top : top + 7, left : left + 8] = True
        return Sample(np.zeros((height, width), np.uint8), mask)

    def score(
        self, change: Callable[[np.ndarray, Any], np.ndarray] = lambda values, _: values, **options: Any
    ) -> CellTables:
        """Scores random maps and masks, (S, S), which `change` may change, given where in the frame the image is."""
        config = ScoreConfig(**options)
        predictions: Predictions = {"valid": [], "test": []}
        for split, made in predictions.items():
            for index, case in enumerate(self.cases(split)):
                rectangle = image_rectangle(self.load(case).mask.shape, SIZE)
                rng = np.random.default_rng([7, len(split), index])
                anomaly_map = change((rng.random((SIZE, SIZE)) + 0.1 * index).astype(np.float32), rectangle)
                own = change(rng.random((SIZE, SIZE)) < 0.3, rectangle)
                made.append(StoredPrediction(Prediction(anomaly_map, 1.0 + index, own), 0.01))
        return score_cell(IDENTITY, load_truths(self, ("valid", "test"), SIZE, config), predictions, config, MEASURED)


UNEVEN = Drawn(((20, 36), (36, 20), (30, 30), (17, 41)))


def test_an_image_without_a_lesion_in_the_frame_is_left_out_and_noted_with_its_cause() -> None:
    class Odd(Drawn):
        def load(self, case: Case) -> Sample:
            image, mask = super().load(case)
            if case.id == "test8":
                mask[:] = False
            if case.id == "test9":
                mask[:] = False
                mask[0, 0] = True
            return Sample(image, mask)

    cases, scores, *_ = Odd(((100, 100),)).score()
    own = cases[cases["policy"] == "own"].set_index("case")
    assert own["note"].to_dict() == dict.fromkeys(own.index, "") | {
        "test8": "its mask holds no lesion: left out of DICE",
        "test9": "the lesion vanishes at this size: left out of DICE",
    }
    assert own.loc[["test8", "test9"], "dice"].isna().all()
    assert scores.loc[(scores["metric"] == "dice") & (scores["policy"] == "own"), "n"].item() == 4


def test_what_is_predicted_in_the_padding_changes_no_score() -> None:
    def spoil(values: np.ndarray, rectangle: Any) -> np.ndarray:
        spoilt = np.full_like(values, 9)
        spoilt[rectangle] = values[rectangle]
        return spoilt

    for edges in ("nearest", "paper"):
        plain, spoilt = UNEVEN.score(mask_edges=edges), UNEVEN.score(spoil, mask_edges=edges)
        for before, after in zip(plain, spoilt, strict=True):
            pd.testing.assert_frame_equal(before, after)
        counted = UNEVEN.score(spoil, mask_edges=edges, padding="count")
        for metric in ("pixel_auroc", "pixel_ap", "aupro", "best_f1"):
            assert value(counted.scores, metric) != value(plain.scores, metric)


def test_padding_is_not_part_of_an_image() -> None:
    tables = UNEVEN.score()
    own = tables.cases[tables.cases["policy"] == "own"]
    assert own["image_px"].tolist() == [SIZE * narrow for narrow in (14, 14, 24, 10) * 2 + (14, 14)]
    truths = load_truths(UNEVEN, ("test",), SIZE, ScoreConfig())["test"]
    maps, masks = [], []
    for index, (truth, rectangle) in enumerate(zip(truths.masks, truths.rectangles, strict=True)):
        rng = np.random.default_rng([7, len("test"), index])
        maps.append((rng.random((SIZE, SIZE)) + 0.1 * index).astype(np.float32)[rectangle])
        masks.append((rng.random((SIZE, SIZE)) < 0.3)[rectangle])
        assert maps[-1].shape == truth.overlap.shape
    ranked = np.concatenate([one.ravel() for one in maps])
    lesions = np.concatenate([one.overlap.ravel() for one in truths.masks])
    scores = tables.scores
    assert value(scores, "pixel_auroc") == pytest.approx(roc_auc_score(lesions, ranked))
    assert value(scores, "pixel_ap") == pytest.approx(average_precision_score(lesions, ranked))
    assert value(scores, "normal_fp_area", "own") == pytest.approx(np.mean([mask.mean() for mask in masks[:4]]))
    measured = [MaskScores(mask, lesions) for mask, lesions in zip(masks, truths.lesions, strict=True)]
    assert own["false_lesions"].tolist() == [one.false_lesions for one in measured]
    np.testing.assert_array_equal(own["hd95_px"], [one.hd95 for one in measured])
    for index, threshold in enumerate(tables.cases.loc[tables.cases["policy"] == "otsu", "threshold"]):
        assert threshold == Otsu().threshold(maps[index])


def test_policies_see_images_without_their_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[tuple[int, ...]]] = {}

    @dataclass(frozen=True)
    class Normals(NormalsPolicy):
        name = "normals"

        def threshold(self, normal_maps: Sequence[np.ndarray]) -> float:
            seen["normals"] = [one.shape for one in normal_maps]
            return 0.5

    @dataclass(frozen=True)
    class Valid(ValidationPolicy):
        name = "valid"

        def threshold(self, labelled: LabelledMaps) -> float:
            seen["valid"] = [one.shape for one in labelled.maps]
            assert seen["valid"] == [one.shape for one in labelled.truths]
            return 0.5

    monkeypatch.setattr(registry, "make_policies", lambda _: {"normals": Normals(), "valid": Valid()})
    UNEVEN.score()
    expected = [(14, 24), (24, 14), (24, 24), (10, 24)]
    assert seen["normals"] == expected
    assert seen["valid"] == [*expected, *expected, *expected[:2]]
    UNEVEN.score(padding="count")
    assert set(seen["normals"] + seen["valid"]) == {(SIZE, SIZE)}


def test_square_images_have_no_padding_to_leave_out() -> None:
    square = Drawn(((24, 24), (30, 30), (17, 17)))
    left_out, counted = (square.score(padding=padding) for padding in ("exclude", "count"))
    for one, other in zip(left_out, counted, strict=True):
        kept = [column for column in one if column != "convention"]
        pd.testing.assert_frame_equal(one[kept], other[kept])


COUNTED = {  # as version 0.1.0 scored the same
    "none pixel_auroc": 0.6399651109964317,
    "none pixel_ap": 0.04221595099168988,
    "none aupro": 0.2371012244231847,
    "none best_f1": 0.07866184448462929,
    "normal_quantile dice": 0.07137173623888592,
    "normal_quantile precision": 0.04143246378668819,
    "normal_quantile hd95_px": 15.793076038360596,
    "normal_quantile assd_px": 7.7666476704877665,
    "normal_quantile false_lesions": 15.0,
    "normal_quantile normal_fp_area": 0.012152777777777778,
    "normal_quantile dice_large": 0.07137173623888592,
    "normal_quantile dice_pooled": 0.07171314741035857,
    "normal_quantile dice_valid": 0.060233418302017595,
    "valid_f1 dice": 0.08742285515369179,
    "valid_f1 precision": 0.04723193634821665,
    "valid_f1 hd95_px": 16.187586148579914,
    "valid_f1 assd_px": 8.159718993508669,
    "valid_f1 false_lesions": 15.9,
    "valid_f1 normal_fp_area": 0.16059027777777776,
    "valid_f1 dice_large": 0.08742285515369179,
    "valid_f1 dice_pooled": 0.07502679528403002,
    "valid_f1 dice_valid": 0.07969531717676531,
    "otsu dice": 0.08613942079654667,
    "otsu precision": 0.0473281110013091,
    "otsu hd95_px": 15.949636459350586,
    "otsu assd_px": 7.943897126337145,
    "otsu false_lesions": 6.4,
    "otsu normal_fp_area": 0.48828125,
    "otsu dice_large": 0.08613942079654667,
    "otsu dice_pooled": 0.053763440860215055,
    "otsu dice_valid": 0.06527089060067927,
    "own dice": 0.10138553816565889,
    "own false_lesions": 32.3,
    "own normal_fp_area": 0.3198784722222222,
    "normal_mean_std recall": 0.1252777777777778,
    "fixed dice": 0.07324561182718582,
    "oracle_dice dice": 0.09236658052024634,
}


def test_padding_that_counts_gives_the_numbers_of_before() -> None:
    scores = UNEVEN.score(padding="count", fixed_threshold=1.25).scores
    found = {f"{row['policy']} {row['metric']}": row["value"] for _, row in scores.iterrows()}
    assert {name: found[name] for name in COUNTED} == pytest.approx(COUNTED, rel=1e-14)


def test_every_row_names_its_convention() -> None:
    for edges, padding in product(("nearest", "paper"), ("exclude", "count")):
        _, scores, curves, _ = UNEVEN.score(mask_edges=edges, padding=padding)
        told = scores.set_index(["policy", "metric"])["convention"]
        pixels = told[told.index.get_level_values("metric").isin([one.name for one in metrics_of("mask", "map")])]
        inside = pixels.str.contains("foreground: all")
        assert set(pixels[inside].index.get_level_values("metric")) >= {"normal_fpr", "normal_image_fpr"}
        assert pixels[inside].str.contains("padding left out").all(), "it is never foreground"
        assert pixels[~inside].str.contains("padding left out" if padding == "exclude" else "padding counted").all()
        assert pixels.str.contains("masks by nearest pixel centre").all() == (edges == "nearest")
        of_curves = ["pixel_auroc", "pixel_ap", "aupro", "aupimo", "sensitivity_at_fpr", *OF_FOREGROUND]
        ranked = pixels.index.get_level_values("metric").isin(of_curves)
        assert (pixels.str.contains("grey edges are normal") == (ranked & (edges == "paper"))).all()
        assert (pixels.str.contains("grey edges are lesion") == (~ranked & (edges == "paper"))).all()
        assert (curves["convention"] != "").all()
        assert curves["convention"].str.contains("lesion for dice and dice_pooled").all() == (edges == "paper")
        assert "0.99 quantile of normal validation pixels, the next higher" in told["normal_quantile", "dice"]
        assert "the larger of the two directions' 95th percentiles" in told["own", "hd95_px"]
        assert "both surfaces pooled" in told["own", "assd_px"]
        assert "patients that have a value" in told["own", "dice"]


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
        mask, row = one.prediction.mask, own.loc[case.id].to_dict()
        assert mask is not None
        measured = MaskScores(mask, Lesions(truth.overlap))
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
        row, anomaly_map = own.loc[case.id].to_dict(), one.prediction.anomaly_map
        if not case.label:
            assert all(np.isnan(row[metric]) for metric in ("pixel_auroc", "pixel_ap", "aupro", "best_dice"))
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
        if len(rows["threshold"].dropna().unique()) != 1:  # own masks have none, and others one for each image
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
    cases, scores, curves, _ = score_cell(IDENTITY, truths, predictions, ScoreConfig(), MEASURED)
    assert list(curves) == list(CURVES)
    test = curves[curves["split"] == "test"]
    assert set(curves["split"]) == {"valid", "test"}
    assert test["threshold"].is_monotonic_decreasing
    for rate in ("true_positive_rate", "false_positive_rate", "normal_fpr", "region_overlap"):
        assert test[rate].is_monotonic_increasing
    for policy in ("normal_quantile", "valid_dice", "valid_f1", "oracle_dice"):
        threshold = cases.loc[cases["policy"] == policy, "threshold"].iloc[0]
        point = test[test["threshold"] == threshold].iloc[0]
        assert point["dice"] == pytest.approx(value(scores, "dice", policy))
        assert point["dice_pooled"] == pytest.approx(value(scores, "dice_pooled", policy))
        assert point["normal_fpr"] == pytest.approx(value(scores, "normal_fpr", policy))
    assert test["dice"].max() == pytest.approx(value(scores, "dice", "oracle_dice"))


def tenths(split: Split) -> tuple[SplitTruths, list[StoredPrediction]]:
    """Maps of 0.0, 0.1, 0.2 and so on, as float32 has them."""
    truths, predictions = make_split(split, 3, 4, len(split), own=False)
    maps = [(np.floor(one.prediction.anomaly_map * 7) / 10).astype(np.float32) for one in predictions]
    return truths, [
        replace(one, prediction=replace(one.prediction, anomaly_map=anomaly_map))
        for one, anomaly_map in zip(predictions, maps, strict=True)
    ]


def mean_dice(
    truths: SplitTruths, predictions: Sequence[StoredPrediction], reaches: Callable[[np.ndarray], np.ndarray]
) -> float:
    """Of the images with a lesion."""
    dice = [
        Overlap.of(reaches(one.prediction.anomaly_map), truth.overlap).dice
        for one, truth in zip(predictions, truths.masks, strict=True)
    ]
    return float(np.nanmean(dice))


def assert_one_threshold(tables: CellTables) -> None:
    """The same DICE wherever it stands, at every threshold that holds for all images."""
    test = tables.curves[tables.curves["split"] == "test"].set_index("threshold")
    valid = tables.curves[tables.curves["split"] == "valid"].set_index("threshold")
    chosen = tables.scores[tables.scores["threshold"].notna() & np.isfinite(tables.scores["threshold"])]
    for policy, rows in chosen.groupby("policy"):
        (threshold,) = rows["threshold"].unique()
        assert threshold == np.float32(threshold)
        of_cases = tables.cases[tables.cases["policy"] == policy]
        assert of_cases["threshold"].eq(threshold).all()
        scores = rows.set_index("metric")["value"]
        assert scores["dice"] == pytest.approx(of_cases["dice"].mean())
        assert scores["dice"] == pytest.approx(test.loc[threshold, "dice"])
        assert scores["dice_pooled"] == pytest.approx(test.loc[threshold, "dice_pooled"])
        assert scores["dice_valid"] == pytest.approx(valid.loc[threshold, "dice"])


@pytest.mark.parametrize("pixels", ["exact", "binned"])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6, 0.7, 0.9])
def test_a_threshold_that_float32_cannot_hold_means_the_same_everywhere(
    threshold: float, pixels: Literal["exact", "binned"]
) -> None:
    (valid, of_valid), (test, of_test) = tenths("valid"), tenths("test")
    truths: Truths = {"valid": valid, "test": test}
    predictions: Predictions = {"valid": of_valid, "test": of_test}
    tables = score_cell(IDENTITY, truths, predictions, ScoreConfig(fixed_threshold=threshold, pixels=pixels), MEASURED)
    assert_one_threshold(tables)

    def reaches(anomaly_map: np.ndarray) -> np.ndarray:
        return anomaly_map.astype(np.float64) >= np.float64(threshold)

    assert value(tables.scores, "dice", "fixed") == pytest.approx(mean_dice(test, of_test, reaches))
    assert value(tables.scores, "dice_valid", "fixed") == pytest.approx(mean_dice(valid, of_valid, reaches))


@dataclass(frozen=True)
class Grid(ValidationPolicy):
    """The best of a grid that float32 cannot hold."""

    name = "grid"

    def threshold(self, labelled: LabelledMaps) -> float:
        grid = np.linspace(0, 1, 11)
        return float(grid[labelled.dice_at(grid).argmax()])


@pytest.mark.parametrize("pixels", ["exact", "binned"])
@pytest.mark.parametrize("edges", ["nearest", "paper"])
@pytest.mark.parametrize("padding", ["exclude", "count"])
def test_scores_and_curves_agree_at_every_policys_threshold(
    monkeypatch: pytest.MonkeyPatch, pixels: str, edges: str, padding: str
) -> None:
    made = registry.make_policies() | {"grid": Grid()}
    monkeypatch.setattr(registry, "make_policies", lambda _: made)

    def of_kind(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, Any], np.ndarray]:
        return lambda values, _: values if values.dtype == bool else change(values).astype(np.float32)

    for change in (
        of_kind(lambda values: np.floor(values * 9) / 10),
        of_kind(lambda values: values.astype(np.float16)),
        of_kind(lambda values: np.floor(values * 9) * np.float32(1e-45)),
    ):
        options = {"pixels": pixels, "mask_edges": edges, "padding": padding, "fixed_threshold": 0.7}
        tables = UNEVEN.score(change, **options)
        assert set(tables.cases["policy"]) > {"grid", "normal_mean_std", "fixed"}
        assert_one_threshold(tables)
        best = value(tables.scores, "best_f1")
        pooled = tables.scores[(tables.scores["metric"] == "dice_pooled") & tables.scores["threshold"].notna()]
        assert (pooled["value"] <= best + 1e-12).all(), "none is better than the best of all thresholds"


@pytest.mark.parametrize(
    ("threshold", "share"),
    [(1e39, 0.0), (-1e39, 1.0), (float("inf"), 0.0), (float("-inf"), 1.0), (5e-324, 0.5), (-5e-324, 1.0)],
)
def test_thresholds_beyond_what_float32_holds_keep_their_meaning(
    monkeypatch: pytest.MonkeyPatch, threshold: float, share: float
) -> None:
    @dataclass(frozen=True)
    class Extreme(ImagePolicy):
        name = "extreme"

        def threshold(self, anomaly_map: np.ndarray) -> float:
            return threshold

    def zeros_and_ones(values: np.ndarray, _: Any) -> np.ndarray:
        return values if values.dtype == bool else (np.indices(values.shape).sum(0) % 2).astype(np.float32)

    monkeypatch.setattr(registry, "make_policies", lambda _: {"extreme": Extreme()})
    cases = Drawn(((24, 24),)).score(zeros_and_ones).cases
    extreme = cases[cases["policy"] == "extreme"]
    np.testing.assert_array_equal(extreme["predicted_px"] / extreme["image_px"], share)


def test_binned_pixels_state_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_scores, "BINNED_VALUES", 600)
    truths, predictions = make_cell()
    _, exact = score(truths, predictions, thresholds=["valid_dice"])
    _, binned = score(truths, predictions, pixels="binned", thresholds=["valid_dice"])
    assert (exact.loc[exact["metric"] != "aupimo", "note"] == "").all()
    for metric in ("pixel_auroc", "pixel_ap", "aupro", "best_f1"):
        note = binned.loc[binned["metric"] == metric, "note"].item()
        bound = float(note.removeprefix("binned: exact to "))
        assert 0 < bound < 0.05
        assert abs(value(binned, metric) - value(exact, metric)) <= 1.06 * bound, "the note has two digits"
    monkeypatch.setattr(cell_scores, "EXACT_PIXELS", 100)
    pd.testing.assert_frame_equal(score(truths, predictions, thresholds=["valid_dice"])[1], binned)


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
    monkeypatch.setattr(registry, "make_policies", lambda _: made)
    truths, predictions = make_cell()
    cases, scores = score(truths, predictions)
    pd.testing.assert_frame_equal(cases[cases["policy"] != "recall"].reset_index(drop=True), before)
    values = [
        one.prediction.anomaly_map[truth.overlap]
        for one, truth in zip(predictions["valid"], truths["valid"].masks, strict=True)
    ]
    assert cases.loc[cases["policy"] == "recall", "threshold"].eq(np.concatenate(values).min()).all()
    notes = scores[(scores["note"] != "") & (scores["policy"] != "none")].set_index("policy")["note"].to_dict()
    assert all("cannot be promised" in notes.pop(policy) for policy in ("conformal", "conformal_risk"))
    assert notes == {
        "fragile": "left out: ZeroDivisionError: division by zero",
        "blank": "left out: ValueError: it chose NaN as a threshold",
        "broken": "left out: it is broken",
    }


def test_budgets_and_matches_are_scored_over_patients() -> None:
    truths, predictions = make_cell()
    cases, scores = score(truths, predictions)
    own = cases[cases["policy"] == "own"]
    assert own.loc[own["label"] == 0, "aupimo"].isna().all()
    assert value(scores, "aupimo") == own["aupimo"].mean()
    for policy, metric in (("none", "aupimo"), ("none", "sensitivity_at_fpr"), ("oracle_dice", "lesion_f1")):
        row = scores[(scores["policy"] == policy) & (scores["metric"] == metric)].iloc[0]
        assert row["ci_low"] < row["value"] < row["ci_high"], metric
    normal = np.concatenate([one.prediction.anomaly_map.ravel() for one in predictions["test"][:4]])
    threshold = np.sort(normal)[::-1][len(normal) // 100]
    lesions = np.concatenate(
        [
            one.prediction.anomaly_map[truth.overlap]
            for one, truth in zip(predictions["test"], truths["test"].masks, strict=True)
        ]
    )
    assert value(scores, "sensitivity_at_fpr") == np.mean(lesions > threshold)
    assert "allow no pixel" in scores.loc[scores["metric"] == "aupimo", "note"].item()


def test_without_normal_test_images_there_are_no_budgets() -> None:
    truths, predictions = make_cell()
    sick = truths["test"].of([case.id for case in truths["test"].cases if case.label])
    _, scores = score({**truths, "test": sick}, {**predictions, "test": predictions["test"][4:]})
    for metric in ("aupimo", "sensitivity_at_fpr"):
        assert np.isnan(value(scores, metric))
        note = scores.loc[scores["metric"] == metric, "note"].item()
        assert note == "left out: the test split has no normal image"


@pytest.mark.parametrize("valid", [(3, 0), (0, 3), (0, 0)])
def test_image_scores_are_calibrated_on_both_labels_of_the_validation_split_or_not_at_all(
    valid: tuple[int, int],
) -> None:
    calibrated = scores_of_images(make_cell())
    assert calibrated["value"].between(0, 1).all()
    brier = calibrated.loc["image_brier"].to_dict()
    assert brier["ci_low"] < brier["value"] < brier["ci_high"]
    left_out = scores_of_images(make_cell(valid=valid))
    assert left_out["value"].isna().all()
    assert left_out["note"].str.contains("needs both labels in the validation split").all()


def scores_of_images(cell: tuple[Truths, Predictions]) -> pd.DataFrame:
    _, scores = score(*cell)
    return scores[scores["metric"].isin(["image_brier", "image_ece"])].set_index("metric")


def test_the_labels_of_the_test_split_do_not_change_the_map_of_image_scores() -> None:
    truths, predictions = make_cell()
    slope, intercept = platt_map(
        np.array([one.prediction.image_score for one in predictions["valid"]]), truths["valid"].labels == 1
    )
    said = expit(slope * np.array([one.prediction.image_score for one in predictions["test"]]) + intercept)
    _, scores = score(truths, predictions)
    assert value(scores, "image_brier") == np.mean((said - truths["test"].labels) ** 2)
