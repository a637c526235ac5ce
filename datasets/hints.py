"""Hints for a user who gave a folder in which no images are found."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..harness.api import DataError
from .image_files import IMAGE_ENDINGS

_SHOWN = 8  # names in a folder
_DEPTH = 4  # folders of a dataset within each other, such as test/Ungood/img
_WRAPPED = 5  # folders around the splits; a link to its own folder would make them endless
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


def wrapped(folder: Path) -> list[Path]:
    """The folder, and those inside it as long as each holds one folder only, as archives have around a dataset."""
    chain = [folder]
    while len(inside := [path for path in entries(chain[-1]) if path.is_dir()]) == 1 and len(chain) < _WRAPPED:
        chain += inside
    return chain


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
