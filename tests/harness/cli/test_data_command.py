"""`bench data get`, `add` and `verify` as a user meets them."""

import csv
import functools
import hashlib
import http.server
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from miasbench.datasets import bmad
from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness import fetching
from miasbench.harness.cli import main
from miasbench.results.store import find_runs

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

    def test_an_archive_is_unpacked(self, bench: Bench, tmp_path: Path, slices: Path) -> None:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as opened:
            for file in slices.rglob("*.png"):
                opened.write(file, file.relative_to(slices))
        assert bench("data", "add", "mine", "mine.zip")[0] == 0
        (tmp_path / "mine.zip").unlink()
        assert bench("run", "-m", "intensity", "-d", "mine", "--size", 64)[0] == 0

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

    def test_a_name_is_given_once(self, bench: Bench, slices: Path) -> None:
        bench("data", "add", "mine", slices)
        code, _, err = bench("data", "add", "mine", slices)
        assert code == 2
        assert "is registered already" in err


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

    def test_no_dataset(self, bench: Bench) -> None:
        code, _, err = bench("data", "verify", "./nothing")
        assert code == 2
        assert "There is no dataset at nothing" in err


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
        of_method = {"image_auroc", "fit_seconds", "predict_ms", "calibration_ms"}
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
        assert bench("baseline", "latest", "--out", "baseline.json")[0] == 0
        assert bench("check", "latest", "--baseline", "baseline.json")[0] == 0
