"""Volumes and their masks that two patterns find, such as `*/*_flair.nii.gz` and `*/*_seg.nii.gz`."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..harness.api import DataError, UsageError
from ..harness.files import one_spelling
from .splitting import PATIENT
from .volume_files import VolumePairs, count_passed_over, files_below, find_volume, is_volume, volume_ending

_WILDCARD = re.compile(r"[*?]")
_IN_FOLDERS = r"^(.+)_"
"""The patient in a name that `name_volumes` made of a patient's folder and of what tells a volume in there."""


class Located(NamedTuple):
    """A volume or a mask, and what its place says.

    Attributes:
        path: Its file.
        patient: The folder of its patient; empty where there is none.
        rest: What else tells it from others.
        keys: The texts by which a volume and its mask may be the same, the strictest ones first.
    """

    path: Path
    patient: str
    rest: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]


def match_volumes(root: Path, images: str, masks: str) -> VolumePairs:
    """Pairs the volumes that a pattern finds with the masks that another one finds.

    A pattern is relative to the root; `*` stands for any text within one name, `?` for one character. A volume and a
    mask belong together where the wildcards stand for the same texts. Where that does not pair all masks, and folders
    have wildcards and one file each, the folders pair. A volume may have no mask.

    Args:
        root: The folder in which both are.
        images: The pattern of the volumes; the ending may be left out.
        masks: The pattern of the masks.

    Raises:
        UsageError: A pattern cannot be one.
        DataError: A pattern finds nothing, both find the same file, or volumes and masks do not pair.
    """
    volumes, labels = _find(root, images, "--images"), _find(root, masks, "--masks")
    both = sorted({each.path for each in volumes} & {each.path for each in labels})
    if both:
        raise DataError(f"{both[0]} fits both --images {images!r} and --masks {masks!r}. Make one of them narrower.")
    truths = pair_located(volumes, labels)
    names, patient = name_volumes(volumes)
    used = {each.path for each in (*volumes, *labels)}
    return VolumePairs(
        images=str(root.resolve() / images),
        masks=str(root.resolve() / masks),
        pairs={name: (each.path, truths.get(each.path)) for name, each in sorted(names.items())},
        patient=patient,
        passed_over=count_passed_over(used, files_below(root)),
    )


def pair_located(volumes: Sequence[Located], masks: Sequence[Located]) -> dict[Path, Path]:
    """The mask of each volume that has one, by the first of their keys that pairs all masks.

    Raises:
        DataError: A mask has no volume, or two volumes or masks have the same keys.
    """
    problem = ""
    for level in range(len(volumes[0].keys)):
        of_volume, of_mask = ([each.keys[level] for each in some] for some in (volumes, masks))
        if not all((*of_volume, *of_mask)):  # no folder is told by a wildcard
            continue
        wrong = _twice(volumes, of_volume, "volumes") or _twice(masks, of_mask, "masks")
        lost = sorted(set(of_mask) - set(of_volume))
        if lost and not wrong:
            mask = masks[of_mask.index(lost[0])].path
            more = f" The same is true of {len(lost) - 1:,} more masks." if lost[1:] else ""
            wrong = (
                f"The mask {mask} has no volume: it is of {_told(lost[0])}, and no volume is; {volumes[0].path} is of "
                f"{_told(of_volume[0])}.{more} Make names alike, or choose other patterns for --images and --masks."
            )
        if not wrong:
            paths = dict(zip(of_mask, (each.path for each in masks), strict=True))
            return {each.path: paths[key] for each, key in zip(volumes, of_volume, strict=True) if key in paths}
        problem = problem or wrong
    raise DataError(problem)


def name_volumes(volumes: Sequence[Located]) -> tuple[dict[str, Located], str]:
    """A name for each volume, and the pattern that finds the patient in such names.

    The patient's folder is the name where it holds one volume. Where it holds several, its name and the rest are joined
    by the only `_` behind it, so that all of them stay one patient's.

    Raises:
        DataError: Two volumes would have the same name.
    """
    alone = max(Counter(each.patient for each in volumes).values()) == 1
    named: dict[str, Located] = {}
    for each in volumes:
        if not each.patient:
            name = "_".join(each.rest)
        elif alone:
            name = each.patient
        else:
            name = f"{each.patient}_{'-'.join(_told_apart(each) or each.rest).replace('_', '-')}"
        other = named.setdefault(name, each)
        if other is not each:
            raise DataError(f"{other.path} and {each.path} would both be the volume {name}. Remove or rename one.")
    return named, PATIENT if alone or not volumes[0].patient else _IN_FOLDERS


def _told_apart(volume: Located) -> list[str]:
    """What tells a volume from others of its patient, each text once and without the patient's name."""
    bare = (text.removeprefix(volume.patient).lstrip("_-. ") for text in volume.rest)
    return list(dict.fromkeys(text for text in bare if text))


def _find(root: Path, pattern: str, option: str) -> list[Located]:
    if Path(pattern).is_absolute() or {"..", "**"} & set(Path(pattern).parts):
        raise UsageError(
            f"{option} {pattern!r} is to be a pattern of files in {root}, without .., and with one * for each folder."
        )
    expected = re.compile(
        _WILDCARD.sub(_group, re.escape(one_spelling(pattern)).replace(r"\*", "*").replace(r"\?", "?"))
    )
    folders = [len(_WILDCARD.findall(part)) for part in Path(pattern).parts[:-1]]
    found = []
    for path in files_below(root, len(folders)):
        place = one_spelling(path.relative_to(root).as_posix())
        match = expected.fullmatch(place[: -len(volume_ending(path))]) or expected.fullmatch(place)
        if match and is_volume(path):
            found.append(_locate(path, place, match.groups(), folders))
    if not found:
        there = find_volume(root)
        raise DataError(
            f"No volume (.nii, .nii.gz) in {root} fits {option} {pattern!r}"
            f"{f'. There is {there}' if there else ', and there are no volumes at all'}. Mend the pattern: * stands "
            "for any text within one name."
        )
    return found


def _locate(path: Path, place: str, texts: tuple[str, ...], folders: Sequence[int]) -> Located:
    """What a file is told by.

    Args:
        path: The file.
        place: The same relative to the root.
        texts: What the pattern's wildcards stand for.
        folders: For each folder in the pattern, how many wildcards it has.
    """
    patient, *others = [part for part, told in zip(place.split("/"), folders, strict=False) if told] or [""]
    of_folders, of_name = texts[: sum(folders)], texts[sum(folders) :]
    keys = tuple(dict.fromkeys(texts)), tuple(dict.fromkeys(of_folders)), (patient, *others) if patient else ()
    return Located(path, patient, (*others, *of_name), keys)


def _group(wildcard: re.Match[str]) -> str:
    return "([^/]*)" if wildcard[0] == "*" else "([^/])"


def _twice(some: Sequence[Located], keys: Sequence[tuple[str, ...]], what: str) -> str:
    """A sentence on two files of the same key; empty where there are none."""
    counted = Counter(keys)
    if len(counted) == len(keys):
        return ""
    key = next(key for key in keys if counted[key] > 1)
    first, second, *_ = (each.path for each, other in zip(some, keys, strict=True) if other == key)
    return (
        f"{first} and {second} are both {what} of {_told(key)}, and only one can be taken. Say with --images PATTERN "
        "and --masks PATTERN which: each should fit one file of a volume."
    )


def _told(key: tuple[str, ...]) -> str:
    return ", ".join(part for part in dict.fromkeys(key) if part)
