"""Cells as tasks on a Ray cluster, gathered through the results folder, which every machine of it must reach.

A cell is one task. With `shard_cases` it is fitted in one task, predicted in several side by side, and scored in a last
one. A task whose machine is lost is done again on another; predictions that were made stay.
"""

import logging
import os
import socket
from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...results.record import Measurements
from ..api import BenchError, Case, Dataset, Split, UsageError
from ..code_version import cell_version
from ..config import RunConfig
from ..network import SILENT, tell_libraries
from ..specs import parse_method
from .cell_run import CellRun
from .cells import PREDICTED, CellProgress, CellTask, Outcome, fail_cell
from .claims import Claims
from .device import PeakMemory, seed_everything
from .planning import Plan, build_run_method, open_datasets
from .provenance import asked_threads

_GIB = 2**30
_TIMEOUT = 10  # seconds to reach a cluster
_RETRIES = 3  # of a task whose machine is lost
_PATIENCE = 1.0  # seconds between two looks at what has been predicted


class OtherMachineError(BenchError):
    """A machine of the cluster has other data, weights or code than the one that started the run."""


def cluster(plan: Plan, claims: Claims, progress: CellProgress) -> Generator[Outcome]:
    """Runs cells on a Ray cluster: the one at `address` or `$RAY_ADDRESS`, or one on this machine alone.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _connect(plan.config)
    pending: dict[Any, CellTask] = {}
    most = plan.config.workers or len(plan.cells)
    try:
        while True:
            while len(pending) < most and (task := claims.take(wait=not pending)) is not None:
                dataset = plan.datasets[task.cell.dataset]
                progress(str(task.cell), "waiting for a place in the cluster", 0, 0)
                pending[_submit(ray, task, dataset, most)] = task
            if not pending:
                return
            ended, running = ray.wait(list(pending), timeout=_PATIENCE)
            for reference in running:
                _tell(pending[reference], plan.datasets[pending[reference].cell.dataset], progress)
            for reference in ended:
                task = pending.pop(reference)
                outcome = _outcome(ray, reference, task)
                claims.release(task)
                yield outcome
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _connect(config: RunConfig) -> Any:
    tell_libraries()
    if (Path.home() / ".ray" / "auth_token").exists():
        # `ray start` asks everybody for the token as soon as there is one; whoever says an address has to say this too.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs Ray: pip install 'miasbench[ray]'.") from error
    variables = {name: value for name, value in os.environ.items() if name.startswith("MIASBENCH_") or name in SILENT}
    try:
        host, colon, port = (config.address or "").partition(":")
        if colon and port.isdecimal():  # Ray would try for eight minutes
            socket.create_connection((host, int(port)), _TIMEOUT).close()
        ray.init(
            address=config.address,
            runtime_env={"env_vars": variables},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"The Ray cluster {config.address or 'on this machine'} cannot be reached: {error} Is it started "
            "(ray start --head), is --address right, and has this machine the cluster's token (~/.ray/auth_token)?"
        ) from error
    return ray


def _submit(ray: Any, task: CellTask, dataset: Dataset, most: int) -> Any:
    """Starts the tasks of a cell, of which `most` run at once; returns the reference of how it ends."""
    config = task.config
    threads, memory = config.threads or asked_threads() or 1, int(config.cell_memory * _GIB)
    gpus = 1 if task.cell.device == "cuda" else 0
    beside = _places(ray, {"CPU": threads, "GPU": gpus, "memory": memory})

    def start(function: Any, *arguments: Any, returns: int = 1) -> Any:
        options = {"num_cpus": threads, "num_gpus": gpus, "memory": memory, "max_retries": _RETRIES}
        return ray.remote(function).options(**options, num_returns=returns).remote(*arguments)

    if not config.shard_cases or task.cell.transductive:
        return start(_whole, replace(task, at_once=min(most, beside)))
    task = replace(task, at_once=beside)
    task.begin()
    method, measured = start(_fit, task, returns=2)
    shards = [
        start(_predict, task, method, split, ids)
        for split in PREDICTED
        for ids in _shards(task, dataset, split, config.shard_cases)
    ]
    return start(_finish, task, measured, *shards)


def _places(ray: Any, needs: dict[str, int]) -> int:
    """How many tasks with these needs run beside each other on that machine of the cluster which holds most of them."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max(1, *(min(int(has.get(name, 0) // need) for name, need in needs.items() if need) for has in machines))


