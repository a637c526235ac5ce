"""How far a threshold depends on the patients of the validation split."""

from typing import Any

import numpy as np
import pytest

import miasbench
from miasbench.harness.scoring.cross_validation import FOLDS, over_folds
from miasbench.harness.scoring.policies import ValidDice

from .test_policies import Labelled, mean_dice


def split(patients: int, seed: int = 0) -> tuple[Labelled, list[str]]:
    """Two anomalous images and a normal one of each patient."""
    rng = np.random.default_rng(seed)
    truths = [(rng.random((8, 9)) < 0.3) & (index % 3 > 0) for index in range(3 * patients)]
    maps = [(rng.random((8, 9)) + 0.7 * truth).astype(np.float32) for truth in truths]
    return Labelled(maps, truths), [f"p{index // 3:02}" for index in range(3 * patients)]


@pytest.mark.parametrize("patients", [2, 4, 5, 7])
def test_each_fold_is_judged_by_the_threshold_of_the_others(patients: int) -> None:
    labelled, owners = split(patients)
    found = over_folds(labelled, owners, None)
    folds = min(FOLDS, patients)
    for fold in range(folds):
        held = [index for index, owner in enumerate(owners) if int(owner[1:]) % folds == fold]
        rest = [index for index in range(len(owners)) if index not in held]
        threshold = ValidDice().threshold(Labelled(*pick(labelled, rest)))
        assert found.thresholds[fold] == threshold
        assert found.dice[fold] == pytest.approx(mean_dice(threshold, *pick(labelled, held)))
    assert found.images.sum() == 2 * patients
    assert found.mean_dice == pytest.approx(np.average(found.dice, weights=found.images))


def pick(labelled: Labelled, places: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [labelled.maps[place] for place in places], [labelled.truths[place] for place in places]


def test_one_patient_has_no_folds() -> None:
    labelled, owners = split(1)
    found = over_folds(labelled, owners, None)
    assert len(found.thresholds) == 0
    assert np.isnan(found.mean_dice)


def rows(count: int) -> Any:
    valid, _ = split(count)
    test, _ = split(2, seed=1)
    given = {"valid_maps": valid.maps, "valid_truths": valid.truths, "thresholds": "valid_dice"}
    scores = miasbench.score(test.maps, test.truths, **given)  # each validation image is of another patient
    return scores.set_index("metric")


def test_the_spread_stands_beside_the_choice() -> None:
    found = rows(3)
    assert found.loc[["dice_cv", "dice_cv_std", "threshold_cv_std"], "value"].notna().all()
    assert found.loc["dice_cv", "value"] <= found.loc["dice_valid", "value"] + 1e-12, "which has seen these images"
    assert found.loc["threshold_cv_std", "n"] == FOLDS
