"""From a plan to predictions on disk and scored tables: every cell once, nothing finished is lost."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, replace

from ...results.files import ResultsError
from ...results.record import ConfigRecord, DatasetRecord, RunRecord
from ...results.store import RunStore
from ...results.tables import concatenate
from ..analysis.ranks import compare_methods
from ..api import SPLITS
from ..data.leaks import shared_patients
from ..files import explain
from ..scoring.scanning import Truths
from .cell_run import CellRun
from .cells import CellProgress, Outcome, now
from .claims import Claims
from .disk import require_disk
from .growing import grown
from .planning import Plan

Executor = Callable[[Plan, Claims, CellProgress], Generator[Outcome]]
"""Takes cells from the claims until there are none, runs them, releases each, and yields how it ended."""


def inline(plan: Plan, claims: Claims, progress: CellProgress) -> Generator[Outcome]:
    """Runs one cell after the other in this process."""
    truths: dict[str, Truths] = {}
    while task := claims.take():
        outcome = CellRun(task, plan.datasets[task.cell.dataset], truths, progress).run()
        claims.release(task)
        yield outcome


def execute(
    plan: Plan, *, force: bool = False, progress: CellProgress = lambda *_: None, executor: Executor = inline
) -> list[Outcome]:
    """Runs every cell that is not finished yet, scores it, and keeps the run's tables up to date after each.

    Several processes may do so with the same plan: each cell is run by one of them. A cell that another run of the same
    results folder has finished is taken from there.

    Args:
        plan: The plan of the run.
        force: Run finished cells again.
        progress: Told about progress.
        executor: Where and how many at once.

    Returns:
        One outcome per cell, in the plan's order. A method that raises makes a failed cell, not an exception.

    Raises:
        UsageError: The predictions will not fit on the disk.
        ResultsError: The results folder cannot be written; finished cells are kept.
    """
    store = plan.store
    try:
        require_disk(plan)
        with store.lock():
            record = _kept(store, _record(plan))
            store.write(record)
        names = [cell.name for cell in record.cells]
        outcomes = {}
        with closing(Claims(plan, force, progress)) as claims, closing(executor(plan, claims, progress)) as ended:
            for outcome in ended:
                outcomes[outcome.cell.name] = outcome
                progress(str(outcome.cell), outcome.status, 1, 1)
                write_run_tables(store, names)
        record = _kept(store, record)
        grown_to = [cell.name for cell in record.cells]  # another process may have added cells meanwhile
        if not outcomes or grown_to != names:
            write_run_tables(store, grown_to)
        with store.lock():
            store.write(_kept(store, record.model_copy(update={"status": "done", "finished": now()})))
    except OSError as error:
        raise ResultsError(f"The run cannot be kept. {explain(error, '--results')} What is finished stays.") from error
    ended_as = outcomes | claims.kept
    return [replace(ended_as[cell.name], source=claims.taken.get(cell.name, "")) for cell in plan.cells]


def _record(plan: Plan) -> RunRecord:
    datasets = {
        dataset.name: {
            "fingerprint": dataset.fingerprint,
            "card": asdict(dataset.card),
            "counts": {split: len(dataset.cases(split)) for split in SPLITS},
            "shared_patients": shared_patients(dataset),
            "notes": plan.notes[dataset.name],
        }
        for dataset in plan.datasets.values()
    }
    return RunRecord(
        status="running",
        created=now(),
        config=ConfigRecord.model_validate(plan.config.model_dump(mode="json")),
        environment=plan.environment,
        datasets={name: DatasetRecord.model_validate(content) for name, content in datasets.items()},
        cells=plan.cells,
    )


def _kept(store: RunStore, record: RunRecord) -> RunRecord:
    """The record with what is in the run's folder already and stays."""
    try:
        earlier = store.read()
    except ResultsError:  # there is none, or it is damaged: its cells are still in the folder
        return record
    return grown(record, earlier, str(store.folder))


def write_run_tables(store: RunStore, cells: Sequence[str]) -> None:
    """Joins the tables of those cells that have ended into those of the run, and compares the methods."""
    with store.lock():
        tables = concatenate([store.cell(name).read_tables() for name in cells if store.cell(name).read() is not None])
        store.write_tables(tables._asdict() | compare_methods(tables.cases)._asdict())
