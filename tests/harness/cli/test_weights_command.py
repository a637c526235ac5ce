"""`bench weights` as a user meets it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from miasbench.harness.cli import main
from miasbench.harness.download import fetching
from miasbench.methods import weights
from miasbench.methods.weights import FILES, Download

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    monkeypatch.setenv("MIASBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(fetching, "PAUSE", 0)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["weights", *arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        assert isinstance(end.value.code, int)
        return end.value.code, output.out, output.err

    return run


def test_list_names_every_file_and_whether_it_is_here(bench: Bench) -> None:
    code, out, _ = bench("list")
    assert code == 0
    rows: dict[str, str] = {}  # where a table is too wide, it goes on below, with its names again
    for row in (row for row in out.splitlines() if row.startswith("│")):
        name = row.split("│")[1].strip()
        rows[name] = rows.get(name, "") + row
    assert set(rows) - {""} == set(FILES), "a long path takes more than one line"
    assert "not here" in rows["sam_vit_b"]
    assert "SHA-256, pinned" in rows["sam_vit_h"]
    assert "MD5, pinned" in rows["medsam_vit_b"]
    assert " here" in rows["lite_medsam"]
    assert "not here" not in rows["lite_medsam"]
    assert "SHA-256 of first use" in rows["wide_resnet50_2"]


def test_verify_says_which_file_is_wrong(bench: Bench) -> None:
    code, out, _ = bench("verify")
    assert code == 0
    assert "right" in out
    folder = weights.weights_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sam_vit_b_01ec64.pth").write_bytes(b"something else")
    code, out, _ = bench("verify")
    assert code == 2
    assert "wrong" in out
    assert "is not sam_vit_b: its sha256 is" in out


def test_get_fetches_and_says_where(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = bench("get", "lite_medsam", "intensity")
    assert code == 0
    assert "lite_medsam.pth" in out
    path = weights.weights_folder() / "sam_vit_b_01ec64.pth"
    monkeypatch.setattr(Download, "fetch", lambda self, progress: self.path)
    assert str(path) in bench("get", "sam_vit_b")[1]


def test_get_what_there_is_not(bench: Bench) -> None:
    code, _, err = bench("get", "sam_vitb")
    assert code == 2
    assert "Did you mean 'sam_vit_b'?" in err


@pytest.mark.parametrize("name", ["sam_vit_b", "mias_sam[encoder=vit_l]", "patchcore"])
def test_offline_nothing_is_attempted(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def attempted(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(requests, "get", attempted)
    monkeypatch.setattr(requests.Session, "request", attempted)
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    code, _, err = bench("get", name)
    assert code == 2
    assert "MIASBENCH_OFFLINE is set" in err
