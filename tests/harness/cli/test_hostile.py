"""`bench` over several hundred hostile folders: nothing outside is touched, nothing connected to, nothing hangs."""

import os
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from miasbench.harness.cli import main

from ...support import hostile

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sys.platform != "linux", reason="it forks, and asks Linux")]

RUN = "run --methods intensity --dataset phantom_brain_mri:train=2,valid=2,test=4,size=64 --size 64 --name it --results"
SECONDS, GIB = 20, 1.0
_PATIENCE = 5  # times as long may it take where others compute beside it
FINE = (0, 1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is whole, and all that commands import, before processes are forked."""
    root = tmp_path_factory.mktemp("whole")
    for arguments in (
        *(f"{RUN} {root}", f"score {root / 'it'}", f"verify {root / 'it'}", f"thresholds {root / 'it'}"),
        *(f"report {root / 'it'} --out {root / 'report'}", f"export {root / 'it'} --out {root / 'export'}"),
        *(f"baseline {root / 'it'} --out {root / 'b.json'}", f"check {root / 'it'} --baseline {root / 'b.json'}"),
        *("data verify phantom_brain_mri:train=2,valid=2,test=4,size=64", f"list runs --results {root}"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments.split())
        assert end.value.code in (0, 5), arguments
    return root / "it"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "test").mkdir(parents=True)
    for name in ("mine.txt", "error.txt", "cell.json", ".0123456789abcdef.tmp", "test/mine.npz"):
        (folder / name).write_text(f"mine: {name}")
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def problem(arguments: Sequence[str], log: Path) -> str:
    """What a command does that it should not, in a process of its own; empty where that is nothing."""
    begin, before = time.monotonic(), psutil.Process().memory_info().rss
    child = os.fork()
    if not child:
        _run(arguments, log)
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - begin > _PATIENCE * SECONDS:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            return f"it takes more than {_PATIENCE * SECONDS} s"
        time.sleep(0.005)
    told = log.read_text(errors="backslashreplace")
    code = os.waitstatus_to_exitcode(status)
    if used.ru_utime + used.ru_stime > SECONDS:
        return f"it computes for {used.ru_utime + used.ru_stime:.0f} s"
    if used.ru_maxrss * 1024 - before > GIB * 2**30:
        return f"it takes {(used.ru_maxrss * 1024 - before) / 2**30:.1f} GiB"
    for sign in ("Traceback", "CONNECTED", "\x1b", "\n::"):
        if sign in told:
            return f"it says {sign!r}: {told[-600:]!r}"
    return "" if code in FINE else f"it ends with {code}: {told[-600:]!r}"


def _run(arguments: Sequence[str], log: Path) -> None:
    def refuse(*asked: Any, **_: Any) -> Any:
        print("CONNECTED", asked)
        raise OSError("refused")

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
        main(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def test_runs(whole: Path, outside: Path, tmp_path: Path) -> None:
    before, found = content_of(outside), []
    at, out = tmp_path / "results" / "it", tmp_path / "out"
    others = cycle(
        [
            *(
                ["show", str(at)],
                ["score", str(at)],
                ["verify", str(at)],
                ["thresholds", str(at)],
                ["report", str(at), "--out", str(out)],
            ),
            *(["export", str(at), "--out", str(out)], ["baseline", str(at), "--out", str(out / "b.json")]),
            *(
                ["check", str(at), "--baseline", str(whole.parent / "b.json")],
                ["list", "runs", "--results", str(at.parent)],
            ),
            [*RUN.split(), str(at.parent), "--force", "--maps", "none"],
        ]
    )
    count = 0
    for one in islice(hostile.runs(whole), 0, None, 2):  # some of each kind; all take a quarter of an hour
        shutil.rmtree(at.parent, ignore_errors=True)
        shutil.copytree(whole, at)
        one.make(at, outside)
        count += 1
        arguments = next(others)
        if wrong := problem(arguments, tmp_path / "log"):
            found.append(f"{one.kind}, {one.name}, bench {arguments[0]}: {wrong}")
        if content_of(outside) != before:
            found.append(f"{one.kind}, {one.name}, bench {arguments[0]}: it has touched what is outside")
            shutil.rmtree(outside)
            for name, content in before.items():
                hostile.put(outside / name, content)
    assert not found, "\n".join([f"{len(found)} of {count}", *found[:40]])
    assert count > 300


def test_datasets_and_archives(whole: Path, outside: Path, tmp_path: Path) -> None:
    before, found = content_of(outside), []
    count = 0
    for one in [*hostile.datasets(), *hostile.archives()]:
        at, data = tmp_path / "d", tmp_path / "data"
        for folder in (at, data):
            shutil.rmtree(folder, ignore_errors=True)
        one.make(at, outside)
        count += 1
        card = at / "card.yaml"
        if card.exists():
            commands = [["data", "verify", str(card)], [*RUN.split(), str(tmp_path / "r"), "--dataset", str(card)]]
        else:
            (archive,) = at.iterdir()
            commands = [["data", "add", "new", str(archive), "--data-root", str(data)]]
        for arguments in commands:
            if wrong := problem(arguments, tmp_path / "log"):
                found.append(f"{one.kind}, {one.name}, bench {' '.join(arguments[:2])}: {wrong}")
        if content_of(outside) != before:
            found.append(f"{one.kind}, {one.name}: it has touched what is outside")
    assert not found, "\n".join([f"{len(found)} of {count}", *found[:40]])
    assert count > 60
