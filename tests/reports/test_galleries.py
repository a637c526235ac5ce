from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from miasbench.harness.analysis.case_images import Framed
from miasbench.harness.api import Prediction
from miasbench.reports.galleries import chosen_cases, galleries, picture
from miasbench.reports.style import COLUMN
from miasbench.results.predictions import StoredPrediction
from miasbench.results.store import RunStore

SIZE = 32
DICE = {"a": 0.4, "b": 0.9, "c": 0.1, "d": 0.4, "e": float("nan")}
GREEN, ORANGE = (0, 158, 115), (230, 159, 0)


def cases(policy: str = "own", **values: Any) -> pd.DataFrame:
    named = {"run": "one", "dataset": "liver", "method": "sam", "seed": 0, "cell": "cell", "policy": policy}
    named |= {"external": "", "seen": "", "transductive": False}
    rows = [named | {"threshold": 0.5, "case": case, "dice": dice} | values for case, dice in DICE.items()]
    return pd.DataFrame(rows)


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "one")
    anomaly_map = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[4:12, 4:12] = True
    for case in DICE:
        prediction = Prediction(anomaly_map, 1.0, mask, prompts=((8.0, 8.0), (2.0, 2.0, 14.0, 14.0)))
        store.cell("cell").write_prediction("test", case, StoredPrediction(prediction, 0.1), "float32")
    return store


def read(case: str) -> Framed:
    assert not np.isnan(DICE[case]), "a case without a lesion is not shown"
    truth = np.zeros((SIZE, SIZE), bool)
    truth[16:30, 16:30] = True
    return Framed(np.full((SIZE, SIZE), 90, np.uint8), truth, np.ones((SIZE, SIZE), bool))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def has(colour: tuple[int, int, int], shown: np.ndarray) -> bool:
    return bool((np.abs(shown - colour).max(axis=2) < 6).any())


def test_cases_are_chosen_by_their_rank_and_equal_ones_by_their_ids() -> None:
    chosen = chosen_cases(cases().sample(frac=1, random_state=3))
    assert {rule: row["case"] for rule, row in chosen.items()} == {"best": "b", "median": "a", "worst": "c"}
    odd = cases()
    odd.loc[odd["case"] == "b", "dice"] = float("nan")
    assert [row["case"] for row in chosen_cases(odd).values()] == ["a", "d", "c"]
    assert chosen_cases(cases(dice=float("nan"))) == {}


def test_a_mask_is_shown_where_it_was_scored(run: RunStore) -> None:
    def upper_half(case: str) -> Framed:
        return read(case)._replace(scored=np.arange(SIZE)[:, None] < np.full(SIZE, 8))

    for policy, whole in (("own", 64), ("otsu", SIZE * SIZE // 2)):
        row = cases(policy).iloc[0].to_dict()
        assert picture("", row, run, read).mask.sum() == whole
        shown = picture("", row, run, upper_half).mask
        assert shown.sum() == (32 if policy == "own" else 0)
        assert not shown[8:].any()


def test_truth_mask_and_prompts_are_drawn_at_the_width_of_a_column(run: RunStore, tmp_path: Path) -> None:
    files, missing = galleries(cases(), {"one": run}, {("one", "liver"): read}, tmp_path)
    assert [file.name for file in files] == ["gallery_liver@sam.pdf", "gallery_liver@sam.png"]
    assert missing == []
    shown = pixels(files[1])
    assert shown.shape[1] == round(COLUMN * 300)
    truth, anomaly_map, mask = (shown[80:, round(300 * (0.4 + 0.75 * column)) :][:, :220] for column in (1, 2, 3))
    assert has(GREEN, truth)
    assert not has(ORANGE, truth)
    assert has(ORANGE, mask)
    assert not has(GREEN, mask)
    assert has((255, 255, 255), anomaly_map)


def test_a_threshold_makes_the_mask_where_the_policy_has_one(run: RunStore, tmp_path: Path) -> None:
    own, _ = galleries(cases(), {"one": run}, {("one", "liver"): read}, tmp_path / "own")
    cut, _ = galleries(cases("valid_dice"), {"one": run}, {("one", "liver"): read}, tmp_path / "cut")
    low, _ = galleries(cases("valid_dice", threshold=0.1), {"one": run}, {("one", "liver"): read}, tmp_path / "low")
    drawn = [pixels(files[1]) for files in (own, cut, low)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


def test_what_cannot_be_shown_is_left_out_and_said(run: RunStore, tmp_path: Path) -> None:
    assert galleries(cases(), {"one": run}, {}, tmp_path) == ([], [])
    run.cell("cell").drop_predictions()
    files, missing = galleries(cases(), {"one": run}, {("one", "liver"): read}, tmp_path)
    assert files == []
    assert missing == ["sam on liver: its anomaly maps were not kept, or are damaged"]


def test_an_image_in_colour_is_shown_in_colour(run: RunStore, tmp_path: Path) -> None:
    def coloured(case: str) -> Framed:
        one = read(case)
        return one._replace(image=np.full((SIZE, SIZE, 3), (200, 100, 50), np.uint8))

    (_, shown), _ = galleries(cases(), {"one": run}, {("one", "liver"): coloured}, tmp_path)
    assert has((200, 100, 50), pixels(shown))
