"""Datasets whose train and validation splits are another's."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from miasbench.datasets.adding import add_dataset
from miasbench.datasets.card import CardFile
from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.datasets.splitting import TEST_ONLY, SplitRule
from miasbench.datasets.volume_files import pair_volumes
from miasbench.harness.api import SPLITS, BrokenDatasetError, DataError, Split, UsageError
from miasbench.harness.data.leaks import shared_patients
from miasbench.harness.data.verifying import verify_dataset

from ..support.volumes import write as write_volumes

Maker = Callable[..., Path]


def counts(dataset: FolderDataset) -> list[int]:
    return [len(dataset.cases(split)) for split in SPLITS]


@pytest.fixture
def base(tmp_path: Path, make_bmad: Maker) -> Path:
    return make_bmad(tmp_path / "slices")


@pytest.fixture
def scans(tmp_path: Path, base: Path) -> Path:
    """The card of ten volumes, all of them for the test."""
    volumes = write_volumes(tmp_path / "volumes")
    pairs = pair_volumes(volumes / "images", volumes / "masks")
    return add_dataset("scans", volumes / "images", tmp_path / "data", volumes=pairs, train_from=base)


def test_all_volumes_are_tested_and_the_rest_is_the_others(scans: Path, base: Path) -> None:
    dataset, other = open_folder(scans), open_folder(base)
    assert dataset.cases("train") == other.cases("train")
    assert dataset.cases("valid") == other.cases("valid")
    test = dataset.cases("test")
    assert {case.volume for case in test} == {f"p{number}" for number in range(10)}
    assert len(test) == 10 * 6
    assert {case.label for case in test} == {0, 1}
    assert all(case.spacing == pytest.approx((0.65, 0.7, 5)) for case in test)
    for split in SPLITS:
        for case in dataset.cases(split):
            assert (dataset.load(case).mask.sum() > 0) == case.label
    grid = dataset.grid("p3")
    assert grid is not None
    assert grid.slice_shape == (11, 9)
    card = CardFile.read(scans)
    assert (card.train_from, card.volumes and card.volumes.shares) == (str(base), TEST_ONLY)


def test_where_the_splits_come_from_is_told(scans: Path, base: Path, write: Maker) -> None:
    write(base / "extra/more_1.png")
    notes = open_folder(scans).notes()
    assert notes[0].startswith(f"The train and validation splits are those of slices ({base}; ")
    assert notes[1].startswith("slices: 1 image is passed over")
    assert notes[2].startswith("Black and white are percentiles of each volume")
    assert len(notes) == 3


def test_the_fingerprint_covers_both(scans: Path, base: Path, write: Maker) -> None:
    before = open_folder(scans).fingerprint
    assert open_folder(scans).fingerprint == before
    write(base / "train/good/img/00000_0.png", 77)
    changed = open_folder(scans).fingerprint
    slice_ = next((scans.parent / "scans/test/good/img").iterdir())
    Image.new("L", (9, 11), 5).save(slice_)
    assert len({before, changed, open_folder(scans).fingerprint}) == 3


def test_patients_are_looked_for_in_all_splits(scans: Path, base: Path, write: Maker) -> None:
    assert shared_patients(open_folder(scans)) == {}
    write(base / "train/good/img/p3_1.png", 50)
    write(base / "valid/good/img/p4_1.png", 51)
    found = {"train and test": ["p3"], "valid and test": ["p4"]}
    assert shared_patients(open_folder(scans)) == found
    _, findings = verify_dataset(lambda: open_folder(scans))
    told = [each.text for each in findings if each.kind == "patients"]
    assert told == [f"In {splits}, as far as names tell: {names[0]}" for splits, names in found.items()]


def test_what_is_wrong_with_either_is_found(scans: Path, base: Path) -> None:
    (base / "train/good/img/00000_0.png").write_bytes(b"damaged")
    dataset, findings = verify_dataset(lambda: open_folder(scans))
    assert dataset.name == "scans"
    assert any("train/good/img/00000_0.png" in each.text for each in findings if each.wrong)
    with pytest.raises(DataError, match="00000_0"):
        _ = open_folder(scans).fingerprint
    shutil.rmtree(scans.parent / "scans/test/Ungood/anomaly_mask")
    with pytest.raises(BrokenDatasetError, match="there is no"):
        open_folder(scans)


@pytest.mark.parametrize(
    ("theirs", "own", "rule"),
    [("otsu", None, "otsu"), (None, "otsu", "otsu"), ("otsu", "all", "all"), ("otsu", "otsu", "otsu")],
)
def test_one_rule_is_the_foreground_of_all_splits(
    tmp_path: Path, base: Path, make_bmad: Maker, theirs: str | None, own: str | None, rule: str
) -> None:
    make_bmad(tmp_path / "own")
    CardFile(name="slices", foreground=theirs).write(base / "card.yaml")
    CardFile(name="mine", root="own", train_from="slices", foreground=own).write(tmp_path / "mine.yaml")
    dataset = open_folder(tmp_path / "mine.yaml")
    assert dataset.card.foreground == rule
    said = [note for note in dataset.notes() if "foreground" in note]
    differ = f"The foreground of all splits is {rule}, as the card of mine says; that of slices says {theirs or 'all'}."
    assert said == ([differ] if (theirs or "all") != rule else [])


def test_masks_of_the_foreground_are_each_datasets_own(tmp_path: Path, base: Path, make_bmad: Maker) -> None:
    own, pattern = make_bmad(tmp_path / "own"), "{name}.png"
    CardFile(name="mine", root="own", train_from="slices", foreground=pattern).write(tmp_path / "mine.yaml")
    with pytest.raises(BrokenDatasetError, match="The foreground of mine is masks, and slices, from which it takes"):
        open_folder(tmp_path / "mine.yaml")
    CardFile(name="slices", foreground=pattern).write(base / "card.yaml")
    dataset = open_folder(tmp_path / "mine.yaml")
    places: tuple[tuple[Split, Path], ...] = (("valid", base), ("test", own))
    for split, folder in places:
        case = dataset.cases(split)[0]
        found = dataset.foreground(case)
        assert found is not None
        assert (found == (dataset.load(case).image > 0)).all()
        assert Path(case.image).is_relative_to(folder)
    CardFile(name="mine", root="own", train_from="slices").write(tmp_path / "mine.yaml")
    assert open_folder(tmp_path / "mine.yaml").card.foreground == "all"


def test_paths_are_relative_to_the_card(tmp_path: Path, base: Path, make_bmad: Maker) -> None:
    own = make_bmad(tmp_path / "a/own")
    (tmp_path / "a/mine.yaml").write_text("{name: mine, root: own, train_from: ../slices}")
    dataset = open_folder(tmp_path / "a/mine.yaml")
    assert counts(dataset) == [3, 4, 4]
    assert {Path(case.image).parts[-5] for case in dataset.cases("train")} == {"slices"}
    assert {Path(case.image).parts[-5] for case in dataset.cases("test")} == {"own"}
    notes = dataset.notes()
    assert "passed over" in notes[1]  # its own train and valid
    shutil.rmtree(own / "train")
    shutil.rmtree(own / "valid")
    assert len(open_folder(tmp_path / "a/mine.yaml").notes()) == 1


def test_each_part_is_read_by_its_own_card(tmp_path: Path, base: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "own")
    (base / "card.yaml").write_text("{name: other, patient: '(.)$', lesion: [255]}")
    (tmp_path / "mine.yaml").write_text("{name: mine, root: own, train_from: slices/card.yaml, lesion: any}")
    dataset = open_folder(tmp_path / "mine.yaml")
    assert {case.patient for case in dataset.cases("valid")} == {"0", "1"}
    assert {case.patient for case in dataset.cases("test")} == {"a_test", "n_test"}


def test_channels_are_the_same_in_all_splits(tmp_path: Path, base: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "own")
    (tmp_path / "mine.yaml").write_text("{name: mine, root: own, train_from: slices, channels: rgb}")
    with pytest.raises(
        BrokenDatasetError, match=r"with channels rgb, and those of slices, .* with grey. Write the same"
    ):
        open_folder(tmp_path / "mine.yaml")
    (base / "card.yaml").write_text("{name: slices, channels: rgb}")
    dataset = open_folder(tmp_path / "mine.yaml")
    for split in SPLITS:
        assert all(dataset.load(case).image.ndim == 3 for case in dataset.cases(split))


def test_percentiles_need_training_images_of_their_own(tmp_path: Path, base: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "own")
    (tmp_path / "mine.yaml").write_text("{name: mine, root: own, train_from: slices, percentiles: [1, 99]}")
    with pytest.raises(DataError, match="percentiles are of training images, which are those of train_from"):
        open_folder(tmp_path / "mine.yaml")


def test_a_table_or_folders_may_be_the_test_split(tmp_path: Path, base: Path, make_bmad: Maker) -> None:
    own = make_bmad(tmp_path / "own")
    splits = {"test": {"anomalous": "test/Ungood/img", "masks": "test/Ungood/anomaly_mask"}}
    card = {"name": "mine", "root": "own", "train_from": "slices", "splits": splits}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card))
    assert counts(open_folder(tmp_path / "mine.yaml")) == [3, 4, 2]
    rows = ["image,mask,label,split", "train/good/img/00000_0.png,,0,train"]
    rows.append("test/Ungood/img/a_test_10.png,test/Ungood/anomaly_mask/a_test_10.png,1,test")
    (own / "images.csv").write_text("\n".join(rows))
    (tmp_path / "mine.yaml").write_text("{name: mine, root: own, train_from: slices, table: images.csv}")
    dataset = open_folder(tmp_path / "mine.yaml")
    assert counts(dataset) == [3, 4, 1]
    assert any(note.startswith("1 row is of a split that another dataset gives") for note in dataset.notes())


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            "train_from: nowhere",
            "its train and validation splits from {root}/nowhere, and there is nothing.",
        ),
        ("train_from: again.yaml", "which takes its own from slices. Name that dataset in train_from."),
        ("train_from: slices\nannotation: image", "whose annotation is mask, and that of mine is image."),
        (
            "train_from: slices\nsplits: {train: {normal: a}, test: {anomalous: b, masks: c}}",
            "train_from takes train and valid of another dataset: leave them out of splits",
        ),
        ("splits: {test: {anomalous: b, masks: c}}", "splits: train must have normal"),
    ],
)
def test_a_wrong_card_is_told(tmp_path: Path, base: Path, make_bmad: Maker, told: str, said: str) -> None:
    make_bmad(tmp_path / "own")
    (tmp_path / "again.yaml").write_text("{name: again, root: own, train_from: slices}")
    (tmp_path / "mine.yaml").write_text(f"name: mine\nroot: own\n{told}\n")
    with pytest.raises(DataError) as raised:
        open_folder(tmp_path / "mine.yaml")
    assert said.format(root=tmp_path) in str(raised.value)


def test_what_cannot_be_added_leaves_nothing(tmp_path: Path, base: Path) -> None:
    volumes = write_volumes(tmp_path / "volumes")
    pairs = pair_volumes(volumes / "images", volumes / "masks")
    data = tmp_path / "data"
    with pytest.raises(DataError, match="there is nothing"):
        add_dataset("scans", volumes / "images", data, volumes=pairs, train_from=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="The shares 0 0 1 leave nothing to train on: --train-from"):
        add_dataset("scans", volumes / "images", data, volumes=pairs, rule=SplitRule(shares=TEST_ONLY))
    with pytest.raises(UsageError, match="brain_mri is the name of a benchmark of BMAD"):
        add_dataset("brain_mri", volumes / "images", data, volumes=pairs, train_from=base)
    (tmp_path / "x.zip").touch()
    with pytest.raises(UsageError, match="--train-from goes with volumes or a folder"):
        add_dataset("scans", tmp_path / "x.zip", data, train_from=base)
    assert not list(data.glob("*"))


def test_a_folder_is_added_with_a_name_in_the_data_root(tmp_path: Path, make_bmad: Maker) -> None:
    data = tmp_path / "data"
    (data / "slices").mkdir(parents=True)
    make_bmad(data / "slices/inside")
    own = make_bmad(tmp_path / "own")
    (own / "card.yaml").write_text("{name: own, train_from: ../data/slices}")
    card = CardFile.read(add_dataset("mine", own, data))
    assert (card.root, card.train_from) == (str(own), "slices")
    assert counts(open_folder(data / "mine.yaml")) == [3, 4, 4]
