"""Plugins that are installed as a user installs them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Bench = Callable[..., str]

_COMMANDS = """
import json, sys
from miasbench.harness.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as end:
        if end.code:
            raise
"""


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
    """Runs commands in an environment, one after the other in one process; all are expected to exit with 0.

    Returns:
        A function that takes commands, each without the word `bench`, and returns what they print.
    """

    def bench(*commands: Sequence[str]) -> str:
        command = [sys.executable, "-c", _COMMANDS, json.dumps(commands)]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return bench
