"""What a result has to carry so that it can be trusted later: versions, hardware, code."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from .registry import METHODS, methods

_ROOMS = ("harness/api.py", "harness/frame.py", "harness/runner.py", "methods", "datasets")
_PACKAGES = ("torch", "torchvision", "segment-anything", "anomalib", "faiss-cpu", "timm", "numpy", "scipy", "pandas")


def code_version(method: str) -> str:
    """Names the code that makes a method's predictions.

    A hash of the sources of the rooms that a prediction passes through, so that a working copy with changes is never
    taken for the release; for a plugin also its distribution's version.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in _ROOMS:
        for file in sorted([root / room] if room.endswith(".py") else (root / room).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    version = f"{importlib.metadata.version('miasbench')}+{digest.hexdigest()[:12]}"
    return version if method in METHODS else f"{version}, {methods()[method].distribution}"


def environment(device: str) -> dict[str, Any]:
    """Versions, hardware, git commit and command of this process."""
    import torch

    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {"miasbench": importlib.metadata.version("miasbench")}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }


def _git_commit() -> str | None:
    """The commit of the checkout this package runs from; `None` for an installed wheel."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=False)
        if tracked.returncode:
            return None
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # git is not installed
        return None
    return described.stdout.strip() or None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
