"""What a run will do: every cell of it, known before the first image is predicted."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from upath import UPath

from ...results.files import hash_of, readable
from ...results.record import Cell, WeightsRecord
from ...results.store import RunStore
from .. import registry
from ..api import BenchError, Dataset, Method, Progress, UsageError
from ..code_version import cell_version
from ..config import RunConfig
from ..data.foreground import check_rule, rule_of
from ..data.notes import notes_on
from ..data.subset import Subset
from ..paths import absolute
from ..specs import Spec, option_types, parse_method, suggest
from .device import resolve_device
from .importing import check_imports, find_imports, import_cell, locate_imports
from .provenance import command_line, environment


@dataclass(frozen=True)
class Plan:
    """What a run will do; making it has checked everything that can be checked before the first image is predicted.

    `controls` has, for each method, those that are run beside it without having been asked for. `notes` has, for each
    dataset, what its user should know before a score is believed. `once` has the methods that are run with the first of
    several seeds only, because nothing in them is random.
    """

    config: RunConfig
    device: str
    datasets: dict[str, Dataset]
    cells: tuple[Cell, ...]
    controls: dict[str, tuple[str, ...]]
    notes: dict[str, tuple[str, ...]]
    once: tuple[str, ...]

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, hardware, git commit and command, for the record of the run."""
        return environment(self.device, command_line())

    @property
    def store(self) -> RunStore:
        """The run's folder: as the user named it, or after its cells, so that the same command finds it again."""
        key = hash_of([cell.key for cell in self.cells])
        name = self.config.name or f"{readable('+'.join(self.datasets), 60)}-{key[:8]}"
        return RunStore(self.config.results / name)


def make_plan(config: RunConfig, progress: Progress = lambda *_: None) -> Plan:
    """Opens datasets, builds methods and fetches weights, so that what is wrong is said before anything runs.

    Args:
        config: The options of the run.
        progress: Told about progress.

    Raises:
        UsageError: A name, option or value is wrong.
        DataError: A dataset is missing or broken.
        WeightsError: Weights cannot be fetched.
    """
    config = _located(config)
    # A cluster may have GPUs where the machine that starts the run has none.
    device = config.device if (config.executor, config.device) == ("ray", "cuda") else resolve_device(config.device)
    imports = find_imports(config)
    specs = [spec for spec in dict.fromkeys(config.methods) if spec.name != registry.IMPORTED]
    methods = {str(spec): build_run_method(config, spec, device, seed=0) for spec in specs}
    controls = _controls(methods) if config.controls else {}
    for name, added in controls.items():
        methods |= {one: _build_control(config, one, name, device) for one in added if one not in methods}
    _check_settings(config, methods.values())
    datasets = open_datasets(config)
    for dataset in datasets.values():
        check_rule(rule_of(dataset, config.score.foreground))
    check_imports(imports, methods, datasets)
    weights = {}
    for done, (name, method) in enumerate(methods.items()):
        progress("fetching weights", done, len(methods))
        method.progress = progress
        weights[name] = method.weights_used()
    progress("checking every file of the datasets", 0, len(datasets))
    seeds = list(dict.fromkeys(config.seeds))
    cells = [
        Cell(
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            method=name,
            options=method.options(),
            weights=tuple(WeightsRecord(**asdict(one)) for one in weights[name]),
            seed=seed,
            size=config.size,
            device=device,
            maps="float16" if config.maps == "float16" else "float32",
            code=cell_version(method, dataset),
            transductive=method.transductive,
        )
        for dataset in datasets.values()
        for name, method in methods.items()
        for seed in (seeds if method.stochastic else seeds[:1])
    ]
    imported = [
        import_cell(config, one, dataset, progress)
        for dataset in datasets.values()
        for one in imports
        if one.is_for(dataset)
    ]
    once = tuple(name for name, method in methods.items() if len(seeds) > 1 and not method.stochastic)
    progress("looking at the datasets", 0, 0)
    notes = {
        name: (*notes_on(dataset, progress), *_grey_note(dataset, methods.values()))
        for name, dataset in datasets.items()
    }
    for cell, told in imported:
        notes[cell.dataset] += told
    return Plan(config, device, datasets, (*cells, *(cell for cell, _ in imported)), controls, notes, once)


