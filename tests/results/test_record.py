"""What run.json and cell.json hold, also as version 0.1.0 wrote them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from miasbench.harness.api import Diagnostic
from miasbench.results.files import ResultsError, write_json
from miasbench.results.record import Cell, CellRecord, RunRecord
from miasbench.results.store import RunStore
from miasbench.results.tables import CASES, RANKS, SCORES, VOLUMES, table

CELL: dict[str, Any] = {
    "dataset": "brain_flair_lgg",
    "fingerprint": "1e15a8400cefe20e25c3e1ef7687ba4751da912d6f5be7206b29caba8b219c17",
    "method": "intensity",
    "options": {"sigma": 2.0},
    "weights": [],
    "seed": 0,
    "size": 128,
    "device": "cpu",
    "maps": "float32",
    "code": "0.1.0+29e1053ef1a8",
    "transductive": False,
    "name": "brain_flair_lgg-intensity-seed0-dfc872e6a0",
}
RUN: dict[str, Any] = {
    "status": "done",
    "created": "2026-11-27T17:44:08+0000",
    "config": {
        "methods": ["intensity"],
        "dataset": ["/data/brain_flair_lgg"],
        "limit": 0,
        "set": {},
        "epochs": None,
        "batch_size": None,
        "score": {"mask_edges": "nearest", "fixed_threshold": None, "pixels": "auto"},
    },
    "environment": {"command": "bench run", "threads": 1},
    "datasets": {"brain_flair_lgg": {"fingerprint": CELL["fingerprint"], "card": {"name": "x", "counts": None}}},
    "cells": [CELL],
    "finished": "2026-11-27T18:24:47+0000",
}
END: dict[str, Any] = {
    "fit_seconds": 112.5,
    "predict_ms": 11740.9,
    "diagnostics": [{"metric": "bank_rows", "value": 21504.0, "convention": "rows", "note": "exact"}],
    "peak_gpu_memory_mib": float("nan"),
    "status": "finished",
    "maps": "float32",
    "score": {"mask_edges": "nearest", "code": "e5f3d99caf51"},
    "finished": "2026-11-27T18:18:06+0000",
    "environment": {"threads": 1},
}


def test_a_run_of_version_0_1_is_read_with_what_it_lacks() -> None:
    record = RunRecord.model_validate(RUN)
    assert record.config.score.padding == "count", "as that version did"
    assert (record.tables, record.datasets["brain_flair_lgg"].notes) == ({}, ())
    assert record.cells[0].key.startswith("dfc872e6a0"), "the same options, images and code have the same name"
    assert json.loads(json.dumps(record.content())) == RUN, "nothing is lost or added when it is written again"


def test_a_cell_of_version_0_1_is_read_with_what_it_lacks(tmp_path: Path) -> None:
    cell = RunStore(tmp_path).cell(CELL["name"])
    write_json(cell.folder / "cell.json", END)
    record = cell.read()
    assert record is not None and record.finished_whole
    assert record.diagnostics == (Diagnostic("bank_rows", 21504.0, "rows", "exact"),)
    assert record.calibration_ms is None
    before = (cell.folder / "cell.json").read_text()
    cell.write(record)
    assert json.loads((cell.folder / "cell.json").read_text()).keys() == json.loads(before).keys()


def test_the_name_of_a_planned_cell_follows_from_all_it_depends_on() -> None:
    planned = Cell.model_validate({name: value for name, value in CELL.items() if name != "name"})
    assert planned.name == CELL["name"]
    assert planned == Cell.model_validate(CELL)
    other = Cell.model_validate({name: value for name, value in CELL.items() if name != "name"} | {"size": 64})
    assert other.name != planned.name


@pytest.mark.parametrize("entry", ["status", "config", "cells", "datasets"])
def test_a_record_without_an_entry_is_damaged_and_says_which(entry: str, tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {name: value for name, value in RUN.items() if name != entry})
    with pytest.raises(ResultsError, match=rf"run\.json is damaged \({entry}: Field required\)\. The same bench run"):
        RunStore(tmp_path).read()


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([CELL, CELL], "brain_flair_lgg-intensity-seed0-dfc872e6a0 is there twice"),
        ([CELL | {"dataset": "another"}], "another of brain_flair_lgg-.* is not among the datasets"),
    ],
)
def test_cells_that_no_run_can_have_are_damage(cells: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", RUN | {"cells": cells})
    with pytest.raises(ResultsError, match=rf"run\.json is damaged \(cells: Value error, {said}\)"):
        RunStore(tmp_path).read()


def test_a_damaged_end_of_a_cell_is_no_end(tmp_path: Path) -> None:
    cell = RunStore(tmp_path).cell("a")
    write_json(cell.folder / "cell.json", {"error": "no status"})
    assert cell.read() is None


def test_a_record_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunRecord.model_validate(RUN).status = "running"  # pyright: ignore[reportAttributeAccessIssue]
    assert CellRecord(status="failed").finished_whole is False


@pytest.mark.parametrize("content", ["NaN", "[1, 2]", '"text"', "[" * 100_000])
def test_a_record_of_another_kind_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ResultsError, match="missing or damaged"):
        RunStore(tmp_path).read()
    RunStore(tmp_path).write(RunRecord.model_validate(RUN))
    assert RunStore(tmp_path).read().cells == RunRecord.model_validate(RUN).cells


def test_a_folder_in_its_place_is_none(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ResultsError, match="missing or damaged"):
        RunStore(tmp_path).read()


def test_checksums_that_are_none_are_made_again(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    write_json(tmp_path / "run.json", RUN | {"tables": "x"})
    with pytest.raises(ResultsError, match="tables"):
        store.read()
    store.write(RunRecord.model_validate(RUN))
    store.write_tables({"ranks": table([], RANKS)})
    assert set(store.read().tables) == {"ranks.parquet", "ranks.csv"}
    assert store.changed_tables() == []


def test_a_measurement_below_0_is_damage(tmp_path: Path) -> None:
    cell = RunStore(tmp_path).cell(CELL["name"])
    write_json(cell.folder / "cell.json", END | {"predict_ms": -1.0})
    assert cell.read() is None
    write_json(cell.folder / "cell.json", END | {"predict_ms": float("nan")})
    assert cell.read() is not None


@pytest.mark.parametrize(
    ("name", "columns", "change", "said"),
    [
        ("scores", SCORES, {"drop": "policy"}, "it has no column policy"),
        ("scores", SCORES, {"text": "value"}, "the column value does not hold numbers"),
        ("cases", CASES, {"drop": "label"}, "it has no column label"),
        ("volumes", VOLUMES, {"drop": "volume"}, "it has no column volume"),
    ],
)
def test_a_table_without_its_columns_is_damage(
    tmp_path: Path, name: str, columns: dict[str, str], change: dict[str, str], said: str
) -> None:
    store, rows = RunStore(tmp_path), table([], columns)
    write_json(tmp_path / "run.json", RUN)
    if "drop" in change:
        rows = rows.drop(columns=change["drop"])
    else:
        rows[change["text"]] = pd.Series([], dtype="str")
    store.write_tables({name: rows})
    with pytest.raises(ResultsError, match=f"{said}. bench score makes it again"):
        getattr(store, name)()


@pytest.mark.parametrize("environment", [{"plugins": "x"}, {"plugins": {"a": "x"}}, {"packages": []}, {"threads": "2"}])
def test_an_environment_of_other_kinds_is_damage(environment: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", RUN | {"environment": environment})
    with pytest.raises(ResultsError, match=r"run.json is damaged .environment: .* is not of its kind"):
        RunStore(tmp_path).read()
