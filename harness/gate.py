"""The gate: whether a run still does what a baseline says, and if not, in which way.

What a run measured is brought into the form of a baseline's cells, and the two are compared cell by cell. A cell is a
dataset and a method; seeds are averaged, so a run with another seed can be held against the same baseline. Oracles are
never looked at, and neither is the code's version: the code is what is being tested.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..results.baseline import (
    DIGITS,
    RUNTIME,
    Absolute,
    Baseline,
    BaselineCell,
    Factor,
    Finding,
    Kind,
    Runtime,
    Score,
    Tolerance,
)
from ..results.store import RunStore, scoring_of
from ..results.tables import MASK_METRICS, headline
from .api import UsageError
from .registry import suggest
from .statistics import bootstrap_mean, case_table

GATED = (
    *("dice", "iou", "precision", "recall", "lesion_recall", "dice_pooled", "dice_small", "dice_medium", "dice_large"),
    *("pixel_auroc", "pixel_ap", "aupro", "image_auroc"),
)
"""The metrics that a baseline can hold: all where higher is better, without oracles."""

NEGLIGIBLE = 0.001
"""A paired difference this small is no finding, however sure: another processor's rounding can make it."""
_QUICK = 1.0  # calibration workloads, a few milliseconds; what takes less cannot be timed well enough to be judged


@dataclass(frozen=True)
class Measured:
    """What a run measured, in the form of a baseline.

    Attributes:
        cells: Those that were finished, with every seed.
        failures: The error of those that were not, by dataset and method.
        datasets: All that the run was to measure.
        planned: All cells that the run was to measure.
    """

    cells: tuple[BaselineCell, ...]
    failures: Mapping[tuple[str, str], str]
    datasets: frozenset[str]
    planned: frozenset[tuple[str, str]]


def measure(store: RunStore, metrics: Iterable[str]) -> Measured:
    """Reads what a run measured.

    Args:
        store: The run.
        metrics: Of `GATED`; a name that is no metric of the run is passed over, so a baseline's tolerances will do.

    Raises:
        ResultsError: It has no record or no tables.
    """
    record, scores, cases = store.read(), store.scores(), store.cases()
    entries = {(entry["dataset"], entry["method"]): entry for entry in record["cells"]}
    ended = set(scores["cell"])
    open_cells = {(entry["dataset"], entry["method"]) for entry in record["cells"] if entry["name"] not in ended}
    failed = scores[scores["error"] != ""]
    failures = {
        (str(row["dataset"]), str(row["method"])): f"seed {row['seed']}: {row['error']}"
        for row in failed.to_dict("records")
    }
    cells = []
    for key, rows in scores[scores["error"] == ""].groupby(["dataset", "method"], sort=False):
        dataset, method = str(key[0]), str(key[1])
        if (dataset, method) in open_cells:
            continue
        masks = headline(cases[(cases["dataset"] == dataset) & (cases["method"] == method)])
        policy = str(masks["policy"].iloc[0]) if len(masks) else ""
        wanted = {metric: policy if metric in MASK_METRICS else "none" for metric in metrics}
        means = {metric: _mean_score(rows, metric, of) for metric, of in wanted.items()}
        entry = entries[dataset, method]
        cells.append(
            BaselineCell(
                dataset=dataset,
                method=method,
                seeds=tuple(int(seed) for seed in rows["seed"].unique()),
                fingerprint=entry["fingerprint"],
                configuration=_configuration(entry, scoring_of(record)),
                scores={metric: score for metric, score in means.items() if score is not None},
                runtime=_runtime(rows, entry["device"], store.cell(entry["name"]).read()),
                dice=_dice(masks),
            )
        )
    return Measured(tuple(cells), failures, frozenset(record["datasets"]), frozenset(entries))


def make_baseline(store: RunStore, tolerance: Mapping[str, Tolerance]) -> Baseline:
    """Makes a baseline of a run.

    Args:
        store: The run.
        tolerance: By metric, and for `RUNTIME`.

    Raises:
        UsageError: Not every cell of the run is finished.
        ResultsError: It has no record or no tables.
    """
    measured = measure(store, tolerance)
    unfinished = measured.planned - {cell.key for cell in measured.cells} | set(measured.failures)
    if unfinished:
        raise UsageError(
            f"{' · '.join(min(unfinished))} of the run {store.name} is not finished: a baseline is made of a run "
            "without failures. The same bench run command goes on where it stopped."
        )
    return Baseline(store.name, dict(tolerance), measured.cells)


