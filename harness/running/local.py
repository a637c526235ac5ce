"""Cells in processes of their own, several at once as far as cores, GPUs and memory allow.

Each cell begins in a fresh process, so that its peak memory is its own, nothing of one method is left for the next, and
a crash, or the kernel when memory runs out, takes one cell and not the run.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

import psutil

from ..registry import METHODS
from ..streams import open_streams
from .cell_run import CellRun
from .cells import CellProgress, CellTask, Outcome, fail_cell
from .claims import Claims
from .planning import Plan, open_datasets
from .provenance import asked_threads, usable_cores

_GIB = 2**30
_PATIENCE = 0.5  # seconds between two looks at memory and at what other processes have finished
_GRACE = 5  # seconds that a process has to end by itself
_FEW_THREADS = 4  # a method gains little by more, and other cells gain much
_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def prepare(methods: Sequence[str]) -> None:
    """Starts the forkserver, which imports torch and the methods' modules once for all cells.

    It imports them while this process goes on, for example while it reads the datasets.

    Args:
        methods: Their names; those of plugins are left to the processes of their cells.
    """
    if _START == "forkserver":
        modules = [METHODS[name].target.partition(":")[0] for name in methods if name in METHODS]
        forkserver.set_forkserver_preload(["torch", __name__, *dict.fromkeys(modules)])
        with _deaf_to_ctrl_c():
            forkserver.ensure_running()


def local(plan: Plan, claims: Claims, progress: CellProgress) -> Generator[Outcome]:
    """Runs each cell in a process of its own.

    At once run as many as there are GPUs, or as there are cores for `threads` of each; another one starts when the
    memory that is free holds the largest one so far beside what those that run may still come to need. A process that
    is killed while others run is tried again when it is alone. The next cell starts before the caller, who writes
    tables, is told that one has ended.
    """
    threads, places = _share_out(plan)
    at_once = len(places)
    running: list[_Worker] = []
    killed: list[CellTask] = []
    ended: list[Outcome] = []
    largest = plan.config.cell_memory * _GIB
    try:
        while True:
            while places and (not running or _free_memory(running, largest) > largest):
                # A cell that was killed waits until there is nothing else to do.
                task = claims.take(wait=not (running or killed or ended)) or (
                    killed.pop() if killed and not running else None
                )
                if task is None:
                    break
                running.append(_Worker(replace(task, at_once=at_once), threads, places.pop()))
            for worker in running:
                worker.was_alone = worker.was_alone and len(running) == 1
            if not running and not ended:
                return
            yield from ended
            ended.clear()
            if not running:
                continue
            for worker in _spoken(running):
                outcome = worker.listen(progress)
                if outcome is None:
                    continue
                running.remove(worker)
                places.append(worker.gpu)
                if isinstance(outcome, Outcome):
                    claims.release(worker.task)
                    ended.append(outcome)
                elif not worker.was_alone:
                    progress(str(worker.task.cell), "killed; tried again when it is alone", 0, 0)
                    killed.append(worker.task)
                else:
                    ended.append(fail_cell(worker.task, outcome.text))
                    claims.release(worker.task)
            largest = max([largest, *(worker.memory() for worker in running)])
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.stop()


@dataclass(frozen=True)
class _Lost:
    """A process that came to its end before its cell did."""

    text: str


class _Worker:
    """The process of a cell, seen from the one that started it."""

    def __init__(self, task: CellTask, threads: int, gpu: str | None) -> None:
        context: Any = multiprocessing.get_context(_START)  # typeshed knows no Process of a context
        self.task = task
        self.gpu = gpu
        self.was_alone = True
        self.connection, other = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=_work, args=(other, task, dict(os.environ), threads, gpu))
        with _deaf_to_ctrl_c(), _without_main():
            self.process.start()
        other.close()

    def listen(self, progress: CellProgress) -> Outcome | _Lost | None:
        """Hears all that the process has to say; returns how it ended, if it has.

        Raises:
            Exception: What ended the process but does not end a cell, such as a full disk.
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
            return _Lost(_tell(self.process.exitcode))
        return None

    def memory(self) -> int:
        """Resident bytes of the process."""
        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            return 0

    def stop(self) -> None:
        """Ends the process, if need be by force, and removes what it was writing."""
        self.process.terminate()
        self.process.join(_GRACE)
        self.process.kill()
        self.process.join()
        self.task.store.sweep()
        self.connection.close()


def _share_out(plan: Plan) -> tuple[int, list[str | None]]:
    """How many threads a cell has, and for each that may run at once its GPU, or `None`."""
    cores, config = usable_cores(), plan.config
    if plan.device == "cuda":
        gpus = _gpus()[: config.workers]
        return config.threads or max(1, cores // len(gpus)), [*gpus]
    threads = min(cores, config.threads or asked_threads() or max(_FEW_THREADS, cores // len(plan.cells)))
    return threads, [None] * (config.workers or cores // threads)


def _gpus() -> list[str]:
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def _free_memory(running: Sequence[_Worker], largest: float) -> float:
    """Bytes that are free when each of the running cells has grown as large as the largest one so far."""
    reserved = sum(max(0.0, largest - worker.memory()) for worker in running)
    return psutil.virtual_memory().available - reserved


def _spoken(running: Sequence[_Worker]) -> list[_Worker]:
    """Those that have something to say, or have ended; none after a while."""
    ready = connection.wait([worker.connection for worker in running], timeout=_PATIENCE)
    return [worker for worker in running if worker.connection in ready]


def _tell(code: int | None) -> str:
    """Why a process ended without a word."""
    if code is None or code >= 0:
        return f"The process of the cell ended with exit code {code} before the cell did."
    name = signal.Signals(-code).name if -code in [*signal.Signals] else f"signal {-code}"
    if -code == signal.SIGKILL:
        return (
            f"The process of the cell was killed ({name}), as a system does that has no more memory. A smaller --size "
            "or --batch-size, or options of the method, may make it fit."
        )
    return f"The process of the cell crashed ({name}), which a library beneath the method may do."


def _work(pipe: Connection, task: CellTask, variables: dict[str, str], threads: int, gpu: str | None) -> None:
    """What the process of a cell does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides what happens
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # temporary files are removed on the way
    open_streams()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= variables | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})

    def tell(said: Any) -> None:
        try:
            pipe.send(said)
        except OSError:  # nobody listens any more; were it raised, it would be taken for an error of the method
            os._exit(1)

    try:
        tell(_run(task, threads, lambda *told: tell(told)))
    except KeyboardInterrupt:  # what a training loop makes of the end that it was asked for
        sys.exit(1)
    except Exception as error:
        tell(error)


def _run(task: CellTask, threads: int, progress: CellProgress) -> Outcome:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        try:
            dataset = open_datasets(task.config)[task.cell.dataset]
        except Exception as error:
            return fail_cell(task, error)
        return CellRun(task, dataset, {}, progress).run()


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
