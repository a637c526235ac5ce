"""`bench verify`."""

import click
from upath import UPath

from . import OK, REGRESSION
from .options import MOVED, RESULTS, RUN


@click.command(
    epilog="""\b
Examples:
  bench verify latest
  bench verify their_results/liver-1a2b3c4d --dataset liver=/data/liver

\b
Exit codes:
  0  all that could be checked agrees; what could not be checked is named
  1  something does not agree
  2  there is no such run, or a dataset given with --dataset is another one
""",
)
@RUN
@RESULTS
@MOVED
def command(run: str, results: UPath, moved: tuple[str, ...]) -> int:
    """Check that the numbers of RUN follow from its files, and that nobody has changed them.

    This checks the record, the checksums of the tables, and the checksums of the predictions. It compares CSV with
    Parquet, and scores, ranks and comparisons with the cases. Where the images are found, it computes all scores again
    from the predictions, in memory. Nothing is changed. RUN is a run's folder, its name, the beginning of its name, or
    `latest`.
    """
    from ...results.store import find_run
    from ..analysis.recorded import moved_datasets
    from ..running.integrity import verify_run
    from .console import CellBars, console

    store = find_run(run, results)
    record = store.read()
    with CellBars(len(record.cells)) as bars:
        found = verify_run(store, moved_datasets(moved, record.datasets), bars.show)
    for what in found.checked:
        console.print(f"checked      {what}", soft_wrap=True)
    for why in found.unchecked:
        console.print(f"not checked  {why}", style="yellow", soft_wrap=True)
    for problem in found.problems:
        console.print(f"wrong        {problem}", style="red", soft_wrap=True)
    if found.problems:
        console.print(f"{store.name}: {len(found.problems)} things do not agree.")
        return REGRESSION
    console.print(f"{store.name}: all that could be checked agrees.")
    return OK
