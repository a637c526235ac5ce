"""What the package imports is what it declares."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS = ("harness", "methods", "datasets", "results", "reports")
ON_DEMAND = {"pytest"}  # the plugin for pytest is imported by pytest


def imported() -> set[str]:
    """The top-level packages of others that any module imports, also inside functions."""
    found: set[str] = set()
    for path in [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names - {"miasbench"} - ON_DEMAND


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_imported_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    requirements = [
        *PROJECT["dependencies"],
        *(one for extra in ("dicom", "methods", "nifti", "ray", "s3") for one in extras[extra]),
    ]
    declared = {plain(re.split(r"[\[<>=!~ ]", requirement)[0]) for requirement in requirements}
    providers = importlib.metadata.packages_distributions()
    for package in imported():
        assert {plain(name) for name in providers[package]} & declared, f"{package} is imported and not declared"


def test_every_package_of_the_rooms_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    there = {path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    names = {"miasbench" if name == "harness/package" else f"miasbench.{name.replace('/', '.')}" for name in there}
    assert set(listed) == names
