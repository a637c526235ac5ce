"""One cell: a method is fitted, predicts every image, and is scored. What is on disk already is not done again."""

import gc
import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from upath import UPath

from ...results.metrics import METRICS
from ...results.record import Cell, CellRecord, Measurements
from ...results.store import CellStore, RunStore, StoredPrediction
from ...results.tables import CellTables, failed_cell
from ..api import BenchError, Case, Dataset, Diagnostic, LazySequence, Method, Prediction, Split
from ..code_version import scoring_version
from ..config import RunConfig, ScoreConfig
from ..contract import diagnostics_problem, prediction_problem
from ..data.frame import frame_image
from ..exchange.folder import PREDICTED
from ..exchange.manifest import SEEN
from ..files import explain, path_text
from ..scoring.cell_scores import score_cell
from ..scoring.scanning import Truths, load_truths
from ..specs import parse_method
from .device import PeakMemory, calibrate, is_out_of_memory, seed_everything, synchronize
from .importing import take_in
from .planning import build_run_method
from .provenance import environment

End = Literal["finished", "kept", "failed"]
ENDS: tuple[End, ...] = get_args(End)

CellProgress = Callable[[str, str, int, int], None]
"""Called as `progress(cell, stage, done, total)`; a total of 0 means that nobody knows.

The last stage of a cell is one of `ENDS`.
"""


class PredictionError(BenchError):
    """A prediction that breaks the contract; the text names the case."""


class DiagnosticError(BenchError):
    """A diagnostic whose name is taken; the text names the method and the diagnostic."""


@dataclass(frozen=True)
class CellTask:
    """A cell to run, with all that another process, here or on another machine, has to know.

    Attributes:
        config: The run's options.
        cell: Which of its cells.
        folder: The run's folder.
        command: The command line that started the run.
        force: Whether to run the cell even if it is finished.
        at_once: How many cells, or shards of cells, may run at once on the machine, which their runtimes feel.
    """

    config: RunConfig
    cell: Cell
    folder: UPath
    command: str
    force: bool = False
    at_once: int = 1

    @property
    def store(self) -> CellStore:
        """Where the cell is kept."""
        return RunStore(self.folder).cell(self.cell.name)

    def owns(self, path: Any) -> bool:
        """Whether a file is one of the run's."""
        return isinstance(path, str) and isinstance(self.folder, Path) and Path(path).is_relative_to(self.folder)


@dataclass(frozen=True)
class Outcome:
    """How a cell ended; `kept` means that it was finished before, in this run or in the one that `source` names."""

    cell: Cell
    status: End
    error: str = ""
    source: str = ""


class Fitted(NamedTuple):
    """A fitted method, and what was measured of it so far: `fit_seconds`, `calibration_ms` and `diagnostics`."""

    method: Method
    measured: Measurements


def is_kept(task: CellTask, dataset: Dataset, progress: CellProgress) -> bool:
    """Whether the cell is finished, and its scores and predictions are what is asked for and undamaged."""
    end = task.store.read()
    if end is None or end.status != "finished" or task.force or end.score != scored_by(task.config.score):
        return False
    return _is_whole(task, dataset, progress) if end.finished_whole else task.config.maps == "none"


