"""Nothing of the test split's truth reaches a method or a threshold, and nothing hangs on the order of cases."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from upath import UPath

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness import registry
from miasbench.harness.api import Case, Dataset, Method, Prediction, Sample, Split
from miasbench.harness.config import RunConfig
from miasbench.harness.data.frame import frame_image
from miasbench.harness.data.leaks import shared_patients, shared_patients_note, visits_note
from miasbench.harness.data.subset import Subset
from miasbench.harness.registry import Entry
from miasbench.harness.running.planning import Plan, make_plan
from miasbench.harness.running.runner import execute
from miasbench.harness.specs import parse_method
from miasbench.results.store import RunStore

from ...support.running import TINY, Wrapped

REAL = ("intensity", "patchcore", "padim", "ae[epochs=1]")


def plan(results: Path, dataset: str | Path, *methods: str) -> Plan:
    return make_plan(
        RunConfig(
            methods=[parse_method(method) for method in methods],
            dataset=[str(dataset)],
            weights="embedded",
            size=64,
            results=UPath(results),
            device="cpu",
            controls=False,
        )
    )


def run(results: Path, dataset: str | Path, *methods: str) -> RunStore:
    planned = plan(results, dataset, *methods)
    outcomes = execute(planned)
    assert [outcome.error for outcome in outcomes] == [""] * len(methods)
    return planned.store


# What a method is given


@dataclass(kw_only=True)
class Recording(Method):
    """Keeps all that it is given, under the name of what was called."""

    given: ClassVar[list[tuple[str, Any]]] = []

    def fit(self, images: Sequence[np.ndarray]) -> None:
        self.given.append(("fit", images))
        self.given.extend(("fit image", image) for image in images)

    def predict(self, image: np.ndarray) -> Prediction:
        self.given.append(("predict", image))
        return Prediction(image.astype(np.float32), 0.0)

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        self.given.append(("predict_many", images))
        for image in images:
            self.given.append(("predict_many image", image))
            yield Prediction(image.astype(np.float32), 0.0)


class Loaded(Wrapped):
    """A dataset that tells each time a case is read."""

    def __init__(self, whole: Dataset, loaded: list[tuple[str, Any]]) -> None:
        super().__init__(whole)
        self.loaded = loaded

    def load(self, case: Case) -> Sample:
        self.loaded.append(("load", case))
        return super().load(case)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What the method `recording` is given, in order."""
    told: list[tuple[str, Any]] = []
    monkeypatch.setattr(Recording, "given", told)
    monkeypatch.setitem(registry.METHODS, "recording", Entry(f"{__name__}:Recording", "for a test"))
    return told


def test_a_method_is_given_framed_images_and_nothing_else(tmp_path: Path, given: list[tuple[str, Any]]) -> None:
    run(tmp_path, TINY, "recording")
    dataset = registry.open_dataset(TINY, tmp_path)
    train, valid, test = (
        [frame_image(dataset.load(case).image, 64) for case in dataset.cases(split)]
        for split in ("train", "valid", "test")
    )
    expected = [("fit image", train), ("predict", train[:1]), ("predict_many image", [*valid, *test])]
    for call, images in expected:
        seen = [content for name, content in given if name == call]
        assert {(type(image), image.dtype.name) for image in seen} == {(np.ndarray, "uint8")}
        np.testing.assert_array_equal(seen, images)
    assert len({image.tobytes() for image in [*train, *valid, *test]}) == 13, "no image stands for another one"
    sequences = [content for name, content in given if name in ("fit", "predict_many")]
    assert [len(images) for images in sequences] == [3, 4, 6]
    for images in sequences:
        assert {name for name in vars(images) if not name.startswith("_")} == set()


def test_only_training_cases_are_read_while_a_method_is_fitted(
    tmp_path: Path, given: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Loaded(phantom_brain_mri(tmp_path, train=3, valid=4, test=6, size=64), given)
    monkeypatch.setattr(registry, "open_dataset", lambda spec, root: dataset)
    run(tmp_path, TINY, "recording")
    calls = [name for name, _ in given]
    fitted = [content.split for name, content in given[: calls.index("predict_many")] if name == "load"]
    assert set(fitted) == {"train"}
    # Reading all of a split again is scoring, and by then every image of it has been predicted.
    last = len(calls) - calls[::-1].index("predict_many image")
    predicted = [content.split for name, content in given[calls.index("predict_many") : last] if name == "load"]
    assert predicted == ["valid"] * 4 + ["test"] * 6


# What moves when the truth of the test split does


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunStore]:
    """A folder with a dataset, and a run of real methods on it."""
    folder = tmp_path_factory.mktemp("before")
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), folder / "data")
    return folder / "data", run(folder / "results", folder / "data", *REAL)


