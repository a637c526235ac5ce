import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.harness.api import SPLITS, DataError

Maker = Callable[..., Path]
COUNTS = {"train": 3, "valid": 4, "test": 4}
UNGOOD = "test/Ungood/img/a_test_10.png"
MASK = "test/Ungood/anomaly_mask/a_test_10.png"


def counts(dataset: FolderDataset) -> dict[str, int]:
    return {split: len(dataset.cases(split)) for split in SPLITS}


def problem(path: Path) -> str:
    """What is said of a dataset when it is opened or, before a run, its fingerprint is taken."""
    with pytest.raises(DataError) as raised:
        _ = open_folder(path).fingerprint
    return str(raised.value)


# Layouts


@pytest.mark.parametrize("ungood", ["Ungood", "ungood", "UNGOOD", "abnormal"])
@pytest.mark.parametrize(
    "splits", [("train", "valid", "test"), ("Train", "Val", "Test"), ("training", "val", "testing")]
)
@pytest.mark.parametrize("layout", ["readme", "label", "doubled", "apart", "resc"])
def test_layouts_are_recognised(
    tmp_path: Path, make_bmad: Maker, layout: str, splits: tuple[str, ...], ungood: str
) -> None:
    dataset = open_folder(make_bmad(tmp_path / "Brain", layout, splits, ungood))
    assert dataset.name == dataset.card.title == "Brain"
    assert counts(dataset) == COUNTS
    for split in SPLITS:
        labels = [case.label for case in dataset.cases(split)]
        assert labels == ([0, 0, 0] if split == "train" else [0, 0, 1, 1])
        for case in dataset.cases(split):
            image, mask = dataset.load(case)
            assert image.shape == mask.shape == (6, 8)
            assert image.dtype == np.uint8
            assert mask.dtype == bool
            assert mask.sum() == case.label


def test_an_outer_folder_named_like_a_split_is_not_mistaken_for_it(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "Liver_AD/Liver/Train/hist_DIY", "apart")
    assert counts(open_folder(tmp_path / "Liver_AD")) == COUNTS


@pytest.mark.parametrize("layout", ["doubled", "apart"])
def test_masks_of_normal_images_are_ignored(tmp_path: Path, make_bmad: Maker, write: Maker, layout: str) -> None:
    make_bmad(tmp_path, layout)
    write(tmp_path / {"doubled": "test/test_labels/good", "apart": "test/label/good"}[layout] / "n_test_10.png")
    assert counts(open_folder(tmp_path)) == COUNTS


def test_a_folder_around_the_dataset_is_entered(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "download/Brain")
    (tmp_path / "download/__MACOSX").mkdir()
    (tmp_path / "download/.cache").mkdir()
    (tmp_path / "download/README.md").touch()
    dataset = open_folder(tmp_path / "download")
    assert counts(dataset) == COUNTS
    assert dataset.name == "download"


def test_a_folder_that_holds_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert "No train, valid or test folder" in problem(tmp_path)


