"""Options and arguments that several commands have, and what a shell completes them with."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..config import default_results, results_folder
from ..paths import expanded


class LocalPath(click.Path):
    """A path of this machine; `~` is the home folder also where the shell leaves it alone, as in `--out=~/x`."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(expanded(value), param, ctx)


class ResultsFolder(click.ParamType):
    """A folder of runs, here or in an object store."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return results_folder(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="dir")]


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of runs, newest first; else whatever path it becomes."""
    from ...results.store import find_runs

    runs = find_runs(ctx.params.get("results") or default_results())
    return _matching(["latest", *(run.name for run in runs)], incomplete)


def complete_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of methods, also behind a comma."""
    from ..registry import methods

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{name}") for name in sorted(methods()) if name.startswith(last)]


def complete_dataset(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of datasets, and the user's files."""
    from ..config import default_data_root
    from ..registry import datasets, registered

    root = ctx.params.get("data_root") or default_data_root()
    return _matching(sorted(datasets() | registered(root)), incomplete)


def complete_policy(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of threshold policies whose masks can be reported."""
    from ..registry import all_policies

    return _matching(sorted(all_policies()), incomplete)


def complete_policies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of threshold policies that can be chosen, also behind a comma."""
    from ..registry import ALL_POLICIES, policies

    before, comma, last = incomplete.rpartition(",")
    known = sorted([ALL_POLICIES.name, "fixed", *policies()])
    return [CompletionItem(f"{before}{comma}{name}") for name in known if name.startswith(last)]


def complete_plugin(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of methods, threshold policies and datasets, and the user's files."""
    from ..config import default_data_root
    from ..registry import datasets, methods, policies, registered

    known = methods() | policies() | datasets() | registered(default_data_root())
    return _matching(sorted(known), incomplete)


def complete_config(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Run files that come with the package, and the user's files."""
    from ..config import shipped_configs

    return _matching(shipped_configs(), incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


RESULTS = click.option(
    "--results", type=ResultsFolder(), metavar="DIR", default=default_results, help="The folder of all runs."
)
RUN = click.argument("run", default="latest", shell_complete=complete_run)
MOVED = click.option(
    "--dataset",
    "moved",
    multiple=True,
    metavar="NAME=PATH",
    help="The folder or card of a dataset that has moved since the run; its images must be the same. May be repeated.  "
    "[default: where the run found it]",
)