def shuffle_masks(data: Path) -> None:
    """Gives each anomalous test image the mask of the next one."""
    masks = sorted((data / "test/Ungood/anomaly_mask").iterdir())
    contents = [mask.read_bytes() for mask in masks]
    for mask, content in zip(masks, contents[1:] + contents[:1], strict=True):
        mask.write_bytes(content)


def invert_labels(data: Path) -> None:
    """Calls normal test images anomalous, wholly lesion, and anomalous ones normal."""
    test = data / "test"
    shutil.rmtree(test / "Ungood/anomaly_mask")
    (test / "good/img").rename(test / "kept")
    (test / "Ungood/img").rename(test / "good/img")
    (test / "kept").rename(test / "Ungood/img")
    (test / "Ungood/anomaly_mask").mkdir()
    for image in (test / "Ungood/img").iterdir():
        Image.new("L", (64, 64), 255).save(test / "Ungood/anomaly_mask" / image.name)


def predictions(store: RunStore) -> dict[tuple[str, str, str], tuple[bytes, float, bytes | None, str]]:
    """Every stored prediction, by method, split and case."""
    found = {}
    for cell in store.read().cells:
        for path in sorted((store.folder / "cells" / cell.name).glob("*/*.npz")):
            split = path.parent.name
            kept = store.cell(cell.name).read_prediction(split, path.stem).prediction
            mask = None if kept.mask is None else kept.mask.tobytes()
            found[cell.method, split, path.stem] = (kept.anomaly_map.tobytes(), kept.image_score, mask, kept.note)
    return found


def thresholds(store: RunStore) -> pd.DataFrame:
    cases = store.cases().sort_values(["method", "policy", "case"])
    return cases[["method", "policy", "looks_at", "oracle", "case", "threshold"]].reset_index(drop=True)


@pytest.mark.slow
@pytest.mark.parametrize("change", [shuffle_masks, invert_labels])
def test_no_method_sees_test_masks_or_labels(
    tmp_path: Path, before: tuple[Path, RunStore], change: Callable[[Path], None]
) -> None:
    shutil.copytree(before[0], tmp_path / "data")
    change(tmp_path / "data")
    after = run(tmp_path / "results", tmp_path / "data", *REAL)
    fingerprints = {store.cases()["dataset_fingerprint"].iloc[0] for store in (before[1], after)}
    assert len(fingerprints) == 2, "it is another dataset, so nothing was taken over from the other run"
    one, other = predictions(before[1]), predictions(after)
    assert len(one) == len(REAL) * 10
    assert one == other


@pytest.mark.slow
def test_no_threshold_but_the_oracles_moves_with_the_masks_of_the_test_split(
    tmp_path: Path, before: tuple[Path, RunStore]
) -> None:
    shutil.copytree(before[0], tmp_path / "data")
    shuffle_masks(tmp_path / "data")
    one, other = thresholds(before[1]), thresholds(run(tmp_path / "results", tmp_path / "data", "intensity"))
    one = one[one["method"] == "intensity"].reset_index(drop=True)
    assert set(one["looks_at"]) >= {"normals", "validation", "image", "oracle"}
    pd.testing.assert_frame_equal(one[~one["oracle"]], other[~other["oracle"]], check_exact=True)
    moved = one["threshold"] != other["threshold"]
    assert moved[one["oracle"]].all()


# The order of cases


class Reordered(Loaded):
    """A dataset whose cases to be predicted come in another order."""

    def cases(self, split: Split) -> Sequence[Case]:
        cases = self.whole.cases(split)
        order = np.random.default_rng(1).permutation(len(cases))
        return cases if split == "train" else [cases[index] for index in order]


