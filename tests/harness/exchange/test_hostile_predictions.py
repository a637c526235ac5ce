"""Folders of predictions that somebody else has made up: a sentence, no memory, no program, nothing waited for."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.phantom import phantom_brain_mri
from miasbench.harness.api import BenchError, DataError
from miasbench.harness.exchange.arrays import ArrayFile, ArrayReader
from miasbench.harness.exchange.folder import find_files
from miasbench.harness.exchange.manifest import Manifest


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """A .npy that announces this shape, with eight bytes of it."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(8)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("anomaly_map.npy", header((10**6, 10**6)))


def postscript(path: Path) -> None:
    """What Pillow hands to Ghostscript, whatever the file's name."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n%%EOF\n")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.npy", lambda path: path.write_bytes(header((10**6, 10**6))), "cannot be read"),
        ("a.npy", lambda path: path.write_bytes(header((2**62, 8))), "cannot be read"),
        ("a.npy", lambda path: path.write_bytes(header((-1, 4))), "cannot be read"),
        ("a.npy", lambda path: path.write_bytes(header((1,), "|O")), "cannot be read"),
        ("a.npz", zipped, "cannot be read"),
        ("a.npz", lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)), "cannot be read|holds the arrays"),
        ("a.png", postscript, "cannot be read"),
        ("a.tif", lambda path: Image.new("1", (8200, 8200)).save(path, compression="group4"), "which no map has"),
        ("a.png", lambda path: Image.new("1", (8200, 8200)).save(path), "which no map has"),
        ("a.png", os.mkfifo, "is no file"),
        ("a.png", lambda path: path.symlink_to("/dev/zero"), "is no file"),
    ],
)
def test_a_map_that_is_none(name: str, write: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=said):
        ArrayReader().anomaly_map(ArrayFile(tmp_path / name))


@pytest.mark.parametrize("write", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_nobody_waits_at_a_manifest(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "predictions.yaml")
    with pytest.raises(DataError, match=r"predictions.yaml cannot be read: .*a pipe or a device"):
        Manifest.read(tmp_path, {})


@pytest.mark.parametrize("name", ["../outside.npy", "/etc/passwd", "maps/../../outside.npy", "C:\\x.npy", "~/x.npy"])
@pytest.mark.parametrize("listed", ["files.csv", "scores.csv"])
def test_no_path_of_a_table_leads_out_of_the_folder(name: str, listed: str, tmp_path: Path) -> None:
    folder, dataset = tmp_path / "theirs", phantom_brain_mri(tmp_path, train=1, valid=1, test=2, size=32)
    folder.mkdir()
    np.save(tmp_path / "outside.npy", np.zeros((32, 32), np.float32))
    case = dataset.cases("test")[0].id
    rows = {"files.csv": f"split,case,map\ntest,{case},{name}\n", "scores.csv": f"case,score\n{name},0.5\n"}
    (folder / listed).write_text(rows[listed])
    found = find_files(folder, Manifest.read(folder, {}), dataset)
    assert [*found.files()] == []
    assert any("which is not in the folder" in one or "has no score of any case" in one for one in found.problems)


def test_a_pattern_leads_nowhere_else_either(tmp_path: Path) -> None:
    folder, dataset = tmp_path / "theirs", phantom_brain_mri(tmp_path, train=1, valid=1, test=2, size=32)
    folder.mkdir()
    for case in dataset.cases("test"):
        np.save(tmp_path / f"{case.id}.npy", np.zeros((32, 32), np.float32))
    try:
        manifest = Manifest.read(folder, {"maps": "../{case}.npy"})
    except BenchError:
        return
    assert [*find_files(folder, manifest, dataset).files()] == []
