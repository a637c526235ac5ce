"""What a run says of its datasets first, and keeps."""

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image, ImageFilter

from miasbench.datasets.folder import open_folder
from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness import registry
from miasbench.harness.api import Card, Case, Dataset, Sample, Split
from miasbench.harness.data.notes import notes_on
from miasbench.harness.data.subset import Subset
from miasbench.harness.data.survey import look_alikes, survey
from miasbench.harness.data.verifying import verify_dataset
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import execute

from ...support.running import Wrapped, config


class Noted(Wrapped):
    """A dataset with something to say."""

    def __init__(self) -> None:
        super().__init__(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64))
        self.name = "noted"

    def notes(self) -> tuple[str, ...]:
        return ("2 files are passed over.",)


@pytest.mark.parametrize("limit", [0, 2])
def test_a_run_keeps_the_notes_of_its_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(registry, "open_dataset", lambda spec, root: Noted())
    plan = make_plan(config(tmp_path, "intensity", limit=limit))
    assert plan.notes == {"noted": ("2 files are passed over.",)}
    execute(plan)
    assert plan.store.read().datasets["noted"].notes == ("2 files are passed over.",)


def test_a_part_of_a_dataset_has_the_notes_of_the_whole() -> None:
    assert Subset(Noted(), 2).notes() == Noted().notes()


def test_a_dataset_has_no_notes_unless_it_says_some() -> None:
    assert phantom_brain_mri(Path()).notes() == ()


# What images and masks show


class Drawn(Dataset):
    """A dataset of given images and masks: a normal image to train, and those to test."""

    of_files = True

    def __init__(self, *tests: tuple[int, np.ndarray], annotation: Literal["mask", "image"] = "mask") -> None:
        self.name = "drawn"
        self.card = Card("drawn", "Drawn", "none", "nowhere", "CC0-1.0", "nobody", annotation=annotation)
        self.masks = [mask for _, mask in tests]
        self.listed = [
            Case(f"t_{n}", f"p{n}", "test", label, f"{n}.png", f"m{n}.png") for n, (label, _) in enumerate(tests)
        ]

    @property
    def fingerprint(self) -> str:
        return repr((self.card, self.listed, [mask.tobytes() for mask in self.masks]))

    def cases(self, split: Split) -> Sequence[Case]:
        return {"train": [Case("n_0", "n", "train", 0, "n.png")], "valid": [], "test": self.listed}[split]

    def load(self, case: Case) -> Sample:
        number = int(case.id.partition("_")[2])
        image = np.random.default_rng([number, case.split == "test"]).integers(0, 256, (64, 64)).astype(np.uint8)
        return Sample(image, self.masks[number] if case.split == "test" else np.zeros((64, 64), bool))


EMPTY, FULL, SMALL = np.zeros((64, 64), bool), np.ones((64, 64), bool), np.eye(64, dtype=bool)


def test_a_usual_dataset_has_no_notes() -> None:
    assert notes_on(Drawn((0, EMPTY), (1, SMALL), (1, SMALL))) == ()


def test_anomalous_images_without_a_lesion_are_told() -> None:
    (note,) = notes_on(Drawn((0, EMPTY), (1, EMPTY), (1, SMALL), (1, EMPTY)))
    assert note.startswith("2 of 3 anomalous images (such as m1.png and m3.png) have a mask without a lesion.")
    assert notes_on(Drawn((1, EMPTY), (1, SMALL), annotation="image")) == ()


def test_a_mask_that_is_missing_is_not_told_to_be_without_a_lesion(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "d")
    next((tmp_path / "d/test/Ungood/anomaly_mask").iterdir()).unlink()
    findings = verify_dataset(lambda: open_folder(tmp_path / "d"))[1]
    (finding,) = findings
    assert "has no mask of its name" in finding.text


def test_masks_that_are_lesion_all_over_are_told() -> None:
    (note,) = notes_on(Drawn((1, FULL), (1, SMALL), (1, SMALL)))
    assert note.startswith("1 mask (such as m0.png) is lesion all over")


def test_masks_that_cover_most_of_the_image_are_told() -> None:
    (note,) = notes_on(Drawn((1, ~SMALL), (1, SMALL), (1, SMALL)))
    assert note == "1 mask (such as m0.png) covers more than half of the image. Are they inverted?"
    (note,) = notes_on(Drawn((1, ~SMALL), (1, ~SMALL), (1, SMALL)))
    assert "They look inverted: save them the other way round, or as PNG with `lesion: [0]`" in note
    dataset = Drawn((1, ~SMALL), (1, ~SMALL), (1, SMALL))
    dataset.card = replace(dataset.card, lesion=(255,))
    (note,) = notes_on(dataset)
    assert note.endswith("They look inverted: choose other grey levels with `lesion` on the card.")


