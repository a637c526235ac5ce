"""`bench run`."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..cache import reading_all
from ..config import COMMAND_LINE, RunConfig, default_results, find_config, make_config, read_config
from ..specs import split_datasets
from . import FAILED_CELLS, NOTHING_MEASURED, OK
from .options import LocalPath, complete_config
from .run_options import with_options


@click.command(
    epilog="""\b
Examples:
  bench run --methods mias_sam,patchcore --dataset liver_ct
  bench run --methods mias_sam,patchcore,intensity --dataset ./my_data --weights embedded
  bench run --methods mias_sam --dataset phantom_liver_ct:train=100,test=40 --set mias_sam.gamma=3
  bench run --methods 'mias_sam[prompt=centroid],mias_sam[prompt=centroid_box]' --dataset liver_ct
  bench run --methods rd4ad,sam_refine[base=rd4ad] --dataset liver_ct --epochs 20
  bench run --methods padim --dataset liver_ct --thresholds 'normal_quantile[q=0.95],valid_dice,oracle_dice'
  bench run --config run.yaml --seeds 0,1,2
  bench run --config paper --data-root DIR

A run file holds the same options: `methods: [mias_sam]`, `dataset: [liver_ct]`, `set: {mias_sam: {gamma: 3}}`;
docs/run-options.md lists them.
The command line wins over the file. The same command again goes on where it stopped.
""",
)
@with_options(RunConfig)
@click.option(
    "--config",
    type=LocalPath(),
    metavar="FILE|NAME",
    shell_complete=complete_config,
    help="A YAML file with any of these options, or the name of one that comes with miasbench: paper.",
)
@click.option("--force", is_flag=True, help="Run finished cells again.")
@click.option(
    "--verify-data",
    is_flag=True,
    help="Read every file of the datasets, also those whose size and times have not changed since the last run.",
)
def command(config: Path | None, force: bool, verify_data: bool, **options: Any) -> int:
    """Run methods on datasets, score them, and print the table."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    values = read_config(find_config(config)) if config else {}
    if "dataset" in given:  # each is a text of its own, as it may be repeated
        given["dataset"] = [spec for text in given["dataset"] for spec in split_datasets(text)]
    run_config = make_config(values, f"in {config}" if config else COMMAND_LINE, given)

    from .console import console, print_run, run_with_progress

    with reading_all(verify_data):
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
