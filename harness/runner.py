"""From a configuration to predictions on disk and scored tables: every cell once, nothing finished is lost."""

import errno
import gc
import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from ..results.store import CellStore, ResultsError, RunStore, StoredPrediction, slug
from ..results.tables import CONVENTIONS, concatenate, failed_cell
from . import registry
from .api import (
    SPLITS,
    BenchError,
    Case,
    Dataset,
    Diagnostic,
    Method,
    Prediction,
    Split,
    StageReport,
    UsageError,
    Weights,
)
from .comparing import compare_methods
from .config import RunConfig, ScoreConfig
from .device import PeakMemory, calibrate, resolve_device, seed_everything, synchronize
from .frame import frame_image
from .leaks import shared_patients
from .provenance import code_version, environment, scoring_version, usable_cores
from .scanning import Truths, load_truths
from .scoring import score_cell
from .subset import Subset

PREDICTED: tuple[Split, ...] = ("valid", "test")

_DISK_TROUBLE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "its disk is full. Free some space"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "it is not writable. Make it so, or name another --results"
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in its way. Move it, or name another --results"),
}

Report = Callable[[str, str, int, int], None]
"""Called as `report(cell, stage, done, total)`; a total of 0 means that nobody knows."""


class PredictionError(BenchError):
    """A prediction that breaks the contract; the text names the case."""


class DiagnosticError(BenchError):
    """A diagnostic whose name is taken; the text names the method and the diagnostic."""


@dataclass(frozen=True)
class Cell:
    """One method, fully configured, on one dataset with one seed: all that a stored prediction depends on.

    `method` is the text of its spec, so that two variants of a method are two cells.
    """

    dataset: str
    fingerprint: str
    method: str
    options: dict[str, Any]
    weights: tuple[Weights, ...]
    seed: int
    size: int
    device: str
    maps: str
    code: str
    transductive: bool

    @property
    def key(self) -> str:
        return _hash(asdict(self))

    @property
    def name(self) -> str:
        """The name of the cell's folder."""
        return f"{slug(self.dataset)}-{slug(self.method)[:80]}-seed{self.seed}-{self.key[:10]}"

    def __str__(self) -> str:
        return f"{self.dataset} · {self.method} · seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """What a run will do; making it has checked everything that can be checked before the first image is predicted.

    `controls` has, for each method, those that are run beside it without having been asked for.
    """

    config: RunConfig
    device: str
    datasets: dict[str, Dataset]
    cells: tuple[Cell, ...]
    controls: dict[str, tuple[str, ...]]

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, hardware, git commit and command, for the records of the run and of the cells it measures."""
        return environment(self.device)

    @property
    def store(self) -> RunStore:
        """The run's folder: its name follows from its cells, so the same command finds it again."""
        name = slug("+".join(self.datasets))[:60]
        return RunStore(self.config.results / f"{name}-{_hash([cell.key for cell in self.cells])[:8]}")


@dataclass(frozen=True)
class Outcome:
    """How a cell ended; `kept` means that it was finished before this run."""

    cell: Cell
    status: Literal["finished", "kept", "failed"]
    error: str = ""


def make_plan(config: RunConfig, report: StageReport = lambda *_: None) -> Plan:
    """Opens datasets, builds methods and fetches weights, so that what is wrong is said before anything runs.

    Args:
        config: What is asked for.
        report: Told about progress.

    Raises:
        UsageError: A name, option or value is wrong.
        DataError: A dataset is missing or broken.
        WeightsError: Weights cannot be had.
    """
    device = resolve_device(config.device)
    report("loading methods", 0, 0)
    methods = {spec: _build(config, spec, device, seed=0) for spec in _canonical(config.methods)}
    controls = _controls(methods) if config.controls else {}
    for name, added in controls.items():
        methods |= {spec: _build_control(config, spec, name, device) for spec in added if spec not in methods}
    _check_settings(config, methods.values())
    report("opening datasets", 0, 0)
    datasets = open_datasets(config)
    weights = {}
    for name, method in methods.items():
        report(f"fetching the weights of {name}", 0, 0)
        method.report = report
        weights[name] = method.weights_used()
    report("checking every file of the datasets", 0, 0)
    cells = [
        Cell(
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            method=name,
            options=method.options(),
            weights=weights[name],
            seed=seed,
            size=config.size,
            device=device,
            maps="float16" if config.maps == "float16" else "float32",
            code=code_version(
                dict.fromkeys(registry.parse_method(one.spec).name for one in registry.with_inner(method))
            ),
            transductive=method.transductive,
        )
        for dataset in datasets.values()
        for name, method in methods.items()
        for seed in dict.fromkeys(config.seeds)
    ]
    return Plan(config, device, datasets, tuple(cells), controls)