def run_cell(task: CellTask, dataset: Dataset, truths: dict[str, Truths], progress: CellProgress) -> Outcome:
    """Runs a cell, or only scores it again where its predictions stand.

    Args:
        task: The cell.
        dataset: The cell's dataset.
        truths: Lesion masks, kept here for the next cell.
        progress: Told about progress.

    Returns:
        How it ended. A method that raises makes a failed cell, not an exception.

    Raises:
        OSError: The results cannot be written.
    """
    try:
        end = task.store.read()
        if end is not None and end.finished_whole and not task.force and _is_whole(task, dataset, progress):
            score_stored(task, dataset, end, truths, progress)
            task.store.write(end.model_copy(update={"score": scored_by(task.config.score)}))
            return Outcome(task.cell, "kept")
        begin_cell(task)
        if task.cell.external:
            told = take_in(task.config, task.cell, dataset, task.store, partial(progress, str(task.cell)))
            return finish_cell(task, dataset, told, truths, progress)
        with PeakMemory(task.cell.device) as memory:
            fitted = fit_cell(task, dataset, progress)
            seconds = [predict_missing(task, dataset, fitted.method, split, progress) for split in PREDICTED]
        measured = fitted.measured.model_copy(update=memory.measured | {"predict_ms": seconds[-1]})
        return finish_cell(task, dataset, measured, truths, progress)
    except Exception as error:
        return fail_cell(task, error)
    finally:
        gc.collect()


def begin_cell(task: CellTask) -> None:
    """Takes back how the cell ended before, and with `force` its predictions."""
    if task.force:
        task.store.clear()
    else:
        task.store.reopen()


def fit_cell(task: CellTask, dataset: Dataset, progress: CellProgress) -> Fitted:
    """Fits the method on the training images.

    Raises:
        DiagnosticError: The method's diagnostics break the contract.
        Exception: Whatever the method raises.
    """
    cell = task.cell
    seed_everything(cell.seed)
    method = build_run_method(task.config, parse_method(cell.method), cell.device, cell.seed)
    method.progress = lambda stage, done, total: progress(str(cell), stage, done, total)
    clock = _Clock(method)
    train = clock.images(dataset, dataset.cases("train"), cell.size)
    progress(str(cell), "fit", 0, 0)
    start = clock.now()
    method.fit(train)
    synchronize(cell.device)
    seconds = clock.now() - start
    diagnostics = _check_diagnostics(method.diagnostics(), cell)
    warm_up(task, dataset, method)
    measured = Measurements(fit_seconds=seconds, calibration_ms=calibrate(cell.device), diagnostics=diagnostics)
    return Fitted(method, measured)


def warm_up(task: CellTask, dataset: Dataset, method: Method) -> None:
    """Predicts an image for nothing: the first one pays for what later ones find ready."""
    if not method.transductive:
        first = dataset.load(dataset.cases("train")[0]).image
        method.predict(frame_image(first, task.cell.size))


def predict_missing(task: CellTask, dataset: Dataset, method: Method, split: Split, progress: CellProgress) -> float:
    """Predicts the cases of a split that have no undamaged prediction yet.

    Returns:
        Milliseconds per image: the median, or the mean of a transductive method.

    Raises:
        PredictionError: A prediction breaks the contract.
        Exception: Whatever the method raises.
    """
    cases, there = dataset.cases(split), task.store.intact(split, [case.id for case in dataset.cases(split)])
    missing = [case for case in cases if case.id not in there]
    if missing and method.transductive:  # its predictions hang together: all or none
        missing = list(cases)
    seconds = predict_cases(task, dataset, method, missing, len(cases), progress)
    if method.transductive:
        return 1000 * seconds / len(missing) if missing else float("nan")
    return median_ms(task.store, cases)


def predict_cases(
    task: CellTask, dataset: Dataset, method: Method, cases: Sequence[Case], total: int, progress: CellProgress
) -> float:
    """Predicts cases of one split and keeps each prediction as soon as it is made; returns the seconds it took.

    Args:
        task: The cell.
        dataset: The cell's dataset.
        method: Fitted.
        cases: Those to predict.
        total: How many cases the split has, for the progress.
        progress: Told about progress.

    Raises:
        PredictionError: A prediction breaks the contract.
        Exception: Whatever the method raises.
    """
    clock = _Clock(method)
    predictions = iter(method.predict_many(clock.images(dataset, cases, task.cell.size)))
    taken = 0.0
    for done, case in enumerate(cases, start=total - len(cases) + 1):
        start = clock.now()
        prediction = next(predictions, None)
        synchronize(task.cell.device)
        seconds = clock.now() - start
        taken += seconds
        if prediction is None:
            raise PredictionError(
                f"{task.cell.method} made no prediction for the case {case.id} ({case.split}) and those behind it."
            )
        checked = _check(prediction, task.cell, case)
        stored = StoredPrediction(checked, float("nan") if method.transductive else seconds)
        task.store.write_prediction(case.split, case.id, stored, task.cell.maps)
        progress(str(task.cell), f"predict {case.split}", done, total)
    return taken


