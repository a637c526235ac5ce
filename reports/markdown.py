"""A paper's table in Markdown, as GitHub and most readers show it."""

import re
from collections.abc import Iterator

from .paper_table import PaperCell, PaperColumn, PaperTable

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|#~]")
_ACTIVE = re.compile(r"(?<![\w])@(?=\w)|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_JOINER = "\u2060"  # of no width: what it parts is neither a mention nor a link


def markdown(table: PaperTable) -> str:
    """Renders a table: the best bold, the second underlined, oracle and published rows last and in italics."""
    return "\n".join(_lines(table)) + "\n"


def escape_markdown(text: str) -> str:
    """Makes any text stand in Markdown as it is, in one line; it mentions nobody and links to nothing."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return _SPECIAL.sub(r"\\\g<0>", _ACTIVE.sub(rf"\g<0>{_JOINER}", line))


def _lines(table: PaperTable) -> Iterator[str]:
    yield f"**{escape_markdown(table.caption)}**"
    yield ""
    yield f"| method | {' | '.join(escape_markdown(column.title) for column in table.columns)} |"
    yield f"|---|{'---:|' * len(table.columns)}"
    for row in table.rows:
        label = escape_markdown(row.label) if row.kind == "method" else f"*{escape_markdown(row.label)}*"
        cells = (
            _cell(cell, column, apart=row.kind != "method" or column.oracle)
            for column, cell in zip(table.columns, row.cells, strict=True)
        )
        yield f"| {label} | {' | '.join(cells)} |"
    yield ""
    for note in table.notes:
        yield f"{escape_markdown(note)}  "


def _cell(cell: PaperCell | None, column: PaperColumn, *, apart: bool) -> str:
    if cell is None:
        return "–"
    text = f"{cell.value:.{column.digits}f}"
    if cell.mark == "best":
        text = f"**{text}**"
    elif cell.mark == "second":
        text = f"<ins>{text}</ins>"
    spread = ", ".join(filter(None, cell.beside(column.digits)))
    text = f"{text}{'†' if cell.tied else ''}{f' ({spread})' if spread else ''}"
    return f"*{text}*" if apart else text
