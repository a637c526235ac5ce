"""Files that a dataset leaves out, which its user may not know of."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from .image_files import IMAGE_ENDINGS

# Files that lie beside images and are none: texts, tables, and those that operating systems leave.
_OTHER = (
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".log", ".py", ".sh"),
    *(".ipynb", ".toml", ".xlsx", ".xls", ".docx", ".db", ".ini", ".sha256", ".md5", ".bib", ".cff", ".zip", ".tar"),
    *(".gz", ".tgz", ".7z"),
)
_SHOWN = 3


def passed_over(root: Path, folders: Iterable[Path], used: Set[str], why: str, remedy: str) -> Iterator[str]:
    """Says which files in some folders and below are not used although they may be images.

    Args:
        root: To which names are told.
        folders: Where to look; hidden folders and files are left out.
        used: The paths of files that are.
        why: Why images are not used.
        remedy: What to do to have them used.

    Yields:
        A sentence on endings that are not read, and one on images.
    """
    endings: Counter[str] = Counter()
    places: Counter[str] = Counter()
    example = ""
    for path in _files(folders):
        ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
        if str(path) in used or (ending in _OTHER) or path.stem.upper() in ("README", "LICENSE", "LICENCE"):
            continue
        if ending in IMAGE_ENDINGS:
            places[os.path.relpath(path.parent, root)] += 1
        else:
            endings[ending or "without an ending"] += 1
            example = example or str(path)
    if endings:
        told = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
        yield (
            f"{_files_are(endings.total())} passed over, because only {', '.join(IMAGE_ENDINGS)} are read: {told}, "
            f"such as {example}. Save images as PNG to have them used."
        )
    if places:
        told = ", ".join(f"{count:,} in {place}" for place, count in places.most_common(_SHOWN))
        more = len(places) - _SHOWN
        yield (
            f"{_files_are(places.total(), 'image')} passed over, because {why}: {told}"
            f"{f' and in {more:,} more folders' if more > 0 else ''}. {remedy}"
        )


def _files_are(count: int, kind: str = "file") -> str:
    return f"1 {kind} is" if count == 1 else f"{count:,} {kind}s are"


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    """Every file in the folders and below, once; links to folders are followed."""
    seen: set[str] = set()
    for top in folders:
        for place, inside, names in os.walk(top, followlinks=True):
            real = os.path.realpath(place)
            if real in seen:
                inside.clear()
                continue
            seen.add(real)
            inside[:] = sorted(name for name in inside if not name.startswith(".") and name != "__MACOSX")
            yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))
