"""A folder of predictions: which file belongs to which case, and the arrays inside."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..api import Case, DataError, Split
from .manifest import MANIFEST, Manifest

PREDICTED: tuple[Split, ...] = ("valid", "test")
ENDINGS = (".npy", ".npz", ".png", ".tif", ".tiff", ".nii.gz", ".nii")
_ARRAY_NAMES = ("anomaly_map", "map", "mask")
_KEPT = 0.99  # of the different values of a map
_DEEP = ("L", "1", "F", "I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class CaseFiles:
    """What there is of one case: `None` is what there is not.

    Attributes:
        map: The file of its anomaly map.
        mask: The file of its mask.
        score: Its image score, as the table has it.
    """

    map: Path | None = None
    mask: Path | None = None
    score: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.map, self.mask) if path is not None)

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
        passed_over: Files that belong to no case, as paths in the folder.
        problems: What cannot be understood, a sentence each.
    """

    cases: dict[Split, dict[str, CaseFiles]]
    missing: dict[Split, list[str]]
    passed_over: list[str]
    problems: list[str] = field(default_factory=list)

    def files(self) -> Iterator[Path]:
        """Every file that is used, in a fixed order."""
        for split in PREDICTED:
            for files in self.cases[split].values():
                yield from files.files


def find_files(folder: Path, manifest: Manifest, cases: dict[Split, Sequence[Case]]) -> Found:
    """Finds the files of each case.

    Args:
        folder: The folder of predictions.
        manifest: Where files are.
        cases: The cases of the validation and of the test split.
    """
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = {name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts)}
    found = Found({split: {} for split in PREDICTED}, {split: [] for split in PREDICTED}, [])
    listed = _read_files(folder / manifest.files, found.problems) if manifest.files in names else None
    ids: dict[Split, list[str]] = {split: [case.id for case in cases[split]] for split in PREDICTED}
    scores = _read_scores(folder / manifest.scores, ids, found.problems) if manifest.scores in names else {}
    used = {MANIFEST, manifest.scores, manifest.files}
    for split in PREDICTED:
        for case in ids[split]:
            if listed is None:
                one = [
                    _match(pattern, split, case, names, found.problems) for pattern in (manifest.maps, manifest.masks)
                ]
            else:
                one = [_inside(name, names, found.problems) for name in listed.get((split, case), ("", ""))]
            used.update(filter(None, one))
            places = [None if name is None else folder / name for name in one]
            files = CaseFiles(places[0], places[1], scores.get((split, case)))
            if files.given:
                found.cases[split][case] = files
            else:
                found.missing[split].append(case)
    found.passed_over.extend(sorted(names - used))
    return found


def _match(pattern: str, split: str, case: str, names: set[str], problems: list[str]) -> str | None:
    """The file of a case by the pattern of names; `None` where there is none."""
    path = pattern.replace("{split}", split).replace("{case}", case)
    endings = ("",) if pattern.endswith(ENDINGS) else ENDINGS
    fitting = [path + ending for ending in endings if path + ending in names]
    if len(fitting) > 1:
        problems.append(f"Both {fitting[0]} and {fitting[1]} belong to the case {case} ({split}): remove one.")
    return fitting[0] if fitting else None


def _inside(name: str, names: set[str], problems: list[str]) -> str | None:
    if name and name not in names:
        problems.append(f"The table of files names {name}, which is not in the folder.")
    return name if name in names else None


