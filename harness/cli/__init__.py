"""The command `bench`. Subcommands are imported when they are called, so that help and lists load no torch."""

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

import click

from ..api import BenchError

_COMMANDS = {
    "run": "Run methods on datasets, score them, and print the table.",
    "score": "Compute thresholds and metrics again from stored predictions.",
    "show": "Print the table of a run.",
    "thresholds": "Show what choosing a threshold costs, and draw it.",
    "stats": "Say which methods lead and which are tied.",
    "report": "Write the tables and figures of a paper.",
    "compare": "Show by how much two runs differ, and why.",
    "baseline": "Keep what a run measured, to hold later runs against.",
    "check": "Hold a run against a baseline: the gate for CI.",
    "verify": "Check that a run's numbers follow from its files.",
    "list": "List methods, datasets, threshold policies or runs.",
    "data": "Download, register, verify or generate datasets.",
    "weights": "Fetch, list or verify model weights.",
}

OK, REGRESSION, USAGE, FAILED_CELLS, NOTHING_MEASURED, NOTHING_JUDGED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in _COMMANDS:
            from ..registry import suggest

            ctx.fail(f"There is no command {cmd_name!r}. {suggest(cmd_name, _COMMANDS)}")
        return importlib.import_module(f".{cmd_name}_command", __package__).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  bench run --methods mias_sam,patchcore --dataset liver_ct
  bench run --methods mias_sam,intensity --dataset phantom_brain_mri --weights embedded
  bench show latest
""",
)
@click.version_option(package_name="miasbench", prog_name="bench")
def cli() -> None:
    """Compare methods for medical image anomaly segmentation: threshold-free ones beside thresholded ones."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 ok, 1 a regression, 2 wrong usage or something missing, 3 some cells failed, 4
    nothing was measured, 5 the gate had nothing to judge, 130 interrupted.
    """  # noqa: D205
    # Libraries' own progress bars would tear ours apart, and their warnings are not for users of this command.
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # in the processes of cells
    try:
        code = cli.main(list(arguments) if arguments is not None else None, "bench", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = USAGE
    except BenchError as error:
        click.echo(f"Error: {error}", err=True)
        code = USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. What is finished is kept; the same command goes on from there.", err=True)
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        code = OK
    sys.exit(code or OK)
