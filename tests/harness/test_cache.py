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


NAMES = {
    cache_key(name): name for name in ("a", "b", "c", "d", "e", "bank", "small", "other", "file", "folder", "entry")
}


def keep(cache: Cache, key: str, size: int = 10) -> None:
    cache.store(cache_key(key), size, lambda path: path.write_bytes(b"x" * size))


def used_at(folder: Path, **seconds: int) -> None:
    for key, second in seconds.items():
        os.utime(folder / cache_key(key), (second, second))


def names(folder: Path) -> set[str]:
    """What is in the folder, but for the tag that says that it is a cache."""
    return {NAMES.get(path.name, path.name) for path in folder.iterdir() if path.name != "CACHEDIR.TAG"}


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
    cache.store(cache_key("bank"), 90, write)
    found = cache.find(cache_key("bank"))
    assert found is not None
    assert (found / "deeper" / "a").read_bytes() == b"a" * 60
    used_at(folder, bank=1)
    keep(cache, "small", 10)
    assert names(folder) == {"bank", "small"}, "together they have exactly the limit"
    used_at(folder, bank=1)
    keep(cache, "other", 1)
    assert names(folder) == {"small", "other"}, "a folder counts with all its files, and goes as a whole"
    cache.store(cache_key("bank"), 90, write)
    cache.discard(cache_key("bank"))
    assert cache.find(cache_key("bank")) is None


def test_the_same_key_again_leaves_one_entry(folder: Path) -> None:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "file").write_bytes(b"bank")

    cache = Cache(folder, 100)
    for _ in range(2):
        keep(cache, "file")
        cache.store(cache_key("folder"), 4, write)
    assert names(folder) == {"file", "folder"}
    assert (folder / cache_key("folder") / "file").read_bytes() == b"bank"


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
    cache.find(cache_key("a"))
    keep(cache, "d")
    assert names(folder) == {"a", "c", "d"}


def test_what_is_larger_than_the_whole_cache_is_not_kept(folder: Path) -> None:
    cache = Cache(folder, 30)
    keep(cache, "a", 30)
    keep(cache, "b", 31)
    assert names(folder) == {"a"}, "and does not push the others out"
    cache.store(cache_key("c"), 1, lambda path: path.write_bytes(b"x" * 31))
    assert "c" not in names(folder), "sizes are counted, not believed"


def test_a_limit_of_0_turns_the_cache_off(folder: Path) -> None:
    keep(Cache(folder, 100), "before")
    off = Cache(folder, 0)
    keep(off, "a", 1)
    assert off.find(cache_key("a")) is None
    assert off.find(cache_key("before")) is None
    assert Cache(folder, 100).find(cache_key("before")) is not None, "what is there is neither used nor lost"


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_full_disk_leaves_no_entry(folder: Path, full_disk: Callable[..., None], as_folder: bool) -> None:
    def write(path: Path) -> None:
        if as_folder:
            path.mkdir()
        (path / "file" if as_folder else path).write_bytes(b"x")

    cache = Cache(folder, 100)
    full_disk()
    cache.store(cache_key("a"), 1, write)
    assert names(folder) == set()
    full_disk(False)
    cache.store(cache_key("a"), 1, write)
    assert names(folder) == {"a"}


