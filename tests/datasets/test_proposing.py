"""Cards that are proposed for a folder by the look of it."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from miasbench.datasets.card import CardFile
from miasbench.datasets.folder import open_folder
from miasbench.datasets.places import SplitFolders
from miasbench.datasets.proposing import TO_EDIT, Proposal, propose_card
from miasbench.harness.api import SPLITS, DataError
from miasbench.harness.data.leaks import shared_patients

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
    assert found.beliefs[-1].startswith("A guess: each image is of a patient of its own.")
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


def test_several_masks_of_an_image_are_found_beside_it(tmp_path: Path, write: Maker) -> None:
    write(tmp_path / "train/normal/n (1).png", 1)
    for kind in ("benign", "malignant"):
        write(tmp_path / f"test/{kind}/{kind} (1).png", len(kind))
        write(tmp_path / f"test/{kind}/{kind} (1)_mask.png")
    write(tmp_path / "test/benign/benign (1)_mask_1.png")
    found = proposed(tmp_path)
    assert (found.card.mask_suffix, found.problems) == ("_mask", ())
    assert found.notes[0].startswith("1 image has several masks, 2 in all")
    assert len(open_folder(tmp_path).cases("test")) == 2


@pytest.fixture
def busi(tmp_path: Path, write: Maker) -> Path:
    """BUSI's folders: a class in each, masks beside images, several of some, and empty ones of normal images."""
    folder = tmp_path / "Dataset BUSI"
    for index in range(1, 11):
        for kind in ("benign", "malignant", "normal"):
            name = folder / kind / f"{kind} ({index})"
            write(name.with_name(f"{name.name}.png"), 20 * len(kind) + index)
            mask = write(name.with_name(f"{name.name}_mask.png"))
            if kind == "normal":
                Image.new("L", (8, 6)).save(mask)
    write(folder / "benign/benign (4)_mask_1.png")
    return folder


def test_images_with_masks_beside_them_that_nothing_sorts_are_listed(busi: Path) -> None:
    found = proposed(busi)
    assert found.problems == ()
    assert found.beliefs[:4] == (
        f"{busi} has images with their masks beside them. They are listed in {busi}/images.csv, to be edited.",
        "A guess: an image is anomalous where its mask shows a lesion. 10 images are normal and 20 anomalous.",
        "A guess: splits are drawn by patient, in shares of 60, 10 and 30 %. Edit the table if they are known.",
        "images.csv lists the images.",
    )
    assert found.card.name == "Dataset_BUSI"
    dataset = open_folder(busi)
    assert [len(dataset.cases(split)) for split in SPLITS] == [6, 1 + 2, 3 + 18]
    assert sum(case.label for split in SPLITS for case in dataset.cases(split)) == 20
    assert all(dataset.load(case).mask.any() == case.label for split in SPLITS for case in dataset.cases(split))
    assert any(note.startswith("1 image has several masks") for note in dataset.notes())
    table = (busi / "images.csv").read_text()
    assert "benign/benign (4).png,benign/benign (4)_mask.png;benign/benign (4)_mask_1.png,1,benign (4),test" in table
    before = dataset.fingerprint
    (busi / "card.yaml").unlink()
    (busi / "images.csv").unlink()
    assert proposed(busi).card.name == "Dataset_BUSI"
    assert open_folder(busi).fingerprint == before


def test_a_table_that_was_written_is_not_written_again(busi: Path) -> None:
    proposed(busi)
    edited = (busi / "images.csv").read_text().replace(",valid\n", ",test\n")
    (busi / "images.csv").write_text(edited)
    assert proposed(busi).beliefs[0] == "images.csv lists the images."
    assert (busi / "images.csv").read_text() == edited


def test_folders_of_splits_in_which_masks_lie_beside_images_are_listed(tmp_path: Path, write: Maker) -> None:
    for split in ("train", "val", "test"):
        for index in range(3):
            write(tmp_path / f"{split}/{split}_{index}.png", 10 * len(split) + index)
        write(tmp_path / f"{split}/{split}_0_mask.png")
    found = proposed(tmp_path)
    assert found.beliefs[2] == (
        "1 anomalous image is of the training split, and not listed: methods learn from normal images only."
    )
    dataset = open_folder(tmp_path)
    assert [[case.label for case in dataset.cases(split)] for split in SPLITS] == [[0, 0], [0, 0, 1], [0, 0, 1]]