def _shards(task: CellTask, dataset: Dataset, split: Split, size: int) -> list[list[str]]:
    """The ids of the cases that have no prediction yet, so many together."""
    ids = [case.id for case in dataset.cases(split)]
    there = task.store.intact(split, ids)
    missing = [one for one in ids if one not in there]
    return [missing[begin : begin + size] for begin in range(0, len(missing), size)]


def _tell(task: CellTask, dataset: Dataset, progress: CellProgress) -> None:
    """Reports how many predictions of a cell are in the results folder."""
    done, total = sum(map(task.store.count, PREDICTED)), sum(len(dataset.cases(split)) for split in PREDICTED)
    if done:
        progress(str(task.cell), "predict", done, total)


def _outcome(ray: Any, reference: Any, task: CellTask) -> Outcome:
    """How a cell ended; what the cluster could not do is a failed cell.

    Raises:
        OSError: The results cannot be written.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return fail_cell(task, error.cause if isinstance(error.cause, Exception) else error)
    except ray.exceptions.RayError as error:
        return fail_cell(task, f"The cluster lost the cell, {_RETRIES + 1} times ({type(error).__name__}: {error}).")


def _whole(task: CellTask) -> Outcome:
    return _arrive(task).run()


def _fit(task: CellTask) -> tuple[Any, Measurements]:
    run = _arrive(task)
    with PeakMemory(task.cell.device) as memory:
        method, measured = run.fit()
    return method, measured.model_copy(update=memory.measured)


def _predict(task: CellTask, method: Any, split: Split, ids: Sequence[str]) -> dict[str, float]:
    """Predicts a shard; returns the peaks of memory."""
    run = _arrive(task)
    wanted = {*ids} - task.store.intact(split, ids)  # of a task that was begun on a machine that was lost
    cases: list[Case] = [case for case in run.dataset.cases(split) if case.id in wanted]
    seed_everything(task.cell.seed)
    run.warm_up(method)
    with PeakMemory(task.cell.device) as memory:
        run.predict(method, cases, len(cases))
    return memory.measured


def _finish(task: CellTask, measured: Measurements, *peaks: dict[str, float]) -> Outcome:
    run = _arrive(task)
    highest = {
        name: max([getattr(measured, name), *(peak[name] for peak in peaks)])
        for name in ("peak_memory_mib", "peak_gpu_memory_mib")
    }
    task.store.sweep()  # a machine that was lost may have been writing
    return run.finish(measured.model_copy(update=highest | {"predict_ms": run.median_ms("test")}))


def _arrive(task: CellTask) -> CellRun:
    """Opens the dataset, and makes sure that this machine has what the cell was planned with.

    Raises:
        OtherMachineError: It has something else.
        DataError: It has no such dataset.
    """
    import torch

    if task.config.threads:
        torch.set_num_threads(task.config.threads)
    cell, here = task.cell, socket.gethostname()
    method = build_run_method(task.config, parse_method(cell.method), cell.device, cell.seed)
    dataset = open_datasets(task.config)[cell.dataset]
    for what, found, planned in (
        ("code", cell_version(method, dataset), cell.code),
        # What `auto` stands for may depend on the machine; predictions from elsewhere are described by other options.
        ("meanings of `auto`", cell.options if cell.external else method.options(), cell.options),
        ("weights", [asdict(one) for one in method.weights_used()], [one.model_dump() for one in cell.weights]),
        ("images of the dataset", dataset.fingerprint, cell.fingerprint),
    ):
        if found != planned:
            raise OtherMachineError(f"The machine {here} has other {what} than the one that started the run.")
    return CellRun(task, dataset, {}, _silent)


def _silent(*_: object) -> None:
    """What a task would report, the results folder shows."""
