"""What a result has to carry so that it can be trusted later: versions, hardware, code."""

import hashlib
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from ..api import Dataset, Method
from ..registry import BUILT_IN, dataset_entry, method_entry, parse_method, policies, with_inner
from .distributions import git_commit, plugin_records, with_source

_ROOMS = (
    "harness/api.py",
    "harness/data/frame.py",
    "harness/running/cells.py",
    "harness/cache.py",
    "methods",
    "datasets",
)
_SCORED_BY = ("deciding", "frame", "masks", "metrics", "scanning", "scoring", "statistics", "thresholds")
_SCORING = (*(f"harness/{name}.py" for name in _SCORED_BY), "results/tables.py")
_HYPERPARAMETERS = ("target", "anomalib", "options", "schedule", "input_size")  # of a card
_PACKAGES = ("torch", "torchvision", "segment-anything", "anomalib", "faiss-cpu", "timm", "numpy", "scipy", "pandas")


def code_version(methods: Iterable[str], dataset: str = "") -> str:
    """Names the code that makes predictions, of a method or of several that work together, on a dataset.

    A hash of the sources of the rooms that a prediction passes through, so that a working copy with changes is never
    taken for the release; with it the hyperparameters on the methods' cards, and for plugins their distribution's
    version and a hash of its sources.

    Args:
        methods: Names, without options.
        dataset: The name of a dataset; only a plugin's adds to the code.
    """
    digest = _hash_sources(_ROOMS)
    entries = [method_entry(name) for name in methods]
    for entry in entries:
        digest.update(repr([getattr(entry, name) for name in _HYPERPARAMETERS]).encode())
    version = f"{importlib.metadata.version('miasbench')}+{digest.hexdigest()[:12]}"
    others = [entry.distribution for entry in [*entries, dataset_entry(dataset)] if entry.distribution != BUILT_IN]
    return ", ".join([version, *with_source(others)])


def cell_version(method: Method, dataset: Dataset) -> str:
    """`code_version` of a method and those inside it, on a dataset."""
    return code_version(dict.fromkeys(parse_method(one.spec).name for one in with_inner(method)), dataset.name)


def scoring_version() -> str:
    """Names the code that makes scores of predictions: a hash of its sources and of the policies' distributions."""
    digest = _hash_sources(_SCORING)
    entries = policies()
    digest.update(repr([(name, entry.distribution) for name, entry in entries.items()]).encode())
    digest.update(repr(with_source(entry.distribution for entry in entries.values())).encode())
    return digest.hexdigest()[:12]


def environment(device: str, command: str) -> dict[str, Any]:
    """The command of a run, and versions, hardware and git commits of this process and of the plugins it knows."""
    import torch

    return {
        "command": command,
        "python": platform.python_version(),
        "packages": {"miasbench": importlib.metadata.version("miasbench")}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "git_commit": git_commit(Path(__file__)),
        "plugins": plugin_records(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else None,
    }


def command_line() -> str:
    """The command that started this process, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def asked_threads() -> int | None:
    """How many threads `$OMP_NUM_THREADS` asks for, if it does."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) else None


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _hash_sources(rooms: Iterable[str]) -> "hashlib._Hash":
    """Begins a hash with Python files, or with all of a folder, named by their paths in the project."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in rooms:
        for file in sorted([root / room] if room.endswith(".py") else (root / room).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
