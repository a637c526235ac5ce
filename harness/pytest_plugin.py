"""A pytest plugin: `pytest --bench-baseline FILE` makes every cell of a baseline a test.

pytest loads this wherever the package is installed, so it imports nothing of it before the option is given.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..results.baseline import Finding


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("bench", "miasbench: compare a benchmark run with a baseline")
    group.addoption("--bench-baseline", metavar="FILE", help="Make each cell of this baseline a test.")
    group.addoption("--bench-run", metavar="RUN", default="latest", help="The run to hold against it. Default: latest.")
    group.addoption("--bench-results", metavar="DIR", help="Where runs are kept. Default: as bench run.")


def pytest_configure(config: pytest.Config) -> None:
    """Has the baseline collected beside the tests that were asked for.

    Raises:
        pytest.UsageError: It is empty, as a variable that is not set: all would pass, and nothing was judged.
    """
    given = config.getoption("--bench-baseline")
    if given:
        config.args.append(str(_baseline(config)))
    elif given is not None:
        raise pytest.UsageError("--bench-baseline is empty: name the file of a baseline.")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "BaselineFile | None":
    """Takes the baseline, and no other file."""
    if parent.config.getoption("--bench-baseline") and file_path == _baseline(parent.config):
        return BaselineFile.from_parent(parent, path=file_path)
    return None


class BaselineFile(pytest.File):
    """A baseline, and the run that is compared with it."""

    def collect(self) -> Iterator["CellItem"]:
        from ..results.baseline import read_baseline
        from ..results.store import find_run
        from .analysis.gate import check, measure
        from .api import BenchError
        from .config import default_results, results_folder
        from .files import explain
        from .texts import shown

        try:
            baseline = read_baseline(self.path)
            results = results_folder(self.config.getoption("--bench-results") or default_results())
            store = find_run(str(self.config.getoption("--bench-run")), results)
            findings = check(baseline, measure(store, baseline.tolerance))
        except (BenchError, OSError) as error:
            raise self.CollectError(shown(explain(error) if isinstance(error, OSError) else str(error))) from error
        for (dataset, method), of_cell in groupby(findings, lambda one: (one.dataset, one.method)):
            name = shown(f"{dataset} · {method}").replace("\n", r"\n")
            yield CellItem.from_parent(self, name=name, findings=list(of_cell))


class CellItem(pytest.Item):
    """A dataset and a method: passes when it was judged and nothing is worse by more than its tolerance.

    A cell that the baseline does not know is skipped.
    """

    def __init__(self, *, findings: "list[Finding]", **rest: Any) -> None:
        super().__init__(**rest)
        self._findings = findings

    def runtest(self) -> None:
        from .texts import shown

        told = shown("\n".join(f"{one.kind}: {one.what}: {one.text}" for one in self._findings))
        self.add_report_section("call", "bench", told)
        failed = [one for one in self._findings if one.failed]
        if failed:
            pytest.fail(shown("\n".join(f"{one.kind}: {one.what}: {one.text}" for one in failed)), pytrace=False)
        if all(one.kind == "new" for one in self._findings):
            pytest.skip(told)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _baseline(config: pytest.Config) -> Path:
    from ..results.baseline import find_baseline
    from .paths import expanded

    return find_baseline(Path(expanded(str(config.getoption("--bench-baseline"))))).resolve()
