"""Files below a folder that may have been received: nothing there is followed out of it, and nothing is read but files.

A folder that the user names may be a link. What lies below it, in a run, a report, a cache or a folder of weights, is
the project's own: a link there was put there by somebody else, and what it points to is neither read, nor written, nor
deleted. All rooms read, write and delete such files through these functions.
"""

import errno
import io
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO, TypeVar

from .files import PLAIN, naming

if TYPE_CHECKING:
    from upath import UPath

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither; `below` looks for links there too
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for somebody to write to a pipe
_BINARY = getattr(os, "O_BINARY", 0)

_LARGEST = 2**30  # bytes of a file that is read at once, where nothing says less
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")

_AnyPath = TypeVar("_AnyPath", Path, "UPath")


def below(folder: _AnyPath, *names: str) -> _AnyPath:
    """The path of a file or folder in a folder, or deeper, that leads there through no link.

    Args:
        folder: The folder; it may be a link itself. In an object store, where there are no links, nothing is looked at.
        names: The names of folders, and of the file, below each other. Nothing needs to be there yet.

    Raises:
        OSError: A part is a link, or is no name of a single file (`filename` is the path).
    """
    for name in names:
        if name in ("", ".", "..") or os.path.basename(name) != name or "\0" in name:  # noqa: PTH119 - no file is meant
            raise OSError(errno.EINVAL, "it is no name of a file", f"{folder}/{name}")
        folder = folder / name
        if isinstance(folder, Path) and folder.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(folder))
    return folder


def read_bytes(path: "Path | UPath", *, follow: bool = False, most: int = _LARGEST) -> bytes:
    """Reads a file that is neither a link, nor a pipe or device, which might never end.

    Args:
        path: The file.
        follow: Whether it may be a link.
        most: Bytes that it may have.

    Raises:
        OSError: It is one of these, too large, or cannot be read; `filename` is the path.
    """
    if not isinstance(path, Path):
        return path.read_bytes()
    with open_plain(path, os.O_RDONLY, follow=follow) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
        return file.read()


@contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[TextIO]:
    """Opens a text that may be a link, but neither a pipe nor a device; line ends stay as they are.

    Raises:
        OSError: It is one of these, or cannot be opened; `filename` is the path.
    """
    with open_plain(path, os.O_RDONLY, follow=True) as file, io.TextIOWrapper(file, encoding, newline="") as text:
        yield text


@contextmanager
def open_plain(path: Path, flags: int, *, follow: bool = False) -> Iterator[BinaryIO]:
    """Opens a file that is neither a link, nor a pipe or device, nor, when it is written to, one of several names.

    Args:
        path: The file.
        flags: Those of `os.open`.
        follow: Whether it may be a link.

    Raises:
        OSError: It is one of these, or cannot be opened; `filename` is the path.
    """
    descriptor = os.open(path, flags & ~os.O_TRUNC | (0 if follow else _NO_LINK) | _NO_WAITING | _BINARY, 0o666)
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
    with os.fdopen(descriptor, "wb" if writes else "rb") as file:
        found = os.fstat(descriptor)
        number = 0
        if not stat.S_ISREG(found.st_mode):
            number = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.ESPIPE
        elif writes and found.st_nlink > 1:  # the other name may be that of another's file
            number = errno.EMLINK
        if number:
            why = "it is a pipe or a device and not a file" if number == errno.ESPIPE else os.strerror(number)
            raise OSError(number, why, os.fspath(path))
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
        yield file


def write_whole(path: Path, content: bytes | str) -> None:
    r"""Writes a file, and the folders it is in, so that a reader, now or after a crash, sees all of it or none.

    A link that stands in its place is replaced, and not followed. Text is written in UTF-8, with bytes of file names
    that are none (see `path_text`) as `\xNN`.

    Raises:
        OSError: It cannot be written; `filename` is the path.
    """
    data = content.encode(errors=PLAIN) if isinstance(content, str) else content
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:  # which fails where anything is, be it a link
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def is_unfinished(path: "Path | UPath") -> bool:
    """Whether a file, by its name, is one that `write_whole` had begun when its process was killed."""
    return _TEMPORARY.fullmatch(path.name) is not None


def write_named(path: Path, content: bytes | str) -> None:
    """Writes the very file that a user named, as `write_whole`, but through a link, or to a device or pipe.

    Raises:
        OSError: It cannot be written; `filename` is the path.
    """
    if path.exists() and not path.is_file():
        with naming(path):
            path.write_bytes(content.encode(errors=PLAIN) if isinstance(content, str) else content)
    else:
        write_whole(path.resolve() if path.is_symlink() else path, content)


@contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to be filled that appears in this place when all of it is there, or not at all.

    Raises:
        OSError: It cannot be written; `filename` is the folder.
    """
    with naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".", dir=folder.parent)
    with temporary:
        inside = Path(temporary.name) / folder.name
        try:
            yield inside
        except OSError as error:
            if error.errno is not None and str(error.filename or inside).startswith(str(inside)):
                error.filename = os.fspath(folder)
            raise
        with naming(folder):
            inside.replace(folder)


def plain_files(folder: _AnyPath) -> Iterator[_AnyPath]:
    """The files in a folder and in those below it, without links and what they lead to."""
    if not isinstance(folder, Path):
        yield from (path for path in folder.rglob("*") if path.is_file())
        return
    for place, _, names in os.walk(folder):
        for path in map((folder / os.path.relpath(place, folder)).joinpath, names):
            if path.is_file() and not path.is_symlink():
                yield path
