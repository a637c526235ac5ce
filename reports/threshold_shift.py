"""What thresholds that were chosen on another dataset do: a table for each dataset that they are applied to."""

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from .fitting import Column, FittedTable
from .names import short_names
from .spread import FEW, FEW_NOTE

_NOTE = Text(
    "own: the threshold is chosen on the dataset's own validation images; other: on those of the other dataset, by the "
    "same method. Change: other minus own, with its 95 % interval over the patients of the test set. False positives: "
    "share of the foreground pixels of normal test images.",
    style="dim",
)


def shift_report(shift: pd.DataFrame) -> RenderableType:
    """Renders a table for each dataset.

    Args:
        shift: By `threshold_shift` of the analysis.
    """
    names = short_names([*shift["dataset"], *shift["threshold_from"]])
    source = names[str(shift["threshold_from"].iloc[0])]
    parts: list[RenderableType] = []
    for dataset, rows in shift.groupby("dataset", sort=False):
        parts.append(_table(names[str(dataset)], source, rows[rows["dice_own"].notna()]))
        left_out = rows[rows["dice_own"].isna() & (rows["note"] != "")]
        parts += [Text(f"{row.method}, {row.policy} {row.note}.", style="dim") for row in left_out.itertuples()]
    unchanged = shift[shift["note"].str.startswith("unchanged")].drop_duplicates("policy")
    parts += [Text(f"{row.policy} is {row.note}.", style="dim") for row in unchanged.itertuples()]
    parts.append(_NOTE)
    if shift["few_patients"].any():
        parts.append(Text(FEW_NOTE, style="dim"))
    return Group(*parts)


def _table(dataset: str, source: str, rows: pd.DataFrame) -> FittedTable:
    columns = [Column("method", "label"), Column("policy", "label")]
    titles = ("DICE own", "DICE other", "change", "95 % interval", "false positives own", "false positives other")
    columns += map(Column, titles)
    table = FittedTable(f"{dataset}: thresholds chosen on {source} instead of its own validation images", columns)
    for method, of_method in rows.groupby("method", sort=False):
        for number, row in enumerate(of_method.to_dict("records"), start=1):
            named = str(method) if number == 1 else "", row["policy"]
            if row["note"].startswith("unchanged"):
                cells = (f"{row['dice_own']:.3f}", "unchanged", "", "", _share(row["fpr_own"]), "")
            else:
                change = f"{row['difference']:+.3f}"
                rates = _share(row["fpr_own"]), _share(row["fpr_other"])
                cells = (f"{row['dice_own']:.3f}", f"{row['dice_other']:.3f}", change, _interval(row), *rates)
            table.add_row(*named, *cells, end_section=number == len(of_method))
    return table


def _interval(row: dict) -> str:
    low, high = row["difference_low"], row["difference_high"]
    return f"{low:+.2f} to {high:+.2f}{FEW if row['few_patients'] else ''}" if pd.notna(low) else ""


def _share(rate: float) -> str:
    return f"{100 * rate:.3g} %" if pd.notna(rate) else "–"
