"""`bench thresholds`."""

from pathlib import Path

import click
from upath import UPath

from .options import RESULTS, RUN, LocalPath


@click.command(
    epilog="""\b
Examples:
  bench thresholds latest
  bench thresholds liver_ct-1a2b3c4d --out figures
""",
)
@RUN
@RESULTS
@click.option(
    "--out",
    type=LocalPath(file_okay=False),
    help="The folder for the figures and thresholds.csv.  [default: the folder figures of the run]",
)
def command(run: str, results: UPath, out: Path | None) -> None:
    """Show what choosing a threshold costs in RUN.

    For each method: DICE over all thresholds as a figure, with the point where each policy landed on validation and on
    test; each policy's regret, which is the oracle's DICE minus its own; and how the ranking of methods changes from
    policy to policy. RUN is a run's folder, its name, the beginning of its name, or `latest`.
    """
    from ...reports.fonts import font_advice
    from ...reports.names import short_names
    from ...reports.promises import promises
    from ...reports.thresholds import threshold_figure, threshold_report, threshold_table
    from ...results.extent import extents
    from ...results.files import ResultsError
    from ...results.store import find_run
    from ..api import UsageError
    from ..safe_files import below, write_whole
    from .console import console, print_unfinished, stage_status

    store = find_run(run, results)
    for file in store.changed_tables(("scores.parquet", "cases.parquet", "curves.parquet")):
        raise ResultsError(
            f"{file} of {store.name} is not what the run wrote: its checksum is another. bench score {store.folder} "
            "makes it again from the predictions."
        )
    scores, curves, folder = store.scores(), store.curves(), out or below(store.folder, "figures")
    if not isinstance(folder, Path):
        raise UsageError(f"Figures cannot be drawn into {folder}. Name a folder of this machine with --out.")
    table = threshold_table(scores)
    if table.empty:
        raise UsageError(
            f"The run {store.name} has no finished cell on a dataset with lesion masks: there are no thresholds "
            "to show."
        )
    noted = scores[scores["note"].str.startswith("left out")]
    measured = extents([store.read()], store.cases(), scores)
    console.print(threshold_report(table, noted[["policy", "note"]].drop_duplicates(), measured, promises(scores)))
    print_unfinished([store])
    short = short_names(scores["dataset"])
    if advice := font_advice([*short, *scores["method"].unique()]):
        console.print(advice, style="yellow", soft_wrap=True)
    with stage_status() as progress:
        progress("drawing", 0, 0)
        figures = [
            threshold_figure(curves, scores, dataset, folder, f"{short[dataset]}: {measured[dataset].counts}")
            for dataset in curves["dataset"].unique()
        ]
    write_whole(folder / "thresholds.csv", table.to_csv(index=False))
    for figure in figures:
        console.print(f"Figure: {figure.resolve()} (and .pdf)", soft_wrap=True)
    console.print(f"Table: {(folder / 'thresholds.csv').resolve()}", soft_wrap=True)