def open_datasets(config: RunConfig) -> dict[str, Dataset]:
    """Opens a run's datasets, by name, each cut to the run's limit."""
    opened = [registry.open_dataset(spec, config.data_root) for spec in dict.fromkeys(config.dataset)]
    if config.limit:
        opened = [Subset(dataset, config.limit) for dataset in opened]
    datasets = {dataset.name: dataset for dataset in opened}
    if len(datasets) < len(opened):
        raise UsageError(f"Two of the datasets have the same name: {', '.join(d.name for d in opened)}.")
    return datasets


def execute(plan: Plan, *, force: bool = False, report: Report = lambda *_: None) -> list[Outcome]:
    """Runs every cell that is not finished yet, scores it, and keeps the run's tables up to date after each.

    Args:
        plan: What to do.
        force: Run finished cells again.
        report: Told about progress.

    Returns:
        One outcome per cell, in the plan's order. A method that raises makes a failed cell, not an exception.

    Raises:
        ResultsError: The results folder cannot be written; finished cells are kept.
    """
    store = plan.store
    try:
        record = {
            "status": "running",
            "created": _now(),
            "config": plan.config.model_dump(mode="json"),
            "environment": plan.environment,
            "datasets": {
                dataset.name: {
                    "fingerprint": dataset.fingerprint,
                    "card": asdict(dataset.card),
                    "counts": {split: len(dataset.cases(split)) for split in SPLITS},
                    "shared_patients": shared_patients(dataset),
                }
                for dataset in plan.datasets.values()
            },
            "cells": [asdict(cell) | {"name": cell.name} for cell in plan.cells],
        }
        store.write(record)
        truths: dict[str, Truths] = {}
        outcomes = []
        for cell in plan.cells:
            outcomes.append(_run_cell(plan, cell, store.cell(cell.name), truths, force=force, report=report))
            write_run_tables(store, [outcome.cell.name for outcome in outcomes])
        store.write(record | {"status": "done", "finished": _now()})
    except OSError as error:
        if error.errno not in _DISK_TROUBLE:
            raise
        raise ResultsError(
            f"The run cannot be kept in {store.folder}: {_DISK_TROUBLE[error.errno]}, and run the same command again."
        ) from error
    return outcomes


