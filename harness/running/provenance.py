"""The facts that let a result be trusted later: versions, hardware, the command."""

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from ..distributions import git_commit, plugin_records

_PACKAGES = ("torch", "torchvision", "segment-anything", "anomalib", "faiss-cpu", "timm", "numpy", "scipy", "pandas")


def environment(device: str, command: str) -> dict[str, Any]:
    """The command of a run, and versions, hardware and git commits of this process and of the plugins it knows."""
    import torch

    return {
        "command": command,
        "python": platform.python_version(),
        "packages": dict(_versions()),
        "git_commit": git_commit(Path(__file__)),
        "plugins": plugin_records(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else None,
    }


@cache
def _versions() -> Mapping[str, str]:
    return {name: importlib.metadata.version(name) for name in ("miasbench", *_PACKAGES)}


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


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
