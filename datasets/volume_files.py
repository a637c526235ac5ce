"""Volumes and their masks, each in one folder: which belong together, and what to do where they do not."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from ..harness.api import DataError
from ..harness.files import one_spelling
from .dicom import DICOM_ENDINGS
from .image_files import IMAGE_ENDINGS
from .splitting import PATIENT

VOLUME_ENDINGS = (".nii", ".nii.gz")
_FOREIGN = {  # endings of other formats, with what makes NIfTI or a picture of them
    ".nrrd": "SimpleITK",
    ".nhdr": "SimpleITK",
    ".mha": "SimpleITK",
    ".mhd": "SimpleITK",
    ".mgz": "nibabel",
    ".mgh": "nibabel",
    ".hdr": "nibabel",
    ".img": "nibabel",
    ".npy": "nibabel.Nifti1Image",
    ".npz": "nibabel.Nifti1Image",
}
_NNUNET = re.compile(r"(.+)_(\d{4})")
_DEPTH = 6  # folders below the one that is asked about, as in derivatives/lesions/sub-1/ses-1/anat


@dataclass(frozen=True)
class VolumePairs:
    """Volumes with their masks.

    Attributes:
        images: Where the volumes are: a folder, or a pattern of their files.
        masks: The same for the masks.
        pairs: Each volume with its mask, or `None` where it has none, by the volume's name, sorted.
        patient: A regular expression with one group that finds the patient in such a name, unless the user has another.
        passed_over: How many pictures and volumes lie beside those that are used, by their ending.
    """

    images: str
    masks: str
    pairs: Mapping[str, tuple[Path, Path | None]]
    passed_over: Mapping[str, int]
    patient: str = PATIENT


def has_volumes(folder: Path) -> bool:
    """Whether a folder holds NIfTI volumes."""
    return folder.is_dir() and next(_volumes(folder), None) is not None


def pair_volumes(images: Path, masks: Path, channel: str | None = None) -> VolumePairs:
    """Pairs volumes with their masks, by their names without ending; a volume may have no mask.

    nnU-Net names volumes `case_0000`, by case and channel, and their masks `case`: there the case is the name.

    Args:
        images: The folder of the volumes.
        masks: The folder of their masks.
        channel: The number of the channel of nnU-Net's volumes that is taken; it may be left out where there is one
            only.

    Raises:
        DataError: Masks have no volume, two volumes have one name, a folder has no volume, or there is no such channel.
    """
    if images.resolve() == masks.resolve():
        raise DataError(
            f"{images} cannot hold both the volumes and their masks. Put the masks into a folder of their own."
        )
    volumes, labels = _named(images), _named(masks)
    if channel is not None or not set(labels) <= set(volumes):
        volumes = _of_channel(volumes, labels, images, channel)
    lost = sorted(set(labels) - set(volumes))
    if lost:
        raise DataError(_explain_lost(lost, labels, volumes, images))
    beside = [path for folder in (images, masks) for path in folder.iterdir() if not path.name.startswith(".")]
    return VolumePairs(
        images=str(images.resolve()),
        masks=str(masks.resolve()),
        pairs={name: (path, labels.get(name)) for name, path in sorted(volumes.items())},
        passed_over=count_passed_over({*volumes.values(), *labels.values()}, beside),
    )


def count_passed_over(used: Set[Path], files: Iterable[Path]) -> dict[str, int]:
    """How many of some files are pictures or volumes that are not used, by their ending."""
    endings = Counter(
        volume_ending(path).lower() if is_volume(path) else path.suffix.lower() for path in files if path not in used
    )
    known = *VOLUME_ENDINGS, *IMAGE_ENDINGS, *DICOM_ENDINGS, *_FOREIGN
    return {ending: endings[ending] for ending in known if endings[ending]}


def is_volume(path: Path) -> bool:
    """Whether a file is a NIfTI volume by its name."""
    return path.name.lower().endswith(VOLUME_ENDINGS)


def volume_ending(path: Path) -> str:
    """The ending of a volume's name as it is written there, `.nii` or `.nii.gz`."""
    return path.name[-7:] if path.name.lower().endswith(".nii.gz") else path.name[-4:]


def files_below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """The files in a folder and so many levels below it, sorted, without hidden ones; links are followed."""
    for place, folders, files in os.walk(folder, followlinks=True):
        deep = len(Path(place).relative_to(folder).parts) >= depth
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def find_volume(folder: Path) -> Path | None:
    """A NIfTI volume somewhere below a folder, or, where there are no pictures, a file of another volume format."""
    files = list(files_below(folder))
    for endings, others in ((VOLUME_ENDINGS, ()), ((*DICOM_ENDINGS, *_FOREIGN), IMAGE_ENDINGS)):
        found = [path for path in files if path.name.lower().endswith(endings)]
        if found and not any(path.suffix.lower() in others for path in files):
            return found[0].relative_to(folder)
    return None


