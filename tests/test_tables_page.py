"""docs/tables.md lists exactly what a run writes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from miasbench.harness.cli import main
from miasbench.results.store import RunStore

from .support.running import TINY, run

PAGE = (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
TYPES = {"str": "text", "int64": "integer", "float64": "number", "bool": "yes/no", "object": "list"}
LIVER = "phantom_liver_ct:train=3,valid=4,test=6,size=64"
STUDY = ["--threshold-from", LIVER, "--validation-sizes", "2,all", "--draws", "2"]
CELL, POLICY = "Columns that name a cell", "Columns that name a threshold policy"


def listed(heading: str) -> list[dict[str, str]]:
    """The columns, or keys, below a heading of the page, in order, with their types."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.MULTILINE)
    return [{"name": name, "type": rest.split(" | ")[0]} for name, rest in rows]


def named(heading: str) -> list[str]:
    return [column["name"] for column in listed(heading)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return run(tmp_path_factory.mktemp("made") / "results", "intensity", "intensity[sigma=2]")[0]


@pytest.mark.parametrize(
    ("table", "before"),
    [
        ("scores", [CELL, POLICY]),
        ("cases", [CELL, POLICY]),
        ("volumes", [CELL, POLICY]),
        ("curves", [CELL]),
        ("comparisons", []),
        ("ranks", []),
    ],
)
def test_every_column_is_listed_with_its_type(made: RunStore, table: str, before: list[str]) -> None:
    columns = [column for heading in [*before, table] for column in listed(heading)]
    written = pd.read_parquet(Path(str(made.folder)) / f"{table}.parquet")
    assert [column["name"] for column in columns] == list(written.columns)
    assert [column["type"] for column in columns] == [TYPES[str(kind)] for kind in written.dtypes]
    assert list(pd.read_csv(Path(str(made.folder)) / f"{table}.csv").columns) == list(written.columns)


def test_every_key_of_the_records_is_listed(made: RunStore) -> None:
    assert set(json.loads((made.folder / "run.json").read_text())) == set(named("run.json"))
    (cell, _) = sorted((made.folder / "cells").iterdir())
    assert set(json.loads((cell / "cell.json").read_text())) == set(named("cell.json")) - {"error"}


def exported(columns: list[str]) -> Iterator[list[str]]:
    """The other CSV files' columns, as the page lists them one after the other."""
    begins = [number for number, name in enumerate(columns) if name in ("dataset", "row")]
    for begin, end in zip(begins, [*begins[1:], len(columns)], strict=True):
        yield columns[begin:end]


def test_every_column_of_the_other_files_is_listed(made: RunStore, tmp_path: Path) -> None:
    thresholds, shift, sizes, compared, of_papers = exported(named("Other CSV files"))
    name, two = str(made.folder), run(tmp_path / "two", "intensity", dataset=[TINY, LIVER])[0]
    other = run(tmp_path / "results", "intensity", "intensity[sigma=2]", seeds=[1])[0]
    for command in (
        ["thresholds", name, "--out", str(tmp_path)],
        ["thresholds", str(two.folder), "--out", str(tmp_path / "study"), *STUDY],
        ["compare", name, str(other.folder), "--csv", str(tmp_path / "compare.csv")],
        ["report", name, "--out", str(tmp_path)],
    ):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert not end.value.code
    assert list(pd.read_csv(tmp_path / "thresholds.csv").columns) == thresholds
    assert list(pd.read_csv(tmp_path / "study" / "threshold_shift.csv").columns) == shift
    assert list(pd.read_csv(tmp_path / "study" / "validation_sizes.csv").columns) == sizes
    assert list(pd.read_csv(tmp_path / "compare.csv").columns) == compared
    assert {tuple(pd.read_csv(file).columns) for file in (tmp_path / "tables").glob("*.csv")} == {tuple(of_papers)}
