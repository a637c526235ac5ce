"""Runs from Python: the same as on the command line, without leaving Python."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import miasbench
from miasbench.harness.cli import main
from miasbench.harness.cli.console import console
from miasbench.harness.running.planning import open_datasets

from ...support.running import TINY, config

OPTIONS = {"weights": "embedded", "size": 64, "device": "cpu", "controls": False}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> miasbench.Run:
    results = tmp_path_factory.mktemp("results")
    return miasbench.run("intensity,intensity[sigma=2]", TINY, results=results, quiet=True, **OPTIONS)


def test_a_run_is_that_of_the_command_line(made: miasbench.Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--weights", "embedded", "--size", "64", "--device", "cpu", "--no-controls"]
    with pytest.raises(SystemExit):
        main(["run", "-m", "intensity,intensity[sigma=2]", "-d", TINY, *arguments, "--results", str(tmp_path)])
    capsys.readouterr()
    other = miasbench.open_run(results=tmp_path)
    assert other.name == made.name
    measured = ~made.scores["metric"].isin(["fit_seconds", "predict_ms", "calibration_ms", "peak_memory_mib"])
    pd.testing.assert_frame_equal(other.scores[measured], made.scores[measured])
    with pytest.raises(SystemExit):
        main(["show", str(made.store.folder)])
    assert made.table(console.width) == capsys.readouterr().out


def test_the_tables_are_those_of_the_folder(made: miasbench.Run) -> None:
    for name in ("scores", "cases", "curves", "comparisons", "ranks"):
        pd.testing.assert_frame_equal(getattr(made, name), made.store.table(name))


def test_a_run_is_found_again_by_its_folder_and_by_the_beginning_of_its_name(made: miasbench.Run) -> None:
    assert miasbench.open_run(made.store.folder).name == made.name
    assert miasbench.open_run(made.name[:20], made.store.folder.parent).name == made.name
    with pytest.raises(miasbench.BenchError, match="nowhere"):
        miasbench.open_run("nowhere", made.store.folder.parent)


def test_what_is_finished_is_not_run_again(made: miasbench.Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.store.folder.glob("cells/*/test/*.npz")}
    again = miasbench.run(
        ["intensity", "intensity[sigma=2]"], [TINY], results=made.store.folder.parent, quiet=True, **OPTIONS
    )
    assert again.name == made.name
    assert {path: path.stat().st_mtime_ns for path in made.store.folder.glob("cells/*/test/*.npz")} == before


def test_predictions_have_images_truths_maps_and_masks(made: miasbench.Run) -> None:
    (dataset,) = open_datasets(config(made.store.folder.parent)).values()
    predictions = made.predictions(method="intensity")
    assert [one.case for one in predictions] == [case.id for case in dataset.cases("test")]
    rows = made.cases[(made.cases["method"] == "intensity") & (made.cases["policy"] == "valid_dice")].set_index("case")
    for one, case in zip(predictions, dataset.cases("test"), strict=True):
        image, truth = dataset.load(case)
        np.testing.assert_array_equal(one.image, image)
        np.testing.assert_array_equal(one.truth, truth)
        assert (one.patient, one.label, one.prompts) == (case.patient, case.label, ())
        assert one.mask is not None
        assert one.mask.sum() == rows.loc[one.case, "predicted_px"]
        assert one.image_score == rows.loc[one.case, "image_score"]
    assert [one.case for one in predictions[1:3]] == [predictions[1].case, predictions[2].case]


def test_predictions_by_another_policy(made: miasbench.Run) -> None:
    rows = made.cases[(made.cases["method"] == "intensity") & (made.cases["policy"] == "otsu")]
    predictions = made.predictions("intensity", policy="otsu")
    assert [one.mask.sum() for one in predictions if one.mask is not None] == list(rows["predicted_px"])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "2 cells of .* fit. Give method, dataset and seed"),
        ({"method": "mias_sam"}, "has no such cell.*method='intensity', dataset='phantom"),
        ({"method": "intensity", "policy": "own"}, "intensity has no masks by 'own'. There are those of: normal_quant"),
    ],
)
def test_predictions_that_there_are_none_of(made: miasbench.Run, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(miasbench.UsageError, match=said):
        made.predictions(**asked)


def test_a_report_is_written(made: miasbench.Run, tmp_path: Path) -> None:
    page = made.report(tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    assert "intensity[sigma=2]" in page.read_text(encoding="utf-8")
    assert (tmp_path / "out" / "tables" / "tables.md").exists()


def test_a_notebook_shows_the_table_and_takes_no_name_for_markup(tmp_path: Path) -> None:
    dataset = tmp_path / "<img src=x>"
    miasbench_card = f"name: '<b>bold</b>'\nroot: {dataset}\n"
    from miasbench.datasets.phantom import phantom_brain_mri, write_bmad

    write_bmad(phantom_brain_mri(tmp_path, train=3, valid=4, test=6, size=64), dataset)
    (tmp_path / "card.yaml").write_text(miasbench_card)
    run = miasbench.run("intensity", tmp_path / "card.yaml", results=tmp_path / "results", quiet=True, **OPTIONS)
    shown = run._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;bold" in shown
    assert "otsu" in shown


def test_a_notebook_shows_a_run_once_where_it_is_asked_for(
    made: miasbench.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook rich displays what a console prints at once, if it may."""
    displayed: list[object] = []
    display = ModuleType("IPython.display")
    display.__dict__["display"] = displayed.append
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert "otsu" in made._repr_html_()
    assert "otsu" in made.table()
    assert not displayed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("intensty", TINY), "There is no method 'intensty'. Did you mean 'intensity'"),
        (("intensity", "./nowhere"), "There is no dataset at "),
        (("intensity",), r"Option dataset in run\(\): it is required"),
    ],
)
def test_mistakes_are_errors_that_can_be_caught(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(miasbench.BenchError, match=said):
        miasbench.run(*arguments, quiet=True, **OPTIONS)


def test_an_unknown_option_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(miasbench.UsageError, match=r"Unknown option 'sise' in run\(\). Did you mean 'size'"):
        miasbench.run("intensity", TINY, sise=3)
    file = tmp_path / "run.yaml"
    file.write_text("methods: [intensity]\nsise: 3\n")
    with pytest.raises(miasbench.UsageError, match=f"Unknown option 'sise' in {file}"):
        miasbench.run(dataset=TINY, config=file)


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    miasbench.run("intensity", TINY, results=tmp_path, quiet=True, **OPTIONS)
    assert capsys.readouterr() == ("", "")
    miasbench.run("intensity", TINY, results=tmp_path, force=True, **OPTIONS)
    assert "predict test" in capsys.readouterr().out


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """A process of a cell would run the script again, if it took it for its own."""
    script = tmp_path / "script.py"
    script.write_text(
        "import miasbench\n"
        f"run = miasbench.run('intensity', {TINY!r}, executor='local', results={str(tmp_path)!r}, "
        f"quiet=True, **{OPTIONS!r})\n"
        "print(set(run.scores['error']))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{''}\n", "")


@pytest.mark.parametrize("dataset", [3, [3]])
def test_a_dataset_that_is_no_name_is_named(dataset: Any) -> None:
    with pytest.raises(miasbench.UsageError, match="There is no dataset '3'"):
        miasbench.run("intensity", dataset)
