"""The datasets behind a run's results, found again where they are now."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ...results.files import ResultsError
from ...results.store import RunStore
from .. import registry
from ..api import BenchError, DataError, Dataset, UsageError
from ..config import RunConfig, config_of_record
from ..data.subset import Subset

NOWHERE_ELSE: Mapping[str, str] = MappingProxyType({})


class RecordedDatasets(NamedTuple):
    """The datasets of a run, by name: those that were found as they were, and why the others were not."""

    opened: dict[str, Dataset]
    missing: dict[str, BenchError]


def recorded_config(store: RunStore, given: Mapping[str, Any] = MappingProxyType({})) -> RunConfig:
    """The options of a run, by its record, but for those that are given.

    Raises:
        UsageError: This version does not know an option of the record, or not its value; or a given one is wrong.
    """
    return config_of_record(store.read().config.content(), f"in {store.folder / 'run.json'}", given)


def moved_datasets(texts: Iterable[str], names: Collection[str]) -> dict[str, str]:
    """Reads `--dataset NAME=PATH`, where a name may have a `=` of its own.

    Args:
        texts: The values of the option.
        names: The names of the run's datasets.

    Returns:
        Where datasets are now, by their names.

    Raises:
        UsageError: A text is of another form, or no dataset has this name.
    """
    moved = {}
    for text in texts:
        fitting = [name for name in names if text.startswith(f"{name}=") and text != f"{name}="]
        if not fitting:
            raise UsageError(
                f"--dataset {text}: it should be NAME=PATH, the name of a dataset in the results and where it is now. "
                f"There: {', '.join(names)}."
            )
        name = max(fitting, key=len)
        moved[name] = text[len(name) + 1 :]
    return moved


def recorded_datasets(store: RunStore, moved: Mapping[str, str] = NOWHERE_ELSE) -> RecordedDatasets:
    """Opens the datasets of a run, and compares each with the fingerprint in the run's record.

    Args:
        store: The run.
        moved: Where datasets are now, by name; the others are looked for where the run found them.

    Raises:
        UsageError: A dataset in `moved` is not the one of the run.
        DataError: A dataset in `moved` is missing or broken.
    """
    record, config = store.read(), recorded_config(store)
    names = list(record.datasets)
    specs = dict(zip(names, dict.fromkeys(config.dataset), strict=False))
    found = RecordedDatasets({}, {})
    for name in names:
        then, where = record.datasets[name].fingerprint, moved[name] if name in moved else specs.get(name, name)
        try:
            dataset = _open(where, name, config)
            if dataset.fingerprint != then:
                raise UsageError(
                    f"The dataset {name} ({where}) has changed since {store.name} ran, or is another one: its "
                    f"fingerprint is {dataset.fingerprint}, the run's {then}."
                )
            found.opened[name] = dataset
        except BenchError as error:
            if name in moved:
                raise
            found.missing[name] = error
    for cell in record.cells:
        if cell.dataset not in names:
            found.missing[cell.dataset] = ResultsError(
                f"The record {store.folder / 'run.json'} is damaged: it does not list the dataset {cell.dataset} of "
                f"its cell {cell.name}. The same bench run command writes it again."
            )
    return found


def all_recorded_datasets(store: RunStore, moved: Mapping[str, str] = NOWHERE_ELSE) -> dict[str, Dataset]:
    """As `recorded_datasets`, where all are needed.

    Raises:
        DataError: One is missing, broken or not the one of the run.
        ResultsError: The record does not list it.
    """
    opened, missing = recorded_datasets(store, moved)
    for name, error in missing.items():
        if isinstance(error, ResultsError):
            raise error
        raise DataError(f"{error} --dataset {name}=PATH says where it is now.") from error
    return opened


def _open(where: str, name: str, config: RunConfig) -> Dataset:
    dataset = registry.open_dataset(where, config.data_root)
    dataset.name = name
    return Subset(dataset, config.limit) if config.limit else dataset
