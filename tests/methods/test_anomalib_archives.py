"""Archives of weights that anomalib keeps unpacked: fetched, and deleted only where they were fetched."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest
from anomalib.data.utils import DownloadInfo

from miasbench.harness.api import WeightsError
from miasbench.methods.anomalib import networks


@pytest.fixture
def info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DownloadInfo:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "net.pth").write_text("weights")
    archive = Path(shutil.make_archive(str(tmp_path / "net"), "zip", tmp_path / "made"))
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    return DownloadInfo(
        name="net",
        url="https://127.0.0.1:9/net.zip",
        hashsum=hashlib.sha256(archive.read_bytes()).hexdigest(),
    )


def test_an_archive_that_the_user_placed_stays(info: DownloadInfo, tmp_path: Path) -> None:
    networks._fetch_folder(tmp_path / "weights", info)
    assert (tmp_path / "weights" / "net.pth").read_text() == "weights"
    assert (tmp_path / "net.zip").exists()


def test_one_that_was_fetched_goes(info: DownloadInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.setattr(networks, "fetch", lambda _, archive, __: shutil.copy(tmp_path / "net.zip", archive))
    networks._fetch_folder(place / "weights", info)
    assert [path.name for path in place.iterdir()] == ["weights"]


def test_what_is_there_already_is_not_replaced(info: DownloadInfo, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "net.pth").write_text("mine")
    networks._extract(info, tmp_path / "weights")
    assert (tmp_path / "weights" / "net.pth").read_text() == "mine"


def test_an_archive_that_leads_out_of_its_folder_is_refused(info: DownloadInfo, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.writestr("../../harm.pth", "x")
    with pytest.raises(WeightsError, match="would be written outside of its folder"):
        networks._fetch_folder(tmp_path / "weights", info)
    assert not [*tmp_path.parent.glob("harm*"), *tmp_path.glob("harm*")]