def test_no_validation_split_is_allowed(tmp_path: Path, make_bmad: Maker) -> None:
    shutil.rmtree(make_bmad(tmp_path) / "valid")
    assert counts(open_folder(tmp_path)) == COUNTS | {"valid": 0}


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    assert "There is no dataset at" in problem(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "it holds nothing" in problem(tmp_path / "empty")
    for index in range(10):
        (tmp_path / f"other/{index}").mkdir(parents=True)
    text = problem(tmp_path / "other")
    assert "it holds 0, 1, 2, 3, 4, 5, 6, 7 and 2 more" in text
    assert "Ungood/anomaly_mask" in text
    assert "card (.yaml)" in text
    (tmp_path / "bmad.zip").touch()
    assert "bench data add registers an archive" in problem(tmp_path / "bmad.zip")


# Names and patients


def test_patients_come_from_file_names(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    make_bmad(tmp_path)
    for name in ("alone", "TCGA_02_7", "_1", "a.b.1_2.x"):
        write(tmp_path / f"train/good/img/{name}.png")
    patients = {case.id: case.patient for case in open_folder(tmp_path).cases("train")}
    assert patients == {
        "00000_0": "00000",
        "00000_1": "00000",
        "00001_2": "00001",
        "alone": "alone",
        "TCGA_02_7": "TCGA_02",
        "_1": "_1",
        "a.b.1_2.x": "a.b.1",
    }


def test_a_normal_and_an_anomalous_image_may_share_a_name(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    write(make_bmad(tmp_path) / "test/good/img/a_test_10.png")
    ids = {case.id: (case.label, case.patient) for case in open_folder(tmp_path).cases("test")}
    assert len(ids) == 5
    assert ids["good/a_test_10"] == (0, "a_test")
    assert ids["Ungood/a_test_10"] == (1, "a_test")
    assert ids["a_test_11"] == (1, "a_test")


def test_two_images_of_one_name_are_refused(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    write(make_bmad(tmp_path) / "train/good/img/00000_0.bmp")
    text = problem(tmp_path)
    assert "1 problem:" in text
    assert "00000_0.bmp and " in text
    assert "00000_0.png have the same name" in text


def test_a_mask_may_have_another_ending(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    (tmp_path / UNGOOD).rename((tmp_path / UNGOOD).with_suffix(".PNG"))
    Image.open(tmp_path / MASK).save((tmp_path / MASK).with_suffix(".tif"))
    (tmp_path / MASK).unlink()
    dataset = open_folder(tmp_path)
    assert counts(dataset) == COUNTS
    assert dataset.load(dataset.cases("test")[2]).mask.sum() == 1


def test_unicode_names_pair_whatever_their_spelling(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    composed, decomposed = (unicodedata.normalize(form, "Müller ő_1") for form in ("NFC", "NFD"))
    (tmp_path / UNGOOD).rename((tmp_path / UNGOOD).with_stem(decomposed))
    (tmp_path / MASK).rename((tmp_path / MASK).with_stem(composed))
    case = next(case for case in open_folder(tmp_path).cases("test") if case.id == composed)
    assert case.patient == composed.removesuffix("_1")
    assert open_folder(tmp_path).load(case).mask.any()


def test_hidden_and_other_files_are_ignored(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    for name in ("._00000_0.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / "train/good/img" / name).write_bytes(b"not an image")
    dataset = open_folder(tmp_path)
    assert counts(dataset) == COUNTS
    assert dataset.fingerprint


def test_bids_names_tell_patients(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    make_bmad(tmp_path)
    for name in ("sub-01_ses-1_FLAIR_007", "sub-01_ses-2_FLAIR_008", "x_sub-2b_3", "mysub-3_4"):
        write(tmp_path / f"test/good/img/{name}.png")
    patients = {case.id: case.patient for case in open_folder(tmp_path).cases("test")}
    assert patients["sub-01_ses-1_FLAIR_007"] == patients["sub-01_ses-2_FLAIR_008"] == "sub-01"
    assert patients["x_sub-2b_3"] == "sub-2b"
    assert patients["mysub-3_4"] == "mysub-3"


def named(root: Path, names: str) -> Path:
    """Renames the images of a dataset, three to a patient, and their masks."""
    for number, path in enumerate(sorted(root.rglob("img/*.png"))):
        name = names.format(patient=number // 3, image=number % 3)
        mask = path.parents[1] / "anomaly_mask" / path.name
        if mask.exists():
            mask.rename(mask.with_name(name))
        path.rename(path.with_name(name))
    return root


def test_names_that_look_like_patients_of_several_images_are_told(tmp_path: Path, make_bmad: Maker) -> None:
    named(make_bmad(tmp_path), "scan{patient}-slice{image:02}.png")
    (note,) = open_folder(tmp_path).notes()
    assert note.startswith("Each of the 11 images counts as a patient of its own, but names such as scan")
    (tmp_path / "card.yaml").write_text("{name: x, patient: '^(.+)-'}")
    dataset = open_folder(tmp_path / "card.yaml")
    assert len({case.patient for split in SPLITS for case in dataset.cases(split)}) == 4
    assert dataset.notes() == ()


@pytest.mark.parametrize(
    ("names", "pattern", "taken"),
    [
        ("Patient{patient:02}Slice{image}.png", r"(?i)(patient[-_. ]?\d+)", 11),
        ("{image}_pat{patient}.png", r"(?i)(pat[-_. ]?\d+)", 3),
        ("P{patient:03}-slice-{image}.png", r"(?i)(^p[-_. ]?\d+)", 11),
        ("z{image}_subject_{patient}.png", r"(?i)(subject[-_. ]?\d+)", 3),
        ("Case {patient} ({image}).png", r"(?i)(case[-_. ]?\d+)", 11),
    ],
)
def test_a_patient_in_the_names_that_is_not_taken_for_one_is_told(
    tmp_path: Path, make_bmad: Maker, names: str, pattern: str, taken: int
) -> None:
    root = named(make_bmad(tmp_path / "d"), names)
    (note,) = open_folder(root).notes()
    assert f"{taken} patients instead of 4." in note
    assert note.endswith(f"say on a card: `patient: '{pattern}'`.")
    dataset = open_folder(card(tmp_path, f"name: mine\nroot: d\npatient: '{pattern}'"))
    assert dataset.notes() == ()
    assert len({case.patient for split in SPLITS for case in dataset.cases(split)}) == 4


@pytest.mark.parametrize("names", ["case{patient}_s{image}.png", "00{patient}_p{image}.png", "p{patient}_{image}.png"])
def test_a_patient_in_the_names_that_is_taken_for_one_needs_no_word(
    tmp_path: Path, make_bmad: Maker, names: str
) -> None:
    assert open_folder(named(make_bmad(tmp_path), names)).notes() == ()


def test_the_pattern_for_a_patient_fits_all_names(tmp_path: Path, make_bmad: Maker) -> None:
    root = named(make_bmad(tmp_path / "d"), "{image}_pat{patient}.png")
    for number, path in enumerate((root / "train/good/img").iterdir()):
        path.rename(path.with_name(f"healthy_{number // 2}_{number % 2}.png"))
    before = [case.patient for case in open_folder(root).cases("train")]
    (note,) = open_folder(root).notes()
    pattern = note.partition("`patient: '")[2].removesuffix("'`.")
    dataset = open_folder(card(tmp_path, f"name: mine\nroot: d\npatient: '{pattern}'"))
    assert [case.patient for case in dataset.cases("train")] == before
    assert {case.patient for case in dataset.cases("test")} <= {"pat0", "pat1", "pat2", "pat3"}


# Files that are passed over


def test_nothing_is_passed_over_in_a_usual_dataset(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    make_bmad(tmp_path, "doubled")
    write(tmp_path / "test/test_labels/good/n_test_10.png")
    Image.new("L", (8, 6)).save(tmp_path / "test/test_labels/good/n_test_10.png")
    for name in ("README", "README.md", "manifest.csv", "Thumbs.db", ".DS_Store", "._00000_0.png", "desktop.ini"):
        (tmp_path / "train/good" / name).write_bytes(b"no image")
    assert open_folder(tmp_path).notes() == ()


def test_endings_that_are_not_read_are_counted(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    for name in ("b.npy", "c.NPY", "a.dcm", "d", "e.nii.gz", "f.mha"):
        (tmp_path / "train/good/img" / name).write_bytes(b"pixels")
    (note,) = open_folder(tmp_path).notes()
    assert note.startswith("6 files are passed over, because only .png, .jpg, ")
    assert all(told in note for told in ("2 .npy", "1 .dcm", "1 without an ending", "1 .nii.gz", "1 .mha"))
    assert str(tmp_path / "train/good/img/a.dcm") in note


@pytest.mark.parametrize(
    "place", ["train/good/img/pat7", "train/good", "test/ungood2", "test/normal", "train/Ungood/img", "extra"]
)
def test_images_where_nothing_looks_are_counted(tmp_path: Path, make_bmad: Maker, write: Maker, place: str) -> None:
    make_bmad(tmp_path)
    for number in range(3):
        write(tmp_path / place / f"more_{number}.png", 90 + number)
    (note,) = open_folder(tmp_path).notes()
    assert note.startswith(f"3 images are passed over, because the layout does not look there: 3 in {place}.")


def test_links_are_followed_once(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    make_bmad(tmp_path / "d")
    write(tmp_path / "elsewhere/more_1.png")
    (tmp_path / "d/train/good/img/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "d/train/good/img/again").symlink_to(tmp_path / "d/train", target_is_directory=True)
    (note,) = open_folder(tmp_path / "d").notes()
    assert note.startswith(
        "1 image is passed over, because the layout does not look there: 1 in train/good/img/linked."
    )


def test_links_that_lead_out_of_the_dataset_are_told(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "d")
    inside = next((tmp_path / "d/train/good/img").iterdir())
    inside.rename(tmp_path / "d" / "kept.png")
    inside.symlink_to(tmp_path / "d" / "kept.png")
    assert not [note for note in open_folder(tmp_path / "d").notes() if "outside" in note]
    inside.unlink()
    (tmp_path / "d" / "kept.png").rename(tmp_path / "secret.png")
    inside.symlink_to(tmp_path / "secret.png")
    (note,) = [note for note in open_folder(tmp_path / "d").notes() if "outside" in note]
    assert note.startswith(f"1 files are read outside of the folder {tmp_path / 'd'}, because links lead there")
    assert note.endswith(f"{inside} to {tmp_path / 'secret.png'}.")


def test_a_link_to_nowhere_is_named(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    (tmp_path / "train/good/img/gone_1.png").symlink_to(tmp_path / "nowhere.png")
    assert "train/good/img/gone_1.png cannot be read: No such file" in problem(tmp_path)


def test_a_card_passes_over_what_its_folders_hold_but_not_what_its_patterns_leave(tmp_path: Path, write: Maker) -> None:
    for name in ("healthy/p1/flair-1.png", "healthy/p1/t1-1.png", "sick/a_1.png", "truth/a_1.png", "sick/sub/b_1.png"):
        write(tmp_path / name)
    (tmp_path / "sick/c_1.npy").touch()
    write(tmp_path / "elsewhere/d_1.png")
    notes = open_folder(card(tmp_path, SPLITS_TEXT)).notes()
    assert [note.partition(",")[0] for note in notes] == ["1 file is passed over", "1 image is passed over"]
    assert "1 in sick/sub" in notes[1]


@pytest.mark.parametrize("ending", ["webp", "gif", "WEBP"])
def test_more_endings_are_read(tmp_path: Path, make_bmad: Maker, ending: str) -> None:
    make_bmad(tmp_path)
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    options: dict[str, Any] = {} if ending == "gif" else {"lossless": True}
    image.save(tmp_path / f"train/good/img/more_1.{ending}", **options)
    dataset = open_folder(tmp_path)
    assert counts(dataset) == COUNTS | {"train": 4}
    assert dataset.notes() == ()


# What is wrong with files


def test_a_mask_without_its_image(tmp_path: Path, make_bmad: Maker) -> None:
    (make_bmad(tmp_path) / UNGOOD).unlink()
    folder = tmp_path / "test/Ungood/img"
    assert f"The mask {tmp_path / MASK} has no image of its name at {folder}." in problem(tmp_path)


def test_an_image_without_its_mask(tmp_path: Path, make_bmad: Maker) -> None:
    (make_bmad(tmp_path) / MASK).unlink()
    folder = tmp_path / "test/Ungood/anomaly_mask"
    assert f"The image {tmp_path / UNGOOD} has no mask of its name at {folder}." in problem(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        ("_mask", 'for f in *_mask.png; do mv "$f" "${f%_mask.png}.png"; done'),
        ("_segmentation", 'for f in *_segmentation.png; do mv "$f" "${f%_segmentation.png}.png"; done'),
        ("-label", 'for f in *-label.png; do mv "$f" "${f%-label.png}.png"; done'),
    ],
)
def test_masks_with_a_suffix_are_one_problem_that_names_it(
    tmp_path: Path, make_bmad: Maker, suffix: str, said: str
) -> None:
    make_bmad(tmp_path)
    for path in (tmp_path / "test/Ungood/anomaly_mask").iterdir():
        path.rename(path.with_stem(path.stem + suffix))
    text = problem(tmp_path)
    assert "1 problem:" in text
    assert f"such as a_test_10{suffix}.png for a_test_10.png" in text
    assert f"mask_suffix: '{suffix}'" in text
    assert said in text


def test_masks_with_a_prefix_and_swapped_words_are_named(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    for path in (tmp_path / "test/Ungood/anomaly_mask").iterdir():
        path.rename(path.with_stem(f"mask_{path.stem}"))
    assert 'for f in mask_*; do mv "$f" "${f#mask_}"; done' in problem(tmp_path)
    for number, (image, mask) in enumerate(
        zip(*(sorted((tmp_path / "test/Ungood" / name).iterdir()) for name in ("img", "anomaly_mask")), strict=True)
    ):
        image.rename(image.with_stem(f"image_{number}"))
        mask.rename(mask.with_stem(f"label_{number}"))
    assert "rename them, such as label_0.png to image_0.png." in problem(tmp_path)


def test_images_with_a_suffix_of_channels_are_named(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    for path in (tmp_path / "test/Ungood/img").iterdir():
        path.rename(path.with_stem(f"{path.stem}_0000"))
    text = problem(tmp_path)
    assert "1 problem:" in text
    assert "such as a_test_10.png for a_test_10_0000.png" in text


def test_several_masks_of_an_image_are_named(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    for path in list((tmp_path / "test/Ungood/anomaly_mask").iterdir()):
        shutil.copy(path, path.with_stem(f"{path.stem}_mask_1"))
        path.rename(path.with_stem(f"{path.stem}_mask"))
    assert (
        "say on a card (.yaml) how masks end, `mask_suffix: '_mask'`, and those of one image, such as "
        "a_test_10_mask.png and a_test_10_mask_1.png, are united."
    ) in problem(tmp_path)
    (tmp_path / "card.yaml").write_text("{name: x, mask_suffix: _mask}")
    for mask in (tmp_path / "valid/Ungood/anomaly_mask").iterdir():
        mask.rename(mask.with_stem(f"{mask.stem}_mask"))
    assert len(open_folder(tmp_path).fingerprint) == 64


def test_masks_among_images_are_named(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    write(make_bmad(tmp_path) / "train/good/img/00000_0_mask.png")
    assert (
        f"1 of the images at {tmp_path}/train/good/img are masks by their names, such as 00000_0_mask.png"
        in problem(tmp_path)
    )


@pytest.mark.parametrize("place", ["test/ungood2", "test/Ungood/pictures"])
def test_a_misspelt_folder_is_shown(tmp_path: Path, make_bmad: Maker, place: str) -> None:
    make_bmad(tmp_path)
    images = tmp_path / "test/Ungood/img"
    if place == "test/ungood2":
        (tmp_path / "test/Ungood").rename(tmp_path / place)
    else:
        images.rename(tmp_path / place)
    text = problem(tmp_path)
    assert f"The test split has no anomalous images at {tmp_path}/test/Ungood" in text
    assert f"It holds {'good, ungood2' if place == 'test/ungood2' else 'anomaly_mask, pictures'}." in text


def test_volumes_are_pointed_to_data_add(tmp_path: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nii.gz").touch()
    assert "bench data add NAME IMAGES --masks MASKS cuts NIfTI volumes into slices" in problem(tmp_path)


@pytest.mark.parametrize("place", ["{}", "archives/{}", "{}/wrapped"])
@pytest.mark.parametrize("beside", [[], ["docs", "train"]])
def test_a_folder_of_several_datasets_is_told_in_one_sentence(
    tmp_path: Path, make_bmad: Maker, place: str, beside: list[str]
) -> None:
    for name in ("brain", "liver"):
        make_bmad(tmp_path / place.format(name))
    for name in beside:
        (tmp_path / name).mkdir()
    expected = f"{tmp_path} holds datasets, such as {tmp_path / place.format('brain')}: give that folder."
    assert problem(tmp_path) == expected


def test_a_folder_that_holds_a_dataset_among_others_is_told(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "brain")
    (tmp_path / "docs").mkdir()
    assert problem(tmp_path) == f"{tmp_path} holds a dataset, {tmp_path}/brain: give that folder."


@pytest.mark.parametrize("part", ["test", "train", "test/Ungood", "test/Ungood/img"])
def test_a_part_of_a_dataset_is_told(tmp_path: Path, make_bmad: Maker, part: str) -> None:
    make_bmad(tmp_path)
    assert problem(tmp_path / part) == f"{tmp_path / part} is a part of the dataset {tmp_path}: give that folder."


def test_a_dataset_without_validation_that_holds_another_is_read(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    shutil.rmtree(tmp_path / "valid")
    make_bmad(tmp_path / "old")
    assert open_folder(tmp_path).cases("train")


def test_names_that_are_no_text_are_read(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    path = tmp_path / "train/good/img" / os.fsdecode(b"\xff\xfe_1.png")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8).repeat(2, 0).astype(np.uint16)[:6] * 16).save(path)
    dataset = open_folder(tmp_path)
    assert len(dataset.fingerprint) == 64
    (note,) = dataset.notes()
    assert "\\udcff\\udcfe_1.png) has more than 8 bits" in note


def test_a_mask_turned_by_90_degrees_is_told(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    write(make_bmad(tmp_path) / MASK, shape=(8, 6))
    assert "One is the other turned, perhaps by its EXIF." in problem(tmp_path)


def test_masks_of_an_ending_that_is_not_read_are_one_problem(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    for path in (tmp_path / "test/Ungood/anomaly_mask").iterdir():
        path.rename(path.with_suffix(".npy"))
    text = problem(tmp_path)
    assert "1 problem:" in text
    assert "None of the 2 images at " in text
    assert "It holds a_test_10.npy, a_test_11.npy. Only .png, .jpg, " in text


def test_images_in_folders_of_patients_are_pointed_to_a_card(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    make_bmad(tmp_path)
    shutil.rmtree(tmp_path / "train/good/img")
    for patient in ("p1", "p2"):
        write(tmp_path / "train/good" / patient / f"{patient}_0.png")
    text = problem(tmp_path)
    assert "It holds p1, p2. Images in its subfolders can be named on a card (.yaml) by a pattern" in text
    splits = "train: {normal: train/good/*/*.png}, test: {anomalous: test/Ungood/img, masks: test/Ungood/anomaly_mask}"
    dataset = open_folder(card(tmp_path, f"name: mine\nsplits: {{{splits}}}"))
    assert counts(dataset) == {"train": 2, "valid": 0, "test": 2}


def test_no_folder_of_masks(tmp_path: Path, make_bmad: Maker) -> None:
    shutil.rmtree(make_bmad(tmp_path) / "test/Ungood/anomaly_mask")
    text = problem(tmp_path)
    assert "1 problem:" in text
    assert f"None of the 2 images at {tmp_path}/test/Ungood/img has a mask: there is no {tmp_path}/test/Ungood/" in text


def test_a_mask_of_another_size(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    write(make_bmad(tmp_path) / MASK, shape=(8, 6))
    text = problem(tmp_path)
    assert f"{UNGOOD} has 8 x 6 pixels, but its mask {tmp_path / MASK} has 6 x 8." in text
    dataset = open_folder(tmp_path)
    with pytest.raises(DataError, match="8 x 6"):
        dataset.load(dataset.cases("test")[2])


@pytest.mark.parametrize("place", [UNGOOD, MASK, "train/good/img/00000_0.png", "valid/good/img/n_valid_10.png"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "folder", "broken link"])
def test_damaged_files_are_found_before_a_run(tmp_path: Path, make_bmad: Maker, place: str, damage: str) -> None:
    path = make_bmad(tmp_path) / place
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "broken link":
        path.symlink_to(tmp_path / "absent")
    else:
        path.write_bytes({"truncated": data[:-20], "empty": b"", "text": b"hello"}[damage])
    text = problem(tmp_path)
    assert "1 problem:" in text
    assert f"\n- {path} " in text


def test_the_first_problems_are_told_and_all_are_counted(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    make_bmad(tmp_path)
    for index in range(7):
        write(tmp_path / f"valid/Ungood/img/b_{index}.png")
    text = problem(tmp_path)
    assert "cannot be used; it has 7 problems:" in text
    assert text.count("\n- The image") == 5
    assert text.endswith("and 2 more.\nbench data verify lists all of a dataset's problems.")

    for path in (tmp_path / "valid/Ungood/img").glob("b_*.png"):
        shutil.copy(path, tmp_path / "valid/Ungood/anomaly_mask")
        path.write_bytes(b"")
    text = problem(tmp_path)
    assert "cannot be used; it has 7 problems:" in text
    assert text.endswith("and 2 more.\nbench data verify lists all of a dataset's problems.")


@pytest.mark.parametrize("missing", ["the split's folder", "the images' folder", "the images"])
@pytest.mark.parametrize(
    ("split", "place", "kind"), [("train", "good", "normal"), ("test", "Ungood", "anomalous")], ids=["train", "test"]
)
def test_an_empty_split(tmp_path: Path, make_bmad: Maker, split: str, place: str, kind: str, missing: str) -> None:
    make_bmad(tmp_path)
    shutil.rmtree(tmp_path / split if missing == "the split's folder" else tmp_path / split / place)
    if missing == "the images":
        (tmp_path / split / place / "img").mkdir(parents=True)
    text = problem(tmp_path)
    assert "1 problem:" in text
    assert f"The {split} split has no {kind} images at {tmp_path / split / place}" in text


def test_every_empty_split_is_told(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    assert "2 problems:" in problem(tmp_path)


def test_constant_images_and_black_masks_are_no_error(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    black = Image.new("L", (8, 6))
    for place in (UNGOOD, MASK, "train/good/img/00000_0.png"):
        black.save(tmp_path / place)
    dataset = open_folder(tmp_path)
    assert dataset.fingerprint
    case = dataset.cases("test")[2]
    assert case.label == 1
    assert not dataset.load(case).mask.any()
    assert not dataset.load(case).image.any()


# Fingerprints


def test_a_fingerprint_stays_where_data_stay_the_same(tmp_path: Path, make_bmad: Maker) -> None:
    before = open_folder(make_bmad(tmp_path / "here")).fingerprint
    assert len(before) == 64
    (tmp_path / "here").rename(tmp_path / "there")
    os.utime(tmp_path / "there" / UNGOOD, (0, 0))
    assert open_folder(tmp_path / "there").fingerprint == before
    assert open_folder(make_bmad(tmp_path / "wrapped/inside").parent).fingerprint == before
    assert open_folder(make_bmad(tmp_path / "label", "label")).fingerprint == before
    assert open_folder(make_bmad(tmp_path / "doubled", "doubled")).fingerprint == before


@pytest.mark.parametrize(
    "change",
    ["train image", "valid image", "test image", "mask", "label", "split", "patient", "one less", "swapped masks"],
)
def test_a_fingerprint_changes_with_the_data(tmp_path: Path, make_bmad: Maker, write: Maker, change: str) -> None:
    make_bmad(tmp_path)
    before = open_folder(tmp_path).fingerprint
    good, valid = tmp_path / "test/good/img/n_test_10.png", tmp_path / "valid/good/img/n_valid_10.png"
    if change.endswith("image"):
        place = {"train": tmp_path / "train/good/img/00000_0.png", "valid": valid, "test": good}[change.split()[0]]
        write(place, 99)
    elif change == "mask":
        write(tmp_path / MASK, 99)
    elif change == "label":
        good.rename(tmp_path / "test/Ungood/img/n_test_10.png")
        write(tmp_path / "test/Ungood/anomaly_mask/n_test_10.png")
    elif change == "split":
        valid.rename(tmp_path / "test/good/img/n_valid_10.png")
    elif change == "patient":
        good.rename(good.with_stem("other_10"))
    elif change == "one less":
        good.unlink()
    else:
        write(tmp_path / MASK, 1)
        before = open_folder(tmp_path).fingerprint
        other = (tmp_path / MASK).with_stem("a_test_11")
        (tmp_path / MASK).rename(tmp_path / "kept")
        other.rename(tmp_path / MASK)
        (tmp_path / "kept").rename(other)
    assert open_folder(tmp_path).fingerprint != before


def test_a_fingerprint_changes_with_the_cards_patients(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    cards = []
    for pattern in ("^(.+)_", "(.+)"):
        cards.append(tmp_path / f"{len(cards)}.yaml")
        cards[-1].write_text(f"name: x\npatient: {pattern}")
    assert open_folder(cards[0]).fingerprint == open_folder(tmp_path).fingerprint
    assert open_folder(cards[1]).fingerprint != open_folder(tmp_path).fingerprint


# Cards


def card(folder: Path, text: str) -> Path:
    path = folder / "card.yaml"
    path.write_text(text, encoding="utf-8")
    return path


SPLITS_TEXT = """\
name: mine
splits:
  train: {normal: "healthy/*/flair*.png"}
  test: {anomalous: sick, masks: truth}
"""


def test_a_card_says_where_things_are(tmp_path: Path, write: Maker) -> None:
    for patient in ("p1", "p2"):
        write(tmp_path / f"data/healthy/{patient}/flair-{patient}.png")
        write(tmp_path / f"data/healthy/{patient}/t1-{patient}.png")
    write(tmp_path / "data/sick/case-7-01.png", 9)
    write(tmp_path / "data/truth/case-7-01.bmp")
    text = "root: data\ntitle: Mine\nlicence: CC0\ncounts: {train: 2, test: 1}\n" + r"patient: '-([^-]+)'" + "\n"
    dataset = open_folder(card(tmp_path, text + SPLITS_TEXT))
    assert (dataset.name, dataset.card.title, dataset.card.licence) == ("mine", "Mine", "CC0")
    assert dataset.card.counts == counts(dataset) == {"train": 2, "valid": 0, "test": 1}
    assert [case.patient for case in dataset.cases("train")] == ["p1", "p2"]
    assert [case.patient for case in dataset.cases("test")] == ["7"]
    assert dataset.load(dataset.cases("test")[0]).mask.any()


def test_a_card_may_leave_the_layout_to_be_recognised(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "data")
    dataset = open_folder(card(tmp_path, "name: mine\nroot: data"))
    assert counts(dataset) == COUNTS
    assert (dataset.card.title, dataset.card.origin) == ("mine", "unknown")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name is missing"),
        ("- a list", "it is not a list of keys with values"),
        ("name: [", "is not YAML: line 1, column 8, key name: the file ends where a text is expected"),
        ("name: x\nbits: 12\nroot: .\nbits: 16", "is not YAML: line 4, column 1, key bits: bits is given twice."),
        (
            "name: x\ncounts:\n  train: 1\n  train: 2\n  test: 3",
            "is not YAML: line 4, column 3, key counts: train is given twice.",
        ),
        ("name: x\nlicense: y", "license is not a key of a card; did you mean 'licence'? known are name, title"),
        ("name: x\nzzzzzz: y", "zzzzzz is not a key of a card; known are"),
        ("name: x\nsplits: {train: {nromal: a}, test: {anomalous: a, masks: b}}", "did you mean 'normal'?"),
        ("name: x\nsplits: {tran: {normal: a}, test: {anomalous: a, masks: b}}", "splits.tran is not a key"),
        (
            "name: x\ncounts: {train: 1, vlaid: 2, test: 3}",
            "counts.vlaid is not a key of a card; did you mean 'valid'?",
        ),
        ("name: x\ncounts: {train: many, test: 3}", "counts.train should be a whole number"),
        ("name: [x]", "name should be text"),
        ("name: x\nroot: 5", "root should be text"),
        ("name: x\npatient: '('", "patient should be a regular expression with one group"),
        ("name: x\nintensity: 4095", "intensity should be two numbers, black and white, such as [0, 4095]."),
        ("name: x\npercentiles: [0, 400]", "percentiles should be two numbers from 0 to 100"),
        ("name: x\nspacing: [1, 1]", "spacing should be three numbers above 0, the mm between rows"),
        ("name: x\npatient: 'a.*'", "patient: 'a.*' must have one group"),
        ("name: x\nsplits: {train: {normal: a}, test: {anomalous: a}}", "anomalous and masks must be given together"),
        (
            "name: x\nannotation: image\nsplits: {train: {normal: a}, test: {anomalous: a, masks: b}}",
            "splits.test: there are no masks where the annotation is image",
        ),
        ("name: x\nsplits: {train: {normal: a}, test: {normal: a}}", "splits: test must have anomalous"),
        (
            "name: x\nsplits: {train: {anomalous: a, masks: a}, test: {anomalous: a, masks: b}}",
            "methods learn from normal images only",
        ),
    ],
)
def test_a_card_that_is_not_right(tmp_path: Path, text: str, said: str) -> None:
    path = card(tmp_path, text)
    told = problem(path)
    assert str(path) in told
    assert said.replace("{path}", str(path)) in told


def test_all_that_is_wrong_with_a_card_is_told(tmp_path: Path) -> None:
    text = problem(card(tmp_path, "titel: x\norigin: 5"))
    assert "name is missing" in text
    assert "origin should be text" in text
    assert "did you mean 'title'?" in text


def test_a_card_without_its_root(tmp_path: Path) -> None:
    text = problem(card(tmp_path, "name: mine\nroot: absent"))
    assert f"The dataset mine should be in {tmp_path / 'absent'}" in text


def test_a_place_on_a_card_without_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    text = problem(card(tmp_path, SPLITS_TEXT + "  valid: {normal: empty}"))
    assert "3 problems" in text
    assert f"The train split has no normal images at {tmp_path}/healthy/*/flair*.png." in text
    assert f"The valid split has no normal images at {tmp_path}/empty." in text
    assert f"The test split has no anomalous images at {tmp_path}/sick." in text


@pytest.mark.parametrize("place", ["a**b", "/absent/*.png"])
def test_a_place_that_is_no_pattern(tmp_path: Path, place: str) -> None:
    text = problem(card(tmp_path, SPLITS_TEXT.replace("healthy/*/flair*.png", place)))
    assert f"'{place}' is neither a folder nor a pattern of files" in text


def test_a_patient_pattern_that_does_not_fit(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    text = problem(card(tmp_path, r"{name: mine, patient: '^(\d+)_'}"))
    assert "8 problems" in text
    assert "patient pattern '^(\\\\d+)_' does not fit" in text