def test_patients_of_what_is_listed_stay_together(tmp_path: Path, write: Maker) -> None:
    for patient in range(8):
        for index in range(4):
            write(tmp_path / f"Patient{patient:02}Slice{index}.png", 10 * patient + index)
        write(tmp_path / f"Patient{patient:02}Slice0_mask.png")
    proposed(tmp_path)
    dataset = open_folder(tmp_path)
    assert shared_patients(dataset) == {}
    assert [len({case.patient for case in dataset.cases(split)}) for split in SPLITS] == [5, 1, 2]
    assert [len(dataset.cases(split)) for split in SPLITS] == [15, 4, 8]


def test_images_that_all_have_a_lesion_are_told(tmp_path: Path, write: Maker) -> None:
    for index in range(3):
        write(tmp_path / f"{index}.png", index)
        write(tmp_path / f"{index}_mask.png")
    text = refusal(tmp_path)
    assert "of which 0 images are normal and 3 anomalous, as masks tell. Methods learn from normal images" in text
    assert not (tmp_path / "images.csv").exists()


@pytest.mark.parametrize(
    ("folder", "where", "name"),
    [
        ("VisA", {"object": "candle"}, "VisA_candle"),
        ("hospital/data", None, "hospital_data"),
        ("my slices", None, "my_slices"),
    ],
)
def test_a_name_tells_what_the_dataset_is(
    tmp_path: Path, write: Maker, folder: str, where: Mapping[str, str] | None, name: str
) -> None:
    table(tmp_path / folder, write, "all.csv", "image,mask,label,split,object", ",candle")
    assert proposed(tmp_path / folder, where).card.name == name


def test_an_object_of_mvtec_gives_its_name(tmp_path: Path, write: Maker) -> None:
    names = set()
    for kind in ("bottle", "cable"):
        folder = tmp_path / kind
        for place in ("train/good/000", "test/good/000", "test/broken/000", "ground_truth/broken/000_mask"):
            write(folder / kind / f"{place}.png", len(place))
        names |= {proposed(folder).card.name, proposed(folder / kind).card.name}
    assert names == {"bottle", "cable"}


@pytest.mark.parametrize(("coloured", "channels"), [(0, None), (1, None), (4, "rgb")])
def test_colour_is_kept_where_most_images_have_it(
    tmp_path: Path, write: Maker, coloured: int, channels: str | None
) -> None:
    folder = tmp_path / "tissue"
    places = ("train/good/a_0", "train/good/a_1", "test/good/b_0", "test/broken/c_0")
    for number, place in enumerate(places):
        image = Image.open(write(folder / f"{place}.png", 10 * number)).convert("RGB")
        image.putpixel((0, 0), (200, 10, 90) if number < coloured else (9, 9, 9))
        image.save(folder / f"{place}.png")
    write(folder / "ground_truth/broken/c_0_mask.png")
    found = proposed(folder)
    assert found.card.channels == channels
    assert [belief for belief in found.beliefs if "`channels: rgb`" in belief] == [
        "A guess: `channels: rgb`, because images are in colour. Methods that take colour get it."
    ] * (channels == "rgb")
    told = [note for note in found.notes if "colour" in note]
    assert len(told) == bool(coloured)
    assert "card.yaml in" not in "".join(told), "the card is about to be written"
    assert open_folder(folder).card.channels == (channels or "grey")


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
    text = refusal(tmp_path)
    assert f"{tmp_path}/list.csv lists images in its column image, but has no column split and label." in text
    assert "called otherwise is told on a card: `table: {file: list.csv, columns: {split: NAME}}`." in text
    (tmp_path / "list.csv").write_text("image;split;label\n")
    assert "list.csv is separated by semicolons." in refusal(tmp_path)
    for name in ("list.csv", "more.csv"):
        (tmp_path / name).write_text("image,split,label\nimages/a.png,train,0\n")
    assert "has several tables that list images: list.csv, more.csv." in refusal(tmp_path)


def test_volumes_are_pointed_to_data_add(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/a.nii.gz").touch()
    assert "holds volumes and no images: bench data add NAME IMAGES --masks MASKS" in refusal(tmp_path)


def test_dicom_series_with_masks_as_nifti_are_told_as_series(tmp_path: Path) -> None:
    for name in ("patients/p1/ct/0.dcm", "labels/p1.nii.gz"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
    assert refusal(tmp_path).endswith("bench data add NAME IMAGES --masks MASKS cuts DICOM series into slices.")


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