def _rows(path: Path, needed: Iterable[str], problems: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV, whose first line names the columns."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(f"The table {path} cannot be read ({error}). Save it as CSV in UTF-8.")
        return []
    columns = list(rows[0]) if rows else []
    wide = next((number for number, row in enumerate(rows, start=2) if row.get(None) or None in row.values()), None)
    header = path.read_text(encoding="utf-8-sig").partition("\n")[0].rstrip("\r").split(",")
    if wide or len(set(header)) < len(header):
        problems.append(
            f"{path}, line {wide}: it has another number of fields than the first line. Commas part fields, and "
            "points part decimals."
            if wide
            else f"The table {path} has a column twice: {', '.join(header)}."
        )
        return []
    lacking = [name for name in needed if rows and name not in rows[0]]
    if lacking or not rows:
        problems.append(
            f"The table {path} has no column {lacking[0]!r}, only {', '.join(columns)}: its first line names the "
            f"columns, at least {', '.join(needed)}, parted by commas."
            if lacking
            else f"The table {path} has no rows."
        )
        return []
    return rows


def _read_files(path: Path, problems: list[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Names of the files of map and mask, by split and case."""
    return {
        (row["split"], row["case"]): (row.get("map") or "", row.get("mask") or "")
        for row in _rows(path, ("split", "case"), problems)
    }


def _read_scores(path: Path, ids: dict[Split, list[str]], problems: list[str]) -> dict[tuple[str, str], float]:
    """Image scores by split and case. Where the table has no column `split`, a case must be in one split only."""
    twice = set(ids["valid"]) & set(ids["test"])
    split_of = {case: split for split in PREDICTED for case in ids[split]}
    scores: dict[tuple[str, str], float] = {}
    for number, row in enumerate(_rows(path, ("case", "score"), problems), start=2):
        case, split = row["case"], row.get("split") or ""
        if not split and case in twice:
            problems.append(f"{path}, line {number}: {case} is in valid and in test. Add a column `split`.")
            continue
        try:
            score = float(row["score"])
        except (TypeError, ValueError):
            score = float("nan")
        if not np.isfinite(score):
            problems.append(f"{path}, line {number}: the score {row['score']!r} of {case} is not a finite number.")
            continue
        key = (split or split_of.get(case, ""), case)
        if key in scores:
            problems.append(f"{path}, line {number}: {case} has a score already. Remove one of the two.")
        scores[key] = score
    return scores


def read_anomaly_map(path: Path) -> np.ndarray:
    """Reads an anomaly map as float32 (H, W), its values as they are.

    Raises:
        DataError: It is damaged, in colour, or has more than two dimensions longer than 1.
    """
    array = _read(path)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise DataError(f"{path} holds {array.dtype} and not numbers. Save the map as float32.")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    lost = (
        array.dtype.itemsize > 2
        and array.dtype != np.float32
        and len(np.unique(values)) < _KEPT * len(np.unique(array))
    )
    if lost or (np.isfinite(array).all() and not np.isfinite(values).all()):
        raise DataError(
            f"{path} holds {array.dtype} values that float32, in which maps are compared, does not tell apart. "
            "Subtract what all have in common, or take the logarithm of what is near 0 or 1."
        )
    return values


def read_own_mask(path: Path) -> np.ndarray:
    """Reads a mask as bool (H, W): all that is not 0 is anomalous.

    Raises:
        DataError: As `read_anomaly_map`; or it has more than two values, as a map has.
    """
    array = _read(path)
    values = np.unique(array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise DataError(
            f"The mask {path} has {len(values)} values ({', '.join(map(str, values[:4]))}): a mask has 0 and one other."
        )
    return array != 0


def _read(path: Path) -> np.ndarray:
    try:
        array = _decoded(path)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # damaged bytes make the readers raise half a dozen kinds
        raise DataError(f"{path} cannot be read ({error}). Write it again.") from error
    flat = array.reshape([length for length in array.shape if length != 1] or [1])
    if flat.ndim == 1 and array.ndim >= 2:  # an image of one row or column
        flat = array.reshape(array.shape[:2])
    if flat.ndim != 2 or not flat.size:
        raise DataError(f"{path} has the shape {array.shape}: one image has the shape (H, W).")
    return flat


def _decoded(path: Path) -> np.ndarray:
    name = path.name.lower()
    if name.endswith(".npy"):
        return np.load(path, allow_pickle=False)
    if name.endswith(".npz"):
        with np.load(path, allow_pickle=False) as arrays:
            known = [one for one in _ARRAY_NAMES if one in arrays.files]
            if len(arrays.files) != 1 and not known:
                raise DataError(
                    f"{path} holds the arrays {', '.join(arrays.files)}: keep one, or name it `anomaly_map`."
                )
            return arrays[known[0] if known else arrays.files[0]]
    if name.endswith((".nii", ".nii.gz")):
        import nibabel

        return np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    with Image.open(path) as image:
        if image.mode not in _DEEP:
            raise DataError(f"{path} is in colour ({image.mode}). Save the values, in grey of 8 or 16 bits.")
        return np.asarray(image)
