"""Records and tables that were changed by hand: a sentence, and the same command goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import miasbench
from miasbench.harness.cli import main
from miasbench.results.files import ResultsError
from miasbench.results.store import RunStore

from ...support.running import TINY_RUN

Bench = Callable[..., tuple[int, str]]


@pytest.fixture
def bench(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs a command on a copy of the run; gives its exit code and what it said of errors."""
    shutil.copytree(measured, tmp_path / "results")

    def command(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--results", str(tmp_path / "results")])
        return int(end.value.code or 0), capsys.readouterr().err

    return command


def change(folder: Path, **entries: Any) -> None:
    path = folder / "results" / "it" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize("entries", [{"tables": "x"}, {"cells": "x"}, {"environment": None}, {"datasets": []}])
def test_a_damaged_record_is_a_sentence_and_the_same_command_goes_on(
    bench: Bench, tmp_path: Path, entries: dict[str, Any]
) -> None:
    change(tmp_path, **entries)
    for command in ("show", "thresholds", "verify", "score"):
        code, said = bench(command, "it")
        assert code == 2 and "run.json is damaged" in said, command
        assert "The same bench run command writes it again" in " ".join(said.split())
    assert bench(*TINY_RUN, "--name", "it") == (0, "")
    assert bench("verify", "it")[0] == 0


def test_a_cell_of_another_method_gives_way_to_the_one_of_its_name(bench: Bench, tmp_path: Path) -> None:
    cells = json.loads((tmp_path / "results" / "it" / "run.json").read_text())["cells"]
    change(tmp_path, cells=[cells[0] | {"method": "patchcore"}])
    assert bench("verify", "it")[0] != 0
    assert bench(*TINY_RUN, "--name", "it") == (0, "")
    assert [cell.method for cell in RunStore(tmp_path / "results" / "it").read().cells] == ["intensity"]
    assert bench("verify", "it")[0] == 0


def test_a_dataset_that_is_not_listed_is_named(bench: Bench, tmp_path: Path) -> None:
    change(tmp_path, datasets={}, environment={})
    for arguments in (("export", "it", "--out", str(tmp_path / "out")), ("score", "it")):
        code, said = bench(*arguments)
        assert code == 2 and "does not list the dataset phantom_brain_mri" in " ".join(said.split()), arguments
    with pytest.raises(miasbench.DataError, match="does not list the dataset"):
        miasbench.open_run(tmp_path / "results" / "it").predictions(method="intensity")


def test_a_table_that_was_cut_is_not_shown_as_thresholds(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "results" / "it" / "scores.parquet"
    scores = pd.read_parquet(path)
    scores.iloc[: len(scores) // 2].to_parquet(path)
    code, said = bench("thresholds", "it", "--out", str(tmp_path / "out"))
    assert code == 2 and "scores.parquet of it is not what the run wrote" in " ".join(said.split())
    assert bench("score", "it")[0] == 0
    assert bench("thresholds", "it", "--out", str(tmp_path / "out"))[0] == 0


def test_a_run_without_cells_makes_no_baseline(bench: Bench, tmp_path: Path) -> None:
    change(tmp_path, cells=[])
    code, said = bench("baseline", "it", "--out", str(tmp_path / "b.json"))
    assert code == 2 and "has no cells" in said


def test_a_table_without_a_column_is_named(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "results" / "it" / "scores.parquet"
    pd.read_parquet(path).drop(columns="policy").to_parquet(path)
    code, said = bench("show", "it")
    assert code == 2 and "it has no column policy" in " ".join(said.split())
    with pytest.raises(ResultsError, match="it has no column policy"):
        _ = miasbench.open_run(tmp_path / "results" / "it").scores
