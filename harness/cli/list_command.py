"""`bench list`."""

from pathlib import Path

import click

from ..config import default_results
from ..registry import Entry, datasets, methods


@click.group()
def command() -> None:
    """List methods, datasets or runs."""


@command.command("methods")
def list_methods() -> None:
    """List methods, built in and from plugins."""
    _print(methods())


@command.command("datasets")
def list_datasets() -> None:
    """List datasets, built in and from plugins; any folder in BMAD's layout is one too."""
    _print(datasets())


@command.command("runs")
@click.option("--results", type=click.Path(path_type=Path), default=default_results, help="Where runs are kept.")
def list_runs(results: Path) -> None:
    """List runs, newest first."""
    from ...results.store import find_runs

    runs = find_runs(results)
    if not runs:
        click.echo(f"There are no runs in {results.resolve()}. Start one with bench run.")
    for run in runs:
        record = run.read()
        names = ", ".join(record["config"]["methods"])
        click.echo(f"{run.name}  {record['created']}  {record['status']}  {names}")


def _print(entries: dict[str, Entry]) -> None:
    width = max(map(len, entries))
    for name, entry in sorted(entries.items()):
        click.echo(f"{name:{width}}  {entry.summary}")
