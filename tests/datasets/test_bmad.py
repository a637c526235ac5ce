import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets import bmad
from miasbench.datasets.bmad import BmadCard, brain_mri, liver_ct, retina_oct
from miasbench.harness.api import SPLITS, DataError

Maker = Callable[..., Path]
NAMES = ("brain_mri", "liver_ct", "retina_oct")
OPENERS = {"brain_mri": brain_mri, "liver_ct": liver_ct, "retina_oct": retina_oct}


def packaged(name: str) -> BmadCard:
    return BmadCard.read(Path(str(files("miasbench.datasets"))) / "cards" / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_what_a_reader_must_know(name: str) -> None:
    card = packaged(name)
    assert card.name == name
    assert "unknown" not in (card.modality, card.origin, card.licence, card.citation)
    assert "CC BY-NC-SA 4.0" in card.licence
    assert "2306.11876" in card.citation
    assert card.folders
    assert card.root == "."


def test_cards_expect_bmads_counts() -> None:
    assert {name: packaged(name).card().counts for name in NAMES} == {
        "brain_mri": {"train": 7500, "valid": 83, "test": 3715},
        "liver_ct": {"train": 1542, "valid": 166, "test": 1493},
        "retina_oct": {"train": 4297, "valid": 115, "test": 1805},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [("name: x", "folders is missing"), ("name: x\nfolders: Brain", "folders: Input should be a valid tuple")],
)
def test_a_packaged_card_names_its_folders(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        BmadCard.read(tmp_path / "x.yaml")


@pytest.mark.parametrize("name", ["oct2017", "rsna", "camelyon16"])
def test_of_the_others_only_images_are_labelled(tmp_path: Path, make_bmad: Maker, name: str) -> None:
    card = packaged(name)
    for layout, folder in (("readme", card.folders[0]), ("label", card.folders[1])):
        root = make_bmad(tmp_path / layout / folder, layout)
        for mask in [*root.rglob("anomaly_mask"), *root.rglob("label")]:
            shutil.rmtree(mask)
        dataset = getattr(bmad, name)(tmp_path / layout)
        assert [len(dataset.cases(split)) for split in SPLITS] == [3, 4, 4]
        assert [case.label for case in dataset.cases("test")] == [0, 0, 1, 1]
        assert {case.mask for case in dataset.cases("test")} == {None}
        assert dataset.fingerprint
        assert dataset.card.annotation == "image"
        assert dataset.card.channels == ("rgb" if name == "camelyon16" else "grey")
    assert "2306.11876" in card.citation


def test_cards_of_image_labels_expect_bmads_counts() -> None:
    assert [packaged(name).card().counts for name in ("oct2017", "rsna", "camelyon16")] == [
        {"train": 26315, "valid": 32, "test": 968},
        {"train": 8000, "valid": 1490, "test": 17194},
        {"train": 5088, "valid": 236, "test": 1997},
    ]


@pytest.mark.parametrize("above", ["", "BMAD", "bmad"])
@pytest.mark.parametrize(("name", "folder"), [(name, folder) for name in NAMES for folder in packaged(name).folders])
def test_a_dataset_is_found_below_the_data_root(
    tmp_path: Path, make_bmad: Maker, name: str, folder: str, above: str
) -> None:
    make_bmad(tmp_path / above / folder)
    dataset = OPENERS[name](tmp_path)
    assert dataset.name == dataset.card.name == name
    assert [len(dataset.cases(split)) for split in SPLITS] == [3, 4, 4]


@pytest.mark.parametrize("layout", ["readme", "label", "doubled", "apart", "resc"])
@pytest.mark.parametrize("folder", ["Brain", "brain", "Brain_AD", "BraTS2021_slice"])
def test_the_data_root_may_be_the_dataset_itself(
    tmp_path: Path, make_bmad: Maker, monkeypatch: pytest.MonkeyPatch, folder: str, layout: str
) -> None:
    make_bmad(tmp_path / folder, layout)
    dataset = brain_mri(tmp_path / folder)
    assert len(dataset.cases("test")) == 4
    monkeypatch.chdir(tmp_path / folder)
    assert brain_mri(Path()).fingerprint == dataset.fingerprint
    with pytest.raises(DataError, match="liver_ct was not found"):
        liver_ct(tmp_path / folder)


def test_a_folder_that_an_archive_wraps_around_is_entered(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "Liver_AD/Liver/Train/hist_DIY", "apart")
    assert len(liver_ct(tmp_path).cases("valid")) == 4
    assert len(liver_ct(tmp_path / "Liver_AD").cases("valid")) == 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exists", [True, False])
def test_missing_data_are_explained(tmp_path: Path, name: str, exists: bool) -> None:
    root = tmp_path if exists else tmp_path / "absent"
    with pytest.raises(DataError) as raised:
        OPENERS[name](root)
    text = str(raised.value)
    assert f"neither {root} nor {root / 'BMAD'} has a folder named" in text
    assert all(folder in text for folder in packaged(name).folders)
    assert "README" in text
    assert "Google Drive" in text
    assert "bmad.zip of the Hugging Face dataset code-dev05/BMAD" in text
    assert "df655def31f3f638a91c567550de54d6e45a74b2368f666c13a6a3052c063165" in text
    assert "--data-root or MIASBENCH_DATA" in text
    assert f"--dataset phantom_{name}" in text


def test_a_folder_that_is_empty_is_named(tmp_path: Path) -> None:
    (tmp_path / "BMAD/Brain").mkdir(parents=True)
    with pytest.raises(DataError, match="BMAD/Brain; it holds nothing"):
        brain_mri(tmp_path)


def test_patients_are_the_first_part_of_a_slices_name(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "Brain")
    assert [case.patient for case in brain_mri(tmp_path).cases("train")] == ["00000", "00000", "00001"]


def test_rescs_grey_levels_are_one_lesion_class(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "RESC", "resc", ("train", "val", "test"))
    levels = np.zeros((6, 8), dtype=np.uint8)
    levels[0, :3] = 64, 128, 255
    for path in (tmp_path / "RESC").glob("Test/test_label/Ungood/*.png"):
        Image.fromarray(levels).save(path)
    dataset = retina_oct(tmp_path)
    for case in dataset.cases("test"):
        assert dataset.load(case).mask.sum() == (3 if case.label else 0)
