"""The images that a table lists, with mask, label, patient and split of each, as VisA has them."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from ..harness.api import SPLITS, DataError, Split
from ..harness.files import one_spelling
from ..harness.paths import is_there
from .card import CardFile
from .found import FoundImage
from .image_files import IMAGE_ENDINGS
from .layouts import ANOMALOUS, NORMAL, SPLIT_NAMES
from .passing import passed_over
from .places import ImageTable
from .tables import LISTING, Row, read_table, some

BETWEEN = ";"
"""What stands between the masks of one image."""

SPLIT_OF: dict[str, Split] = {name: split for split, names in SPLIT_NAMES.items() for name in names}
"""The split that a word in a table, or the name of a folder in lower case, means."""

_OPTIONAL = ("mask", "patient")
_OBJECT = "object"  # VisA's column: one table lists twelve datasets
_LABELS = {
    **dict.fromkeys(("0", *NORMAL, "healthy"), 0),
    **dict.fromkeys(("1", "anomaly", *(name.lower() for name in ANOMALOUS)), 1),
}
_WINDOWS = re.compile(r"^[A-Za-z]:|\\")


class _Wrong(NamedTuple):
    """What is wrong with a row.

    Attributes:
        cause: What it shares with other rows of which the same is wrong.
        text: A sentence, to come behind the line, and what to do.
    """

    cause: tuple[str, ...]
    text: str


class ListedImages:
    """The images that a card's table lists. No image is opened.

    Args:
        card: It names a table.
        root: The folder to which the table and the paths in it are relative.
        splits: The splits that are taken.

    Attributes:
        root: The same.
        images: What is listed, by split, normal ones first, and sorted by path.
        spare: Masks of normal images, which are not used.
        problems: What is wrong, a sentence for each cause.

    Raises:
        DataError: The table cannot be read, or it lists several datasets of which none is chosen.
    """

    def __init__(self, card: CardFile, root: Path, splits: Sequence[Split]) -> None:
        self.root = root
        self._has_masks = card.annotation == "mask"
        self._told = card.table or ImageTable(file="")
        self._table = root / self._told.file
        rows = self._chosen_rows()
        self.images: list[FoundImage] = []
        self.spare: list[Path] = []
        self.problems: list[str] = []
        self._left_out = 0
        self._has_patients = any("patient" in row.cells for row in rows)
        if self._has_patients and card.patient:
            self.problems.append(f"Both the card and {self._table} say who the patients are. Keep one of them.")
        self._lines: dict[str, tuple[int, str]] = {}
        self._add(rows, splits)
        for split, label, kind in (("train", 0, "normal"), ("test", 1, "anomalous")):
            found = any((each.split, each.label) == (split, label) for each in self.images)
            if split in splits and not self.problems and not found:
                self.problems.append(f"The {split} split has no {kind} images in {self._table}{self._choice}.")

    def passed_over(self, used: Set[str]) -> Iterator[str]:
        """Says which rows and files are not used, although they may be images."""
        if self._left_out:
            rows = "1 row is of a split" if self._left_out == 1 else f"{self._left_out:,} rows are of splits"
            yield f"{rows} that another dataset gives, and passed over: {self._table}."
        if self.spare:
            images = "1 normal image has" if len(self.spare) == 1 else f"{len(self.spare):,} normal images have"
            yield (
                f"{images} a mask in {self._table}, such as {self.spare[0]}. It is not used: a normal image has no "
                "lesion."
            )
        listed = {path.parent for each in self.images for path in (each.image, *each.masks)}
        yield from passed_over(
            self.root,
            sorted(listed) if self._told.where else [self.root],
            used,
            f"{self._table} does not list them",
            "List those to be used.",
        )

    @property
    def _choice(self) -> str:
        return "".join(f", where {column} is {value}" for column, value in self._told.where.items())

    def _chosen_rows(self) -> list[Row]:
        """The rows that the card chooses."""
        table, where = self._table, self._told.where
        rows = read_table(table, (*LISTING, *where), _OPTIONAL, {**self._told.columns})
        chosen = [row for row in rows if all(row.cells.get(column) == str(value) for column, value in where.items())]
        if not chosen:
            column = next(iter(where), None)
            there = some(sorted({row.cells.get(column, "") for row in rows})) if column else ""
            raise DataError(
                f"{table} has no rows{self._choice}.{f' The values of {column} are {there}.' if there else ''}"
            )
        objects = sorted({row.cells.get(_OBJECT, "") for row in chosen})
        if len(objects) > 1:
            raise DataError(
                f"{table} lists {len(objects)} datasets in its column {_OBJECT}: {some(objects)}. Say on the card "
                f"which one is meant: `table: {{file: {self._told.file}, where: {{{_OBJECT}: {objects[0]}}}}}`."
            )
        return chosen

    def _add(self, rows: Sequence[Row], splits: Sequence[Split]) -> None:
        wrong: dict[tuple[str, ...], list[str]] = {}
        for row in rows:
            found = list(self._wrong(row)) or list(self._twice(row))
            for each in found:
                wrong.setdefault(each.cause, []).append(f"{self._table}, line {row.line}: {each.text}")
            if not found:
                if SPLIT_OF[row.cells["split"].lower()] in splits:
                    self._take(row)
                else:
                    self._left_out += 1
        for texts in wrong.values():
            more = f" The same is wrong in {len(texts) - 1:,} more rows." if texts[1:] else ""
            self.problems.append(texts[0] + more)
        self.images.sort(key=lambda each: (SPLITS.index(each.split), each.label, each.id))

    def _take(self, row: Row) -> None:
        cells = row.cells
        path, label = self._plain_path(cells["image"]), _LABELS[cells["label"].lower()]
        masks = tuple(map(self._file, self._masks(cells)))
        if not label:
            self.spare += masks
        name = posixpath.splitext(path)[0]
        self.images.append(
            FoundImage(
                id=name,
                split=SPLIT_OF[cells["split"].lower()],
                label=label,
                image=self._file(cells["image"]),
                masks=masks if label else (),
                patient=cells.get("patient"),
                is_numbered=posixpath.basename(name).isdigit(),
            )
        )

    def _wrong(self, row: Row) -> Iterator[_Wrong]:
        """What is wrong with a row by itself."""
        cells = row.cells
        needed = (*LISTING, "patient") if self._has_patients else LISTING
        lacking = [column for column in needed if column not in cells]
        if lacking:
            yield _Wrong(("empty", lacking[0]), f"{lacking[0]} is empty. Fill it in in every row.")
            return
        split, label = SPLIT_OF.get(cells["split"].lower()), _LABELS.get(cells["label"].lower())
        if split is None:
            text = f"{cells['split']!r} is no split. Write one of {', '.join(SPLIT_OF)}."
            yield _Wrong(("split", cells["split"]), text)
        if label is None:
            text = f"{cells['label']!r} is no label. Write one of {', '.join(_LABELS)}."
            yield _Wrong(("label", cells["label"]), text)
        if split == "train" and label:
            text = "an anomalous image is in the train split, and methods learn from normal ones only. Move it."
            yield _Wrong(("train",), text)
        if label and self._has_masks and "mask" not in cells:
            text = (
                "an anomalous image has no mask. If only whole images are labelled, say `annotation: image` on the "
                "card."
            )
            yield _Wrong(("mask",), text)
        masks = self._masks(cells)
        if cells["image"] in masks:
            yield _Wrong(("itself",), f"{cells['image']} is named as its own mask. Name the mask's file.")
        for column, path in (("image", cells["image"]), *(("mask", mask) for mask in masks)):
            yield from self._wrong_path(column, path)

    def _masks(self, cells: Mapping[str, str]) -> list[str]:
        """The paths of a row's masks: one, or several with semicolons between them."""
        text = cells.get("mask", "") if self._has_masks else ""
        if BETWEEN not in text or is_there(str(self._file(text))):
            return [text] if text else []
        return [path for each in text.split(BETWEEN) if (path := each.strip())]

    def _wrong_path(self, column: str, text: str) -> Iterator[_Wrong]:
        relative = f"Paths are relative to the card's root, {self.root}."
        if _WINDOWS.search(text):
            yield _Wrong((column, "windows"), f"{text} is a path of Windows. Write / in place of \\. {relative}")
        elif text.startswith("/") or self._plain_path(text).startswith("../"):
            yield _Wrong((column, "outside"), f"{text} leads out of the dataset. {relative}")
        elif Path(text).suffix.lower() not in IMAGE_ENDINGS:
            endings = ", ".join(IMAGE_ENDINGS)
            yield _Wrong((column, "ending"), f"{text} is not read, only {endings} are. Save it as PNG.")
        elif not is_there(str(self._file(text))):
            yield _Wrong((column, "missing"), f"there is no {column} {self.root / text}. {relative}")

    def _twice(self, row: Row) -> Iterator[_Wrong]:
        """Whether an image, or one that has the same name but for its ending, is listed before."""
        path = self._plain_path(row.cells["image"])
        name = posixpath.splitext(path)[0]
        line, other = self._lines.setdefault(name, (row.line, path))
        if line != row.line:
            text = (
                f"{path} is in line {line} already. Remove one of the two rows."
                if other == path
                else f"{path} has the name of {other}, line {line}, which must tell a case. Rename one of them."
            )
            yield _Wrong(("twice",), text)

    def _plain_path(self, text: str) -> str:
        return one_spelling(posixpath.normpath(text))

    def _file(self, text: str) -> Path:
        """The file of a path in whichever spelling of Unicode it is there."""
        path = self.root / text
        return path if is_there(str(path)) else self.root / one_spelling(text)