def rescore(store: RunStore, score: ScoreConfig | None = None, report: Report = lambda *_: None) -> list[str]:
    """Computes thresholds and metrics of a run again, from its stored predictions.

    Args:
        store: The run.
        score: How to score; by default as the run did.
        report: Told about progress.

    Returns:
        The names of cells that keep their old scores, because their predictions were not kept.

    Raises:
        ResultsError: The data are no longer those of the run.
    """
    record = store.read()
    config = RunConfig.model_validate(record["config"])
    score = score or config.score
    datasets = open_datasets(config)
    for name, then in record["datasets"].items():
        if datasets[name].fingerprint != then["fingerprint"]:
            raise ResultsError(
                f"The dataset {name} has changed since {store.name} ran: its scores cannot be computed again."
            )
    cells = [_cell_from_record(entry) for entry in record["cells"]]
    ends = {cell.name: end for cell in cells if (end := store.cell(cell.name).read()) is not None}
    finished = [cell for cell in cells if ends.get(cell.name, {}).get("status") == "finished"]
    kept = [cell for cell in finished if ends[cell.name]["maps"] != "none"]
    scored_by = _scored_by(score)

    def score_again(cell: Cell, truths: Truths) -> str:
        cell_store, end = store.cell(cell.name), ends[cell.name]
        _score(datasets[cell.dataset], cell, cell_store, truths, score, end)
        cell_store.write(end | {"score": scored_by})
        return str(cell)

    # Sorting pixels and reading files, which take most of the time, run side by side in threads.
    with ThreadPoolExecutor(usable_cores()) as pool:
        for name, dataset in datasets.items():
            of_dataset = [cell for cell in kept if cell.dataset == name]
            report(name, "reading lesion masks", 0, 0)
            truths = load_truths(dataset, PREDICTED, config.size, score.mask_edges)
            for scored in pool.map(partial(score_again, truths=truths), of_dataset):
                report(scored, "scored", 0, 0)
    write_run_tables(store, list(ends))
    store.write(record | {"config": record["config"] | {"score": score.model_dump()}})
    return [cell.name for cell in finished if cell not in kept]


def write_run_tables(store: RunStore, cells: Sequence[str]) -> None:
    """Joins the tables of cells into those of the run, and compares the methods."""
    tables = concatenate([store.cell(name).read_tables() for name in cells])
    for name, content in (tables._asdict() | compare_methods(tables.cases)._asdict()).items():
        store.write_table(name, content)


class _Images(Sequence[np.ndarray]):
    """Images of cases in the run's frame, read when asked for; `seconds` is the time that reading took so far.

    All that a method gets to see: it holds neither the dataset nor the cases, which know of masks and labels.
    """

    def __init__(self, dataset: Dataset, cases: Sequence[Case], size: int) -> None:
        self._read = lambda index: frame_image(dataset.load(cases[index]).image, size)
        self._count = len(cases)
        self.seconds = 0.0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        start = time.perf_counter()
        image = self._read(index)
        self.seconds += time.perf_counter() - start
        return image


def _run_cell(
    plan: Plan, cell: Cell, store: CellStore, truths: dict[str, Truths], *, force: bool, report: Report
) -> Outcome:
    dataset, config = plan.datasets[cell.dataset], plan.config
    score = _scored_by(config.score)
    end = store.read()
    if end is not None and end["status"] == "finished" and not force:
        has_maps, scored_alike = end["maps"] != "none", end["score"] == score
        if has_maps and not scored_alike:
            report(str(cell), "score", 0, 0)
            _score(dataset, cell, store, _truths_of(cell, dataset, config.score, truths), config.score, end)
            store.write(end | {"score": score})
        if has_maps or (scored_alike and config.maps == "none"):
            return Outcome(cell, "kept")
    try:
        if force:
            store.clear()
        end = _predict(plan, cell, store, dataset, report)
        report(str(cell), "score", 0, 0)
        _score(dataset, cell, store, _truths_of(cell, dataset, config.score, truths), config.score, end)
        if config.maps == "none":
            store.drop_predictions()
        kept = {"status": "finished", "maps": config.maps, "score": score}
        # A run's record tells of its last invocation; a cell's, of the machine that measured it.
        store.write(end | kept | {"finished": _now(), "environment": plan.environment})
        return Outcome(cell, "finished")
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        message = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        store.write_error(traceback.format_exc())
        store.write_tables(failed_cell(_identity(cell), message))
        store.write({"status": "failed", "error": message})
        return Outcome(cell, "failed", message)
    finally:
        gc.collect()


