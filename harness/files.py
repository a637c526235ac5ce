"""Files as file systems have them: names of any bytes, locks or none, and errors that need a remedy.

Beside the contracts, this is the ground that all rooms stand on.
"""

import codecs
import errno
import logging
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

PLAIN = "miasbench-plain"
"""An error handler of `str.encode`: what an encoding lacks is written with characters that every encoding has."""

_PLAIN = {
    **dict.fromkeys("·–—−─━", "-"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("‘’", "'"),
    "…": "...",
    "×": "x",
    "±": "+-",
    "†": "+",
    "‡": "#",
    "²": "2",
    "³": "3",
}
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
_PATIENCE = 10.0  # seconds before it is said who is waited for
_LOG = logging.getLogger("miasbench")
_AGAIN = "and run the same command again"
_MEANINGS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"its disk is full. Free some space, {_AGAIN}"),
    errno.ENOTDIR: "a part of its path is a file and not a folder. Move that, or name another {place}",
    **dict.fromkeys((errno.EEXIST, errno.ENOTEMPTY), "something is in its way. Move that, or name another {place}"),
    errno.EISDIR: "it is a folder and not a file. Name a file",
    errno.ENOENT: "there is no such file or folder. Look at the path",
    errno.ENAMETOOLONG: "its name is too long for the file system. Choose a shorter one",
    **dict.fromkeys((errno.EINVAL, errno.EILSEQ), "its file system does not take it. Name another {place}"),
    errno.ELOOP: "it is a link where none is followed, or its links lead in circles. Put the file or folder itself in "
    "its place",
    errno.ESPIPE: "it is a pipe or a device and not a file. Put a file there",
    errno.EMLINK: f"it is a file of several names, which is not written to. Remove it, {_AGAIN}",
    errno.EIO: "its disk reports an error. Look at the system's log, or name another {place}",
    **dict.fromkeys(
        (errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN),
        f"its file system has gone, as one of a network does. Mount it again, {_AGAIN}",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), f"too many files are open. Raise the limit (ulimit -n), {_AGAIN}"),
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), f"another program uses it. End that one, {_AGAIN}"),
    errno.EFBIG: "it is too large, for what it should be or for its file system. Name another {place}",
    **dict.fromkeys(_NO_LOCKS, "its file system cannot do that. Name another {place}"),
}


def explain(error: OSError, place: str = "place") -> str:
    """Says which file an error is about, what is wrong with it, and what to do.

    Args:
        error: An error of the operating system, or of a library, which has words of its own.
        place: The thing that the user should change, such as the option that takes the path.
    """
    path, number = error.filename, error.errno
    if number is None:
        return " ".join(str(error).split())
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        readable = number == errno.EROFS or not os.path.lexists(path or "") or os.access(path, os.R_OK)
        meaning = f"it is not {'writable' if readable else 'readable'}. Make it so, or name another {{place}}"
    else:
        meaning = _MEANINGS.get(number, f"{error.strerror}. Mend that, {_AGAIN}")
    about = f"{path_text(path)}: " if isinstance(path, str | bytes | os.PathLike) else ""
    return f"{about}{meaning.format(place=place)}."


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes an error of the file system tell the file it is about; that of a full disk does not, by itself."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = os.fspath(path), None
        raise


def path_text(path: str | bytes | os.PathLike[Any]) -> str:
    r"""Makes text of a path or a part of it, which may hold any bytes: those that are not UTF-8 become `\xNN`."""
    name = os.fspath(path)
    data = name.encode(errors="surrogateescape") if isinstance(name, str) else name
    return data.decode(errors="backslashreplace")


def one_spelling(text: str) -> str:
    """A name or a path as it is compared: Unicode has several spellings of one, and macOS another than Linux."""
    return unicodedata.normalize("NFC", text)


class Lock:
    """The right to write something, which one process has at a time, and which ends with that process.

    Where there are no locks, as in an object store or on some network file systems, everybody has it.

    Attributes:
        works: Whether there are locks; known once it is acquired.

    Args:
        path: The file that is locked; `None` where there are no files.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        # filelock's own way out is a file that a killed process leaves, and that others would wait for.
        self._lock = FileLock(path, fallback_to_soft=False) if path else None
        self.works = path is not None

    def acquire(self, wait: bool = True) -> bool:
        """Takes the right, if need be after whoever has it; returns whether that came about.

        Where it takes a while, a warning to the log `miasbench` says who has it.

        Raises:
            OSError: The file cannot be made; `filename` is the path.
        """
        if self._lock is None or self._path is None:
            return True
        with naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                try:
                    self._lock.acquire(timeout=_PATIENCE if wait else 0)
                except Timeout:
                    if not wait:
                        return False
                    _LOG.warning("Waiting for %s, which is held by %s.", path_text(self._path), _holder(self._path))
                    self._lock.acquire()
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                self.works = False
        return True

    def release(self) -> None:
        """Gives it up, if it was acquired."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _holder(path: Path) -> str:
    """Who holds a lock, as far as Linux tells."""
    import psutil

    place = str(path.stat().st_ino)
    with suppress(OSError, psutil.Error):
        for line in Path("/proc/locks").read_text().splitlines():
            _, _, _, _, holder, where, *_ = line.replace("-> ", "").split()
            if where.endswith(f":{place}") and int(holder) != os.getpid():
                return f"process {holder} ({psutil.Process(int(holder)).name()})"
    return "another process, perhaps of another machine"


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_plain, error.object[error.start : error.end])), error.end


def _in_plain(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte of a file's name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode()


codecs.register_error(PLAIN, _plain)
