"""Predictions from elsewhere, and predictions for others: what goes out and comes in again has the same scores."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import miasbench
from miasbench.harness.api import DataError, UsageError
from miasbench.harness.cli import main
from miasbench.harness.exchange.exporting import coco, run_lengths, write_overlay
from miasbench.harness.exchange.manifest import Manifest
from miasbench.harness.running.integrity import verify_run
from miasbench.harness.running.rescoring import rescore

from ...support.running import COSTS, TINY, config, run

OWN = ("method", "cell", "options", "weights", "weights_sha256", "external", "seen")
SIZE = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> miasbench.Run:
    """A run of a method with maps and image scores, whose predictions are to be exported."""
    store, _ = run(tmp_path_factory.mktemp("results"), "intensity")
    return miasbench.open_run(store.folder)


@pytest.fixture(scope="module")
def exported(made: miasbench.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.export(tmp_path_factory.mktemp("out"))[0]


@pytest.fixture
def theirs(exported: Path, tmp_path: Path) -> Path:
    """A copy of an export, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "theirs"))


def taken_in(folder: Path, tmp_path: Path, **options: Any) -> miasbench.Run:
    options = {"method": "theirs", "size": SIZE, "results": tmp_path / "results", "quiet": True} | options
    return miasbench.import_predictions(folder, options.pop("dataset", TINY), **options)


