"""Who runs which cell, where several processes work on one results folder."""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...results.store import find_runs
from ..files import Lock
from .cell_run import CellRun
from .cells import CellProgress, CellTask, Outcome
from .planning import Plan

_PATIENCE = 0.5  # seconds between two looks at what others are doing


class Claims:
    """The cells of a plan that are still to be run, each handed out with the right to write its folder.

    That right is a lock, which ends with its process, so that a killed one is in nobody's way. Where there are none, as
    in an object store, two processes may run the same cell, and the later one's files stay.

    Attributes:
        kept: Cells that were found finished, by name.
        taken: The runs that they, or the predictions to score again, were taken from, by name of the cell.
    """

    def __init__(self, plan: Plan, force: bool, progress: CellProgress) -> None:
        self.kept: dict[str, Outcome] = {}
        self.taken: dict[str, str] = {}
        self._plan = plan
        self._progress = progress
        command = plan.environment["command"]
        self._open = [CellTask(plan.config, cell, plan.store.folder, command, force) for cell in plan.cells]
        self._locks: dict[str, Lock] = {}

    def take(self, wait: bool = True) -> CellTask | None:
        """Claims the next cell that is not finished.

        Args:
            wait: For cells that other processes are running, when there are no others; each is then found finished,
                or run here because the other process did not come to its end.

        Returns:
            The cell, or `None` when there is no more.
        """
        while self._open:
            for task in list(self._open):
                if not self._lock(task):
                    continue
                self._open.remove(task)
                self._take_over(task)
                if not CellRun(task, self._plan.datasets[task.cell.dataset], {}, self._progress).is_kept():
                    return task
                self.release(task)
                self.kept[task.cell.name] = Outcome(task.cell, "kept")
                self._progress(str(task.cell), "kept", 1, 1)
            if not wait:
                return None
            if self._open:
                self._progress(str(self._open[0].cell), "waiting for the process that runs it", 0, 0)
                time.sleep(_PATIENCE)
        return None

    def release(self, task: CellTask) -> None:
        """Gives up the right to write the cell's folder."""
        self._locks.pop(task.cell.name).release()

    def close(self) -> None:
        """Gives up whatever is still claimed, as when a run is interrupted."""
        for lock in self._locks.values():
            lock.release()

    def _take_over(self, task: CellTask) -> None:
        """Takes a cell that another run has finished: the same name stands for the same options, images and code."""
        if task.force or task.store.read() is not None or not isinstance(task.folder, Path):
            return
        for run in find_runs(task.folder.parent):
            there = run.cell(task.cell.name)
            # What another user's folder does not let us read, we measure ourselves.
            with suppress(OSError):
                end = there.read()
                if end is not None and end.status == "finished":
                    task.store.copy_from(there)
                    self.taken[task.cell.name] = run.name
                    return

    def _lock(self, task: CellTask) -> bool:
        lock = task.store.lock()
        if not lock.acquire(wait=False):
            # What another process is running need not be run once more, forced or not.
            self._open[self._open.index(task)] = replace(task, force=False)
            return False
        self._locks[task.cell.name] = lock
        return True
