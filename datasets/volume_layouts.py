"""Folders of patients as BraTS and BIDS have them, in which volumes and their masks lie side by side."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..harness.api import DataError, UsageError
from .volume_files import VolumePairs, count_passed_over, files_below, is_volume, volume_ending
from .volume_patterns import Located, name_volumes, pair_located

_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?(?:_[A-Za-z]+-[A-Za-z0-9]+)*_(?P<kind>\w+)")
_MASKS = ("seg", "segmentation", "mask", "msk", "label", "labels", "lesion", "roi")
_SHOWN = 12  # kinds of volumes


class _Found(NamedTuple):
    """A volume of which the name is understood."""

    file: Located
    kind: str
    pattern: str

    @property
    def is_mask(self) -> bool:
        return self.kind.lower().rpartition("_")[2] in _MASKS


def patient_folders(root: Path, channel: str | None = None) -> VolumePairs | None:
    """Pairs volumes and masks in folders of patients.

    BraTS has a folder for each patient, with `<patient>_flair`, `<patient>_seg` and others, or, since 2023,
    `<patient>-t2f` and `<patient>-seg`. BIDS has `sub-1/ses-1/dwi/sub-1_ses-1_dwi`, with or without sessions, and the
    masks beside it or in `derivatives`.

    Args:
        root: The folder around all of them.
        channel: The kind of volumes that is taken; it may be left out where there is one only.

    Returns:
        What was found; `None` where the names are others, or there are no masks.

    Raises:
        UsageError: There are several kinds of volumes, and none is chosen, or there is none of that kind.
        DataError: There are several kinds of masks, some volume has no mask, or they do not pair.
    """
    files = list(files_below(root))
    volumes = [path for path in files if is_volume(path)]
    for understand in (_of_bids, _of_brats):
        found = [each for path in volumes if (each := understand(root, path))]
        masks = [each for each in found if each.is_mask]
        images = [each for each in found if not each.is_mask and "derivatives" not in each.file.path.parts]
        if masks and images:
            return _pair(root, _of_channel(root, images, channel), _one_kind(root, masks), files)
    return None


def _of_bids(root: Path, path: Path) -> _Found | None:
    place = path.relative_to(root)
    match = _BIDS.fullmatch(_stem(path))
    if match is None or match[1] not in place.parts[:-1]:
        return None
    folders = [re.sub("^(sub|ses)-.*", r"\1-*", part) for part in place.parts[:-1]]
    file = Located(path, match[1], (match[2] or "",), ((match[1], match[2] or ""),))
    found = _Found(file, match["kind"], "/".join((*folders, f"*_{match['kind']}{volume_ending(path)}")))
    of_what = re.findall("_((?:label|desc)-[A-Za-z0-9]+)", path.name) if found.is_mask else []
    if any("brain" in each.lower() for each in of_what):  # it shows where the brain is, and no lesion
        return None
    kind = "_".join((*of_what, found.kind))
    return found._replace(kind=kind, pattern=found.pattern.replace(f"*_{found.kind}", f"*_{kind}"))


def _of_brats(root: Path, path: Path) -> _Found | None:
    folder, stem = path.parent.name, _stem(path)
    if path.parent == root or not stem.startswith((f"{folder}_", f"{folder}-")):
        return None
    kind = stem[len(folder) + 1 :]
    around = path.parent.parent.relative_to(root)
    pattern = (around / "*" / f"*{stem[len(folder)]}{kind}{volume_ending(path)}").as_posix()
    return _Found(Located(path, folder, (), ((folder,),)), kind, pattern) if kind else None


def _of_channel(root: Path, images: Sequence[_Found], channel: str | None) -> list[_Found]:
    """The volumes of one kind."""
    kinds = _kinds(images)
    if channel is None and len(kinds) > 1:
        raise UsageError(
            f"{root} has volumes of several kinds: {_listed(kinds)}. Slices are made of one: say with --channel which, "
            f"such as --channel {kinds[0]}."
        )
    wanted = (channel or kinds[0]).lower()
    chosen = [each for each in images if each.kind.lower() == wanted]
    if not chosen:
        raise UsageError(f"{root} has no volumes of the kind {channel!r}. --channel can be {_listed(kinds)}.")
    return chosen


def _one_kind(root: Path, masks: Sequence[_Found]) -> list[_Found]:
    kinds = _kinds(masks)
    if len(kinds) > 1:
        raise DataError(
            f"{root} has masks of several kinds: {_listed(kinds)}. Say with --images PATTERN and --masks PATTERN which "
            f"files are volumes and masks, such as --masks '{masks[0].pattern}'."
        )
    return list(masks)


def _pair(root: Path, images: Sequence[_Found], masks: Sequence[_Found], files: Sequence[Path]) -> VolumePairs:
    volumes, labels = [each.file for each in images], [each.file for each in masks]
    truths = pair_located(volumes, labels)
    without = [each for each in images if each.file.path not in truths]
    if without:
        more = f", as have {len(without) - 1:,} more volumes" if without[1:] else ""
        raise DataError(
            f"{without[0].file.path} has no mask{more}. Take out what nobody has labelled. If it is normal, say so by "
            f"giving both patterns, which take volumes without a mask for normal: --images '{images[0].pattern}' "
            f"--masks '{masks[0].pattern}'."
        )
    names, patient = name_volumes(volumes)
    return VolumePairs(
        images=_places(root, images),
        masks=_places(root, masks),
        pairs={name: (each.path, truths[each.path]) for name, each in sorted(names.items())},
        patient=patient,
        passed_over=count_passed_over({each.path for each in (*volumes, *labels)}, files),
    )


def _places(root: Path, found: Iterable[_Found]) -> str:
    return ", ".join(str(root.resolve() / pattern) for pattern in dict.fromkeys(each.pattern for each in found))


def _kinds(found: Iterable[_Found]) -> list[str]:
    """The kinds that there are, each in one spelling."""
    return sorted({each.kind.lower(): each.kind for each in found}.values())


def _listed(kinds: Sequence[str]) -> str:
    more = len(kinds) - _SHOWN
    return ", ".join(kinds[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _stem(path: Path) -> str:
    return path.name[: -len(volume_ending(path))]
