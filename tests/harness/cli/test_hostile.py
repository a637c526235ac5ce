"""`bench` over several hundred hostile folders: nothing outside is touched, nothing connected to, nothing hangs."""

import os
import resource
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from matplotlib.figure import Figure
from PIL import Image

from miasbench.harness.cli import main

from ...support import hostile

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sys.platform != "linux", reason="it forks, and asks Linux")]

DATASET = "phantom_brain_mri:train=2,valid=2,test=4,size=64"
RUN = f"run --methods intensity,intensity[sigma=2] --dataset {DATASET} --size 64 --name it --results"
SECONDS, GIB = 20, 1.0
_PATIENCE = 5  # times as long may it take where others compute beside it
_DRAWN = 20  # one command of so many draws its figures, which is most of the time that it takes
FINE = (0, 1, 2, 3, 4, 5)
SIGNS = ("Traceback", "That should not happen", "CONNECTED", "\x1b", "\n::")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is whole, and all that commands import, before processes are forked."""
    root = tmp_path_factory.mktemp("whole")
    for arguments in (
        *(f"{RUN} {root}", f"score {root / 'it'}", f"verify {root / 'it'}", f"thresholds {root / 'it'}"),
        *(f"report {root / 'it'} --out {root / 'report'}", f"export {root / 'it'} --out {root / 'export'}"),
        *(f"baseline {root / 'it'} --out {root / 'b.json'}", f"check {root / 'it'} --baseline {root / 'b.json'}"),
        *(f"data verify {DATASET}", f"list runs --results {root}", f"stats {root / 'it'}"),
        *(f"{RUN.replace('name it', 'name other')} {root}", f"compare {root / 'it'} {root / 'other'}"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments.split())
        assert end.value.code in (0, 5), arguments
    return root / "it"


class Child(NamedTuple):
    """A command in a process of its own, which has been forked off this one."""

    process: int
    begin: float
    memory: int
    log: Path


def start(arguments: Sequence[str], log: Path, *, drawn: bool = True) -> Child:
    child = Child(0, time.monotonic(), psutil.Process().memory_info().rss, log)
    process = os.fork()
    if not process:
        _run(arguments, log, drawn)
    return child._replace(process=process)


def problem(child: Child) -> str:
    """Waits for a command, and says what it has done that it should not; empty where that is nothing."""
    while True:
        ended, status, used = os.wait4(child.process, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - child.begin > _PATIENCE * SECONDS:
            os.kill(child.process, signal.SIGKILL)
            os.wait4(child.process, 0)
            return f"it takes more than {_PATIENCE * SECONDS} s"
        time.sleep(0.005)
    told = child.log.read_text(errors="backslashreplace")
    code = os.waitstatus_to_exitcode(status)
    if used.ru_utime + used.ru_stime > SECONDS:
        return f"it computes for {used.ru_utime + used.ru_stime:.0f} s"
    if used.ru_maxrss * 1024 - child.memory > GIB * 2**30:
        return f"it takes {(used.ru_maxrss * 1024 - child.memory) / 2**30:.1f} GiB"
    for sign in SIGNS:
        if sign in told:
            return f"it says {sign!r}: {told[-600:]!r}"
    return "" if code in FINE else f"it ends with {code}: {told[-600:]!r}"


def _run(arguments: Sequence[str], log: Path, drawn: bool) -> None:
    def refuse(*asked: Any, **_: Any) -> Any:
        print("CONNECTED", asked)
        raise OSError("refused")

    def save(_figure: Figure, to: Any, **_: object) -> None:
        Image.new("L", (1, 1)).save(to, "PNG")

    code = 99
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
        for name in ("connect", "connect_ex", "sendto"):
            setattr(socket.socket, name, refuse)
        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            setattr(socket, name, refuse)
        if not drawn:
            Figure.savefig = save  # type: ignore[method-assign]
        main(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


class Place:
    """A folder for one hostile folder at a time, and one of the user's beside it, which must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.outside, self.log = folder, folder / "outside", folder / "log"
        self.at = folder / "results" / "it"
        self._mine = {
            name: f"mine: {name}".encode()
            for name in ("mine.txt", "error.txt", "cell.json", ".0123456789abcdef.tmp", "test/mine.npz")
        }
        self._make()

    def _make(self) -> None:
        for name, content in self._mine.items():
            hostile.put(self.outside / name, content)

    def empty(self) -> None:
        for path in self.folder.iterdir():
            if path != self.outside:
                hostile.away(path)

    def touched(self) -> str:
        """Says so where the user's folder is not as it was, and makes it anew; empty where it is."""
        found = {
            str(path.relative_to(self.outside)): path.read_bytes() for path in self.outside.rglob("*") if path.is_file()
        }
        if found == self._mine:
            return ""
        shutil.rmtree(self.outside)
        self._make()
        return "it has touched what is outside"


