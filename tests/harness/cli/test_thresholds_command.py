"""`bench thresholds` with thresholds from elsewhere: what it writes, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from miasbench.harness.cli import main

from ...support.running import TINY, run

Bench = Callable[..., tuple[int, str, str]]

LIVER = "phantom_liver_ct:train=3,valid=4,test=6,size=64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store, _ = run(tmp_path_factory.mktemp("runs"), "intensity", dataset=[TINY, LIVER])
    return Path(str(store.folder))


@pytest.fixture
def bench(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    def thresholds(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["thresholds", str(folder), "--out", str(tmp_path / "out"), *options])
        output = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, output.out, " ".join(output.err.split())

    return thresholds


def test_both_studies_are_shown_drawn_and_tabled(bench: Bench, tmp_path: Path) -> None:
    code, out, err = bench("--threshold-from", "phantom_liver_ct", "--validation-sizes", "2,all", "--draws", "3")
    assert (code, err) == (0, "")
    assert "thresholds chosen on phantom_liver_ct instead of its own" in out
    assert "DICE on test by the number of validation images" in out
    shift = pd.read_csv(tmp_path / "out" / "threshold_shift.csv")
    assert (shift["dataset"].unique(), shift["threshold_from"].unique()) == ([TINY], [LIVER])
    assert not shift["policy"].str.contains("oracle").any()
    sizes = pd.read_csv(tmp_path / "out" / "validation_sizes.csv")
    assert set(sizes["images"]) == {2, 4}
    assert len(list((tmp_path / "out").glob("validation_sizes-*.pdf"))) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--threshold-from", "phantom_liver"],
            "has no finished cell with maps and lesion masks on it. Known: phantom_brain_mri:train",
        ),
        (["--validation-sizes", "4,few"], "--validation-sizes 4,few: 'few' is no number of images"),
        (["--validation-sizes", "0"], "--validation-sizes 0: '0' is no number of images"),
        (
            ["--dataset", f"{TINY}=elsewhere"],
            "--dataset says where images are for --threshold-from and --validation-sizes: give one of them",
        ),
        (["--dataset", "x=y", "--validation-sizes", "all"], "it should be NAME=PATH"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(bench: Bench, tmp_path: Path, options: list[str], said: str) -> None:
    code, _, err = bench(*options)
    assert code == 2
    assert said in err
    assert not (tmp_path / "out").exists(), "nothing is written before all is known to be right"