def median_ms(store: CellStore, cases: Sequence[Case]) -> float:
    """The median of the milliseconds that the stored predictions of these cases took; NaN without any."""
    times = [store.read_prediction(case.split, case.id).seconds for case in cases]
    return 1000 * float(np.median(times)) if times else float("nan")


def finish_cell(
    task: CellTask, dataset: Dataset, measured: Measurements, truths: dict[str, Truths], progress: CellProgress
) -> Outcome:
    """Scores the predictions and ends the cell.

    Args:
        task: The cell.
        dataset: The cell's dataset.
        measured: The measurements from while the method ran.
        truths: Lesion masks, kept here for the next cell.
        progress: Told about progress.
    """
    score_stored(task, dataset, measured, truths, progress)
    if task.config.maps == "none":
        task.store.drop_predictions()
    # A run's record tells of its last invocation; a cell's, of the machine that measured it.
    machine = environment(task.cell.device, task.command) | {"cells_at_once": task.at_once}
    here = {"finished": now(), "environment": machine}
    end = {"status": "finished", "maps": task.config.maps, "score": scored_by(task.config.score)}
    task.store.write(CellRecord(**measured.content() | end | here))
    return Outcome(task.cell, "finished")


def score_stored(
    task: CellTask, dataset: Dataset, measured: Measurements, truths: dict[str, Truths], progress: CellProgress
) -> None:
    """Computes a cell's tables from its stored predictions, and keeps them; as `stored_scores`."""
    task.store.write_tables(stored_scores(task, dataset, measured, truths, progress))


def stored_scores(
    task: CellTask, dataset: Dataset, measured: Measurements, truths: dict[str, Truths], progress: CellProgress
) -> CellTables:
    """Computes a cell's tables from its stored predictions.

    Args:
        task: The cell.
        dataset: The cell's dataset.
        measured: The measurements from while the method ran.
        truths: Lesion masks, kept here for the next cell.
        progress: Told about progress.

    Raises:
        ResultsError: A prediction is damaged.
        ScoringError: A map holds NaN or infinity.
    """
    cell = task.cell
    if cell.dataset not in truths:  # cells come dataset by dataset, and one set of masks in memory is enough
        truths.clear()
        progress(str(cell), "reading lesion masks", 0, 0)
        truths[cell.dataset] = load_truths(dataset, PREDICTED, cell.size, task.config.score)
    progress(str(cell), "score", 0, 0)
    chosen: Truths = truths[cell.dataset]
    if cell.external:
        chosen = {
            split: one.of(task.store.intact(split, [case.id for case in one.cases])) for split, one in chosen.items()
        }
    predictions: dict[Split, Sequence[StoredPrediction]] = {
        split: task.store.predictions(split, one.ids) for split, one in chosen.items()
    }
    lacking = {"maps", "scores"} - set(cell.options["given"]) if cell.external else ()
    return score_cell(_identity(cell), chosen, predictions, task.config.score, measured, lacking)


def fail_cell(task: CellTask, error: Exception | str) -> Outcome:
    """Ends the cell with an error, as a row of its scores.

    Raises:
        OSError: The error is that the results cannot be written.
    """
    if isinstance(error, OSError) and task.owns(error.filename):
        raise error
    message, told = _explain(error), error if isinstance(error, str) else "".join(traceback.format_exception(error))
    task.store.write_error(told)
    task.store.write_tables(failed_cell(_identity(task.cell), message))
    task.store.write(CellRecord(status="failed", error=message))
    return Outcome(task.cell, "failed", message)