def parse_tolerances(texts: Sequence[str]) -> dict[str, Tolerance]:
    """Reads `dice=0.02`, `dice=paired` and `runtime=2`.

    Raises:
        UsageError: A name or a value is wrong.
    """
    found: dict[str, Tolerance] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in (*GATED, RUNTIME):
            raise UsageError(f"--tolerance {text}: there is no {name!r}. {suggest(name, (*GATED, RUNTIME))}")
        if value == "paired" and name == "dice":
            found[name] = "paired"
            continue
        number = _number(value)
        if number is None or (number <= 1 if name == RUNTIME else number < 0):
            form = "a factor above 1, like runtime=2" if name == RUNTIME else f"at least 0, like {name}=0.02"
            paired = ", or dice=paired" if name == "dice" else ""
            raise UsageError(f"--tolerance {text}: it should be {form}{paired}.")
        found[name] = Factor(number) if name == RUNTIME else Absolute(number)
    return found


def check(baseline: Baseline, measured: Measured) -> list[Finding]:
    """Holds a run against a baseline.

    Args:
        baseline: What was.
        measured: What is, with the metrics that the baseline has tolerances for.

    Returns:
        For every cell of the baseline, one finding if it cannot be compared, and else one for each metric and for the
        runtime, after one for its configuration if that has changed. Cells that the baseline does not know come last.
    """
    now = {cell.key: cell for cell in measured.cells}
    known = {cell.key for cell in baseline.cells}
    findings = [finding for cell in baseline.cells for finding in _check_cell(cell, now, baseline.tolerance, measured)]
    findings += [
        Finding("crashed", *key, "cell", None, None, error)
        for key, error in measured.failures.items()
        if key not in known
    ]
    new = [key for key in now if key not in known and key not in measured.failures]
    return findings + [Finding("new", *key, "cell", None, None, "is not in the baseline") for key in new]


def _check_cell(
    before: BaselineCell,
    cells: Mapping[tuple[str, str], BaselineCell],
    tolerances: Mapping[str, Tolerance],
    measured: Measured,
) -> Iterator[Finding]:
    def found(kind: Kind, text: str) -> Finding:
        return Finding(kind, *before.key, "cell", None, None, text)

    if before.key in measured.failures:
        yield found("crashed", measured.failures[before.key])
        return
    if before.dataset not in measured.datasets:
        yield found("missing", f"the dataset {before.dataset} is not in the run: nothing was measured on it")
        return
    if before.key not in measured.planned:
        yield found("missing", f"{before.method} was not run on {before.dataset}")
        return
    if before.key not in cells:
        yield found("missing", "the run ended before it was measured; the same bench run command goes on from there")
        return
    now = cells[before.key]
    if now.fingerprint != before.fingerprint:
        yield found(
            "dataset changed",
            f"other images, masks or splits than the baseline's (fingerprint {now.fingerprint[:12]}, was "
            f"{before.fingerprint[:12]}): scores are not compared",
        )
        return
    changes = list(_changes(before.configuration, now.configuration))
    if changes:
        yield found("configuration changed", "; ".join(changes))
    for metric, score in before.scores.items():
        if metric in tolerances:
            yield _check_score(metric, score, before, now, tolerances[metric])
    factor = tolerances.get(RUNTIME)
    if isinstance(factor, Factor):
        yield _check_runtime(before, now, factor.factor)


