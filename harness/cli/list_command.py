"""`bench list`."""

import dataclasses
import shutil
import sys
import textwrap
from collections.abc import Sequence

import click
from upath import UPath

from ...results.metrics import METRICS
from ..api import UsageError
from ..config import RunConfig, default_data_root
from ..files import explain
from ..registry import METHODS, all_policies, datasets, methods, policy_class, registered
from ..texts import shown
from .methods_page import methods_page
from .metrics_page import metrics_page
from .options import RESULTS
from .options_page import options_page
from .run_options import run_options


@click.group()
def command() -> None:
    """List methods, datasets, threshold policies, operations, metrics, options of a run, or runs."""


@command.command("methods")
@click.option("--markdown", is_flag=True, help="The built-in ones with all that is known of them, as a page.")
def list_methods(markdown: bool) -> None:
    """List methods, built in and from plugins: which are trained, and which `--weights` each has."""
    if markdown:
        click.echo(methods_page(METHODS), nl=False)
        return
    rows = [
        (name, "trained" if entry.trained else "", ", ".join(entry.weights), entry.summary)
        for name, entry in methods().items()
    ]
    _print(rows)
    click.echo("\nAny model of anomalib's is one too, as anomalib:ClassName; docs/methods.md says more about each.")


@command.command("datasets")
def list_datasets() -> None:
    """List datasets, built in, from plugins and registered; any folder in BMAD's layout is one too.

    Registered ones are those in $MIASBENCH_DATA or the user's data folder; for another --data-root, set MIASBENCH_DATA.
    """
    known = registered(default_data_root()) | datasets()
    _print([(name, entry.summary) for name, entry in known.items()])


@command.command("policies")
def list_policies() -> None:
    """List threshold policies, built in and from plugins: their options and defaults, and what each looks at.

    Every run applies all that it can, or those that --thresholds names, as in 'normal_quantile[q=0.95],valid_dice'.
    """
    _print([(name, _policy_options(name), entry.summary) for name, entry in all_policies().items()])


def _policy_options(name: str) -> str:
    """The options of a policy with their defaults."""
    try:
        return _defaults(policy_class(name))
    except UsageError:  # it is not chosen, or a broken plugin, of which bench check-plugin tells more
        return ""


def _defaults(cls: type) -> str:
    """The fields of a dataclass with their defaults, as far as they have one."""
    return ",".join(
        field.name + ("" if field.default in (dataclasses.MISSING, None) else f"={field.default}")
        for field in dataclasses.fields(cls)
    )


@command.command("operations")
def list_operations() -> None:
    """List the operations of post-processing, with their options and defaults.

    `bench run` and `bench score` take a chain of them, as in --post 'median[size=5],min_area[px=20]'.
    """
    from ..scoring.operations import OPERATIONS

    _print([(name, _defaults(cls), (cls.__doc__ or "").split("\n")[0]) for name, cls in OPERATIONS.items()])


@command.command("options")
@click.option("--markdown", is_flag=True, help="All that is known of them, as a page.")
def list_options(markdown: bool) -> None:
    """List the options of a run, as a run file, `bench run` and miasbench.run() take them."""
    options = list(run_options(RunConfig))
    if markdown:
        click.echo(options_page(options), nl=False)
        return
    _print([(one.name, one.description.replace("`", "")) for one in options], ordered=False)


@command.command("metrics")
@click.option("--markdown", is_flag=True, help="All that is known of them, as a page.")
def list_metrics(markdown: bool) -> None:
    """List metrics: which of two values is better, and how each is computed. Every run computes all that it can."""
    if markdown:
        click.echo(metrics_page(METRICS.values()), nl=False)
        return
    directions = {"higher": "higher is better", "lower": "lower is better", "neither": ""}
    _print([(name, directions[one.direction], one.convention) for name, one in METRICS.items()])
    click.echo("\ndocs/metrics.md says more about each; docs/scores.md explains the conventions.")


@command.command("runs")
@RESULTS
def list_runs(results: UPath) -> None:
    """List runs, newest first."""
    from ...results.files import ResultsError
    from ...results.store import find_runs

    runs = find_runs(results)
    if not runs:
        click.echo(f"There are no runs in {results.resolve()}. Start one with bench run.")
    for run in runs:
        try:
            record, state = run.read(), run.state()
        except (ResultsError, OSError) as error:  # the others are listed all the same
            click.echo(shown(f"{run.name}  {explain(error) if isinstance(error, OSError) else error}"))
            continue
        names = ", ".join(record.config.methods)
        click.echo(shown(f"{run.name}  {record.created}  {state}  {names}"))


def _print(rows: Sequence[tuple[str, ...]], *, ordered: bool = True) -> None:
    """Prints rows in columns, sorted by default; in a terminal the last column is broken between words."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    left = sum(widths) + 2 * len(widths)
    room = max(shutil.get_terminal_size().columns - left, 20) if sys.stdout.isatty() else sys.maxsize
    for row in sorted(rows) if ordered else rows:
        before = "".join(f"{cell:{width}}  " for cell, width in zip(row[:-1], widths, strict=True))
        lines = textwrap.wrap(row[-1], room) or [""]
        click.echo(shown((before + f"\n{' ' * left}".join(lines)).rstrip()))
