"""How two runs differ, as tables to read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from ..results.extent import Extent
from ..results.metrics import METRICS
from .fitting import Column, FittedTable
from .names import short_names

_SIGNS = {1.0: ("better", "green"), 0.0: ("worse", "red")}


def difference_tables(
    scores: pd.DataFrame, names: Sequence[str], measured: Sequence[Mapping[str, Extent]] = ({}, {})
) -> RenderableType:
    """Renders differences, a table for each dataset.

    Args:
        scores: Columns `dataset`, `method`, `policy`, `metric`, `a`, `b`, `difference`, `ci_low`, `ci_high`, `better`.
        names: The names of the runs A and B.
        measured: How much of each dataset was measured in A and in B, by `results.extent.extents`.
    """
    parts: list[RenderableType] = [Text(f"A is {names[0]}\nB is {names[1]}\n")]
    short = short_names(scores["dataset"])
    for name, rows in scores.groupby("dataset", sort=False):
        columns = [Column(title, "label") for title in ("method", "metric", "masks")]
        columns += map(Column, ("A", "B", "B - A", "95 % interval"))
        dataset = str(name)
        shown = [*columns, Column("B is", "text")]
        table = FittedTable(short[dataset], shown, _caption(dataset, short[dataset], measured))
        before = None
        for row in rows.to_dict("records"):
            method, before = row["method"] if row["method"] != before else "", row["method"]
            table.add_row(method, row["metric"], _masks(row["policy"]), *_numbers(row), _sign(row))
        parts.append(table)
    parts.append(
        Text(
            "Seeds are averaged. An interval is of the mean difference image by image, over patients; where it does "
            "not contain 0, the last column says better or worse. For costs, the ratio B / A is shown."
        )
    )
    return Group(*parts)


def _caption(dataset: str, short: str, measured: Sequence[Mapping[str, Extent]]) -> str:
    extents = [f"{run}: {extent}." for run, own in zip("AB", measured, strict=True) if (extent := own.get(dataset))]
    return "\n".join([*([dataset] if dataset != short else []), *extents])


def change_table(changes: Iterable[tuple[str, str, str, str]]) -> RenderableType:
    """Renders what differs beside scores: where, what, in A, in B; the same change of several cells in one row."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for where, what, a, b in changes:
        merged.setdefault((what, a, b), []).append(where)
    if not merged:
        return Text("Nothing else differs: configuration, code, weights, data, versions and hardware are the same.")
    columns = [Column("what", "label"), *(Column(name, "text") for name in ("A", "B", "where"))]
    table = FittedTable("What else differs", columns)
    for (what, a, b), places in merged.items():
        where = "\n".join(places) if len(places) <= 3 else f"{places[0]}\nand {len(places) - 1} others"
        table.add_row(what, a, b, where)
    return table


def _masks(policy: str) -> str:
    return "" if policy == "none" else policy


def _numbers(row: Mapping[Any, Any]) -> tuple[str, ...]:
    a, b, difference, low, high = (row[name] for name in ("a", "b", "difference", "ci_low", "ci_high"))
    if row["metric"] in METRICS and METRICS[row["metric"]].kind == "cost":
        return f"{a:.1f}", f"{b:.1f}", f"× {b / a:.2f}" if a else "", ""
    interval = f"{low:+.3f} to {high:+.3f}" if pd.notna(low) else ""
    return f"{a:.3f}", f"{b:.3f}", f"{difference:+.3f}", interval


def _sign(row: Mapping[Any, Any]) -> Text:
    word, style = _SIGNS.get(row["better"], ("", ""))
    return Text(word, style)