def test_normal_images_with_a_lesion_are_told() -> None:
    (note,) = notes_on(Drawn((0, SMALL), (0, EMPTY), (1, SMALL), (1, SMALL)))
    assert note.startswith("1 normal image (such as m0.png) has a lesion")


@pytest.mark.parametrize(("names", "told"), [("train_{}", True), ("p{0}_{0}", False), ("sub-{}_ses-1", False)])
def test_a_test_of_one_patient_is_told(tmp_path: Path, names: str, told: bool) -> None:
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=8, size=64), tmp_path / "d")
    for folder in ("img", "anomaly_mask"):
        for number, path in enumerate(sorted((tmp_path / "d/test/Ungood" / folder).iterdir())):
            path.rename(path.with_stem(names.format(number)))
    notes = [note for note in notes_on(open_folder(tmp_path / "d")) if "of one patient" in note]
    assert bool(notes) == told
    if told:
        assert notes[0].startswith("All 4 anomalous test images are of one patient, train, as far as names tell")
        assert "`patient` on a card" in notes[0]
        (tmp_path / "card.yaml").write_text("{name: d, root: d, patient: '(.+)'}")
        assert not any("of one patient" in note for note in notes_on(open_folder(tmp_path / "card.yaml")))


def test_images_of_few_grey_levels_are_told(tmp_path: Path) -> None:
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "d")
    assert notes_on(open_folder(tmp_path / "d")) == ()
    for path in (tmp_path / "d").rglob("img/*.png"):
        Image.fromarray(np.array(Image.open(path)) // 16).save(path)
    (note,) = notes_on(open_folder(tmp_path / "d"))
    assert note.startswith("Half of the images have 98 % of their pixels within ")
    assert "bits: 12" in note


# Copies in two splits


def again(image: Image.Image) -> Image.Image:
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=40)
    return Image.open(kept)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda image: image,
    "compressed": again,
    "half as large": lambda image: image.resize((64, 64), Image.Resampling.BILINEAR),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda image: image.point([min(255, round(1.1 * grey + 10)) for grey in range(256)]),
    "darker": lambda image: image.point([round(255 * (grey / 255) ** 1.3) for grey in range(256)]),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(0.8)),
    "noisy": lambda image: Image.fromarray(
        (np.array(image) + np.random.default_rng(0).normal(0, 8, (128, 128))).clip(0, 255).astype(np.uint8)
    ),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies") / "d"
    write_bmad(phantom_brain_mri(Path(), train=6, valid=4, test=6, size=128), folder)
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_in_another_split_is_found(written: Path, tmp_path: Path, change: str) -> None:
    shutil.copytree(written, tmp_path / "d")
    source = sorted((tmp_path / "d/train/good/img").iterdir())[2]
    copy = tmp_path / "d/test/good/img/zz_1.png"
    CHANGES[change](Image.open(source)).save(copy)
    dataset = open_folder(tmp_path / "d")
    assert [(one.image, other.image) for one, other in look_alikes(dataset, survey(dataset)[0])] == [
        (str(source), str(copy))
    ]
    (note,) = notes_on(dataset)
    assert note.startswith(f"1 image looks the same as an image of another split, such as {copy} (test) and {source}")
    assert note.endswith(" bench data verify lists them.")
    kinds = {finding.kind: finding for finding in verify_dataset(lambda: dataset)[1]}
    assert note == f"{kinds['notes'].text} bench data verify lists them."
    assert str(copy) in kinds["duplicates"].text
    assert kinds["duplicates"].wrong == (change == "the same")


@pytest.mark.parametrize("name", ["phantom_brain_mri", "phantom_liver_ct", "phantom_retina_oct"])
def test_no_phantom_looks_like_one_of_another_split(name: str, tmp_path: Path) -> None:
    dataset = registry.open_dataset(f"{name}:train=24,valid=8,test=16,size=64", tmp_path)
    assert look_alikes(dataset, survey(dataset)[0]) == []


def test_a_second_run_reads_nothing_again(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = survey(open_folder(written))[0]
    dataset = open_folder(written)
    monkeypatch.setattr(dataset, "load", lambda case: pytest.fail("it was read"))
    for name, array in vars(survey(dataset)[0]).items():
        np.testing.assert_array_equal(array, getattr(expected, name))


def test_a_dataset_that_is_not_of_files_is_not_drawn_for_its_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64)
    monkeypatch.setattr(dataset, "load", lambda case: pytest.fail("it was"))
    assert notes_on(dataset) == notes_on(Subset(dataset, 2)) == ()


def test_a_dataset_of_which_nothing_can_be_read_is_looked_at(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "d")
    for path in (tmp_path / "d").rglob("*.png"):
        path.write_bytes(b"no image")
    dataset, findings = verify_dataset(lambda: open_folder(tmp_path / "d"))
    assert sum(finding.wrong for finding in findings) == 16 + 5
    assert look_alikes(dataset, survey(dataset)[0]) == []
