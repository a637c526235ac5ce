"""The gate: whether a run still does what a baseline says, and if not, in which way.

What a run measured is brought into the form of a baseline's cells, and the two are compared cell by cell. A cell is a
dataset and a method; seeds are averaged, so a run with other seeds can be held against the same baseline, with an
allowance for how far seeds differ. Oracles are never looked at. A change of the code is told and judged by its scores:
the code is what is being tested.

A gate that judges nothing must not pass: each tolerance has to judge a cell, and each cell has to be judged by a
tolerance. A score that could collapse without being found is not judged, and a large loss that the patients are too few
to be sure of does not pass.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ...results.baseline import (
    DIGITS,
    JUDGED,
    RUNTIME,
    Absolute,
    Baseline,
    BaselineCell,
    Factor,
    Finding,
    FindingKind,
    Runtime,
    Score,
    Tolerance,
)
from ...results.metrics import METRICS
from ...results.record import Cell, CellRecord, ScoreRecord
from ...results.seeds import over_seeds
from ...results.store import RunStore
from ...results.tables import headline
from ..api import UsageError
from ..scoring.intervals import mean_interval
from ..specs import suggest
from .doubts import doubts
from .statistics import case_table

NEGLIGIBLE = 0.001
"""A paired difference this small is no finding, however sure: another processor's rounding can make it."""
UNSURE = 0.25
"""A mean loss of this share of the DICE does not pass, though the paired interval reaches zero. Without a change it is
rare: where DICE is 0.3 and a patient's varies by 0.05 from run to run, 1 % of runs with 3 patients, 2 % with 2."""
EVERY = "all"
"""The dataset and the method of a finding that is about a tolerance, or about the run's tables."""
_QUICK = 1.0  # calibration workloads, a few milliseconds; what takes less cannot be timed well enough to be judged


def gated() -> list[str]:
    """The metrics that a baseline can hold: shares of which more is better, without oracles."""
    return [one.name for one in METRICS.values() if one.gated]


@dataclass(frozen=True)
class Measured:
    """What a run measured, in the form of a baseline.

    Attributes:
        cells: Those that were finished, with every seed.
        failures: The error of those that failed with some seed, by dataset and method.
        datasets: All that the run was to measure.
        planned: All cells that the run was to measure.
        empty: Whether nothing was finished, with any seed.
        doubts: Reasons not to trust the tables that this was read from.
    """

    cells: tuple[BaselineCell, ...]
    failures: Mapping[tuple[str, str], str]
    datasets: frozenset[str]
    planned: frozenset[tuple[str, str]]
    empty: bool = False
    doubts: tuple[str, ...] = ()


def measure(store: RunStore, metrics: Iterable[str]) -> Measured:
    """Reads what a run measured.

    Args:
        store: The run.
        metrics: Names from `gated()`. Those that the run does not have are ignored, so a baseline's tolerances will do.

    Raises:
        ResultsError: It has no record or no tables.
    """
    record, scores, cases = store.read(), store.scores(), store.cases()
    planned: dict[tuple[str, str], list[Cell]] = {}
    for entry in record.cells:
        planned.setdefault((entry.dataset, entry.method), []).append(entry)
    cells, failures, empty = [], {}, True
    for key, entries in planned.items():
        ends = [store.cell(entry.name).read() for entry in entries]
        of_seeds = [scores[scores["cell"] == entry.name] for entry in entries]
        # While a cell is run again, the tables still have what it measured before. Without the cells' folders, as where
        # only the tables were copied, a run that is done speaks by its tables.
        finished = [
            not rows.empty and (end is not None or record.status == "done")
            for rows, end in zip(of_seeds, ends, strict=True)
        ]
        for entry, rows in zip(entries, of_seeds, strict=True):
            for error in rows.loc[rows["error"] != "", "error"]:
                failures[key] = f"seed {entry.seed}: {error}"
        empty = empty and not any(
            done and (rows["error"] == "").all() for done, rows in zip(finished, of_seeds, strict=True)
        )
        if key in failures or not all(finished):
            continue
        rows, entry = pd.concat(of_seeds), entries[0]
        masks = headline(cases[cases["cell"].isin([entry.name for entry in entries])])
        policy = str(masks["policy"].iloc[0]) if len(masks) else ""
        known = [METRICS[name] for name in metrics if name in gated()]
        means = {one.name: _mean_score(rows, one.name, policy if one.kind == "mask" else "none") for one in known}
        cells.append(
            BaselineCell(
                dataset=key[0],
                method=key[1],
                seeds=tuple(entry.seed for entry in entries),
                fingerprint=entry.fingerprint,
                configuration=_configuration(entry, record.config.score),
                scores={metric: score for metric, score in means.items() if score is not None},
                runtime=_runtime(rows, entry.device, ends),
                dice=_dice(masks),
                code=entry.code,
                external=entry.external,
            )
        )
    return Measured(tuple(cells), failures, frozenset(record.datasets), frozenset(planned), empty, tuple(doubts(store)))


