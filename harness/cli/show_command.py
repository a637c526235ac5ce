"""`bench show`."""

import click
from upath import UPath

from .options import RESULTS, RUN


@click.command(
    epilog="""\b
Examples:
  bench show
  bench show liver_ct-1a2b3c4d
  bench show latest --published
""",
)
@RUN
@RESULTS
@click.option("--published", is_flag=True, help="Also what papers have published of the same methods, and its source.")
def command(run: str, results: UPath, published: bool) -> None:
    """Print the table of RUN: a run's folder, its name, the beginning of its name, or `latest`."""
    from ...results.store import find_run
    from .console import console, print_run

    store = find_run(run, results)
    print_run(store)
    if published:
        from ...reports.published import compare_with_published, published_tables
        from ...results.published_numbers import published as read_published

        console.print()
        console.print(published_tables(compare_with_published(store.read(), store.scores(), read_published())))