def _located(config: RunConfig) -> RunConfig:
    """The same run with paths that can be found again from another folder, or from another process."""
    results = UPath(absolute(config.results)) if isinstance(config.results, Path) else config.results
    found = {
        "methods": locate_imports(config.methods),
        "dataset": [registry.located(spec, config.data_root) for spec in config.dataset],
        "data_root": absolute(config.data_root),
        "results": results,
    }
    return config.model_copy(update=found)


def open_datasets(config: RunConfig) -> dict[str, Dataset]:
    """Opens a run's datasets, by name, each cut to the run's limit.

    Raises:
        UsageError: Two have the same name.
        DataError: One is missing or broken.
    """
    specs: dict[str, str] = {}
    datasets: dict[str, Dataset] = {}
    for spec in dict.fromkeys(config.dataset):
        dataset = registry.open_dataset(spec, config.data_root)
        other = specs.setdefault(dataset.name, spec)
        if other != spec:
            raise UsageError(
                f"Two datasets have the name {dataset.name}: {other} and {spec}. Results tell datasets by name, so one "
                f"needs another: rename its folder, or give a card (.yaml) with the lines `name: {dataset.name}_2` and "
                "`root: FOLDER` in its place."
            )
        datasets[dataset.name] = Subset(dataset, config.limit) if config.limit else dataset
    return datasets


def build_run_method(config: RunConfig, spec: Spec, device: str, seed: int) -> Method:
    """Makes a method as a run asks for it.

    Raises:
        UsageError: The method or an option of it is wrong.
    """
    return registry.build_method(
        spec,
        config.set.get(spec.name, {}),
        weights=config.weights,
        device=device,
        seed=seed,
        settings=config.set,
        shared=config.training,
    )


def _grey_note(dataset: Dataset, methods: Iterable[Method]) -> Iterator[str]:
    """A note on the methods that get a dataset in colour in grey, where there are some."""
    grey = [
        part.spec if part is method else f"{part.spec} in {method.spec}"
        for method in methods
        for part in registry.with_inner(method)
        if not part.colour
    ]
    if grey and dataset.card.channels == "rgb":
        verbs = "takes no colour and gets" if len(grey) == 1 else "take no colour and get"
        yield f"{', '.join(grey)} {verbs} these images in grey (luma of ITU-R BT.601)."


def _check_settings(config: RunConfig, methods: Iterable[Method]) -> None:
    """Refuses options that no method of the run takes."""
    parts = [part for method in methods for part in registry.with_inner(method)]
    names = {name for method in methods for name in registry.method_names(method)}
    unknown = sorted(set(config.set) - names)
    if unknown:
        near = suggest(unknown[0], names).replace("Known:", "This run has:")
        raise UsageError(f"Options are set for {unknown[0]!r}, which is not run. {near}")
    for option, value in config.training.items():
        if not any(option in option_types(type(part)) for part in parts):
            raise UsageError(
                f"{option} is {value}, but no method of this run has that option: {', '.join(sorted(names))}. "
                "bench list methods says which are trained."
            )


def _build_control(config: RunConfig, control: str, name: str, device: str) -> Method:
    try:
        return build_run_method(config, parse_method(control), device, seed=0)
    except BenchError as error:
        raise UsageError(
            f"{control}, a control of {name}, cannot be run; leave it out with --no-controls. {error}"
        ) from error


def _controls(methods: dict[str, Method]) -> dict[str, tuple[str, ...]]:
    """The controls of each method that are not asked for already; controls of controls are not followed."""
    found = {}
    for name, method in methods.items():
        controls = dict.fromkeys(str(parse_method(text)) for text in method.controls())
        found[name] = tuple(control for control in controls if control not in methods)
    return {name: specs for name, specs in found.items() if specs}