def _predict(plan: Plan, cell: Cell, store: CellStore, dataset: Dataset, report: Report) -> dict[str, Any]:
    """Fits the method and keeps a prediction of every validation and test case that has none yet."""
    config = plan.config
    seed_everything(cell.seed)
    method = _build(config, cell.method, cell.device, cell.seed)
    method.report = lambda stage, done, total: report(str(cell), stage, done, total)
    store.reopen()
    train = _Images(dataset, dataset.cases("train"), cell.size)
    with PeakMemory(cell.device) as memory:
        report(str(cell), "fit", 0, 0)
        start = _clock(method, train)
        method.fit(train)
        synchronize(cell.device)
        fit_seconds = _clock(method, train) - start
        diagnostics = _check_diagnostics(method.diagnostics(), cell)
        if not method.transductive:
            method.predict(train[0])  # warm-up: the first call pays for what later ones find ready
        test_ms = float("nan")
        for split in PREDICTED:
            test_ms = _predict_split(method, cell, store, dataset, split, config.maps, report)
    return {
        "fit_seconds": fit_seconds,
        "predict_ms": test_ms,
        "calibration_ms": calibrate(cell.device),
        "peak_memory_mib": memory.host_mib,
        "peak_gpu_memory_mib": memory.device_mib,
        "diagnostics": diagnostics,
    }


def _predict_split(
    method: Method, cell: Cell, store: CellStore, dataset: Dataset, split: Split, maps: str, report: Report
) -> float:
    """Predicts a split and returns the milliseconds per image: the median, or the mean of a transductive method."""
    cases = dataset.cases(split)
    open_cases = [case for case in cases if not store.has_prediction(split, case.id)]
    if open_cases and method.transductive:  # its predictions hang together: all or none
        open_cases = list(cases)
    images = _Images(dataset, open_cases, cell.size)
    predictions = iter(method.predict_many(images))
    total = 0.0
    for done, case in enumerate(open_cases, start=len(cases) - len(open_cases) + 1):
        start = _clock(method, images)
        prediction = next(predictions, None)
        synchronize(cell.device)
        seconds = _clock(method, images) - start
        total += seconds
        if prediction is None:
            raise PredictionError(
                f"{cell.method} made no prediction for the case {case.id} ({split}) and those behind it."
            )
        checked = _check(prediction, cell, case)
        stored = StoredPrediction(checked, float("nan") if method.transductive else seconds)
        store.write_prediction(split, case.id, stored, "float16" if maps == "float16" else "float32")
        report(str(cell), f"predict {split}", done, len(cases))
    if method.transductive:
        return 1000 * total / len(open_cases) if open_cases else float("nan")
    times = [store.read_prediction(split, case.id).seconds for case in cases]
    return 1000 * float(np.median(times)) if times else float("nan")


def _clock(method: Method, images: _Images) -> float:
    """Seconds that count as the method's work: without those for reading images, with those that its cache spared."""
    return time.perf_counter() - images.seconds + method.saved_seconds


def _check(prediction: Prediction, cell: Cell, case: Case) -> Prediction:
    """Holds a prediction to the contract."""
    shape = (cell.size, cell.size)
    anomaly_map = np.asarray(prediction.anomaly_map, dtype=np.float32)
    where = f"{cell.method} on the case {case.id}"
    if anomaly_map.shape != shape:
        raise PredictionError(f"{where}: the anomaly map is {anomaly_map.shape}, the image {shape}.")
    if not np.isfinite(anomaly_map).all() or not np.isfinite(prediction.image_score):
        raise PredictionError(f"{where}: the anomaly map or the image score holds NaN or infinity.")
    mask = prediction.mask
    if mask is not None and (mask.shape != shape or mask.dtype != bool):
        raise PredictionError(f"{where}: the mask is {mask.dtype} {mask.shape}, it should be bool {shape}.")
    if any(len(prompt) not in (2, 4) or not np.isfinite(prompt).all() for prompt in prediction.prompts):
        raise PredictionError(f"{where}: a prompt is neither a point (x, y) nor a box (x0, y0, x1, y1).")
    return replace(prediction, anomaly_map=anomaly_map)


