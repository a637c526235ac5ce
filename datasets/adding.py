"""Registering a folder or an archive that the user has under a name."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from ..harness.api import BrokenDatasetError, DataError, Progress, UsageError
from ..harness.download.unpacking import ARCHIVE_ENDINGS, NothingWantedError, is_archive, unpack
from ..harness.paths import expanded
from .bmad import NAMES, belongs_to
from .card import CardFile
from .dicom_pairs import has_series, pair_series
from .folder import card_of, open_base, open_card, open_folder
from .splitting import SHARES, TEST_ONLY, SplitRule
from .volume_files import VolumePairs, explain_volumes, find_volume, has_volumes, pair_volumes
from .volume_layouts import patient_folders
from .volume_patterns import match_volumes
from .volumes import Slicing, slice_volumes


def find_volumes(
    path: Path, images: str | None = None, masks: Path | None = None, channel: str | None = None
) -> VolumePairs | None:
    """The NIfTI volumes or DICOM series that a user means, with their masks.

    Args:
        path: A folder of volumes, or one around folders of patients or of DICOM series.
        images: A pattern of the volumes in that folder, where their names are neither BraTS's nor BIDS's.
        masks: The folder of the masks, or, beside a pattern of volumes, the pattern of the masks.
        channel: Which volumes are taken, where a patient has several.

    Returns:
        `None` where nothing is said of volumes and none are recognised, as for pictures and archives.

    Raises:
        UsageError: The path has volumes, and it is not said which are masks, or which are taken.
        DataError: There is nothing at the path, or volumes and masks do not pair.
    """
    if not path.exists():
        raise DataError(f"There is nothing at {path}.")
    if images is not None and (masks is None or channel is not None):
        option = "--channel chooses among recognised names" if masks else "--images PATTERN goes with --masks PATTERN"
        raise UsageError(f"{option}: say with both patterns, --images and --masks, which files are volumes and masks.")
    if not path.is_dir():
        if masks is not None:
            raise UsageError(f"{path} is no folder of volumes. Unpack the archive first, and give its folder.")
        return None
    if images is not None:
        return match_volumes(path, images, str(masks))
    if masks is None and has_volumes(path):
        raise UsageError(f"{path} holds NIfTI volumes: say with --masks where the masks of their lesions are.")
    if masks is None:
        found = patient_folders(path, channel)
        if found is None and has_series(path):
            raise UsageError(f"{path} holds DICOM series: say with --masks where the masks of their lesions are.")
        return found
    if not masks.is_dir():
        raise UsageError(f"--masks goes with volumes, and says in which folder their masks are: {masks} is none.")
    if not has_volumes(path) and has_series(path):
        return pair_series(path, masks, channel)
    if not has_volumes(path):
        raise UsageError(
            f"--masks goes with volumes: {path} has none (.nii, .nii.gz, DICOM). {explain_volumes(path)}".rstrip()
        )
    return pair_volumes(path, masks, channel)


def add_dataset(
    name: str,
    path: Path,
    data_root: Path,
    progress: Progress = lambda *_: None,
    volumes: VolumePairs | None = None,
    slicing: Slicing | None = None,
    rule: SplitRule | None = None,
    train_from: Path | None = None,
) -> Path:
    """Makes a folder, an archive or NIfTI volumes a dataset by this name.

    A folder stays where it is; an archive is unpacked, and volumes are sliced, below the data root. One of BMAD's names
    makes it that benchmark, with its card; any other name gets a card of its own, `<data_root>/<name>.yaml`, to be
    completed by the user. It is a copy of the folder's own `card.yaml`, where there is one.

    Args:
        name: Letters, digits, `_` and `-`.
        path: A folder in a known layout, an archive of one, or a folder around NIfTI volumes.
        data_root: Where datasets are.
        progress: Told how far unpacking or slicing is.
        volumes: The volumes in it.
        slicing: How volumes become slices.
        rule: How their patients are dealt out to the splits.
        train_from: A folder or card of another dataset, of which train and validation splits are taken. All volumes, or
            the folder's test split, are then the test split.

    Returns:
        The new card, or the new folder or link of a benchmark of BMAD's.

    Raises:
        UsageError: The name is taken or cannot be one.
        DataError: There is nothing at the path, or it is not understood.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        raise UsageError(f"{name!r} cannot be a name: it is to be of letters, digits, _ and -, at most 100 of them.")
    card, folder, path = data_root / f"{name}.yaml", data_root / name, Path(expanded(path))
    if card.exists() or folder.exists() or folder.is_symlink():
        there = card if card.exists() else folder
        raise UsageError(f"{name} is registered already: {there}. Remove that, or choose another name.")
    if not path.exists():
        raise DataError(f"There is nothing at {path}.")
    if path.is_file() and not is_archive(path):
        raise DataError(
            f"{path} is neither a folder nor an archive that can be unpacked ({', '.join(ARCHIVE_ENDINGS)}). Unpack "
            f"others yourself, and add the folder. A card (.yaml) needs no name: --dataset {path}."
        )
    if (volumes or train_from) and name in NAMES:
        made_of = "volumes make" if volumes else "--train-from makes"
        raise UsageError(f"{name} is the name of a benchmark of BMAD, and {made_of} another dataset. Choose another.")
    if train_from and path.is_file():
        raise UsageError(f"--train-from goes with volumes or a folder. Unpack {path} first.")
    if volumes and rule and (rule.shares == TEST_ONLY) != (train_from is not None):
        raise UsageError("The shares 0 0 1 leave nothing to train on: --train-from DATASET says what is trained on.")
    data_root.mkdir(parents=True, exist_ok=True)
    origin = str(path.resolve())
    base = None if train_from is None else _place(train_from, data_root)
    if volumes is not None:
        rule = rule or SplitRule(volumes.patient, shares=TEST_ONLY if base else SHARES)
        written = CardFile(name=name, origin=origin, root=name, train_from=base, patient=re.compile(rule.patient))
        open_base(written, card)
        made = slice_volumes(volumes, folder, slicing, progress, rule)
        written = written.model_copy(update={"volumes": made})
    elif path.is_file():
        _unpack(name, path, folder, progress)
        written = _own_card(folder, name, origin, data_root, base)
    else:
        written = _own_card(path, name, origin, data_root, base)
        with suppress(BrokenDatasetError):  # what else is wrong with it, the user may mend later
            open_card(written, card)
        if name in NAMES:
            folder.symlink_to(path.resolve(), target_is_directory=True)
    if name in NAMES:
        return folder
    try:
        written.write(card)
    except BaseException:
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return card


