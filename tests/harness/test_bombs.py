"""Small files that become huge when they are read, and such as never end: each is refused with a sentence, soon."""

import gzip
import io
import os
import re
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
import yaml
from PIL import Image
from pyarrow import parquet

from miasbench.datasets import patterns
from miasbench.datasets.card import CardFile
from miasbench.datasets.folder import open_folder
from miasbench.datasets.images import read_grey
from miasbench.datasets.nifti import Volume
from miasbench.datasets.splitting import SplitRule
from miasbench.datasets.tables import read_table
from miasbench.harness.api import DataError, UsageError
from miasbench.harness.config import make_config, read_config
from miasbench.harness.download.fetching import file_checksum
from miasbench.harness.download.unpacking import unpack
from miasbench.harness.exchange.arrays import ArrayFile, ArrayReader
from miasbench.harness.yaml_files import read_yaml
from miasbench.results import files
from miasbench.results.baseline import BaselineError, read_baseline
from miasbench.results.files import ResultsError, read_json, read_parquet, to_parquet
from miasbench.results.predictions import decode

SECONDS, MIB = 10, 100


@contextmanager
def refused(kind: type[Exception], text: str) -> Iterator[None]:
    """What is read within is refused, in little time and memory; that of Arrow is its own."""
    begin, before = time.process_time(), pyarrow.total_allocated_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(kind, match=text) as caught:
            yield
        assert len(str(caught.value)) < 2000
        assert tracemalloc.get_traced_memory()[1] < MIB * 2**20
        assert pyarrow.total_allocated_bytes() - before < MIB * 2**20
        assert time.process_time() - begin < SECONDS, "whatever else computes beside it"
    finally:
        tracemalloc.stop()


def laughs(levels: int, lines: str = "") -> str:
    """The lines of a YAML file of which each names the one before nine times."""
    text = "l0: &l0 [lol, lol]\n"
    for level in range(1, levels):
        text += f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]\n"
    return text + lines


class TestYaml:
    @pytest.mark.parametrize(
        "text",
        [
            laughs(9, "methods: *l8\n"),
            laughs(30),
            "methods: &x [*x]\n",
            f"a: &a {'x' * 10_000}\nmethods: [{', '.join(['*a'] * 1000)}]\n",
            f"methods: [{'x, ' * 2**17}]\n",
        ],
        ids=["wide", "deep", "endless", "long", "large"],
    )
    def test_aliases_that_repeat_each_other(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "run.yaml").write_text(text)
        with refused(UsageError, "run.yaml is not YAML.* more than"):
            read_config(tmp_path / "run.yaml")
        with refused(yaml.YAMLError, "more than"):
            read_yaml(tmp_path / "run.yaml")
        with refused(DataError, "more than"):
            CardFile.read(tmp_path / "run.yaml")

    def test_a_few_aliases_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text("methods: &m [intensity]\nset: {a: &o {x: 1}, b: *o}\n")
        assert read_config(tmp_path / "run.yaml") == {"methods": ["intensity"], "set": {"a": {"x": 1}, "b": {"x": 1}}}

    def test_a_long_value_that_is_wrong_is_not_told_whole(self) -> None:
        with refused(UsageError, "Option size"):
            make_config({"methods": "intensity", "dataset": "x", "size": "1" * 10**6}, "in run.yaml")


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


