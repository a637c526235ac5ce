"""Cells in processes: the same results as without, whatever happens to a process."""

import time
from collections.abc import Generator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from miasbench.harness.running.cells import CellProgress, Outcome
from miasbench.harness.running.claims import Claims
from miasbench.harness.running.local import local, prepare
from miasbench.harness.running.planning import Plan, make_plan
from miasbench.harness.running.runner import execute
from miasbench.results.files import ResultsError

from ...support.running import assert_equal_runs, config, run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unruly")]

TWO: dict[str, Any] = {"workers": 2, "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare(["intensity"])


def lives(diary: Path) -> dict[str, list[tuple[float, float]]]:
    """From when to when each process of a method kept the diary."""
    times: dict[tuple[str, str], list[float]] = {}
    for line in diary.read_text().splitlines():
        method, _, process, _, time = line.split()
        times.setdefault((method, process), []).append(float(time))
    found: dict[str, list[tuple[float, float]]] = {}
    for (method, _), noted in times.items():
        found.setdefault(method, []).append((min(noted), max(noted)))
    return found


def overlap(diary: Path) -> bool:
    """Whether two processes kept the diary at the same time."""
    spans = sorted(span for of_method in lives(diary).values() for span in of_method)
    return any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def test_several_at_once_make_the_same_tables_as_one_after_the_other(tmp_path: Path, unruly: Path) -> None:
    methods = ("unruly[pause=0.1]", "unruly[pause=0.05]", "intensity", "unruly[harm=cuda]")
    there, ended = run(tmp_path / "processes", *methods, executor=local, seeds=[0, 1], **TWO)
    assert overlap(unruly)
    here, outcomes = run(tmp_path / "here", *methods, seeds=[0, 1])
    assert [outcome.status for outcome in ended] == [outcome.status for outcome in outcomes]
    assert_equal_runs(there, here)
    machine = next(record for cell in ended if (record := there.cell(cell.cell.name).read())).environment
    assert (machine["threads"], machine["cells_at_once"]) == (1, 2)


def test_what_is_finished_starts_no_process(tmp_path: Path, unruly: Path) -> None:
    run(tmp_path, "unruly", executor=local)
    before = unruly.read_text()
    _, outcomes = run(tmp_path, "unruly", executor=local)
    assert [outcome.status for outcome in outcomes] == ["kept"]
    assert unruly.read_text() == before


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("SIGKILL", "was killed (SIGKILL), as a system does that has no more memory"),
        ("SIGSEGV", "crashed (SIGSEGV)"),
        ("exit", "ended with exit code 3"),
        ("cuda", "RuntimeError: CUDA error: an illegal memory access"),
    ],
)
def test_a_process_that_dies_is_a_failed_row_and_the_others_finish(tmp_path: Path, harm: str, says: str) -> None:
    store, outcomes = run(tmp_path, f"unruly[harm={harm}]", "unruly", "intensity", executor=local, **TWO)
    assert [outcome.status for outcome in outcomes] == ["failed", "finished", "finished"]
    (error,) = store.scores().query("error != ''")["error"]
    assert says in error
    assert (store.cell(outcomes[0].cell.name).folder / "error.txt").exists()


def test_a_process_that_is_killed_beside_others_is_tried_again_alone(tmp_path: Path, unruly: Path) -> None:
    methods = ("unruly[harm=once,pause=0.1]", "unruly[pause=0.2]")
    _, outcomes = run(tmp_path, *methods, executor=local, **TWO)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    (first, second), ((_, end),) = sorted(lives(unruly)[methods[0]]), lives(unruly)[methods[1]]
    assert first[0] < end < second[0]


def test_what_memory_does_not_hold_waits(tmp_path: Path, unruly: Path) -> None:
    free = psutil.virtual_memory().available / 2**30
    methods = ("unruly[pause=0.1]", "unruly[pause=0.2]")
    run(tmp_path, *methods, executor=local, cell_memory=0.8 * free, **TWO)
    assert not overlap(unruly)


def test_the_next_cell_runs_while_the_tables_of_the_one_before_are_written(tmp_path: Path, unruly: Path) -> None:
    plan = make_plan(config(tmp_path, "unruly", "unruly[pause=0.01]", workers=1, threads=1))
    begun = []

    def watched(plan: Plan, claims: Claims, progress: CellProgress) -> Generator[Outcome]:
        for outcome in local(plan, claims, progress):
            # Whoever is handed the outcome may take as long as it likes: the other cell does not wait for it.
            end = time.monotonic() + 30
            while "unruly[pause=0.01] fit" not in unruly.read_text() and time.monotonic() < end:
                time.sleep(0.02)
            begun.append("unruly[pause=0.01] fit" in unruly.read_text())
            yield outcome

    outcomes = execute(plan, executor=watched)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert begun == [True, True]
    assert not overlap(unruly), "one at a time all the same"


def test_a_full_disk_ends_the_run_and_the_processes(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ResultsError, match="its disk is full"):
        run(tmp_path, "unruly[harm=disk]", "unruly[pause=0.5]", executor=local, **TWO)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_each_cell_has_a_gpu_of_its_own(tmp_path: Path, unruly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    plan = make_plan(config(tmp_path, "unruly[pause=0.1]", "unruly[pause=0.2]", "unruly[pause=0.3]"))
    execute(replace(plan, device="cuda"), executor=local)
    assert {line.split()[3] for line in unruly.read_text().splitlines()} == {"5", "GPU-7"}
    assert overlap(unruly)
