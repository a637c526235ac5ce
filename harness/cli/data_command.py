"""`bench data`."""

from functools import partial
from pathlib import Path

import click

from ..config import default_data_root


@click.group()
def command() -> None:
    """Make or look at datasets."""


@command.command(
    epilog="""\b
Examples:
  bench data phantom --out phantoms
  bench data phantom phantom_liver_ct:train=100,test=40 --out phantoms
""",
)
@click.argument("names", nargs=-1)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A folder; each phantom becomes a folder in it."
)
def phantom(names: tuple[str, ...], out: Path) -> None:
    """Write generated datasets as folders in BMAD's layout; all three when no NAME is given."""
    from ...datasets.phantom import PHANTOMS, write_bmad
    from ..registry import open_dataset
    from .progress import console, stage_status

    for spec in names or PHANTOMS:
        dataset = open_dataset(spec, default_data_root())
        folder = out / spec.partition(":")[0]
        with stage_status() as report:
            write_bmad(dataset, folder, partial(report, f"writing {spec}"))
        console.print(f"{folder.resolve()}", soft_wrap=True)
