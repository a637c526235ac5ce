"""Tables for a terminal of any width: what does not fit goes on below, and no number is ever cut or broken."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from .names import broken_lines

_NARROW = 16  # letters: text that is longer may be broken where there is no room
_PIECE = 24  # letters of a name, such as an option, that stay together
_FRAME = 3  # cells of a terminal around a column: a line and two blanks


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Broken between words where it is longer than what stands below it.
        kind: A `label` says what a row is of and is repeated where a table goes on below; a `number` is never broken;
            `text` is broken where there is no room.
        style: As rich has it.
    """

    title: str
    kind: Literal["label", "number", "text"] = "number"
    style: str = ""


class FittedTable:
    """A table that is printed in several parts, one below the other, where a terminal is too narrow for all columns.

    Args:
        title: Stands above it.
        columns: With the labels first.
        caption: Stands below the title, such as how much was measured.
        turned: What all columns but the first are, such as `policy`: then they are printed as rows, and the rows as
            columns, where that takes fewer parts.
    """

    def __init__(self, title: str, columns: Sequence[Column], caption: str = "", turned: str = "") -> None:
        self._title, self._caption, self._turned = title, caption, turned
        self._columns = columns
        self._rows: list[tuple[tuple[Text, ...], str, bool]] = []

    def add_row(self, *cells: str | Text, style: str = "", end_section: bool = False) -> None:
        """Adds a row, a cell for each column; a number may have several lines."""
        texts = tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells)
        self._rows.append((texts, style, end_section))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._title:
            yield Text(self._title, style="table.title")
        if self._caption:
            yield Text(self._caption, style="dim")
        room = options.max_width - 1
        other = self._other_way() if self._turned else self
        table = other if len([*other._parts(room)]) < len([*self._parts(room)]) else self
        for shown in table._parts(room):
            yield table._table(shown, room)

    def _other_way(self) -> "FittedTable":
        """Its columns as rows, and its rows as columns."""
        rows = [Column(cells[0].plain, style=style) for cells, style, _ in self._rows]
        table = FittedTable(self._title, [Column(self._turned, "label"), *rows], self._caption)
        for index, column in enumerate(self._columns[1:], start=1):
            table.add_row(column.title, *(cells[index] for cells, *_ in self._rows), style=column.style)
        return table

    def _parts(self, room: int) -> Iterator[list[int]]:
        """The columns of each part: all labels, and as many of the others as there is room for."""
        labels = [index for index, column in enumerate(self._columns) if column.kind == "label"]
        taken = sum(self._least(index) + _FRAME for index in labels)
        part, left = list(labels), room - taken
        for index in range(len(labels), len(self._columns)):
            width = self._least(index) + _FRAME
            if width > left and len(part) > len(labels):
                yield part
                part, left = list(labels), room - taken
            part.append(index)
            left -= width
        yield part

    def _table(self, shown: Sequence[int], room: int) -> Table:
        widths = {index: self._least(index) for index in shown}
        left = room - sum(width + _FRAME for width in widths.values())
        for index in shown:  # labels are the first to get what is left
            column = self._columns[index]
            if left < 0 and column.kind == "label":
                less = min(-left, widths[index] - 1)
                widths[index], left = widths[index] - less, left + less
            else:
                more = max(0, self._most(index) - widths[index])
                if more > left:  # a title that is broken anyway needs no more
                    more = 0 if column.kind == "number" else left
                widths[index], left = widths[index] + more, left - more
        table = Table()
        for index, width in widths.items():
            column = self._columns[index]
            number = column.kind == "number"
            table.add_column(
                Text(_wrapped(column.title, width)),
                justify="right" if number else "left",
                width=width,
                style=column.style,
                no_wrap=number,
                overflow="fold",
            )
        for cells, style, end_section in self._rows:
            row = (
                cells[index] if self._columns[index].kind != "label" else _label(cells[index], widths[index])
                for index in shown
            )
            table.add_row(*row, style=style, end_section=end_section)
        return table

    def _least(self, index: int) -> int:
        """How narrow a column may be."""
        title = max(map(cell_len, self._columns[index].title.split()), default=0)
        content = self._content(index)
        if self._columns[index].kind == "number":
            return max(title, content)
        pieces = (cell_len(piece) for cells, *_ in self._rows for piece in broken_lines(cells[index].plain, 1))
        return max(title, min(content, max(_NARROW, min(max(pieces, default=0), _PIECE))))

    def _most(self, index: int) -> int:
        return max(cell_len(self._columns[index].title), self._content(index))

    def _content(self, index: int) -> int:
        return max((cell_len(line) for cells, *_ in self._rows for line in cells[index].plain.split("\n")), default=0)


def _wrapped(title: str, width: int) -> str:
    return "\n".join(textwrap.wrap(title, max(width, 1), break_long_words=False, break_on_hyphens=False))


def _label(name: Text, width: int) -> Text:
    return name if cell_len(name.plain) <= width else Text("\n".join(broken_lines(name.plain, width)))