def _explain(error: Exception | str) -> str:
    if isinstance(error, BenchError | str):
        return path_text(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return f"{type(error).__name__}: {explain(error)}"
    message = path_text(f"{type(error).__name__}: {error}")
    if is_out_of_memory(error):
        return (
            f"Out of memory ({message}). A smaller --size or --batch-size, or options of the method, may make it fit."
        )
    return message


def _is_whole(task: CellTask, dataset: Dataset, progress: CellProgress) -> bool:
    """Whether every prediction of the cell is there and undamaged."""
    progress(str(task.cell), "checking predictions", 0, 0)
    ids = {split: {case.id for case in dataset.cases(split)} for split in PREDICTED}
    found = {split: task.store.intact(split, of_split) for split, of_split in ids.items()}
    if task.cell.external:
        return {split: len(of_split) for split, of_split in found.items()} == task.cell.options["cases"]
    return found == ids


class _Clock:
    """Seconds that count as a method's work: without those for reading images, with those that its cache spared."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._reading = 0.0

    def now(self) -> float:
        return time.perf_counter() - self._reading + self._method.saved_seconds

    def images(self, dataset: Dataset, cases: Sequence[Case], size: int) -> Sequence[np.ndarray]:
        """Images of cases in the run's frame; the time that reading them takes does not count."""

        def read(position: int) -> np.ndarray:
            start = time.perf_counter()
            image = frame_image(dataset.load(cases[position]).image, size)
            self._reading += time.perf_counter() - start
            return image

        return LazySequence(len(cases), read)


def _check(prediction: Prediction, cell: Cell, case: Case) -> Prediction:
    """Holds a prediction to the contract."""
    problem = prediction_problem(prediction, cell.size)
    if problem:
        raise PredictionError(f"{cell.method} on the case {case.id}: {problem}")
    return replace(prediction, anomaly_map=np.asarray(prediction.anomaly_map, dtype=np.float32))


def _check_diagnostics(diagnostics: Sequence[Diagnostic], cell: Cell) -> tuple[Diagnostic, ...]:
    """Holds diagnostics to the contract and makes them fit for a record."""
    problem = diagnostics_problem(diagnostics, METRICS)
    if problem:
        raise DiagnosticError(f"{cell.method} {problem}")
    return tuple(replace(one, value=float(one.value)) for one in diagnostics)  # JSON knows no numpy


def scored_by(score: ScoreConfig) -> dict[str, Any]:
    """The settings that a cell's scores depend on, beside its predictions."""
    return score.model_dump() | {"code": scoring_version()}


def _identity(cell: Cell) -> dict[str, Any]:
    """The columns that every row of a cell begins with."""
    return {
        "dataset": cell.dataset,
        "dataset_fingerprint": cell.fingerprint,
        "method": cell.method,
        "options": json.dumps(cell.settings, default=str),
        "weights": ", ".join(f"{weights.name} ({weights.kind})" for weights in cell.weights) or "none",
        "weights_sha256": ", ".join(weights.sha256 for weights in cell.weights),
        "seed": cell.seed,
        "size": cell.size,
        "transductive": cell.transductive,
        "external": _external(cell),
        "seen": ", ".join(SEEN[one] for one in cell.options["seen"]) if cell.external else "",
        "cell": cell.name,
    }


def _external(cell: Cell) -> str:
    """What tables say of predictions from elsewhere, and of cases that they lack; empty where a method ran."""
    if not cell.external:
        return ""
    there, of = cell.options["cases"], cell.options["of"]
    lacking = [f"{there[split]} of {of[split]} {split} cases" for split in PREDICTED if there[split] < of[split]]
    return "; ".join(["imported", *lacking])


def now() -> str:
    """The time of the day, for records only: clocks jump."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
