"""Plugins that are installed as a user installs them."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Bench = Callable[..., str]


def install(modules: Mapping[str, str], project: str, folder: Path) -> dict[str, str]:
    """Installs a plugin of some modules; returns the environment of processes that see it."""
    source, site = folder / "source", folder / "site"
    source.mkdir()
    for name, code in modules.items():
        (source / f"{name}.py").write_text(code, encoding="utf-8")
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, source], check=True)
    return os.environ | {"PYTHONPATH": str(site)}


def bench_in(environment: Mapping[str, str], folder: Path) -> Bench:
    """The command line in an environment; it returns what it prints, and is expected to exit with 0."""

    def bench(*arguments: str) -> str:
        command = [sys.executable, "-c", "from miasbench.harness.cli import main; main()", *arguments]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return bench
