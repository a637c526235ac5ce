"""`bench data get`, `add` and `verify` as a user meets them."""

import csv
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

from miasbench.datasets import bmad
from miasbench.datasets.folder import open_folder
from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.cli import main
from miasbench.harness.download import fetching
from miasbench.results.store import find_runs

from ...support.volumes import write as write_volumes

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIASBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fetching, "PAUSE", 0)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        assert isinstance(end.value.code, int)
        return end.value.code, output.out, output.err

    return run


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    folder = tmp_path / "slices"
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), folder)
    return folder


@pytest.fixture
def archive(tmp_path: Path, slices: Path) -> Path:
    """Two benchmarks in one archive, as in BMAD's."""
    path = tmp_path / "served" / bmad.ARCHIVE
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as opened:
        for file in slices.rglob("*.png"):
            for folder in ("Brain", "Liver"):
                opened.write(file, Path("BMAD") / folder / file.relative_to(slices))
    return path


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = functools.partial(_Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(bmad, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
        yield
        server.shutdown()


@pytest.mark.usefixtures("hub")
class TestGet:
    def test_downloads_unpacks_and_can_be_run(self, bench: Bench, tmp_path: Path, archive: Path) -> None:
        code, out, err = bench("data", "get", "brain_mri", "--accept-licence")
        assert (code, err) == (0, "")
        assert "CC BY-NC-SA 4.0" in out
        assert str(tmp_path / "data" / "brain_mri") in out
        assert "brain_mri: 3 train, 4 valid, 6 test images" in out
        assert not list((tmp_path / "data" / "brain_mri").rglob("Liver"))
        archive.unlink()
        code, out, err = bench("data", "get", "liver_ct")
        assert (code, err) == (0, ""), "neither the licence nor the archive is asked for again"
        assert "CC BY" not in out
        assert bench("run", "-m", "intensity", "-d", "liver_ct", "--size", 64)[0] == 0

    def test_the_licence_is_to_be_accepted(self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code, out, err = bench("data", "get", "brain_mri")
        assert code == 2
        assert "non-commercial" in out
        assert "--accept-licence" in err
        assert not (tmp_path / "data").exists()
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("click.confirm", lambda text, abort: None)
        assert bench("data", "get", "brain_mri")[0] == 0

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
    def test_nobody_waits_at_a_pipe_in_the_data_root(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        os.mkfifo(tmp_path / "data" / "accepted-licences.txt")
        code, _, err = bench("data", "get", "brain_mri", "--accept-licence")
        assert code == 2
        assert "accepted-licences.txt: it is a pipe or a device" in err

    def test_another_archive_than_expected_is_refused(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bmad, "SHA256", "0" * 64)
        code, _, err = bench("data", "get", "brain_mri", "--accept-licence")
        assert code == 2
        assert "is another file than expected" in err
        (tmp_path / "data" / "bmad.zip").write_bytes(b"mine")
        code, _, err = bench("data", "get", "brain_mri", "--accept-licence")
        assert code == 2
        assert "bmad.zip is another file than expected" in err

    def test_offline(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
        code, _, err = bench("data", "get", "brain_mri", "--accept-licence")
        assert code == 2
        assert "MIASBENCH_OFFLINE is set" in err

    def test_what_cannot_be_downloaded(self, bench: Bench) -> None:
        code, _, err = bench("data", "get", "brain")
        assert code == 2
        assert "Did you mean 'brain_mri'?" in err


class TestAdd:
    def test_a_folder_stays_where_it_is_and_can_be_run(self, bench: Bench, tmp_path: Path, slices: Path) -> None:
        code, out, err = bench("data", "add", "mine", "slices")
        assert (code, err) == (0, "")
        assert str(tmp_path / "data" / "mine.yaml") in out
        assert "mine: 3 train, 4 valid, 6 test images" in out
        assert "mine" in bench("list", "datasets")[1]
        code, out, _ = bench("run", "-m", "intensity", "-d", "mine", "--size", 64)
        assert code == 0
        assert "mine: mean DICE" in out
        code, _, err = bench("run", "-m", "intensity", "-d", "mien", "--size", 64)
        assert code == 2
        assert "Did you mean 'mine'?" in err

    def test_a_folder_that_tests_one_patient_is_told(self, bench: Bench, slices: Path) -> None:
        assert "Note: " not in bench("data", "add", "whole", slices)[1]
        for folder in ("good/img", "Ungood/img", "Ungood/anomaly_mask"):
            for number, path in enumerate(sorted((slices / "test" / folder).iterdir())):
                path.rename(path.with_stem(f"p1_{folder[0]}{number}"))
        code, out, _ = bench("data", "add", "mine", slices)
        assert code == 0
        assert "Note: All 6 test images are of one patient, p1, as far as names tell." in out

    @pytest.mark.parametrize("separator", ["/", "\\"])
    @pytest.mark.parametrize("around", [Path(), Path("mine"), Path("a/b c/mine")])
    def test_an_archive_is_unpacked(
        self, bench: Bench, tmp_path: Path, slices: Path, separator: str, around: Path
    ) -> None:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as opened:
            for file in slices.rglob("*.png"):
                name = str(around / file.relative_to(slices)).replace("/", separator)
                opened.writestr(name, file.read_bytes())
                opened.writestr(f"__MACOSX/{name}", b"of macOS")
        assert bench("data", "add", "mine", "mine.zip")[0] == 0
        (tmp_path / "mine.zip").unlink()
        assert bench("run", "-m", "intensity", "-d", "mine", "--size", 64)[0] == 0

    def test_volumes_are_tested_that_another_dataset_trains_for(
        self, bench: Bench, tmp_path: Path, slices: Path
    ) -> None:
        write_volumes(tmp_path / "scans", shape=(24, 22, 4))
        add = ("data", "add", "scans", "scans/images", "--masks", "scans/masks", "--window", -300, 300)
        code, out, _ = bench(*add, "--train-from", "slices")
        assert code == 0
        assert "10 volumes of 10 patients (p0, p1, p2, p3, p4 and 5 more): all of them are for the test." in out
        assert "scans: 3 train, 4 valid, 40 test images" in out
        assert "Left out" not in out
        code, out, _ = bench("data", "verify", "scans")
        assert "The train and validation splits are those of slices" in out
        code, out, _ = bench("run", "-m", "intensity", "-d", "scans", "--size", 64, "--executor", "inline")
        assert code == 0
        assert "mean DICE" in out
        (run,) = find_runs(tmp_path / "bench-results")
        scores = run.scores().set_index("metric")["value"]
        assert set(run.cases()["patient"]) == {f"p{number}" for number in range(10)}
        assert scores["volume_hd95_mm"].notna().any()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--train-from", "slcies"), "There is no dataset 'slcies'"),
            (("--train-from", "phantom_liver_ct"), "can be taken of files only"),
            (("--train-from", "slices", "--seed", 3), "--seed divides patients"),
            (("--shares", 0, 0, 1), "The shares 0 0 1 leave nothing to train on: --train-from"),
        ],
    )
    def test_where_nothing_can_be_trained_on_is_told(
        self, bench: Bench, tmp_path: Path, slices: Path, options: tuple[object, ...], said: str
    ) -> None:
        write_volumes(tmp_path / "scans")
        code, _, err = bench("data", "add", "scans", "scans/images", "--masks", "scans/masks", *options)
        assert code == 2
        assert said in err
        assert not list((tmp_path / "data").glob("*"))

    @pytest.mark.parametrize("from_archive", [True, False])
    def test_the_card_of_a_folder_goes_along(
        self, bench: Bench, tmp_path: Path, slices: Path, from_archive: bool
    ) -> None:
        (slices / "card.yaml").write_text("{name: old, licence: CC0, origin: us, patient: '^(.)'}")
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as opened:
            for file in slices.rglob("*.*"):
                opened.write(file, Path("mine") / file.relative_to(slices))
        code, out, _ = bench("data", "add", "mine", "mine.zip" if from_archive else "slices")
        assert code == 0
        assert "mine: 3 train, 4 valid, 6 test images" in out
        told = yaml.safe_load((tmp_path / "data/mine.yaml").read_text())
        root = "mine/mine" if from_archive else str(slices)
        assert told == {"name": "mine", "licence": "CC0", "origin": "us", "patient": "^(.)", "root": root}

    @pytest.mark.parametrize("from_archive", [True, False])
    def test_one_of_bmads_names_makes_it_that_benchmark(
        self, bench: Bench, tmp_path: Path, slices: Path, archive: Path, from_archive: bool
    ) -> None:
        code, _, err = bench("data", "add", "brain_mri", archive if from_archive else slices)
        assert (code, err) == (0, "")
        code, out, _ = bench("run", "-m", "intensity", "-d", "brain_mri", "--size", 64)
        assert code == 0
        assert "its card expects" in " ".join(out.split())

    @pytest.mark.parametrize(
        ("name", "path", "says"),
        [
            ("mine", "nothing", "There is nothing at nothing"),
            ("mi ne", "slices", "cannot be a name"),
            ("../mine", "slices", "cannot be a name"),
            ("mine", "file.txt", "neither a folder nor an archive"),
            ("mine", "empty", "No train, valid or test folder was found"),
            ("mine", "broken.zip", "cannot be unpacked"),
            ("mine", "other.zip", "No train, valid or test folder was found"),
            ("brain_mri", "other.zip", "No train, valid or test folder was found"),
        ],
    )
    @pytest.mark.usefixtures("slices")
    def test_what_cannot_be_registered(self, bench: Bench, tmp_path: Path, name: str, path: str, says: str) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "file.txt").write_text("x")
        (tmp_path / "broken.zip").write_text("x")
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as opened:
            opened.writestr("letters/a.txt", "x")
        code, _, err = bench("data", "add", name, path)
        assert code == 2
        assert says in err
        assert not list((tmp_path / "data").glob("*")), "nothing of it stays"

    def test_volumes_are_sliced_and_can_be_run(self, bench: Bench, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        for patient in range(10):
            labels = np.zeros((40, 40, 6), np.uint8)
            labels[10:20, 10:20, 3:] = 2
            volume = generator.normal(0, 10, labels.shape).astype(np.float32) + 100 * labels
            for folder, content in (("images", volume), ("masks", labels)):
                (tmp_path / folder).mkdir(exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), tmp_path / folder / f"p{patient}.nii.gz")
        code, _, err = bench("data", "add", "mine", "images")
        assert code == 2
        assert "say with --masks" in err
        code, out, err = bench("data", "add", "mine", "images", "--masks", "masks", "--lesion", 2, "--window", -50, 250)
        assert (code, err) == (0, "")
        assert "mine: 18 train, 6 valid, 18 test images" in out
        assert bench("data", "verify", "mine")[0] == 0
        code, out, _ = bench("run", "-m", "intensity", "-d", "mine", "--size", 64)
        assert code == 0
        assert "mine: mean DICE" in out

    def test_masks_go_with_volumes(self, bench: Bench, slices: Path) -> None:
        code, _, err = bench("data", "add", "mine", slices, "--masks", slices)
        assert code == 2
        assert "--masks goes with volumes" in err

    def test_a_name_that_means_another_dataset_is_refused(self, bench: Bench, slices: Path) -> None:
        code, _, err = bench("data", "add", "phantom_liver_ct", slices)
        assert code == 2
        assert "phantom_liver_ct is the name of a dataset that is built in or from a plugin" in err
        code, _, err = bench("data", "add", "x" * 101, slices)
        assert code == 2
        assert "at most 100" in err

    def test_a_name_is_given_once(self, bench: Bench, slices: Path) -> None:
        bench("data", "add", "mine", slices)
        code, _, err = bench("data", "add", "mine", slices)
        assert code == 2
        assert "is registered already" in err


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("img/*.png"))


def masks(folder: Path) -> list[Path]:
    return sorted(folder.rglob("anomaly_mask/*.png"))


def each(paths: Sequence[Path], change: Callable[[np.ndarray], np.ndarray], ending: str = ".png") -> None:
    """Changes the pixels of files."""
    for path in paths:
        pixels = change(np.array(Image.open(path)))
        path.unlink()
        Image.fromarray(pixels).save(path.with_suffix(ending))


def in_colour(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey, grey // 2, grey // 2], axis=2)


def of_one_patient(folder: Path) -> None:
    for place in (folder / "test").glob("*/*"):
        for number, path in enumerate(sorted(place.iterdir())):
            path.rename(path.with_stem(f"test_{place.parent.name}{number}" if number else f"test_{place.parent.name}"))


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a mask without a lesion": (
        lambda folder: each(masks(folder)[:1], np.zeros_like),
        "1 of 5 anomalous images (such as",
    ),
    "a mask that is lesion all over": (
        lambda folder: each(masks(folder)[:1], lambda mask: np.full_like(mask, 255)),
        "is lesion all over",
    ),
    "inverted masks": (lambda folder: each(masks(folder), lambda mask: 255 - mask), "They look inverted"),
    "masks saved as JPEG": (lambda folder: each(masks(folder), np.array, ".jpg"), "5 masks (such as"),
    "a mask of other levels": (
        lambda folder: each(masks(folder)[:1], lambda mask: mask // 255),
        "Masks hold 2 grey levels beside 0 (1 in 1, 255 in 4; 1 in",
    ),
    "images of 12 bits": (
        lambda folder: each(images(folder), lambda image: image.astype(np.uint16) * 16),
        "13 images (such as",
    ),
    "images of few grey levels": (
        lambda folder: each(images(folder), lambda image: image // 16),
        "Half of the images have 98 % of their pixels within",
    ),
    "images in colour": (lambda folder: each(images(folder)[:2], in_colour), "2 images (such as"),
    "files that are not read": (
        lambda folder: (folder / "train/good/img/a.dcm").touch(),
        "1 file is passed over, because only",
    ),
    "images where nothing looks": (
        lambda folder: shutil.copytree(folder / "train/good/img", folder / "train/good/img/pat7"),
        "3 images are passed over, because the layout does not look there: 3 in train/good/img/pat7",
    ),
    "a test of one patient": (of_one_patient, "test images are of one patient, test, as far as names tell"),
    "a copy in another split": (
        lambda folder: each(
            [Path(shutil.copy(images(folder / "train")[0], folder / "test/good/img/other_1.png"))],
            lambda image: (image * 0.9).astype(np.uint8),
        ),
        "1 image looks the same as an image of another split",
    ),
}


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Two sessions of each of seven patients, of voxels of 0.7 x 0.7 x 5 mm, with a lesion labelled 2."""
    affine = np.diag([-0.7, -0.7, 5, 1])
    for number in range(14):
        x, y, z = np.mgrid[:20, :24, :6]
        labels = 2 * (((x - 6) ** 2 + (y - 15) ** 2 < 16) & (z > 1) & (z < 4)).astype(np.uint8)
        volume = np.random.default_rng(number).normal(100 + 20 * np.sin(x / 6 + number // 2), 5) + 60 * labels
        for folder, content in (("images", volume.astype(np.int16)), ("masks", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            file = tmp_path / folder / f"sub-{number // 2:02}_ses-{number % 2}_FLAIR.nii.gz"
            nibabel.save(nibabel.Nifti1Image(content, affine), file)
    return tmp_path


@pytest.mark.usefixtures("volumes")
class TestVolumes:
    ADD = "data", "add", "mine", "images", "--masks", "masks"

    def test_what_was_done_is_printed_and_recorded(self, bench: Bench, tmp_path: Path) -> None:
        code, out, err = bench(*self.ADD, "--lesion", 2, "--seed", 3)
        assert (code, err) == (0, "")
        for text in (
            "14 volumes of 7 patients (sub-00, sub-01, sub-02, sub-03, sub-04 and 2 more): "
            "4 patients train, 1 validate, 2 test; seed 3, shares 0.6 0.1 0.3.",
            "Slices are axial, their voxels 0.7 x 0.7 x 5 mm",
            "Labels found: 0 (in 14), 2 (in 14); a lesion is 2.",
            "Left out: 16 slices with a lesion, of training patients.",
            "mine: 32 train, 12 valid, 24 test images",
        ):
            assert text in " ".join(out.split())
        assert bench("data", "verify", "mine")[0] == 0
        assert bench("run", "-m", "intensity", "-d", "mine", "--size", 64)[0] == 0
        (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("bench-results/*/run.json"))
        volumes = record["datasets"]["mine"]["card"]["volumes"]
        assert volumes | {"images": "", "masks": ""} == {
            "images": "",
            "masks": "",
            "axis": "axial",
            "window": None,
            "window_percentiles": [0.5, 99.5],
            "lesion": [2],
            "labels": {"0": 14, "2": 14},
            "label_rounding": 0.0,
            "trust": "header",
            "forms_disagree": 0,
            "unplaced": 0,
            "smallest_voxel_mm": [0.7, 0.7, 5.0],
            "largest_voxel_mm": [0.7, 0.7, 5.0],
            "seed": 3,
            "shares": [0.6, 0.1, 0.3],
            "patients": {"train": 4, "valid": 1, "test": 2},
            "volumes": {"train": 8, "valid": 2, "test": 4},
            "without_mask": 0,
            "lesion_slices_left_out": 16,
            "constant_slices_left_out": 0,
            "passed_over": {},
        }
        cases = find_runs(tmp_path / "bench-results")[0].cases()
        assert cases["patient"].nunique() == 2, "sessions of a patient are one"

    def test_notes_are_told_by_the_run_too(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "masks" / "sub-01_ses-0_FLAIR.nii.gz").unlink()
        for command in (self.ADD, ("data", "verify", "mine"), ("run", "-m", "intensity", "-d", "mine", "--size", 64)):
            code, out, _ = bench(*command)
            assert code == 0
            assert "1 volumes have no mask and are taken for normal" in " ".join(out.split())

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--lesion", 3), "holds the label 3 of --lesion. Labels found: 0 (in 14), 2 (in 14)."),
            (("--patient", r"^(p\d+)"), "finds no patient in the volume's name 'sub-00_ses-0_FLAIR'"),
            (("--patient", "sub"), "should have one, which is the patient"),
            (("--shares", 0.6, 0.3, 0.3), "should sum to 1"),
            (("--window", 100, 50), "the lower one first"),
            (("--window", 5000, 6000), "shows nothing of images/sub-00_ses-0_FLAIR.nii.gz"),
        ],
    )
    def test_a_wrong_option_leaves_nothing(self, bench: Bench, tmp_path: Path, options: tuple, said: str) -> None:
        code, _, err = bench(*self.ADD, *options)
        assert code == 2
        assert said in err
        assert not list((tmp_path / "data").glob("*")) + list((tmp_path / "data").glob(".*"))

    def test_a_mask_without_its_header_is_refused_unless_the_image_is_trusted(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        for file in (tmp_path / "masks").iterdir():
            labels = np.asanyarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
            nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), file)
        code, _, err = bench(*self.ADD)
        assert code == 2
        assert "sub-00_ses-0_FLAIR.nii.gz lies elsewhere than its volume" in err
        assert bench(*self.ADD, "--trust", "image")[0] == 0
        dataset = open_folder(tmp_path / "data" / "mine.yaml")
        sample = dataset.load(next(case for case in dataset.cases("test") if case.label))
        assert sample.image[sample.mask].min() > sample.image[~sample.mask].max(), "the lesion is the brightest part"

    @pytest.mark.parametrize(
        "option", [("--lesion", 2), ("--axis", 2), ("--patient", "(a)"), ("--trust", "image"), ("--channel", 1)]
    )
    def test_options_of_volumes_are_refused_for_a_folder(self, bench: Bench, slices: Path, option: tuple) -> None:
        code, _, err = bench("data", "add", "other", slices, *option)
        assert code == 2
        assert f"{option[0]} is for volumes" in err

    def test_volumes_are_no_benchmark_of_bmad(self, bench: Bench) -> None:
        code, _, err = bench("data", "add", "brain_mri", "images", "--masks", "masks")
        assert code == 2
        assert "brain_mri is the name of a benchmark of BMAD" in err

    def test_a_card_that_cannot_be_written_leaves_no_slices(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("miasbench.datasets.card.CardFile.write", fail)
        assert bench(*self.ADD)[0] == 130
        assert not list((tmp_path / "data").iterdir())

    @pytest.mark.parametrize(
        ("names", "options", "told"),
        [
            ("{0}/{0}_{1}.nii.gz", ("--channel", "flair"), "*/*_flair.nii.gz. Masks: "),
            ("{0}/x/{1}-{0}.nii.gz", ("--images", "*/x/flair-*", "--masks", "*/x/seg-*"), "*/x/flair-*. Masks: "),
        ],
    )
    def test_a_folder_per_patient(
        self, bench: Bench, tmp_path: Path, names: str, options: tuple[str, ...], told: str
    ) -> None:
        for number in range(7):
            for kind, folder in (("flair", "images"), ("t1", "images"), ("seg", "masks")):
                file = tmp_path / "brats" / names.format(f"P_{number}", kind)
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(tmp_path / folder / f"sub-0{number}_ses-0_FLAIR.nii.gz", file)
        code, out, err = bench("data", "add", "mine", "brats", *options)
        assert (code, err) == (0, "")
        said = " ".join(out.split())
        assert told in said
        assert "7 volumes of 7 patients (P_0, P_1," in said
        assert "Note: Files beside the volumes are passed over: 7 .nii.gz." in said
        code, out, _ = bench("data", "verify", "mine")
        assert code == 0
        assert "passed over: 7 .nii.gz" in out
        assert open_folder(tmp_path / "data" / "mine.yaml").grid("P_3") is not None

    def test_a_folder_per_patient_whose_names_are_unknown_says_what_to_do(self, bench: Bench, tmp_path: Path) -> None:
        for name in ("flair", "seg"):
            (tmp_path / "scans/P1").mkdir(parents=True, exist_ok=True)
            (tmp_path / "scans/P1" / f"{name}.nii.gz").touch()
        for options in ((), ("--masks", "masks")):
            code, _, err = bench("data", "add", "mine", "scans", *options)
            assert code == 2
            assert "scans --images '*/flair.nii.gz' --masks '*/*_seg.nii.gz'" in " ".join(err.split())

    def test_a_folder_around_those_of_images_and_masks_says_which_to_give(self, bench: Bench, tmp_path: Path) -> None:
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / "Task01" / folder).mkdir(parents=True)
            (tmp_path / "Task01" / folder / "case.nii.gz").touch()
        code, _, err = bench("data", "add", "mine", "Task01")
        assert code == 2
        assert f"Here, IMAGES is {tmp_path}/Task01/imagesTr and MASKS {tmp_path}/Task01/labelsTr." in err

    @pytest.mark.parametrize(("ending", "said"), [("nrrd", "SimpleITK"), ("mha", "SimpleITK")])
    def test_other_formats_say_what_to_do(self, bench: Bench, tmp_path: Path, ending: str, said: str) -> None:
        (tmp_path / "scans").mkdir()
        (tmp_path / "scans" / f"a.{ending}").touch()
        for options in ((), ("--masks", "masks")):
            code, _, err = bench("data", "add", "scans", "scans", *options)
            assert code == 2
            assert f"{said} does" in err
            assert f"a.{ending}" in err

    def test_an_archive_of_volumes_says_what_to_do(self, bench: Bench, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as opened:
            for file in tmp_path.glob("*/*.nii.gz"):
                opened.write(file, Path("set") / file.relative_to(tmp_path))
        code, _, err = bench("data", "add", "mine", "set.zip")
        assert code == 2
        assert "set.zip holds volumes, such as set/images/sub-00_ses-0_FLAIR.nii.gz. Unpack it yourself" in err
        code, _, err = bench("data", "add", "mine", "set.zip", "--masks", "masks")
        assert code == 2
        assert "Unpack the archive first" in err
        assert not list((tmp_path / "data").glob("*"))


class TestInit:
    def test_a_card_is_written_and_read(self, bench: Bench, tmp_path: Path, slices: Path) -> None:
        (slices / "train/good/img/extra.npy").touch()
        code, out, err = bench("data", "init", "slices")
        assert (code, err) == (0, "")
        assert "slices looks like BMAD's layout." in out
        assert "Note: 1 file is passed over" in out
        assert "The card is written: slices/card.yaml" in out
        card = slices / "card.yaml"
        assert card.read_text().startswith("# Written by bench data init. Check what is a guess.\n")
        card.write_text(card.read_text().replace("licence: unknown", "licence: CC0"))
        code, _, err = bench("data", "init", "slices")
        assert code == 2
        assert "slices/card.yaml is there already, and is left as it is. --force replaces it." in err
        assert "licence: CC0" in card.read_text()
        assert bench("data", "verify", "slices")[0] == 0
        assert bench("data", "init", "slices", "--force")[0] == 0
        assert "licence: unknown" in card.read_text()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("empty",), "empty holds no images: it holds nothing. Give a folder of images."),
            (("nowhere",), "nowhere is no folder."),
            (("slices", "--where", "object"), "--where object is to be COLUMN=VALUE"),
        ],
    )
    @pytest.mark.usefixtures("slices")
    def test_what_is_not_understood_is_told(
        self, bench: Bench, tmp_path: Path, options: tuple[str, ...], said: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        code, _, err = bench("data", "init", *options)
        assert code == 2
        assert said in err
        assert not list(tmp_path.rglob("card.yaml"))


class TestVerify:
    def test_nothing_wrong(self, bench: Bench, slices: Path) -> None:
        code, out, _ = bench("data", "verify", slices)
        assert code == 0
        assert "Nothing is wrong." in out
        code, out, _ = bench("data", "verify", "phantom_brain_mri:train=2,valid=2,test=2,size=64")
        assert code == 0

    def test_all_that_is_wrong_is_found_and_nothing_changed(self, bench: Bench, tmp_path: Path, slices: Path) -> None:
        train = sorted((slices / "train" / "good" / "img").iterdir())
        good = sorted((slices / "test" / "good" / "img").iterdir())
        bad = sorted((slices / "test" / "Ungood" / "img").iterdir())
        masks = sorted((slices / "test" / "Ungood" / "anomaly_mask").iterdir())
        good[0].write_bytes(train[0].read_bytes())
        good[1].write_bytes(b"no image")
        masks[0].write_bytes((slices / "train" / "good" / "img" / train[1].name).read_bytes())
        masks[1].unlink()
        Image.new("L", (64, 64)).save(masks[2])
        (tmp_path / "card.yaml").write_text("name: mine\nroot: slices\ncounts: {train: 9, valid: 4, test: 6}\n")
        before = {path: path.read_bytes() for path in slices.rglob("*.png")}
        code, out, err = bench("data", "verify", "card.yaml", "--out", "findings.csv")
        assert (code, err) == (2, "")
        said = " ".join(out.split())
        for text in (
            f"{bad[1]} has no mask of its name",
            f"{good[1]} is not a PNG",
            "The train split has 3 cases, its card expects 9",
            f"{masks[2]} shows no lesion",
            f"The same image: {train[0]}, {good[0]}",
        ):
            assert text in said, text
        assert {path: path.read_bytes() for path in slices.rglob("*.png")} == before
        rows = list(csv.DictReader((tmp_path / "findings.csv").open()))
        assert {row["kind"] for row in rows if row["wrong"] == "True"} >= {"files", "counts", "values", "duplicates"}

    def test_patients_in_two_splits_and_odd_sizes_are_worth_a_look(self, bench: Bench, slices: Path) -> None:
        train = sorted((slices / "train" / "good" / "img").iterdir())[0]
        other = slices / "other"
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=96, seed=9), other)
        image = sorted((other / "test" / "good" / "img").iterdir())[0]
        image.rename(slices / "test" / "good" / "img" / f"{train.stem}9.png")
        code, out, _ = bench("data", "verify", slices)
        assert code == 0
        assert "96 x 96 pixels instead of 64 x 64" in out
        assert "patients: 1" in out

    @pytest.mark.parametrize(("harm", "said"), HARMS.values(), ids=HARMS)
    def test_what_concerns_a_number_is_noticed_here_and_by_a_run(
        self, bench: Bench, tmp_path: Path, slices: Path, harm: Callable[[Path], object], said: str
    ) -> None:
        harm(slices)
        out = bench("data", "verify", slices)[1]
        assert said in " ".join(out.split())
        code, out, err = bench("run", "-m", "intensity", "-d", slices, "--size", 64, "--no-controls")
        assert (code, err) == (0, "")
        assert said in " ".join(out[: out.index("mean DICE")].split()), "before the run"
        (record,) = (json.loads(path.read_text()) for path in (tmp_path / "bench-results").glob("*/run.json"))
        assert any(said in note for note in record["datasets"]["slices"]["notes"]), "and in its record"

    def test_masks_that_cannot_be_told_are_wrong_and_stop_a_run(self, bench: Bench, slices: Path) -> None:
        for path in masks(slices):
            pixels = np.array(Image.open(path))
            Image.fromarray(np.where(pixels > 0, 2, 1).astype(np.uint8)).save(path)
        code, out, err = bench("data", "verify", slices)
        assert (code, err) == (2, "")
        assert "wrong No mask has a pixel of 0" in " ".join(out.split())
        code, _, err = bench("run", "-m", "intensity", "-d", slices, "--size", 64)
        assert code == 2
        assert "No mask has a pixel of 0" in err
        assert "lesion: [2]" in err

    def test_no_dataset(self, bench: Bench) -> None:
        code, _, err = bench("data", "verify", "./nothing")
        assert code == 2
        assert re.search(r"There is no dataset at \S*/nothing\. Give a folder", err)


@pytest.mark.usefixtures("undrawn")
class TestImageLabels:
    """A dataset of which only whole images are labelled: no score of a pixel or a mask anywhere."""

    @pytest.fixture
    def labelled(self, tmp_path: Path, slices: Path) -> None:
        for mask in slices.rglob("anomaly_mask"):
            shutil.rmtree(mask)
        (tmp_path / "data").mkdir()
        slices.rename(tmp_path / "data" / "oct2017")

    @pytest.mark.usefixtures("labelled")
    def test_it_runs_and_every_command_says_what_it_can(self, bench: Bench, tmp_path: Path) -> None:
        assert "Nothing is wrong" not in bench("data", "verify", "oct2017")[1], "its card expects more images"
        code, out, err = bench("run", "-m", "intensity,intensity[sigma=1]", "-d", "oct2017", "--size", 64)
        assert (code, err) == (0, "")
        assert "oct2017: labels of images only" in out
        assert "mean DICE" not in out
        run = find_runs(tmp_path / "bench-results")[0]
        scores = run.scores()
        of_method = {"image_auroc", "image_brier", "image_ece", "fit_seconds", "predict_ms", "calibration_ms"}
        assert set(scores["metric"]) - {"peak_memory_mib", "peak_gpu_memory_mib"} == of_method
        assert scores.loc[scores["metric"] == "image_auroc", "value"].notna().all()
        for command, codes in {
            ("show",): {0},
            ("score",): {0},
            ("list", "runs"): {0},
            ("stats",): {2},
            ("thresholds",): {2},
            ("report", "latest", "--out", "paper"): {0, 2},
            ("baseline", "latest", "--out", "baseline.json"): {0, 2},
            ("compare", "latest", "latest"): {0, 2},
        }.items():
            code, out, err = bench(*command)
            assert code in codes, (command, out, err)
            assert code == 0 or len(err) > 20, "it says why"

    @pytest.mark.usefixtures("labelled")
    def test_beside_one_with_masks(self, bench: Bench, tmp_path: Path) -> None:
        masked = "phantom_brain_mri:train=3,valid=4,test=6,size=64"
        methods = "intensity,intensity[sigma=1]"
        assert bench("run", "-m", methods, "-d", "oct2017", "-d", masked, "--size", 64)[0] == 0
        for command in ("stats", "thresholds"):
            code, out, err = bench(command)
            assert (code, err) == (0, ""), command
            assert "phantom_brain_mri" in out
        code, _, err = bench("report", "latest", "--out", "paper")
        assert (code, err) == (0, "")
        code, _, err = bench("baseline", "latest", "--out", "baseline.json", "--tolerance", "image_auroc=0.02")
        assert code == 2
        assert "oct2017 · intensity: none of dice, pixel_auroc, aupro, image_auroc is judged" in err, "its AUROC is 0"
        assert bench("run", "-m", methods, "-d", masked, "--size", 64)[0] == 0
        assert bench("baseline", "latest", "--out", "baseline.json")[0] == 0
        assert bench("check", "latest", "--baseline", "baseline.json")[0] == 0
