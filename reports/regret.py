"""What a policy costs on each dataset: its mean regret over methods, and how many policies change the ranking."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from ..results.tables import by_chain
from .fitting import Column, FittedTable
from .names import policy_title, short_names
from .style import label_methods, legend, legend_height, listed_height, looks, panels, save
from .tables import ordered_policies
from .thresholds import policy_ranks

_WIDTH = 0.6  # of a policy's row, of 1, that the datasets share
_NOTE = "Regret: mean over methods ± their standard deviation; in brackets of how many, where not all have such masks."


def regret_table(table: pd.DataFrame) -> pd.DataFrame:
    """The regret of each policy on each dataset, over methods.

    Args:
        table: By `thresholds.threshold_table`.

    Returns:
        Index (`policy`, `dataset`), in the order in which policies are shown; columns `mean`, `std` (with the number of
        methods less one in its denominator), `count` (of methods) and `methods` (on the dataset). Oracles have none.
    """
    legal = table[~table["oracle"] & table["regret"].notna()]
    found = legal.groupby(["policy", "dataset"], sort=False)["regret"].agg(["mean", "std", "count"])
    methods = table.groupby("dataset")["method"].nunique()
    found["methods"] = methods.loc[found.index.get_level_values("dataset")].to_numpy()
    return found.reindex(ordered_policies(legal), level="policy") if len(found) else found


def regret_report(table: pd.DataFrame) -> RenderableType:
    """Renders the regret of policies by dataset, and a sentence for each dataset on its rankings.

    Args:
        table: By `thresholds.threshold_table`.
    """
    regrets, names = regret_table(table), short_names(table["dataset"])
    parts: list[RenderableType] = []
    if len(regrets):
        datasets = list(dict.fromkeys(table["dataset"]))
        columns = [Column("policy", "label"), *(Column(names[dataset]) for dataset in datasets)]
        shown = FittedTable("regret by dataset", columns, _NOTE)
        for policy in regrets.index.unique("policy"):
            cells = [regrets.loc[(policy, one)] if (policy, one) in regrets.index else None for one in datasets]
            shown.add_row(policy, *("–" if one is None else _cell(one) for one in cells))
        parts.append(shown)
    parts += [Text(sentence) for sentence in ranking_sentences(table)]
    return Group(*parts)


def ranking_sentences(table: pd.DataFrame) -> Iterator[str]:
    """Says of each dataset with two methods or more how many policies change their ranking.

    Args:
        table: By `thresholds.threshold_table`.
    """
    names = short_names(table["dataset"])
    for dataset, rows in table.groupby("dataset", sort=False):
        ranks, reference = policy_ranks(rows)
        if len(ranks) < 2 or ranks.shape[1] < 2:
            continue
        others = ranks.drop(columns=reference)
        best = others.eq(others.min()).ne(ranks[reference].eq(ranks[reference].min()), axis="index").any()
        moved = others.ne(ranks[reference], axis="index").any()
        yield (
            f"{names[str(dataset)]}: of {_counted(others.shape[1], 'other policy', 'other policies')}, {best.sum()} "
            f"{'has' if best.sum() == 1 else 'have'} another best method than {reference}, and {moved.sum()} "
            f"{'differs' if moved.sum() == 1 else 'differ'} from it in two places or more."
        )


def regret_figure(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the regret of each policy: a dot for each method, and their mean with the standard deviation.

    Args:
        table: By `thresholds.threshold_table`; there must be an oracle. Chains of post-processing are left out.
        folder: Where to write `regret.pdf` and `.png`.

    Returns:
        Both files.
    """
    table = by_chain(table)[""]
    regrets, names = regret_table(table), short_names(table["dataset"])
    policies = list(regrets.index.unique("policy"))
    datasets = list(dict.fromkeys(regrets.index.get_level_values("dataset")))
    known = looks([names[dataset] for dataset in datasets])
    height = listed_height(policies, len(policies) * -(-len(datasets) // 2)) + legend_height(list(known)) + 0.2
    with panels(1, 1, height, [""]) as (figure, axes):
        axis = axes[0]
        axis.axvline(0, color="0.4", linewidth=0.6)
        for place, dataset in enumerate(datasets):
            look, beside = known[names[dataset]], _WIDTH * ((place + 0.5) / len(datasets) - 0.5)
            for row, policy in enumerate(policies):
                own = table[(table["dataset"] == dataset) & (table["policy"] == policy)]["regret"]
                axis.plot(own, np.full(len(own), row + beside), ".", color=look.colour, markersize=2.5, alpha=0.6)
                if (policy, dataset) in regrets.index:
                    one = regrets.loc[(policy, dataset)]
                    spread = one["std"] if one["count"] > 1 else 0
                    drawn = {"color": look.colour, "marker": look.marker, "markersize": 4, "elinewidth": 0.8}
                    axis.errorbar(one["mean"], row + beside, xerr=spread, **drawn)
        label_methods(axis, [policy_title(policy) for policy in policies])
        axis.set_xlabel("regret: DICE of the oracle minus the policy's", loc="right")
        legend(figure, known, list(known), lines=False)
        return save(figure, folder, "regret")


def _cell(one: pd.Series) -> str:
    spread = f" ± {one['std']:.3f}" if one["count"] > 1 else ""
    return f"{one['mean']:+.3f}{spread}" + (f" ({one['count']:.0f})" if one["count"] < one["methods"] else "")


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
