"""Thresholds of another dataset, and of fewer validation images: from stored predictions, and never by a test mask."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from miasbench.harness.analysis.stored_cells import StoredCell, StoredRun
from miasbench.harness.analysis.threshold_shift import shifted_scores, threshold_shift
from miasbench.harness.analysis.validation_sizes import image_order, sizes_of_cell, validation_sizes
from miasbench.harness.api import UsageError
from miasbench.harness.data.frame import Truth
from miasbench.results.store import RunStore

from ...support.running import run

BRAIN = "phantom_brain_mri:train=3,valid=8,test=8,size=64"
LIVER = "phantom_liver_ct:train=3,valid=6,test=8,size=64"
POLICIES = ["normal_quantile", "normal_quantile[q=0.9]", "valid_dice", "valid_f1", "otsu", "mebin", "oracle_dice"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    results = tmp_path_factory.mktemp("study") / "results"
    score = {"thresholds": POLICIES, "fixed_threshold": 30.0}
    return run(results, "intensity", "intensity[sigma=2]", dataset=[BRAIN, LIVER], size=64, score=score)[0]


@pytest.fixture(scope="module")
def stored(store: RunStore) -> StoredRun:
    return StoredRun(store)


def cell_of(stored: StoredRun, dataset: str) -> StoredCell:
    return stored.open(stored.cells[dataset][0])


def recorded(store: RunStore, metric: str) -> pd.Series:
    scores = store.scores()
    return scores[scores["metric"] == metric].set_index(["dataset", "method", "policy"])["value"]


def test_thresholds_of_the_dataset_itself_give_the_scores_of_the_run(store: RunStore, stored: StoredRun) -> None:
    rows = pd.DataFrame(shifted_scores(cell_of(stored, BRAIN), cell_of(stored, BRAIN))).set_index("policy")
    assert set(rows.index) == {*POLICIES, "fixed"} - {"oracle_dice"}
    told = recorded(store, "dice").loc[BRAIN, "intensity"]
    for column in ("dice_own", "dice_other"):
        np.testing.assert_array_equal(rows[column], told[rows.index])
    assert (rows["difference"] == 0).all()
    thresholds = (
        store.cases().query("dataset == @BRAIN and method == 'intensity'").groupby("policy")["threshold"].first()
    )
    one_for_all = ["normal_quantile", "normal_quantile[q=0.9]", "valid_dice", "valid_f1", "fixed"]
    np.testing.assert_array_equal(rows.loc[one_for_all, "threshold_other"], thresholds[one_for_all])


def test_the_thresholds_of_another_dataset_are_those_that_the_run_chose_there(
    store: RunStore, stored: StoredRun
) -> None:
    shift = threshold_shift(stored, LIVER)
    assert shift["dataset"].unique().tolist() == [BRAIN]
    chosen, rows = store.scores(), shift.set_index(["method", "policy"])
    chosen = chosen[(chosen["dataset"] == LIVER) & (chosen["metric"] == "dice")]
    expected = chosen.set_index(["method", "policy"])["threshold"].dropna().drop("oracle_dice", level="policy")
    np.testing.assert_array_equal(rows.loc[expected.index, "threshold_other"], expected)
    cases, stored_brain = store.cases(), cell_of(stored, BRAIN)
    own = cases[(cases["dataset"] == BRAIN) & (cases["method"] == "intensity") & (cases["policy"] == "valid_dice")]
    row, normal = rows.xs(("intensity", "valid_dice")).to_dict(), own[own["label"] == 0]
    assert row["fpr_own"] == pytest.approx(normal["predicted_foreground_px"].sum() / normal["foreground_px"].sum())
    masks = [one.prediction.anomaly_map >= row["threshold_other"] for one in stored_brain.predictions["test"]]
    truths = [truth.overlap for truth in stored_brain.truths["test"].masks]
    dice = [
        2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        for mask, truth in zip(masks, truths, strict=True)
        if truth.any()
    ]
    assert row["dice_other"] == pytest.approx(np.mean(dice))
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]


def test_policies_that_look_at_no_other_images_say_that_they_are_unchanged(stored: StoredRun) -> None:
    rows = threshold_shift(stored, LIVER).drop_duplicates("policy").set_index("policy")
    unchanged = rows[rows["note"].str.startswith("unchanged")]
    assert set(unchanged.index) == {"otsu", "fixed"}
    assert (unchanged["difference"] == 0).all()
    assert "oracle_dice" not in rows.index


def with_other_masks(cell: StoredCell, split: Any) -> StoredCell:
    """The cell with the masks of a split mirrored, so that every choice by them would be another."""
    truths = cell.truths[split]
    masks = [Truth(one.overlap[:, ::-1].copy(), one.ranking[:, ::-1].copy()) for one in truths.masks]
    return replace(cell, truths={**cell.truths, split: replace(truths, masks=masks)})


def test_no_test_mask_chooses_a_threshold(stored: StoredRun) -> None:
    brain, liver = cell_of(stored, BRAIN), cell_of(stored, LIVER)
    thresholds = ["threshold_own", "threshold_other"]
    before, after, moved = (
        pd.DataFrame(shifted_scores(*cells)).set_index("policy")
        for cells in (
            (liver, brain),
            (with_other_masks(liver, "test"), with_other_masks(brain, "test")),
            (with_other_masks(liver, "valid"), brain),
        )
    )
    pd.testing.assert_frame_equal(before[thresholds], after[thresholds])
    assert (before["dice_other"] != after["dice_other"]).any(), "they do measure"
    chosen = [rows["threshold_other"].to_dict()["valid_dice"] for rows in (before, moved)]
    assert chosen[0] != chosen[1], "a validation mask does choose"


def test_what_cannot_be_shifted_is_said_in_one_sentence(store: RunStore, stored: StoredRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--threshold-from liver: the run .* Known: phantom"):
        threshold_shift(stored, "liver")
    alone = run(tmp_path, "intensity", dataset=[LIVER], size=64)[0]
    with pytest.raises(UsageError, match="no other dataset"):
        threshold_shift(StoredRun(alone), LIVER)
    without = run(tmp_path / "other", "intensity", dataset=[LIVER], size=64, maps="none")[0]
    with pytest.raises(UsageError, match="--maps none"):
        StoredRun(without)


def test_all_validation_images_give_the_thresholds_of_the_run(store: RunStore, stored: StoredRun) -> None:
    rows = validation_sizes(stored, [2, 3, 100], draws=3)
    whole = rows[rows["images"] == rows["of_images"]].set_index(["dataset", "method", "policy"])
    assert set(whole["images"]) == {8, 6}
    assert set(whole.index.get_level_values("policy")) == {
        "normal_quantile",
        "normal_quantile[q=0.9]",
        "valid_dice",
        "valid_f1",
    }
    np.testing.assert_allclose(whole["dice_mean"], recorded(store, "dice")[whole.index], rtol=1e-12)
    assert set(rows["images"]) == {2, 3, 6, 8}, "what leaves out no image is not drawn"


def test_a_seed_repeats_its_draws_and_another_has_others(stored: StoredRun) -> None:
    cell = cell_of(stored, BRAIN)
    one, again, other = (pd.DataFrame(sizes_of_cell(cell, [3], draws=4, seed=seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)


def test_test_masks_measure_a_threshold_of_fewer_images_and_choose_none(stored: StoredRun) -> None:
    cell = cell_of(stored, BRAIN)
    mirrored = with_other_masks(cell, "test")
    found = pd.DataFrame(sizes_of_cell(mirrored, [], draws=1)).set_index("policy")
    chosen_without_test = np.array([cell.scan("valid").best_dice()[0]])
    assert found.loc["valid_dice", "dice_mean"] == mirrored.scan("test").dice_at(chosen_without_test)[0]
    assert found.loc["valid_dice", "dice_mean"] != cell.scan("test").dice_at(chosen_without_test)[0]


def test_draws_without_a_lesion_are_counted_and_not_measured(stored: StoredRun) -> None:
    rows = sizes_of_cell(cell_of(stored, BRAIN), [1], draws=12)
    chose = {(row["images"], row["policy"]): row["chose"] for row in rows}
    assert chose[1, "valid_dice"] + chose[1, "normal_quantile"] == 12, "one image is one or the other"
    assert 0 < chose[1, "valid_dice"] < 12
    assert {row["draws"] for row in rows if row["images"] == 8} == {1}


@pytest.mark.parametrize("patients", [["a", "a", "b", "b", "b", "c"], ["a"] * 5, list("abcdef")])
def test_images_of_a_patient_come_together_in_a_draw(patients: Sequence[str]) -> None:
    orders = [image_order(patients, np.random.default_rng(seed)) for seed in range(20)]
    for order in orders:
        assert sorted(order) == list(range(len(patients)))
        named = [patients[index] for index in order]
        assert sum(one != other for one, other in pairwise(named)) == len(set(patients)) - 1
    assert len(set(map(tuple, orders))) > 1
