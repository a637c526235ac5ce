"""Several runs as one: their tables joined, and never two answers to the same question."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from .files import ResultsError
from .record import ScoreRecord
from .store import RunStore

_WAYS = "--mask-edges, --padding, --fixed-threshold, --surface-tolerance or --foreground"
_WHOSE = ["dataset", "method", "seed"]
_ASKED = ["dataset_fingerprint", "method", "seed", "size"]


class JoinedRuns(NamedTuple):
    """The tables of several runs, each with one more column, `run`: the name of the run that a row is from."""

    cases: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame
    volumes: pd.DataFrame


def join_runs(runs: Sequence[RunStore], prefer: RunStore | None = None) -> JoinedRuns:
    """Joins the tables of runs.

    Args:
        runs: One or more.
        prefer: The run whose cells are taken where another run has measured the same images, method, seed and size.

    Raises:
        ResultsError: Two runs have measured the same and neither is preferred, or what they call the same is not.
    """
    names = [run.name for run in runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ResultsError(f"The run {twice} is named twice, or two runs have this name: rename one's folder.")
    if prefer and prefer.folder.resolve() not in [run.folder.resolve() for run in runs]:
        raise ResultsError(f"The preferred run {prefer.name} is none of those to join: {', '.join(names)}.")
    of_each = [(run.cases(), run.scores(), run.curves(), run.volumes()) for run in runs]
    for run, (cases, scores, curves, volumes) in zip(runs, of_each, strict=True):
        _check_one_piece(run, scores, {"cases": cases, "curves": curves, "volumes": volumes})
    tables = [
        pd.concat([table.assign(run=run.name) for run, table in zip(runs, of_runs, strict=True)], ignore_index=True)
        for of_runs in zip(*of_each, strict=True)
    ]
    joined = JoinedRuns(*tables)
    cells = joined.scores[["run", "dataset", *_ASKED]].drop_duplicates(["run", *_ASKED])
    repeated = cells[cells.duplicated(_ASKED, keep=False)]
    _check_repeated(repeated, prefer)
    if prefer:
        dropped = pd.MultiIndex.from_frame(repeated.loc[repeated["run"] != prefer.name, ["run", *_ASKED]])
        joined = JoinedRuns(
            *(
                table[~pd.MultiIndex.from_frame(table[["run", *_ASKED]]).isin(dropped)].reset_index(drop=True)
                for table in joined
            )
        )
    _check_same(joined.scores, {run.name: run.read().config.score for run in runs})
    return joined


def _check_one_piece(run: RunStore, scores: pd.DataFrame, others: dict[str, pd.DataFrame]) -> None:
    """Raises where a table has rows of what has no scores."""
    scored = pd.MultiIndex.from_frame(scores[_WHOSE])
    for name, rows in others.items():
        whose = rows[_WHOSE].drop_duplicates()
        strange = whose[~pd.MultiIndex.from_frame(whose).isin(scored)]
        if len(strange):
            dataset, method, seed = strange.iloc[0]
            raise ResultsError(
                f"The table {name}.parquet of {run.name} is damaged: it has {dataset} · {method} · seed {seed}, "
                f"which has no scores. bench score {run.folder} makes the tables again from the predictions."
            )


def _check_repeated(repeated: pd.DataFrame, prefer: RunStore | None) -> None:
    """Raises where two runs have measured the same and neither is preferred."""
    for _, cells in repeated.groupby(_ASKED, sort=False):
        names = cells["run"].tolist()
        if prefer is None or prefer.name not in names:
            cell = cells.iloc[0]
            raise ResultsError(
                f"Both {names[0]} and {names[1]} have {cell['dataset']} · {cell['method']} · seed {cell['seed']}. Say "
                f"which to take where runs have the same, --prefer {names[0]} or --prefer {names[1]}, or report them "
                "apart."
            )


def _check_same(scores: pd.DataFrame, scoring: dict[str, ScoreRecord]) -> None:
    """Raises where two runs mean different things by the name of a dataset or a method."""
    settings = ("mask_edges", "padding", "fixed_threshold", "surface_tolerance", "foreground")
    scored = scores["run"].map(lambda run: str([getattr(scoring[str(run)], name, None) for name in settings]))
    scores = scores.assign(scored=scored)
    for columns, same, what in (
        (["dataset"], ["dataset_fingerprint"], "its images differ"),
        (["dataset"], ["size"], "--size differs"),
        (["dataset"], ["scored"], f"{_WAYS} differ; bench score can change them"),
        (["dataset", "method"], ["options", "weights_sha256"], "its options or weights differ"),
    ):
        for _, rows in scores.groupby(columns, sort=False):
            kinds = rows.drop_duplicates(same)
            if len(kinds) > 1:
                one, other = kinds["run"].tolist()[:2]
                name = " · ".join(kinds[columns].iloc[0])
                between = f"in {one} and {other}" if one != other else f"in {one}"
                raise ResultsError(f"{name} is not the same {between}: {what}. Report the runs apart.")