def make_baseline(store: RunStore, tolerance: Mapping[str, Tolerance], optional: Collection[str] = ()) -> Baseline:
    """Makes a baseline of a run.

    Args:
        store: The run.
        tolerance: By metric, and for `RUNTIME`.
        optional: Those of them that are left out where they can judge nothing.

    Raises:
        UsageError: Not every cell of the run is finished, its tables are not what it wrote, or the gate could not fail:
            a tolerance judges no cell, or a cell is judged by none.
        ResultsError: It has no record or no tables.
    """
    measured = measure(store, tolerance)
    if not measured.planned:
        raise UsageError(f"The run {store.name} has no cells: there is nothing to make a baseline of.")
    unfinished = measured.planned - {cell.key for cell in measured.cells} | set(measured.failures)
    if unfinished:
        raise UsageError(
            f"{' · '.join(min(unfinished))} of the run {store.name} is not finished: a baseline is made of a run "
            "without failures. The same bench run command goes on where it stopped."
        )
    if measured.doubts:
        raise UsageError(
            f"{measured.doubts[0]} A baseline is not made of tables that were changed. bench verify says more, and "
            f"bench score {store.folder} makes them again from the predictions."
        )
    baseline = Baseline(store.name, dict(tolerance), measured.cells)
    idle = [finding for finding in against_itself(baseline) if finding.kind == "nothing judged"]
    problems = [f"{_subject(finding)}: {finding.text}" for finding in idle if finding.what not in optional]
    if problems:
        scores = [item for cell in measure(store, gated()).cells for item in cell.scores.items()]
        had = dict.fromkeys(name for name, score in scores if score.value > METRICS[name].collapsed)
        raise UsageError(
            f"This gate could not fail. {' '.join(problems)} The run has {', '.join(had) or 'no scores'}: give a "
            f"tolerance that one of them can break, such as --tolerance {next(iter(had), 'dice')}=0.02."
        )
    left = {finding.what for finding in idle}
    return replace(baseline, tolerance={name: one for name, one in tolerance.items() if name not in left})


def against_itself(baseline: Baseline) -> list[Finding]:
    """Holds a baseline against what it was made of: what is not judged now never will be."""
    datasets = frozenset(cell.dataset for cell in baseline.cells)
    return check(baseline, Measured(baseline.cells, {}, datasets, frozenset(cell.key for cell in baseline.cells)))


def _subject(finding: Finding) -> str:
    return finding.what if finding.dataset == EVERY else f"{finding.dataset} · {finding.method}"


def parse_tolerances(texts: Sequence[str]) -> dict[str, Tolerance]:
    """Reads `dice=0.02`, `dice=paired` and `runtime=2`.

    Raises:
        UsageError: A name or a value is wrong.
    """
    found: dict[str, Tolerance] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in (names := (*gated(), RUNTIME)):
            raise UsageError(f"--tolerance {text}: there is no {name!r}. {suggest(name, names)}")
        if value == "paired" and name == "dice":
            found[name] = "paired"
            continue
        number = _number(value)
        if number is None or (number <= 1 if name == RUNTIME else number < 0):
            form = "a factor above 1, like runtime=2" if name == RUNTIME else f"at least 0, like {name}=0.02"
            paired = ", or dice=paired" if name == "dice" else ""
            raise UsageError(f"--tolerance {text}: it should be {form}{paired}.")
        if name == RUNTIME:
            found[name] = Factor(number)
            continue
        worst = METRICS[name].collapsed
        if number >= 1 - worst:
            raise UsageError(
                f"--tolerance {text}: {name} is at most 1, and {worst:g} once a method has collapsed, so that nothing "
                f"could break it. Give less, like {name}=0.02."
            )
        found[name] = Absolute(number)
    return found


def check(baseline: Baseline, measured: Measured) -> list[Finding]:
    """Holds a run against a baseline.

    Args:
        baseline: The scores of the baseline.
        measured: The scores of the run, with the metrics that the baseline has tolerances for.

    Returns:
        For every cell of the baseline, one finding if it cannot be compared, and else one for each tolerance, after
        those for its configuration and its code if they have changed. Cells that the baseline does not know follow, and
        what is judged by no tolerance or judges no cell, and what speaks against the run's tables.
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
    findings += [Finding("new", *key, "cell", None, None, "is not in the baseline") for key in new]
    findings += list(_nothing_judged(baseline, findings))
    told = "bench verify says more, bench score makes them again."
    return findings + [
        Finding("tables changed", EVERY, EVERY, "tables", None, None, f"{doubt} {told}") for doubt in measured.doubts
    ]


def _nothing_judged(baseline: Baseline, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Cells that no tolerance has judged, and tolerances that have judged no cell.

    The runtime, which another device is enough to leave unjudged, counts only where it is all that is to be judged.
    """
    wanted = [name for name in baseline.tolerance if name != RUNTIME] or [RUNTIME]
    for cell in baseline.cells:
        of_cell = [one for one in findings if (one.dataset, one.method) == cell.key]
        if not any(one.failed or (one.what in wanted and one.kind in JUDGED) for one in of_cell):
            yield Finding("nothing judged", *cell.key, "cell", None, None, f"none of {', '.join(wanted)} is judged.")
    for name in wanted:
        about = [one for one in findings if one.what == name]
        if about and not any(one.failed or one.kind in JUDGED for one in about):
            yield Finding("nothing judged", EVERY, EVERY, name, None, None, f"{about[0].text}.")


def _check_cell(
    before: BaselineCell,
    cells: Mapping[tuple[str, str], BaselineCell],
    tolerances: Mapping[str, Tolerance],
    measured: Measured,
) -> Iterator[Finding]:
    def found(kind: FindingKind, text: str) -> Finding:
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
    had = _cases(before)
    if now.dice and (lacking := had - _cases(now)):
        changes.append(
            f"{len(lacking)} of the baseline's {len(had)} images with a lesion have no prediction, such as "
            f"{min(lacking)}: means are over other images"
        )
    if changes:
        yield found("configuration changed", "; ".join(changes))
    if before.code and now.code != before.code:
        yield Finding("code changed", *before.key, "code", None, None, f"it is {now.code}, was {before.code}")
    for name, tolerance in tolerances.items():
        if not isinstance(tolerance, Factor):
            yield _check_score(name, before, now, tolerance)
    factor = tolerances.get(RUNTIME)
    if isinstance(factor, Factor):
        yield _check_runtime(before, now, factor.factor)


def _check_score(metric: str, cell: BaselineCell, now_cell: BaselineCell, tolerance: Tolerance) -> Finding:
    before, now = cell.scores.get(metric), now_cell.scores.get(metric)

    def found(kind: FindingKind, text: str) -> Finding:
        return Finding(kind, *cell.key, metric, before and before.value, now and now.value, text)

    if before is None:
        if now is not None:
            return found("new", f"{metric} is not in the baseline")
        of_masks = metric in METRICS and METRICS[metric].kind == "mask"
        masks = " of the method's own masks or of valid_dice" if of_masks else ""
        return found("not judged", f"there is no {metric}{masks}")
    if now is None:
        return found("missing", f"{metric} could not be computed in this run")
    if now.policy != before.policy:
        return found("configuration changed", f"masks are those of {now.policy}, were those of {before.policy}")
    allowance, seeds = _of_other_seeds(metric, cell, now_cell)
    kind, text = _judge(metric, cell, now_cell, tolerance, allowance)
    if kind == "ok":
        least = METRICS[metric].collapsed
        worst = replace(
            now_cell,
            scores={metric: replace(now, value=least)},
            dice={patient: dict.fromkeys(cases, 0.0) for patient, cases in cell.dice.items()},
        )
        if _judge(metric, cell, worst, tolerance, allowance)[0] != "regression":
            kind, text = "not judged", f"not even {metric} {least:g}, a total collapse, would be a regression ({text})"
            if tolerance == "paired":
                patients = len(cell.dice)
                text += f": DICE is of {patients} {'patient' if patients == 1 else 'patients'}"
    return found(kind, text + seeds)


def _judge(
    metric: str, cell: BaselineCell, now_cell: BaselineCell, tolerance: Tolerance, allowance: float
) -> tuple[FindingKind, str]:
    """What has become of a score that both have, and by how much it differs."""
    if isinstance(tolerance, Absolute):
        difference = round(now_cell.scores[metric].value - cell.scores[metric].value, DIGITS)
        low = high = difference
        margin = tolerance.absolute
        # A loss of 0.0103 is not to look like one of 0.010, which a tolerance of 0.01 allows.
        digits = DIGITS if round(abs(difference), 3) == margin != abs(difference) else 3
        text = f"{difference:+.{digits}f}, tolerance {margin:g}"
    else:
        difference, low, high = _paired(cell.dice, now_cell.dice)
        margin = NEGLIGIBLE
        text = f"{difference:+.3f}, paired 95 % interval {low:+.3f} to {high:+.3f}"
        if np.isnan(low):
            text = "a paired interval takes two patients or more"
    # An absolute tolerance is exceeded by the difference; a paired one, if all of the interval is on one side of zero.
    if difference < -margin - allowance and high < 0:
        return "regression", text
    if difference > margin + allowance and low > 0:
        return "improved", text
    if isinstance(tolerance, Absolute):
        return "ok", text
    value = cell.scores[metric].value
    if difference < -margin - allowance and difference <= -UNSURE * value:
        return "unsure", f"{text}: a quarter of the {metric} or more is lost, if these patients can be believed"
    if np.isnan(low):
        return "not judged", text
    if high - difference >= value:
        return "not judged", f"{text}: too wide, a loss of all {metric} would be no regression in it"
    return "ok", text


