"""Work that is kept on disk between runs, such as the features of images: nothing is encoded twice.

The folder is `$MIASBENCH_CACHE`, or `cache` in the user's cache folder. It holds at most `$MIASBENCH_CACHE_GB`
gigabytes, 20 by default; 0 turns it off. Deleting it costs time and nothing else.

A file in it, `CACHEDIR.TAG`, says that the folder is this cache (https://bford.info/cachedir): a folder that holds
anything else is not taken for one. Only entries, which have names of their own, are ever deleted.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import platformdirs

from .api import UsageError
from .files import path_text
from .paths import folder_of
from .safe_files import below, plain_files, read_bytes, write_whole

_READ_ALL = "MIASBENCH_VERIFY_DATA"
_TAG = "CACHEDIR.TAG"
_TAG_CONTENT = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is the cache of miasbench, which deletes the entries that were not used for longest.
# Deleting it costs time and nothing else.
"""
_STAGING = ".new-"
_ENTRY = re.compile(r"[0-9a-f]{64}")
_STAGED = re.compile(rf"{re.escape(_STAGING)}\w{{8}}")
_ABANDONED = 24 * 3600  # seconds after which what is being written belongs to a process that was killed


@contextmanager
def reading_all(wanted: bool = True) -> Iterator[None]:
    """Has every file of a dataset read in it, whatever was kept of it; also in the processes that it starts."""
    before = os.environ.get(_READ_ALL, "")
    os.environ[_READ_ALL] = "1" if wanted else before
    try:
        yield
    finally:
        os.environ[_READ_ALL] = before


def reads_all() -> bool:
    """Whether this is inside `reading_all`."""
    return bool(os.environ.get(_READ_ALL))


def cache_key(*parts: str | bytes) -> str:
    """Names an entry by everything that it depends on: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


class Cache:
    """Files and folders under keys, of limited size, that several processes may share.

    An entry appears whole or not at all, because it is written elsewhere and then renamed. When there is too much, what
    was not used for longest goes. A full or read-only disk makes entries disappear, it does not make a run fail.

    Args:
        folder: Where the entries are; made when the first one is written.
        limit: Bytes that all entries may take together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    @classmethod
    def from_environment(cls) -> "Cache":
        """The user's cache.

        Raises:
            UsageError: `$MIASBENCH_CACHE_GB` is not a number, or the folder holds other files.
        """
        folder = folder_of("MIASBENCH_CACHE", Path(platformdirs.user_cache_dir("miasbench")) / "cache")
        size = os.environ.get("MIASBENCH_CACHE_GB") or "20"
        try:
            cache = cls(folder, int(float(size) * 1e9))
        except (ValueError, OverflowError) as error:
            raise UsageError(f"MIASBENCH_CACHE_GB is {size!r}; it should be a number of gigabytes, or 0.") from error
        if cache._limit > 0 and (other := cache._other_file()):
            raise UsageError(
                f"The folder {folder} cannot be the cache, because it holds other files, such as {path_text(other)}. "
                "Name one with MIASBENCH_CACHE that is empty or not there yet."
            )
        return cache

    def find(self, key: str) -> Path | None:
        """Returns the entry of a key, and marks it as used; it may still vanish before it is read.

        What is neither a file nor a folder, such as a pipe, is none.
        """
        if self._limit <= 0:
            return None
        try:
            path = below(self._folder, key)
            os.utime(path)
        except OSError:
            return None
        return path if path.is_file() or path.is_dir() else None

    def discard(self, key: str) -> None:
        """Removes an entry, such as one that turned out to be damaged."""
        _remove(self._folder / key)

    def store(self, key: str, size: int, write: Callable[[Path], object]) -> None:
        """Makes an entry; trouble with the disk leaves none.

        Args:
            key: A key from `cache_key`.
            size: Bytes that will be written, about; what is larger than the whole cache is not kept.
            write: Is given a path, not there yet, and writes a file or a folder to it.
        """
        if size > self._limit:
            return
        with suppress(OSError):
            if self._other_file():
                return
            if not (self._folder / _TAG).exists():
                write_whole(self._folder / _TAG, _TAG_CONTENT)
            with tempfile.TemporaryDirectory(prefix=_STAGING, dir=self._folder, ignore_cleanup_errors=True) as staging:
                path = Path(staging) / key
                write(path)
                for file in _files(path):
                    _flush(file)
                path.rename(self._folder / key)  # fails where another process was faster with a folder
            self._trim()

    def scratch(self, size: int) -> BinaryIO | None:
        """Makes a file without a name on the cache's disk, which is gone when nobody has it open.

        Args:
            size: Bytes that will be written.

        Returns:
            The file; `None` where so much is more than the cache may take, or than a half of what is free.
        """
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if size <= min(self._limit, shutil.disk_usage(self._folder).free // 2):
                return cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))
        return None

    def _other_file(self) -> str:
        """The name of something in a folder without the tag that no cache has; empty where there is none."""
        with suppress(OSError):
            if b"miasbench" in read_bytes(self._folder / _TAG):
                return ""
        with suppress(OSError):
            names = {path.name for path in self._folder.iterdir() if not path.name.startswith(".")}
            return min((name for name in names if not _ENTRY.fullmatch(name)), default="")
        return ""

    def _trim(self) -> None:
        """Removes the entries that were not used for longest until the rest is within the limit."""
        entries = []
        for path in self._folder.iterdir():
            with suppress(OSError):  # another process may trim at the same time
                if _STAGED.fullmatch(path.name):
                    if time.time() - path.lstat().st_mtime > _ABANDONED:
                        _remove(path)
                elif _ENTRY.fullmatch(path.name):
                    entries.append((path.lstat().st_mtime_ns, sum(file.stat().st_size for file in _files(path)), path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._limit:
                return
            _remove(path)
            total -= size


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [*plain_files(path)]


def _flush(file: Path) -> None:
    """Brings a file to the disk before it gets its name, so that a power cut leaves no half of it."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
