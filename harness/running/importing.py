"""Predictions from elsewhere as cells of a run."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ...results.predictions import StoredPrediction
from ...results.record import EXTERNAL, Cell, Measurements
from ...results.store import CellStore
from .. import registry
from ..api import DataError, Dataset, Progress, UsageError
from ..code_version import cell_version
from ..config import RunConfig
from ..exchange.folder import PREDICTED
from ..exchange.imported import Imported
from ..exchange.manifest import MANIFEST
from ..paths import absolute, expanded
from ..specs import Spec

NAN = float("nan")


def locate_imports(specs: Iterable[Spec]) -> list[Spec]:
    """The same specs with paths that mean the same from every folder; those of methods stay as they are.

    Raises:
        UsageError: Two specs that are spelt differently name one folder. Its predictions would be ranked twice, or the
            second spec would be lost without a word.
    """
    named: dict[Path, Spec] = {}
    located = []
    for spec in specs:
        path = dict(spec.options).get("path") if spec.name == registry.IMPORTED else None
        if path is None:
            located.append(spec)
            continue
        folder = absolute(Path(expanded(path)))
        other = named.setdefault(folder.resolve(), spec)
        if other != spec:
            raise UsageError(f"{other} and {spec} are the same folder, {folder.resolve()}. Name it once.")
        options = tuple((key, str(folder) if key == "path" else value) for key, value in spec.options)
        located.append(Spec(spec.name, options))
    return located


def find_imports(config: RunConfig) -> list[Imported]:
    """The sets of predictions that a run takes in.

    Raises:
        UsageError: An option is wrong.
        DataError: There is no such folder, or its manifest is wrong.
    """
    specs = [spec for spec in dict.fromkeys(config.methods) if spec.name == registry.IMPORTED]
    common = config.set.get(registry.IMPORTED, {})
    made = [registry.build_method(spec, common, weights=config.weights, device=EXTERNAL, seed=0) for spec in specs]
    return [one for one in made if isinstance(one, Imported)]


def check_imports(imports: Sequence[Imported], methods: Collection[str], datasets: Mapping[str, Dataset]) -> None:
    """Refuses predictions that are of no dataset of the run, and names that stand for two things.

    Raises:
        UsageError: Two have the same name and seed.
        DataError: Predictions are of none of the datasets.
    """
    taken: dict[tuple[str, int], Path] = {}
    for one in imports:
        key = one.label, one.manifest.seed
        if one.label in methods or key in taken:
            other = f"the predictions in {taken[key]}" if key in taken else "a method of this run"
            raise UsageError(
                f"The predictions in {one.folder} have the name {one.label}, as {other} has. Give them another one, "
                f"such as imported[path={one.path},name={one.label}_2]."
            )
        taken[key] = one.folder
        if not any(one.is_for(dataset) for dataset in datasets.values()):
            named = one.manifest.dataset
            same = named in datasets
            images = f"other images of {named}" if same else f"the dataset {named or 'of another run'}"
            limited = "If the run that they are of had --limit, give the same one. " if same else ""
            raise DataError(
                f"The predictions in {one.folder} are of {images}, as {MANIFEST} says; this run has "
                f"{', '.join(datasets)}. {limited}If they are of these images all the same, remove `dataset` and "
                f"`dataset_fingerprint` from {MANIFEST}."
            )


def import_cell(
    config: RunConfig, method: Imported, dataset: Dataset, progress: Progress
) -> tuple[Cell, tuple[str, ...]]:
    """The cell of predictions from elsewhere, and what a reader of its scores should know.

    Raises:
        DataError: The predictions cannot be scored.
    """
    held = method.hold_against(dataset, config.size, progress)
    cell = Cell(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        method=method.label,
        options=held.options(dataset),
        weights=(),
        seed=held.manifest.seed,
        size=config.size,
        device=EXTERNAL,
        maps="float16" if config.maps == "float16" else "float32",
        code=cell_version(method, dataset),
        transductive="test" in (held.manifest.seen or ()),
    )
    return cell, tuple(f"{method.label}, made elsewhere: {note}" for note in held.notes)


def take_in(config: RunConfig, cell: Cell, dataset: Dataset, store: CellStore, progress: Progress) -> Measurements:
    """Keeps the predictions of a cell as a run keeps those of a method.

    Returns:
        What the author of the predictions says of their cost.

    Raises:
        DataError: A file has changed since the run was planned.
    """
    method = next(one for one in find_imports(config) if (one.label, one.manifest.seed) == (cell.method, cell.seed))
    held = method.hold_against(dataset, cell.size)
    if held.sha256 != cell.options["sha256"]:
        raise DataError(f"The predictions in {method.folder} have changed since this run began. Start it again.")
    for split in PREDICTED:
        total = len(held.found.cases[split])
        for done, (case, prediction) in enumerate(held.predictions(dataset, split, cell.size), start=1):
            store.write_prediction(split, case.id, StoredPrediction(prediction, NAN), cell.maps)
            progress(f"take in {split}", done, total)
    told = {
        name: value for name in ("predict_ms", "peak_memory_mib") if (value := getattr(held.manifest, name)) is not None
    }
    return Measurements(**told)
