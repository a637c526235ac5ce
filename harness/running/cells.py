"""A cell as it is handed from process to process: what to run, how it ended, and what its rows begin with."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from upath import UPath

from ...results.damage import LONGEST
from ...results.record import Cell, CellRecord
from ...results.store import CellStore, RunStore
from ...results.tables import failed_cell
from ..api import BenchError
from ..code_version import scoring_version
from ..config import RunConfig, ScoreConfig
from ..exchange.folder import PREDICTED
from ..exchange.manifest import seen_told
from ..files import explain, path_text
from ..texts import redacted
from .device import is_out_of_memory

End = Literal["finished", "kept", "failed"]
ENDS: tuple[End, ...] = get_args(End)

CellProgress = Callable[[str, str, int, int], None]
"""Called as `progress(cell, stage, done, total)`; a total of 0 means that nobody knows.

The last stage of a cell is one of `ENDS`.
"""


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

    def begin(self) -> None:
        """Takes back how the cell ended before, and with `force` its predictions."""
        if self.force:
            self.store.clear()
        else:
            self.store.reopen()

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


def fail_cell(task: CellTask, error: Exception | str) -> Outcome:
    """Ends the cell with an error, as a row of its scores.

    Raises:
        OSError: The error is that the results cannot be written.
    """
    if isinstance(error, OSError) and task.owns(error.filename):
        raise error
    message = redacted(_explain(error))[:LONGEST]
    told = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    task.store.write_error(redacted(told))
    task.store.write_tables(failed_cell(identity(task.cell), message))
    task.store.write(CellRecord(status="failed", error=message))
    return Outcome(task.cell, "failed", message)


def scored_by(score: ScoreConfig, card: str) -> dict[str, Any]:
    """What a cell's scores depend on, beside its predictions and the dataset's files.

    Args:
        score: The settings.
        card: The foreground on the dataset's card.
    """
    return score.model_dump() | {"code": scoring_version(), "card_foreground": card}


def identity(cell: Cell) -> dict[str, Any]:
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
        "seen": seen_told(cell.options["seen"]) if cell.external else "",
        "cell": cell.name,
    }


def now() -> str:
    """The time of the day, for records only: clocks jump."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


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


def _external(cell: Cell) -> str:
    """What tables say of predictions from elsewhere, and of cases that they lack; empty where a method ran."""
    if not cell.external:
        return ""
    there, of = cell.options["cases"], cell.options["of"]
    lacking = [f"{there[split]} of {of[split]} {split} cases" for split in PREDICTED if there[split] < of[split]]
    return "; ".join(["imported", *lacking])
