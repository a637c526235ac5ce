"""Archives that mean well, and archives that do not."""

import errno
import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from miasbench.harness.api import BenchError, DataError
from miasbench.harness.download import fetching
from miasbench.harness.download.unpacking import is_archive, unpack

FILES = {"set/train/good/a 1.png": b"one", "set/test/Ungood/Ä.png": b"two" * 1000}


def make_zip(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, target: str = "") -> Path:
    mode: Any = "w" if path.suffix == ".tar" else f"w:{path.suffix[1:]}"
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
def test_files_come_out_as_they_went_in(tmp_path: Path, name: str) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    told: list[tuple[str, int, int]] = []
    archive = make(tmp_path / name, FILES)
    assert is_archive(archive)
    unpack(archive, tmp_path / "new" / "out", lambda *step: told.append(step))
    assert found(tmp_path / "new" / "out") == FILES
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert told[-1] == (f"unpacking {name}", 3003, 3003)


def test_backslashes_in_a_zip_separate_folders(tmp_path: Path) -> None:
    names = {name.replace("/", "\\"): content for name, content in FILES.items()}
    archive = make_zip(tmp_path / "set.zip", names | {"set\\train\\": b""})
    unpack(archive, tmp_path / "out")
    assert found(tmp_path / "out") == FILES


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz", "set.tar.bz2", "set.tar.xz"])
def test_damaged_bytes_are_told(tmp_path: Path, name: str) -> None:
    """Whichever byte it is, and whatever the decoder raises; the seed draws a hundred of them."""
    generator = random.Random(0)
    files = {"a.png": generator.randbytes(2000) + bytes(2000), "b.png": generator.randbytes(900)}
    content = (make_zip if name.endswith("zip") else make_tar)(tmp_path / name, files).read_bytes()
    refused = 0
    for number in range(100):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= generator.randrange(1, 256)
        (tmp_path / name).write_bytes(damaged)
        try:
            unpack(tmp_path / name, tmp_path / f"out{number}")
        except DataError as error:
            assert name in str(error)
            refused += 1
    assert refused > 10


def test_an_error_of_the_disk_is_not_taken_for_one_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "a.png")

    archive = make_zip(tmp_path / "set.zip", FILES)
    monkeypatch.setattr("miasbench.harness.download.unpacking._write", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_only_what_is_wanted(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", FILES)
    unpack(archive, tmp_path / "out", wanted=lambda path: "train" in path.parts)
    assert list(found(tmp_path / "out")) == ["set/train/good/a 1.png"]
    with pytest.raises(DataError, match="has none of the files that are wanted"):
        unpack(archive, tmp_path / "other", wanted=lambda path: "liver" in path.parts)
    assert not (tmp_path / "other").exists()


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is there already"):
        unpack(make_zip(tmp_path / "set.zip", FILES), tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["/etc/harm", "../harm", "a/../../harm", "..\\harm", "C:\\harm", "C:/harm"])
def test_names_that_lead_out_are_refused(tmp_path: Path, make: object, name: str) -> None:
    folder = tmp_path / "deep" / "er"
    suffix = "zip" if make is make_zip else "tar"
    archive = make(tmp_path / f"set.{suffix}", FILES | {name: b"harm"})  # type: ignore[operator]
    with pytest.raises(DataError, match="would be written outside of its folder"):
        unpack(archive, folder)
    assert not list(tmp_path.rglob("*harm*"))
    assert not folder.exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = make_tar(tmp_path / "set.tar", {"link": b""}, kind, "/etc/passwd")
    with pytest.raises(DataError, match="'link' is a link or a device"):
        unpack(archive, tmp_path / "out")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"link": b"/etc/passwd"}, stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="'link' is a link or a device"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz"])
def test_bombs_are_refused(tmp_path: Path, name: str) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, {f"{index}.png": bytes(2**23) for index in range(4)})
    with pytest.raises(DataError, match=r"as (those of )?a bomb do"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"a.png": bytes(100_000)})
    content = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(content)
    with pytest.raises(DataError):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_disk_does_not_hold_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(BenchError, match=r"unpacking set\.zip needs 0.00 GB more"):
        unpack(make_zip(tmp_path / "set.zip", FILES), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_what_is_cut_short_leaves_nothing(tmp_path: Path, name: str, cut: float) -> None:
    archive = (make_zip if name.endswith("zip") else make_tar)(tmp_path / name, FILES | {"b": bytes(range(256)) * 99})
    content = archive.read_bytes()
    kept = int(len(content) * cut)
    if name == "set.tar":  # it ends with blocks of zeros, which may go
        kept = int(20_000 * cut)
    archive.write_bytes(content[:kept])
    with pytest.raises(DataError):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]
