"""What commands show on the terminal: a progress bar, and the tables of a run."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ...reports.tables import run_tables
from ...results.store import RunStore
from ..api import StageReport
from ..cells import ENDS
from ..integrity import doubts

# Names and paths may hold brackets, which are not to be taken for markup.
# A pipe or a log has no width of its own; tables are not to be cut there.
console = Console(markup=False, highlight=False)
if not console.is_terminal:
    console.width = 140


@contextmanager
def stage_status() -> Iterator[StageReport]:
    """Shows one line that says what is going on outside of cells, and how far it is."""
    with console.status("starting") as status:
        yield lambda stage, done, total: status.update(f"{stage} {done / total:.0%}" if total else stage)


class CellProgress:
    """One bar for the cells of a run, and one for the stage that each running cell is in.

    Where there is no terminal, each stage is one line.
    """

    def __init__(self, cells: int) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._cells = self._progress.add_task("cells", total=cells)
        self._stages: dict[str, tuple[str, TaskID]] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def report(self, cell: str, stage: str, done: int, total: int) -> None:
        """Moves the bars; a total of 0 means that nobody knows."""
        before, bar = self._stages.get(cell, ("", None))
        if stage != before:
            if bar is not None:
                self._progress.remove_task(bar)  # a reset would keep the old total where the new one is unknown
            bar = self._progress.add_task(f"{cell}: {stage}", total=total or None)
            self._stages[cell] = stage, bar
            if not console.is_terminal:
                console.print(f"{cell}: {stage}")
        if bar is not None:
            self._progress.update(bar, completed=done, total=total or None)
        if stage in ENDS:
            self._progress.remove_task(self._stages.pop(cell)[1])
            self._progress.advance(self._cells)


def print_doubts(doubts: Iterable[str]) -> None:
    """Prints what speaks against the tables of a run, and how to learn more."""
    for doubt in doubts:
        console.print(f"{doubt} bench verify says more.", style="red", soft_wrap=True)


def print_run(store: RunStore) -> None:
    """Prints the tables of a run, of how much they are, what speaks against them, and where its files are."""
    from ...results.extent import extents

    scores = store.scores()
    console.print(run_tables(scores, extents([store.read()], store.cases(), scores)))
    print_doubts(doubts(store))
    print_unfinished([store])
    console.print(f"Run {store.name}: tables and predictions in {store.folder.resolve()}", soft_wrap=True)


def print_unfinished(runs: Sequence[RunStore]) -> None:
    """Says which runs have not come to their end, so that no part is taken for the whole."""
    from ...results.extent import unfinished

    for sentence in unfinished(runs):
        console.print(f"{sentence}. The same bench run goes on where it stopped.", style="yellow", soft_wrap=True)