class TestArchives:
    @pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE])
    @pytest.mark.parametrize("first", [True, False])
    def test_a_header_that_is_a_gigabyte_long(self, tmp_path: Path, kind: bytes, first: bool) -> None:
        name = tarfile.TarInfo("name")
        name.type, name.size = kind, 2**28
        with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
            if not first:
                plain = tarfile.TarInfo("a.png")
                plain.size = 1
                file.write(plain.tobuf() + b"x".ljust(512, b"\0"))
            file.write(name.tobuf())
            for _ in range(2**8):
                file.write(b"a" * 2**20)
        with refused(DataError, "a header is too long|is refused"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("content", [b"", b"x"])
    def test_very_many_files_of_nothing(self, tmp_path: Path, content: bytes) -> None:
        members = [(tarfile.TarInfo(f"{number}.png"), content) for number in range(3_000)]
        archive = tar_of(tmp_path / "a.tar.gz", *members)
        with refused(DataError, "none of the files|more than its size can"):
            unpack(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_empty_files_are_left_out(self, tmp_path: Path) -> None:
        unpack(tar_of(tmp_path / "a.tar.gz", (tarfile.TarInfo("a"), b""), (tarfile.TarInfo("b"), b"b")), tmp_path / "o")
        assert [path.name for path in (tmp_path / "o").iterdir()] == ["b"]


def zeros(name: str, shape: tuple[int, ...]) -> tuple[str, bytes, int]:
    """A member of a .npz: its name, its header, and how many bytes of zeros follow."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return f"{name}.npy", header.getvalue(), 4 * int(np.prod(shape))


def npz_of(path: Path, *members: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, header, size in members:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(header)
                for _ in range(size // 2**20):
                    file.write(bytes(2**20))
    return path


class TestArrays:
    def test_a_prediction(self, tmp_path: Path) -> None:
        content = npz_of(tmp_path / "a.npz", zeros("anomaly_map", (2**14, 2**13))).read_bytes()
        assert len(content) < 2**22
        with refused(ValueError, "its arrays would take more than 256 MiB"):
            decode("a", content)

    def test_a_map_of_another_program(self, tmp_path: Path) -> None:
        path = npz_of(tmp_path / "a.npz", zeros("anomaly_map", (2**14, 2**13 + 64)))
        with refused(DataError, "more than .* bytes, which no map has"):
            ArrayReader().anomaly_map(ArrayFile(path))

    def test_a_file_full_of_holes(self, tmp_path: Path) -> None:
        for name in ("a.npy", "a.png", "run.json"):
            with (tmp_path / name).open("wb") as file:
                file.truncate(2**36)
        with refused(DataError, "one of more than"):
            ArrayReader().anomaly_map(ArrayFile(tmp_path / "a.npy"))
        with refused(DataError, "File too large"):
            read_grey(tmp_path / "a.png")
        with refused(OSError, "File too large"):
            read_json(tmp_path / "run.json")

    @pytest.mark.parametrize(("shape", "offset"), [((20_000, 20_000, 20_000), 352), ((4, 4, 4), 2**33)])
    def test_a_volume(self, tmp_path: Path, shape: tuple[int, ...], offset: int) -> None:
        nibabel = pytest.importorskip("nibabel")
        header = nibabel.Nifti1Header()
        header.set_data_shape(shape)
        header["vox_offset"] = offset
        header["magic"] = b"n+1"
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(2**20)))
        with refused(DataError, "its header announces"):
            Volume(tmp_path / "a.nii.gz")
        with refused(DataError, "which no scan has|as its source was"):
            ArrayReader().anomaly_map(ArrayFile(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize(
    "columns",
    [
        lambda: {"a": np.zeros(10**7)},
        lambda: {"a": pyarrow.array(["x" * 10**5]).take(pyarrow.array(np.zeros(1200, dtype=int)))},
        lambda: {"a": pyarrow.array([[0.0] * 1000]).take(pyarrow.array(np.zeros(15_000, dtype=int)))},
    ],
    ids=["numbers", "texts", "lists"],
)
def test_a_table(tmp_path: Path, columns: Callable[[], dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LARGEST_TABLE", 2**26)
    parquet.write_table(pyarrow.table(columns()), tmp_path / "a.parquet")
    with refused(ResultsError, "it would take .* GiB of memory"):
        read_parquet(tmp_path / "a.parquet")


def test_a_table_that_repeats_its_texts_as_runs_do_is_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"options": ["x" * 300] * 1000, "value": range(1000), "lists": [[0.5, 1.0]] * 1000})
    (tmp_path / "a.parquet").write_bytes(to_parquet(table))
    read = read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read.drop(columns="lists"), table.drop(columns="lists"))


def test_an_image_of_too_many_pixels(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("1", (8200, 8200)).save(content, "PNG")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    with refused(DataError, "a.png"):
        read_grey(tmp_path / "a.png")


class TestPatterns:
    NAME = "a" * 40

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patterns, "_SECONDS", 0.3)

    @pytest.mark.parametrize("pattern", ["(a+)+b", "^(a|a)*b$", "((a*)*)*b"])
    def test_one_that_never_ends(self, pattern: str) -> None:
        with refused(DataError, "takes more than 0.3 s"):
            patterns.search(re.compile(pattern), self.NAME)
        with refused(DataError, "takes more than 0.3 s"):
            SplitRule(patient=f"({pattern})" if re.compile(pattern).groups == 0 else "(a+)+b").patient_of(self.NAME)

    def test_one_that_ends_late_for_each_of_many_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patterns, "_SECONDS", 10.0)
        monkeypatch.setattr(patterns, "_TOGETHER", 0.5)
        with refused(DataError, "and more than 0.5 s for all so far"):
            for number in range(1000):
                patterns.search(re.compile("^(a|a)*b$"), f"{'a' * 17}{number}")

    def test_one_on_a_card(self, tmp_path: Path) -> None:
        for place in ("good", "bad", "masks"):
            (tmp_path / place).mkdir()
            Image.new("L", (8, 8)).save(tmp_path / place / f"{self.NAME}.png")
        (tmp_path / "card.yaml").write_text(
            "name: x\npatient: '(a+)+b'\nsplits:\n  train: {normal: good}\n  test: {anomalous: bad, masks: masks}\n"
        )
        with refused(DataError, "takes more than 0.3 s"):
            open_folder(tmp_path / "card.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_pipes_among_the_files_of_a_dataset(tmp_path: Path) -> None:
    for name in ("a.png", "a.npy", "a.nii.gz", "card.yaml"):
        os.mkfifo(tmp_path / name)
    with refused(DataError, "a pipe or a device"):
        CardFile.read(tmp_path / "card.yaml")
    with refused(DataError, "a pipe or a device"):
        read_grey(tmp_path / "a.png")
    for name in ("a.npy", "a.nii.gz"):
        with refused(DataError, "is no file"):
            ArrayReader().anomaly_map(ArrayFile(tmp_path / name))
    with refused(DataError, "is no file"):
        Volume(tmp_path / "a.nii.gz")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there are no devices here")
def test_links_to_what_has_no_end(tmp_path: Path) -> None:
    for name in ("a.png", "a.npy", "table.csv", "baseline.json", "weights.pth", "card.yaml"):
        (tmp_path / name).symlink_to("/dev/zero")
    with refused(DataError, "a pipe or a device"):
        read_grey(tmp_path / "a.png")
    with refused(DataError, "is no file"):
        ArrayReader().anomaly_map(ArrayFile(tmp_path / "a.npy"))
    with refused(DataError, "a pipe or a device"):
        read_table(tmp_path / "table.csv", ("image",))
    with refused(BaselineError, "a pipe or a device"):
        read_baseline(tmp_path / "baseline.json")
    with refused(OSError, "a pipe or a device"):
        file_checksum(tmp_path / "weights.pth")
    with refused(DataError, "a pipe or a device"):
        CardFile.read(tmp_path / "card.yaml")
