"""Two runs side by side: by how much each score differs, and what else does."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...results.metrics import METRICS
from ...results.record import Cell, RunRecord
from ...results.seeds import seeds_part_of_difference, with_seeds
from ...results.store import RunStore
from ..scoring.intervals import mean_interval
from .doubts import doubts

_CELL = ["dataset", "method"]


class Change(NamedTuple):
    """What differs between two runs beside their scores; `what` is empty where it is of the whole run."""

    where: str
    what: str
    a: str
    b: str


class RunDifference(NamedTuple):
    """How run B differs from run A.

    Attributes:
        scores: A row per dataset, method, policy and metric that both have: `a`, `b`, `difference` (b - a),
            `ci_low` and `ci_high` (its 95 % interval over patients, NaN where images cannot be paired), `better`
            (whether B is, NaN where the interval does not say).
        changes: Differences in configuration, code, weights, data, versions and hardware.
        doubts: Reasons not to trust the tables of a run: they were changed, or do not follow from its cases.
        alone: Cells of one run only, or that failed, with the reason.
    """

    scores: pd.DataFrame
    changes: list[Change]
    alone: list[str]
    doubts: list[str]


def compare_runs(a: RunStore, b: RunStore) -> RunDifference:
    """Compares two runs; cells are joined by dataset and method, and seeds averaged. Oracles are left out.

    Raises:
        ResultsError: One has no record or no tables.
    """
    records = a.read(), b.read()
    entries = [{(cell.dataset, cell.method): cell for cell in record.cells} for record in records]
    scores = [_means(run.scores()) for run in (a, b)]
    joined = scores[0].merge(scores[1], left_index=True, right_index=True, suffixes=("_a", "_b")).reset_index()
    joined = joined.rename(columns={"value_a": "a", "value_b": "b"})
    joined["difference"] = joined["b"] - joined["a"]
    pairs = _Pairs(a.cases(), b.cases())
    same = {key for key in entries[0] if key in entries[1] and _same_images(entries[0][key], entries[1][key])}
    intervals = [
        pairs.interval(str(row["dataset"]), str(row["method"]), str(row["policy"]), str(row["metric"]))
        if (row["dataset"], row["method"]) in same
        else (float("nan"),) * 2
        for row in joined.to_dict("records")
    ]
    joined[["ci_low", "ci_high"]] = np.array(intervals, float).reshape(-1, 2)
    joined["better"] = [_better(row) for row in joined.to_dict("records")]
    alone = [*_alone(a.name, entries[0], scores[0], a.scores()), *_alone(b.name, entries[1], scores[1], b.scores())]
    doubtful = [doubts(run) for run in (a, b)]
    changes = list(_changes(records, entries))
    if any(doubtful):
        changes.insert(
            0, Change("", "tables", *("changed since the run" if found else "as written" for found in doubtful))
        )
    return RunDifference(joined, changes, alone, [*doubtful[0], *doubtful[1]])


def _means(scores: pd.DataFrame) -> pd.DataFrame:
    kept = scores[~scores["oracle"] & scores["value"].notna()]
    return kept.groupby([*_CELL, "policy", "metric"], sort=False)[["value"]].mean()


class _Pairs:
    """Differences of two runs, image by image."""

    def __init__(self, a: pd.DataFrame, b: pd.DataFrame) -> None:
        keys = [*_CELL, "policy"]
        kept = [cases[~cases["oracle"] & (cases["label"] == 1)] for cases in (a, b)]
        self._runs = [dict(list(cases.groupby(keys, sort=False))) for cases in kept]
        self._differences: dict[tuple[str, str, str], pd.DataFrame] = {}

    def interval(self, dataset: str, method: str, policy: str, metric: str) -> tuple[float, float]:
        """The 95 % interval of the mean difference, over patients and seeds; NaN where there is none."""
        known, key = METRICS.get(metric), (dataset, method, policy)
        if known is None or not known.paired or any(metric not in run.get(key, ()) for run in self._runs):
            return float("nan"), float("nan")
        differences = self._of_images(key)[metric].dropna()
        low, high = known.range
        bounds = low - high, high - low
        cases, patients = (differences.index.get_level_values(level) for level in ("case", "patient"))
        interval = mean_interval(differences.to_numpy(), patients.tolist(), bounds)
        b, a = (
            rows[rows["case"].isin(cases)].groupby("seed")[metric].mean().dropna()
            for rows in (run[key] for run in reversed(self._runs))
        )
        return with_seeds(differences.mean(), interval[:2], [seeds_part_of_difference(b, a)], bounds)

    def _of_images(self, key: tuple[str, str, str]) -> pd.DataFrame:
        """Differences of all metrics at once, by case and patient, means over seeds; NaN where a run has no value."""
        if key not in self._differences:
            found = [run[key] for run in self._runs]
            metrics = [one.name for one in METRICS.values() if one.paired and all(one.name in rows for rows in found)]
            a, b = (rows.groupby(["case", "patient"])[metrics].mean() for rows in found)
            self._differences[key] = b - a
        return self._differences[key]


def _better(row: Mapping[Any, Any]) -> float:
    """1 where B is surely better, 0 where it is surely worse, NaN where the interval holds zero or is unknown."""
    if not (row["ci_low"] > 0 or row["ci_high"] < 0):
        return float("nan")
    return float((row["difference"] > 0) == (METRICS[row["metric"]].direction == "higher"))


def _same_images(a: Cell, b: Cell) -> bool:
    return a.fingerprint == b.fingerprint and a.size == b.size


def _alone(
    run: str, entries: Mapping[tuple[str, str], Any], means: pd.DataFrame, scores: pd.DataFrame
) -> Iterator[str]:
    finished = set(means.reset_index()[_CELL].itertuples(index=False, name=None))
    errors = scores[scores["error"] != ""].groupby(_CELL)["error"].first().to_dict()
    for key in entries:
        if key in errors:
            yield f"{' · '.join(key)} failed in {run}: {errors[key]}"
        elif key not in finished:
            yield f"{' · '.join(key)} is not finished in {run}"


def _changes(
    records: tuple[RunRecord, RunRecord],
    entries: list[dict[tuple[str, str], Cell]],
) -> Iterator[Change]:
    a, b = records
    for key in dict.fromkeys([*entries[0], *entries[1]]):
        where = " · ".join(key)
        if key not in entries[0] or key not in entries[1]:
            yield Change(where, "measured", *("yes" if key in of_run else "no" for of_run in entries))
            continue
        yield from _differing(where, *(_described(of_run[key]) for of_run in entries))
    seeds = [{str(cell.seed) for cell in record.cells} for record in records]
    yield from _differing("", *({"seeds": ", ".join(sorted(one))} for one in seeds))
    yield from _differing("scoring", a.config.score.model_dump(), b.config.score.model_dump())
    environments = [dict(record.environment) for record in records]
    packages = [environment.pop("packages", {}) for environment in environments]
    plugins = [environment.pop("plugins", {}) for environment in environments]
    yield from _differing("versions", *packages)
    for name in dict.fromkeys([*plugins[0], *plugins[1]]):
        yield from _differing(f"plugin {name}", *(of_run.get(name, {}) for of_run in plugins))
    yield from _differing("environment", *({k: v for k, v in one.items() if k != "command"} for one in environments))


def _described(cell: Cell) -> dict[str, Any]:
    """All that a cell's scores depend on, but for its seed."""
    options = {f"option {name}": value for name, value in cell.options.items()}
    weights = {f"weights {one.name}": f"{one.kind}, {one.sha256[:12]}" for one in cell.weights}
    rest = {"data": cell.fingerprint[:12], "size": cell.size, "device": cell.device, "code": cell.code}
    return options | weights | rest


def _differing(where: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*a, *b]):
        values = [str(one[name]) if name in one else "absent" for one in (a, b)]
        if values[0] != values[1]:
            yield Change(where, name, *values)
