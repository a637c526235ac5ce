"""`bench compare`."""

from pathlib import Path

import click
from upath import UPath

from .options import RESULTS, LocalPath, complete_run


@click.command(
    epilog="""\b
Examples:
  bench compare brain_mri-1a2b3c4d brain_mri-5e6f7a8b
  bench compare before/brain_mri-1a2b3c4d latest --all
  bench compare brain_mri-1a2b3c4d latest --csv differences.csv
""",
)
@click.argument("a", metavar="A", shell_complete=complete_run)
@click.argument("b", metavar="B", shell_complete=complete_run)
@RESULTS
@click.option("--all", "everything", is_flag=True, help="Every metric and threshold policy.")
@click.option(
    "--csv",
    type=LocalPath(dir_okay=False),
    metavar="FILE",
    help="Also write every difference to this file.",
)
def command(a: str, b: str, results: UPath, everything: bool, csv: Path | None) -> None:
    """Show by how much the scores of run B differ from those of run A, and what else differs.

    Methods are matched by name, on the datasets that both runs have. Where the images are the same, each difference has
    a 95 % interval, from the differences image by image. Without --all this shows the DICE of each method's own masks,
    or of valid_dice's, the AUROC of pixels and of images, and the time per image. A and B are a run's folder, its name,
    the beginning of its name, or `latest`.
    """
    import pandas as pd

    from ...reports.marks import label_notes, with_labels
    from ...reports.run_difference import change_table, difference_tables
    from ...results.extent import extents
    from ...results.metrics import METRICS
    from ...results.store import find_run
    from ...results.tables import headline
    from ..analysis.run_difference import compare_runs
    from ..api import UsageError
    from ..safe_files import write_named
    from .console import console, print_doubts, print_unfinished

    runs = find_run(a, results), find_run(b, results)
    if runs[0].folder.resolve() == runs[1].folder.resolve():
        raise UsageError(f"A and B are both the run {runs[0].folder}. Name another one; bench list runs shows them.")
    scores, changes, alone, doubts = compare_runs(*runs)
    if scores.empty:
        raise UsageError(
            f"{runs[0].name} and {runs[1].name} have no method on the same dataset in common: there is nothing to "
            "compare. bench list runs shows what each has measured."
        )
    shown = scores
    if not everything:
        short = scores[scores["metric"].isin([one.name for one in METRICS.values() if one.headline])]
        masks, maps = headline(short), short[short["policy"] == "none"]
        shown = pd.concat([masks, maps]).sort_values(["dataset", "method"], kind="stable")
    measured = [extents([run.read()], run.cases(), run.scores()) for run in runs]
    both = pd.concat([run.scores() for run in runs])
    console.print(difference_tables(with_labels(shown, both), [run.name for run in runs], measured))
    for note in label_notes(both[both["method"].isin(shown["method"])]):
        console.print(note, style="dim", soft_wrap=True)
    console.print(change_table(changes))
    print_doubts(doubts)
    print_unfinished(runs)
    for reason in alone:
        console.print(reason, style="yellow", markup=False)
    if csv:
        write_named(csv, scores.to_csv(index=False))
        console.print(f"{csv.resolve()}", soft_wrap=True)
