"""The predictions of a run as files for other programs."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import pandas as pd

from ...results.files import slug
from ...results.record import Cell
from ...results.store import CellStore, RunStore
from ...results.tables import HEADLINE, masks_by
from ..analysis.case_images import FramedImages
from ..analysis.post_masks import CaseMasks
from ..analysis.recorded import NOWHERE_ELSE, all_recorded_datasets
from ..api import Case, Dataset, Progress, UsageError
from ..data.frame import unframe
from ..exchange.exporting import (
    coco,
    file_names,
    given_parts,
    write_map,
    write_mask,
    write_overlay,
    write_predictions,
)
from ..exchange.volumes import volume_grids, write_map_volume, write_mask_volume
from ..safe_files import below, write_whole
from ..specs import suggest

ExportKind = Literal["predictions", "images", "volumes", "coco", "overlays"]
KINDS: tuple[ExportKind, ...] = get_args(ExportKind)


@dataclass(frozen=True)
class _TestImage:
    """A test image with its mask, all in the image's own pixels, (H, W); in colour, the image is (H, W, 3).

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
            maps as TIFF in the pixels of the original images; `volumes` are the same as NIfTI, a mask and a map for
            each volume, on its own grid; `coco` is one JSON of the same masks; `overlays` are images with mask and
            lesion drawn on them. All but the first are of the test split.
        method: Only this method; by default all, likewise `dataset` and `seed`.
        dataset: Only this dataset.
        seed: Only this seed.
        policy: Whose masks to write; by default each method's own, or those of `valid_dice`.
        moved: Where datasets are now, by name.
        progress: Told about progress.

    Returns:
        The folders.

    Raises:
        UsageError: No cell fits, there are no masks by this policy, predictions were not kept, or volumes are asked for
            and the grid of one is not known.
        DataError: A dataset is not where it was.
        ResultsError: A prediction is damaged.
        OSError: A file cannot be written.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"{unknown[0]!r} is nothing that can be exported. {suggest(unknown[0], KINDS)}")
    cells = _chosen(store, {"method": method, "dataset": dataset, "seed": seed})
    datasets = all_recorded_datasets(store, moved)
    if "volumes" in kinds:  # before anything is written
        for name in dict.fromkeys(cell.dataset for cell in cells):
            volume_grids(datasets[name], datasets[name].cases("test"))
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
        folder = below(out, slug(f"{cell.method}-{cell.dataset}-seed{cell.seed}"))
        wanted = [kind for kind in kinds if kind != "predictions"]
        rows = masks_by(cases[cases["cell"] == cell.name], policy or HEADLINE)
        if wanted and rows.empty:
            legal = cases.loc[(cases["cell"] == cell.name) & ~cases["oracle"], "policy"].unique()
            raise UsageError(
                f"{cell} has no masks by {policy or HEADLINE!r}, or they are an oracle's. "
                + (f"Choose others with --policy: {', '.join(legal)}." if len(legal) else "It has no others.")
            )
        images = FramedImages(of_dataset, cell.size, store.read().config.score)
        masks = CaseMasks(store, images)
        if "predictions" in kinds:
            write_predictions(folder, cell, end, cell_store, of_dataset, progress)
        if "volumes" in wanted:
            _write_volumes(below(folder, "volumes"), cell, cell_store, of_dataset, rows, masks, progress)
        if set(wanted) - {"volumes"}:
            maps = "maps" in given_parts(cell)
            _write_images(folder, wanted, _test_images(cell_store, of_dataset, rows, masks), maps, progress)
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


def _test_images(store: CellStore, dataset: Dataset, rows: pd.DataFrame, masks: CaseMasks) -> Iterator[_TestImage]:
    there = store.intact("test", [case.id for case in dataset.cases("test")])
    cases = [case for case in dataset.cases("test") if case.id in there]
    by_case = rows.set_index("case")
    for case, name in zip(cases, file_names([case.id for case in cases]).values(), strict=True):
        sample, stored = dataset.load(case), store.read_prediction("test", case.id)
        shape = sample.mask.shape
        mask, _ = masks(stored, by_case.loc[case.id].to_dict() | {"case": case.id})
        yield _TestImage(
            name,
            case,
            sample.image,
            sample.mask,
            unframe(stored.prediction.anomaly_map, shape),
            unframe(mask, shape),
            stored.prediction.image_score,
        )


def _write_volumes(
    folder: Path,
    cell: Cell,
    store: CellStore,
    dataset: Dataset,
    rows: pd.DataFrame,
    made: CaseMasks,
    progress: Progress,
) -> None:
    """Writes a mask and, where there are maps, a map for each volume. One volume at a time is in memory."""
    there = store.intact("test", [case.id for case in dataset.cases("test")])
    of_volume: dict[str, list[Case]] = {}
    for case in dataset.cases("test"):
        if case.id in there:
            of_volume.setdefault(str(case.volume), []).append(case)
    grids = volume_grids(dataset, dataset.cases("test"))
    by_case = rows.set_index("case")
    for done, (volume, name) in enumerate(file_names(list(of_volume)).items(), start=1):
        grid = grids[volume]
        masks: dict[int, np.ndarray] = {}
        maps: dict[int, np.ndarray] = {}
        for case in of_volume[volume]:
            stored, position = store.read_prediction("test", case.id), cast(int, case.position)
            mask, _ = made(stored, by_case.loc[case.id].to_dict() | {"case": case.id})
            masks[position] = unframe(mask, grid.slice_shape)
            maps[position] = unframe(stored.prediction.anomaly_map, grid.slice_shape)
        write_mask_volume(folder / f"{name}_mask.nii.gz", grid, masks)
        if "maps" in given_parts(cell):
            write_map_volume(folder / f"{name}_map.nii.gz", grid, maps)
        progress("exporting volumes", done, len(of_volume))


def _write_images(
    folder: Path, kinds: Collection[str], images: Iterator[_TestImage], maps: bool, progress: Progress
) -> None:
    segmented: list[tuple[str, np.ndarray, float]] = []
    for done, one in enumerate(images, start=1):
        progress("exporting images", done, 0)
        if "images" in kinds:
            write_mask(below(folder, "original", "masks", f"{one.name}.png"), one.mask)
            if maps:
                write_map(below(folder, "original", "maps", f"{one.name}.tif"), one.anomaly_map)
        if "overlays" in kinds:
            write_overlay(below(folder, "overlays", f"{one.name}.png"), one.image, one.mask, one.truth)
        segmented.append((Path(one.case.image).name or one.name, one.mask, one.score))
    if "coco" in kinds:
        write_whole(folder / "coco.json", json.dumps(coco(segmented)) + "\n")
