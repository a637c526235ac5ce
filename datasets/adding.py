"""Registering a folder or an archive that the user has under a name."""

import re
import shutil
from contextlib import suppress
from pathlib import Path

import yaml

from ..harness.api import BrokenDatasetError, DataError, StageReport, UsageError
from ..harness.files import write_whole
from ..harness.unpacking import NothingWantedError, is_archive, unpack
from .bmad import NAMES, belongs_to
from .folder import open_folder
from .volumes import Slicing, has_volumes, slice_volumes


def add(
    name: str,
    path: Path,
    data_root: Path,
    report: StageReport = lambda *_: None,
    masks: Path | None = None,
    slicing: Slicing | None = None,
) -> Path:
    """Makes a folder, an archive or NIfTI volumes a dataset by this name.

    A folder stays where it is; an archive is unpacked, and volumes are sliced, below the data root. One of BMAD's names
    makes it that benchmark, with its card; any other name gets a card of its own, `<data_root>/<name>.yaml`, to be
    completed by the user.

    Args:
        name: Letters, digits, `_` and `-`.
        path: A folder in a known layout, an archive of one, or a folder of NIfTI volumes.
        data_root: Where datasets are.
        report: Told how far unpacking or slicing is.
        masks: The folder of the volumes' masks.
        slicing: How volumes become slices.

    Returns:
        The new card, or the new folder or link of a benchmark of BMAD's.

    Raises:
        UsageError: The name is taken or cannot be one.
        DataError: There is nothing at the path, or it is not understood.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UsageError(f"{name!r} cannot be a name: it is to be of letters, digits, _ and -.")
    card, folder, path = data_root / f"{name}.yaml", data_root / name, path.expanduser()
    if card.exists() or folder.exists() or folder.is_symlink():
        there = card if card.exists() else folder
        raise UsageError(f"{name} is registered already: {there}. Remove that, or choose another name.")
    if not path.exists():
        raise DataError(f"There is nothing at {path}.")
    if path.is_file() and not is_archive(path):
        raise DataError(f"{path} is neither a folder nor an archive. A card (.yaml) needs no name: --dataset {path}.")
    if masks is None and has_volumes(path):
        raise UsageError(f"{path} holds NIfTI volumes: say with --masks where the masks of their lesions are.")
    if masks is not None and not (has_volumes(path) and masks.is_dir()):
        raise UsageError(
            f"--masks goes with volumes: {path} should hold some (.nii, .nii.gz), and {masks} their masks."
        )
    data_root.mkdir(parents=True, exist_ok=True)
    if masks is not None:
        slice_volumes(path, masks, folder, slicing or Slicing(), report)
    elif path.is_file():
        _unpack(name, path, folder, report)
    else:
        _understand(path)
        if name in NAMES:
            folder.symlink_to(path.resolve(), target_is_directory=True)
    if name in NAMES:
        return folder
    root = name if folder.exists() else str(path.resolve())
    write_whole(card, yaml.safe_dump({"name": name, "origin": f"{path.resolve()}", "root": root}, sort_keys=False))
    return card


def _unpack(name: str, archive: Path, folder: Path, report: StageReport) -> None:
    """Unpacks an archive, of one that holds several of BMAD's benchmarks only the one that is meant."""
    try:
        unpack(archive, folder, report, belongs_to(name) if name in NAMES else lambda _: True)
    except NothingWantedError:
        unpack(archive, folder, report)
    try:
        _understand(folder)
    except DataError:
        shutil.rmtree(folder)
        raise


def _understand(folder: Path) -> None:
    """Refuses a folder in which no layout is recognised; what else is wrong with it, the user may mend later."""
    with suppress(BrokenDatasetError):
        open_folder(folder)