def _check_score(
    metric: str, before: Score, cell: BaselineCell, now_cell: BaselineCell, tolerance: Tolerance
) -> Finding:
    now = now_cell.scores.get(metric)

    def found(kind: Kind, text: str) -> Finding:
        return Finding(kind, *cell.key, metric, before.value, now.value if now else None, text)

    if now is None:
        return found("missing", f"{metric} could not be computed in this run")
    if now.policy != before.policy:
        return found("configuration changed", f"masks are those of {now.policy}, were those of {before.policy}")
    if isinstance(tolerance, Absolute):
        difference = round(now.value - before.value, DIGITS)
        low = high = difference
        margin = tolerance.absolute
        text = f"{difference:+.3f}, tolerance {margin:g}"
    else:
        difference, low, high = _paired(cell.dice, now_cell.dice)
        margin = NEGLIGIBLE
        if np.isnan(low):
            return found("not judged", "a paired interval takes two patients or more")
        text = f"{difference:+.3f}, paired 95 % interval {low:+.3f} to {high:+.3f}"
    # An absolute tolerance is exceeded by the difference; a paired one, if all of the interval is on one side of zero.
    if difference < -margin and high < 0:
        return found("regression", text)
    if difference > margin and low > 0:
        return found("improved", text)
    return found("ok", text)


def _paired(before: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]) -> tuple[float, ...]:
    """The mean difference over the cases of both, and its 95 % interval when patients are drawn."""
    pairs = [
        (patient, now[patient][case] - dice)
        for patient, cases in before.items()
        for case, dice in cases.items()
        if case in now.get(patient, {})
    ]
    differences = np.array([difference for _, difference in pairs])
    if not len(differences):
        return (float("nan"),) * 3
    low, high = bootstrap_mean(differences, [patient for patient, _ in pairs])
    return float(differences.mean()), low, high


def _check_runtime(cell: BaselineCell, now_cell: BaselineCell, factor: float) -> Finding:
    before, now = cell.runtime, now_cell.runtime

    def found(kind: Kind, text: str) -> Finding:
        return Finding(kind, *cell.key, RUNTIME, before and before.ratio, now and now.ratio, text)

    if before is None or now is None:
        which = "baseline" if before is None else "run"
        return found("not judged", f"the {which} has no calibration; measure again with bench run --force")
    if before.where != now.where:
        return found("not judged", f"measured on {now.where}, the baseline on {before.where}")
    growth = now.ratio / before.ratio
    text = (
        f"{growth:.2f} times as long for the machine, tolerance {factor:g}; {now.predict_ms:.1f} ms per image, "
        f"was {before.predict_ms:.1f}"
    )
    if max(now.ratio, before.ratio) < _QUICK:
        return found("ok", f"{now.predict_ms:.1f} ms per image: too quick to be judged")
    if growth > factor:
        return found("slower", text)
    return found("improved" if growth < 1 / factor else "ok", text)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name, "absent"), now.get(name, "absent")
        if old != new:
            yield f"{name} is {_short(new)}, was {_short(old)}"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)  # a checksum


def _configuration(entry: Mapping[str, Any], scoring: Mapping[str, Any]) -> dict[str, Any]:
    options = {f"option {name}": value for name, value in entry["options"].items()}
    weights = {f"weights {one['name']}": one["sha256"] for one in entry["weights"]}
    scored = {name: scoring[name] for name in ("mask_edges", "padding")}
    return {"size": entry["size"]} | scored | options | weights


def _mean_score(rows: pd.DataFrame, metric: str, policy: str) -> Score | None:
    own = rows[(rows["metric"] == metric) & (rows["policy"] == policy) & ~rows["oracle"]]
    value, low, high = (own[name].mean() for name in ("value", "ci_low", "ci_high"))
    if np.isnan(value):
        return None
    ends = [None if np.isnan(end) else round(float(end), DIGITS) for end in (low, high)]
    return Score(policy, round(float(value), DIGITS), *ends)


def _runtime(rows: pd.DataFrame, device: str, end: Mapping[str, Any] | None) -> Runtime | None:
    predict, calibration = (
        float(rows.loc[rows["metric"] == name, "value"].mean()) for name in ("predict_ms", "calibration_ms")
    )
    if np.isnan(predict) or np.isnan(calibration) or end is None:
        return None
    return Runtime(device, end["environment"]["threads"], round(predict, 3), round(calibration, 3))


def _dice(masks: pd.DataFrame) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in case_table(masks).round(DIGITS).reset_index().itertuples(index=False, name=None):
        case, patient, dice = row
        found.setdefault(str(patient), {})[str(case)] = float(dice)
    return found


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