COMMANDS = (
    *("show {run}", "score {run}", "verify {run}", "stats {run}", "thresholds {run}", "report {run} --out {out}"),
    *("compare {run} {other}", "export {run} --out {out}", "baseline {run} --out {out}.json"),
    *("check {run} --baseline {baseline}", "list runs --results {results}", f"{RUN} {{results}} --force --maps none"),
)


def on_run(number: int, whole: Path, place: Place) -> list[str]:
    """One of the things that are done with a received run."""
    names = {"run": place.at, "results": place.at.parent, "out": place.folder / "out"}
    return COMMANDS[number].format(**names, other=whole.parent / "other", baseline=whole.parent / "b.json").split()


Task = tuple[hostile.Hostile, Callable[[Place], list[str]]]


def soak(tasks: Iterable[Task], folder: Path, begin: Callable[[Place], object]) -> tuple[int, list[str]]:
    """Runs a command on each hostile folder, on each core one at a time.

    Args:
        tasks: Hostile folders, each with what to do there.
        folder: Where they are made.
        begin: Makes what a hostile folder is made of.

    Returns:
        How many there were, and what was wrong.
    """
    free = deque(Place(folder / str(number)) for number in range(min(4, os.cpu_count() or 1)))
    running: deque[tuple[str, Place, Child]] = deque()
    found: list[str] = []
    count = 0

    def end() -> None:
        label, place, child = running.popleft()
        found.extend(f"{label}: {wrong}" for wrong in (problem(child), place.touched()) if wrong)
        free.append(place)

    for count, (one, command) in enumerate(tasks, 1):
        if not free:
            end()
        place = free.popleft()
        place.empty()
        begin(place)
        one.make(place.at, place.outside)
        arguments = command(place)
        child = start(arguments, place.log, drawn=count % _DRAWN == 0)
        running.append((f"{one.kind}, {one.name}, bench {' '.join(arguments[:2])}", place, child))
    while running:
        end()
    return count, found


def test_runs(whole: Path, tmp_path: Path) -> None:
    numbers = cycle(range(len(COMMANDS)))
    tasks = ((one, partial(on_run, next(numbers), whole)) for one in hostile.runs(whole))
    count, found = soak(tasks, tmp_path, lambda place: shutil.copytree(whole, place.at))
    assert not found, "\n".join([f"{len(found)} of {count}", *found[:40]])
    assert count > 800


@pytest.mark.usefixtures("whole")
def test_datasets_and_archives(tmp_path: Path) -> None:
    verified = [(one, lambda place: ["data", "verify", str(place.at / "card.yaml")]) for one in hostile.datasets()]
    measured = [(one, measure) for one in hostile.datasets()]
    archives = [(one, add) for one in hostile.archives()]
    count, found = soak([*verified, *measured, *archives], tmp_path, lambda _: None)
    assert not found, "\n".join([f"{len(found)} of {count}", *found[:40]])
    assert count > 110


def measure(place: Place) -> list[str]:
    return [*RUN.split(), str(place.folder / "r"), "--dataset", str(place.at / "card.yaml")]


def add(place: Place) -> list[str]:
    (archive,) = place.at.iterdir()
    return ["data", "add", "new", str(archive), "--data-root", str(place.folder / "data")]
