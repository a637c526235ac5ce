"""How the methods of a run compare: every two of them, and their ranking, under every threshold policy."""

from typing import NamedTuple

import pandas as pd

from ...results.metrics import METRICS
from ...results.seeds import OverSeeds, over_seeds
from ...results.tables import (
    COMPARISON_CONVENTION,
    COMPARISONS,
    HEADLINE,
    RANK_CONVENTION,
    RANKS,
    headline,
    masks_by,
    may_be_ranked,
    table,
    with_post,
    without_post,
)
from ..scoring.intervals import mean_interval
from .statistics import any_difference, case_table, compare, rank_stability, seed_table


class Comparison(NamedTuple):
    """All pairs of methods, and each method's rank, by dataset and policy."""

    comparisons: pd.DataFrame
    ranks: pd.DataFrame


class RegretComparison(NamedTuple):
    """Whether what choosing a threshold costs differs between the methods of a dataset.

    Attributes:
        means: Index method, the lowest regret first; columns `mean`, `ci_low`, `ci_high`, `cases` and `patients`.
        pairs: By `statistics.compare`, of regrets: below 0, the first of a pair loses less.
        p: That of Friedman's test of all methods; NaN with two methods or with two patients or fewer.
    """

    means: pd.DataFrame
    pairs: pd.DataFrame
    p: float


def compare_methods(cases: pd.DataFrame) -> Comparison:
    """Compares the DICE of methods that have been run on the same dataset.

    Oracles are never compared, nor are methods that have seen anomalous images or the test set.

    Args:
        cases: The table `cases` of a whole run.

    Returns:
        Rows for every policy that two methods or more have, and for `HEADLINE`: each method at the mask it makes
        itself, or at `valid_dice`.
    """
    comparisons, ranks = [table([], COMPARISONS)], [table([], RANKS)]
    for dataset, rows in may_be_ranked(cases[~cases["oracle"]]).groupby("dataset", sort=False):
        if rows["method"].nunique() < 2:
            continue
        chains = dict.fromkeys(["", *(without_post(policy)[1] for policy in rows["policy"].unique())])
        entries = {with_post(HEADLINE, chain): headline(rows, chain) for chain in chains}
        entries |= dict(list(rows.groupby("policy", sort=False)))
        for policy, chosen in entries.items():
            methods = case_table(chosen)
            if methods.shape[1] < 2:
                continue
            seeds = seed_table(chosen, methods)
            pairs = compare(methods, seeds, METRICS["dice"].range)
            means = _means(chosen, methods, "dice")
            ranking = rank_stability(methods, pairs, seeds).join(means, on="method").sort_values("rank")
            names = {"dataset": dataset, "policy": policy}
            comparisons.append(pairs.assign(**names, convention=COMPARISON_CONVENTION)[list(COMPARISONS)])
            ranks.append(ranking.assign(**names, convention=RANK_CONVENTION)[list(RANKS)])
    return Comparison(pd.concat(comparisons, ignore_index=True), pd.concat(ranks, ignore_index=True))


def compare_regrets(cases: pd.DataFrame, policy: str) -> dict[str, RegretComparison]:
    """Compares the regrets of methods under one policy: the DICE of `oracle_dice` less the policy's, image by image.

    Args:
        cases: The table `cases` of a run.
        policy: A legal policy, or `HEADLINE`.

    Returns:
        By dataset, where two methods or more have masks by the policy and by `oracle_dice`.
    """
    keys = ["dataset", "method", "seed", "case"]
    oracle = with_post("oracle_dice", without_post(policy)[1])
    best = cases.loc[cases["policy"] == oracle, [*keys, "dice"]].rename(columns={"dice": "best"})
    chosen = may_be_ranked(masks_by(cases, policy)).merge(best, on=keys)
    chosen["regret"] = chosen["best"] - chosen["dice"]
    found = {}
    for dataset, rows in chosen.groupby("dataset", sort=False):
        methods = case_table(rows, "regret")
        if methods.shape[1] < 2:
            continue
        pairs = compare(methods, seed_table(rows, methods, "regret"), METRICS["regret"].range)
        means = _means(rows, methods, "regret").sort_values("mean", kind="stable")
        found[str(dataset)] = RegretComparison(means, pairs, any_difference(methods))
    return found


def _means(cases: pd.DataFrame, methods: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each method's mean over the cases that all methods have, with its interval, by the rule for several seeds."""
    complete = methods.dropna().index
    kept = cases[cases["case"].isin(complete.get_level_values("case"))].dropna(subset=[metric])
    rows = []
    for (method, _), own in kept.groupby(["method", "seed"], sort=False):
        low, high, patients = mean_interval(own[metric].to_numpy(), own["patient"].tolist(), METRICS[metric].range)
        rows.append((method, metric, own[metric].mean(), low, high, patients))
    scores = pd.DataFrame(rows, columns=["method", "metric", "value", "ci_low", "ci_high", "patients"])
    found = {method: over_seeds(own) for method, own in scores.groupby("method", sort=False)}
    means = pd.DataFrame.from_dict(found, orient="index", columns=list(OverSeeds._fields)).reindex(methods.columns)
    counts = {"cases": len(complete), "patients": complete.get_level_values("patient").nunique()}
    return means.rename(columns={"value": "mean", "low": "ci_low", "high": "ci_high"}).assign(**counts)[
        ["mean", "ci_low", "ci_high", "cases", "patients"]
    ]
