"""`bench import`."""

from pathlib import Path
from typing import Any

import click

from ..config import RunConfig
from . import NOTHING_MEASURED, OK
from .options import LocalPath
from .run_options import with_options

_OPTIONS = (
    *("dataset", "limit", "size", "results", "name", "data_root", "maps"),
    *("thresholds", "padding", "foreground", "mask_edges", "fixed_threshold", "surface_tolerance", "pixels"),
)


@click.command(
    epilog="""\b
Examples:
  bench import ./their_maps --dataset liver_ct --method their_method --higher-is anomalous --seen normal
  bench import ./their_maps --dataset ./my_data --check
  bench run --methods 'mias_sam,patchcore,imported[path=./their_maps]' --dataset liver_ct

A folder holds maps/SPLIT/CASE.npy (or .npz, .png, .tif, .nii.gz), masks/SPLIT/CASE.png, scores.csv (case, score), one
or all of them, and predictions.yaml, which says what they are; SPLIT is valid or test. Where the dataset was made of
NIfTI volumes, maps/SPLIT/VOLUME.nii.gz is cut as its volume was. docs/exchange.md explains it.
""",
)
@click.argument("folder", metavar="DIR", type=LocalPath(file_okay=False))
@click.option("--method", metavar="NAME", help="The method's name in the tables.  [default: as predictions.yaml says]")
@click.option("--higher-is", type=click.Choice(["anomalous", "normal"]), help="What a higher value means.")
@click.option(
    "--seen",
    metavar="WHAT",
    help="What the method has learned from, or was chosen on: normal, labels, anomalous, test, text, with commas, or "
    "nothing.",
)
@click.option("--partial", is_flag=True, help="Take a set in which a tenth of the cases, or more, is missing.")
@click.option("--check", is_flag=True, help="Only look at the predictions, and say what is odd about them.")
@with_options(RunConfig, only=_OPTIONS)
def command(
    folder: Path,
    method: str | None,
    higher_is: str | None,
    seen: str | None,
    partial: bool,
    check: bool,
    **options: Any,
) -> int:
    """Score the predictions in DIR, which another program made, as those of a method.

    They become a run, with the same tables, figures and gate. What they are is said, by predictions.yaml or by options,
    and never guessed.
    """
    from ..front.importing import import_config
    from .console import console, print_notes, print_run, run_with_progress, stage_status

    given = {name: value for name, value in options.items() if value not in (None, ())}
    config = import_config(folder, method, higher_is, seen, partial, given)
    if check:
        from ..running import session

        with stage_status(at_once=True) as progress:
            plan = session.plan_run(config, progress)
        print_notes(plan)
        for cell in plan.cells:
            there = ", ".join(f"{cell.options['cases'][one]} {one}" for one in ("valid", "test"))
            console.print(f"{cell}: {', '.join(cell.options['given'])} of {there} cases can be scored.", soft_wrap=True)
        return OK
    plan, outcomes = run_with_progress(config)
    print_run(plan.store)
    return OK if all(outcome.status != "failed" for outcome in outcomes) else NOTHING_MEASURED
