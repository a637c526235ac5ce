"""Cells in processes of their own, several at once as far as cores, GPUs and memory allow.

Each cell begins in a fresh process, so that its peak memory is its own, nothing of one method is left for the next, and
a crash, or the kernel when memory runs out, takes one cell and not the run.
"""

import os
from collections.abc import Generator, Sequence
from dataclasses import replace

import psutil

from ..registry import METHODS
from .cell_run import CellRun
from .cells import CellProgress, CellTask, Outcome, fail_cell
from .claims import Claims
from .planning import Plan, open_datasets
from .processes import Done, Worker, preload, spoken, stop_all
from .provenance import asked_threads, usable_cores

_GIB = 2**30
_FEW_THREADS = 4  # a method gains little by more, and other cells gain much
_REMEDY = " A smaller --size or --batch-size, or options of the method, may make it fit."


def prepare(methods: Sequence[str]) -> None:
    """Starts the forkserver, which imports torch and the methods' modules once for all cells.

    It imports them while this process goes on, for example while it reads the datasets.

    Args:
        methods: Their names; those of plugins are left to the processes of their cells.
    """
    modules = [METHODS[name].target.partition(":")[0] for name in methods if name in METHODS]
    preload(["torch", __name__, *dict.fromkeys(modules)])


def local(plan: Plan, claims: Claims, progress: CellProgress) -> Generator[Outcome]:
    """Runs each cell in a process of its own.

    At once run as many as there are GPUs, or as there are cores for `threads` of each; another one starts when the
    memory that is free holds the largest one so far beside what those that run may still come to need. A process that
    is killed while others run is tried again when it is alone. The next cell starts before the caller, who writes
    tables, is told that one has ended.
    """
    threads, places = _share_out(plan)
    at_once = len(places)
    running: list[_CellWorker] = []
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
                running.append(_CellWorker(replace(task, at_once=at_once), threads, places.pop()))
            for worker in running:
                worker.was_alone = worker.was_alone and len(running) == 1
            if not running and not ended:
                return
            yield from ended
            ended.clear()
            if not running:
                continue
            for worker in spoken(running):
                end = worker.listen(progress)
                if end is None:
                    continue
                running.remove(worker)
                places.append(worker.gpu)
                if isinstance(end, Done):
                    claims.release(worker.task)
                    ended.append(end.result)
                elif not worker.was_alone:
                    progress(str(worker.task.cell), "killed; tried again when it is alone", 0, 0)
                    killed.append(worker.task)
                else:
                    ended.append(fail_cell(worker.task, f"The process of the cell {end.text}{_REMEDY * end.killed}"))
                    claims.release(worker.task)
            largest = max([largest, *(worker.memory() for worker in running)])
    finally:
        stop_all(running)


class _CellWorker(Worker):
    """The process of a cell."""

    def __init__(self, task: CellTask, threads: int, gpu: str | None) -> None:
        self.task = task
        self.gpu = gpu
        self.was_alone = True
        super().__init__(_run, task, threads, variables={"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else None)

    def stop(self) -> None:
        """Also removes what it was writing."""
        super().stop()
        self.task.store.sweep()


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


def _free_memory(running: Sequence[_CellWorker], largest: float) -> float:
    """Bytes that are free when each of the running cells has grown as large as the largest one so far."""
    reserved = sum(max(0.0, largest - worker.memory()) for worker in running)
    return psutil.virtual_memory().available - reserved


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
