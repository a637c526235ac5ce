"""A folder of predictions: which file belongs to which case, and the arrays inside."""

import csv
import difflib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..api import Case, Dataset, Split
from ..data.subset import whole_of
from ..safe_files import read_bytes
from .arrays import ENDINGS, LOSSY, NIFTI, ArrayFile
from .manifest import MANIFEST, Manifest
from .problems import Problems

PREDICTED: tuple[Split, ...] = ("valid", "test")

_LARGEST = 2**28  # bytes of a table
_COMPARED = 2000  # names that are held against an expected one
_LookUp = Callable[[str, str, str], list[str]]
"""Called as `look_up(kind, split, name)`: the files of the `map` or `mask` of a case, or of a volume, of this name."""


@dataclass(frozen=True)
class CaseFiles:
    """What there is of one case: `None` is what there is not.

    Attributes:
        map: Where its anomaly map is.
        mask: Where its mask is.
        score: Its image score, as the table has it.
    """

    map: ArrayFile | None = None
    mask: ArrayFile | None = None
    score: float | None = None

    @property
    def files(self) -> tuple[ArrayFile, ...]:
        return tuple(file for file in (self.map, self.mask) if file is not None)

    @property
    def given(self) -> tuple[str, ...]:
        """Which of `maps`, `masks` and `scores` there are."""
        parts = {"maps": self.map, "masks": self.mask, "scores": self.score}
        return tuple(name for name, part in parts.items() if part is not None)


@dataclass(frozen=True)
class Found:
    """What a folder holds for the cases of a dataset.

    Attributes:
        cases: By split and id, only those of which there is something.
        missing: The cases of which there is nothing, by split.
        passed_over: Files that belong to no case, as paths in the folder. Those of cases that a run with a limit does
            not take are none of them.
        unknown: Names in the table of image scores that are of no case, likewise.
        problems: What cannot be understood, a sentence each.
    """

    cases: dict[Split, dict[str, CaseFiles]]
    missing: dict[Split, list[str]]
    passed_over: list[str]
    unknown: list[str]
    problems: list[str]

    def files(self) -> Iterator[Path]:
        """Every file that is used, once, in a fixed order."""
        files = [file for split in PREDICTED for case in self.cases[split].values() for file in case.files]
        yield from dict.fromkeys(file.path for file in files)


def find_files(folder: Path, manifest: Manifest, dataset: Dataset) -> Found:
    """Finds the files of each case of the validation and of the test split.

    Args:
        folder: The folder of predictions.
        manifest: Where files are.
        dataset: The dataset that was predicted.
    """
    paths = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    names = {path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)}
    whole, problems = whole_of(dataset), Problems()
    found: dict[Split, dict[str, CaseFiles]] = {split: {} for split in PREDICTED}
    missing: dict[Split, list[str]] = {split: [] for split in PREDICTED}
    ids: dict[Split, list[str]] = {split: [case.id for case in whole.cases(split)] for split in PREDICTED}
    for name in ("scores", "files"):
        if name in manifest.model_fields_set and (table := getattr(manifest, name)) not in names:
            problems.add(name, f"{MANIFEST} says `{name}: {table}`, but {folder} has no such file.")
    if manifest.files in names:
        look_up = _by_table(folder / manifest.files, names, problems)
    else:
        look_up = _by_pattern(folder, manifest, names, problems)
    scores = _read_scores(folder / manifest.scores, ids, problems) if manifest.scores in names else {}
    known_keys = {(split, case) for split in PREDICTED for case in ids[split]}
    unknown = [case for split, case in scores if (split, case) not in known_keys]
    if scores and len(unknown) == len(scores):
        problems.add(
            "unknown",
            f"{folder / manifest.scores} has no score of any case: {unknown[0]} is none. Cases are "
            f"named as in the dataset, without an ending, such as {ids['test'][0]}.",
        )
    used = {MANIFEST, manifest.scores, manifest.files}
    for split in PREDICTED:
        known, chosen = set(ids[split]), {case.id for case in dataset.cases(split)}
        for case in whole.cases(split):
            # Where a case and a volume have one name, it is the case's.
            volume = case.volume if case.volume not in known else None
            arrays = [_array_file(folder, look_up, kind, case, volume, dataset, problems) for kind in ("map", "mask")]
            used.update(one.path.relative_to(folder).as_posix() for one in arrays if one is not None)
            files = CaseFiles(arrays[0], arrays[1], scores.get((split, case.id)))
            if case.id not in chosen:
                continue
            if files.given:
                found[split][case.id] = files
            else:
                missing[split].append(case.id)
    passed_over = sorted(names - used)
    if manifest.files not in names:
        _check_patterns(folder, manifest, found, ids, passed_over, problems)
    return Found(found, missing, passed_over, unknown, problems.sentences())


