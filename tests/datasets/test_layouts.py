"""MVTec's layout, and masks that have a suffix."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.harness.api import SPLITS, DataError
from miasbench.harness.data.leaks import shared_patients

Maker = Callable[..., Path]


def counts(dataset: FolderDataset) -> list[int]:
    return [len(dataset.cases(split)) for split in SPLITS]


def problem(path: Path) -> str:
    with pytest.raises(DataError) as raised:
        _ = open_folder(path).fingerprint
    return str(raised.value)


def card(folder: Path, text: str) -> Path:
    path = folder / "card.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def mvtec(tmp_path: Path, write: Maker) -> Path:
    """Two normal images to train and one to test, and two of each of two kinds, all of them with numbers for names."""
    root = tmp_path / "brains"
    for place in ("train/good/000", "train/good/001", "test/good/000"):
        write(root / f"{place}.png", len(place))
    for number, kind in enumerate(("oedema", "tumour")):
        for index in range(2):
            write(root / f"test/{kind}/00{index}.png", 20 + 2 * number + index)
            write(root / f"ground_truth/{kind}/00{index}_mask.png")
    return root


# MVTec's layout


@pytest.mark.parametrize("suffix", ["_mask", ""])
@pytest.mark.parametrize("around", ["", "bottle/", "wrapped/bottle/"])
def test_the_layout_of_mvtec_is_read(mvtec: Path, tmp_path: Path, suffix: str, around: str) -> None:
    for mask in list(mvtec.glob("ground_truth/*/*")):
        mask.rename(mask.with_stem(mask.stem.removesuffix("_mask") + suffix))
    (tmp_path / "given" / around).mkdir(parents=True)
    mvtec.rename(tmp_path / "given" / around / "x")
    dataset = open_folder(tmp_path / "given")
    assert counts(dataset) == [2, 0, 5]
    assert [case.id for case in dataset.cases("test")] == [
        "000",
        "oedema/000",
        "oedema/001",
        "tumour/000",
        "tumour/001",
    ]
    for case in dataset.cases("test"):
        assert dataset.load(case).mask.sum() == case.label
        if case.mask:
            assert Path(case.mask).parent.name == Path(case.image).parent.name
    assert len(dataset.fingerprint) == 64


def test_numbers_that_begin_again_in_each_folder_are_no_patients(mvtec: Path) -> None:
    dataset = open_folder(mvtec)
    assert len({case.patient for case in dataset.cases("test")}) == 5
    assert shared_patients(dataset) == {}
    (note,) = dataset.notes()
    assert note.startswith("The names of 4 images are numbers within their folders, such as ")
    patient = card(mvtec, "{name: brains, patient: '(.+)'}")
    assert len({case.patient for case in open_folder(patient).cases("test")}) == 2


def test_names_with_patients_keep_them_in_all_kinds(mvtec: Path) -> None:
    for path in [*mvtec.glob("test/*/*"), *mvtec.glob("ground_truth/*/*")]:
        path.rename(path.with_name(f"p7_{path.name}"))
    dataset = open_folder(mvtec)
    assert {case.patient for case in dataset.cases("test")} == {"p7"}
    assert dataset.notes() == ()


def test_a_validation_split_of_normal_images_is_read(mvtec: Path, write: Maker) -> None:
    write(mvtec / "validation/good/000.png")
    assert counts(open_folder(mvtec)) == [2, 1, 5]


def test_a_kind_without_a_folder_of_masks_is_one_problem(mvtec: Path, write: Maker) -> None:
    for index in range(3):
        write(mvtec / f"test/cyst/00{index}.png")
    text = problem(mvtec)
    assert "1 problem:" in text
    assert f"None of the 3 images at {mvtec}/test/cyst has a mask: there is no {mvtec}/ground_truth/cyst." in text


def test_a_mask_that_is_missing_is_named_with_its_suffix(mvtec: Path) -> None:
    (mvtec / "ground_truth/tumour/001_mask.png").unlink()
    text = problem(mvtec)
    assert "1 problem:" in text
    assert "test/tumour/001.png has no mask of its name with _mask behind it at " in text


def test_a_mask_without_an_image_is_named(mvtec: Path) -> None:
    (mvtec / "test/tumour/001.png").unlink()
    assert "ground_truth/tumour/001_mask.png has no image of its name before _mask at " in problem(mvtec)


def test_masks_of_a_kind_without_images_are_counted(mvtec: Path, write: Maker) -> None:
    write(mvtec / "ground_truth/cyst/000_mask.png")
    notes = open_folder(mvtec).notes()
    assert notes[0].startswith("1 image is passed over, because the layout does not look there")
    assert "1 in ground_truth/cyst" in notes[0]


def test_some_masks_with_the_suffix_and_some_without_are_told(mvtec: Path) -> None:
    (mvtec / "ground_truth/tumour/001_mask.png").rename(mvtec / "ground_truth/tumour/001.png")
    text = problem(mvtec)
    assert "000_mask.png for 000.png" in text
    assert "mask_suffix: '_mask'" in text


# Suffixes of masks


@pytest.mark.parametrize("suffix", ["_mask", "_segmentation", "-gt", ".label"])
def test_a_card_says_how_masks_end(tmp_path: Path, make_bmad: Maker, suffix: str) -> None:
    make_bmad(tmp_path)
    for path in list(tmp_path.glob("*/Ungood/anomaly_mask/*.png")):
        path.rename(path.with_stem(path.stem + suffix))
    assert f"mask_suffix: '{suffix}'" in problem(tmp_path)
    dataset = open_folder(card(tmp_path, f"{{name: x, mask_suffix: '{suffix}'}}"))
    assert counts(dataset) == [3, 4, 4]
    assert all(dataset.load(case).mask.sum() == case.label for case in dataset.cases("test"))
    assert dataset.notes() == ()


IN_ONE_FOLDER = """
name: x
splits:
  train: {normal: normal/train}
  test: {normal: normal/test, anomalous: [benign, malignant], masks: [benign, malignant]}
