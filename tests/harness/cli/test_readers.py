"""Every command that reads a run, on runs whose seeds and cells are finished, failed, running or missing."""

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from miasbench.harness import registry
from miasbench.harness.cli import main
from miasbench.harness.config import RunConfig
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import execute, write_run_tables
from miasbench.results.record import CellRecord
from miasbench.results.store import RunStore
from miasbench.results.tables import failed_cell

from ...support import plugins

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = "phantom_brain_mri:train=2,valid=2,test=4,size=64"
STATES = ("finished", "failed", "running", "missing")
READERS = {
    "show": ["show", "RUN", "--published"],
    "stats": ["stats", "RUN", "--pairs"],
    "compare": ["compare", "WHOLE", "RUN"],
    "compare-first": ["compare", "RUN", "WHOLE"],
    "baseline": ["baseline", "RUN", "--out", "OUT/b.json"],
    "check": ["check", "RUN", "--baseline", "BASELINE", "--junit", "OUT/g.xml", "--markdown", "OUT/g.md"],
    "verify": ["verify", "RUN"],
    "list": ["list", "runs", "--results", "RUN/.."],
}
SLOW = {
    "thresholds": ["thresholds", "RUN", "--out", "OUT"],
    "score": ["score", "RUN"],
    "report": ["report", "RUN", "--out", "OUT", "--published"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunStore, Path]:
    """A run of two methods and two seeds, and its baseline."""
    root = tmp_path_factory.mktemp("whole")
    values: dict[str, Any] = {"methods": ["scripted", "trained"], "dataset": [TINY], "size": 32}
    values |= {"seeds": [0, 1], "device": "cpu", "weights": "embedded", "results": root / "results"}
    with pytest.MonkeyPatch.context() as patch:
        for method in (plugins.Scripted, plugins.Trained):
            entry = registry.Entry(f"{plugins.__name__}:{method.__name__}", "for a test")
            patch.setitem(registry.METHODS, method.__name__.lower(), entry)
        plan = make_plan(RunConfig.model_validate(values))
        execute(plan)
    assert run("baseline", str(plan.store.folder), "--out", str(root / "b.json")) == 0
    return plan.store, root / "b.json"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def put(store: RunStore, states: dict[str, str]) -> None:
    """Brings cells into states: failed, running (as it was killed when it was run again) or missing (never begun)."""
    record = store.read()
    for entry in record.cells:
        cell, state = store.cell(entry.name), states[entry.name]
        identity = {str(name): value for name, value in cell.read_tables().scores.iloc[0].items()}
        if state == "failed":
            cell.write_tables(failed_cell(identity, "RuntimeError: out of cheese"))
            cell.write(CellRecord(status="failed", error="RuntimeError: out of cheese"))
        elif state == "running":
            cell.reopen()
        elif state == "missing":
            shutil.rmtree(str(cell.folder))
    done = not {"running", "missing"} & set(states.values())
    write_run_tables(store, list(states))
    store.write(record.model_copy(update={"status": "done" if done else "running"}))


def expected(states: list[str]) -> dict[str, set[int]]:
    """Exit codes, given the states of the cells of both methods, seed by seed."""
    complete = [set(of_method) for of_method in (states[:2], states[2:])]
    checked = 0
    if any("failed" in of_method for of_method in complete):
        checked = 3
    elif any(of_method != {"finished"} for of_method in complete):
        checked = 2
    nothing = "finished" not in states
    return {
        "baseline": {0 if set(states) == {"finished"} else 2},
        "check": {4 if nothing else checked},
        "show": {0},
        "list": {0},
        "verify": {0},
        "compare": {2 if nothing else 0},
        "compare-first": {2 if nothing else 0},
        "thresholds": {2 if nothing else 0},
        "report": {2 if nothing else 0},
        "score": {0},
        "stats": {0 if all("finished" in of_method for of_method in complete) else 2},
    }


def read_all(
    whole: tuple[RunStore, Path],
    states: list[str],
    readers: dict[str, list[str]],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original, baseline = whole
    shutil.copytree(str(original.folder), folder / original.name)
    store = RunStore(folder / original.name)
    names = [cell.name for cell in store.read().cells]
    put(store, dict(zip(names, states, strict=True)))
    (folder / "out").mkdir()
    places = {"RUN": str(store.folder), "WHOLE": str(original.folder), "BASELINE": str(baseline)}
    places["OUT"] = str(folder / "out")
    for name, command in readers.items():
        words = []
        for word in command:
            for place, path in places.items():
                word = path + word.removeprefix(place) if word.split("/")[0] == place else word
            words.append(word)
        code = run(*words)
        said = capsys.readouterr()
        assert code in expected(states)[name], (name, states, said)
        assert "Traceback" not in said.out + said.err
        if name == "check" and "failed" in states and code == 3:
            assert "out of cheese" in said.out


@pytest.mark.parametrize(
    ("states", "other"),
    [
        *((pair, "finished") for pair in product(STATES, STATES)),
        *((pair, other) for pair in zip(STATES, STATES, strict=True) for other in ("failed", "missing")),
    ],
)
def test_no_combination_of_states_ends_in_a_traceback_or_a_wrong_exit_code(
    whole: tuple[RunStore, Path],
    states: tuple[str, str],
    other: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    read_all(whole, [*states, other, other], READERS, tmp_path, capsys)


@pytest.mark.parametrize("states", ["finished-failed", "failed-finished", "running-failed", "missing-missing"])
def test_reports_and_scores_are_made_of_what_there_is(
    whole: tuple[RunStore, Path], states: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_all(whole, [*states.split("-"), "finished", "finished"], SLOW, tmp_path, capsys)


@pytest.mark.parametrize("command", [*READERS, *SLOW])
def test_a_damaged_record_and_damaged_tables_are_one_message(
    whole: tuple[RunStore, Path], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, baseline = whole
    for damage in ("run.json", "cell.json", "*.parquet"):
        folder = tmp_path / damage.replace("*", "all")
        shutil.copytree(str(original.folder), folder / original.name)
        for file in (folder / original.name).rglob(damage):
            file.write_bytes(b'{"cells": [' if damage.endswith("json") else b"PAR1 no more")
        places = {"RUN": str(folder / original.name), "WHOLE": str(original.folder), "OUT": str(folder)}
        places["BASELINE"] = str(baseline)
        words = []
        for word in (READERS | SLOW)[command]:
            for place, path in places.items():
                word = path + word.removeprefix(place) if word.split("/")[0] == place else word
            words.append(word)
        run(*words)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err


def test_an_older_record_without_what_is_new_is_read(
    whole: tuple[RunStore, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, baseline = whole
    shutil.copytree(str(original.folder), tmp_path / original.name)
    path = tmp_path / original.name / "run.json"
    record = json.loads(path.read_text())
    del record["tables"], record["seal"], record["environment"]["plugins"]
    path.write_text(json.dumps(record))
    assert run("check", str(path.parent), "--baseline", str(baseline)) == 0
    assert run("verify", str(path.parent)) == 0
    assert "not checked  tables by their checksums" in capsys.readouterr().out
