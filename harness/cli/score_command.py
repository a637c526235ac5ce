"""`bench score`."""

from typing import Any

import click
from upath import UPath

from ..config import ScoreConfig
from ..registry import check_policies
from .options import MOVED, RESULTS, RUN
from .run_options import with_options


@click.command(
    epilog="""\b
Examples:
  bench score latest
  bench score latest --thresholds 'all,normal_quantile[q=0.95]'
  bench score latest --post 'median[size=5],min_area[px=20]' --post fill_holes
  bench score liver_ct-1a2b3c4d --mask-edges paper --fixed-threshold 0.5
  bench score their_results/liver-1a2b3c4d --dataset liver=/data/liver
""",
)
@RUN
@RESULTS
@MOVED
@with_options(ScoreConfig, default="as in the run")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most N cells at once, in a process each.  [default: as in the run, or as cores allow]",
)
def command(run: str, results: UPath, moved: tuple[str, ...], workers: int | None, **options: Any) -> None:
    """Compute thresholds and metrics of RUN again, from its stored predictions.

    RUN is a run's folder, its name, the beginning of its name, or `latest`. A run from before the option --padding
    counted the borders; here they are left out, unless --padding count asks for them.
    """
    from ...results.store import find_run
    from ..analysis.recorded import moved_datasets, recorded_config
    from ..running.rescoring import rescore
    from ..scoring.post import check_chains
    from .console import CellBars, console, print_run

    store = find_run(run, results)
    record = store.read()
    given = {name: value for name, value in options.items() if value != ()}
    score = recorded_config(store, given).score
    check_policies(score.thresholds)
    check_chains(score.post)
    places = moved_datasets(moved, record.datasets)
    with CellBars(len(record.cells)) as bars:
        unchanged = rescore(store, score, bars.show, places, workers)
    print_run(store)
    if unchanged:
        told = "1 cell keeps its old scores" if len(unchanged) == 1 else f"{len(unchanged)} cells keep their old scores"
        console.print(f"{told}: maps were not kept (--maps none).", style="yellow")
