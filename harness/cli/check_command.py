"""`bench check`."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from upath import UPath

from ..api import UsageError
from . import FAILED_CELLS, NOTHING_JUDGED, NOTHING_MEASURED, OK, REGRESSION, USAGE
from .options import RESULTS, RUN, LocalPath

if TYPE_CHECKING:
    from ...results.baseline import Finding

_CODES = {
    "crashed": FAILED_CELLS,
    "missing": USAGE,
    "dataset changed": USAGE,
    "configuration changed": USAGE,
    "tables changed": USAGE,
    "regression": REGRESSION,
    "slower": REGRESSION,
    "nothing judged": NOTHING_JUDGED,
    "unsure": NOTHING_JUDGED,
}


@click.command(
    epilog="""\b
Examples:
  bench check latest --baseline baseline.json
  bench check latest --baseline baseline.json --github --junit gate.xml

\b
Exit codes, the first that applies:
  4  nothing was measured: no cell of the run was finished
  3  a cell crashed
  2  a cell is missing, its dataset or configuration has changed, or the run's tables were changed afterwards
  1  a score fell by more than its tolerance, or an image takes too long
  5  nothing was judged: a tolerance judged no cell, or no tolerance judged a cell; or dice=paired cannot be sure of a
     large loss
  0  none of these
""",
)
@RUN
@click.option(
    "--baseline",
    type=LocalPath(),
    required=True,
    metavar="FILE",
    help="A file that bench baseline wrote, or the name of one that comes with miasbench: phantoms.",
)
@RESULTS
@click.option("--markdown", type=LocalPath(dir_okay=False), help="Write a comment for a pull request to this file.")
@click.option("--github", is_flag=True, help="Add that comment to the job's summary, $GITHUB_STEP_SUMMARY.")
@click.option("--junit", type=LocalPath(dir_okay=False), help="Write JUnit XML to this file.")
def command(run: str, baseline: Path, results: UPath, markdown: Path | None, github: bool, junit: Path | None) -> int:
    """Compare RUN with a baseline, and fail where it is worse: the gate.

    The gate fails when a score has fallen by more than the baseline's tolerance, or when an image takes too many times
    as long. Times are measured in units of a fixed workload, so that a slower machine is no regression. The gate also
    fails, each with an exit code of its own, when a cell crashed or is missing, when a dataset or configuration has
    changed, when the run's tables were changed, and when there was nothing to judge. RUN is a run's folder, its name,
    the beginning of its name, or `latest`.
    """
    from ...reports.gate import gate_markdown, gate_table, junit_xml
    from ...results.baseline import find_baseline, read_baseline
    from ...results.store import find_run
    from ..analysis.gate import check, measure
    from ..files import naming
    from ..safe_files import write_named
    from .console import console

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if github and not summary:
        raise UsageError("--github: $GITHUB_STEP_SUMMARY is not set; it is where GitHub Actions expects the summary.")
    file = find_baseline(baseline)
    expected, store = read_baseline(file), find_run(run, results)
    measured = measure(store, expected.tolerance)
    findings = check(expected, measured)
    accept = shlex.join(["bench", "baseline", str(store.folder), "--out", str(file)])
    console.print(gate_table(findings, accept))
    text = gate_markdown(findings, accept)
    if github and summary:
        with naming(Path(summary)), Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    if markdown:
        write_named(markdown, text)
    if junit:
        write_named(junit, junit_xml(findings))
    return NOTHING_MEASURED if measured.empty else exit_code(findings)


def exit_code(findings: Sequence["Finding"]) -> int:
    """The exit code of the most serious finding."""
    from ...results.baseline import FAILURES

    kinds = {finding.kind for finding in findings}
    return next((_CODES[kind] for kind in reversed(FAILURES) if kind in kinds), OK)