def _own_card(path: Path, name: str, origin: str, data_root: Path, base: str | None) -> CardFile:
    """The card that a folder holds, or one that says nothing, by another name and for another place."""
    card, file = card_of(path)
    inherited = card.base(file)
    told = {"name": name, "root": _place(card.folder(file), data_root)}
    told |= {} if file.exists() else {"origin": origin}
    return card.model_copy(update=told | {"train_from": base or (inherited and _place(inherited, data_root))})


def _place(path: Path, data_root: Path) -> str:
    """A path as a card in the data root tells it: relative to that folder, or, where it is elsewhere, absolute."""
    inside = path.resolve().is_relative_to(data_root.resolve())
    return os.path.relpath(path, data_root) if inside else str(path.resolve())


def _unpack(name: str, archive: Path, folder: Path, progress: Progress) -> None:
    """Unpacks an archive, of one that holds several of BMAD's benchmarks only the one that is meant."""
    try:
        unpack(archive, folder, progress, belongs_to(name) if name in NAMES else lambda _: True)
    except NothingWantedError:
        unpack(archive, folder, progress)
    try:
        with suppress(BrokenDatasetError):
            open_folder(folder)
    except DataError as error:
        volume = find_volume(folder)
        shutil.rmtree(folder)
        if volume:
            raise DataError(
                f"{archive} holds volumes, such as {volume}. Unpack it yourself, and use bench data add {name} with "
                "the folder of volumes and, after --masks, that of their masks."
            ) from error
        raise
