import ctypes
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO
from unittest.mock import patch

import pytest
from hypothesis import settings
from matplotlib.figure import Figure
from PIL import Image

from miasbench.harness.running import device

# Read when torch and FAISS are loaded. Threads that wait for each other by turning in circles, as is the default, make
# FAISS's many small steps up to a hundred times slower where something else runs on the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Methods that a test puts in place are known in its own process only; what processes are for is tested by name.
os.environ["MIASBENCH_EXECUTOR"] = "inline"

# The same examples each time: what a pull request is judged by must not depend on luck.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


MEMORY_LIMIT = 3.0  # GB

# Importing torch and all else makes millions of objects and no garbage to speak of.
gc.disable()


def pytest_collection_finish() -> None:
    """Leaves what is imported by now out of every later garbage collection: a run ends each cell with one."""
    gc.enable()
    gc.collect()
    gc.freeze()


def _peak_memory() -> float:
    """The most memory that this process, or one that it has started and that has ended, ever had: GB; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9  # KiB on Linux


@pytest.fixture(scope="session", autouse=True)
def _peaks(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
    """No process of the tests takes more memory than a small machine has for each of its cores.

    Tests that are marked `soak`, such as those of a whole ViT-B, may take more.

    Yields:
        For each file, in order, the peak until its end.
    """
    peaks: dict[str, float] = {}
    yield peaks
    if any(item.get_closest_marker("soak") for item in request.session.items):
        return
    for file, peak in peaks.items():
        if peak > MEMORY_LIMIT:
            pytest.fail(
                f"A test process, or one that it started, took {peak:.2f} GB of memory in {file} or before. The limit "
                f"is {MEMORY_LIMIT} GB: use smaller networks or images there, or let go of them earlier.",
                pytrace=False,
            )


@pytest.fixture(scope="module", autouse=True)
def _memory_is_given_back(request: pytest.FixtureRequest, _peaks: dict[str, float]) -> Iterator[None]:
    """No file of tests begins with the networks of another one.

    They are in circles of references, and glibc keeps what was freed in small pieces. What is left is modules that the
    file was the first to import: no later collection needs to look through them.
    """
    yield
    gc.collect()
    gc.freeze()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    _peaks[request.node.nodeid] = _peak_memory()


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither tests nor what they start read or fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIASBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MIASBENCH_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        patch.delenv("MIASBENCH_CACHE_GB", raising=False)
        yield


@pytest.fixture(autouse=True)
def _variables_stay_in_their_test() -> Iterator[None]:
    """What a command says to libraries by variables is not heard by the next test."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test cuts the power, so none waits until what it has written would outlive that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_fair_runtimes() -> Iterator[None]:
    """No test compares runtimes of its own runs, so none takes the quickest of many calibrations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_REPEATS", 2)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are put together and saved, but not drawn: for tests of which files there are, and of what is said."""

    def save(figure: Figure, to: BinaryIO, **_: object) -> None:
        Image.new("L", (1, 1)).save(to, "PNG")

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it, and from then on nothing reaches the disk; call it with False, and all does again."""
    working = os.fsync

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda full=True: monkeypatch.setattr(os, "fsync", fail if full else working)
