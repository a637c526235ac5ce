"""Is there room for a run's predictions? Said before the first image is predicted, not when the disk is full."""

import shutil
from pathlib import Path

from ...results.record import Cell
from ..api import UsageError
from ..exchange.folder import PREDICTED
from .planning import Plan

_BYTES = {"float16": 2, "float32": 4}  # of a map's pixel; its mask takes an eighth of a byte
_OVERHEAD = 2048  # bytes of a prediction's file beside its map and mask


def require_disk(plan: Plan) -> None:
    """Refuses a run whose predictions would not fit on the disk of its results.

    Where they are not kept (`--maps none`), those of as many cells as may run at once must fit. An object store is not
    asked, nor a file system that tells no size.

    Raises:
        UsageError: There is less room.
    """
    folder = plan.config.results
    if not isinstance(folder, Path):
        return
    needed = sorted((_bytes_missing(plan, cell) for cell in plan.cells), reverse=True)
    if plan.config.maps == "none":
        needed = needed[: plan.config.workers or 1]
    total, _, free = shutil.disk_usage(_existing(folder))
    if total and sum(needed) > free:
        raise UsageError(
            f"The run's predictions take about {sum(needed) / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are "
            f"free where {folder} is. Use --maps float16 (half of it) or --maps none, other --results, or fewer cells."
        )


def _bytes_missing(plan: Plan, cell: Cell) -> int:
    """How many bytes the predictions of a cell will take that are not there yet, about."""
    store = plan.store.cell(cell.name)
    end = store.read()
    if end is not None and end.status == "finished":
        return 0
    each = cell.size**2 * _BYTES[cell.maps] + cell.size**2 // 8 + _OVERHEAD
    dataset = plan.datasets[cell.dataset]
    return each * sum(max(0, len(dataset.cases(split)) - store.count(split)) for split in PREDICTED)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.exists())
