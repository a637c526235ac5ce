"""Unpacking an archive that nobody vouches for: nothing outside of its folder, no links, no bombs, all or nothing.

Part of the ground that datasets and methods stand on, beside `fetching`.
"""

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from ..api import DataError, Progress
from ..safe_files import write_folder
from .fetching import require_space

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_RATIO = 200  # images are compressed already; what grows more than this is a bomb
_SMALL = 2**24  # bytes that an archive may grow to, whatever the ratio
_PIECE = 2**20
_LEAST = 16  # bytes of an archive for each of its files; less, and files are made up
_FEW = 1000  # files that an archive may have, whatever its size
_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,  # what gzip and bz2 raise for damaged bytes
    RuntimeError,  # what zipfile raises for a password, and where a way of compressing is unknown
    ValueError,  # names and sizes that cannot be
)


class NothingWantedError(DataError):
    """An archive that has none of the wanted files."""


class _Member(NamedTuple):
    """A file in an archive: its name, its size in bytes as announced, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive that can be unpacked."""
    return path.name.lower().endswith(ARCHIVE_ENDINGS)


def unpack(
    archive: Path,
    folder: Path,
    progress: Progress = lambda *_: None,
    wanted: Callable[[PurePosixPath], bool] = lambda _: True,
) -> None:
    """Unpacks a ZIP or tar archive into a new folder; empty files are left out.

    Nothing of it is there before all of it is.

    Args:
        archive: The file.
        folder: Where its files go; it must not be there yet.
        progress: Told how many bytes are unpacked.
        wanted: Which of the archive's files to unpack, by name.

    Raises:
        NothingWantedError: The archive has none of the wanted files.
        DataError: It is damaged, or not to be trusted: it has absolute names, names with `..`, links or devices, or
            grows without measure.
        FetchError: The disk has not enough room.
    """
    if folder.exists() or folder.is_symlink():
        raise DataError(f"{folder} is there already. Remove it, or choose another name.")
    with write_folder(folder) as inside:
        inside.mkdir()
        try:
            with _members(archive) as members:
                chosen = [member for member in members if member.size and wanted(PurePosixPath(member.name))]
                if not chosen:
                    raise NothingWantedError(
                        f"{archive} has none of the files that are wanted. Is it the right archive?"
                    )
                _write(chosen, inside, archive, progress)
        except _UNREADABLE as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the archive
                raise
            raise DataError(
                f"{archive} cannot be unpacked: {error}. If other programs can unpack it, do so, and add the folder."
            ) from error


def _write(members: list[_Member], folder: Path, archive: Path, progress: Progress) -> None:
    total = sum(member.size for member in members)
    if len(members) > max(_FEW, archive.stat().st_size // _LEAST):
        raise DataError(f"{archive} is refused: it holds {len(members):,} files, more than its size can.")
    if total > max(_SMALL, _RATIO * archive.stat().st_size):
        raise DataError(
            f"{archive} is refused: its {archive.stat().st_size:,} bytes would become {total:,}, as those of a bomb do."
        )
    require_space(total, folder, f"unpacking {archive.name}")
    done = 0
    for member in members:
        path = folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        left = member.size
        with member.open() as source, path.open("wb") as target:
            while piece := source.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    raise DataError(f"{archive} is refused: {member.name} is larger than it announces.")
                target.write(piece)
                done += len(piece)
                progress(f"unpacking {archive.name}", done, total)
        if left:
            raise DataError(f"{archive} is cut short: {member.name} is not all there.")


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """Opens an archive and lists its files.

    Raises:
        DataError: A name or a kind of file is not to be trusted.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            members = []
            for info in opened.infolist():
                mode = info.external_attr >> 16
                name = info.filename.replace("\\", "/")  # what Windows' .NET wrote, against the format's own rule
                _check(archive, info.filename, not stat.S_IFMT(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode))
                if not name.endswith("/"):
                    members.append(_Member(name, info.file_size, lambda info=info: opened.open(info)))
            yield members
        return
    with _decompressed(archive) as stream, tarfile.TarFile(fileobj=stream) as opened:
        members = []
        for info in opened:
            _check(archive, info.name, info.isreg() or info.isdir())
            read = opened.offset
            if read > max(_SMALL, _RATIO * archive.stat().st_size):  # before the rest is decompressed to be listed
                raise DataError(f"{archive} is refused: it would become more than {read:,} bytes, as a bomb does.")
            if info.isreg():
                members.append(_Member(info.name, info.size, lambda info=info: _open_tar(opened, info)))
        assert opened.fileobj is not None, "it is open"
        opened.fileobj.seek(opened.offset)
        if opened.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile does not miss its end
            raise DataError(f"{archive} is cut short: its end is not there.")
        yield members


class _InPieces:
    """A file of which nobody reads much at once, as tarfile does where a header says that a name is a gigabyte."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE:
            raise tarfile.TarError("a header is too long")
        return self._file.read(size)


@contextmanager
def _decompressed(archive: Path) -> Iterator[Any]:
    with archive.open("rb") as file:
        begin = file.read(8)
    opener = next((opener for magic, opener in _COMPRESSED.items() if begin.startswith(magic)), Path.open)
    with opener(archive, "rb") as file:
        yield _InPieces(file)


def _open_tar(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = opened.extractfile(info)
    assert file is not None, "regular files can be opened"
    return file


def _check(archive: Path, name: str, plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0] or "\0" in name:
        raise DataError(f"{archive} is refused: its file {name!r} would be written outside of its folder.")
    if not plain:
        raise DataError(f"{archive} is refused: {name!r} is a link or a device, which no dataset needs.")
