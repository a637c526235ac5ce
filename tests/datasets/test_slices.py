"""Images know the volume that they are slices of, where a card says it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from miasbench.datasets.bmad import brain_mri
from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.harness.api import SPLITS, Case, DataError
from miasbench.harness.conformance.datasets import check_dataset

Maker = Callable[..., Path]
PATTERN = r"volume: '^(?P<volume>.+)_(?P<position>\d+)$'"


@pytest.fixture
def root(tmp_path: Path, make_bmad: Maker) -> Path:
    return make_bmad(tmp_path / "set")


def opened(root: Path, told: str) -> FolderDataset:
    card = root.parent / "card.yaml"
    card.write_text(f"name: mine\nroot: set\n{told}\n", encoding="utf-8")
    return open_folder(card)


def table(root: Path, *lines: str) -> str:
    (root / "slices.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "slices: slices.csv"


def by_id(dataset: FolderDataset) -> dict[str, Case]:
    return {case.id: case for split in SPLITS for case in dataset.cases(split)}


def refusal(root: Path, told: str) -> str:
    with pytest.raises(DataError) as error:
        opened(root, told)
    return str(error.value)


def test_without_a_word_on_the_card_images_are_of_no_volume(root: Path) -> None:
    case = open_folder(root).cases("test")[0]
    assert (case.volume, case.position, case.spacing) == (None, None, None)


def test_a_pattern_tells_volume_and_position(root: Path) -> None:
    dataset = opened(root, f"{PATTERN}\nspacing: [0.5, 0.7, 5]\nstack: true")
    case = by_id(dataset)["a_test_11"]
    assert (case.volume, case.position, case.spacing) == ("a_test", 11, (0.5, 0.7, 5.0))
    assert dataset.card.stack
    assert dataset.fingerprint == open_folder(root).fingerprint, "kept predictions stay valid"
    assert check_dataset(root.parent / "card.yaml") == []


def test_a_table_tells_them_with_the_spacing_of_each_volume(root: Path) -> None:
    dataset = opened(
        root,
        table(
            root,
            "image,volume,position,row_mm,column_mm,slice_mm,remark",
            "test/Ungood/img/a_test_10.png,scan 1,3,0.5,0.7,5,",
            "test/Ungood/img/a_test_11.png, scan 1 ,4,0.5,0.7,5,blurred",
            "test/good/img/n_test_10.png,scan 2,-1,,,,",
            "test/good/img/gone.png,scan 2,0,,,,",
        )
        + "\nspacing: [1, 1, 1]",
    )
    cases = by_id(dataset)
    assert [cases[name].volume for name in ("a_test_10", "a_test_11", "n_test_10")] == ["scan 1", "scan 1", "scan 2"]
    assert [cases[name].position for name in ("a_test_10", "a_test_11", "n_test_10")] == [3, 4, -1]
    assert cases["a_test_11"].spacing == (0.5, 0.7, 5.0)
    assert cases["n_test_10"].spacing == (1, 1, 1), "where the table is silent, the card's counts"
    assert cases["n_test_11"].volume is None
    without, rows = dataset.notes()
    assert without.startswith(f"8 of 11 images are of no volume by the table {root / 'slices.csv'}, such as ")
    assert rows == (
        f"1 rows of {root / 'slices.csv'} name images that are not in the dataset, such as test/good/img/gone.png."
    )


def test_images_that_the_pattern_does_not_fit_are_counted(root: Path, write: Maker) -> None:
    write(root / "test/good/img/overview.png", 7)
    (note,) = opened(root, PATTERN).notes()
    assert note.startswith("1 of 12 images are of no volume by the card's volume pattern")
    assert "overview.png. Scores of volumes leave them out." in note


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (r"volume: '^(.+)_(\d+)$'", "must have the groups (?P<volume>…) and (?P<position>…)"),
        ("volume: '(('", "volume should be a regular expression with the groups volume and position"),
        (r"volume: '^(?P<volume>x.+)_(?P<position>\d+)$'", "has no volume for any of the 11 images, such as"),
        (r"volume: '^(?P<volume>.).*_(?P<position>\d)'", "are both slice 1 of the volume"),
        (PATTERN + "\nslices: slices.csv", "volume and slices both say which volume an image is of"),
        ("spacing: [1, 1, 1]", "spacing is of volumes: say with volume or slices"),
        (PATTERN + "\nspacing: [1, 0, 1]", "spacing should be three numbers above 0"),
        ("slices: nowhere.csv", "nowhere.csv, which the card names, cannot be read"),
    ],
)
def test_a_wrong_card_is_refused_in_a_sentence(root: Path, told: str, said: str) -> None:
    assert said in refusal(root, told)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["image,volume", "a,b"], "slices.csv has no column position. It needs image, volume, position; row_mm,"),
        (["image,volume,position", "a.png,v,top"], "slices.csv, line 2, position: "),
        (["image,volume,position", "a.png,,1"], "slices.csv, line 2, volume: Field required."),
        (["image,volume,position", "a.png,v,1", "a.png,v,2"], "line 3: a.png is in line 2 already."),
        (["image,volume,position,row_mm", "a.png,v,1,1"], "line 2: give all of row_mm, column_mm, slice_mm, or none"),
        (["image,volume,position", "a.png,v,1"], "has no volume for any of the 11 images"),
        (
            [
                "image,volume,position,row_mm,column_mm,slice_mm",
                "test/good/img/n_test_10.png,v,1,1,1,5",
                "test/good/img/n_test_11.png,v,2,1,1,4",
            ],
            "n_test_11.png has another spacing than other slices of its volume v.",
        ),
    ],
)
def test_a_wrong_table_is_refused_by_its_line(root: Path, lines: list[str], said: str) -> None:
    assert said in refusal(root, table(root, *lines))


def test_bmads_brains_are_stacks_of_chosen_slices(tmp_path: Path, make_bmad: Maker) -> None:
    make_bmad(tmp_path / "Brain")
    dataset = brain_mri(tmp_path)
    assert dataset.card.stack
    assert [(case.volume, case.position) for case in dataset.cases("train")] == [
        ("00000", 0),
        ("00000", 1),
        ("00001", 2),
    ]
