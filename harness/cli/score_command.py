"""`bench score`."""

import click
from upath import UPath

from ..config import make_config
from .options import MOVED, RESULTS, RUN


@click.command(
    epilog="""\b
Examples:
  bench score latest
  bench score liver_ct-1a2b3c4d --mask-edges paper --fixed-threshold 0.5
  bench score their_results/liver-1a2b3c4d --dataset liver=/data/liver
""",
)
@RUN
@RESULTS
@MOVED
@click.option(
    "--mask-edges",
    type=click.Choice(["nearest", "paper"]),
    help="How lesion masks are resized.  [default: as in the run]",
)
@click.option(
    "--padding",
    type=click.Choice(["exclude", "count"]),
    help="Whether the borders that make an image a square are scored as part of it.  [default: as in the run; exclude "
    "for one from before this option, which counted them]",
)
@click.option("--fixed-threshold", type=float, metavar="T", help="Also score masks at this threshold.")
@click.option(
    "--pixels",
    type=click.Choice(["auto", "exact", "binned"]),
    help="Whether map values are rounded where there are many, with the error stated.  [default: as in the run]",
)
def command(
    run: str,
    results: UPath,
    moved: tuple[str, ...],
    mask_edges: str | None,
    padding: str | None,
    fixed_threshold: float | None,
    pixels: str | None,
) -> None:
    """Compute thresholds and metrics of RUN again, from its stored predictions.

    RUN is a run's folder, its name, the beginning of its name, or `latest`.
    """
    from ...results.store import find_run
    from ..analysis.recorded import moved_datasets
    from ..running import runner
    from .console import CellBars, console, print_run

    store = find_run(run, results)
    record = store.read()
    score = make_config(record["config"], f"in {store.folder / 'run.json'}").score
    changed = {"mask_edges": mask_edges, "padding": padding, "fixed_threshold": fixed_threshold, "pixels": pixels}
    score = score.model_copy(update={name: value for name, value in changed.items() if value is not None})
    places = moved_datasets(moved, record["datasets"])
    with CellBars(len(record["cells"])) as bars:
        unchanged = runner.rescore(store, score, bars.show, places)
    print_run(store)
    if unchanged:
        told = "1 cell keeps its old scores" if len(unchanged) == 1 else f"{len(unchanged)} cells keep their old scores"
        console.print(f"{told}: maps were not kept (--maps none).", style="yellow")
