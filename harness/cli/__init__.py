"""The command `bench`. Subcommands are imported when they are called, so that help and lists load no torch."""

import atexit
import getpass
import importlib
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from ..network import tell_libraries

if TYPE_CHECKING:
    import psutil

_COMMANDS = {
    "run": "Run methods on datasets, score them, and print the table.",
    "score": "Compute thresholds and metrics again from stored predictions.",
    "show": "Print the table of a run.",
    "thresholds": "Show what choosing a threshold costs, and draw it.",
    "stats": "Say which methods lead and which are tied.",
    "report": "Write the tables and figures of a paper.",
    "compare": "Show by how much two runs differ, and why.",
    "baseline": "Write what a run measured to a file, for later runs to be compared with.",
    "check": "Compare a run with a baseline, and fail where it is worse: the gate for CI.",
    "verify": "Check that a run's numbers follow from its files.",
    "list": "List methods, datasets, threshold policies, metrics, options of a run, or runs.",
    "import": "Score predictions that another program made.",
    "export": "Write the predictions of a run for other programs.",
    "data": "Download, register, verify or generate datasets.",
    "weights": "Fetch, list or verify model weights.",
    "check-plugin": "Check that a method, dataset or policy keeps the contract.",
}

OK, REGRESSION, USAGE, FAILED_CELLS, NOTHING_MEASURED, NOTHING_JUDGED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


_DEBUG = "MIASBENCH_DEBUG"
_LONGEST = 1000  # characters of an error that nobody has worded
_UNEXPECTED = (
    "That should not happen. If files of somebody else are read here, they may be damaged: bench verify RUN and bench "
    f"data verify DATASET say more. If not, please report it, with what {_DEBUG}=1 in front of the command shows."
)


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in _COMMANDS:
            from ..specs import suggest

            ctx.fail(f"There is no command {cmd_name!r}. {suggest(cmd_name, _COMMANDS)}")
        return importlib.import_module(f".{cmd_name.replace('-', '_')}_command", __package__).command

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
    nothing was measured, 5 the gate had nothing to judge or was unsure, 130 interrupted.
    """  # noqa: D205
    # Libraries' own progress bars would tear ours apart, and their warnings are not for users of this command.
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # in the processes of cells
    tell_libraries()
    try:
        with _ended_by_signals():
            code = _run(arguments)
    except (KeyboardInterrupt, click.Abort):
        _end_children()
        click.echo("Interrupted. What is finished is kept; the same command goes on from there.", err=True)
        code = INTERRUPTED
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Runs the command line, says what went wrong, and returns the exit code."""
    # These take a moment to import, and whoever presses Ctrl-C meanwhile is not to be shown where Python was.
    from ..api import BenchError
    from ..files import explain
    from ..streams import open_streams
    from ..texts import redacted, shown

    open_streams()
    try:
        with _at_home():
            code = cli.main(list(arguments) if arguments is not None else None, "bench", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except BenchError as error:
        click.echo(shown(redacted(f"Error: {error}")), err=True)
        return USAGE
    except OSError as error:
        click.echo(shown(redacted(f"Error: {explain(error)}")), err=True)
        return USAGE
    except Exception as error:
        if isinstance(error, click.Abort) or os.environ.get(_DEBUG):  # what click makes of Ctrl-C is an error too
            raise
        what = f"Error: {type(error).__name__}: {' '.join(str(error).split())}"
        click.echo(shown(redacted(f"{what[:_LONGEST]}. {_UNEXPECTED}")), err=True)
        return USAGE  # not 1, which is what a traceback ends with: that would be a regression
    return code or OK


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Lets whatever asks this process to end, such as a scheduler, do so as Ctrl-C does."""
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # What is ignored, as SIGHUP under nohup, stays so.
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _end_children() -> None:
    """Ends what was started and would outlive this process for a while, such as the fork server while it imports."""
    import psutil

    # Who has no patience says it twice, and is not to be shown where Python was when it heard that.
    heard = None
    if threading.current_thread() is threading.main_thread():
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    # Their exit codes are left to multiprocessing, which cannot start a fork server again when another took them.
    until = time.monotonic() + 0.5
    while time.monotonic() < until and any(_lives(child) for child in children):
        time.sleep(0.01)
    if heard is not None:
        signal.signal(signal.SIGINT, heard)


def _lives(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _at_home() -> Iterator[None]:
    """Gives a user that has no name or no home folder, as one of a container, what libraries ask for."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())
    if os.path.expanduser("~") != "~":  # noqa: PTH111  # pathlib raises an error
        yield
        return
    with tempfile.TemporaryDirectory(prefix="miasbench-", ignore_cleanup_errors=True) as home:
        os.environ["HOME"] = home
        os.environ.setdefault("MIASBENCH_DATA", "bench-datasets")
        click.echo(
            "Note: this user has no home folder. Weights and caches go to a temporary one, deleted at the end, "
            f"and datasets to {os.environ['MIASBENCH_DATA']}. Set HOME to keep them.",
            err=True,
        )
        try:
            yield
        finally:
            del os.environ["HOME"]
