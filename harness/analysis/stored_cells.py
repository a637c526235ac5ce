"""The predictions that a run has kept, with the lesion masks, to choose thresholds on them anew."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from ...results.record import Cell
from ...results.store import CellStore, RunStore
from ..api import Progress, Split, UsageError
from ..config import ScoreConfig
from ..exchange.folder import PREDICTED
from ..scoring.cell_scores import values_limit
from ..scoring.scanning import Predictions, Scanned, Truths, load_truths, scan, where_scored
from .recorded import NOWHERE_ELSE, all_recorded_datasets, recorded_config


def kept_predictions(cell: Cell, store: CellStore, truths: Truths) -> tuple[Truths, Predictions]:
    """The predictions of a cell, each in the whole frame, and the truths of the cases that it has.

    Args:
        cell: The cell; one whose predictions were made elsewhere may lack some cases.
        store: Its folder.
        truths: The validation and the test split of its dataset.
    """
    if cell.external:
        truths = {
            split: replace(one.of(there), not_imported=len(one.cases) - len(there))
            for split, one in truths.items()
            for there in [store.intact(split, one.ids)]
        }
    return truths, {split: store.predictions(split, one.ids) for split, one in truths.items()}


@dataclass(frozen=True)
class StoredCell:
    """A cell whose anomaly maps are at hand.

    Attributes:
        cell: Its method, dataset and seed.
        truths: Cases and masks of the validation and the test split.
        predictions: Of the same cases, where they are scored.
        score: How the run was scored.
    """

    cell: Cell
    truths: Truths
    predictions: Predictions
    score: ScoreConfig

    def scan(self, split: Split, images: Collection[str] | None = None) -> Scanned:
        """Passes over a split as scoring does.

        Args:
            split: Which.
            images: The ids of cases; by default all.

        Raises:
            ScoringError: A map holds NaN or infinity.
            ResultsError: A prediction is damaged.
        """
        truths, stored = self.truths[split], self.predictions[split]
        limit = values_limit(self.score, self.truths["test"])
        if images is None:
            return scan(truths, stored, limit)
        kept = [stored[index] for index, case in enumerate(truths.cases) if case.id in images]
        return scan(truths.of(images), kept, limit)


@dataclass
class StoredRun:
    """The finished cells of a run, with their predictions.

    Only datasets with lesion masks count, and of predictions from elsewhere only those with maps.

    Attributes:
        store: The run.
        moved: Where datasets are now, by name.
        progress: Told about progress.

    Raises:
        UsageError: A cell kept no predictions, or there is no cell; or a dataset in `moved` is not the one of the run.
        DataError: A dataset is missing, or no longer the one of the run.
    """

    store: RunStore
    moved: Mapping[str, str] = field(default_factory=lambda: NOWHERE_ELSE)
    progress: Progress = lambda *_: None

    def __post_init__(self) -> None:
        self.config = recorded_config(self.store)
        self._datasets = {
            name: one
            for name, one in all_recorded_datasets(self.store, self.moved).items()
            if one.card.annotation == "mask"
        }
        self._truths: dict[str, Truths] = {}
        self.cells: dict[str, list[Cell]] = {}
        for cell in self.store.read().cells:
            end = self.store.cell(cell.name).read()
            if end is None or end.status != "finished" or cell.dataset not in self._datasets:
                continue
            if not end.finished_whole:
                raise UsageError(
                    f"{cell.name} of {self.store.name} kept no maps (--maps none), so no other threshold can be tried "
                    "on them: run it again with --maps float32."
                )
            if not cell.external or "maps" in cell.options["given"]:
                self.cells.setdefault(cell.dataset, []).append(cell)
        if not self.cells:
            raise UsageError(
                f"The run {self.store.name} has no finished cell with anomaly maps on a dataset with lesion masks."
            )

    def open(self, cell: Cell) -> StoredCell:
        """Opens one of the cells; the lesion masks of a dataset are read once.

        Raises:
            DataError: A lesion mask is missing or damaged.
        """
        if cell.dataset not in self._truths:
            self.progress(f"reading lesion masks of {cell.dataset}", 0, 0)
            dataset = self._datasets[cell.dataset]
            self._truths[cell.dataset] = load_truths(dataset, PREDICTED, cell.size, self.config.score)
        store = self.store.cell(cell.name)
        truths, predictions = kept_predictions(cell, store, self._truths[cell.dataset])
        cut: Predictions = {split: where_scored(predictions[split], one.rectangles) for split, one in truths.items()}
        return StoredCell(cell, truths, cut, self.config.score)
