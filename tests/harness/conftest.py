import importlib.util
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from miasbench.harness import registry
from miasbench.harness.registry import Entry

_SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The methods of plugins.py, under their names in lower case."""
    spec = importlib.util.spec_from_file_location("bench_test_methods", _SUPPORT / "plugins.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    names = (
        "Scripted",
        "Trained",
        "Wrapping",
        "Telling",
        "Cached",
        "Controlled",
        "Followed",
        "Failing",
        "Wrong",
        "Together",
        "InBatches",
    )
    for name in names:
        entry = Entry(f"{spec.name}:{name}", "for a test")
        monkeypatch.setitem(registry.METHODS, name.lower(), entry)
    yield module


@pytest.fixture
def unruly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the method `unruly` for this process and those it starts; returns its diary."""
    site = tmp_path / "site"
    installed = site / "unruly_plugin-1.0.dist-info"
    installed.mkdir(parents=True)
    shutil.copy(_SUPPORT / "unruly.py", site / "unruly_plugin.py")
    (installed / "METADATA").write_text("Name: unruly-plugin\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[miasbench.methods]\nunruly = unruly_plugin:Unruly\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    diary = tmp_path / "diary.txt"
    monkeypatch.setenv("UNRULY_DIARY", str(diary))
    return diary


@pytest.fixture
def unconnected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Refuses to look up or connect to anything, and fails the test if that was asked for, whatever came of it.

    Yields:
        What was asked for.
    """
    asked: list[str] = []

    def refuse(*given: Any, **_: Any) -> Any:
        asked.append(str(given[-1] if isinstance(given[0], socket.socket) else given[0]))
        raise OSError("a test refuses connections")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    yield asked
    assert not asked
