"""What commands show on the terminal: progress, and the tables of a run."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich import progress as rich_progress
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from ..api import Progress
from ..registry import check_names, check_policies
from ..texts import shown

if TYPE_CHECKING:
    from ...results.store import RunStore
    from ..config import RunConfig
    from ..running.cells import Outcome
    from ..running.planning import Plan

_PAUSE = 30.0  # seconds between two lines about the same stage, where there is no terminal
_BESIDE = 120  # columns that a bar leaves to the label and the numbers beside it


class SafeConsole(Console):
    """Shows texts as they are, whatever they hold: no markup, and nothing that steers a terminal or a CI service.

    Names and paths may hold brackets, which are not to be taken for markup, and come from whoever made a run.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else shown(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


console = SafeConsole()
# Nothing can be drawn over in a pipe or a log, even where colours are asked for; in a notebook ipywidgets draw.
_live = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_interactive and sys.stdout.isatty()
if not _live and "COLUMNS" not in os.environ:
    console.width = 140  # what has no width of its own is not to cut tables
_spinner = "dots" if console.encoding.startswith("utf") else "line"


@contextmanager
def stage_status(at_once: bool = False) -> Iterator[Progress]:
    """Shows what is going on outside of cells, and how far it is.

    Args:
        at_once: Where there is no terminal, whether to have a line about every stage, or about long ones only.
    """
    if console.quiet or not _live:
        log = _Log(at_once)
        yield lambda stage, done, total: log.tell(stage, f"{done:,} of {total:,}" if total else "")
        return
    with console.status("starting", spinner=_spinner) as status:
        # As a text, of which rich would take the brackets of a name for markup.
        yield lambda stage, done, total: status.update(Text(f"{stage} {done / total:.0%}" if total else stage))


class CellBars:
    """One bar for the cells of a run, and one for the stage that each running cell is in.

    Where there is no terminal, each stage is a line, and a long one a line now and then.
    """

    def __init__(self, cells: int) -> None:
        from ..running.cells import ENDS

        whole = Column(no_wrap=True)
        self._bars = rich_progress.Progress(
            SpinnerColumn(_spinner, table_column=whole),
            _Label(),
            BarColumn(max(5, min(40, console.width - _BESIDE)), table_column=whole),
            MofNCompleteColumn(table_column=whole),
            TimeElapsedColumn(table_column=whole),
            TextColumn("left", table_column=whole),
            TimeRemainingColumn(table_column=whole),
            console=console,
            transient=True,
            disable=console.quiet or not _live,
        )
        self._ends = ENDS
        self._total, self._ended = cells, 0
        self._cells = self._bars.add_task("cells", total=cells)
        self._stages: dict[str, tuple[str, TaskID]] = {}
        self._log = _Log(at_once=True)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, cell: str, stage: str, done: int, total: int) -> None:
        """Moves the bars; a total of 0 means that nobody knows."""
        self._ended += stage in self._ends
        before, bar = self._stages.get(cell, ("", None))
        if stage != before:
            if bar is not None:
                self._bars.remove_task(bar)  # a reset would keep the old total where the new one is unknown
            bar = self._bars.add_task(f"{cell}: {stage}", total=total or None)
            self._stages[cell] = stage, bar
        if bar is not None:
            self._bars.update(bar, completed=done, total=total or None)
        if not _live:
            far = f", {done:,} of {total:,}" if stage == before and total else ""
            self._log.tell(stage, f"{self._ended} of {self._total}", f"{cell}: {stage}{far}", of=cell)
        if stage in self._ends:
            self._bars.remove_task(self._stages.pop(cell)[1])
            self._bars.advance(self._cells)


