"""`bench run`."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..config import COMMAND_LINE, default_results, find_config, make_config, read_config
from ..specs import split_datasets
from . import FAILED_CELLS, NOTHING_MEASURED, OK
from .options import LocalPath, ResultsFolder, complete_config, complete_dataset, complete_methods, complete_run


@click.command(
    epilog="""\b
Examples:
  bench run --methods mias_sam,patchcore --dataset liver_ct
  bench run --methods mias_sam,patchcore,intensity --dataset ./my_data --weights embedded
  bench run --methods mias_sam --dataset phantom_liver_ct:train=100,test=40 --set mias_sam.gamma=3
  bench run --methods 'mias_sam[prompt=centroid],mias_sam[prompt=centroid_box]' --dataset liver_ct
  bench run --methods rd4ad,sam_refine[base=rd4ad] --dataset liver_ct --epochs 20
  bench run --config run.yaml --seeds 0,1,2
  bench run --config paper --data-root DIR

A run file holds the same options: `methods: [mias_sam]`, `dataset: [liver_ct]`, `set: {mias_sam: {gamma: 3}}`.
The command line wins over the file. The same command again goes on where it stopped.
""",
)
@click.option(
    "--methods",
    "-m",
    shell_complete=complete_methods,
    metavar="NAME,…",
    help="Methods, by name, or NAME[option=value,…] for a variant. See bench list methods.",
)
@click.option(
    "--dataset",
    "-d",
    multiple=True,
    shell_complete=complete_dataset,
    metavar="NAME|PATH",
    help="A dataset's name, NAME:option=value, a folder in BMAD's layout, or a YAML card. May be repeated.",
)
@click.option(
    "--weights",
    type=click.Choice(["published", "embedded"]),
    help="The papers' weights, or small ones from Python packages.  [default: published]",
)
@click.option("--seeds", metavar="N,…", help="One cell per method and seed: 0,1,2 or 0-2.  [default: 0]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="[default: auto]")
@click.option(
    "--data-root",
    type=LocalPath(),
    help="Where datasets are.  [default: $MIASBENCH_DATA or the user's data folder]",
)
@click.option(
    "--results",
    type=ResultsFolder(),
    metavar="DIR",
    help="Where runs are kept.  [default: $MIASBENCH_RESULTS or ./bench-results]",
)
@click.option(
    "--name",
    shell_complete=complete_run,
    help="The run's folder. If that run is there, it grows: cells of other methods, datasets and seeds stay in it and "
    "in its tables; a cell of the same dataset, method and seed is replaced where anything has changed.  [default: "
    "datasets and a hash]",
)
@click.option("--limit", type=int, metavar="N", help="At most N cases of each split, stratified; for a quick look.")
@click.option(
    "--size", type=int, metavar="PX", help="Width of the square in which images are seen and scored.  [default: 256]"
)
@click.option("--epochs", type=int, metavar="N", help="Of every method that is trained.  [default: as published]")
@click.option("--batch-size", type=int, metavar="N", help="Of every method that is trained.  [default: as published]")
@click.option(
    "--set",
    multiple=True,
    metavar="METHOD.OPTION=VALUE",
    help="An option of a method and all its variants. May be repeated.",
)
@click.option(
    "--controls/--no-controls",
    default=True,
    help="Also run the methods that others name as their controls.  [default: controls]",
)
@click.option(
    "--maps",
    type=click.Choice(["float32", "float16", "none"]),
    help="How anomaly maps are kept; none keeps scores only.  [default: float32]",
)
@click.option(
    "--mask-edges", type=click.Choice(["nearest", "paper"]), help="How lesion masks are resized.  [default: nearest]"
)
@click.option(
    "--padding",
    type=click.Choice(["exclude", "count"]),
    help="Whether the borders that make an image a square are scored as part of it.  [default: exclude]",
)
@click.option("--fixed-threshold", type=float, metavar="T", help="Also score masks at this threshold (policy fixed).")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray", "inline"]),
    help="Cells in processes of their own, on a Ray cluster, or in this process.  [default: local]",
)
@click.option("--workers", type=int, metavar="N", help="At most N cells at once.  [default: as cores or GPUs allow]")
@click.option("--threads", type=int, metavar="N", help="Of each cell.  [default: $OMP_NUM_THREADS, or 4 and more]")
@click.option(
    "--cell-memory",
    type=float,
    metavar="GIB",
    help="What a cell is taken to need before one has run.  [default: 2]",
)
@click.option(
    "--address", metavar="HOST:PORT", help="Of the Ray cluster.  [default: $RAY_ADDRESS, or one on this machine]"
)
@click.option("--shard-cases", type=int, metavar="N", help="On Ray: N cases of a split are one task.  [default: all]")
@click.option(
    "--config",
    type=LocalPath(),
    metavar="FILE|NAME",
    shell_complete=complete_config,
    help="A YAML file with any of these options, or one that comes along: paper.",
)
@click.option("--force", is_flag=True, help="Run finished cells again.")
@click.pass_context
def command(ctx: click.Context, config: Path | None, force: bool, **options: Any) -> int:
    """Run methods on datasets, score them, and print the table."""
    given = {
        name: value for name, value in options.items() if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    values = read_config(find_config(config)) if config else {}
    if "dataset" in given:  # each is a text of its own, as it may be repeated
        given["dataset"] = [spec for text in given["dataset"] for spec in split_datasets(text)]
    run_config = make_config(values, f"in {config}" if config else COMMAND_LINE, given)

    from .console import console, print_run, run_with_progress

    plan, outcomes = run_with_progress(run_config, force=force)
    print_run(plan.store)
    if run_config.maps == "none":
        console.print("Maps were not kept (--maps none): new thresholds and metrics cannot be computed from this run.")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    kept = [outcome for outcome in outcomes if outcome.status == "kept"]
    if kept:
        console.print(f"{len(kept)} of {len(outcomes)} cells were finished before; --force runs them again.")
    for run in dict.fromkeys(outcome.source for outcome in outcomes if outcome.source):
        count = sum(outcome.source == run for outcome in outcomes)
        console.print(f"{count} of these {'was' if count == 1 else 'were'} taken from the run {run}.", soft_wrap=True)
    if failed:
        console.print(f"{len(failed)} of {len(outcomes)} cells failed; their tracebacks:", style="red")
        for outcome in failed:
            path = plan.store.cell(outcome.cell.name).folder.resolve() / "error.txt"
            console.print(f"  {path}", soft_wrap=True)
    if further := " · ".join(_further(plan.store)):
        console.print(f"Next: {further}", style="dim", soft_wrap=True)
    return OK if not failed else NOTHING_MEASURED if len(failed) == len(outcomes) else FAILED_CELLS


def _further(store: Any) -> Iterator[str]:
    """The commands that have more to say of a run, as a shell takes them."""
    run = store.name if store.folder.parent.resolve() == default_results().resolve() else str(store.folder)
    scores = store.scores()
    if (scores["value"].notna() & (scores["metric"] == "dice") & ~scores["oracle"]).any():
        yield shlex.join(["bench", "report", run, "--out", "paper"])
        if isinstance(store.folder, Path):  # figures are drawn beside the run
            yield shlex.join(["bench", "thresholds", run])
    if not store.ranks().empty:
        yield shlex.join(["bench", "stats", run])
