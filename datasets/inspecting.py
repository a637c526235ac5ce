"""The proof that the files of a dataset are whole, kept in the cache for those that have not changed since."""

import json
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..harness.api import DataError
from ..harness.cache import Cache, cache_key, reads_all
from .image_files import inspect

_VERSION = "1"  # to be raised when `inspect` finds other things
_SAMPLED = 0.01  # of the files that were proved whole before, and are looked at all the same
_FEWEST = 16
_THREADS = 4  # each may hold a file and its picture
_SETTLED = 2 * 10**9  # nanoseconds after which a file system gives a change another time


class Inspected(NamedTuple):
    """A file that is whole: the SHA-256 of its bytes in hexadecimal, and the height and width of its picture."""

    digest: str
    size: tuple[int, int]


def inspect_all(paths: Sequence[Path]) -> dict[Path, Inspected | DataError]:
    """Proves files whole, by several threads.

    A file that was proved before, and has the size, times and inode that it had then, is not read again. But some of
    these are, by chance: where one of them is another file now, all are read. `bench run --verify-data` and
    `bench data verify` read all.

    Returns:
        For each path what was found, or why the file cannot be used.
    """
    cache = Cache.from_environment()
    key = cache_key("inspected files", _VERSION, *(str(path).encode(errors="surrogateescape") for path in paths))
    states = {path: _state(path) for path in paths}
    kept = {} if reads_all() else _read(cache, key)
    known = {path: Inspected(*kept[state]) for path, state in states.items() if state in kept}
    sample = random.sample([*known], min(len(known), max(_FEWEST, round(_SAMPLED * len(known)))))
    read = _inspect(sample)
    if any(read[path] != known[path] for path in sample):
        known = {}
    fresh = [path for path in states if path not in known and path not in read]
    read |= _inspect(fresh)
    if fresh:
        _keep(cache, key, {states[path]: one for path, one in (known | read).items()})
    return {path: read.get(path) or known[path] for path in states}


def proved(found: Inspected | DataError) -> Inspected:
    """What `inspect_all` found of a file that must be whole.

    Raises:
        DataError: It is not.
    """
    if isinstance(found, DataError):
        raise found
    return found


def _inspect(paths: Sequence[Path]) -> dict[Path, Inspected | DataError]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(_inspect_one, paths), strict=True))


def _inspect_one(path: Path) -> Inspected | DataError:
    try:
        return Inspected(*inspect(path))
    except DataError as error:
        return error


def _state(path: Path) -> str:
    """What changes with a file: its path, size, times and inode; empty where it cannot be told, or not yet."""
    try:
        found = path.stat()
    except OSError:
        return ""
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED:
        return ""
    state = (str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)
    return json.dumps(state)


def _read(cache: Cache, key: str) -> dict[str, tuple[str, tuple[int, int]]]:
    path = cache.find(key)
    if path is not None:
        with suppress(OSError, ValueError, TypeError, AttributeError):
            content = json.loads(path.read_text(encoding="utf-8"))
            return {state: (str(digest), (int(size[0]), int(size[1]))) for state, (digest, size) in content.items()}
    return {}


def _keep(cache: Cache, key: str, found: dict[str, Inspected | DataError]) -> None:
    content = json.dumps({state: one for state, one in found.items() if state and isinstance(one, Inspected)})
    cache.store(key, len(content), lambda path: path.write_text(content, encoding="utf-8"))
