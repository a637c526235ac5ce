"""What docs/plugins.md shows, installed and used as it says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from miasbench.datasets.phantom import phantom_liver_ct
from miasbench.harness.api import SPLITS, Prediction, as_grey
from miasbench.harness.conformance.datasets import dataset_checks
from miasbench.harness.conformance.methods import method_checks
from miasbench.harness.conformance.policies import policy_checks
from miasbench.methods.intensity import Intensity

from .support.installing import bench_in, install

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
TINY = "phantom_liver_ct:train=2,valid=2,test=2,size=64"


def block(heading: str, language: str) -> str:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0] if heading else PAGE.split("\n## ")[0]
    (code,) = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    return code


class Coloured(Intensity):
    """A method that all rules apply to: nothing in it is random, and it takes colour."""

    colour = True

    def predict(self, image: np.ndarray) -> Prediction:
        return super().predict(as_grey(image))


def rules() -> Iterator[str]:
    yield from (check.rule for check in method_checks(Coloured, options={}, weights="embedded", device="cpu"))
    yield from (check.rule for check in policy_checks("otsu"))
    yield from (check.rule for check in dataset_checks(TINY))


def write_scans(folder: Path) -> None:
    """A phantom as the file that the page's dataset reads."""
    dataset = phantom_liver_ct(Path(), train=3, valid=4, test=4, size=64)
    cases = [case for split in SPLITS for case in dataset.cases(split)]
    images, masks = zip(*map(dataset.load, cases), strict=True)
    splits, patients = np.array([case.split for case in cases]), np.array([case.patient for case in cases])
    np.savez(folder / "scans.npz", image=np.stack(images), mask=np.stack(masks), split=splits, patient=patients)


def test_every_rule_is_on_the_page() -> None:
    listed = re.findall(r"^- ([^:\n]+)", PAGE.split("\n## The rules\n")[1], flags=re.MULTILINE)
    assert listed == list(rules())


@pytest.mark.slow
def test_the_examples_are_installed_checked_tested_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headings = {"bench_median": "A method", "bench_recall": "A threshold policy", "bench_scans": "A dataset"}
    modules = {module: block(heading, "python") for module, heading in headings.items()}
    write_scans(tmp_path)
    monkeypatch.setenv("MIASBENCH_DATA", str(tmp_path))
    environment = install(modules, block("", "toml"), tmp_path)
    bench = bench_in(environment, tmp_path)
    checks = [line.split()[1:] for line in block("", "bash").splitlines()]
    run = ["run", "--methods", "median[sigma=2]", "--dataset", "scans", "--size", "64", "--executor", "inline"]
    said = bench(*checks, run, ["thresholds"])
    assert checks
    for _, name in checks:
        assert f"{name}: every rule is kept." in said
    assert re.search(r"│ valid_recall +│ validation +│ +[0-9.]+ │", said.split("where each policy landed")[1])
    (tmp_path / "test_own.py").write_text(block("In tests of your own", "python"), encoding="utf-8")
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own.py"]
    done = subprocess.run(pytest_run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout
