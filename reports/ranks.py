"""Which methods lead and which are tied: the ranking of a run under one threshold policy, with its uncertainty."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from ..results.extent import Extent
from ..results.tables import FEW_PATIENTS
from .fitting import Column, FittedTable
from .names import short_names
from .spread import FEW, FEW_NOTE
from .tables import caption, data_notes

SHARED_RANKS = "Half a rank, such as 1.5: methods with the same DICE share the mean of their ranks."
REGRET = (
    "regret: DICE of oracle_dice, which chooses its threshold on the test set's own masks, minus the policy's. The "
    "lower it is, the less the choice of the threshold costs."
)
RegretRows = tuple[pd.DataFrame, pd.DataFrame, float]
_NAMED = 3  # methods, before they are counted
_SIGNIFICANCE = 0.05  # of the tests in `comparisons`


def comparison_tables(
    ranks: pd.DataFrame,
    comparisons: pd.DataFrame,
    policy: str,
    *,
    pairs: bool = False,
    measured: Mapping[str, Extent] | None = None,
) -> RenderableType:
    """Renders how the methods of a run compare, dataset by dataset.

    Args:
        ranks: A table with the columns `results.tables.RANKS`.
        comparisons: A table with the columns `results.tables.COMPARISONS`.
        policy: A threshold policy that both tables have.
        pairs: Whether to show every pair of methods too.
        measured: How much of each dataset was measured, by `results.extent.extents`.
    """
    parts: list[RenderableType] = []
    names = short_names(ranks["dataset"])
    for name, ranking in ranks[ranks["policy"] == policy].groupby("dataset", sort=False):
        dataset, short = str(name), names[str(name)]
        extent = (measured or {}).get(dataset)
        of_dataset = comparisons[(comparisons["policy"] == policy) & (comparisons["dataset"] == dataset)]
        parts.append(_rank_table(short, policy, ranking, caption(dataset, short, extent)))
        if pairs:
            parts.append(_pair_table(of_dataset))
        if (ranking["patients"] < FEW_PATIENTS).any():
            parts.append(Text(FEW_NOTE, style="dim"))
        if (ranking[["rank", "rank_low", "rank_high"]] % 1 > 0).any(axis=None):
            parts.append(Text(SHARED_RANKS, style="dim"))
        parts += [Text(sentence) for sentence in ranks_in_words(ranking, of_dataset)]
        parts += data_notes(extent)
        parts.append(Text())
    return Group(*parts)


def regret_tables(
    regrets: Mapping[str, RegretRows], policy: str, measured: Mapping[str, Extent] | None = None
) -> RenderableType:
    """Renders what choosing a threshold costs each method, and whether that differs between methods.

    Args:
        regrets: By dataset: each method's mean regret, every two methods, and the p-value of all together, as
            `harness.analysis.ranks.RegretComparison` has them.
        policy: The policy that all are of.
        measured: How much of each dataset was measured, by `results.extent.extents`.
    """
    parts: list[RenderableType] = []
    names = short_names(list(regrets))
    for dataset, (means, pairs, p) in regrets.items():
        short = names[dataset]
        columns = [Column("method", "label"), Column("regret"), Column("95 % interval")]
        table = FittedTable(
            f"{short}: regret of {policy}", columns, caption(dataset, short, (measured or {}).get(dataset))
        )
        for method, row in means.iterrows():
            few = row["patients"] < FEW_PATIENTS
            table.add_row(str(method), f"{row['mean']:+.3f}", _span(row["ci_low"], row["ci_high"], "{:+.3f}", few=few))
        parts += [table, _pair_table(pairs)]
        parts += [Text(sentence) for sentence in regrets_in_words(pairs, p, policy)]
        parts.append(Text())
    parts.append(Text(REGRET, style="dim"))
    return Group(*parts)


def regrets_in_words(pairs: pd.DataFrame, p: float, policy: str) -> Iterator[str]:
    """Says whether the regret differs between methods, and how small a difference could have been found.

    Args:
        pairs: Every two methods of a dataset.
        p: The p-value of all methods together; NaN where it was not tested.
        policy: The policy.
    """
    methods = len({*pairs["method_a"], *pairs["method_b"]})
    count = pairs["patients"].iloc[0]
    patients = f"{count} {'patient' if count == 1 else 'patients'}"
    if pd.notna(p):
        verdict = "differs" if p < _SIGNIFICANCE else "is not shown to differ"
        yield (
            f"The regret of {policy} {verdict} between the {methods} methods: p = {p:.2g} by Friedman's test on "
            f"patient means, {patients}."
        )
    apart = pairs[~pairs["tied"]]
    for row in apart.to_dict("records"):
        less, more = ("method_a", "method_b") if row["difference"] < 0 else ("method_b", "method_a")
        yield f"{row[less]} loses less than {row[more]}, by {abs(row['difference']):.3f} (p {row['p_holm']:.2g})."
    if apart.empty:
        yield "No two methods can be told apart by their regret."
    yield f"{pairs['test'].iloc[0]}; {patients}. Tests of other policies are not corrected for."
    if few := _too_few(count, len(pairs)):
        yield few
    if pairs["detectable"].notna().any():
        found = _detectable(pairs["detectable"], "pair")
        correction = ", before the correction" if len(pairs) > 1 else ""
        yield f"With so many patients, the test finds a true difference of {found} in four of five cases{correction}."


def ranks_in_words(ranking: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    """Says which methods lead, which are tied with the best, and how far the data go, a sentence at a time.

    Args:
        ranking: One dataset's and policy's rows of `results.tables.RANKS`, best first.
        pairs: The same of `results.tables.COMPARISONS`.
    """
    best = ranking.iloc[0]
    tied = ranking.loc[ranking["tied_with_best"] & (ranking["method"] != best["method"]), "method"].tolist()
    behind = ranking.loc[~ranking["tied_with_best"], "method"].tolist()
    share = f", and is first in {best['share_first']:.0%} of resamples" if pd.notna(best["share_first"]) else ""
    yield f"{best['method']} has the highest DICE ({best['mean']:.3f}{share})."
    if tied:
        yield f"The data cannot separate it from {_listed(tied)}: tied."
    if behind:
        yield f"It is better than {_listed(behind) if len(behind) <= _NAMED else f'the other {len(behind)} methods'}."
    first = pairs.iloc[0]
    patients = f"{first['patients']} {'patient' if first['patients'] == 1 else 'patients'}"
    images = f"{first['cases']} {'image' if first['cases'] == 1 else 'images'}"
    yield f"{first['test']}; {patients}, {images} that all methods have."
    if few := _too_few(first["patients"], len(pairs)):
        yield few
    with_best = pairs[(pairs["method_a"] == best["method"]) | (pairs["method_b"] == best["method"])]
    if with_best["detectable"].notna().any():
        found = _detectable(with_best["detectable"], "method")
        power = f"With so many patients, the test finds a true difference to it of {found} in four of five cases."
        if len(pairs) > 1:
            power += " The correction for many pairs, left out of this number, makes it find fewer."
        yield power


def _too_few(patients: int, pairs: int) -> str:
    """Says where no result of the test could tell two methods apart; empty where one could."""
    # A signed-rank test's smallest p, two-sided, when all patients favour the same method.
    if pairs * 2.0 ** (1 - int(patients)) < _SIGNIFICANCE:
        return ""
    return (
        f"{'1 patient is' if patients == 1 else f'{patients} patients are'} too few for "
        f"{f'{pairs} pairs' if pairs > 1 else 'this test'}: even "
        "where every patient favours the same method, the two are tied. "
        + ("Fewer methods make fewer pairs." if pairs > 1 else "Only more patients can tell them apart.")
    )


def _detectable(differences: pd.Series, what: str) -> str:
    """The smallest differences that could have been found: one number, or a range that depends on something."""
    least, most = (f"{one:.3f}" for one in (differences.min(), differences.max()))
    return least if least == most else f"{least} to {most}, depending on the {what},"


def _rank_table(dataset: str, policy: str, ranking: pd.DataFrame, caption: str) -> FittedTable:
    columns = [Column("rank", "label"), Column("method", "label")]
    columns += map(Column, ("DICE", "95 % interval", "ranks 95 %", "first in", "tied with best"))
    table = FittedTable(f"{dataset}: DICE of {policy}, ranked", columns, caption)
    for row in ranking.to_dict("records"):
        table.add_row(
            f"{row['rank']:g}",
            row["method"],
            f"{row['mean']:.3f}",
            _span(row["ci_low"], row["ci_high"], "{:.3f}", few=row["patients"] < FEW_PATIENTS),
            _span(row["rank_low"], row["rank_high"], "{:g}"),
            f"{row['share_first']:.0%}" if pd.notna(row["share_first"]) else "–",
            "tied" if row["tied_with_best"] and row["rank"] > ranking["rank"].min() else "",
        )
    return table


def _pair_table(pairs: pd.DataFrame) -> FittedTable:
    columns = [Column("method", "label"), Column("and", "label")]
    columns += map(Column, ("difference", "95 % interval", "p", "p (Holm)", "effect", "detectable", ""))
    table = FittedTable("every two methods", columns)
    for row in pairs.to_dict("records"):
        table.add_row(
            row["method_a"],
            row["method_b"],
            f"{row['difference']:+.3f}",
            _span(row["ci_low"], row["ci_high"], "{:+.3f}"),
            *(_number(row[name], "{:.2g}") for name in ("p", "p_holm")),
            _number(row["effect"], "{:+.2f}"),
            _number(row["detectable"], "{:.3f}"),
            "tied" if row["tied"] else "",
        )
    return table


def _span(low: float, high: float, form: str, *, few: bool = False) -> str:
    known = pd.notna(low) and pd.notna(high)
    return f"{form.format(low)} to {form.format(high)}{FEW if few else ''}" if known else "–"


def _number(value: float, form: str) -> str:
    return form.format(value) if pd.notna(value) else "–"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
