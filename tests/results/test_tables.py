from typing import Any

import numpy as np
import pandas as pd
import pytest

from miasbench.results.tables import (
    CASES,
    CURVES,
    IDENTITY,
    POLICY,
    SCORES,
    VOLUMES,
    concatenate,
    empty_tables,
    failed_cell,
    table,
    with_columns,
)

CELL: dict[str, Any] = {
    "dataset": "phantom_brain_mri",
    "dataset_fingerprint": "ab12",
    "method": "intensity",
    "options": "{}",
    "weights": "none",
    "weights_sha256": "",
    "seed": 3,
    "size": 256,
    "transductive": False,
    "cell": "phantom_brain_mri-intensity-seed3-0123456789",
}


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def score_row(**values: Any) -> dict[str, Any]:
    blank = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}
    return {name: blank[dtype] for name, dtype in SCORES.items()} | CELL | values


def test_both_tables_begin_with_the_cell_and_the_policy() -> None:
    start = [*IDENTITY, *POLICY]
    assert list(CASES)[: len(start)] == list(SCORES)[: len(start)] == start
    assert {"case", "patient", "label", "dice", "intersection_px", "predicted_px", "truth_px"} <= set(CASES)
    assert {"metric", "value", "ci_low", "ci_high", "n", "convention", "error"} <= set(SCORES)


@pytest.mark.parametrize("columns", [CASES, SCORES, CURVES], ids=["cases", "scores", "curves"])
def test_an_empty_table_has_columns_and_types(columns: dict[str, str]) -> None:
    empty = table([], columns)
    assert len(empty) == 0
    assert dtypes(empty) == columns


def test_a_table_has_the_columns_in_their_order_and_types() -> None:
    row = score_row(value=np.float32(0.5), n=np.int32(7), oracle=np.True_)
    made = table([dict(reversed(row.items()))], SCORES)
    assert dtypes(made) == SCORES
    assert (made["value"][0], made["n"][0], made["oracle"][0]) == (0.5, 7, True)


def test_a_row_without_a_number_that_must_be_there_is_refused() -> None:
    row = score_row()
    del row["n"]
    with pytest.raises((ValueError, TypeError)):
        table([row], SCORES)


def test_a_failed_cell_is_one_row_of_scores() -> None:
    tables = failed_cell(CELL, "CUDA out of memory")
    scores = tables.scores
    assert [len(one) for one in tables] == [0, 1, 0, 0]
    assert [dtypes(one) for one in tables] == [CASES, SCORES, CURVES, VOLUMES]
    row = scores.iloc[0]
    assert {name: row[name] for name in CELL} == CELL
    assert row["error"] == "CUDA out of memory"
    assert (row["metric"], row["policy"], row["n"], row["oracle"]) == ("none", "none", 0, False)
    assert np.isnan([row["value"], row["ci_low"], row["ci_high"], row["threshold"]]).all()


def test_joining_nothing_gives_empty_tables() -> None:
    assert [len(one) for one in concatenate([])] == [0, 0, 0, 0]
    assert [dtypes(one) for one in concatenate([])] == [CASES, SCORES, CURVES, VOLUMES]


@pytest.mark.filterwarnings("error")
def test_joining_failed_cells_keeps_types() -> None:
    cases, scores, *_ = concatenate([failed_cell(CELL, "first"), failed_cell(CELL | {"seed": 4}, "second")])
    assert len(cases) == 0
    assert (dtypes(cases), dtypes(scores)) == (CASES, SCORES)
    assert scores["error"].tolist() == ["first", "second"]
    assert scores.index.tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
def test_joining_a_finished_and_a_failed_cell() -> None:
    rows = [score_row(metric="dice", value=0.7, n=5), score_row(metric="aupro")]
    finished = empty_tables()._replace(scores=table(rows, SCORES))
    cases, scores, *_ = concatenate([finished, failed_cell(CELL | {"method": "patchcore"}, "broken")])
    assert (dtypes(cases), dtypes(scores)) == (CASES, SCORES)
    assert scores["metric"].tolist() == ["dice", "aupro", "none"]
    assert scores["error"].tolist() == ["", "", "broken"]
    assert scores.index.tolist() == [0, 1, 2]


def test_tables_of_older_versions_get_the_columns_that_came_later() -> None:
    """Version 0.1.0 wrote curves without a convention, and scores without patients."""
    later = {"external", "seen", "patients", "convention"}
    for columns in (CASES, SCORES, CURVES):
        old = table([], columns).drop(columns=[name for name in columns if name in later])
        new = with_columns(old, columns)
        assert set(columns) - set(new) <= {"convention"}
        assert list(new) == [name for name in columns if name in new], "in their order"
