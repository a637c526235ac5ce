"""`bench stats`."""

import click
from upath import UPath

from .options import RESULTS, RUN, complete_policy


@click.command(
    epilog="""\b
Examples:
  bench stats latest
  bench stats latest --policy valid_dice --pairs
  bench stats latest --methods mias_sam,patchcore
  bench stats latest --policy valid_dice --regret
""",
)
@RUN
@RESULTS
@click.option(
    "--policy",
    shell_complete=complete_policy,
    metavar="NAME",
    help="Whose masks to compare.  [default: each method's own, or those of valid_dice]",
)
@click.option(
    "--methods", metavar="NAMES", help="Only these methods, separated by commas; tests are corrected for their pairs."
)
@click.option("--pairs", is_flag=True, help="Show every two methods: difference, interval, p, effect.")
@click.option(
    "--regret", is_flag=True, help="Show instead what choosing a threshold costs each method, and whether that differs."
)
def command(run: str, results: UPath, policy: str | None, methods: str | None, pairs: bool, regret: bool) -> None:
    """Say which methods of RUN lead and which are tied.

    Methods are compared on the same images, by patients. RUN is a run's folder, its name, the beginning of its name, or
    `latest`. The numbers of all methods are in the run's ranks.csv and comparisons.csv.
    """
    from ...reports.marks import label_notes, with_labels
    from ...reports.ranks import comparison_tables, regret_tables
    from ...reports.tables import default_policy
    from ...results.extent import extents
    from ...results.store import find_run
    from ...results.tables import HEADLINE, may_be_ranked
    from ..analysis.ranks import compare_methods, compare_regrets
    from ..api import UsageError
    from ..specs import split_list, suggest
    from .console import console, print_unfinished

    store = find_run(run, results)
    ranks, comparisons, cases = store.ranks(), store.comparisons(), store.cases()
    if methods:
        chosen = split_list(methods)
        unknown = [name for name in chosen if name not in set(cases["method"])]
        if unknown:
            raise UsageError(
                f"The run {store.name} has no {unknown[0]!r}. {suggest(unknown[0], cases['method'].unique())}"
            )
        cases = cases[cases["method"].isin(chosen)]
        comparisons, ranks = compare_methods(cases)
    masks = cases[~cases["oracle"] & cases["dice"].notna()]
    wanted, why = (policy, "") if policy or masks.empty else default_policy(masks)
    wanted = wanted or HEADLINE
    policies = {HEADLINE, *cases.loc[~cases["oracle"], "policy"]}
    if wanted not in policies:
        raise UsageError(f"The run {store.name} has no masks by {wanted!r} to compare. {suggest(wanted, policies)}")
    if ranks.empty:
        measured = ", ".join(sorted(with_labels(cases, cases)["method"].unique())) or "no method"
        unranked = len(may_be_ranked(cases)) < len(cases)
        raise UsageError(
            f"The run {store.name} has no two methods on the same dataset with lesion masks"
            f"{' that may be ranked' if unranked else ''}: there is nothing to compare. It measured {measured}; "
            "bench list runs shows the others."
        )
    if wanted not in set(ranks["policy"]):
        raise UsageError(f"No two methods have masks by {wanted!r}. {suggest(wanted, ranks['policy'].unique())}")
    measured = extents([store.read()], cases, store.scores())
    if regret:
        regrets = compare_regrets(cases, wanted)
        if not regrets:
            raise UsageError(
                f"The run {store.name} has no regret of two methods: it needs the masks of oracle_dice, which "
                f"bench score {store.folder} --thresholds all adds."
            )
        marked = {
            dataset: (with_labels(means.reset_index(), cases).set_index("method"), with_labels(pairs, cases), p)
            for dataset, (means, pairs, p) in regrets.items()
        }
        console.print(regret_tables(marked, wanted, measured))
    else:
        ranks, comparisons = with_labels(ranks, cases), with_labels(comparisons, cases)
        console.print(comparison_tables(ranks, comparisons, wanted, pairs=pairs, measured=measured))
    for note in filter(None, [why, *label_notes(cases)]):
        console.print(note, style="dim", soft_wrap=True)
    print_unfinished([store])
    console.print(f"Run {store.name}: ranks.csv and comparisons.csv in {store.folder.resolve()}", soft_wrap=True)
