"""`bench export`."""

from pathlib import Path
from typing import cast

import click
from upath import UPath

from .options import MOVED, RESULTS, RUN, LocalPath, complete_policy

_KINDS = ("predictions", "images", "volumes", "coco", "overlays")


@click.command(
    epilog="""\b
Examples:
  bench export latest --out their_copy
  bench export latest --out masks --as images --as coco --method mias_sam
  bench export latest --out for_the_viewer --as volumes
  bench export latest --out slides --as overlays --policy valid_dice
""",
)
@RUN
@RESULTS
@click.option("--out", type=LocalPath(file_okay=False), required=True, help="The folder for one folder per cell.")
@click.option(
    "--as",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    default=("predictions",),
    show_default=True,
    help="What to write: predictions for bench import; images, masks (PNG) and maps (TIFF) in the pixels of the "
    "original images; volumes, masks and maps as NIfTI on the grid of the original volumes; coco, one JSON of the "
    "masks; overlays, pictures for slides. May be repeated.",
)
@click.option("--method", metavar="NAME", help="Only this method.  [default: all]")
@click.option("--of", "dataset", metavar="NAME", help="Only this dataset.  [default: all]")
@click.option("--seed", type=int, metavar="N", help="Only this seed.  [default: all]")
@click.option(
    "--policy",
    metavar="NAME",
    shell_complete=complete_policy,
    help="Whose masks to write.  [default: each method's own, or those of valid_dice]",
)
@MOVED
def command(
    run: str,
    results: UPath,
    out: Path,
    kinds: tuple[str, ...],
    method: str | None,
    dataset: str | None,
    seed: int | None,
    policy: str | None,
    moved: tuple[str, ...],
) -> None:
    """Write the predictions of RUN for other programs.

    The folder that `--as predictions` writes is what `bench import` reads, with the very same scores. All others are of
    the test split. RUN is a run's folder, its name, the beginning of its name, or `latest`.
    """
    from ...results.store import find_run
    from ..analysis.recorded import moved_datasets
    from ..front.exporting import ExportKind, export_run
    from .console import console, stage_status

    store = find_run(run, results)
    places = moved_datasets(moved, store.read().datasets)
    asked = cast(tuple[ExportKind, ...], tuple(dict.fromkeys(kinds)))
    with stage_status() as progress:
        folders = export_run(
            store, out, asked, method=method, dataset=dataset, seed=seed, policy=policy, moved=places, progress=progress
        )
    for folder in folders:
        console.print(f"Wrote {', '.join(asked)} to {folder.resolve()}", soft_wrap=True)
