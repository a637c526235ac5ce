from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from miasbench.results.files import ResultsError
from miasbench.results.joining import join_runs
from miasbench.results.store import RunStore
from miasbench.results.tables import CASES, CURVES, SCORES, VOLUMES, table

from ..support.records import record

EMPTY = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}


def row(columns: dict[str, str], **values: Any) -> dict[str, Any]:
    known = {"level": "image"} if "level" in columns else {}
    return {name: EMPTY[kind] for name, kind in columns.items()} | known | values


def run(folder: Path, *cells: tuple[str, str], score: dict[str, Any] | None = None, **values: Any) -> RunStore:
    """A run with these cells, each a dataset and a method."""
    store = RunStore(folder)
    store.write(record(config={"methods": ["a"], "score": score or {"mask_edges": "nearest"}}))
    for name, columns in (("cases", CASES), ("scores", SCORES), ("curves", CURVES), ("volumes", VOLUMES)):
        known = {key: value for key, value in values.items() if key in columns}
        rows = [
            row(
                columns,
                **{"dataset": dataset, "method": method, "dataset_fingerprint": dataset, "size": 256}
                | {"cell": f"{number}"}
                | known,
            )
            for number, (dataset, method) in enumerate(cells)
        ]
        store.write_tables({name: table(rows, columns)})
    return store


def found(scores: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(scores["run"], scores["dataset"], scores["method"], strict=True))


def test_runs_are_joined_and_rows_say_where_they_are_from(tmp_path: Path) -> None:
    joined = join_runs([run(tmp_path / "one", ("brain", "a")), run(tmp_path / "two", ("brain", "b"), ("liver", "a"))])
    expected = [("one", "brain", "a"), ("two", "brain", "b"), ("two", "liver", "a")]
    assert [found(content) for content in joined] == [expected] * 4


def test_the_same_cell_in_two_runs_is_not_chosen_silently(tmp_path: Path) -> None:
    runs = [run(tmp_path / "one", ("brain", "a"), ("brain", "b")), run(tmp_path / "two", ("brain", "b"))]
    with pytest.raises(ResultsError, match=r"Both one and two have brain · b · seed 0.*--prefer one or --prefer two"):
        join_runs(runs)
    assert found(join_runs(runs, runs[0]).cases) == [("one", "brain", "a"), ("one", "brain", "b")]
    assert found(join_runs(runs, runs[1]).cases) == [("one", "brain", "a"), ("two", "brain", "b")]


def test_a_preference_settles_only_what_it_has_itself(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, ("brain", method)) for name, method in (("one", "a"), ("two", "a"), ("three", "b"))]
    with pytest.raises(ResultsError, match="Both one and two"):
        join_runs(runs, runs[2])


def test_seeds_of_a_method_may_be_from_several_runs(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(seed), ("brain", "a"), seed=seed) for seed in range(2)]
    assert join_runs(runs).scores["seed"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dataset_fingerprint": "other"}, "brain is not the same in one and two: its images differ"),
        ({"size": 128}, "brain is not the same in one and two: --size differs"),
        ({"seed": 1, "score": {"mask_edges": "paper"}}, "brain is not the same in one and two: --mask-edges"),
        (
            {"seed": 1, "score": {"mask_edges": "nearest", "padding": "exclude"}},
            "brain is not the same in one and two: --mask-edges, --padding, --fixed-threshold, --surface",
        ),
        ({"seed": 1, "options": "x"}, "brain · a is not the same in one and two: its options or weights differ"),
        ({"seed": 1, "weights_sha256": "x"}, "brain · a is not the same in one and two: its options or weights"),
    ],
)
def test_what_only_has_the_same_name_is_not_joined(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ResultsError, match=says):
        join_runs([run(tmp_path / "one", ("brain", "a")), run(tmp_path / "two", ("brain", "a"), **values)])


def test_a_run_from_before_the_option_has_counted_padding(tmp_path: Path) -> None:
    scoring = {"mask_edges": "nearest", "padding": "count"}
    join_runs([run(tmp_path / "one", ("brain", "a")), run(tmp_path / "two", ("brain", "a"), seed=1, score=scoring)])


def test_a_run_that_is_named_twice(tmp_path: Path) -> None:
    one = run(tmp_path / "one", ("brain", "a"))
    with pytest.raises(ResultsError, match="The run one is named twice"):
        join_runs([one, one])


def test_a_preferred_run_that_is_not_there(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", ("brain", "a")), run(tmp_path / "two", ("brain", "a"))
    with pytest.raises(ResultsError, match="The preferred run two is none of those to join: one"):
        join_runs([one], two)