def said(folder: Path, **changes: Any) -> None:
    """Changes the manifest; `None` takes a key away."""
    path = folder / "predictions.yaml"
    content = (yaml.safe_load(path.read_text()) if path.exists() else {}) | changes
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def comparable(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[~scores["metric"].isin(COSTS)].drop(columns=list(OWN)).reset_index(drop=True)


def test_an_import_of_an_export_has_the_same_scores_to_the_last_digit(
    made: miasbench.Run, exported: Path, tmp_path: Path
) -> None:
    again = taken_in(exported, tmp_path)
    pd.testing.assert_frame_equal(comparable(again.scores), comparable(made.scores))
    dropped = [*OWN, "predict_ms"]
    pd.testing.assert_frame_equal(again.cases.drop(columns=dropped), made.cases.drop(columns=dropped))
    assert set(again.scores["external"]) == {"imported"}
    assert set(again.scores["seen"]) == {"normal images"}
    told = again.scores[again.scores["metric"] == "predict_ms"]
    assert told["convention"].item() == "told by the author of the predictions, not measured here"
    assert not (again.scores["metric"] == "fit_seconds").any(), "nobody measured it"
    assert "theirs (imported)" in again.table()


def test_own_masks_go_out_and_come_in(plugins: Any, tmp_path: Path) -> None:
    store, _ = run(tmp_path / "first", "scripted")
    before = miasbench.open_run(store.folder)
    assert (before.scores["policy"] == "own").any()
    folder = before.export(tmp_path / "out")[0]
    assert len(list(folder.glob("masks/test/*.png"))) == 6
    again = taken_in(folder, tmp_path)
    pd.testing.assert_frame_equal(comparable(again.scores), comparable(before.scores))


def test_imports_stand_beside_methods_in_one_run(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    methods = ["intensity", "intensity[sigma=1]", f"imported[path={theirs},name=theirs]"]
    both = miasbench.run(methods, TINY, size=SIZE, results=tmp_path / "both", quiet=True, device="cpu")
    assert set(both.ranks["method"]) == {"intensity", "intensity[sigma=1]", "theirs"}
    dice = both.scores[both.scores["metric"] == "dice"].set_index("policy")
    of_method = {name: rows["value"] for name, rows in dice.groupby("method")}
    pd.testing.assert_series_equal(of_method["theirs"], of_method["intensity"])
    assert verify_run(both.store).problems == []
    assert rescore(both.store) == []
    assert (both.report(tmp_path / "paper")).exists()
    capsys.readouterr()
    baseline = tmp_path / "baseline.json"
    for command in (["baseline", str(both.store.folder), "--out", str(baseline)], ["check", str(both.store.folder)]):
        end = ["--baseline", str(baseline)] if command[0] == "check" else []
        with pytest.raises(SystemExit) as ended:
            main([*command, *end])
        assert ended.value.code == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert "theirs: runtime is not judged there: the predictions were made elsewhere" in told
    assert "--force" not in told
    for again in (f"imported[path={theirs.parent}/there/../theirs,name=theirs]", f"imported[path={theirs},name=b]"):
        with pytest.raises(UsageError, match=r"are the same folder, .*theirs\. Name it once"):
            miasbench.run([methods[-1], again], TINY, size=SIZE, results=tmp_path, quiet=True)
    with pytest.raises(UsageError, match="have the name intensity"):
        miasbench.run(["intensity", f"imported[path={theirs}]"], TINY, size=SIZE, results=tmp_path, quiet=True)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts in figures; nothing is drawn."""
    texts: list[str] = []

    def save(figure: Figure, to: BinaryIO, **_: object) -> None:
        found = [one.get_text() for one in figure.findobj(Text) if isinstance(one, Text)]
        texts.extend(" ".join(text.split()) for text in found)
        Image.new("L", (1, 1)).save(to, "PNG")

    monkeypatch.setattr(Figure, "savefig", save)
    return texts


@pytest.mark.parametrize(("seen", "mark"), [("anomalous", "saw anomalies)"), ("test", "saw the test set) *")])
def test_what_has_seen_more_is_never_ranked(
    theirs: Path, tmp_path: Path, seen: str, mark: str, drawn: list[str], capsys: pytest.CaptureFixture
) -> None:
    said(theirs, seen=["normal", seen], method="theirs")
    methods = ["intensity", "intensity[sigma=1]", f"imported[path={theirs}]"]
    both = miasbench.run(methods, TINY, size=SIZE, results=tmp_path, quiet=True, device="cpu")
    label = f"theirs (imported; {mark}"
    what = {"anomalous": "anomalous images", "test": "the test set"}[seen]
    assert set(both.ranks["method"]) == {"intensity", "intensity[sigma=1]"}
    assert "theirs" not in {*both.comparisons["method_a"], *both.comparisons["method_b"]}
    table = both.table()
    assert not [line for line in table.splitlines() if "theirs  " in line], "in every table, also of promises"
    assert table.count("theirs (imported;") >= 3
    assert f"Not ranked: theirs has seen {what}, and the ranked methods have not." in table
    page = both.report(tmp_path / "paper").read_text(encoding="utf-8")
    assert page.count(label) > 10
    assert f"Not ranked: theirs has seen {what}, and the ranked methods have not." in page
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["thresholds", str(both.store.folder)])
    printed = " ".join(capsys.readouterr().out.split())
    assert label in printed
    assert f"Not ranked: theirs has seen {what}, and the ranked methods have not." in printed
    assert label in drawn
    assert all(label in text for text in drawn if "theirs" in text)
    ranks = pd.read_csv(str(both.store.folder / "figures" / "thresholds.csv")).groupby("method")["rank"].max()
    assert ranks.fillna(0).to_dict() == {"intensity": 2, "intensity[sigma=1]": 2, "theirs": 0}
    bold = (tmp_path / "paper" / "tables" / "dice.tex").read_text(encoding="utf-8").splitlines()
    assert not any("theirs" in line and "textbf" in line for line in bold)
    marked = both.scores[both.scores["method"] == "theirs"]["transductive"]
    assert marked.all() == (seen == "test")
    with pytest.raises(SystemExit):
        main(["stats", str(both.store.folder), "--methods", "intensity,theirs"])
    refused = " ".join(capsys.readouterr().err.split())
    assert "no two methods on the same dataset with lesion masks that may be ranked: there is nothing" in refused
    assert f"It measured intensity, {label};" in refused


def test_maps_without_image_scores_have_no_image_auroc(theirs: Path, tmp_path: Path) -> None:
    (theirs / "scores.csv").unlink()
    again = taken_in(theirs, tmp_path)
    assert again.scores.loc[again.scores["metric"] == "image_auroc", "value"].isna().all()
    assert "theirs (imported)" in again.table()
    assert verify_run(again.store).problems == []


def test_squares_of_images_that_are_none_must_say_what_they_cover(tmp_path: Path) -> None:
    """A map of 64 x 64 may be the padded square or the image stretched: both have the size of the run's frame."""
    tall = "phantom_retina_oct:train=3,valid=2,test=4"
    folder = tmp_path / "theirs" / "maps" / "test"
    folder.mkdir(parents=True)
    for case in _opened(tall).cases("test"):
        np.save(folder / f"{case.id}.npy", np.eye(SIZE, dtype=np.float32))
    with pytest.raises(DataError, match="`geometry: image`"):
        taken_in(tmp_path / "theirs", tmp_path, dataset=tall, higher_is="anomalous", seen="normal")
    said(tmp_path / "theirs", geometry="frame")
    assert len(taken_in(tmp_path / "theirs", tmp_path, dataset=tall, higher_is="anomalous", seen="normal").cases)


def test_a_folder_that_options_cannot_hold_is_told(tmp_path: Path) -> None:
    for name in ("a,b", "a]b"):
        (tmp_path / name).mkdir()
        with pytest.raises(UsageError, match="Rename it"):
            taken_in(tmp_path / name, tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_predictions_of_several_seeds_are_one_method(theirs: Path, tmp_path: Path) -> None:
    said(theirs, method="theirs")
    other = Path(shutil.copytree(theirs, tmp_path / "other"))
    said(other, seed=1)
    np.save(_first(other), np.load(_first(other)) * 2)
    methods = ["intensity", *(f"imported[path={folder}]" for folder in (theirs, other))]
    made = miasbench.run(methods, TINY, size=SIZE, results=tmp_path / "results", quiet=True, device="cpu")
    assert set(made.scores[made.scores["method"] == "theirs"]["seed"]) == {0, 1}
    assert made.report(tmp_path / "paper").exists()


@pytest.mark.parametrize(("factor", "code"), [(2, 0), (-1, 1)])
def test_the_gate_judges_new_predictions_by_their_scores(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture, factor: float, code: int
) -> None:
    """Another set of files is no other configuration: what counts is how it scores."""
    before, baseline = taken_in(theirs, tmp_path), tmp_path / "baseline.json"
    with pytest.raises(SystemExit):
        main(["baseline", str(before.store.folder), "--out", str(baseline), "--tolerance", "pixel_auroc=0.02"])
    for path in theirs.glob("maps/*/*.npy"):
        np.save(path, factor * np.load(path))
    now = taken_in(theirs, tmp_path)
    assert now.name != before.name
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["check", str(now.store.folder), "--baseline", str(baseline)])
    assert ended.value.code == code
    assert "configuration" not in capsys.readouterr().out


def _as_npz(path: Path, values: np.ndarray) -> None:
    np.savez(path.with_suffix(".npz"), anomaly_map=values)


def _as_tif(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.float32)).save(path.with_suffix(".tif"))


def _as_nifti(path: Path, values: np.ndarray) -> None:
    import nibabel

    nibabel.Nifti1Image(values[..., None].astype(np.float32), np.eye(4)).to_filename(path.with_suffix(".nii.gz"))


@pytest.mark.parametrize("write", [_as_npz, _as_tif, _as_nifti])
def test_maps_may_be_of_several_formats(
    made: miasbench.Run, theirs: Path, tmp_path: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    (theirs / "files.csv").unlink()
    for path in theirs.glob("maps/*/*.npy"):
        write(path, np.load(path))
        path.unlink()
    pd.testing.assert_frame_equal(comparable(taken_in(theirs, tmp_path).scores), comparable(made.scores))


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_maps_of_whole_numbers_rank_as_they_do_in_python(
    made: miasbench.Run, theirs: Path, tmp_path: Path, dtype: type, top: int
) -> None:
    (theirs / "files.csv").unlink()
    (theirs / "scores.csv").unlink()
    rounded = []
    for one in made.predictions():
        values = (one.anomaly_map / 255 * top).round().clip(0, top).astype(dtype)
        rounded.append(values.astype(np.float32))
        Image.fromarray(values).save(theirs / "maps" / "test" / f"{one.case}.png")
        (theirs / "maps" / "test" / f"{one.case}.npy").unlink()
    shutil.rmtree(theirs / "maps" / "valid")
    again = taken_in(theirs, tmp_path, padding="count").scores
    plain = miasbench.score(rounded, [one.truth for one in made.predictions()])
    for metric in ("pixel_auroc", "pixel_ap"):
        value = again.loc[again["metric"] == metric, "value"].item()
        assert value == plain.loc[plain["metric"] == metric, "value"].item()


def test_values_may_run_the_other_way(made: miasbench.Run, theirs: Path, tmp_path: Path) -> None:
    for path in theirs.glob("maps/*/*.npy"):
        np.save(path, -np.load(path))
    rows = list(csv.DictReader((theirs / "scores.csv").open()))
    lines = [f"{row['split']},{row['case']},{-float(row['score'])!r}" for row in rows]
    (theirs / "scores.csv").write_text("\n".join(["split,case,score", *lines]) + "\n")
    said(theirs, higher_is="normal")
    pd.testing.assert_frame_equal(comparable(taken_in(theirs, tmp_path).scores), comparable(made.scores))


def test_masks_alone_are_scored_as_masks(made: miasbench.Run, theirs: Path, tmp_path: Path) -> None:
    shutil.rmtree(theirs / "maps")
    (theirs / "files.csv").unlink()
    (theirs / "scores.csv").unlink()
    said(theirs, higher_is=None)
    (theirs / "masks" / "test").mkdir(parents=True)
    for one in made.predictions():
        Image.fromarray(one.truth).save(theirs / "masks" / "test" / f"{one.case}.png")
    again = taken_in(theirs, tmp_path)
    scores = again.scores.set_index(["policy", "metric"])["value"]
    assert scores["own", "dice"] == 1
    assert np.isnan(scores["none", "pixel_auroc"])
    assert np.isnan(scores["none", "image_auroc"])
    assert set(scores.index.get_level_values("policy")) == {"own", "none"}
    told = " ".join(again.table().split())
    assert "pixel AUROC, " in told
    assert "none left out" not in told


def test_image_scores_alone_are_scored_as_such(made: miasbench.Run, theirs: Path, tmp_path: Path) -> None:
    shutil.rmtree(theirs / "maps")
    (theirs / "files.csv").unlink()
    again = taken_in(theirs, tmp_path).scores
    before = made.scores[made.scores["metric"] == "image_auroc"]
    assert again.loc[again["metric"] == "image_auroc", "value"].item() == before["value"].item()
    assert not (again["metric"] == "pixel_auroc").any()


def test_maps_of_the_images_own_size_are_padded_as_images_are(tmp_path: Path) -> None:
    """The map of an image that is not square is the image itself: then both are framed alike."""
    tall = "phantom_retina_oct:train=3,valid=2,test=4"
    dataset = _opened(tall)
    folder = tmp_path / "theirs" / "maps" / "test"
    folder.mkdir(parents=True)
    for case in dataset.cases("test"):
        image = dataset.load(case).image
        assert image.shape[0] != image.shape[1]
        np.save(folder / f"{case.id}.npy", image.astype(np.float32))
    again = taken_in(tmp_path / "theirs", tmp_path, dataset=tall, higher_is="anomalous", seen=["normal"])
    for one in again.predictions():
        inside = one.scored
        assert np.abs(one.anomaly_map[inside] - one.image[inside]).max() <= 1, "but for rounding"


def _opened(spec: str) -> miasbench.Dataset:
    from miasbench.harness.registry import open_dataset

    return open_dataset(spec, Path())


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: said(folder, **{name: None})


def _first(folder: Path) -> Path:
    return sorted(folder.glob("maps/test/*.npy"))[0]


def _nan(folder: Path) -> None:
    values = np.load(_first(folder))
    values[0, 0] = np.nan
    np.save(_first(folder), values)


def _three(folder: Path) -> None:
    np.save(_first(folder), np.zeros((SIZE, SIZE, 3), np.float32))


def _lossy(folder: Path) -> None:
    (folder / "files.csv").unlink()
    Image.fromarray(np.eye(SIZE, dtype=np.uint8)).save(_first(folder).with_suffix(".jpg"))
    _first(folder).unlink()


def _turned_maps(folder: Path) -> None:
    for path in folder.glob("maps/*/*.npy"):
        np.save(path, np.load(path)[:, : SIZE // 2])


def _no_numbers(folder: Path) -> None:
    table = pd.read_csv(folder / "scores.csv")
    table.assign(score="nan").to_csv(folder / "scores.csv", index=False)


def _damaged(folder: Path) -> None:
    _first(folder).write_bytes(b"\x93NUMPY nonsense")


def _other_size(folder: Path) -> None:
    said(folder, geometry=None)
    np.save(_first(folder), np.zeros((SIZE, SIZE + 1), np.float32))


def _one_of_another_size(folder: Path) -> None:
    said(folder, geometry="image")
    np.save(_first(folder), np.zeros((SIZE, SIZE // 2), np.float32))


def _empty(folder: Path) -> None:
    shutil.rmtree(folder / "maps")
    for name in ("scores.csv", "files.csv"):
        (folder / name).unlink()


def _few(folder: Path) -> None:
    """Takes everything of one test case away."""
    first = _first(folder)
    (folder / "files.csv").unlink()
    first.unlink()
    lines = (folder / "scores.csv").read_text().splitlines()
    (folder / "scores.csv").write_text("\n".join(line for line in lines if f"test,{first.stem}," not in line) + "\n")


def _no_number(folder: Path) -> None:
    path = folder / "scores.csv"
    path.write_text(path.read_text().replace(path.read_text().splitlines()[1].split(",")[2], "high", 1))


def _comma(folder: Path) -> None:
    lines = (folder / "scores.csv").read_text().splitlines()
    (folder / "scores.csv").write_text("\n".join([lines[0], lines[1].replace(".", ",") + ",5", *lines[2:]]))


def _twice(folder: Path) -> None:
    lines = (folder / "scores.csv").read_text().splitlines()
    (folder / "scores.csv").write_text("\n".join([lines[0] + ",score", *(f"{line},1" for line in lines[1:])]))


def _endings(folder: Path) -> None:
    table = pd.read_csv(folder / "scores.csv")
    table.assign(case=table["case"] + ".png").to_csv(folder / "scores.csv", index=False)


def _fine(folder: Path) -> None:
    np.save(_first(folder), 1 - 1e-12 * np.arange(SIZE**2).reshape(SIZE, SIZE))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_drop("seen"), "does not say what the method has seen"),
        (_drop("higher_is"), "whether higher values mean anomalous or normal"),
        (
            lambda folder: said(folder, higher_is="up"),
            "The entry higher_is is 'up', but should be anomalous or normal.",
        ),
        (
            lambda folder: said(folder, higher_si="x"),
            "There is no entry 'higher_si'. Did you mean 'higher_is'? Known: ",
        ),
        (
            lambda folder: said(folder, seen=["norml"]),
            "The entry seen is 'norml', but should be one or several of normal",
        ),
        (lambda folder: said(folder, seen=3), "The entry seen is 3, but should be one or several of normal, labels"),
        (lambda folder: said(folder, seed=1.5), "The entry seed is 1.5, but should be a whole number from 0 on"),
        (
            lambda folder: said(folder, predict_ms=-1),
            "The entry predict_ms is -1, but should be a number of milliseconds",
        ),
        (lambda folder: said(folder, dataset=5), "The entry dataset is 5, but should be a text, in quotes."),
        (lambda folder: said(folder, maps="maps/{split}"), "the path needs {case}"),
        (lambda folder: said(folder, dataset_fingerprint="0" * 64), "are of other images of phantom_brain_mri"),
        (_nan, "holds NaN or infinity"),
        (_three, "has 3 dimensions, 64 x 64 x 3. Expected are two, height x width: one value for each pixel"),
        (_lossy, ".jpg is compressed with loss (.jpg): its values are not those that the method gave"),
        (_turned_maps, "has 64 x 32 values: with `geometry: frame` it must be a square. The same is true of 9 others."),
        (_no_numbers, "line 2: the score 'nan' of "),
        (
            lambda folder: said(folder, files="list.csv"),
            "predictions.yaml says `files: list.csv`, but ",
        ),
        (lambda folder: said(folder, scores="all.csv"), "says `scores: all.csv`, but "),
        (_damaged, "cannot be read"),
        (_other_size, "has 64 x 65 values and its image 64 x 64 pixels"),
        (_one_of_another_size, "has 64 x 32 values and its image 64 x 64 pixels, while most files have the size"),
        (_empty, "has no prediction for any test case"),
        (_no_number, "line 2: the score 'high'"),
        (_comma, "line 2: it has another number of fields than the first line"),
        (_twice, "has a column twice: split, case, score, score"),
        (_endings, "has no score of any case: "),
        (_fine, "float32, in which maps are compared, does not tell apart"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    theirs: Path, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    change(theirs)
    with pytest.raises(DataError) as raised:
        taken_in(theirs, tmp_path)
    assert told in str(raised.value)
    assert str(theirs) in str(raised.value), "and where"


@pytest.mark.parametrize(("name", "named"), [(None, ""), ("a,b", ", or the name a,b,")])
def test_a_path_that_no_list_of_options_can_hold_is_told(
    theirs: Path, tmp_path: Path, name: str | None, named: str
) -> None:
    folder = theirs.rename(tmp_path / "a,b [1]")
    with pytest.raises(UsageError) as raised:
        taken_in(folder, tmp_path, method=name)
    assert str(raised.value).startswith(f"{folder}{named} has a comma, a bracket or a blank")


def _no_shape(path: Path) -> None:
    np.save(path, np.float32(3))


def _no_values(path: Path) -> None:
    np.save(path, np.zeros((0, 64)))


def _no_npy(path: Path) -> None:
    path.write_bytes(b"no array")


def _complex(path: Path) -> None:
    np.save(path, np.load(path) * 1j)


def _infinite(path: Path) -> None:
    np.save(path, np.load(path) + np.inf)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_no_shape, r"has 0 dimensions, one number\. Expected are two, height x width: .*image\."),
        (_no_values, r"holds no value\. Write it again\."),
        (_no_npy, r"is no \.npy file\. Write it with numpy\.save\."),
        (_complex, r"holds complex64 and not numbers\. Save the map as float32\."),
        (_infinite, r"holds NaN or infinity, which cannot be ranked\. Give such pixels a number: .* one\."),
    ],
)
def test_maps_with_one_fault_are_one_line(
    theirs: Path, tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    for path in theirs.glob("maps/*/*.npy"):
        spoil(path)
    with pytest.raises(DataError, match=rf"1 problem:\n- \S+\.npy {told} The same is true of 9 others\.$"):
        taken_in(theirs, tmp_path)


def _with_masks(folder: Path, mask: np.ndarray) -> None:
    """Gives each map a mask beside it, in the places where an import looks without a table of files."""
    (folder / "files.csv").unlink()
    for path in folder.glob("maps/*/*.npy"):
        beside = folder / "masks" / path.relative_to(folder / "maps")
        beside.parent.mkdir(parents=True, exist_ok=True)
        np.save(beside, mask)


@pytest.mark.parametrize(
    ("levels", "told"), [(3, r"has 3 values \(0, 1, 2\)"), (30, "has more than 4 values")], ids=["labels", "a map"]
)
def test_masks_of_many_values_are_one_line_that_says_what_to_save(
    theirs: Path, tmp_path: Path, levels: int, told: str
) -> None:
    _with_masks(theirs, np.arange(64 * 64).reshape(64, 64) % levels)
    with pytest.raises(DataError, match=rf"1 problem:\n- .*{told}: .*Save 1 for what is anomalous and 0 for the rest"):
        taken_in(theirs, tmp_path)


@pytest.mark.parametrize("inverted", [True, False])
def test_masks_that_look_inverted_are_told(theirs: Path, tmp_path: Path, inverted: bool) -> None:
    lesion = np.zeros((64, 64), bool)
    lesion[20:30, 20:30] = True
    _with_masks(theirs, lesion != inverted)
    notes = " ".join(next(iter(taken_in(theirs, tmp_path).store.read().datasets.values())).notes)
    assert ("10 of 10 masks mark more than half of their image, as if inverted" in notes) == inverted


def test_one_cause_is_one_line_with_a_count(theirs: Path, tmp_path: Path) -> None:
    _no_numbers(theirs)
    with pytest.raises(DataError, match=r"1 problem:\n- .*line 2: .* number\. The same is true of 9 others\.$"):
        taken_in(theirs, tmp_path)


def test_a_pattern_that_no_file_fits_is_named_with_a_file_that_is_there(theirs: Path, tmp_path: Path) -> None:
    (theirs / "files.csv").unlink()
    first = _first(theirs).stem
    said(theirs, maps="maps/{split}/{case}_map.npy", masks="segmented/{case}")
    with pytest.raises(DataError) as raised:
        taken_in(theirs, tmp_path)
    for pattern, expected in (
        ("maps: maps/{split}/{case}_map.npy", f"maps/test/{first}_map.npy"),
        ("masks: segmented/{case}", f"segmented/{first}.png"),
    ):
        assert (
            f"predictions.yaml says `{pattern}`, but no file in {theirs} has such a name. For the case {first} it is "
            f"{expected}; there is maps/test/{first}.npy."
        ) in str(raised.value)


def test_a_method_may_have_learned_from_nothing(theirs: Path, tmp_path: Path) -> None:
    said(theirs, seen=[])
    assert set(taken_in(theirs, tmp_path).scores["seen"]) == {"nothing"}
    said(theirs, seen=None)
    assert set(taken_in(theirs, tmp_path, seen=[]).scores["seen"]) == {"nothing"}
    assert set(taken_in(theirs, tmp_path, seen="nothing").scores["seen"]) == {"nothing"}
    with pytest.raises(DataError, match=r"labels \(of whole images: .*text \(words, .*--seen nothing, is for a method"):
        taken_in(theirs, tmp_path)


def test_an_option_that_wins_over_the_manifest_is_told(theirs: Path, tmp_path: Path) -> None:
    said(theirs, method="theirs", higher_is="normal", seen=["normal"])
    again = taken_in(theirs, tmp_path, higher_is="anomalous", seen=["normal", "text"])
    notes = " ".join(next(iter(again.store.read().datasets.values())).notes)
    assert "predictions.yaml says `higher_is: normal`, and the option anomalous, which is used." in notes
    assert "predictions.yaml says `seen: normal`, and the option normal, text, which is used." in notes
    assert "`method" not in notes, "both say the same"


def test_files_of_cases_that_a_limit_leaves_out_belong_to_them(theirs: Path, tmp_path: Path) -> None:
    (theirs / "notes.txt").write_text("ours")
    again = miasbench.run(
        f"imported[path={theirs},name=theirs]", TINY, limit=2, size=SIZE, results=tmp_path, quiet=True, device="cpu"
    )
    assert again.cases["case"].nunique() == 2
    notes = next(iter(again.store.read().datasets.values())).notes
    assert [note for note in notes if "belong" in note] == [
        "theirs, made elsewhere: 1 file belongs to no case, such as notes.txt."
    ]


def test_an_export_of_a_limited_run_comes_back_with_the_same_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    few = miasbench.run("intensity", TINY, limit=2, size=SIZE, results=tmp_path / "few", quiet=True, device="cpu")
    folder = few.export(tmp_path / "out")[0]
    arguments = ["import", str(folder), "--dataset", TINY, "--size", str(SIZE), "--results", str(tmp_path / "back")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "If the run that they are of had --limit, give the same one." in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--limit", "2", "--name", "again"])
    assert ended.value.code == 0
    again = miasbench.open_run(tmp_path / "back" / "again")
    pd.testing.assert_frame_equal(comparable(again.scores), comparable(few.scores), check_exact=True)


def test_a_set_that_lacks_a_tenth_of_the_cases_is_taken_only_when_asked_for(theirs: Path, tmp_path: Path) -> None:
    _few(theirs)
    with pytest.raises(DataError, match="lacks 1 of 6 test cases"):
        taken_in(theirs, tmp_path)
    again = taken_in(theirs, tmp_path, partial=True)
    assert set(again.scores["external"]) == {"imported; 5 of 6 test cases"}
    assert again.cases["case"].nunique() == 5
    assert len(again.predictions()) == 5
    assert verify_run(again.store).problems == []
    assert "theirs (imported; 5 of 6 test cases)" in again.table()


def test_without_a_validation_split_policies_that_need_it_say_so(theirs: Path, tmp_path: Path) -> None:
    (theirs / "files.csv").unlink()
    shutil.rmtree(theirs / "maps" / "valid")
    lines = (theirs / "scores.csv").read_text().splitlines()
    (theirs / "scores.csv").write_text("\n".join(line for line in lines if not line.startswith("valid")) + "\n")
    scores = taken_in(theirs, tmp_path).scores
    dice = scores[scores["metric"] == "dice"].set_index("policy")
    assert dice["note"].str.startswith("left out: ").to_dict() == {
        **dict.fromkeys(("normal_quantile", "normal_mean_std", "normal_fpr", "normal_image_fpr"), True),
        **dict.fromkeys(("conformal", "conformal_risk", "valid_dice", "valid_f1", "mebin"), True),
        **dict.fromkeys(("otsu", "triangle", "entropy", "oracle_dice"), False),
    }
    assert dice["value"].notna().sum() == 4
    reasons = set(dice.loc[dice["note"].str.startswith("left out: "), "note"])
    assert reasons == {"left out: the imported predictions have no map of a validation image"}


@pytest.mark.usefixtures("undrawn")
def test_a_report_without_validation_masks_takes_a_policy_that_there_is(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.rmtree(theirs / "maps" / "valid")
    (theirs / "files.csv").unlink()
    (theirs / "scores.csv").unlink()
    other = Path(shutil.copytree(theirs, tmp_path / "other"))
    for path in other.glob("maps/test/*.npy"):
        np.save(path, np.load(path) ** 2)
    methods = [f"imported[path={theirs},name=theirs]", f"imported[path={other},name=other]"]
    made = miasbench.run(methods, TINY, size=SIZE, results=tmp_path / "results", quiet=True, device="cpu")
    told = "Masks are those of otsu: no method has a mask of its own or of valid_dice, which needs validation images"
    page = made.report(tmp_path / "paper").read_text(encoding="utf-8")
    assert told in page
    assert "Masks are those of otsu" in (tmp_path / "paper" / "tables" / "tables.md").read_text(encoding="utf-8")
    for command in (["report", "--out", str(tmp_path / "again")], ["stats"]):
        with pytest.raises(SystemExit) as ended:
            main([command[0], str(made.store.folder), *command[1:]])
        assert ended.value.code in (0, None)
        assert told in " ".join(capsys.readouterr().out.split())


def test_a_policy_says_that_the_import_lacks_the_lesions_and_not_the_dataset(theirs: Path, tmp_path: Path) -> None:
    (theirs / "files.csv").unlink()
    (theirs / "scores.csv").unlink()
    anomalous = [case.id for case in _opened(TINY).cases("valid") if case.label]
    for case in anomalous:
        (theirs / "maps" / "valid" / f"{case}.npy").unlink()
    again = taken_in(theirs, tmp_path, partial=True)
    dice = again.scores[again.scores["metric"] == "dice"].set_index("policy")["note"]
    assert dice["valid_dice"] == (
        "left out: the validation split has no lesion, among the 2 of 4 validation images that were imported"
    )
    assert "valid_dice, valid_f1 left out: the validation split has no lesion, among" in " ".join(again.table().split())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (lambda values: values * 0, "constant: one value everywhere"),
        (lambda values: (values > values.mean()).astype(np.float32), "two values only, as if thresholded already"),
        (lambda values: (values - values.min()) / np.ptp(values), "as if each was rescaled by itself"),
    ],
)
def test_what_is_odd_about_maps_is_told_and_kept(
    theirs: Path, tmp_path: Path, values: Callable[[np.ndarray], np.ndarray], told: str
) -> None:
    for path in theirs.glob("maps/*/*.npy"):
        np.save(path, values(np.load(path)))
    (theirs / "notes.txt").write_text("ours")
    with (theirs / "scores.csv").open("a") as table:
        table.write("test,nobody,0.5\n")
    again = taken_in(theirs, tmp_path)
    notes = next(iter(again.store.read().datasets.values())).notes
    assert any(told in note for note in notes)
    assert any("1 file and 1 row of scores.csv belong to no case, such as notes.txt" in note for note in notes)


def test_predictions_that_change_are_a_new_cell(theirs: Path, tmp_path: Path) -> None:
    before = taken_in(theirs, tmp_path).store.read().cells[0].name
    np.save(_first(theirs), np.load(_first(theirs)) + 1)
    assert taken_in(theirs, tmp_path).store.read().cells[0].name != before


def test_masks_and_maps_are_brought_back_to_the_pixels_of_the_images(tmp_path: Path) -> None:
    """Of an image that is not square, a mask that is the lesion itself comes back as the lesion."""
    tall = "phantom_retina_oct:train=3,valid=2,test=4"
    dataset = _opened(tall)
    for kind in ("maps", "masks"):
        (tmp_path / "theirs" / kind / "test").mkdir(parents=True)
    for case in dataset.cases("test"):
        image, mask = dataset.load(case)
        Image.fromarray(mask).save(tmp_path / "theirs" / "masks" / "test" / f"{case.id}.png")
        np.save(tmp_path / "theirs" / "maps" / "test" / f"{case.id}.npy", image / np.float32(7))
    side = max(dataset.load(dataset.cases("test")[0]).mask.shape)
    made = taken_in(tmp_path / "theirs", tmp_path, dataset=tall, seen=["normal"], higher_is="anomalous", size=side)
    folder = made.export(tmp_path / "out", ["images", "coco", "overlays"])[0]
    found = json.loads((folder / "coco.json").read_text())
    areas = {one["image_id"]: one["area"] for one in found["annotations"]}
    for number, case in enumerate(dataset.cases("test"), start=1):
        grey, truth = dataset.load(case)
        with Image.open(folder / "original" / "masks" / f"{case.id}.png") as image:
            np.testing.assert_array_equal(np.asarray(image) > 0, truth)
        with Image.open(folder / "original" / "maps" / f"{case.id}.tif") as image:
            assert image.mode == "F"
            np.testing.assert_array_equal(np.asarray(image), grey / np.float32(7))
        with Image.open(folder / "overlays" / f"{case.id}.png") as image:
            assert (image.mode, image.size) == ("RGB", truth.shape[::-1])
        assert areas.get(number, 0) == truth.sum()
        assert found["images"][number - 1]["height"] == truth.shape[0]


def test_an_overlay_shows_the_colours_of_the_image(tmp_path: Path) -> None:
    image = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[2:5, 2:5] = True
    with Image.open(write_overlay(tmp_path / "x.png", image, mask, ~mask & mask)) as shown:
        pixels = np.asarray(shown)
    assert (pixels[~mask] == (200, 100, 50)).all()
    assert (pixels[mask] != (200, 100, 50)).any(axis=1).all()


def test_images_with_an_empty_mask_have_a_score_in_coco(tmp_path: Path) -> None:
    mask = np.eye(3, dtype=bool)
    made = coco([("a.png", mask, 0.25), ("b.png", ~mask & mask, 0.5), ("c.png", mask, float("nan"))])
    assert [one.get("score") for one in made["images"]] == [0.25, 0.5, None]
    assert [(one["image_id"], one.get("score")) for one in made["annotations"]] == [(1, 0.25), (3, None)]
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_run_lengths_are_those_of_coco() -> None:
    """Column by column, and background first, as in the examples of COCO's own documentation of the format."""
    mask = np.array([[0, 1], [1, 1], [0, 0]], bool)
    assert run_lengths(mask) == [1, 1, 1, 2, 1]
    assert run_lengths(np.ones((2, 2), bool)) == [0, 4]
    assert run_lengths(np.zeros((2, 2), bool)) == [4]
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((7, 5)) < rng.random()
        runs = run_lengths(mask)
        values = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool)
        np.testing.assert_array_equal(values.reshape(5, 7).T, mask)


def test_the_commands_do_the_same(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["import", "theirs", "--dataset", TINY, "--method", "theirs", "--size", str(SIZE)]
    with pytest.raises(SystemExit) as ended:
        main([*common, "--check"])
    assert ended.value.code == 0
    assert "maps, scores of 4 valid, 6 test cases can be scored" in capsys.readouterr().out
    assert not (tmp_path / "bench-results").exists(), "a check leaves nothing"
    said(theirs, seen=None, higher_is=None)
    with pytest.raises(SystemExit) as ended:
        main([*common, "--seen", "normal,text", "--higher-is", "anomalous"])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(["export", "latest", "--out", "copy", "--as", "predictions", "--as", "overlays"])
    assert ended.value.code == 0
    folder = next((tmp_path / "copy").iterdir())
    assert Manifest.read(folder, {}).seen == ("normal", "text")
    assert len(list((folder / "overlays").iterdir())) == 6
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["export", "latest", "--out", "copy", "--method", "nobody"])
    assert ended.value.code == 2
    assert "has no predictions of method nobody. There: " in capsys.readouterr().err


def test_an_option_of_a_run_file_is_the_same(theirs: Path, tmp_path: Path) -> None:
    found = config(tmp_path, f"imported[path={theirs},seen=normal+text,higher_is=anomalous]", dataset=[TINY])
    assert str(found.methods[0]) == f"imported[path={theirs},seen=normal+text,higher_is=anomalous]"
