"""Fetching a file from a public server: resumed where it broke off, proved by its checksum, never half there.

Beside the contracts, this is the ground that datasets and methods stand on.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from io import BufferedReader
from pathlib import Path
from typing import cast

import requests

from ..api import BenchError, Progress
from ..files import Lock, explain
from ..network import OFFLINE, is_offline
from ..safe_files import below, open_plain, read_bytes, write_whole

_ATTEMPTS = 5  # in a row without one byte more, once any has come; before that, two
PAUSE = 0.5
"""Seconds before the next attempt, when bytes came; before each further one, twice as many."""
_TIMEOUT = (10, 60)  # seconds: to connect, and between two pieces
_PIECE = 2**16  # bytes
_LARGEST = 2**36  # bytes of a file whose server does not say how large it is
_SPAN, _LEAST = 120.0, 2**17  # in so many seconds, so many bytes come, or the server is not waited for
_VERSION = re.compile(r'"[!#-~]{0,200}"|[A-Z][a-z]{2}, [0-9A-Za-z: ]{10,40}')  # an ETag, or a date


class FetchError(BenchError):
    """A file that cannot be fetched; the text names the address and the reason."""


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


def fetch(url: str, path: Path, checksum: str, progress: Progress = lambda *_: None, name: str = "") -> None:
    """Downloads a file, unless it is there.

    What came before a connection broke is kept beside it, as `<file>.part`, and the server is asked for the rest, if
    it still has the same file. Several processes may ask for one file: one of them downloads it.

    Args:
        url: Where it is.
        path: Where it goes to. A file that is there is taken as it is.
        checksum: `sha256:…` or `md5:…`, or nothing where none is known.
        progress: Told how many bytes have come.
        name: Its name in progress and messages; by default the file's name.

    Raises:
        FetchError: It cannot be fetched, the disk has no room for it, or its checksum is wrong.
    """
    name = name or path.name
    if path.exists():
        return
    if is_offline():
        raise FetchError(f"{path} is not there, and it is not downloaded, because {OFFLINE} is set. It is {url}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(path, partial(progress, f"waiting for another download of {name}", 0, 0)):
            if not path.exists():
                part = below(path.parent, f"{path.name}.part")
                _insist(partial(_continue, url, part, partial(progress, f"downloading {name}")), part, url)
                _prove(part, url, checksum)
                part.replace(path)
                _tag(part).unlink(missing_ok=True)
    except requests.RequestException as error:
        raise FetchError(f"{url} cannot be downloaded ({_reason(error)}).") from error
    except OSError as error:
        raise FetchError(f"{url} cannot be written to {path}. {explain(error)}") from error


def file_checksum(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file in hexadecimal, computed once as long as the file stays as it is."""
    now = path.stat()
    return _file_checksum(path, algorithm, now.st_size, now.st_mtime_ns)