def _check_diagnostics(diagnostics: Sequence[Diagnostic], cell: Cell) -> list[dict[str, Any]]:
    """Holds diagnostics to the contract and makes them fit for a record."""
    taken = {*CONVENTIONS, "none"}  # `none` is the metric of a failed cell
    records = []
    for diagnostic in diagnostics:
        if diagnostic.metric in taken:
            raise DiagnosticError(
                f"{cell.method} reports a diagnostic {diagnostic.metric!r}, but a metric of the harness or another "
                "diagnostic has that name. Give it one of its own."
            )
        taken.add(diagnostic.metric)
        records.append(asdict(diagnostic) | {"value": float(diagnostic.value)})  # JSON knows no numpy
    return records


def _score(
    dataset: Dataset, cell: Cell, store: CellStore, truths: Truths, score: ScoreConfig, end: dict[str, Any]
) -> None:
    predictions: dict[Split, Sequence[StoredPrediction]] = {
        split: store.predictions(split, [case.id for case in dataset.cases(split)]) for split in PREDICTED
    }
    store.write_tables(score_cell(_identity(cell), truths, predictions, score, end))


def _truths_of(cell: Cell, dataset: Dataset, score: ScoreConfig, read: dict[str, Truths]) -> Truths:
    """A dataset's lesion masks, read once: cells come dataset by dataset, and one set in memory is enough."""
    if cell.dataset not in read:
        read.clear()
        read[cell.dataset] = load_truths(dataset, PREDICTED, cell.size, score.mask_edges)
    return read[cell.dataset]


def _scored_by(score: ScoreConfig) -> dict[str, Any]:
    """What a cell's scores depend on, beside its predictions."""
    return score.model_dump() | {"code": scoring_version()}


def _identity(cell: Cell) -> dict[str, Any]:
    """The columns that every row of a cell begins with."""
    return {
        "dataset": cell.dataset,
        "dataset_fingerprint": cell.fingerprint,
        "method": cell.method,
        "options": json.dumps(cell.options, default=str),
        "weights": ", ".join(f"{weights.name} ({weights.kind})" for weights in cell.weights) or "none",
        "weights_sha256": ", ".join(weights.sha256 for weights in cell.weights),
        "seed": cell.seed,
        "size": cell.size,
        "transductive": cell.transductive,
        "cell": cell.name,
    }


def _build(config: RunConfig, spec: str, device: str, seed: int) -> Method:
    options = config.set.get(registry.parse_method(spec).name, {})
    return registry.build_method(
        spec,
        options,
        weights=config.weights,
        device=device,
        seed=seed,
        settings=config.set,
        shared=config.training,
    )


def _check_settings(config: RunConfig, methods: Iterable[Method]) -> None:
    """Refuses options that no method of the run takes."""
    parts = [part for method in methods for part in registry.with_inner(method)]
    names = {registry.parse_method(part.spec).name for part in parts}
    unknown = sorted(set(config.set) - names)
    if unknown:
        raise UsageError(f"Options are set for {unknown[0]!r}, which is not run. {registry.suggest(unknown[0], names)}")
    for option, value in config.training.items():
        if not any(option in registry.option_types(type(part)) for part in parts):
            raise UsageError(
                f"{option} is {value}, but no method of this run has that option: {', '.join(sorted(names))}. "
                "bench list methods says which are trained."
            )


def _build_control(config: RunConfig, spec: str, name: str, device: str) -> Method:
    try:
        return _build(config, spec, device, seed=0)
    except BenchError as error:
        raise UsageError(
            f"{spec}, a control of {name}, cannot be run; leave it out with --no-controls. {error}"
        ) from error


def _controls(methods: dict[str, Method]) -> dict[str, tuple[str, ...]]:
    """The controls of each method that are not asked for already; controls of controls are not followed."""
    found = {}
    for name, method in methods.items():
        found[name] = tuple(spec for spec in _canonical(method.controls()) if spec not in methods)
    return {name: specs for name, specs in found.items() if specs}


def _canonical(specs: Iterable[str]) -> list[str]:
    """Each spec's own text, once."""
    return list(dict.fromkeys(str(registry.parse_method(spec)) for spec in specs))


def _cell_from_record(entry: dict[str, Any]) -> Cell:
    return TypeAdapter(Cell).validate_python({key: value for key, value in entry.items() if key != "name"})


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
