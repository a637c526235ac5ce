"""Scores that are made again in processes: the same as in this one, whatever happens to a process."""

from pathlib import Path

import pandas as pd
import psutil
import pytest

from miasbench.harness.config import ScoreConfig
from miasbench.harness.running.rescoring import rescore
from miasbench.results.files import ResultsError
from miasbench.results.store import RunStore

from ...support.running import assert_equal_runs, run

pytestmark = pytest.mark.slow

METHODS = ("intensity[sigma=0]", "intensity", "intensity[sigma=1]")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return run(tmp_path / "one", *METHODS, score={"thresholds": ["otsu"]})[0]


def test_processes_give_the_scores_of_one_process_in_its_order(store: RunStore, tmp_path: Path) -> None:
    other, _ = run(tmp_path / "other", *METHODS, score={"thresholds": ["otsu"]})
    told: list[tuple[str, str]] = []
    score = ScoreConfig.model_validate({"thresholds": ["valid_dice", "otsu"]})
    rescore(store, score, lambda cell, stage, done, total: told.append((cell, stage)), workers=2)
    rescore(other, score, workers=1)
    assert_equal_runs(store, other)
    pd.testing.assert_frame_equal(store.ranks(), other.ranks())
    assert [stage for _, stage in told].count("finished") == len(METHODS)


def test_a_process_that_dies_leaves_its_cell_as_it_was_and_the_others_are_scored(store: RunStore) -> None:
    before = {cell.name: store.cell(cell.name).read_tables().scores for cell in store.read().cells}
    killed: list[str] = []

    def kill(cell: str, stage: str, done: int, total: int) -> None:
        if not killed:
            killed.append(cell)
            for server in psutil.Process().children():
                for one in server.children():
                    one.kill()

    score = ScoreConfig.model_validate({"thresholds": ["valid_dice"]})
    with pytest.raises(ResultsError, match=r"The process that scored .* was killed \(SIGKILL\)") as told:
        rescore(store, score, kill, workers=2)
    assert "--workers 1" in str(told.value)
    now = {name: store.cell(name).read_tables().scores for name in before}
    changed = [name for name, rows in now.items() if not rows.equals(before[name])]
    assert len(changed) >= 1, "the third cell was still to come"
    assert store.read().config.score.thresholds == ["otsu"], "the run is not said to be scored anew"
    rescore(store, score, workers=1)
    assert set(store.scores()["policy"]) == {"none", "valid_dice"}


def test_a_damaged_prediction_is_told_by_the_process_that_reads_it(store: RunStore) -> None:
    broken = next((store.folder / "cells").glob("*/test/*.npz"))
    broken.write_bytes(b"nothing")
    with pytest.raises(ResultsError, match="cannot be read"):
        rescore(store, workers=2)
