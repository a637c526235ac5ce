from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from miasbench.results import files
from miasbench.results.damage import known_columns
from miasbench.results.files import ResultsError, checksum_of, read_parquet
from miasbench.results.tables import CASES, COLUMNS, CURVES, RANKS, SCORES, VOLUMES, table

BLANK = {"str": "", "int64": 0, "float64": float("nan"), "bool": False, "object": [0.5, None]}
ALL = COLUMNS | {"ranks": RANKS}


def rows_of(name: str) -> pd.DataFrame:
    """Two rows that a run can have."""
    known = {"level": "image", "threshold": float("inf")}
    blank = {column: known.get(column, BLANK[kind]) for column, kind in ALL[name].items()}
    keys = {"cases": "case", "scores": "metric", "curves": "dice", "volumes": "volume", "ranks": "method"}
    return table([blank, blank | {keys[name]: 0.5 if name == "curves" else "other"}], ALL[name])


@pytest.mark.parametrize("name", ALL)
def test_what_a_run_writes_is_no_damage(name: str) -> None:
    pd.testing.assert_frame_equal(known_columns(rows_of(name), name), rows_of(name))
    pd.testing.assert_frame_equal(known_columns(rows_of(name)[:0], name), rows_of(name)[:0])


def test_what_else_a_table_holds_is_left_out() -> None:
    more = rows_of("scores").assign(value_of_source=1.0)
    assert list(known_columns(more, "scores")) == list(SCORES)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("cases", {"oracle": "yes"}, "the column oracle does not hold true and false"),
        ("cases", {"oracle": [True, None]}, "the column oracle does not hold true and false"),
        ("cases", {"policy": 1.5}, "the column policy does not hold texts"),
        ("cases", {"policy": ["own", None]}, "the column policy does not hold texts"),
        ("cases", {"label": 0.5}, "the column label does not hold whole numbers"),
        ("cases", {"lesions": 2**60}, "the column lesions holds a number that is too large"),
        ("cases", {"dice": float("inf")}, "the column dice holds a number that is not finite"),
        ("cases", {"dice": 1.5}, "the column dice holds a number that is not within 0 and 1"),
        ("cases", {"dice": "0.5"}, "the column dice does not hold numbers"),
        ("cases", {"dice": 1j}, "the column dice does not hold numbers"),
        ("cases", {"image_score": -float("inf")}, "the column image_score holds a number that is not finite"),
        ("cases", {"case": "one"}, "the row  ·  · one is there twice"),
        ("scores", {"level": "pixel"}, "the column level is neither image nor volume"),
        ("scores", {"error": "x" * 10_001}, "the column error holds a text of more than 10,000 characters"),
        ("scores", {"ci_low": float("inf")}, "the column ci_low holds a number that is not finite"),
        ("curves", {"precision": float("inf")}, "the column precision holds a number that is not finite"),
        ("ranks", {"rank_shares": [[0.5], "x"]}, "the column rank_shares does not hold lists of numbers"),
        ("ranks", {"rank_shares": [[0.5], [[1.0], [2.0]]]}, "the column rank_shares does not hold lists of numbers"),
    ],
)
def test_types_values_and_repeated_rows(name: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        known_columns(rows_of(name).assign(**change), name)


@pytest.mark.parametrize(("name", "columns"), [("cases", CASES), ("curves", CURVES), ("volumes", VOLUMES)])
def test_a_column_that_is_missing_or_there_twice(name: str, columns: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="it has no column cell"):
        known_columns(rows_of(name).drop(columns="cell"), name)
    with pytest.raises(ValueError, match="it has no column dice") if name != "volumes" else nullcontext():
        known_columns(rows_of(name).drop(columns="dice", errors="ignore"), name)
    with pytest.raises(ValueError, match="it has two columns cell"):
        known_columns(pd.concat([rows_of(name), rows_of(name)[["cell"]]], axis=1), name)


def _holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**36)


def _no_rows_at_all(path: Path) -> None:
    parquet.write_table(pyarrow.table({}), path)


def _odd_metadata(path: Path) -> None:
    """What pandas would take for the types of columns: of no package that is there."""
    made = pyarrow.table({"a": [1]}).replace_schema_metadata({"pandas": '{"index_columns": ["no"], "columns": 1}'})
    parquet.write_table(made, path)


@pytest.mark.parametrize("write", [_holes, lambda path: path.write_bytes(b"PAR1")], ids=["holes", "short"])
def test_a_file_that_is_no_table_is_named(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    with pytest.raises(ResultsError, match=r"The table .*a.parquet cannot be read \(Parquet"):
        read_parquet(tmp_path / "a.parquet")


@pytest.mark.parametrize("write", [_no_rows_at_all, _odd_metadata])
def test_a_table_of_another_schema_is_read_and_told_apart(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="it has no column"):
        known_columns(read_parquet(tmp_path / "a.parquet"), "cases")


def test_memory_that_there_is_not_is_the_tables_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    (tmp_path / "a.parquet").write_bytes(b"x")
    monkeypatch.setattr(files, "_require_sane_size", none_left)
    with pytest.raises(ResultsError, match=r"a.parquet cannot be read \(MemoryError\)"):
        read_parquet(tmp_path / "a.parquet")


def test_no_checksum_is_that_of_a_file_of_holes(tmp_path: Path) -> None:
    _holes(tmp_path / "cases.csv")
    assert checksum_of(tmp_path / "cases.csv") == ""
    (tmp_path / "scores.csv").write_bytes(b"abc")
    assert checksum_of(tmp_path / "scores.csv").startswith("ba7816bf")
