"""Names of files that are not UTF-8, which a file system takes and text does not."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.cli import main
from miasbench.results.store import find_run

LATIN = os.fsdecode(b"caf\xe9")  # as an old archive holds it


@pytest.fixture
def bench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIASBENCH_DATA", "data")

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(end.value.code, int)
        return end.value.code, out + err

    return run


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="its file systems take Unicode only")
def test_are_used_from_the_dataset_to_the_report(bench: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / LATIN)
    for path in sorted(tmp_path.rglob("*.png")):
        path.rename(path.with_name(f"{LATIN}{path.name}"))
    methods = "intensity,intensity[sigma=1]"
    code, said = bench("run", "-m", methods, "-d", f"./{LATIN}", "--size", "64", "--results", f"results {LATIN}")
    assert code == 0, said
    assert f"{tmp_path}/results caf\\xe9" in said
    store = find_run("latest", tmp_path / f"results {LATIN}")
    assert set(store.cases()["dataset"]) == {"caf\\xe9"}
    assert store.cases()["case"].str.startswith("caf\\xe9").all()
    pd.testing.assert_series_equal(pd.read_csv((store.folder / "cases.csv").path)["case"], store.cases()["case"])
    results = ("--results", f"results {LATIN}")
    for command in (
        ["score", "latest", *results],
        ["show", "latest", *results],
        ["stats", "latest", *results],
        ["report", "latest", *results, "--out", f"paper {LATIN}"],
        ["baseline", "latest", *results, "--out", f"{LATIN}.json"],
        ["check", "latest", *results, "--baseline", f"{LATIN}.json", "--junit", "gate.xml", "--markdown", "gate.md"],
        ["data", "verify", f"./{LATIN}", "--out", "findings.csv"],
        ["data", "add", "mine", f"./{LATIN}"],
    ):
        code, said = bench(*command)
        assert code == 0, said
    assert "caf\\xe9" in (tmp_path / f"paper {LATIN}" / "report.html").read_text(encoding="utf-8")


def test_one_that_is_not_there_is_told(bench: Callable[..., tuple[int, str]]) -> None:
    code, said = bench("run", "-m", "intensity", "-d", f"./{LATIN}")
    assert code == 2
    assert "There is no dataset at " in said
