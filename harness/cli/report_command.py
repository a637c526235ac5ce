"""`bench report`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from upath import UPath

from .options import MOVED, RESULTS, LocalPath, complete_policy, complete_run

if TYPE_CHECKING:
    import pandas as pd

    from ...results.store import RunStore
    from ..analysis.case_images import FramedImages


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
@click.option("--out", type=LocalPath(file_okay=False), required=True, help="Where tables and figures go.")
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
    from ...reports.figures import paper_figures
    from ...reports.files import write_tables
    from ...reports.fonts import font_advice
    from ...reports.galleries import galleries
    from ...reports.html import write_html
    from ...reports.names import short_names
    from ...reports.paper_tables import paper_tables
    from ...reports.thresholds import threshold_figure
    from ...results.extent import extents, unfinished
    from ...results.joining import join_runs
    from ...results.store import find_run
    from ...results.tables import HEADLINE, masks_by
    from ..analysis.doubts import doubts
    from ..analysis.ranks import compare_methods
    from ..analysis.recorded import moved_datasets
    from ..api import UsageError
    from ..registry import suggest
    from .console import console, print_doubts, print_unfinished, stage_status

    stores = [find_run(name, results) for name in runs or ("latest",)]
    preferred = None
    if prefer:  # a run that was named by its folder need not be among the results
        preferred = {run.name: run for run in stores}.get(prefer) or find_run(prefer, results)
    wanted = policy or HEADLINE
    places = moved_datasets(moved, list(dict.fromkeys(name for run in stores for name in run.read()["datasets"])))
    with stage_status() as report:
        report("reading", 0, 0)
        joined = join_runs(stores, preferred)
        cases, scores, curves = (table.drop(columns="run") for table in joined)
        dice = scores[(scores["metric"] == "dice") & scores["value"].notna()]
        legal = dice.loc[~dice["oracle"], "policy"].unique()
        if not len(legal):
            raise UsageError(
                f"No cell of {', '.join(run.name for run in stores)} on a dataset with lesion masks has finished: "
                "nothing to report."
            )
        if masks_by(dice, wanted).empty:
            raise UsageError(f"No method has masks by {wanted!r}, or they are an oracle's. {suggest(wanted, legal)}")
        report("finding images", 0, 0)
        images, missing = _images(stores, places)
        report("comparing methods", 0, 0)
        comparison = compare_methods(cases)
        ranks = comparison.ranks
        quoted = _quoted(joined.scores, stores) if published else None
        measured = extents([run.read() for run in stores], cases, scores)
        short = short_names(scores["dataset"])
        remarks = [f"{sentence}." for sentence in unfinished(stores)]
        report("writing tables", 0, 0)
        tables = paper_tables(scores, ranks, wanted, quoted, measured, remarks)
        files = write_tables(tables, out / "tables", quoted)
        report("drawing figures", 0, 0)
        files += paper_figures(cases, scores, curves, ranks, wanted, out / "figures")
        datasets = [str(name) for name in curves["dataset"].unique()]
        for done, dataset in enumerate(datasets):
            report("drawing thresholds", done, len(datasets))
            title = f"{short[dataset]}: {measured[dataset].counts}"
            drawn = threshold_figure(curves, scores, dataset, out / "figures", title)
            files += [drawn.with_suffix(".pdf"), drawn]
        report("drawing galleries", 0, 0)
        shown = masks_by(joined.cases, wanted)
        pictures, undrawn = galleries(shown, {run.name: run for run in stores}, images, out / "figures")
        report("writing report.html", 0, 0)
        page = out / "report.html"
        embedded = [file for file in files if file.suffix == ".png"]
        write_html(page, stores, joined, comparison, wanted, embedded, images, measured, remarks)
        files = [page, *files, *pictures]
    print_doubts(doubt for run in stores for doubt in doubts(run))
    if quoted is not None and quoted.empty:
        console.print("No published numbers are known of what was measured.")
    print_unfinished(stores)
    if advice := font_advice([*short, *scores["method"].unique()]):
        console.print(advice, style="yellow", soft_wrap=True)
    for why in missing + undrawn:
        console.print(f"No gallery of {why.removesuffix('.')}.", style="yellow", soft_wrap=True, markup=False)
    for file in files:
        console.print(f"{file.resolve()}", soft_wrap=True)


def _images(
    stores: "Sequence[RunStore]", moved: Mapping[str, str]
) -> "tuple[dict[tuple[str, str], FramedImages], list[str]]":
    """What reads the test images of each run's datasets, and why those of some cannot be had."""
    from ..analysis.case_images import framed_images

    images, missing = {}, []
    for run in stores:
        found, absent = framed_images(run, moved)
        images |= {(run.name, name): read for name, read in found.items()}
        missing += [f"{name}: {why}" for name, why in absent.items()]
    return images, missing


def _quoted(scores: "pd.DataFrame", stores: "Sequence[RunStore]") -> "pd.DataFrame":
    """What was published of what each run measured: a number is comparable or not by the run it stands beside."""
    import pandas as pd

    from ...reports.published import compare
    from ...results.published_numbers import published

    known = published()
    return pd.concat([compare(run.read(), scores[scores["run"] == run.name], known) for run in stores])