@pytest.mark.usefixtures("plugins")
def test_scores_do_not_depend_on_the_order_of_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = phantom_brain_mri(tmp_path, train=3, valid=8, test=36, size=64)
    stores = []
    for number, one in enumerate((dataset, Reordered(dataset, []))):
        monkeypatch.setattr(registry, "open_dataset", lambda spec, root, one=one: one)
        stores.append(run(tmp_path / str(number), TINY, "scripted", "intensity"))
    scores, cases = [], []
    for store in stores:
        table = store.scores()
        scores.append(table[~table["metric"].str.endswith(("_ms", "_mib", "_seconds"))].reset_index(drop=True))
        rows = store.cases().drop(columns="predict_ms").sort_values(["method", "policy", "case"])
        cases.append(rows.reset_index(drop=True))
    assert {"own", "oracle_dice"} <= set(cases[0]["policy"])
    assert stores[0].cases()["case"].tolist() != stores[1].cases()["case"].tolist()
    pd.testing.assert_frame_equal(*scores, check_exact=False, rtol=0, atol=1e-12)
    pd.testing.assert_frame_equal(*cases, check_exact=False, rtol=0, atol=1e-12)


# Methods for which a split is one whole


class TinySam:
    """Stands in for SAM: pixels for features, and no mask."""

    identity = "tiny"
    saved_seconds = 0.0

    def encode(self, image: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.pixel_unshuffle(torch.from_numpy(image.copy()).float()[None, None], 4)

    def decode(
        self, features: torch.Tensor, prompts: Sequence[Any], size: int, multimask: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        count = 3 if multimask else 1
        return np.full((len(prompts), count, size, size), -1, np.float32), np.ones((len(prompts), count), np.float32)


def test_mias_sam_over_the_test_set_is_marked_in_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miasbench.methods.mias_sam.sam_method.load_sam", lambda *_, **__: TinySam())
    marked = {"mias_sam": False, "mias_sam[normalisation=image]": False, "mias_sam[normalisation=test_set]": True}
    assert {cell.method: cell.transductive for cell in plan(tmp_path, TINY, *marked).cells} == marked
    store = run(tmp_path, TINY, *marked)
    for table in (store.scores(), store.cases()):
        assert set(zip(table["method"], table["transductive"], strict=True)) == set(marked.items())


# Patients in two splits


class Listed(Loaded):
    """A dataset of nothing but ids and patients."""

    def __init__(self, **splits: list[tuple[str, str]]) -> None:
        super().__init__(phantom_brain_mri(Path()), [])
        self.splits = splits

    def cases(self, split: Split) -> Sequence[Case]:
        return [Case(name, patient, split, 0, name) for name, patient in self.splits.get(split, [])]


def test_patients_in_two_splits_are_told_by_pair() -> None:
    dataset = Listed(
        train=[("p1_1", "p1"), ("p1_2", "p1"), ("p2_1", "p2"), ("p3_1", "p3")],
        valid=[("p1_3", "p1"), ("p4_1", "p4")],
        test=[("p4_2", "p4"), ("p1_4", "p1"), ("p5_1", "p5")],
    )
    assert shared_patients(dataset) == {
        "train and valid": ["p1"],
        "train and test": ["p1"],
        "valid and test": ["p1", "p4"],
    }
    note = shared_patients_note(dataset)
    assert note.startswith("There are 2 patients in more than one split")
    assert "(train and valid: p1; train and test: p1; valid and test: p1, p4)" in note
    assert "\n" not in note


def test_a_few_of_many_patients_are_named() -> None:
    many = [(f"{number:05d}_60", f"{number:05d}") for number in range(9)]
    assert "(train and test: 00000, 00001, 00002 and 6 more)" in shared_patients_note(Listed(train=many, test=many))
    assert "is 1 patient in " in shared_patients_note(Listed(train=many[:1], test=many))


@pytest.mark.parametrize(
    ("one", "other"),
    [("p1_s1", "p1_s2"), ("p1_visit2", "p1"), ("p1-scanA", "p1-scanB"), ("p1_OD", "p1_OS"), ("p1_pre", "p1_post")],
)
def test_visits_of_one_patient_in_two_splits_are_told(one: str, other: str) -> None:
    others = [(f"q{number}_1", f"q{number}") for number in range(3)]
    apart = Listed(train=[(f"{one}_1", one), *others[:1]], test=[(f"{other}_1", other), *others[1:]])
    assert f"1 name looks like a patient with visits in more than one split, such as {one} (train)" in visits_note(
        apart
    )
    together = Listed(train=[(f"{one}_1", one), (f"{other}_1", other)], test=others)
    assert visits_note(together) == ""


@pytest.mark.parametrize(
    "names", [("sub-01", "sub-02"), ("TCGA_CS_4942_19970222", "TCGA_CS_4942_19990101"), ("S01", "S02"), ("v1", "v2")]
)
def test_names_of_patients_are_no_visits(names: tuple[str, str]) -> None:
    one, other = names
    assert visits_note(Listed(train=[("x_1", one), ("y_1", "y")], test=[("z_1", other), ("w_1", "w")])) == ""


@pytest.mark.parametrize("name", ["phantom_brain_mri", "phantom_liver_ct", "phantom_retina_oct"])
def test_no_phantom_has_a_patient_in_two_splits(name: str, tmp_path: Path) -> None:
    assert shared_patients(registry.open_dataset(name, tmp_path)) == {}
    assert shared_patients_note(registry.open_dataset(name, tmp_path)) == ""


def test_numbers_of_files_are_no_patients_but_names_are() -> None:
    numbered = Listed(train=[("000", "000")], test=[("good/000", "000"), ("Ungood/000", "000")])
    numbered.guesses_patients = True
    assert shared_patients(numbered) == shared_patients(Subset(numbered, 1)) == {}
    named = Listed(train=[("TCGA-01", "TCGA-01")], test=[("TCGA-01", "TCGA-01")])
    assert shared_patients(named) == {"train and test": ["TCGA-01"]}


def test_numbers_are_patients_where_somebody_says_so() -> None:
    assert shared_patients(Listed(train=[("000", "000")], test=[("good/000", "000")])) == {"train and test": ["000"]}


def test_numbers_that_no_folder_is_counted_up_to_are_patients() -> None:
    numbered = Listed(train=[("1", "1"), ("70123", "70123")], test=[("1", "1"), ("70123", "70123")])
    numbered.guesses_patients = True
    assert shared_patients(numbered) == {"train and test": ["70123"]}


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([[value, 255], [0, 0]], dtype=np.uint8)).save(path)


@pytest.mark.parametrize(("said", "shared"), [("", {}), ("patient: '(.+)'", {"train and test": ["1"]})])
def test_a_patient_that_is_the_number_of_a_file_is_found_where_the_card_says_so(
    tmp_path: Path, said: str, shared: dict[str, list[str]]
) -> None:
    for value, place in enumerate(("train/good/1", "test/good/2", "test/Ungood/img/1", "test/Ungood/anomaly_mask/1")):
        save(tmp_path / f"{place}.png", value)
    (tmp_path / "card.yaml").write_text(f"name: mine\n{said}")
    dataset = registry.open_dataset(str(tmp_path), tmp_path)
    assert dataset.guesses_patients == (not said)
    assert shared_patients(dataset) == shared


def test_a_patient_that_is_the_number_of_a_file_is_found_where_a_table_says_so(
    tmp_path: Path,
) -> None:
    for value, name in enumerate(("a/1", "b/1", "b/2", "masks/1")):
        save(tmp_path / f"{name}.png", value)
    (tmp_path / "images.csv").write_text(
        "image,split,label,patient,mask\na/1.png,train,0,1,\nb/1.png,test,1,1,masks/1.png\nb/2.png,test,0,2,\n"
    )
    (tmp_path / "card.yaml").write_text("name: mine\ntable: images.csv")
    assert shared_patients(registry.open_dataset(str(tmp_path), tmp_path)) == {"train and test": ["1"]}


def test_patients_of_a_folder_follow_its_cards_pattern(tmp_path: Path) -> None:
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "data")
    (tmp_path / "card.yaml").write_text("{name: mine, root: data, patient: '_(.+)'}")  # the slice's number
    assert shared_patients(registry.open_dataset(str(tmp_path / "data"), tmp_path)) == {}
    shared = shared_patients(registry.open_dataset(str(tmp_path / "card.yaml"), tmp_path))
    assert shared["train and test"] == ["60", "61", "62"]
