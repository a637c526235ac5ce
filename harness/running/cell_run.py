"""A cell is run: a method is fitted, predicts each image, and is scored. What is on disk already is not done again."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...results.metrics import METRICS
from ...results.predictions import StoredPrediction
from ...results.record import Cell, CellRecord, Measurements
from ...results.tables import CellTables
from ..analysis.stored_cells import kept_predictions
from ..api import BenchError, Case, Dataset, Diagnostic, LazySequence, Method, Prediction, Split
from ..contract import diagnostics_problem, prediction_problem
from ..data.frame import frame_for
from ..data.reading import ParallelImages
from ..exchange.folder import PREDICTED
from ..scoring.cell_scores import score_cell
from ..scoring.scanning import Truths, load_truths
from ..specs import parse_method
from .cells import CellProgress, CellTask, Outcome, fail_cell, identity, now, scored_by
from .device import PeakMemory, calibrate, images_at_once, seed_everything, synchronize
from .importing import take_in
from .planning import build_run_method
from .provenance import environment, usable_cores

_READERS = 8  # threads; more would hold too many large images at once


class PredictionError(BenchError):
    """A prediction that breaks the contract; the text names the case."""


class DiagnosticError(BenchError):
    """A diagnostic whose name is taken; the text names the method and the diagnostic."""


class Fitted(NamedTuple):
    """A fitted method, and what was measured of it so far: `fit_seconds`, `calibration_ms` and `diagnostics`."""

    method: Method
    measured: Measurements


class CellRun:
    """The steps of a cell, from its images to its tables.

    Attributes:
        task: The cell.
        dataset: The cell's dataset.
    """

    def __init__(self, task: CellTask, dataset: Dataset, truths: dict[str, Truths], progress: CellProgress) -> None:
        """Nothing is run yet.

        Args:
            task: The cell.
            dataset: The cell's dataset.
            truths: Lesion masks by dataset; those of this one are kept here for the next cell.
            progress: Told about progress.
        """
        self.task = task
        self.dataset = dataset
        self._truths = truths
        self._progress = partial(progress, str(task.cell))

    def is_kept(self) -> bool:
        """Whether the cell is finished, and its scores and predictions are what is asked for and undamaged."""
        task = self.task
        end = task.store.read()
        if end is None or end.status != "finished" or task.force or end.score != self._scored_by():
            return False
        return self._is_whole() if end.finished_whole else task.config.maps == "none"

    def run(self) -> Outcome:
        """Runs the cell, or only scores it again where its predictions stand.

        Returns:
            How it ended. A method that raises makes a failed cell, not an exception.

        Raises:
            OSError: The results cannot be written.
        """
        task = self.task
        try:
            end = task.store.read()
            if end is not None and end.finished_whole and not task.force and self._is_whole():
                self.rescore(end)
                return Outcome(task.cell, "kept")
            task.begin()
            if task.cell.external:
                return self.finish(take_in(task.config, task.cell, self.dataset, task.store, self._progress))
            with PeakMemory(task.cell.device) as memory:
                method, measured = self.fit()
                seconds = [self.predict_missing(method, split) for split in PREDICTED]
            return self.finish(measured.model_copy(update=memory.measured | {"predict_ms": seconds[-1]}))
        except Exception as error:
            return fail_cell(task, error)
        finally:
            gc.collect()

    def fit(self) -> Fitted:
        """Fits the method on the training images.

        Raises:
            DiagnosticError: The method's diagnostics break the contract.
            Exception: Whatever the method raises.
        """
        cell = self.task.cell
        seed_everything(cell.seed)
        method = build_run_method(self.task.config, parse_method(cell.method), cell.device, cell.seed)
        method.progress = self._progress
        clock = self._clock(method)
        train = clock.images(self.dataset, self.dataset.cases("train"), cell.size)
        self._progress("fit", 0, 0)
        start = clock.now()
        method.fit(train)
        synchronize(cell.device)
        seconds = clock.now() - start
        diagnostics = _check_diagnostics(method.diagnostics(), cell)
        self.warm_up(method)
        measured = Measurements(
            fit_seconds=seconds,
            calibration_ms=calibrate(cell.device),
            batch=method.batch,
            diagnostics=diagnostics,
        )
        return Fitted(method, measured)

    def warm_up(self, method: Method) -> None:
        """Predicts an image for nothing: the first one pays for what later ones find ready; sizes the batches."""
        if method.transductive:
            return
        cell = self.task.cell
        first = frame_for(method, self.dataset.load(self.dataset.cases("train")[0]).image, cell.size)
        method.predict(first)
        if method.batches:
            method.batch = images_at_once(cell.device, lambda: method.predict(first))

    def predict_missing(self, method: Method, split: Split) -> float:
        """Predicts the cases of a split that have no undamaged prediction yet.

        Returns:
            Milliseconds per image: the median, or the mean of a transductive method.

        Raises:
            PredictionError: A prediction breaks the contract.
            Exception: Whatever the method raises.
        """
        cases = self.dataset.cases(split)
        there = self.task.store.intact(split, [case.id for case in cases])
        missing = [case for case in cases if case.id not in there]
        if missing and method.transductive:  # its predictions hang together: all or none
            missing = list(cases)
        seconds = self.predict(method, missing, len(cases))
        if method.transductive:
            return 1000 * seconds / len(missing) if missing else float("nan")
        return self.median_ms(split)

    def predict(self, method: Method, cases: Sequence[Case], total: int) -> float:
        """Predicts cases of one split and keeps each prediction as soon as it is made; returns the seconds it took.

        Args:
            method: Fitted.
            cases: Those to predict.
            total: How many cases the split has, for the progress.

        Raises:
            PredictionError: A prediction breaks the contract.
            Exception: Whatever the method raises.
        """
        cell, clock = self.task.cell, self._clock(method)
        predictions = iter(method.predict_many(clock.images(self.dataset, cases, cell.size)))
        taken = 0.0
        done = total - len(cases)
        for start in range(0, len(cases), method.batch):
            batch = cases[start : start + method.batch]
            began = clock.now()
            predicted = [next(predictions, None) for _ in batch]
            synchronize(cell.device)
            seconds = clock.now() - began
            taken += seconds
            for case, prediction in zip(batch, predicted, strict=True):
                self._keep(case, prediction, float("nan") if method.transductive else seconds / len(batch))
                done += 1
                self._progress(f"predict {case.split}", done, total)
        return taken

    def _keep(self, case: Case, prediction: Prediction | None, seconds: float) -> None:
        cell = self.task.cell
        if prediction is None:
            raise PredictionError(
                f"{cell.method} made no prediction for the case {case.id} ({case.split}) and those behind it."
            )
        stored = StoredPrediction(_check(prediction, cell, case), seconds)
        self.task.store.write_prediction(case.split, case.id, stored, cell.maps)

    def _clock(self, method: Method) -> "_Clock":
        return _Clock(method, min(_READERS, usable_cores() // self.task.at_once))

    def median_ms(self, split: Split) -> float:
        """The median of the milliseconds that the stored predictions of a split took; NaN without any."""
        store = self.task.store
        times = [store.read_prediction(split, case.id).seconds for case in self.dataset.cases(split)]
        return 1000 * float(np.median(times)) if times else float("nan")

    def finish(self, measured: Measurements) -> Outcome:
        """Scores the predictions and ends the cell.

        Args:
            measured: The measurements from while the method ran.

        Raises:
            ResultsError: A prediction is damaged.
            ScoringError: A map holds NaN or infinity.
        """
        task = self.task
        task.store.write_tables(self.tables(measured))
        if task.config.maps == "none":
            task.store.drop_predictions()
        # A run's record tells of its last invocation; a cell's, of the machine that measured it.
        machine = environment(task.cell.device, task.command) | {"cells_at_once": task.at_once}
        here = {"finished": now(), "environment": machine}
        end = {
            "status": "finished",
            "maps": task.config.maps,
            "score": self._scored_by(),
        }
        task.store.write(CellRecord(**measured.content() | end | here))
        return Outcome(task.cell, "finished")

    def rescore(self, end: CellRecord) -> None:
        """Scores a finished cell again, as the run is asked to now.

        Args:
            end: How it ended.

        Raises:
            ResultsError: A prediction is damaged.
            ScoringError: A map holds NaN or infinity.
        """
        self.task.store.write_tables(self.tables(end))
        self.task.store.write(end.model_copy(update={"score": self._scored_by()}))

    def _scored_by(self) -> dict[str, Any]:
        return scored_by(self.task.config.score, self.dataset.card.foreground)

    def tables(self, measured: Measurements) -> CellTables:
        """Computes the cell's tables from its stored predictions.

        Args:
            measured: The measurements from while the method ran.

        Raises:
            ResultsError: A prediction is damaged.
            ScoringError: A map holds NaN or infinity.
        """
        cell, store, score = self.task.cell, self.task.store, self.task.config.score
        if cell.dataset not in self._truths:  # cells come dataset by dataset, and one set of masks in memory is enough
            self._truths.clear()
            self._progress("reading lesion masks", 0, 0)
            self._truths[cell.dataset] = load_truths(self.dataset, PREDICTED, cell.size, score)
        self._progress("score", 0, 0)
        chosen, predictions = kept_predictions(cell, store, self._truths[cell.dataset])
        lacking = {"maps", "scores"} - set(cell.options["given"]) if cell.external else ()
        return score_cell(identity(cell), chosen, predictions, score, measured, lacking)

    def _is_whole(self) -> bool:
        """Whether every prediction of the cell is there and undamaged."""
        self._progress("checking predictions", 0, 0)
        ids = {split: {case.id for case in self.dataset.cases(split)} for split in PREDICTED}
        found = {split: self.task.store.intact(split, of_split) for split, of_split in ids.items()}
        if self.task.cell.external:
            return {split: len(of_split) for split, of_split in found.items()} == self.task.cell.options["cases"]
        return found == ids


class _Clock:
    """Seconds that count as a method's work: without those for reading images, with those that its cache spared.

    Args:
        method: The method.
        threads: How many threads may read images.
    """

    def __init__(self, method: Method, threads: int) -> None:
        self._method = method
        self._threads = threads
        self._reading = 0.0

    def now(self) -> float:
        return time.perf_counter() - self._reading + self._method.saved_seconds

    def images(self, dataset: Dataset, cases: Sequence[Case], size: int) -> Sequence[np.ndarray]:
        """Images of cases in the run's frame; the time that reading them takes does not count."""

        def read(position: int) -> np.ndarray:
            return frame_for(self._method, dataset.load(cases[position]).image, size)

        # Of what is not read from files, only its author knows whether several threads may ask for it at once.
        parallel = dataset.of_files and self._threads > 1
        images = ParallelImages(len(cases), read, self._threads) if parallel else LazySequence(len(cases), read)
        return _TimedImages(images, self._stopped)

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._reading += time.perf_counter() - start


class _TimedImages(LazySequence[np.ndarray]):
    """Images, while whose reading a clock is stopped."""

    def __init__(self, images: LazySequence[np.ndarray], stopped: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(len(images), self._one)
        self._images = images
        self._stopped = stopped

    def many(self, positions: Sequence[int]) -> list[np.ndarray]:
        with self._stopped():
            return self._images.many([self._positions[position] for position in positions])

    def _one(self, position: int) -> np.ndarray:
        with self._stopped():
            return self._images[position]


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
