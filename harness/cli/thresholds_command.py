"""`bench thresholds`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from upath import UPath

from .options import MOVED, RESULTS, RUN, LocalPath

if TYPE_CHECKING:
    import pandas as pd

    from ...results.store import RunStore


@click.command(
    epilog="""\b
Examples:
  bench thresholds latest
  bench thresholds liver_ct-1a2b3c4d --out figures
  bench thresholds latest --threshold-from brain_mri
  bench thresholds latest --validation-sizes 4,8,16,all
""",
)
@RUN
@RESULTS
@click.option(
    "--out",
    type=LocalPath(file_okay=False),
    help="The folder for the figures and tables.  [default: the folder figures of the run]",
)
@click.option(
    "--threshold-from",
    "source",
    metavar="DATASET",
    help="Also apply the thresholds that each method chose on the validation images of this dataset of the run to the "
    "test images of the others.",
)
@click.option(
    "--validation-sizes",
    "sizes",
    metavar="N,…",
    help="Also let policies choose thresholds on so many validation images, such as 4,8,16,all.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="With --validation-sizes: how often so many images are drawn.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With --validation-sizes: seed of the draws.",
)
@MOVED
def command(
    run: str,
    results: UPath,
    out: Path | None,
    source: str | None,
    sizes: str | None,
    draws: int,
    seed: int,
    moved: tuple[str, ...],
) -> None:
    """Show what choosing a threshold costs in RUN.

    For each method: DICE over all thresholds as a figure, with the point where each policy landed on validation and on
    test, and DICE over the false-positive rate on normal test images; each policy's regret, which is the oracle's DICE
    minus its own, also by dataset; and how the ranking of methods changes from policy to policy. RUN is a run's folder,
    its name, the beginning of its name, or `latest`.

    --threshold-from and --validation-sizes take new thresholds from the stored predictions; no method is run.
    """
    from ...reports.fonts import font_advice
    from ...reports.names import short_names
    from ...reports.thresholds import threshold_table
    from ...results.store import find_run
    from ..api import UsageError
    from ..safe_files import below, write_whole
    from .console import console, print_unfinished

    counts = None if sizes is None else _counts(sizes)
    if moved and source is counts is None:
        raise UsageError(
            "--dataset says where images are for --threshold-from and --validation-sizes: give one of them."
        )
    store = find_run(run, results)
    _require_unchanged(store)
    scores, folder = store.scores(), out or below(store.folder, "figures")
    if not isinstance(folder, Path):
        raise UsageError(f"Figures cannot be drawn into {folder}. Name a folder of this machine with --out.")
    tables = {"thresholds": threshold_table(scores)}
    if tables["thresholds"].empty:
        raise UsageError(
            f"The run {store.name} has no finished cell on a dataset with lesion masks: there are no thresholds "
            "to show."
        )
    if source is not None or counts is not None:
        tables |= _chosen_anew(store, moved, source, counts, draws, seed)
    _print_tables(store, scores, tables)
    print_unfinished([store])
    if advice := font_advice([*short_names(scores["dataset"]), *scores["method"].unique()]):
        console.print(advice, style="yellow", soft_wrap=True)
    for figure in _draw(store, scores, tables, folder):
        console.print(f"Figure: {figure.resolve()} (and .pdf)", soft_wrap=True)
    for name, content in tables.items():
        write_whole(folder / f"{name}.csv", content.to_csv(index=False))
        console.print(f"Table: {(folder / name).resolve()}.csv", soft_wrap=True)


def _require_unchanged(store: "RunStore") -> None:
    from ...results.files import ResultsError

    for file in store.changed_tables(("scores.parquet", "cases.parquet", "curves.parquet")):
        raise ResultsError(
            f"{file} of {store.name} is not what the run wrote: its checksum is another. bench score {store.folder} "
            "makes it again from the predictions."
        )


def _chosen_anew(
    store: "RunStore", moved: tuple[str, ...], source: str | None, counts: list[int] | None, draws: int, seed: int
) -> dict[str, "pd.DataFrame"]:
    """The tables of thresholds that are chosen on another dataset, or on fewer images."""
    from ...reports.names import short_names
    from ..analysis.recorded import moved_datasets
    from ..analysis.stored_cells import StoredRun
    from ..analysis.threshold_shift import threshold_shift
    from ..analysis.validation_sizes import validation_sizes
    from .console import stage_status

    tables = {}
    with stage_status() as progress:
        progress("opening datasets", 0, 0)
        stored = StoredRun(store, moved_datasets(moved, store.read().datasets), progress)
        if source is not None:
            whole = {name: dataset for dataset, name in short_names(store.scores()["dataset"]).items()}
            tables["threshold_shift"] = threshold_shift(stored, whole.get(source, source))
        if counts is not None:
            tables["validation_sizes"] = validation_sizes(stored, counts, draws, seed)
    return tables


def _print_tables(store: "RunStore", scores: "pd.DataFrame", tables: dict[str, "pd.DataFrame"]) -> None:
    from ...reports.marks import label_notes, with_labels
    from ...reports.promises import promises
    from ...reports.regret import regret_report
    from ...reports.threshold_shift import shift_report
    from ...reports.thresholds import threshold_report
    from ...reports.validation_sizes import sizes_report
    from ...results.extent import extents
    from ...results.metrics import METRICS
    from .console import console

    noted = scores[scores["note"].str.startswith("left out")]
    left_out = noted[noted["metric"].isin(list(METRICS))]
    measured = extents([store.read()], store.cases(), scores)
    console.print(threshold_report(with_labels(tables["thresholds"], scores), left_out, measured, promises(scores)))
    console.print(regret_report(tables["thresholds"]))
    for name, render in (("threshold_shift", shift_report), ("validation_sizes", sizes_report)):
        if name in tables:
            console.print(render(with_labels(tables[name], scores)))
    for note in label_notes(scores):
        console.print(note, style="dim", soft_wrap=True)


def _draw(store: "RunStore", scores: "pd.DataFrame", tables: dict[str, "pd.DataFrame"], folder: Path) -> list[Path]:
    from ...reports.false_positives import rate_figure
    from ...reports.marks import with_labels
    from ...reports.names import short_names
    from ...reports.regret import regret_figure
    from ...reports.thresholds import threshold_figure
    from ...reports.validation_sizes import sizes_figure
    from ...results.extent import extents
    from .console import stage_status

    curves, short = store.curves(), short_names(scores["dataset"])
    measured = extents([store.read()], store.cases(), scores)
    with stage_status() as progress:
        progress("drawing", 0, 0)
        titles = {dataset: f"{short[dataset]}: {measured[dataset].counts}" for dataset in curves["dataset"].unique()}
        figures = [
            figure
            for dataset, title in titles.items()
            for draw in (threshold_figure, rate_figure)
            if (figure := draw(curves, scores, dataset, folder, title)) is not None
        ]
        if tables["thresholds"]["regret"].notna().any():
            figures.append(regret_figure(tables["thresholds"], folder)[1])
        if "validation_sizes" in tables:
            of_sizes = with_labels(tables["validation_sizes"], scores)
            drawn = [one for one, rows in of_sizes.groupby("dataset", sort=False) if len(set(rows["images"])) > 1]
            figures += [sizes_figure(of_sizes, str(one), folder, short[str(one)]) for one in drawn]
    return figures


def _counts(text: str) -> list[int]:
    """The numbers in `4,8,all`; all images are always among them."""
    from ..api import UsageError
    from ..specs import split_list

    parts = split_list(text)
    wrong = [part for part in parts if part != "all" and not (part.isdecimal() and int(part))]
    if wrong or not parts:
        raise UsageError(
            f"--validation-sizes {text}: {(wrong or [text])[0]!r} is no number of images, 1 or more, nor all."
        )
    return [int(part) for part in parts if part != "all"]
