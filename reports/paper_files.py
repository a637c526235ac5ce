"""The tables of a paper as files: CSV to compute with, Markdown to read, LaTeX to print."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..results.files import slug, write_file
from .latex import document, latex
from .markdown import markdown
from .paper_table import PaperTable, tidy


def write_tables(tables: Sequence[PaperTable], folder: Path, published: pd.DataFrame | None = None) -> list[Path]:
    """Writes each table as CSV and as LaTeX, all of them as one Markdown page and one LaTeX document.

    Args:
        tables: By `paper_tables`.
        folder: Where they go.
        published: The findings of `reports.published.compare_with_published`, to be kept beside them with its reasons.

    Returns:
        The files.
    """
    files = []
    names = [slug(table.name) for table in tables]
    for name, table in zip(names, tables, strict=True):
        csv, tex = folder / f"{name}.csv", folder / f"{name}.tex"
        write_file(csv, tidy(table).to_csv(index=False))
        write_file(tex, latex(table))
        files += [csv, tex]
    page, whole = folder / "tables.md", folder / "tables.tex"
    write_file(page, "\n".join(markdown(table) for table in tables))
    write_file(whole, document(names))
    files += [page, whole]
    if published is not None and len(published):
        quoted = folder / "published.csv"
        write_file(quoted, published.assign(reasons=published["reasons"].map("; ".join)).to_csv(index=False))
        files.append(quoted)
    return files
