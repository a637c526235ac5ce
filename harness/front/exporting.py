"""The predictions of a run as files for other programs."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from ...reports.galleries import mask_by
from ...results.files import slug
from ...results.record import Cell
from ...results.store import CellStore, RunStore
from ...results.tables import HEADLINE, masks_by
from ..analysis.recorded import NOWHERE_ELSE, all_recorded_datasets
from ..api import Case, Dataset, Progress, UsageError
from ..data.frame import unframe
from ..exchange.exporting import coco, file_names, write_map, write_mask, write_overlay, write_predictions
from ..files import write_whole
from ..specs import suggest

ExportKind = Literal["predictions", "images", "coco", "overlays"]
KINDS: tuple[ExportKind, ...] = get_args(ExportKind)


@dataclass(frozen=True)
class _TestImage:
    """A test image with its mask, all in the image's own pixels, (H, W).

    Attributes:
        name: Of its files, without ending.
        case: The case.
        image: uint8.
        truth: bool.
        anomaly_map: float32.
        mask: bool.
        score: The image score.
    """

    name: str
    case: Case
    image: np.ndarray
    truth: np.ndarray
    anomaly_map: np.ndarray
    mask: np.ndarray
    score: float


def export_run(
    store: RunStore,
    out: Path,
    kinds: Collection[ExportKind] = ("predictions",),
    *,
    method: str | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    policy: str | None = None,
    moved: Mapping[str, str] = NOWHERE_ELSE,
    progress: Progress = lambda *_: None,
) -> list[Path]:
    """Writes the predictions of a run's cells, each into a folder of its own.

    Args:
        store: The run.
        out: Where the folders go.
        kinds: `predictions` is the folder that `bench import` reads, in the run's frame; `images` are masks as PNG and
            maps as TIFF in the pixels of the original images; `coco` is one JSON of the same masks; `overlays` are
            images with mask and lesion drawn on them. All but the first are of the test split.
        method: Only this method; by default all, likewise `dataset` and `seed`.
        dataset: Only this dataset.
        seed: Only this seed.
        policy: Whose masks to write; by default each method's own, or those of `valid_dice`.
        moved: Where datasets are now, by name.
        progress: Told about progress.

    Returns:
        The folders.

    Raises:
        UsageError: No cell fits, there are no masks by this policy, or predictions were not kept.
        DataError: A dataset is not where it was.
        ResultsError: A prediction is damaged.
        OSError: A file cannot be written.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"{unknown[0]!r} is nothing that can be exported. {suggest(unknown[0], KINDS)}")
    cells = _chosen(store, {"method": method, "dataset": dataset, "seed": seed})
    datasets = all_recorded_datasets(store, moved)
    cases = store.cases()
    folders = []
    for cell in cells:
        cell_store, of_dataset = store.cell(cell.name), datasets[cell.dataset]
        end = cell_store.read()
        if end is None or not end.finished_whole:
            raise UsageError(
                f"{cell} kept no predictions: it is not finished, it failed, or it was run with --maps none. Run it "
                "again with --maps float32, or name another with --method."
            )
        folder = out / slug(f"{cell.method}-{cell.dataset}-seed{cell.seed}")
        wanted = [kind for kind in kinds if kind != "predictions"]
        rows = masks_by(cases[cases["cell"] == cell.name], policy or HEADLINE)
        if wanted and rows.empty:
            legal = cases.loc[(cases["cell"] == cell.name) & ~cases["oracle"], "policy"].unique()
            raise UsageError(
                f"{cell} has no masks by {policy or HEADLINE!r}, or they are an oracle's. There are those of: "
                f"{', '.join(legal) or 'none'}."
            )
        if "predictions" in kinds:
            write_predictions(folder, cell, end, cell_store, of_dataset, progress)
        if wanted:
            _write_images(folder, wanted, _test_images(cell_store, of_dataset, rows), progress)
        folders.append(folder)
    return folders


def _chosen(store: RunStore, asked: Mapping[str, str | int | None]) -> list[Cell]:
    asked = {name: value for name, value in asked.items() if value is not None}
    every = store.read().cells
    cells = [cell for cell in every if all(getattr(cell, name) == value for name, value in asked.items())]
    if not cells:
        there = "; ".join(map(str, every))
        told = ", ".join(f"{name} {value}" for name, value in asked.items())
        raise UsageError(f"{store.name} has no predictions of {told}. There: {there}.")
    return cells


def _test_images(store: CellStore, dataset: Dataset, rows: pd.DataFrame) -> Iterator[_TestImage]:
    there = store.intact("test", [case.id for case in dataset.cases("test")])
    cases = [case for case in dataset.cases("test") if case.id in there]
    by_case = rows.set_index("case")
    for case, name in zip(cases, file_names([case.id for case in cases]).values(), strict=True):
        sample, stored = dataset.load(case), store.read_prediction("test", case.id)
        shape = sample.mask.shape
        mask, _ = mask_by(stored, by_case.loc[case.id].to_dict())
        yield _TestImage(
            name,
            case,
            sample.image,
            sample.mask,
            unframe(stored.prediction.anomaly_map, shape),
            unframe(mask, shape),
            stored.prediction.image_score,
        )


def _write_images(folder: Path, kinds: Collection[str], images: Iterator[_TestImage], progress: Progress) -> None:
    segmented: list[tuple[str, np.ndarray, float]] = []
    for done, one in enumerate(images, start=1):
        progress("exporting images", done, 0)
        if "images" in kinds:
            write_mask(folder / "original" / "masks" / f"{one.name}.png", one.mask)
            write_map(folder / "original" / "maps" / f"{one.name}.tif", one.anomaly_map)
        if "overlays" in kinds:
            write_overlay(folder / "overlays" / f"{one.name}.png", one.image, one.mask, one.truth)
        segmented.append((Path(one.case.image).name or one.name, one.mask, one.score))
    if "coco" in kinds:
        write_whole(folder / "coco.json", json.dumps(coco(segmented)) + "\n")