def test_a_writer_that_fails_half_way_leaves_no_entry(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.mkdir()
        (path / "first").write_bytes(b"x")
        raise OSError("Input/output error")

    cache = Cache(folder, 100)
    cache.store(cache_key("a"), 1, fail)
    assert cache.find(cache_key("a")) is None
    assert names(folder) == set()


def test_a_mistake_of_the_writer_is_not_hidden(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"x")
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        Cache(folder, 100).store(cache_key("a"), 1, fail)
    assert names(folder) == set()


def test_a_folder_that_cannot_be_written_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = Cache(tmp_path / "file", 100)
    keep(cache, "a")
    assert cache.find(cache_key("a")) is None
    cache.discard(cache_key("a"))
    assert (tmp_path / "file").read_text() == "not a folder"


def test_an_entry_is_not_seen_before_it_is_whole(folder: Path) -> None:
    cache = Cache(folder, 100)

    def write(path: Path) -> None:
        path.write_bytes(b"ha")
        assert Cache(folder, 100).find(cache_key("a")) is None
        keep(Cache(folder, 15), "b")  # another process, which makes room meanwhile
        path.write_bytes(b"half and half")

    cache.store(cache_key("a"), 13, write)
    assert (folder / cache_key("a")).read_bytes() == b"half and half"


_WORKER = """
import random, sys
from pathlib import Path
from miasbench.harness.cache import Cache, cache_key

def write(path, name):
    if int(name) % 2:
        path.mkdir()
        path /= "file"
    path.write_bytes(name.encode() * 50)

cache, rng = Cache(Path(sys.argv[1]), 500), random.Random(sys.argv[2])
for _ in range(300):
    name = str(rng.randrange(10, 30))
    key = cache_key(name)
    found = cache.find(key)
    if found is None:
        cache.store(key, 100, lambda path: write(path, name))
        continue
    try:
        content = (found / "file" if int(name) % 2 else found).read_bytes()
    except OSError:
        continue  # it vanished before it was read
    assert content == name.encode() * 50, (name, content)
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
    assert (
        100 <= sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".TAG") <= 500
    )


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
    for name, second in (("killed_1", 1), ("at_work_", int(time.time()))):
        staging = folder / f".new-{name}"
        staging.mkdir()
        os.utime(staging, (second, second))
    keep(Cache(folder, 100), "entry")
    assert names(folder) == {"entry", ".new-at_work_"}


def test_nothing_is_deleted_but_entries(folder: Path) -> None:
    keep(Cache(folder, 30), "a")
    (folder / "thesis.pdf").write_bytes(b"x" * 100)
    (folder / "photos").mkdir()
    (folder / "photos" / "one.jpg").write_bytes(b"x" * 100)
    (folder / ".new-year").mkdir()
    (folder / cache_key("link")).symlink_to("photos", target_is_directory=True)
    for path in folder.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)
    for key in "bcde":
        keep(Cache(folder, 30), key)
    assert names(folder) - {cache_key("link")} == {"thesis.pdf", "photos", ".new-year", "c", "d", "e"}
    assert (folder / "photos" / "one.jpg").exists(), "nor what a link leads to"


@pytest.mark.parametrize("name", ["thesis.pdf", "photos/one.jpg", "CACHEDIR.TAG"])
def test_a_folder_that_holds_anything_else_is_no_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("of another program")
    monkeypatch.setenv("MIASBENCH_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=f"holds other files, such as {name.partition('/')[0]}"):
        Cache.from_environment()
    keep(Cache(tmp_path, 5), "a")
    assert names(tmp_path) <= {name.partition("/")[0]}
    monkeypatch.setenv("MIASBENCH_CACHE_GB", "0")
    assert Cache.from_environment().find("a") is None, "one that is turned off may be anywhere"


def test_a_folder_with_entries_of_an_older_version_is_taken(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / cache_key("a")).write_bytes(b"x")
    monkeypatch.setenv("MIASBENCH_CACHE", str(folder))
    assert Cache.from_environment().find(cache_key("a")) is not None
    keep(Cache.from_environment(), "b")
    assert (folder / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_in_the_cache_is_no_entry(folder: Path) -> None:
    cache = Cache(folder, 1000)
    keep(cache, "other")
    os.mkfifo(folder / cache_key("a"))
    assert cache.find(cache_key("a")) is None, "nobody waits at it"
    keep(cache, "a")
    found = cache.find(cache_key("a"))
    assert found is not None
    assert found.read_bytes() == b"x" * 10, "it makes room for an entry"


def test_what_a_link_in_the_cache_leads_to_is_no_entry(folder: Path, tmp_path: Path) -> None:
    keep(Cache(folder, 100), "a")
    (tmp_path / "mine").write_text("mine")
    (folder / cache_key("b")).symlink_to(tmp_path / "mine")
    assert Cache(folder, 100).find(cache_key("b")) is None
    Cache(folder, 100).discard(cache_key("b"))
    assert (tmp_path / "mine").exists()
