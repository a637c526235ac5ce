import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from miasbench.harness.api import UsageError
from miasbench.harness.cache import Cache, cache_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there yet"


def keep(cache: Cache, key: str, size: int = 10) -> None:
    cache.store(key, size, lambda path: path.write_bytes(b"x" * size))


def used_at(folder: Path, **seconds: int) -> None:
    for key, second in seconds.items():
        os.utime(folder / key, (second, second))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_stored_is_found(folder: Path) -> None:
    cache = Cache(folder, 100)
    key = cache_key("features", b"image")
    assert cache.find(key) is None
    cache.store(key, 7, lambda path: path.write_bytes(b"content"))
    found = Cache(folder, 100).find(key)
    assert found is not None
    assert found.read_bytes() == b"content"
    assert names(folder) == {key}, "nothing else is left behind"
    cache.discard(key)
    assert cache.find(key) is None
    cache.discard(key)


def test_a_folder_is_an_entry_too(folder: Path) -> None:
    def write(path: Path) -> None:
        (path / "deeper").mkdir(parents=True)
        (path / "deeper" / "a").write_bytes(b"a" * 60)
        (path / "b").write_bytes(b"b" * 30)

    cache = Cache(folder, 100)
    cache.store("bank", 90, write)
    found = cache.find("bank")
    assert found is not None
    assert (found / "deeper" / "a").read_bytes() == b"a" * 60
    used_at(folder, bank=1)
    keep(cache, "small", 10)
    assert names(folder) == {"bank", "small"}, "together they have exactly the limit"
    used_at(folder, bank=1)
    keep(cache, "other", 1)
    assert names(folder) == {"small", "other"}, "a folder counts with all its files, and goes as a whole"
    cache.store("bank", 90, write)
    cache.discard("bank")
    assert cache.find("bank") is None


def test_the_same_key_again_leaves_one_entry(folder: Path) -> None:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "file").write_bytes(b"bank")

    cache = Cache(folder, 100)
    for _ in range(2):
        keep(cache, "file")
        cache.store("folder", 4, write)
    assert names(folder) == {"file", "folder"}
    assert (folder / "folder" / "file").read_bytes() == b"bank"


def test_what_was_not_used_for_longest_goes_first(folder: Path) -> None:
    cache = Cache(folder, 30)
    for key in "abc":
        keep(cache, key)
    used_at(folder, a=300, b=100, c=200)
    keep(cache, "d")
    assert names(folder) == {"a", "c", "d"}
    keep(cache, "e", 20)
    assert names(folder) == {"d", "e"}


def test_finding_is_using(folder: Path) -> None:
    cache = Cache(folder, 30)
    for key in "abc":
        keep(cache, key)
    used_at(folder, a=100, b=200, c=300)
    cache.find("a")
    keep(cache, "d")
    assert names(folder) == {"a", "c", "d"}


def test_what_is_larger_than_the_whole_cache_is_not_kept(folder: Path) -> None:
    cache = Cache(folder, 30)
    keep(cache, "a", 30)
    keep(cache, "b", 31)
    assert names(folder) == {"a"}, "and does not push the others out"
    cache.store("c", 1, lambda path: path.write_bytes(b"x" * 31))
    assert "c" not in names(folder), "sizes are counted, not believed"


def test_a_limit_of_0_turns_the_cache_off(folder: Path) -> None:
    keep(Cache(folder, 100), "before")
    off = Cache(folder, 0)
    keep(off, "a", 1)
    assert off.find("a") is None
    assert off.find("before") is None
    assert Cache(folder, 100).find("before") is not None, "what is there is neither used nor lost"


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_full_disk_leaves_no_entry(folder: Path, full_disk: Callable[..., None], as_folder: bool) -> None:
    def write(path: Path) -> None:
        if as_folder:
            path.mkdir()
        (path / "file" if as_folder else path).write_bytes(b"x")

    cache = Cache(folder, 100)
    full_disk()
    cache.store("a", 1, write)
    assert names(folder) == set()
    full_disk(False)
    cache.store("a", 1, write)
    assert names(folder) == {"a"}


