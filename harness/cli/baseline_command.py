"""`bench baseline`."""

from pathlib import Path

import click
from upath import UPath

from .options import RESULTS, RUN, LocalPath


@click.command(
    epilog="""\b
Examples:
  bench baseline latest
  bench baseline latest --out baselines/liver_ct.json
  bench baseline latest --tolerance dice=paired --tolerance runtime=3

A tolerance says how much worse a later run may be. `dice=0.02`: the score may fall by 0.02. `dice=paired`: the 95 %
interval of the difference, case by case and over patients, must not lie below zero. `runtime=2`: an image may take
twice as long. A tolerance that no result could break is refused; if it is a default, it is left out.
""",
)
@RUN
@RESULTS
@click.option(
    "--out",
    type=LocalPath(dir_okay=False),
    default=Path("baseline.json"),
    help="The file to write. An older baseline in it is replaced, but its tolerances are kept.  "
    "[default: baseline.json]",
)
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="METRIC=VALUE",
    help="How much worse a later run may be. May be repeated.  [default: dice=0.02, pixel_auroc=0.01, aupro=0.02, "
    "runtime=2]",
)
def command(run: str, results: UPath, out: Path, tolerances: tuple[str, ...]) -> None:
    """Write what RUN measured to a small file, with which `bench check` compares later runs.

    The file holds each cell's scores with their intervals, the DICE of each case, seeds, runtime, and the fingerprints
    of everything that scores depend on. RUN is a run's folder, its name, the beginning of its name, or `latest`.
    """
    from ...results.baseline import DEFAULT_TOLERANCES, Tolerance, read_baseline, write_baseline
    from ...results.store import find_run
    from ..analysis.gate import against_itself, make_baseline, parse_tolerances
    from .console import console

    given = parse_tolerances(tolerances)
    kept = read_baseline(out).tolerance if out.exists() else DEFAULT_TOLERANCES
    wanted: dict[str, Tolerance] = {**kept, **given}
    defaults = {name for name, one in DEFAULT_TOLERANCES.items() if name not in given and wanted.get(name) == one}
    store = find_run(run, results)
    baseline = make_baseline(store, wanted, optional=defaults)
    write_baseline(out, baseline)
    cells = len(baseline.cells)
    for name in wanted.keys() - baseline.tolerance.keys():
        console.print(f"No tolerance for {name}, which judges nothing here.", style="yellow")
    for one in against_itself(baseline):
        if one.kind == "not judged":
            told = f"{one.dataset} · {one.method}: {one.what} is not judged there: {one.text}."
            console.print(told, style="yellow", soft_wrap=True)
    console.print(
        f"Baseline of {cells} {'cell' if cells == 1 else 'cells'} of the run {baseline.run}: {out}", soft_wrap=True
    )
