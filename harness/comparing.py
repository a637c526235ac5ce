"""How the methods of a run compare: every two of them, and their ranking, under every threshold policy."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from ..results.tables import COMPARISON_CONVENTION, COMPARISONS, HEADLINE, RANK_CONVENTION, RANKS, headline, table
from .statistics import bootstrap_mean, case_table, compare, rank_stability


class Comparison(NamedTuple):
    """All pairs of methods, and each method's rank, by dataset and policy."""

    comparisons: pd.DataFrame
    ranks: pd.DataFrame


def compare_methods(cases: pd.DataFrame) -> Comparison:
    """Compares the DICE of methods that have been run on the same dataset; oracles are never compared.

    Args:
        cases: Of a whole run.

    Returns:
        Rows for every policy that two methods or more have, and for `HEADLINE`: each method at the mask it makes
        itself, or at `valid_dice`.
    """
    comparisons, ranks = [table([], COMPARISONS)], [table([], RANKS)]
    for dataset, rows in cases[~cases["oracle"]].groupby("dataset", sort=False):
        entries = {HEADLINE: headline(rows)} | dict(list(rows.groupby("policy", sort=False)))
        for policy, chosen in entries.items():
            methods = case_table(chosen)
            if methods.shape[1] < 2:
                continue
            pairs = compare(methods)
            ranking = rank_stability(methods, pairs).join(_means(methods), on="method").sort_values("rank")
            names = {"dataset": dataset, "policy": policy}
            comparisons.append(pairs.assign(**names, convention=COMPARISON_CONVENTION)[list(COMPARISONS)])
            ranks.append(ranking.assign(**names, convention=RANK_CONVENTION)[list(RANKS)])
    return Comparison(pd.concat(comparisons, ignore_index=True), pd.concat(ranks, ignore_index=True))


def _means(methods: pd.DataFrame) -> pd.DataFrame:
    """Each method's mean over the cases that all methods have, with its interval over patients."""
    complete = methods.dropna()
    patients = complete.index.get_level_values("patient")
    intervals = [bootstrap_mean(complete[method].to_numpy(), patients.tolist()) for method in complete]
    low, high = np.array(intervals, float).reshape(-1, 2).T
    counts = {"cases": len(complete), "patients": patients.nunique()}
    return pd.DataFrame({"mean": complete.mean(), "ci_low": low, "ci_high": high, **counts}, index=complete.columns)
