"""`pip install miasbench`, without the extra `methods`: all commands that run no method work."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .support.running import run

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "anomalib", "lightning", "timm", "faiss-cpu", "segment-anything"}
PROGRAM = """
import importlib.metadata, json, sys

light, commands = json.loads(sys.stdin.read())
providers = importlib.metadata.packages_distributions()


class OnlyTheLightInstall:
    \"\"\"Finds no module of a distribution that a light install does not have.\"\"\"

    def find_spec(self, name, path=None, target=None):
        names = {one.lower().replace("_", "-") for one in providers.get(name, ())}
        if names and not names & set(light):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, OnlyTheLightInstall())
from miasbench.harness.cli import main

for command in commands:
    try:
        main(command)
    except SystemExit as end:
        print("exit code", end.code, command, file=sys.stderr)
"""


def requirements(extra: str = "") -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["optional-dependencies"][extra] if extra else project["dependencies"]


def installed_by(wanted: Iterable[str]) -> set[str]:
    """The distributions that pip installs for these requirements, with all that they require."""
    found: set[str] = set()
    waiting = [Requirement(one) for one in wanted]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for inner in map(Requirement, importlib.metadata.requires(name) or ()):
            if not inner.marker or any(inner.marker.evaluate({"extra": one}) for one in requirement.extras or {""}):
                waiting.append(inner)
    return found


def test_a_light_install_brings_nothing_that_only_methods_need() -> None:
    assert not HEAVY & installed_by(requirements())
    assert installed_by(requirements("methods")) >= HEAVY


def test_developers_install_everything() -> None:
    (own,) = [one for one in map(Requirement, requirements("dev")) if one.name == "miasbench"]
    assert {"dicom", "methods", "ray", "s3"} <= own.extras
    assert any("nifti" in one.extras for one in map(Requirement, requirements("dicom")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store, _ = run(tmp_path_factory.mktemp("made") / "results", "intensity", "intensity[sigma=2]")
    return Path(str(store.folder))


def light(folder: Path, *commands: list[str]) -> str:
    """Runs commands in one process that sees a light install only; returns what they print."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([["miasbench", *installed_by(requirements())], commands]),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr + done.stdout


@pytest.mark.slow
def test_commands_that_run_no_method_work_in_a_light_install(made: Path, tmp_path: Path) -> None:
    name = str(made)
    shutil.copytree(made, tmp_path / "earlier")
    commands = [
        ["--help"],
        ["show", name, "--published"],
        ["score", name],
        ["thresholds", name, "--out", "thresholds"],
        ["stats", name, "--pairs"],
        ["report", name, "--out", "paper", "--published"],
        ["compare", "./earlier", name],
        ["baseline", name, "--out", "baseline.json"],
        ["check", name, "--baseline", "baseline.json"],
        ["verify", name],
        ["list", "methods"],
        ["list", "methods", "--markdown"],
        ["list", "datasets"],
        ["list", "policies"],
        ["list", "metrics"],
        ["list", "runs", "--results", str(made.parent)],
        ["data", "phantom", "phantom_brain_mri:train=2,valid=2,test=2,size=64", "--out", "phantoms"],
        ["data", "verify", "phantom_brain_mri:train=2,valid=2,test=2,size=64"],
    ]
    said = light(tmp_path, *commands)
    assert [command for command in commands if f"exit code 0 {command}" not in said] == [], said


def test_what_only_methods_need_is_one_sentence(tmp_path: Path) -> None:
    data = ["--dataset", "phantom_brain_mri:train=2,valid=2,test=2,size=64", "--weights", "embedded"]
    commands = [
        ["run", "--methods", "patchcore", *data],
        ["run", "--methods", "intensity", *data],
        ["check-plugin", "mias_sam"],
        ["weights", "list"],
        ["weights", "get", "patchcore"],
    ]
    said = light(tmp_path, *commands)
    assert said.count("exit code 2") == len(commands)
    assert said.count("which is not installed: pip install 'miasbench[methods]'") == len(commands), said
