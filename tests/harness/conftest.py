import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from miasbench.harness import registry
from miasbench.harness.registry import Entry


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The methods of plugins.py, under their names in lower case."""
    spec = importlib.util.spec_from_file_location("bench_test_methods", Path(__file__).with_name("plugins.py"))
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
    )
    for name in names:
        entry = Entry(f"{spec.name}:{name}", "for a test")
        monkeypatch.setitem(registry.METHODS, name.lower(), entry)
    yield module
