"""From a plan to predictions on disk and scored tables: every cell once, nothing finished is lost."""

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial

from ...results.files import ResultsError
from ...results.record import Cell, ConfigRecord, DatasetRecord, RunRecord, ScoreRecord
from ...results.store import RunStore
from ...results.tables import concatenate
from ..analysis.ranks import compare_methods
from ..analysis.recorded import NOWHERE_ELSE, all_recorded_datasets, recorded_config
from ..api import SPLITS, UsageError
from ..config import ScoreConfig
from ..data.leaks import shared_patients
from ..files import explain
from ..scoring.scanning import Truths, load_truths
from .cell_run import CellRun
from .cells import PREDICTED, CellProgress, CellTask, Outcome, now
from .claims import Claims
from .growing import grown
from .planning import Plan
from .provenance import usable_cores

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
        ResultsError: The results folder cannot be written; finished cells are kept.
    """
    store = plan.store
    try:
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


def rescore(
    store: RunStore,
    score: ScoreConfig | None = None,
    progress: CellProgress = lambda *_: None,
    moved: Mapping[str, str] = NOWHERE_ELSE,
) -> list[str]:
    """Computes thresholds and metrics of a run again, from its stored predictions.

    Args:
        store: The run.
        score: How to score; by default as the run did.
        progress: Told about progress.
        moved: Where datasets are now, by name; the others are looked for where the run found them.

    Returns:
        The names of cells that keep their old scores, because their predictions were not kept.

    Raises:
        UsageError: A dataset in `moved` is not the one of the run; or the scores should be others, and a cell kept no
            predictions that they could be made of.
        DataError: A dataset is missing, or no longer the one of the run.
        ResultsError: A prediction is damaged.
    """
    record, config = store.read(), recorded_config(store)
    before = config.score
    config = config.model_copy(update={"score": score or before})
    datasets = all_recorded_datasets(store, moved)
    ends = {cell.name: end for cell in record.cells if (end := store.cell(cell.name).read()) is not None}
    finished = [cell for cell in record.cells if cell.name in ends and ends[cell.name].status == "finished"]
    kept = [cell for cell in finished if ends[cell.name].finished_whole]
    gone = [cell for cell in finished if cell not in kept]
    if gone and score not in (None, before):
        raise UsageError(
            f"{gone[0].name} of {store.name} kept no maps (--maps none), so it cannot be scored in another way than it "
            "was. Run it again with --maps float32 and these options, or leave the options out."
        )

    def score_again(cell: Cell, truths: dict[str, Truths]) -> str:
        task = CellTask(config, cell, store.folder, record.environment.get("command", ""))
        CellRun(task, datasets[cell.dataset], truths, lambda *_: None).rescore(ends[cell.name])
        return str(cell)

    # Sorting pixels and reading files, which take most of the time, run side by side in threads.
    with ThreadPoolExecutor(usable_cores()) as pool:
        for name, dataset in datasets.items():
            of_dataset = [cell for cell in kept if cell.dataset == name]
            progress(name, "reading lesion masks", 0, 0)
            truths = {name: load_truths(dataset, PREDICTED, config.size, config.score)}
            for scored in pool.map(partial(score_again, truths=truths), of_dataset):
                progress(scored, "finished", 1, 1)
    write_run_tables(store, [cell.name for cell in record.cells])
    scored = ScoreRecord.model_validate(config.score.model_dump())
    asked = record.config.model_copy(update={"score": scored})
    store.write(record.model_copy(update={"config": asked}))
    return [cell.name for cell in gone]


def write_run_tables(store: RunStore, cells: Sequence[str]) -> None:
    """Joins the tables of those cells that have ended into those of the run, and compares the methods."""
    with store.lock():
        tables = concatenate([store.cell(name).read_tables() for name in cells if store.cell(name).read() is not None])
        store.write_tables(tables._asdict() | compare_methods(tables.cases)._asdict())