def explain_volumes(folder: Path) -> str:
    """A sentence on what to do with a folder that holds volumes; empty where it holds none."""
    place = find_volume(folder)
    if place is None:
        return ""
    if any(path.suffix.lower() in DICOM_ENDINGS for path in files_below(folder)):  # NIfTI volumes beside are masks
        return "bench data add NAME IMAGES --masks MASKS cuts DICOM series into slices."
    if not is_volume(place):
        return (
            f"Files such as {place} are not read: convert them to NIfTI ({_FOREIGN[place.suffix.lower()]} does), and "
            "bench data add NAME IMAGES --masks MASKS cuts the volumes into slices."
        )
    said = "bench data add NAME IMAGES --masks MASKS cuts NIfTI volumes into slices."
    if place.parts[0].lower().startswith("image"):  # as nnU-Net's imagesTr, beside labelsTr
        masks = place.parts[0].lower().replace("images", "labels")
        there = next((path for path in folder.iterdir() if path.name.lower() == masks and path.is_dir()), None)
        said += f" Here, IMAGES is {folder / place.parts[0]}{f' and MASKS {there}' if there else ''}."
    elif len(place.parts) > 1:
        said += (
            f" {place} is in a subfolder: say with two patterns which files are volumes and which are masks, such as "
            f"bench data add NAME {folder} --images '{_as_pattern(place)}' --masks '*/*_seg.nii.gz'."
        )
    return said


def _volumes(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if is_volume(path) and not path.name.startswith(".") and not path.is_dir():
            yield path


def _named(folder: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in _volumes(folder):
        other = named.setdefault(one_spelling(path.name[: -len(volume_ending(path))]), path)
        if other is not path:
            raise DataError(f"{other} and {path} have the same name, which must tell a volume. Remove or rename one.")
    if not named:
        raise DataError(f"{folder} holds no NIfTI volumes (.nii, .nii.gz). {explain_volumes(folder)}".rstrip())
    return named


def _of_channel(
    volumes: dict[str, Path], labels: Mapping[str, Path], images: Path, channel: str | None
) -> dict[str, Path]:
    """One channel of volumes that are named as nnU-Net names them, by their cases; or all, as they are."""
    parts = {name: match for name in volumes if (match := _NNUNET.fullmatch(name))}
    cases = {match[1] for match in parts.values()}
    channels = sorted({int(match[2]) for match in parts.values()})
    # One mask of another name does not make the others' names wrong.
    is_nnunet = len(parts) == len(volumes) and bool(cases & set(labels)) and not set(volumes) & set(labels)
    if channel is None and not (is_nnunet and len(channels) == 1):
        return volumes
    if not is_nnunet or not (channel or "0").isdecimal():
        raise DataError(
            "--channel is a number that goes with nnU-Net's names, case_0000.nii.gz for a volume and case.nii.gz for "
            f"its mask. {images} has {next(iter(volumes.values())).name}, and --channel is {channel}."
        )
    wanted = channels[0] if channel is None else int(channel)
    chosen = {match[1]: volumes[name] for name, match in parts.items() if int(match[2]) == wanted}
    without = sorted(cases - set(chosen))
    if without:
        raise DataError(
            f"{images} has no channel {wanted} of {len(without)} cases, such as {without[0]}. The channels there are "
            f"{', '.join(map(str, channels))}."
        )
    return chosen


def _as_pattern(place: Path) -> str:
    """A pattern that fits a volume's file, with `*` for the folder of its patient, and for that name in the file's."""
    patient, *folders, name = place.parts
    return "/".join(("*", *folders, name.replace(patient, "*")))


def _explain_lost(lost: list[str], labels: dict[str, Path], volumes: dict[str, Path], images: Path) -> str:
    """Why masks have no volume: their names differ by a suffix, or otherwise."""
    mask = next((name for name in lost if any(_is_suffixed(volume, name) for volume in volumes)), lost[0])
    said = f"The mask {labels[mask]} has no volume of its name in {images}."
    if lost[1:]:
        said += f" The same is true of {len(lost) - 1} other {'masks' if lost[2:] else 'mask'}."
    longer = sorted(name for name in volumes if _is_suffixed(name, mask))
    shorter = max((name for name in volumes if _is_suffixed(mask, name)), key=len, default="")
    alone = [name for name in volumes if name not in labels] or list(volumes)
    near = difflib.get_close_matches(mask, alone, n=1, cutoff=0)[0]
    if longer:
        suffixes = [name.removeprefix(mask) for name in longer]
        if suffixes[0] == "_0000":
            said += " The volumes are named as nnU-Net names channels: _0000 is the first."
        said += (
            f" There is {volumes[longer[0]].name}: copy or link the volumes without {suffixes[0]!r} to another folder."
        )
        if suffixes[1:]:
            said += f" Leave out {', '.join(map(repr, suffixes[1:]))}: slices are made of one channel."
            said += " Or say with --channel which."
    elif shorter:
        suffix = mask.removeprefix(shorter)
        said += f" There is {volumes[shorter].name}: copy or link the masks without {suffix!r} to another folder."
    else:
        said += f" A mask has the name of its volume; the nearest there is {volumes[near].name}."
        ending = volume_ending(labels[mask])
        said += f" If they belong together, rename the mask to {near}{ending}."
    return said


def _is_suffixed(name: str, stem: str) -> bool:
    return name.startswith(stem) and name[len(stem) :].startswith(("_", "-", "."))
