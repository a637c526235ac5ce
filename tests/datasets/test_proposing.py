"""Cards that are proposed for a folder by the look of it."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from miasbench.datasets.card import CardFile
from miasbench.datasets.folder import open_folder
from miasbench.datasets.places import SplitFolders
from miasbench.datasets.proposing import TO_EDIT, Proposal, propose_card
from miasbench.harness.api import SPLITS, DataError

from .conftest import LAYOUTS

Maker = Callable[..., Path]


def proposed(folder: Path, where: Mapping[str, str] | None = None) -> Proposal:
    """What is proposed, which is then written, and read back as the same."""
    file = folder / "card.yaml"
    found = propose_card(folder, file, where)
    found.card.write(file, found.beliefs, TO_EDIT)
    assert CardFile.read(file) == found.card
    return found


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as raised:
        propose_card(folder, folder / "card.yaml")
    assert not (folder / "card.yaml").exists()
    return str(raised.value)


@pytest.mark.parametrize("around", ["", "wrapped"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bmads_layouts_are_told_and_read_as_before(tmp_path: Path, make_bmad: Maker, layout: str, around: str) -> None:
    make_bmad(tmp_path / "brain" / around, layout)
    before = open_folder(tmp_path / "brain")
    found = proposed(tmp_path / "brain")
    assert found.beliefs[0].startswith(f"{tmp_path / 'brain'} looks like BMAD's layout")
    both = "2 normal and 2 anomalous images"
    assert f"Splits: train has 3 normal and 0 anomalous images, valid has {both}, test has {both}." in found.beliefs
    assert "A guess: 6 patients, by file names: 00000_0 is of 00000." in found.beliefs
    assert (found.notes, found.problems) == ((), ())
    after = open_folder(tmp_path / "brain")
    assert after.fingerprint == before.fingerprint
    assert after.card.counts == {"train": 3, "valid": 4, "test": 4}
    assert {"licence: unknown", "title: ''"} < set((tmp_path / "brain/card.yaml").read_text().splitlines())


def test_a_validation_split_may_be_missing(tmp_path: Path, make_bmad: Maker) -> None:
    shutil.rmtree(make_bmad(tmp_path) / "valid")
    splits = proposed(tmp_path).card.splits
    assert splits
    assert splits.valid == SplitFolders()
    assert len(open_folder(tmp_path).cases("test")) == 4


def test_the_layout_of_mvtec_is_told(tmp_path: Path, write: Maker) -> None:
    for name in ("train/good/000", "test/good/000", "test/tumour/000", "test/oedema/000", "extra/000"):
        write(tmp_path / f"{name}.png", len(name))
    for kind in ("tumour", "oedema"):
        write(tmp_path / f"ground_truth/{kind}/000_mask.png")
    found = proposed(tmp_path)
    assert found.beliefs[:2] == (f"{tmp_path} looks like MVTec's layout.", "Kinds of anomaly: oedema, tumour.")
    assert found.beliefs[2].startswith("A guess: the name of a mask is that of its image with _mask behind it")
    assert found.card.mask_suffix == "_mask"
    assert found.notes[0].startswith("1 image is passed over")
    assert [case.id for case in open_folder(tmp_path).cases("test")] == ["000", "oedema/000", "tumour/000"]


@pytest.mark.parametrize("suffix", ["_mask", "-lesion", "_seg_1"])
def test_a_suffix_of_masks_is_guessed(tmp_path: Path, make_bmad: Maker, suffix: str) -> None:
    make_bmad(tmp_path)
    for path in list(tmp_path.glob("*/Ungood/anomaly_mask/*.png")):
        path.rename(path.with_stem(path.stem + suffix))
    found = proposed(tmp_path)
    assert (found.card.mask_suffix, found.problems) == (suffix, ())
    assert any(belief.startswith("A guess: the name of a mask") and suffix in belief for belief in found.beliefs)
    dataset = open_folder(tmp_path)
    assert all(dataset.load(case).mask.sum() == case.label for split in SPLITS for case in dataset.cases(split))


def test_masks_beside_their_images_are_found(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    for path in list(tmp_path.glob("*/Ungood/anomaly_mask/*.png")):
        path.rename(path.parents[1] / "img" / f"{path.stem}_mask.png")
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    found = proposed(tmp_path)
    assert (found.card.mask_suffix, found.problems) == ("_mask", ())
    assert [len(open_folder(tmp_path).cases(split)) for split in SPLITS] == [3, 4, 4]


def test_kinds_of_anomaly_with_masks_beside_their_images_are_guessed(tmp_path: Path, write: Maker) -> None:
    write(tmp_path / "train/normal/n (1).png", 1)
    for kind in ("benign", "malignant"):
        write(tmp_path / f"test/{kind}/{kind} (1).png", len(kind))
        write(tmp_path / f"test/{kind}/{kind} (1)_mask.png")
    found = proposed(tmp_path)
    assert found.beliefs[0] == f"{tmp_path} has folders of splits, in no known layout."
    assert found.beliefs[1] == "A guess: folders of the test split are kinds of anomaly: benign, malignant."
    assert (found.card.mask_suffix, found.problems) == ("_mask", ())
    dataset = open_folder(tmp_path)
    assert [case.id for case in dataset.cases("test")] == ["benign/benign (1)", "malignant/malignant (1)"]
    assert all(dataset.load(case).mask.any() for case in dataset.cases("test"))


def test_patients_in_names_are_guessed(tmp_path: Path, make_bmad: Maker) -> None:
    for number, path in enumerate(sorted(make_bmad(tmp_path).rglob("img/*.png"))):
        name = f"Patient{number // 3:02}Slice{number % 3}.png"
        mask = path.parents[1] / "anomaly_mask" / path.name
        if mask.exists():
            mask.rename(mask.with_name(name))
        path.rename(path.with_name(name))
    found = proposed(tmp_path)
    assert found.card.patient is not None
    assert any(belief.startswith(f"A guess: `patient: '{found.card.patient.pattern}'`.") for belief in found.beliefs)
    dataset = open_folder(tmp_path)
    assert len({case.patient for split in SPLITS for case in dataset.cases(split)}) == 4


def test_problems_of_files_are_told_and_the_card_is_written(tmp_path: Path, make_bmad: Maker) -> None:
    (make_bmad(tmp_path) / "test/Ungood/anomaly_mask/a_test_10.png").unlink()
    (problem,) = proposed(tmp_path).problems
    assert "a_test_10.png has no mask of its name at " in problem


# Tables


def table(folder: Path, write: Maker, name: str, header: str, more: str = "") -> Path:
    rows = [header]
    for number, (label, split) in enumerate(((0, "train"), (0, "test"), (1, "test"))):
        write(folder / f"a/{number}_1.png", 20 * number)
        mask = "m/2.png" if label else ""
        rows.append(f"a/{number}_1.png,{mask},{label},{split}{more.format(number)}")
    write(folder / "m/2.png")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(rows) + "\n")
    return folder


def test_a_table_is_found_and_its_columns_are_guessed(tmp_path: Path, write: Maker) -> None:
    table(tmp_path, write, "all.csv", "File_Name,Mask,class,fold,patient_id", ",p{}")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    found = proposed(tmp_path)
    assert found.card.table
    assert found.card.table.columns == {
        "image": "File_Name",
        "label": "class",
        "patient": "patient_id",
        "split": "fold",
    }
    assert found.beliefs[0] == "all.csv lists the images."
    assert found.beliefs[1].startswith("A guess: of its columns, File_Name is the image, class is the label")
    assert "Patients: 3, by the table." in found.beliefs
    assert [case.patient for case in open_folder(tmp_path).cases("test")] == ["p1", "p2"]


def test_one_object_of_visa_is_asked_for(tmp_path: Path, write: Maker) -> None:
    table(tmp_path, write, "split_csv/1cls.csv", "image,mask,label,split,object", ",candle")
    with (tmp_path / "split_csv/1cls.csv").open("a") as file:
        file.write("b/1.png,,0,train,pcb1\n")
    text = refusal(tmp_path)
    assert "lists 2 datasets in its column object: candle, pcb1. Say which, such as --where object=candle" in text
    found = proposed(tmp_path, {"object": "candle"})
    assert "split_csv/1cls.csv lists the images, the rows where object is candle." in found.beliefs
    assert len(open_folder(tmp_path).cases("test")) == 2


# What is not understood


def test_what_is_not_understood_is_one_sentence_on_what_was_seen(tmp_path: Path, write: Maker) -> None:
    assert refusal(tmp_path) == f"{tmp_path} holds no images: it holds nothing. Give a folder of images."
    for name in ("images/a", "images/b", "masks/a"):
        write(tmp_path / f"{name}.png")
    text = refusal(tmp_path)
    assert text.startswith(f"{tmp_path} holds 3 images (2 in images, 1 in masks), but no folder and no table says")
    assert "or write a table, images.csv, with the columns image, mask, label, patient, split." in text
    (tmp_path / "list.csv").write_text("image,mask\nimages/a.png,masks/a.png\n")
    assert f"{tmp_path}/list.csv lists images in its column image, but has no column split and label." in refusal(
        tmp_path
    )
    (tmp_path / "list.csv").write_text("image;split;label\n")
    assert "list.csv is separated by semicolons." in refusal(tmp_path)
    for name in ("list.csv", "more.csv"):
        (tmp_path / name).write_text("image,split,label\nimages/a.png,train,0\n")
    assert "has several tables that list images: list.csv, more.csv." in refusal(tmp_path)


def test_volumes_are_pointed_to_data_add(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/a.nii.gz").touch()
    assert "holds volumes and no images: bench data add NAME IMAGES --masks MASKS" in refusal(tmp_path)


def test_a_layout_without_images_to_test_is_told(tmp_path: Path, write: Maker) -> None:
    write(tmp_path / "train/good/a_1.png")
    for kind in ("normal", "tumour"):
        (tmp_path / "test" / kind).mkdir(parents=True)
    write(tmp_path / "test/tumour/b_1.png")
    text = refusal(tmp_path)
    assert "The test split has no anomalous images at " in text
    assert "It holds normal, tumour." in text


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        propose_card(tmp_path / "nothing", tmp_path / "card.yaml")


@pytest.mark.parametrize(
    ("file", "root"), [("card.yaml", "brain"), ("brain/card.yaml", "."), ("cards/card.yaml", "{}")]
)
def test_the_root_is_told_from_where_the_card_is(tmp_path: Path, make_bmad: Maker, file: str, root: str) -> None:
    folder = make_bmad(tmp_path / "brain")
    (tmp_path / "cards").mkdir()
    found = propose_card(folder, tmp_path / file)
    found.card.write(tmp_path / file)
    assert CardFile.read(tmp_path / file).root == root.format(folder)
    assert len(open_folder(tmp_path / file).cases("test")) == 4
