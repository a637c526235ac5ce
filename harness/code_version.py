"""Names the code behind a number, so that a result is made again when that code has changed, and only then.

Predictions depend on what their method and dataset import of the project, and on what every cell passes through; scores
on the folder `scoring`. A hash of these files also tells a working copy with changes from the release.
"""

import ast
import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from .api import Dataset, Method
from .distributions import with_source
from .registry import BUILT_IN, Entry, dataset_entry, method_entry, method_names, policies

_ROOT = Path(__file__).parents[1]
_EVERY_CELL = ("data/frame", "data/subset", "running/cell_run", "running/cells", "running/device")
_EVERY_SCORE = (
    "harness/data/foreground.py",
    "harness/data/frame.py",
    "results/metrics.py",
    "results/tables.py",
)  # beside the folder `scoring`
_HYPERPARAMETERS = ("target", "anomalib", "options", "schedule", "input_size")  # of a card


def code_version(methods: Iterable[str], dataset: str = "") -> str:
    """Names the code that makes predictions, of a method or of several that work together, on a dataset.

    A hash of the files that they import and of those that every cell passes through, with the hyperparameters on the
    methods' cards; for plugins also their distribution's version and a hash of its sources.

    Args:
        methods: Names, without options.
        dataset: The name of a dataset, or a folder.
    """
    entries = [*map(method_entry, methods), dataset_entry(dataset)]
    files = {_ROOT / "harness" / f"{name}.py" for name in _EVERY_CELL}
    digest = _hash(files.union(*map(_files_of, entries)))
    digest.update(repr([getattr(entry, name) for entry in entries for name in _HYPERPARAMETERS]).encode())
    version = f"{importlib.metadata.version('miasbench')}+{digest.hexdigest()[:12]}"
    others = [entry.distribution for entry in entries if entry.distribution != BUILT_IN]
    return ", ".join([version, *with_source(others)])


def cell_version(method: Method, dataset: Dataset) -> str:
    """`code_version` of a method and those inside it, on a dataset."""
    return code_version(method_names(method), dataset.name)


def scoring_version() -> str:
    """Names the code that makes scores of predictions: a hash of its files and of the policies' distributions."""
    digest = _hash([*_folder("harness/scoring"), *(_ROOT / name for name in _EVERY_SCORE)])
    entries = policies()
    digest.update(repr([(name, entry.distribution) for name, entry in entries.items()]).encode())
    digest.update(repr(with_source(entry.distribution for entry in entries.values())).encode())
    return digest.hexdigest()[:12]


@cache
def imported_files(module: str) -> frozenset[Path]:
    """The project's files that importing a module imports, directly or not, those inside functions included.

    Args:
        module: Such as `miasbench.methods.intensity`; there is none of a module that is not of the project.
    """
    found: set[Path] = set()
    left = [module.removeprefix("miasbench.")] if module.startswith("miasbench.") else []
    while left:
        name = left.pop()
        for file in _files(name):
            if file not in found:
                found.add(file)
                left.extend(_imports(file))
    return frozenset(found)


def _files_of(entry: Entry) -> frozenset[Path]:
    """The project's files behind an entry; which of the methods a plugin uses is not looked at, so it is all."""
    module = entry.target.partition(":")[0]
    if entry.distribution == BUILT_IN:
        return imported_files(module)
    return frozenset(_folder("methods")) | imported_files("miasbench.harness.api")


def _folder(room: str) -> list[Path]:
    return list((_ROOT / room).rglob("*.py"))


def _files(module: str) -> Iterator[Path]:
    """The file of a module and those of the packages that it is in; none where it is no module of the project."""
    path = _ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return
    yield file
    for package in path.relative_to(_ROOT).parents[:-1]:
        yield _ROOT / package / "__init__.py"


def _imports(file: Path) -> Iterator[str]:
    """The names in relative imports, each of which may be a module, or something in one."""
    package = file.relative_to(_ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join((*package[: len(package) - node.level + 1], *filter(None, [node.module])))
            yield from filter(None, [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)])


def _hash(files: Iterable[Path]) -> "hashlib._Hash":
    """Begins a hash with files, named by their paths in the project."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.relative_to(_ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest
