"""Processes that work beside this one: how they are started, listened to and ended."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

import psutil

from ..streams import open_streams
from .cells import CellProgress

_PATIENCE = 0.5  # seconds between two looks at memory and at what other processes have finished
_GRACE = 5  # seconds that a process has to end by itself
_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def preload(modules: Sequence[str]) -> None:
    """Starts the forkserver, which imports modules once for all processes, while this process goes on."""
    if _START == "forkserver":
        forkserver.set_forkserver_preload([*modules])
        with _deaf_to_ctrl_c():
            forkserver.ensure_running()


@dataclass(frozen=True)
class Lost:
    """A process that came to its end before its work did.

    Attributes:
        text: How, as the end of a sentence.
        killed: Whether it was killed.
    """

    text: str
    killed: bool = False


@dataclass(frozen=True)
class Done:
    """What the work returned."""

    result: Any


class Worker:
    """A process that does one piece of work, seen from the one that started it.

    Args:
        work: A function of a module. It is given the arguments, and, behind them, a progress callback.
        arguments: What it is called with.
        variables: Variables of the environment that only this process has.
    """

    def __init__(self, work: Callable[..., Any], *arguments: Any, variables: dict[str, str] | None = None) -> None:
        context: Any = multiprocessing.get_context(_START)  # typeshed knows no Process of a context
        self.connection, other = context.Pipe(duplex=False)
        given = dict(os.environ) | (variables or {})
        self.process: BaseProcess = context.Process(target=_work, args=(other, work, arguments, given))
        with _deaf_to_ctrl_c(), _without_main():
            self.process.start()
        other.close()

    def listen(self, progress: CellProgress) -> Done | Lost | None:
        """Hears all that the process has to say; returns how it ended, if it has.

        Raises:
            Exception: What the work raised.
        """
        try:
            while self.connection.poll():
                said = self.connection.recv()
                if isinstance(said, tuple):
                    progress(*said)
                    continue
                self.process.join(_GRACE)
                self.stop()
                if isinstance(said, Exception):
                    raise said
                return said
        except EOFError:
            self.process.join()
            self.connection.close()
            return _lost(self.process.exitcode)
        return None

    def memory(self) -> int:
        """Resident bytes of the process."""
        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            return 0

    def stop(self) -> None:
        """Ends the process, if need be by force."""
        self.process.terminate()
        self.process.join(_GRACE)
        self.process.kill()
        self.process.join()
        self.connection.close()


AnyWorker = TypeVar("AnyWorker", bound=Worker)


def spoken(running: Sequence[AnyWorker]) -> list[AnyWorker]:
    """Those that have something to say, or have ended; none after a while."""
    ready = connection.wait([worker.connection for worker in running], timeout=_PATIENCE)
    return [worker for worker in running if worker.connection in ready]


def stop_all(running: Sequence[Worker]) -> None:
    """Ends them together."""
    for worker in running:
        worker.process.terminate()
    for worker in running:
        worker.stop()


def _lost(code: int | None) -> Lost:
    """Why a process ended without a word."""
    if code is None or code >= 0:
        return Lost(f"ended with exit code {code} before its work was done.")
    name = signal.Signals(-code).name if -code in [*signal.Signals] else f"signal {-code}"
    if -code == signal.SIGKILL:
        return Lost(f"was killed ({name}), as a system does that has no more memory.", killed=True)
    return Lost(f"crashed ({name}), which a library beneath may do.")


def _work(pipe: Connection, work: Callable[..., Any], arguments: Sequence[Any], variables: dict[str, str]) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides what happens
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # temporary files are removed on the way
    open_streams()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= variables

    def tell(said: Any) -> None:
        try:
            pipe.send(said)
        except OSError:  # nobody listens any more; were it raised, it would be taken for an error of the method
            os._exit(1)

    try:
        tell(Done(work(*arguments, lambda *told: tell(told))))
    except KeyboardInterrupt:  # what a training loop makes of the end that it was asked for
        sys.exit(1)
    except Exception as error:
        tell(error)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps a user's script out of a process that is started: it would be run there again, from its first line."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Keeps Ctrl-C, which a terminal sends to every process, from those started here, also while they import."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a new program takes over
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
