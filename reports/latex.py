r"""A paper's table in LaTeX, for the packages booktabs, siunitx and xcolor.

Numbers stand in columns of siunitx. What is not a plain number there (an underlined, a grey or a missing one) stands in
braces, which siunitx takes for text: text and numbers are both aligned to the right, with as many decimals.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from math import isfinite

from .paper_table import PaperCell, PaperColumn, PaperRow, PaperTable

PACKAGES = ("booktabs", "siunitx", "xcolor")
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "±": r"$\pm$", "–": "--", "—": "---",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "·": r"$\cdot$", "×": r"$\times$", "…": r"\ldots{}",
} | {letter: f"\\{letter}" for letter in "&%$#_{}"}  # fmt: skip
_ACCENTS = {0x300, 0x301, 0x302, 0x303, 0x304, 0x306, 0x307, 0x308, 0x30A, 0x30B, 0x30C, 0x327}
_SETTINGS = r"\sisetup{detect-weight=true, mode=text, table-number-alignment=right, table-text-alignment=right}"


def latex(table: PaperTable) -> str:
    r"""Renders a table as a `table` environment, to be used with `\input`.

    Comments above it say what letters are that pdfLaTeX has not got and that stand there as code points.
    """
    lines = list(_lines(table))
    texts = (
        table.caption,
        *table.notes,
        *(column.title for column in table.columns),
        *(row.label for row in table.rows),
    )
    lacking = [letter for letter in dict.fromkeys("".join(texts)) if _letter(letter).startswith("[U+")]
    comments = [
        f"% {_letter(letter)} is {letter}, which pdfLaTeX has not got." for letter in lacking if letter.isprintable()
    ]
    return "\n".join([*comments, *lines]) + "\n"


def document(names: Sequence[str]) -> str:
    """A document that shows the tables of these file names, and so what they need to be shown."""
    packages = "\n".join(f"\\usepackage{{{package}}}" for package in PACKAGES)
    inputs = "\n".join(f"\\input{{{name}.tex}}\n\\clearpage" for name in names)
    return (
        "\\documentclass{article}\n\\usepackage[margin=2cm]{geometry}\n"
        f"{packages}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )


def escape_latex(text: str) -> str:
    """Makes any text stand in LaTeX as it is; letters that pdfLaTeX has not got are named, such as [U+4E2D]."""
    return "".join(_letter(letter) for letter in unicodedata.normalize("NFC", text))


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter.isspace():
        return " "
    if letter.isascii() and letter.isprintable():
        return letter
    base, *accents = unicodedata.normalize("NFD", letter)
    if base.isascii() and base.isalpha() and len(accents) == 1 and ord(accents[0]) in _ACCENTS:
        return letter
    return f"[U+{ord(letter):04X}]"


def _lines(table: PaperTable) -> Iterator[str]:
    formats = [_format(table, index) for index in range(len(table.columns))]
    yield r"\begin{table}[p]"
    yield r"\centering"
    yield f"\\caption{{{escape_latex(table.caption)}.}}"
    yield r"\footnotesize"
    yield r"\setlength{\tabcolsep}{4pt}"
    yield _SETTINGS
    yield f"\\begin{{tabular}}{{l{''.join(f'S[table-format={one}]' for one in formats)}}}"
    yield r"\toprule"
    yield _line("method", [f"{{{_colour(column.oracle)}{{}}{escape_latex(column.title)}}}" for column in table.columns])
    kind = ""
    for row in table.rows:
        if row.kind != kind:
            yield r"\midrule"
        kind = row.kind
        yield from _row(row, table.columns)
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\par\smallskip"
    yield f"\\parbox{{\\linewidth}}{{\\scriptsize {' '.join(escape_latex(note) for note in table.notes)}}}"
    yield r"\end{table}"


def _row(row: PaperRow, columns: Sequence[PaperColumn]) -> Iterator[str]:
    """One line of numbers and, where a method's have any, one of deviations, one of intervals and one of verdicts."""
    grey = row.kind == "oracle"
    label = f"{_colour(grey)}{{}}{escape_latex(row.label)}" if grey else escape_latex(row.label)
    pairs = list(zip(row.cells, columns, strict=True))
    numbers = [_number(cell, column, grey=grey or column.oracle) for cell, column in pairs]
    spreads = [cell.beside(column.digits) if cell and not grey else ("",) * 3 for cell, column in pairs]
    below = [kind for kind in zip(*spreads, strict=True) if any(kind)]
    yield _line(label, numbers) + ("[-1pt]" if below else "")
    for index, kind in enumerate(below):
        small = [
            f"{{\\scriptsize{_colour(column.oracle)} {escape_latex(spread)}}}" if spread else "{}"
            for spread, column in zip(kind, columns, strict=True)
        ]
        yield _line("", small) + ("[-1pt]" if index + 1 < len(below) else "")


def _line(label: str, cells: Sequence[str]) -> str:
    if label.startswith("["):  # which the end of the line before would take for its own argument
        label = f"{{}}{label}"
    return " & ".join((label, *cells)) + r" \\"


def _number(cell: PaperCell | None, column: PaperColumn, *, grey: bool) -> str:
    if cell is None:
        return f"{{{_colour(grey)}{{}}--}}"
    number = f"{cell.value:.{column.digits}f}"
    tied = r"\rlap{$^\dagger$}" if cell.tied else ""
    if grey:
        return f"{{\\color{{gray}}{number}}}"
    if cell.mark == "second":
        return f"{{\\underline{{{number}}}{tied}}}"
    if tied:
        return f"{{{number}{tied}}}"
    return f"\\bfseries {number}" if cell.mark == "best" else number


def _colour(grey: bool) -> str:
    return r"\color{gray}" if grey else ""


def _format(table: PaperTable, index: int) -> str:
    """How many digits siunitx is to keep room for, such as `3.1`."""
    column = table.columns[index]
    values = [cell.value for row in table.rows if (cell := row.cells[index]) and isfinite(cell.value)]
    whole = max((len(f"{abs(value):.0f}") for value in values), default=1)
    return f"{whole}.{column.digits}"