def path_by(pattern: str, split: str, case: str, ending: str = ".npy") -> str:
    """The path that a pattern gives a case, with this ending where the pattern has none."""
    path = pattern.replace("{split}", split).replace("{case}", case)
    return path if pattern.endswith((*ENDINGS, *LOSSY)) else path + ending


def nearest_name(path: str, names: Sequence[str]) -> str:
    """The one of some names, at least one, that is most like a path."""
    return difflib.get_close_matches(path, names[:_COMPARED], n=1, cutoff=0)[0]


def _check_patterns(
    folder: Path,
    manifest: Manifest,
    found: dict[Split, dict[str, CaseFiles]],
    ids: dict[Split, list[str]],
    passed_over: Sequence[str],
    problems: Problems,
) -> None:
    """Says of each pattern that somebody wrote, and that no file fits, what it looks for and what is there."""
    for entry, ending in (("maps", ".npy"), ("masks", ".png")):
        if entry not in manifest.model_fields_set or not ids["test"]:
            continue
        if any(entry in files.given for of_split in found.values() for files in of_split.values()):
            continue
        pattern = getattr(manifest, entry)
        expected = path_by(pattern, "test", ids["test"][0], ending)
        there = f"; there is {nearest_name(expected, passed_over)}" if passed_over else ", and there is no other file"
        problems.add(
            (entry, "pattern"),
            f"{MANIFEST} says `{entry}: {pattern}`, but no file in {folder} has such a name. For the case "
            f"{ids['test'][0]} it is {expected}{there}.",
        )


def _array_file(
    folder: Path, look_up: _LookUp, kind: str, case: Case, volume: str | None, dataset: Dataset, problems: Problems
) -> ArrayFile | None:
    """The file of a case's map or mask, alone or within that of its volume; `None` where there is none."""
    alone = look_up(kind, case.split, case.id)
    whole = [name for name in look_up(kind, case.split, volume) if name.endswith(NIFTI)] if volume is not None else []
    if len(alone) + len(whole) > 1:
        owner = f"the case {case.id}" if alone else f"the volume {volume}"
        one, other, *_ = [*alone, *whole]
        problems.add((kind, "both"), f"Both {one} and {other} belong to {owner} ({case.split}): remove one.")
    if alone:
        return ArrayFile(folder / alone[0])
    if volume is None or not whole:
        return None
    grid = dataset.grid(volume)
    if grid is None or case.position is None:
        problems.add(
            (kind, "grid", volume),
            f"{folder / whole[0]} has the name of the volume {volume}, but how that was cut into slices is not known: "
            "only datasets that bench data add made of NIfTI volumes know it. Give a file for each slice, such as "
            f"{kind}s/{case.split}/{case.id}.npy.",
        )
        return None
    return ArrayFile(folder / whole[0], grid, case.position)


def _by_pattern(folder: Path, manifest: Manifest, names: set[str], problems: Problems) -> _LookUp:
    """Finds files by the pattern of their names."""
    patterns = {"map": manifest.maps, "mask": manifest.masks}

    def look_up(kind: str, split: str, name: str) -> list[str]:
        paths = dict.fromkeys(path_by(patterns[kind], split, name, ending) for ending in (*ENDINGS, *LOSSY))
        there = [path for path in paths if path in names]
        for path in there:
            _refuse_lossy(folder / path, problems)
        return there

    return look_up


