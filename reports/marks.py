"""The marks behind the names of methods: which were made elsewhere, and which have seen more than the others may."""

from collections.abc import Iterator

import pandas as pd

from ..results.tables import may_be_ranked

_SAW = {"anomalous images": "saw anomalies", "the test set": "saw the test set"}
_NAMES = ("method", "method_a", "method_b")


def label(method: str, rows: pd.DataFrame) -> str:
    """A method's name for readers, with the marks that `label_notes` explains.

    Args:
        method: Its name.
        rows: Its rows of the table `scores` or `cases`.
    """
    told = [part for external in rows["external"].unique() for part in external.split("; ") if part]
    told += [mark for what, mark in _SAW.items() if rows["seen"].str.contains(what).any()]
    marked = f"{method} ({'; '.join(dict.fromkeys(told))})" if told else method
    return f"{marked} *" if rows["transductive"].any() else marked


def with_labels(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A table whose methods have their labels for names: what is drawn or printed of it shows the marks.

    Args:
        table: With the column `method`, or `method_a` and `method_b`.
        rows: The table `scores` or `cases` of the same run, or of several joined.
    """
    known = {str(method): label(str(method), own) for method, own in rows.groupby("method", sort=False)}
    columns = [name for name in _NAMES if name in table]
    return table.assign(**{name: table[name].map(lambda method: known.get(str(method), method)) for name in columns})


def label_notes(rows: pd.DataFrame) -> Iterator[str]:
    """What the marks mean, as far as there are any.

    Args:
        rows: Those of the table `scores` or `cases`, of the methods that are shown.
    """
    if rows["transductive"].any():
        yield "*: transductive, predictions depend on other test images."
    external = rows[rows["external"] != ""]
    if not external.empty:
        yield "Imported: predictions made elsewhere; runtime and memory, if shown, are told and not measured."
    if external["external"].str.contains("test cases").any():
        yield "A method with some of the test cases only has no bold number: the others have all."
    for (method, seen), own in external.groupby(["method", "seen"], sort=False):
        if len(may_be_ranked(own)) < len(own):
            more = " and ".join(what for what in _SAW if what in str(seen))
            yield f"Not ranked: {method} has seen {more}, and the ranked methods have not."