class _Label(ProgressColumn):
    """What a bar is about, cut where there is no room, unlike the numbers beside it."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Log:
    """Lines, each with the time, about stages; the first about a stage comes at once or only when it takes long."""

    def __init__(self, at_once: bool) -> None:
        self._first = 0.0 if at_once else _PAUSE
        self._stages: dict[str, tuple[str, float]] = {}

    def tell(self, stage: str, count: str, text: str = "", of: str = "") -> None:
        """Prints a line, unless there was one about this stage a short time ago.

        Args:
            stage: The name of the stage.
            count: How much is done.
            text: The line, by default the stage.
            of: The thing that is in that stage, where there are several.
        """
        now = time.monotonic()
        before, due = self._stages.get(of, ("", now))
        if stage != before:
            due = now + self._first
        if now >= due:
            console.print("  ".join(filter(None, (time.strftime("%H:%M:%S"), count, text or stage))), soft_wrap=True)
            due = now + _PAUSE
        self._stages[of] = stage, due


def print_doubts(doubts: Iterable[str], to: Console = console) -> None:
    """Prints what speaks against the tables of a run, and how to learn more."""
    for doubt in doubts:
        to.print(f"{doubt} bench verify says more.", style="red", soft_wrap=True)


def print_run(store: "RunStore", to: Console = console) -> None:
    """Prints the tables of a run, of how much they are, what speaks against them, and where its files are."""
    from ...reports.tables import run_tables
    from ...results.extent import extents
    from ..analysis.doubts import doubts

    scores = store.scores()
    to.print(run_tables(scores, extents([store.read()], store.cases(), scores)))
    print_doubts(doubts(store), to)
    print_unfinished([store], to)
    to.print(f"Run {store.name}: tables and predictions in {store.folder.resolve()}", soft_wrap=True)


def print_unfinished(runs: Sequence["RunStore"], to: Console = console) -> None:
    """Says which runs have not come to their end, so that no part is taken for the whole."""
    from ...results.extent import unfinished

    for sentence in unfinished(runs):
        to.print(f"{sentence}. The same bench run goes on where it stopped.", style="yellow", soft_wrap=True)


def run_with_progress(config: "RunConfig", *, force: bool = False) -> tuple["Plan", list["Outcome"]]:
    """Runs what is asked for and shows how far it is, and first of all what a user should know.

    Args:
        config: The options of the run.
        force: Whether to run finished cells again.

    Raises:
        BenchError: As for `session.plan_run` and `session.execute_plan`.
    """
    check_names(config.methods, config.dataset, config.data_root)
    check_policies(config.score.thresholds)

    from ..running import session
    from ..scoring.post import check_chains

    check_chains(config.score.post)

    with stage_status(at_once=True) as progress:
        plan = session.plan_run(config, progress)
    print_remarks(plan)
    with CellBars(len(plan.cells)) as bars:
        outcomes = session.execute_plan(plan, force=force, progress=bars.show)
    return plan, outcomes


def print_remarks(plan: "Plan") -> None:
    """Says what a user should know before the run: methods that were added, and what is odd about the data."""
    added = list(dict.fromkeys(spec for specs in plan.controls.values() for spec in specs))
    if added:
        one = len(added) == 1
        console.print(
            f"Note: {_listed(added)} {'is' if one else 'are'} run beside {_listed(plan.controls)}, to show what can be "
            f"scored without an anomaly map; --no-controls leaves {'it' if one else 'them'} out.",
            style="yellow",
        )
    if plan.once:
        one = len(plan.once) == 1
        console.print(
            f"Note: {_listed(plan.once)} {'is' if one else 'are'} run once, with seed {plan.config.seeds[0]}, because "
            f"nothing in {'it' if one else 'them'} is random: every seed would have the same scores.",
            style="yellow",
        )
    print_notes(plan)
    with plan.store.lock() as lock:
        if not lock.works:
            console.print(
                f"Note: there are no file locks in {plan.store.folder}: give one command at a time for it.",
                style="yellow",
                soft_wrap=True,
            )


def print_notes(plan: "Plan") -> None:
    """Says what is odd about the data of a run, and about predictions that it takes in."""
    for name, notes in plan.notes.items():
        for note in notes:
            console.print(f"Note: {name}: {note}", style="yellow", soft_wrap=True)


def _listed(names: Iterable[str]) -> str:
    """Makes `a`, `a and b`, or `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