def require_space(needed: int, folder: Path, what: str) -> None:
    """Refuses to write more than the disk holds.

    Args:
        needed: Bytes.
        folder: On that disk.
        what: The thing that needs them.

    Raises:
        FetchError: There is less room.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{what} needs {needed / 1e9:,.2f} GB more, and the disk of {folder} has {free / 1e9:,.2f} GB free."
        )


@contextmanager
def _claimed(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """The right to download a file, waited for."""
    lock = Lock(path.with_name(f".{path.name}.lock"))
    if not lock.acquire(wait=False):
        wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _insist(attempt: Callable[[], None], part: Path, url: str) -> None:
    """Attempts again as long as bytes come, and a few times when none do."""
    failures, furthest = 0, 0
    while True:
        try:
            return attempt()
        except (requests.ConnectionError, requests.Timeout, _BrokenOffError) as error:
            there = part.stat().st_size if part.exists() else 0
            failures, furthest = (0, there) if there > furthest else (failures + 1, furthest)
            if failures >= (_ATTEMPTS if furthest else 2):
                kept = f" {furthest:,} bytes are kept, and the same command goes on from there." if furthest else ""
                raise FetchError(f"{url} cannot be downloaded ({_reason(error)}).{kept}") from error
            time.sleep(PAUSE * 2**failures)


def _continue(url: str, part: Path, progress: Callable[[int, int], None]) -> None:
    """Downloads what a part lacks, or all of it, if the server has another file by now or does not send parts.

    Raises:
        requests.RequestException: The server cannot be reached, refuses, or falls silent.
        _BrokenOffError: The server is busy, or sent less than it announced.
    """
    have = part.stat().st_size if part.exists() else 0
    tag = read_bytes(_tag(part)).decode(errors="replace") if have and _tag(part).exists() else ""
    tag = tag if _VERSION.fullmatch(tag) else ""  # nothing else is sent to a server
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-", "If-Range": tag} if tag else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            raise _BrokenOffError("the part that is here is not of this file")
        if answer.status_code >= 500 or answer.status_code == requests.codes.too_many_requests:
            raise _BrokenOffError(f"the server answers {answer.status_code} {answer.reason}")
        answer.raise_for_status()
        _require_plain(url, answer)
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status_code != requests.codes.partial_content or not goes_on:
            have = 0
        announced = answer.headers.get("Content-Length", "")
        length = int(announced) if re.fullmatch(r"[0-9]{1,18}", announced) else 0
        require_space(length, part.parent, part.name)
        names = [answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")]
        write_whole(_tag(part), next((one for one in names if _VERSION.fullmatch(one)), ""))
        total = have + length if length else 0
        with open_plain(part, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if have else os.O_TRUNC)) as file:
            for piece in _pieces(url, answer):
                have += len(piece)
                if have > (total or _LARGEST):
                    raise FetchError(f"{url} is not downloaded: it is larger than {total or _LARGEST:,} bytes.")
                file.write(piece)
                progress(have, total)
    if have < total:
        raise _BrokenOffError(f"{have:,} of {total:,} bytes came")


def _require_plain(url: str, answer: requests.Response) -> None:
    """Refuses what a server was not asked for: a compressed body, which may be a bomb, or one that came unprotected."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise FetchError(f"{url} cannot be downloaded: the server compresses it, though it was asked not to.")
    if url.startswith("https:") and not answer.url.startswith("https:"):
        raise FetchError(f"{url} cannot be downloaded: the server sends on to an address that is not https.")


def _pieces(url: str, answer: requests.Response) -> Iterator[bytes]:
    """What comes, as it comes.

    Raises:
        _BrokenOffError: The connection ended.
        FetchError: Less comes than can be waited for.
    """
    since, came = time.monotonic(), 0
    while True:
        try:
            piece = answer.raw.read1(_PIECE, decode_content=False)
        except Exception as error:  # urllib3 has errors of its own for each way in which a connection breaks off
            raise _BrokenOffError("the connection broke off") from error
        if not piece:
            return
        came += len(piece)
        yield piece
        if time.monotonic() - since > _SPAN:
            if came < _LEAST:
                raise FetchError(
                    f"{url} cannot be downloaded: the server sends {came:,} bytes in {_SPAN:.0f} s. What came is kept, "
                    "and the same command goes on from there."
                )
            since, came = time.monotonic(), 0


def _prove(part: Path, url: str, checksum: str) -> None:
    """Removes a part that is not the file it should be."""
    algorithm, _, expected = checksum.partition(":")
    if expected and (found := file_checksum(part, algorithm)) != expected:
        part.unlink()
        raise FetchError(
            f"{url} is another file than expected: the {algorithm} of the download is {found}, not {expected}. It was "
            "removed."
        )


def _tag(part: Path) -> Path:
    """Beside a part, what the server calls this version of the file."""
    return part.with_name(f"{part.name}.tag")


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return str(error) if isinstance(error, _BrokenOffError) else type(error).__name__


@lru_cache
def _file_checksum(path: Path, algorithm: str, _size: int, _modified: int) -> str:
    with open_plain(path, os.O_RDONLY, follow=True) as file:
        return hashlib.file_digest(cast("BufferedReader", file), algorithm).hexdigest()
