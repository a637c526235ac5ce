"""CSV files with a row for each image."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..harness.api import DataError
from ..harness.safe_files import open_text

LISTING = ("image", "split", "label")
"""The columns that a table of images must have."""

_SHOWN = 12  # names
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: The line of the file in which it ends, from 1.
        cells: What is in its columns, without blanks around it; empty cells are left out.
    """

    line: int
    cells: dict[str, str]


def read_table(
    table: Path,
    needed: Sequence[str],
    optional: Sequence[str] = (),
    columns: Mapping[str, str] = MappingProxyType({}),
) -> list[Row]:
    """Reads a table, of which rows without any text are left out.

    Args:
        table: A CSV file in UTF-8 whose first line has the names of its columns; upper and lower case are the same.
        needed: The columns that it must have.
        optional: Those that it may have, for the message.
        columns: What some of them are called in this table.

    Returns:
        The rows; their cells have the names that are asked for, and those in the table, in lower case, besides.

    Raises:
        DataError: It cannot be read, a column is missing or there twice, or a row has more cells than the first line.
    """
    try:
        with open_text(table, "utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            _check_header(table, header, needed, optional, columns)
            asked = {column: columns.get(column, column).lower() for column in (*needed, *optional)}
            rows = []
            for values in reader:
                if len(values) > len(header) and any(map(str.strip, values[len(header) :])):
                    raise DataError(
                        f"{table}, line {reader.line_num}, has {len(values)} cells, and the first line has "
                        f"{len(header)} names. Put text that has a comma between quotes."
                    )
                cells = {name: text.strip() for name, text in zip(header, values, strict=False) if text.strip()}
                if cells:
                    named = {column: cells[name] for column, name in asked.items() if name in cells}
                    rows.append(Row(reader.line_num, cells | named))
            return rows
    except UnicodeDecodeError as error:
        raise DataError(f"The table {table} is no text in UTF-8. Save it as CSV in UTF-8, with commas.") from error
    except (OSError, csv.Error) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"The table {table}, which the card names, cannot be read: {told}.") from error


def columns_of(table: Path) -> tuple[str, ...]:
    """The names of a table's columns as they are written there; none where it cannot be read."""
    try:
        with open_text(table, "utf-8-sig") as file:
            return tuple(name.strip() for name in next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()


def explain_tables(root: Path) -> str:
    """A sentence on what to do with a folder in which a table lists images; empty where none does."""
    for table in (root / "split_csv" / "1cls.csv", *sorted(root.glob("*.csv"))):
        if set(LISTING) <= {name.lower() for name in columns_of(table)}:
            place = table.relative_to(root).as_posix()
            return (
                f"{place} lists images: name it on a card, {root / 'card.yaml'}, with the line `table: {place}`; bench "
                f"data init {root} writes one."
            )
    return ""


def some(values: Sequence[str]) -> str:
    """Values in words, of many the first ones."""
    more = len(values) - _SHOWN
    return ", ".join(values[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _check_header(
    table: Path, header: list[str], needed: Sequence[str], optional: Sequence[str], columns: Mapping[str, str]
) -> None:
    if "\0" in "".join(header):
        raise DataError(f"The table {table} is no text in UTF-8. Save it as CSV in UTF-8, with commas.")
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise DataError(f"{table} has two columns {twice[0]}. Rename one.")
    wanted = [*needed, *columns]
    lacking = [column for column in wanted if columns.get(column, column).lower() not in header]
    if not lacking:
        return
    delimiter = next((each for each in _OTHER_DELIMITERS if each in "".join(header)), None)
    if delimiter and len(header) < len(needed):
        raise DataError(
            f"{table} is separated by {_OTHER_DELIMITERS[delimiter]}. Save it as CSV in UTF-8, with commas."
        )
    also = f"; {', '.join(optional)} are optional" if optional else ""
    raise DataError(
        f"{table} has no column {columns.get(lacking[0], lacking[0])}. It needs {', '.join(needed)}{also}. Its columns "
        f"are {some([name for name in header if name]) or 'none'}."
    )
