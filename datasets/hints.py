"""Hints for a user who gave a folder in which no images are found."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..harness.api import DataError
from .images import IMAGE_ENDINGS

_MVTEC_MASKS = ("ground_truth",)
_SHOWN = 8  # names in a folder
_DEPTH = 4  # folders of a dataset within each other, such as test/Ungood/img
_BELOW = 2  # folders between the one given and a dataset's, such as those of an archive


def subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The subfolder with one of these names in whatever case; where there are several, the one named first."""
    if not folder.is_dir():
        return None
    there = {path.name.lower(): path for path in entries(folder) if path.is_dir()}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def holds_splits(folder: Path, splits: Sequence[Sequence[str]]) -> bool:
    """Whether a folder has a subfolder for each split, whatever of their names it has."""
    with suppress(DataError):
        return all(subfolder(folder, names) for names in splits)
    return False


def entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted, without hidden files and those that macOS adds to archives."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    return [path for path in paths if not path.name.startswith(".") and path.name != "__MACOSX"]


def holding(folder: Path) -> str:
    """`holds a.dcm, b.dcm.`, and why no images are found there: what comes behind "it"."""
    inside = entries(folder)
    names = [path.name for path in inside]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    text = f"holds {', '.join(names[:_SHOWN]) + more or 'nothing'}."
    if any(path.is_file() for path in inside) and not any(path.suffix.lower() in IMAGE_ENDINGS for path in inside):
        text += f" Only {', '.join(IMAGE_ENDINGS)} are read: save images as PNG."
    elif any(path.suffix.lower() in IMAGE_ENDINGS for below in inside if below.is_dir() for path in entries(below)):
        text += (
            " Images in its subfolders can be named on a card (.yaml) by a pattern, such as `normal: healthy/*/*.png`."
        )
    return text


def mvtec(root: Path, test: Path, normal: Sequence[str]) -> str:
    """A sentence on what to do with a dataset in MVTec's layout; empty where it has another layout.

    Args:
        root: The folder that holds the splits.
        test: The test split.
        normal: Names of folders of normal images.
    """
    truths = subfolder(root, _MVTEC_MASKS)
    kinds = sorted(path.name for path in entries(test) if path.is_dir() and path.name.lower() not in normal)
    if truths is None or not kinds:
        return ""
    mask = next((path.name for path in entries(subfolder(truths, kinds) or truths)), "000_mask.png")
    image = re.sub("(?i)_mask(?=[.])", "", mask)
    return (
        f"This looks like MVTec's layout, with a folder for each kind of anomaly ({', '.join(kinds)}) and masks in "
        f"{truths}. Put all anomalous images in {test}/Ungood/img and their masks, by the same names, in "
        f"{test}/Ungood/anomaly_mask: {kinds[0]}/{image} as {kinds[0]}_{image}, and its mask {mask} as "
        f"{kinds[0]}_{image} too."
    )


def dataset_near(root: Path, splits: Sequence[Sequence[str]]) -> str:
    """A sentence that names a better folder, where this one holds several datasets or a part of one; else empty.

    Args:
        root: The folder.
        splits: For each split that a dataset must have, the names its folder may have.
    """
    known = {name for names in splits for name in names}
    path = root.resolve()
    for part, whole in list(zip((path, *path.parents), path.parents, strict=False))[:_DEPTH]:
        if part.name.lower() in known and holds_splits(whole, splits):
            return f"{root} is a part of the dataset {whole}: give that folder."
    found = list(islice(_datasets(root, splits, _BELOW), 2))
    if not found:
        return ""
    return (
        f"{root} holds {f'datasets, such as {found[0]}' if found[1:] else f'a dataset, {found[0]}'}: give that folder."
    )


def _datasets(folder: Path, splits: Sequence[Sequence[str]], depth: int) -> Iterator[Path]:
    """The folders with these splits in a folder, and so many levels further below."""
    with suppress(DataError):  # what cannot be read holds no dataset to use
        for path in entries(folder):
            if holds_splits(path, splits):
                yield path
            elif depth and path.is_dir():
                yield from _datasets(path, splits, depth - 1)