def test_a_writer_that_fails_half_way_leaves_no_entry(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.mkdir()
        (path / "first").write_bytes(b"x")
        raise OSError("Input/output error")

    cache = Cache(folder, 100)
    cache.store("a", 1, fail)
    assert cache.find("a") is None
    assert names(folder) == set()


def test_a_mistake_of_the_writer_is_not_hidden(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"x")
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        Cache(folder, 100).store("a", 1, fail)
    assert names(folder) == set()


def test_a_folder_that_cannot_be_written_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = Cache(tmp_path / "file", 100)
    keep(cache, "a")
    assert cache.find("a") is None
    cache.discard("a")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_an_entry_is_not_seen_before_it_is_whole(folder: Path) -> None:
    cache = Cache(folder, 100)

    def write(path: Path) -> None:
        path.write_bytes(b"ha")
        assert Cache(folder, 100).find("a") is None
        keep(Cache(folder, 15), "b")  # another process, which makes room meanwhile
        path.write_bytes(b"half and half")

    cache.store("a", 13, write)
    assert (folder / "a").read_bytes() == b"half and half"


_WORKER = """
import random, sys
from pathlib import Path
from miasbench.harness.cache import Cache

def write(path):
    if int(path.name) % 2:
        path.mkdir()
        path /= "file"
    path.write_bytes(path.parts[-1 - int(path.name == "file")].encode() * 50)

cache, rng = Cache(Path(sys.argv[1]), 500), random.Random(sys.argv[2])
for _ in range(300):
    key = str(rng.randrange(10, 30))
    found = cache.find(key)
    if found is None:
        cache.store(key, 100, write)
        continue
    try:
        content = (found / "file" if int(key) % 2 else found).read_bytes()
    except OSError:
        continue  # it vanished before it was read
    assert content == key.encode() * 50, (key, content)
"""


def test_processes_share_a_cache(folder: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER, str(folder), str(seed)], stderr=subprocess.PIPE)
        for seed in range(4)
    ]
    for worker in workers:
        _, errors = worker.communicate()
        assert worker.returncode == 0, errors.decode()
    keep(Cache(folder, 500), "last", 100)
    assert not [name for name in names(folder) if name.startswith(".")]
    assert 100 <= sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 500


def test_the_environment_says_where_and_how_much(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("MIASBENCH_CACHE", str(folder))
    monkeypatch.setenv("MIASBENCH_CACHE_GB", "1e-6")  # 1000 bytes
    cache = Cache.from_environment()
    keep(cache, "a", 1000)
    keep(cache, "b", 1001)
    assert names(folder) == {"a"}
    monkeypatch.delenv("MIASBENCH_CACHE_GB")
    keep(Cache.from_environment(), "b", 1001)
    assert names(folder) == {"a", "b"}, "20 GB by default"


@pytest.mark.parametrize("size", ["plenty", "20GB", "nan", "inf"])
def test_a_size_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("MIASBENCH_CACHE_GB", size)
    with pytest.raises(UsageError, match=f"MIASBENCH_CACHE_GB is '{size}'; it should be a number of gigabytes"):
        Cache.from_environment()


def test_a_key_depends_on_every_part_and_on_where_it_ends() -> None:
    keys = [cache_key(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), (), ("c", "ab"), ("ab",))]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 and not set(key) - set("0123456789abcdef") for key in keys)
    assert cache_key("ab", b"c") == cache_key(b"ab", "c")


def test_what_a_killed_process_left_behind_goes(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, second in (("killed", 1), ("at work", int(time.time()))):
        staging = folder / f".new-{name}"
        staging.mkdir()
        os.utime(staging, (second, second))
    keep(Cache(folder, 100), "entry")
    assert names(folder) == {"entry", ".new-at work"}
