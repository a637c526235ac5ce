"""Predictions of slices as NIfTI volumes, on the grid of the volume that the slices were cut from."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..api import Case, Dataset, UsageError, VolumeGrid
from ..safe_files import write_whole

_COMPRESSION = 6  # of gzip: 9 takes three times as long on a map, and saves one part in a hundred


def volume_grids(dataset: Dataset, cases: Sequence[Case]) -> dict[str, VolumeGrid]:
    """The grids of the volumes that images are slices of, by the volumes' names.

    Args:
        dataset: The dataset.
        cases: Some of its cases.

    Raises:
        UsageError: An image is of no volume, or the grid of its volume is not known.
    """
    grids: dict[str, VolumeGrid] = {}
    for case in cases:
        if case.volume in grids:
            continue
        grid = dataset.grid(case.volume) if case.volume is not None and case.position is not None else None
        if case.volume is None or grid is None:
            raise UsageError(
                f"{dataset.name} cannot be exported as volumes: {_why_no_grid(dataset, case)}. Make the dataset of "
                "NIfTI volumes with bench data add, which keeps their grids; or take --as images."
            )
        grids[case.volume] = grid
    return grids


def write_mask_volume(path: Path, grid: VolumeGrid, masks: Mapping[int, np.ndarray]) -> Path:
    """Writes masks as one volume of uint8: 1 is anomalous; slices that are not given are 0.

    Args:
        path: Where to, ending in `.nii.gz`.
        grid: The grid of the volume.
        masks: bool (H, W) by the slice's position, in the slice's own pixels.

    Raises:
        OSError: It cannot be written.
    """
    return _write(path, grid, masks, 0, "mask: 1 is anomalous; slices without a prediction are 0")


def write_map_volume(path: Path, grid: VolumeGrid, maps: Mapping[int, np.ndarray]) -> Path:
    """Writes maps as one volume of float32; slices that are not given have the lowest value of the others.

    NaN would tell them apart, but a viewer that interpolates would take the neighbouring slices away with them.

    Args:
        path: Where to, ending in `.nii.gz`.
        grid: The grid of the volume.
        maps: float32 (H, W) by the slice's position, in the slice's own pixels; at least one.

    Raises:
        OSError: It cannot be written.
    """
    lowest = min(float(one.min()) for one in maps.values())
    return _write(path, grid, maps, lowest, "anomaly map; slices without a prediction have its lowest value")


def _write(path: Path, grid: VolumeGrid, slices: Mapping[int, np.ndarray], empty: float, told: str) -> Path:
    image = grid.to_image(slices, empty)
    image.header["descrip"] = told.encode()
    # Without the time of day, the same volume is the same file.
    write_whole(path, gzip.compress(image.to_bytes(), _COMPRESSION, mtime=0))
    return path


def _why_no_grid(dataset: Dataset, case: Case) -> str:
    if case.volume is None:
        return f"its image {case.id} is a slice of no volume that its card knows of"
    if dataset.card.stack:
        return f"{case.volume} is a stack of slices that somebody chose, and no whole scan"
    return f"the shape and the affine of the volume {case.volume} were not kept when its slices were made"