def _of_other_seeds(metric: str, cell: BaselineCell, now_cell: BaselineCell) -> tuple[float, str]:
    """How far a score may differ because its seeds do, and what is to be said of them.

    Twice the standard error of a difference of two means over seeds, from the baseline's deviation over seeds: what is
    judged must not widen what it is judged by, as a seed that collapsed would. Only where the baseline has a single
    seed, the deviation is the run's. 0 where the seeds are the same, and where no deviation is known.
    """
    if set(cell.seeds) == set(now_cell.seeds):
        return 0.0, ""
    counts = len(cell.seeds), len(now_cell.seeds)
    deviations = cell.scores[metric].deviation, now_cell.scores[metric].deviation
    known = [one for one in deviations if one is not None]
    said = [
        f"{', '.join(map(str, seeds))}{'' if deviation is None else f' (deviation {deviation:.3f})'}"
        for seeds, deviation in zip((now_cell.seeds, cell.seeds), reversed(deviations), strict=True)
    ]
    text = f"; seeds are {said[0]}, were {said[1]}"
    if not known:
        return 0.0, f"{text}: how far seeds differ is not known from one each; run the same seeds, or several"
    allowance = 2 * known[0] * float(np.sqrt(sum(1 / count for count in counts)))
    return allowance, f"{text}: {allowance:.3f} more is allowed for other seeds"


def _paired(before: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]) -> tuple[float, ...]:
    """The mean difference over the cases of both, and its 95 % interval over patients."""
    pairs = [
        (patient, now[patient][case] - dice)
        for patient, cases in before.items()
        for case, dice in cases.items()
        if case in now.get(patient, {})
    ]
    differences = np.array([difference for _, difference in pairs])
    if not len(differences):
        return (float("nan"),) * 3
    interval = mean_interval(differences, [patient for patient, _ in pairs], (-1, 1))
    return float(differences.mean()), interval.low, interval.high


def _check_runtime(cell: BaselineCell, now_cell: BaselineCell, factor: float) -> Finding:
    before, now = cell.runtime, now_cell.runtime

    def found(kind: FindingKind, text: str) -> Finding:
        return Finding(kind, *cell.key, RUNTIME, before and before.ratio, now and now.ratio, text)

    if cell.external or now_cell.external:
        return found("not judged", "the predictions were made elsewhere, so that no runtime was measured here")
    if before is None or now is None:
        which = "baseline" if before is None else "run"
        return found("not judged", f"the {which} has no calibration; measure again with bench run --force")
    if before.where != now.where:
        return found("not judged", f"measured on {now.where}, the baseline on {before.where}")
    growth = now.ratio / before.ratio if before.ratio else float("inf")
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


def _configuration(entry: Cell, scoring: ScoreRecord) -> dict[str, Any]:
    options = {f"option {name}": value for name, value in entry.settings.items()}
    weights = {f"weights {one.name}": one.sha256 for one in entry.weights}
    scored: dict[str, Any] = {"mask_edges": scoring.mask_edges, "padding": scoring.padding}
    if scoring.surface_tolerance != ScoreRecord.model_fields["surface_tolerance"].default:
        scored["surface_tolerance"] = scoring.surface_tolerance  # baselines of older versions do not have it
    return {"size": entry.size} | scored | options | weights


def _cases(cell: BaselineCell) -> set[str]:
    """The test images of which a cell has DICE."""
    return {case for of_patient in cell.dice.values() for case in of_patient}


def _mean_score(rows: pd.DataFrame, metric: str, policy: str) -> Score | None:
    """The mean over seeds; `None` where a seed has no value."""
    own = rows[(rows["metric"] == metric) & (rows["policy"] == policy) & ~rows["oracle"]]
    if len(own) < rows["cell"].nunique() or own["value"].isna().any():
        return None
    score = over_seeds(own)
    numbers = score.value, score.low, score.high, score.std
    value, *rest = (None if np.isnan(number) else round(float(number), DIGITS) for number in numbers)
    return Score(policy, value or 0.0, *rest)


def _runtime(rows: pd.DataFrame, device: str, ends: Sequence[CellRecord | None]) -> Runtime | None:
    predict, calibration = (
        float(rows.loc[rows["metric"] == name, "value"].mean()) for name in ("predict_ms", "calibration_ms")
    )
    threads = [end.environment["threads"] for end in ends if end and "threads" in end.environment]
    if np.isnan(predict) or np.isnan(calibration) or not threads:
        return None
    return Runtime(device, threads[0], round(predict, 3), round(calibration, 3))


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