"""


@pytest.fixture
def together(tmp_path: Path, write: Maker) -> Path:
    """Images and masks in one folder, as in BUSI, where normal images have masks too."""
    for index in range(2):
        write(tmp_path / f"normal/train/normal ({index}).png", index)
        for place in ("normal/test/normal", "benign/benign", "malignant/malignant"):
            write(tmp_path / f"{place} (1{index}).png", 20 + index + 2 * len(place))
            write(tmp_path / f"{place} (1{index})_mask.png")
    return tmp_path


def test_images_and_masks_may_be_in_one_folder(together: Path) -> None:
    text = problem(card(together, IN_ONE_FOLDER))
    assert "are masks by their names, such as " in text
    assert "mask_suffix: '_mask'" in text
    dataset = open_folder(card(together, IN_ONE_FOLDER + "mask_suffix: _mask"))
    assert counts(dataset) == [2, 0, 6]
    assert [case.id for case in dataset.cases("test")][2:4] == ["benign/benign (10)", "benign/benign (11)"]
    assert all(dataset.load(case).mask.sum() == case.label for case in dataset.cases("test"))
    assert "2 normal images (such as " in dataset.notes()[0]  # their masks hold a lesion here
    assert "have a mask with a lesion" in dataset.notes()[0]


def test_images_that_are_their_own_masks_are_told(together: Path) -> None:
    for path in together.rglob("*_mask.png"):
        path.unlink()
    text = problem(card(together, IN_ONE_FOLDER))
    assert "1 problem:" in text
    assert f"The masks of the test split are its images, such as {together}/benign/benign (10).png." in text


def painted(path: Path, *rows: int, shape: tuple[int, int] = (6, 8)) -> Path:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[list(rows)] = 255
    Image.fromarray(mask).save(path)
    return path


def test_several_masks_of_one_image_are_united(together: Path) -> None:
    place = card(together, IN_ONE_FOLDER + "mask_suffix: _mask")
    before = open_folder(place).fingerprint
    painted(together / "benign/benign (10)_mask_1.png", 4)
    painted(together / "benign/benign (10)_mask_2.png", 4, 5)
    dataset = open_folder(place)
    assert counts(dataset) == [2, 0, 6]
    case = dataset.cases("test")[2]
    assert (case.id, case.mask) == ("benign/benign (10)", f"{together}/benign/benign (10)_mask.png")
    expected = np.zeros((6, 8), dtype=bool)
    expected[2, 3] = True
    expected[4:] = True
    np.testing.assert_array_equal(dataset.load(case).mask, expected)
    assert dataset.notes()[1] == (
        f"1 image has several masks, 3 in all, such as {case.mask} and benign (10)_mask_1.png. Lesion is what any of "
        "them marks."
    )
    assert len({before, dataset.fingerprint}) == 2
    painted(together / "benign/benign (10)_mask_2.png", 0)
    assert open_folder(place).fingerprint != dataset.fingerprint


def test_each_of_several_masks_must_be_whole_and_of_its_images_size(together: Path) -> None:
    place = card(together, IN_ONE_FOLDER + "mask_suffix: _mask")
    odd = painted(together / "benign/benign (10)_mask_1.png", 1, shape=(5, 8))
    assert f"has 8 x 6 pixels, but its mask {odd} has 8 x 5." in problem(place)
    with pytest.raises(DataError, match="Replace the one that is wrong"):
        dataset = open_folder(place)
        dataset.load(dataset.cases("test")[2])
    odd.write_bytes(b"no image")
    assert f"{odd} is not a PNG" in problem(place)


def test_masks_of_mvtec_may_be_several(mvtec: Path) -> None:
    painted(mvtec / "ground_truth/tumour/000_mask_1.png", 4)
    dataset = open_folder(mvtec)
    assert counts(dataset) == [2, 0, 5]
    (several,) = [case for case in dataset.cases("test") if case.id == "tumour/000"]
    assert dataset.load(several).mask.sum() == 1 + 8


def test_a_number_behind_a_suffix_that_is_a_number_is_no_second_mask(tmp_path: Path, write: Maker) -> None:
    for name in ("p", "p_11", "p_12"):
        write(tmp_path / f"test/{name}.png", len(name) + int(name[-1:] == "2"))
        write(tmp_path / f"truth/{name}_1.png")
    write(tmp_path / "train/n.png", 9)
    splits = "splits: {train: {normal: train}, test: {anomalous: test, masks: truth}}"
    dataset = open_folder(card(tmp_path, f"name: x\nmask_suffix: _1\n{splits}"))
    assert [case.id for case in dataset.cases("test")] == ["p", "p_11", "p_12"]


def test_masks_with_another_suffix_than_the_cards_are_told(together: Path, write: Maker) -> None:
    write(together / "benign/benign (10)_seg.png")
    text = problem(card(together, IN_ONE_FOLDER + "mask_suffix: _mask"))
    assert "such as benign (10)_seg.png. Masks end with _mask, as the card or the layout says: rename these" in text


def test_a_suffix_that_no_mask_has_is_told(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path)
    text = problem(card(tmp_path, "{name: x, mask_suffix: _seg}"))
    assert "has a mask whose name ends with _seg at " in text
    assert "It holds a_test_10.png, a_test_11.png." in text


def test_what_has_no_suffix_among_masks_is_counted(tmp_path: Path, make_bmad: Maker, write: Maker) -> None:
    make_bmad(tmp_path)
    for path in list(tmp_path.glob("*/Ungood/anomaly_mask/*.png")):
        path.rename(path.with_stem(f"{path.stem}_mask"))
    write(tmp_path / "test/Ungood/anomaly_mask/overview.png")
    (note,) = open_folder(card(tmp_path, "{name: x, mask_suffix: _mask}")).notes()
    assert "1 image is passed over" in note
    assert "or because the name of a mask ends with _mask: 1 in test/Ungood/anomaly_mask" in note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mask_suffix: _mask.png", "mask_suffix: it is what stands before the ending: write '_mask'"),
        ("mask_suffix: ''", "mask_suffix: String should have at least 1 character"),
        (
            "splits: {train: {normal: a}, test: {anomalous: [a, b], masks: [c]}}",
            "anomalous has 2 places and masks 1: list as many places of masks, in the same order",
        ),
        ("splits: {train: {normal: [a, a]}, test: {anomalous: b, masks: c}}", "normal names a place twice"),
        ("splits: {train: {normal: []}, test: {anomalous: b, masks: c}}", "splits.train.normal"),
    ],
)
def test_a_wrong_card_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert said in problem(card(tmp_path, f"name: x\n{text}"))


# Several places


@pytest.mark.parametrize(
    ("places", "ids"),
    [
        (["site-a/sick", "site-b/sick"], ["site-a/1_0", "site-b/1_0"]),
        (["site-a/sick/*.png", "site-b/sick/*.png"], ["site-a/1_0", "site-b/1_0"]),
        (["site-b/sick"], ["sick/1_0"]),
    ],
)
def test_folders_tell_images_of_one_name_apart(tmp_path: Path, write: Maker, places: list[str], ids: list[str]) -> None:
    write(tmp_path / "healthy/0_0.png", 1)
    for site in ("site-a", "site-b"):
        write(tmp_path / f"{site}/sick/1_0.png", len(site))
        write(tmp_path / f"{site}/truth/1_0.png")
    masks = [place.replace("sick", "truth") for place in places]
    splits = f"{{train: {{normal: healthy}}, test: {{anomalous: {places}, masks: {masks}}}}}"
    dataset = open_folder(card(tmp_path, f"name: x\nsplits: {splits}"))
    assert len({case.id for case in dataset.cases("test")}) == len(places)
    assert [case.id for case in dataset.cases("test")] == ids
    assert {case.patient for case in dataset.cases("test")} == {"1"}
    assert all(Path(case.mask or "").parents[1] == Path(case.image).parents[1] for case in dataset.cases("test"))


# A card in the folder


@pytest.mark.parametrize("around", ["", "wrapped/twice"])
def test_the_card_in_a_folder_is_read(tmp_path: Path, make_bmad: Maker, around: str) -> None:
    root = make_bmad(tmp_path / "given" / around / "data")
    card(root, "{name: mine, licence: CC0, patient: '^(.)'}")
    dataset = open_folder(tmp_path / "given")
    assert (dataset.name, dataset.card.licence, counts(dataset)) == ("mine", "CC0", [3, 4, 4])
    assert {case.patient for case in dataset.cases("test")} == {"a", "n"}


def test_a_wrong_card_in_a_folder_is_told(tmp_path: Path, make_bmad: Maker) -> None:
    path = card(make_bmad(tmp_path), "{name: mine, license: CC0}")
    assert f"The card {path} is not right" in problem(tmp_path)
