"""The tables and figures of a paper, from one run or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...reports.false_positives import rate_figure
from ...reports.figures import paper_figures
from ...reports.fonts import font_advice
from ...reports.foregrounds import Foreground, foreground_figure, spread
from ...reports.galleries import galleries
from ...reports.html import write_html
from ...reports.names import short_names
from ...reports.paper_files import write_tables
from ...reports.paper_tables import paper_tables
from ...reports.published import compare_with_published
from ...reports.regret import regret_figure
from ...reports.tables import default_policy
from ...reports.thresholds import threshold_figure, threshold_table
from ...results.extent import extents, unfinished
from ...results.joining import join_runs
from ...results.published_numbers import published as read_published
from ...results.store import RunStore
from ...results.tables import masks_by
from ..analysis.case_images import FramedImages, framed_images
from ..analysis.post_masks import CaseMasks
from ..analysis.ranks import compare_methods
from ..analysis.recorded import NOWHERE_ELSE
from ..api import BenchError, Progress, UsageError
from ..safe_files import below
from ..specs import suggest


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk.

    Attributes:
        files: Every file of it; the first is the page to look at.
        without_gallery: Why there is no gallery of some dataset or method, a phrase each.
        advice: Sentences that the reader should know, such as letters that no font has.
    """

    files: list[Path]
    without_gallery: list[str]
    advice: list[str]


def write_report(
    runs: Sequence[RunStore],
    out: Path,
    *,
    policy: str | None = None,
    published: bool = False,
    preferred: RunStore | None = None,
    moved: Mapping[str, str] = NOWHERE_ELSE,
    progress: Progress = lambda *_: None,
) -> WrittenReport:
    """Writes a page to look at, tables as CSV, Markdown and LaTeX, and figures as PDF and PNG.

    Args:
        runs: They are joined.
        out: The folder to write to.
        policy: Whose masks to report; by default each method's own, or those of `valid_dice`.
        published: Whether to add what papers have published of the same methods, in rows apart.
        preferred: The run to take where several have measured the same.
        moved: Where datasets are now, by name.
        progress: Told about progress.

    Raises:
        UsageError: There is nothing to report, or no masks by this policy; or two runs have measured the same and none
            is preferred.
        ResultsError: A table is missing or damaged.
        OSError: The files cannot be written.
    """
    figures = below(out, "figures")
    progress("reading", 0, 0)
    joined = join_runs(runs, preferred)
    cases, scores, curves, volumes = (table.drop(columns="run") for table in joined)
    wanted, why = _policy(runs, scores, policy)
    progress("finding images", 0, 0)
    images, missing = _images(runs, moved)
    progress("comparing methods", 0, 0)
    comparison = compare_methods(cases)
    ranks = comparison.ranks
    quoted = _quoted(joined.scores, runs) if published else None
    measured = extents([run.read() for run in runs], cases, scores)
    short = short_names(scores["dataset"])
    remarks = [*(f"{sentence}." for sentence in unfinished(runs)), *filter(None, [why])]
    progress("writing tables", 0, 0)
    tables = paper_tables(scores, ranks, wanted, quoted, measured, remarks)
    files = write_tables(tables, below(out, "tables"), quoted)
    progress("drawing figures", 0, 0)
    files += paper_figures(cases, scores, curves, volumes, ranks, wanted, figures)
    datasets = [str(name) for name in curves["dataset"].unique()]
    for done, dataset in enumerate(datasets):
        progress("drawing thresholds", done, len(datasets))
        title = f"{short[dataset]}: {measured[dataset].counts}"
        for draw in (threshold_figure, rate_figure):
            if (drawn := draw(curves, scores, dataset, figures, title)) is not None:
                files += [drawn.with_suffix(".pdf"), drawn]
    regrets = threshold_table(scores)
    if regrets["regret"].notna().any():
        files += regret_figure(regrets, figures)
    foregrounds, undrawn_foregrounds = _foregrounds(images, short, figures, progress)
    files += foregrounds
    progress("drawing galleries", 0, 0)
    shown = masks_by(joined.cases, wanted)
    stores = {run.name: run for run in runs}
    masks = {key: CaseMasks(stores[key[0]], read) for key, read in images.items()}
    pictures, undrawn = galleries(shown, stores, images, figures, masks)
    progress("writing report.html", 0, 0)
    page = out / "report.html"
    embedded = [file for file in files if file.suffix == ".png"]
    write_html(page, runs, joined, comparison, wanted, embedded, images, measured, remarks, masks)
    advice = [why, font_advice([*short, *scores["method"].unique()])]
    if quoted is not None and quoted.empty:
        advice.append("No published numbers are known of what was measured.")
    return WrittenReport(
        [page, *files, *pictures], missing + undrawn + undrawn_foregrounds, [one for one in advice if one]
    )


def _foregrounds(
    images: Mapping[tuple[str, str], FramedImages], short: Mapping[str, str], folder: Path, progress: Progress
) -> tuple[list[Path], list[str]]:
    """Draws the foregrounds of each dataset where they are not all of the image; and why those of some are not."""
    files, missing = [], []
    by_dataset = {dataset: read for (_, dataset), read in images.items() if dataset in short}
    for done, (dataset, read) in enumerate(by_dataset.items()):
        progress("drawing foregrounds", done, len(by_dataset))
        try:
            found = read.foregrounds()
            chosen = [list(found)[place] for place in spread([one.mean() for one in found.values()])] if found else []
            shown = [Foreground(case, read(case).image, read(case).mask, found[case]) for case in chosen]
        except BenchError as error:
            missing.append(f"foreground of {dataset}: {error}")
            continue
        if shown:
            files += foreground_figure(dataset, f"{short[dataset]}: foreground ({read.rule})", shown, folder)
    return files, missing


def _policy(runs: Sequence[RunStore], scores: pd.DataFrame, asked: str | None) -> tuple[str, str]:
    """Whose masks are reported, and why, where that is not what the reader expects."""
    dice = scores[(scores["metric"] == "dice") & scores["value"].notna()]
    legal = dice[~dice["oracle"]]
    if legal.empty:
        raise UsageError(
            f"No cell of {', '.join(run.name for run in runs)} on a dataset with lesion masks has finished: nothing to "
            "report."
        )
    if asked is None:
        return default_policy(legal)
    if masks_by(legal, asked).empty:
        policies = legal["policy"].unique()
        raise UsageError(
            f"No method has masks by {asked!r}, or they are an oracle's. Choose whose masks are reported, such as "
            f"--policy {policies[0]}. {suggest(asked, policies)}"
        )
    return asked, ""


def _images(
    runs: Sequence[RunStore], moved: Mapping[str, str]
) -> tuple[dict[tuple[str, str], FramedImages], list[str]]:
    """Readers of the test images of each run's datasets, and the reasons why some cannot be read."""
    images, missing = {}, []
    for run in runs:
        found, absent = framed_images(run, moved)
        images |= {(run.name, name): read for name, read in found.items()}
        missing += [f"{name}: {why}" for name, why in absent.items()]
    return images, missing


def _quoted(scores: pd.DataFrame, runs: Sequence[RunStore]) -> pd.DataFrame:
    """What was published of what each run measured: a number is comparable or not by the run it stands beside."""
    known = read_published()
    return pd.concat([compare_with_published(run.read(), scores[scores["run"] == run.name], known) for run in runs])