def _refuse_lossy(path: Path, problems: Problems) -> None:
    if path.name.lower().endswith(LOSSY):
        problems.add(
            "lossy",
            f"{path} is compressed with loss ({path.suffix}): its values are not those that the method gave. Save maps "
            "as .npy or .tif, and masks as .png.",
        )


def _by_table(path: Path, names: set[str], problems: Problems) -> _LookUp:
    """Finds files by the table that lists them; what is wrong with that is added to the problems."""
    listed: dict[tuple[str, str, str], str] = {}
    lines: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(_rows(path, ("split", "case"), problems), start=2):
        split, case = row["split"], row["case"]
        if (first := lines.setdefault((split, case), number)) != number:
            problems.add(
                (path, "twice"),
                f"{path}, line {number}: {case} ({split}) is in line {first} already. Remove one of the two.",
            )
        for kind in ("map", "mask"):
            name = row.get(kind) or ""
            if name and name not in names:
                problems.add((path, "gone"), f"The table {path} names {name}, which is not in the folder.")
            elif name and (first := lines.setdefault((kind, name, ""), number)) != number:
                problems.add(
                    (path, "shared"),
                    f"{path}, line {number}: {name} is the {kind} of line {first} already. Each case has its own, but "
                    "for a NIfTI volume of all slices: give that one row, with the name of the volume as `case`.",
                )
            elif name:
                _refuse_lossy(path.parent / name, problems)
                listed[kind, split, case] = name
    return lambda kind, split, name: [listed[kind, split, name]] if (kind, split, name) in listed else []


def _text(path: Path) -> str:
    text = read_bytes(path, follow=True, most=_LARGEST).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _rows(path: Path, needed: Iterable[str], problems: Problems) -> list[dict[str, str]]:
    """The rows of a CSV, whose first line names the columns."""
    try:
        rows = list(csv.DictReader(io.StringIO(_text(path))))
    except (UnicodeDecodeError, csv.Error) as error:
        problems.add(path, f"The table {path} cannot be read ({error}). Save it as CSV in UTF-8.")
        return []
    columns = list(rows[0]) if rows else []
    wide = next((number for number, row in enumerate(rows, start=2) if row.get(None) or None in row.values()), None)
    header = _text(path).partition("\n")[0].rstrip("\r").split(",")
    if wide or len(set(header)) < len(header):
        problems.add(
            path,
            f"{path}, line {wide}: it has another number of fields than the first line. Commas part fields, and "
            "points part decimals."
            if wide
            else f"The table {path} has a column twice: {', '.join(header)}.",
        )
        return []
    lacking = [name for name in needed if rows and name not in rows[0]]
    if lacking or not rows:
        problems.add(
            path,
            f"The table {path} has no column {lacking[0]!r}, only {', '.join(columns)}: its first line names the "
            f"columns, at least {', '.join(needed)}, parted by commas."
            if lacking
            else f"The table {path} has no rows.",
        )
        return []
    return rows


def _read_scores(path: Path, ids: dict[Split, list[str]], problems: Problems) -> dict[tuple[str, str], float]:
    """Image scores by split and case. Where the table has no column `split`, a case must be in one split only."""
    twice = set(ids["valid"]) & set(ids["test"])
    split_of = {case: split for split in PREDICTED for case in ids[split]}
    scores: dict[tuple[str, str], float] = {}
    for number, row in enumerate(_rows(path, ("case", "score"), problems), start=2):
        case, split = row["case"], row.get("split") or ""
        if not split and case in twice:
            problems.add(
                (path, "split"), f"{path}, line {number}: {case} is in valid and in test. Add a column `split`."
            )
            continue
        try:
            score = float(row["score"])
        except (TypeError, ValueError):
            score = float("nan")
        if not np.isfinite(score):
            told = f"{path}, line {number}: the score {row['score']!r} of {case} is not a finite number."
            problems.add((path, "number"), told)
            continue
        key = (split or split_of.get(case, ""), case)
        if key in scores:
            told = f"{path}, line {number}: {case} has a score already. Remove one of the two."
            problems.add((path, "twice"), told)
        scores[key] = score
    return scores
