"""`bench report`."""

from pathlib import Path

import click
from upath import UPath

from .options import MOVED, RESULTS, LocalPath, complete_policy, complete_run


@click.command(
    epilog="""\b
Examples:
  bench report latest --out paper
  bench report brain_mri-1a2b3c4d liver_ct-5e6f7a8b --out paper --published
  bench report old new --prefer new --policy valid_dice --out paper
""",
)
@click.argument("runs", nargs=-1, metavar="RUN…", shell_complete=complete_run)
@RESULTS
@click.option("--out", type=LocalPath(file_okay=False), required=True, help="The folder for tables and figures.")
@click.option(
    "--policy",
    metavar="NAME",
    shell_complete=complete_policy,
    help="Whose masks to report.  [default: each method's own, or those of valid_dice]",
)
@click.option("--published", is_flag=True, help="Also what papers have published of the same methods, in rows apart.")
@click.option(
    "--prefer",
    metavar="RUN",
    shell_complete=complete_run,
    help="Which run to take where several have measured the same.",
)
@MOVED
def command(
    runs: tuple[str, ...],
    results: UPath,
    out: Path,
    policy: str | None,
    published: bool,
    prefer: str | None,
    moved: tuple[str, ...],
) -> None:
    """Write the tables and figures of a paper from one RUN or several.

    A page to look at, report.html, which needs no other file; tables as CSV, Markdown and LaTeX; figures as PDF and
    PNG. The galleries show each method's best, median and worst anomalous case by DICE; they and the page's cases need
    the datasets, where they were when the run was made or where --dataset says.

    Several runs are joined; where two have measured the same images with the same method, seed and size, nothing is
    chosen silently: say --prefer. RUN is a run's folder, its name, the beginning of its name, or `latest`, which it is
    when none is given.
    """
    from ...results.store import find_run
    from ..analysis.doubts import doubts
    from ..analysis.recorded import moved_datasets
    from ..front.report import write_report
    from .console import console, print_doubts, print_unfinished, stage_status

    stores = [find_run(name, results) for name in runs or ("latest",)]
    preferred = None
    if prefer:  # a run that was named by its folder need not be among the results
        preferred = {run.name: run for run in stores}.get(prefer) or find_run(prefer, results)
    places = moved_datasets(moved, list(dict.fromkeys(name for run in stores for name in run.read().datasets)))
    with stage_status() as progress:
        written = write_report(
            stores, out, policy=policy, published=published, preferred=preferred, moved=places, progress=progress
        )
    print_doubts(doubt for run in stores for doubt in doubts(run))
    print_unfinished(stores)
    for sentence in written.advice:
        console.print(sentence, style="yellow", soft_wrap=True)
    for why in written.without_gallery:
        console.print(f"No gallery of {why.removesuffix('.')}.", style="yellow", soft_wrap=True)
    for file in written.files:
        console.print(f"{file.resolve()}", soft_wrap=True)
