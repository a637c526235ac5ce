import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets import inspecting
from miasbench.datasets.image_files import inspect
from miasbench.datasets.inspecting import Inspected, inspect_all
from miasbench.harness.api import DataError
from miasbench.harness.cache import reading_all


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the files that were read; the files are older than what is too new to be trusted."""
    read: list[str] = []
    monkeypatch.setenv("MIASBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inspecting, "inspect", lambda path: read.append(path.name) or inspect(path))
    monkeypatch.setattr(inspecting, "_FEWEST", 0)
    monkeypatch.setattr(inspecting, "_SETTLED", 0)
    return read


def images(folder: Path, count: int = 5) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((3, 4 + number), 7, np.uint8)).save(path)
    return paths


def test_files_that_have_not_changed_are_not_read_again(tmp_path: Path, read: list[str]) -> None:
    paths = images(tmp_path)
    first = inspect_all(paths)
    assert first == {path: Inspected(*inspect(path)) for path in paths}
    read.clear()
    assert inspect_all(paths) == first
    assert not read


def test_a_file_is_read_again_when_it_has_changed_even_if_its_size_and_time_have_not(
    tmp_path: Path, read: list[str]
) -> None:
    paths = images(tmp_path)
    first = inspect_all(paths)
    before = paths[2].stat()
    content = bytearray(paths[2].read_bytes())
    other = tmp_path / "other.png"
    Image.fromarray(np.full((3, 6), 9, np.uint8)).save(other)
    changed = other.read_bytes()
    assert len(changed) == len(content)
    paths[2].write_bytes(changed)
    os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    read.clear()
    second = inspect_all(paths)
    assert read == ["2.png"]
    assert second[paths[2]] != first[paths[2]]
    assert {path: one for path, one in second.items() if path != paths[2]} == {
        path: one for path, one in first.items() if path != paths[2]
    }


def test_a_damaged_file_is_never_kept(tmp_path: Path, read: list[str]) -> None:
    paths = images(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    for _ in range(2):
        read.clear()
        assert isinstance(inspect_all(paths)[paths[1]], DataError)
        assert "1.png" in read


def test_some_are_looked_at_all_the_same_and_one_that_differs_has_all_read(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path)
    first = inspect_all(paths)
    monkeypatch.setattr(inspecting, "_FEWEST", 1)
    read.clear()
    assert inspect_all(paths) == first
    assert len(read) == 1
    monkeypatch.setattr(inspecting, "_FEWEST", 5)
    monkeypatch.setattr(inspecting, "_state", lambda path: path.name)  # a file system that tells nothing of changes
    inspect_all(paths)
    Image.fromarray(np.full((9, 9), 1, np.uint8)).save(paths[3])
    read.clear()
    assert inspect_all(paths)[paths[3]] == Inspected(*inspect(paths[3]))
    assert sorted(set(read)) == [path.name for path in paths]


def test_all_are_read_where_that_is_asked_for(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path)
    inspect_all(paths)
    read.clear()
    with reading_all():
        inspect_all(paths)
    assert sorted(read) == [path.name for path in paths]
    read.clear()
    inspect_all(paths)
    assert not read


def test_a_file_that_was_just_written_may_change_without_another_time_and_is_read_again(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "_SETTLED", 3600 * 10**9)
    paths = images(tmp_path)
    inspect_all(paths)
    read.clear()
    inspect_all(paths)
    assert len(read) == len(paths)


def test_a_damaged_cache_costs_time_only(tmp_path: Path, read: list[str]) -> None:
    paths = images(tmp_path)
    first = inspect_all(paths)
    (entry,) = [path for path in (tmp_path / "cache").iterdir() if len(path.name) == 64]
    for content in ("{", '{"a": 1}', "[]", '{"a": ["x", [1, "y"]]}'):
        entry.write_text(content)
        assert inspect_all(paths) == first
