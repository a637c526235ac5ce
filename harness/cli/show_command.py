"""`bench show`."""

from pathlib import Path

import click

from ..config import default_results


@click.command(
    epilog="""\b
Examples:
  bench show
  bench show liver_ct-1a2b3c4d
""",
)
@click.argument("run", default="latest")
@click.option("--results", type=click.Path(path_type=Path), default=default_results, help="Where runs are kept.")
def command(run: str, results: Path) -> None:
    """Print the table of RUN: a run's folder, its name, the beginning of its name, or `latest`."""
    from ...results.store import find_run
    from .progress import print_run

    print_run(find_run(run, results))
