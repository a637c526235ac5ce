"""Scores of a run that are made again from its stored predictions, side by side where that pays."""

from collections.abc import Mapping, Sequence

import psutil
from upath import UPath

from ...results.files import ResultsError
from ...results.record import Cell, ScoreRecord
from ...results.store import RunStore
from ..analysis.recorded import NOWHERE_ELSE, all_recorded_datasets, recorded_config
from ..api import Dataset, UsageError
from ..config import RunConfig, ScoreConfig
from ..scoring.scanning import Truths
from .cell_run import CellRun
from .cells import PREDICTED, CellProgress, CellTask
from .processes import Lost, Worker, preload, spoken, stop_all
from .provenance import usable_cores
from .runner import write_run_tables

_GIB = 2**30

PAYS = 1500
"""From so many images on, over all cells, processes save more time than starting them takes."""


def rescore(
    store: RunStore,
    score: ScoreConfig | None = None,
    progress: CellProgress = lambda *_: None,
    moved: Mapping[str, str] = NOWHERE_ELSE,
    workers: int | None = None,
) -> list[str]:
    """Computes thresholds and metrics of a run again, from its stored predictions.

    Args:
        store: The run.
        score: How to score; by default as the run did.
        progress: Told about progress.
        moved: Where datasets are now, by name; the others are looked for where the run found them.
        workers: At most so many processes score cells at once; by default as many as the run was asked to use, or as
            there are cores. A run that used none, and one of few images, is scored in this process.

    Returns:
        The names of cells that keep their old scores, because their predictions were not kept.

    Raises:
        UsageError: A dataset in `moved` is not the one of the run; or the scores should be others, and a cell kept no
            predictions that they could be made of.
        DataError: A dataset is missing, or no longer the one of the run.
        ResultsError: A prediction is damaged; or a process crashed, and then the other cells are scored.
    """
    record, config = store.read(), recorded_config(store)
    before = config.score
    config = config.model_copy(update={"score": score or before})
    datasets = all_recorded_datasets(store, moved)
    ends = {cell.name: end for cell in record.cells if (end := store.cell(cell.name).read()) is not None}
    finished = [cell for cell in record.cells if cell.name in ends and ends[cell.name].status == "finished"]
    kept = [cell for name in datasets for cell in finished if cell.dataset == name and ends[cell.name].finished_whole]
    gone = [cell for cell in finished if not ends[cell.name].finished_whole]
    if gone and score not in (None, before):
        raise UsageError(
            f"{gone[0].name} of {store.name} kept no maps (--maps none), so it cannot be scored in another way than it "
            "was. Run it again with --maps float32 and these options, or leave the options out."
        )
    at_once = _places(config, kept, datasets, workers)
    if at_once > 1:
        _score_side_by_side(store, config, kept, progress, moved, at_once)
    else:
        _score(store, config, kept, datasets, progress)
    write_run_tables(store, [cell.name for cell in record.cells])
    scored = ScoreRecord.model_validate(config.score.model_dump())
    asked = record.config.model_copy(update={"score": scored})
    store.write(record.model_copy(update={"config": asked}))
    return [cell.name for cell in gone]


def _places(config: RunConfig, cells: Sequence[Cell], datasets: Mapping[str, Dataset], workers: int | None) -> int:
    """How many processes to use; 1 for this one."""
    sizes = {name: sum(len(dataset.cases(split)) for split in PREDICTED) for name, dataset in datasets.items()}
    few = sum(sizes[cell.dataset] for cell in cells) < PAYS
    if workers is None and (few or config.executor == "inline"):
        return 1
    fitting = int(psutil.virtual_memory().available // (config.cell_memory * _GIB))
    return max(1, min(workers or config.workers or usable_cores(), len(cells), fitting))


def _score(
    store: RunStore, config: RunConfig, cells: Sequence[Cell], datasets: Mapping[str, Dataset], progress: CellProgress
) -> None:
    """Scores cells one after the other; those of one dataset share its lesion masks."""
    truths: dict[str, Truths] = {}
    command = store.read().environment.get("command", "")
    for cell in cells:
        end = store.cell(cell.name).read()
        if end is not None:
            task = CellTask(config, cell, store.folder, command)
            CellRun(task, datasets[cell.dataset], truths, progress).rescore(end)
        progress(str(cell), "finished", 1, 1)


def _work(
    folder: UPath, config: RunConfig, cells: Sequence[Cell], moved: Mapping[str, str], progress: CellProgress
) -> None:
    """What a process does."""
    store = RunStore(folder)
    _score(store, config, cells, all_recorded_datasets(store, moved), progress)


def _score_side_by_side(
    store: RunStore,
    config: RunConfig,
    cells: Sequence[Cell],
    progress: CellProgress,
    moved: Mapping[str, str],
    at_once: int,
) -> None:
    """Deals cells out to processes, of which each reads the lesion masks once.

    Raises:
        ResultsError: A process crashed.
    """
    preload([__name__])
    dealt = [[*cells[first::at_once]] for first in range(at_once)]
    left = {name: share for share in dealt for name in [str(cell) for cell in share]}
    crashed: list[str] = []

    def told(cell: str, stage: str, done: int, total: int) -> None:
        if stage == "finished":
            share = left[cell]
            share[:] = [one for one in share if str(one) != cell]
        progress(cell, stage, done, total)

    def start(share: list[Cell]) -> tuple[Worker, list[Cell]]:
        return Worker(_work, store.folder, config, [*share], dict(moved)), share

    running = dict(map(start, dealt))
    try:
        while running:
            for worker in spoken([*running]):
                end = worker.listen(told)
                if end is None:
                    continue
                share = running.pop(worker)
                if isinstance(end, Lost) and share:
                    lost = share.pop(0)
                    store.cell(lost.name).sweep()
                    crashed.append(f"The process that scored {lost} {end.text}")
                    running |= dict([start(share)] if share else [])
    finally:
        stop_all([*running])
    if crashed:
        raise ResultsError(
            f"{' '.join(crashed)} What is scored already stays; bench score {store.folder} --workers 1 scores one cell "
            "after the other."
        )
