"""What happens to a run at night: it is killed, interrupted, started twice, and its clock and its disk play tricks."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import execute
from miasbench.results.files import ResultsError
from miasbench.results.store import RunStore

from ..support.running import TINY, assert_equal_runs, config, predictions, run

METHODS = "unruly[pause=0.03],unruly[pause=0.04],intensity"
_KILLS = 20

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(unruly: Path) -> Start:
    """Starts a run of three methods as a user does."""

    def begin(results: Path, *more: str, methods: str = METHODS, dataset: str = TINY) -> subprocess.Popen[str]:
        # Where tests run in the background, a shell has made all they start deaf to SIGINT.
        listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        command = [sys.executable, "-c", f"{listening}; from miasbench.harness.cli import main; main()"]
        command += ["run", "--methods", methods, "--dataset", dataset, "--size", "64", "--results", str(results)]
        command += ["--threads", "1", "--executor", "local", *more]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    return begin


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for its end and returns what it said."""
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"it ended too early: {process.communicate()[0]}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kept(results: Path) -> list[Path]:
    return list(results.glob("*/cells/*/*/*.npz"))


@pytest.mark.soak
def test_killed_in_the_middle_the_same_command_keeps_what_is_there(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path / "killed", methods="intensity,unruly[pause=0.2]")
    wait_for(lambda: list((tmp_path / "killed").glob("*/cells/*-unruly*/test/*.npz"))[1:], process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    store = RunStore(next((tmp_path / "killed").iterdir()))
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "its processes end with it"
    before = predictions(store)
    assert store.read().status == "running"
    finish(start(tmp_path / "killed", methods="intensity,unruly[pause=0.2]"))
    assert store.read().status == "done"
    assert all(predictions(store)[name] == at for name, at in before.items())


@pytest.mark.soak
def test_killed_twenty_times_the_tables_are_those_of_an_undisturbed_run(tmp_path: Path, start: Start) -> None:
    kills, results, dataset = random.Random(7), tmp_path / "killed", TINY.replace("valid=4,test=6", "valid=10,test=30")
    counts = []
    for _ in range(_KILLS):
        process = start(results, dataset=dataset)
        # After the record is there and up to three predictions more, and then up to a tenth of a second.
        enough = len(kept(results)) + kills.randrange(4)
        wait_for(lambda enough=enough: [*results.glob("*/run.json")] and len(kept(results)) >= enough, process)
        time.sleep(kills.random() / 10)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        counts.append(len(kept(results)))
    assert counts == sorted(counts), "nothing that is finished is lost"
    finish(start(results, dataset=dataset))
    finish(start(tmp_path / "undisturbed", dataset=dataset))
    killed, undisturbed = (RunStore(next((tmp_path / name).iterdir())) for name in ("killed", "undisturbed"))
    assert_equal_runs(killed, undisturbed)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.soak
def test_two_processes_on_one_folder_share_the_cells(tmp_path: Path, start: Start, unruly: Path) -> None:
    methods = ",".join(f"unruly[pause=0.0{digit}]" for digit in range(1, 5))
    both = [start(tmp_path / "shared", "--workers", "1", methods=methods) for _ in range(2)]
    for process in both:
        finish(process)
    fits = [line.split() for line in unruly.read_text().splitlines() if " fit " in line]
    assert sorted(fit[0] for fit in fits) == methods.split(","), "each cell is run by one of them"
    finish(start(tmp_path / "alone", methods=methods))
    assert_equal_runs(*(RunStore(next((tmp_path / name).iterdir())) for name in ("shared", "alone")))


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("everybody", [False, True], ids=["process", "group"])
def test_interrupted_it_says_so_and_leaves_nothing(
    tmp_path: Path, start: Start, number: signal.Signals, everybody: bool
) -> None:
    process = start(tmp_path, methods="unruly[pause=0.3]")
    wait_for(lambda: kept(tmp_path), process)
    assert_ends(process, number, everybody)
    assert not [*tmp_path.rglob("*.tmp")]


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_while_the_fork_server_imports(tmp_path: Path, start: Start, number: signal.Signals) -> None:
    process = start(tmp_path)
    wait_for(lambda: len(psutil.Process(process.pid).children()) >= 2, process)  # one tracks resources
    time.sleep(0.5)  # it is begun, and imports torch for longer than that
    assert_ends(process, number, everybody=True)


def assert_ends(process: subprocess.Popen[str], number: signal.Signals, everybody: bool) -> None:
    """Sends a signal to a process, or as a terminal does to its group, and holds it to what is promised then."""
    workers = psutil.Process(process.pid).children(recursive=True)
    (os.killpg if everybody else os.kill)(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("Interrupted. What is finished is kept; the same command goes on from there.\n")
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def test_interrupted_while_the_command_itself_is_imported_it_shows_no_traceback() -> None:
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    # numpy is the first of what takes a moment.
    late = "import sys; sys.meta_path.insert(0, type('F', (), {'find_spec': find})())"
    find = "def find(self, name, *_):\n if name == 'numpy':\n  sys.meta_path.pop(0); signal.raise_signal(signal.SIGINT)"
    program = f"{heard}\n{find}\n{late}\nfrom miasbench.harness.cli import main; main(['list', 'policies'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == "Interrupted. What is finished is kept; the same command goes on from there."


@pytest.mark.soak
def test_interrupted_again_while_its_processes_end_it_shows_no_traceback(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path, methods="unruly[pause=0.3]")
    wait_for(lambda: kept(tmp_path), process)
    for _ in range(20):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said


@pytest.mark.soak
def test_a_reader_that_goes_away_does_not_stop_a_run(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path / "results", methods="intensity,unruly[pause=0.01]")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=240) == 0
    assert RunStore(next((tmp_path / "results").iterdir())).read().status == "done"


@pytest.mark.usefixtures("unruly")
def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(config(tmp_path / "jumped", "unruly[harm=clock]", "intensity"))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", time.time)  # both are put back when the context ends
        patch.setattr(time, "strftime", time.strftime)
        assert [outcome.status for outcome in execute(plan)] == ["finished", "finished"]
        assert plan.store.read().content()["finished"].startswith("1970")
    steady, _ = run(tmp_path / "steady", "unruly", "intensity")
    jumped = plan.store.scores()
    assert (jumped.query("metric in ['fit_seconds', 'predict_ms']")["value"] >= 0).all()
    for one, other in zip(plan.store.cases()["dice"], steady.cases()["dice"], strict=True):
        assert one == other or (one != one and other != other)
    for file in plan.store.folder.rglob("*"):
        os.utime(file.path, (2e9, 2e9))
    assert [outcome.status for outcome in execute(plan)] == ["kept", "kept"]


@pytest.mark.usefixtures("plugins")
def test_a_folder_that_cannot_be_written_is_named() -> None:
    # Linux lets nobody, not even root, write here; permissions alone would not hold root back.
    with pytest.raises(ResultsError, match=r"/sys/.*it is not writable. Make it so, or name another --results"):
        run(Path("/sys/bench-results"), "intensity")
