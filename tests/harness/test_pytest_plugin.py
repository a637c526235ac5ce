"""pytest as a user runs it, with the plugin and without its option."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from miasbench.harness.analysis.gate import make_baseline
from miasbench.harness.config import RunConfig
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import execute
from miasbench.results.baseline import DEFAULT_TOLERANCES, Baseline, write_baseline

PLUGIN = "miasbench.harness.pytest_plugin"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Baseline]:
    """A results folder with one run, and its baseline."""
    results = tmp_path_factory.mktemp("results")
    dataset = "phantom_brain_mri:train=3,valid=4,test=6,size=64"
    values = {"methods": ["intensity"], "dataset": [dataset], "size": 64, "results": results, "device": "cpu"}
    plan = make_plan(RunConfig.model_validate(values))
    execute(plan)
    return results, make_baseline(plan.store, DEFAULT_TOLERANCES)


def run_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    (folder / "test_own.py").write_text("def test_own(): pass\n")
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # installed or not: -p loads it once
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-v", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_each_cell_is_a_test_beside_those_of_the_project(tmp_path: Path, kept: tuple[Path, Baseline]) -> None:
    results, baseline = kept
    write_baseline(tmp_path / "b.json", baseline)
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", str(results))
    assert code == 0, out
    assert "2 passed" in out
    assert "b.json::phantom_brain_mri:train=3,valid=4,test=6,size=64 · intensity PASSED" in out


def test_a_drop_and_a_missing_cell_fail_in_their_own_words(tmp_path: Path, kept: tuple[Path, Baseline]) -> None:
    results, baseline = kept
    (cell,) = baseline.cells
    better = {name: replace(score, value=min(1.0, score.value + 0.5)) for name, score in cell.scores.items()}
    cells = (replace(cell, scores=better), replace(cell, method="padim"), replace(cell, dataset="liver"))
    write_baseline(tmp_path / "b.json", replace(baseline, cells=cells))
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", str(results))
    assert code == 1
    assert "3 failed, 1 passed" in out
    assert "regression: dice: -0.500, tolerance 0.02" in out
    assert "missing: cell: padim was not run on" in out
    assert "the dataset liver is not in the run" in out
    assert "Traceback" not in out


def test_what_judges_nothing_fails_and_what_is_new_is_skipped(tmp_path: Path, kept: tuple[Path, Baseline]) -> None:
    results, baseline = kept
    (cell,) = baseline.cells
    write_baseline(tmp_path / "b.json", replace(baseline, cells=(replace(cell, scores={}),)))
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", str(results))
    assert code == 1, out
    assert "nothing judged: cell: none of dice, pixel_auroc, aupro is judged" in out
    write_baseline(tmp_path / "b.json", replace(baseline, cells=(replace(cell, method="padim"),)))
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", str(results))
    assert "1 failed, 1 passed, 1 skipped" in out


def test_an_empty_option_is_refused(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, "--bench-baseline", "")
    assert code == 4
    assert "--bench-baseline is empty" in out
    assert "passed" not in out


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_baseline_that_is_none_is_one_message(
    tmp_path: Path, kept: tuple[Path, Baseline], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "b.json").write_text(content)
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", str(kept[0]))
    assert code != 0
    assert "b.json" in out
    assert "Traceback" not in out


def test_a_run_that_is_missing_is_one_message(tmp_path: Path, kept: tuple[Path, Baseline]) -> None:
    write_baseline(tmp_path / "b.json", kept[1])
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", str(tmp_path / "none"))
    assert code != 0
    assert "There are no runs in" in out
    assert "Traceback" not in out


def test_without_the_option_nothing_is_loaded_or_collected(tmp_path: Path, kept: tuple[Path, Baseline]) -> None:
    write_baseline(tmp_path / "b.json", kept[1])
    (tmp_path / "test_light.py").write_text(
        "import sys\ndef test_light(): assert not {'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)\n"
    )
    code, out = run_pytest(tmp_path)
    assert code == 0, out
    assert "2 passed" in out


def test_is_declared_to_pytest() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert list(project["entry-points"]["pytest11"].values()) == [PLUGIN]


STEERS = "x\x1b]52;c;cm0=\x07\x1b[2J\n::error file=a.py::broken\n[red]x[/red]"


def test_names_of_a_baseline_steer_neither_the_terminal_nor_ci(tmp_path: Path, kept: tuple[Path, Baseline]) -> None:
    results, baseline = kept
    cells = [replace(baseline.cells[0], method=STEERS), replace(baseline.cells[0], dataset=STEERS)]
    write_baseline(tmp_path / "b.json", replace(baseline, run=STEERS, cells=(*baseline.cells, *cells)))
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", str(results))
    assert code == 1
    assert "2 failed, 2 passed" in out
    assert "\x1b" not in out and "\x07" not in out
    assert not re.search(r"^\s*::", out, re.MULTILINE)


def test_a_link_in_a_received_run_is_a_sentence(tmp_path: Path, kept: tuple[Path, Baseline]) -> None:
    results, baseline = kept
    write_baseline(tmp_path / "b.json", baseline)
    shutil.copytree(results, tmp_path / "results")
    (run,) = (tmp_path / "results").iterdir()
    (run / "scores.parquet").unlink()
    (run / "scores.parquet").symlink_to("/etc/passwd")
    code, out = run_pytest(tmp_path, "--bench-baseline", "b.json", "--bench-results", "results")
    assert code == 2
    assert "it is a link where none is followed" in out
    assert "Traceback" not in out
