"""With MIASBENCH_OFFLINE=1 no command looks a host up or connects to one."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from miasbench.harness.cli import main
from miasbench.harness.network import SILENT, tell_libraries

RUN = "run --dataset phantom_brain_mri:train=2,valid=2,test=2,size=64 --size 64 --executor inline --methods"


@pytest.mark.usefixtures("unconnected")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{RUN} padim", 2),
        (f"{RUN} dinomaly", 2),
        (f"{RUN} anomalib:Fastflow", 2),
        (f"{RUN} csflow", 2),
        (f"{RUN} efficient_ad", 2),
        (f"{RUN} mias_sam", 2),
        (f"{RUN} intensity", 0),
        ("weights fetch padim", 2),
        ("weights list", 0),
        ("weights verify", 0),
        ("data get liver_ct --accept-licence", 2),
        ("list datasets", 0),
        ("list methods", 0),
        ("list runs", 0),
        ("check-plugin intensity", 0),
    ],
)
def test_nothing_is_asked_for(command: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIASBENCH_DATA", "MIASBENCH_WEIGHTS", "MIASBENCH_RESULTS", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    with pytest.raises(SystemExit) as end:
        main(command.split())
    assert end.value.code == code


def test_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SILENT, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.setenv("MIASBENCH_OFFLINE", "0")
    tell_libraries()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["DO_NOT_TRACK"] == "0", "what the user has said stays"
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    tell_libraries()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
