"""No import runs upward, and what must start fast imports nothing slow."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "methods", "datasets", "results", "reports")
GROUND = {
    f"harness.{name}"
    for name in (
        *("api", "cache", "files", "network", "paths", "safe_files", "texts", "yaml_files"),
        *("download.fetching", "download.unpacking"),
    )
}
FLOORS = (
    ("api", "files", "network", "texts"),
    ("safe_files",),
    ("paths", "cache", "streams", "download", "contract", "specs", "yaml_files"),
    ("registry", "distributions", "config", "code_version"),
    ("data",),
    ("exchange",),
    ("scoring",),
    ("analysis",),
    ("running", "pytest_plugin"),
    ("conformance",),
    ("cli", "front"),
)
"""What stands in harness/, from the ground up: a module or room imports from lower floors, and from its own room."""
FRONT = ROOT / "harness" / "package" / "__init__.py"  # installed as miasbench itself, where the rooms are beside it
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path != FRONT]


def imported_modules(path: Path) -> Iterator[str]:
    """The modules of the project that a file imports, such as `harness.api`, also those inside functions."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = ".".join((*base, *filter(None, [node.module])))
            names = [f"{target}.{alias.name}".lstrip(".") for alias in node.names]
            names = [name if is_module(name) else target for name in names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            assert not name.startswith("miasbench"), f"{path}: imports inside the rooms are relative"
            if name.split(".")[0] in ROOMS:
                yield name


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_import_runs_upward(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    found = {name for name in imported_modules(path) if name.split(".")[0] != room}
    if room in ("methods", "datasets", "results"):
        assert found <= GROUND, "these rooms know the ground only"
    elif room == "reports" or not {"cli", "front"} & set(path.parts):
        assert all(name.startswith("results") for name in found)


def test_no_import_runs_upward_inside_harness() -> None:
    """On one floor, modules may import each other as long as there is no circle: each waits for what it imports."""
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for path in [path for path in FILES if path.is_relative_to(ROOT / "harness")]:
        room = path.relative_to(ROOT / "harness").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] == "harness" and len(parts) > 1 and parts[1] in floor:
                assert floor[parts[1]] <= floor[room], f"{path.relative_to(ROOT)} imports {name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {}
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        graph[module] = {
            name for name in imported_modules(path) if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()
        }
    assert list(TopologicalSorter(graph).static_order())


def test_each_name_means_one_class_or_function() -> None:
    """Only subcommands of `bench` share names, such as `get`: these are what a user types."""
    places = defaultdict(list)
    for path in [path for path in FILES if not path.is_relative_to(ROOT / "harness" / "cli")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_contracts_are_the_ground() -> None:
    tree = ast.parse((ROOT / "harness" / "api.py").read_text(encoding="utf-8"))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= {"abc", "collections.abc", "dataclasses", "typing", "numpy"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "methods"],
        ["list", "methods", "--markdown"],
        ["list", "metrics"],
        ["list", "datasets"],
    ],
)
def test_help_and_lists_load_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from miasbench.harness.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "slow = {'torch', 'pandas', 'scipy', 'anomalib', 'sklearn'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_typo_in_a_name_costs_no_import_of_torch(tmp_path: Path) -> None:
    for arguments, says in (
        (["--methods", "intensty", "--dataset", "phantom_brain_mri"], "Did you mean 'intensity'?"),
        (["--methods", "mias_sam", "--dataset", "phantom_brain_mr"], "Did you mean 'phantom_brain_mri'?"),
        (["--methods", "mias_sam", "--dataset", "./nowhere"], f"There is no dataset at {tmp_path}/nowhere"),
    ):
        code = (
            "import sys\n"
            "from miasbench.harness.cli import main\n"
            f"try: main({['run', *arguments]!r})\n"
            "except SystemExit as end: assert end.code == 2, end.code\n"
            "assert 'torch' not in sys.modules\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert says in done.stderr
