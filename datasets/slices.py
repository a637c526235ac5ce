"""Which volume an image is a slice of, and which slice: by the names of files, or by a table."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from ..harness.api import Case, DataError, Split
from ..harness.files import one_spelling
from .card import CardFile, Millimetres
from .geometry import read_geometry
from .patterns import search
from .tables import read_table

Spacing = tuple[float, float, float]
SLICE_NAME = re.compile(r"^(?P<volume>.+)_(?P<position>\d+)$")
"""The names of slices that `bench data add` made of volumes."""

_NEEDED = ("image", "volume", "position")
_SPACING = ("row_mm", "column_mm", "slice_mm")


class SlicePlace(NamedTuple):
    """The place of a slice in its volume, as in `Case`."""

    volume: str | None = None
    position: int | None = None
    spacing: Spacing | None = None


class _Row(BaseModel):
    """A row of the table, where empty cells have been left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image: str
    volume: str
    position: int
    row_mm: Millimetres | None = None
    column_mm: Millimetres | None = None
    slice_mm: Millimetres | None = None

    def place(self, spacing: Spacing | None) -> SlicePlace:
        if self.row_mm is not None and self.column_mm is not None and self.slice_mm is not None:
            spacing = self.row_mm, self.column_mm, self.slice_mm
        return SlicePlace(self.volume, self.position, spacing)


class SlicePlaces:
    """The places of a dataset's images, as its card says.

    The card's table is a CSV file with the columns `image`, a path relative to the dataset's root, `volume` and
    `position`, and, where volumes differ in them, `row_mm`, `column_mm` and `slice_mm`.

    Args:
        card: It has a pattern or a table, says that slices were made of volumes, or nothing of volumes.
        root: The dataset's root.

    Attributes:
        geometry: That of the volumes that `bench data add` made slices of.

    Raises:
        DataError: The table or the geometry cannot be read, or the table has a wrong row.
    """

    def __init__(self, card: CardFile, root: Path) -> None:
        self._root = root
        self._spacing = card.spacing
        self._pattern = SLICE_NAME if card.volumes else card.volume
        self.geometry = read_geometry(root) if card.volumes else {}
        self._table = root / card.slices if card.slices else None
        self._rows = dict(_read(self._table, card.spacing)) if self._table else {}
        self._left = set(self._rows)

    def of(self, split: Split, name: str, path: Path) -> SlicePlace:
        """The place of an image; its parts are `None` where it is of no volume.

        Args:
            split: The split that it is in.
            name: Its name without ending.
            path: Its file.
        """
        if self._table:
            image = one_spelling((path.relative_to(self._root) if path.is_relative_to(self._root) else path).as_posix())
            self._left.discard(image)
            return self._rows.get(image, SlicePlace())
        match = self._pattern and search(self._pattern, name)
        if not match or not match["volume"] or not (match["position"] or "").isdecimal():
            return SlicePlace()
        volume, position = match["volume"], int(match["position"])
        if not self.geometry:
            return SlicePlace(volume, position, self._spacing)
        known = self.geometry.get(volume)
        return SlicePlace(volume, position, known.spacing) if known and known.split == split else SlicePlace()

    def problems(self, cases: Sequence[Case]) -> Iterator[str]:
        """Sentences on what is wrong: no image of any volume, two images in one place, two spacings of a volume."""
        if self._source and cases and all(case.volume is None for case in cases):
            yield f"{self._source} has no volume for any of the {len(cases):,} images, such as {cases[0].image}."
        seen: dict[tuple[Split, str, int | None], Case] = {}
        spacings: dict[tuple[Split, str], Spacing | None] = {}
        for case in cases:
            if case.volume is None:
                continue
            other = seen.setdefault((case.split, case.volume, case.position), case)
            if other is not case:
                yield (
                    f"{other.image} and {case.image} are both slice {case.position} of the volume {case.volume}. "
                    "Each slice has a position of its own."
                )
            if spacings.setdefault((case.split, case.volume), case.spacing) != case.spacing:
                yield f"{case.image} has another spacing than other slices of its volume {case.volume}."

    def notes(self, cases: Sequence[Case]) -> Iterator[str]:
        """Sentences on images that are of no volume, and on rows of the table that are of no image."""
        without = [case for case in cases if case.volume is None]
        if self._source and without:
            yield (
                f"{len(without):,} of {len(cases):,} images are of no volume by {self._source}, such as "
                f"{without[0].image}. Scores of volumes leave them out."
            )
        if self._left:
            yield (
                f"{len(self._left):,} rows of {self._table} name images that are not in the dataset, such as "
                f"{min(self._left)}."
            )

    @property
    def _source(self) -> str:
        """What says which volume an image is of; empty where nothing does."""
        if self._table:
            return f"the table {self._table}"
        if self._pattern and not self.geometry:
            return f"the card's volume pattern {self._pattern.pattern!r}"
        return ""


def _read(table: Path, spacing: Spacing | None) -> Iterator[tuple[str, SlicePlace]]:
    seen: dict[str, int] = {}
    for line, cells in read_table(table, _NEEDED, _SPACING):
        where = f"{table}, line {line}"
        try:
            told = _Row.model_validate(cells)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise DataError(f"{where}, {wrong['loc'][0]}: {wrong['msg']}.") from error
        if len({getattr(told, column) is None for column in _SPACING}) > 1:
            raise DataError(f"{where}: give all of {', '.join(_SPACING)}, or none of them.")
        image = one_spelling(told.image)
        if seen.setdefault(image, line) != line:
            raise DataError(f"{where}: {image} is in line {seen[image]} already.")
        yield image, told.place(spacing)
