"""A run that is there already and is asked for more, under the name that its user gave it."""

from typing import Any

from ...results.record import Cell, ConfigRecord, RunRecord
from ..api import UsageError
from ..config import config_of_record

_SHARED = ("size", "limit", "data_root")  # what all cells of a run have in common, beside how they are scored


def grown(record: RunRecord, earlier: RunRecord, where: str) -> RunRecord:
    """The record of a command's cells, with those that earlier commands left in the same run and this one has not.

    A cell takes the place of the earlier one of the same dataset, method and seed, or of the same name.

    Args:
        record: The record of the new command.
        earlier: The record in the run's folder.
        where: That folder, for messages.

    Raises:
        UsageError: An earlier cell stays that was measured on other images, at another size or scored otherwise.
    """
    new, names = {_subject(cell) for cell in record.cells}, {cell.name for cell in record.cells}
    staying = [cell for cell in earlier.cells if _subject(cell) not in new and cell.name not in names]
    if not staying:
        return record
    before = config_of_record(earlier.config.content(), f"in {where}/run.json").model_dump(mode="json")
    now = record.config.content()
    datasets = earlier.datasets | record.datasets
    shared, asked = ({name: each[name] for name in _SHARED} | each["score"] for each in (before, now))
    differing = [name for name in shared if shared[name] != asked[name]]
    changed = [cell.dataset for cell in staying if cell.fingerprint != datasets[cell.dataset].fingerprint]
    if differing or changed:
        why = (
            f"with {differing[0]} {shared[differing[0]]}, and this command says {asked[differing[0]]}"
            if differing
            else f"on other images of {changed[0]}"
        )
        one = staying[0]
        raise UsageError(
            f"The run {where} holds {one.method} on {one.dataset}, seed {one.seed}, measured {why}. "
            "One run cannot have both: give another --name."
        )
    specs = _specs(earlier, before) | _specs(record, now)
    config = now | {
        "methods": list(dict.fromkeys([*before["methods"], *now["methods"]])),
        "dataset": [specs.get(name, name) for name in datasets],
        "seeds": list(dict.fromkeys([*before["seeds"], *now["seeds"]])),
        "set": before["set"] | now["set"],
    }
    cells = (*staying, *record.cells)
    return record.model_copy(
        update={"config": ConfigRecord.model_validate(config), "datasets": datasets, "cells": cells}
    )


def _subject(cell: Cell) -> tuple[str, str, int]:
    return cell.dataset, cell.method, cell.seed


def _specs(record: RunRecord, config: dict[str, Any]) -> dict[str, str]:
    """The spec of each dataset, by its name; both are in the same order."""
    return dict(zip(record.datasets, dict.fromkeys(config["dataset"]), strict=False))
