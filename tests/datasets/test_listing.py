"""Datasets that a table lists, such as VisA."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.harness.api import SPLITS, DataError
from miasbench.harness.data.leaks import shared_patients
from miasbench.harness.data.verifying import verify_dataset

Maker = Callable[..., Path]
ROWS = [
    "image,mask,label,patient,split",
    "a/h1.png,,0,p1,train",
    "a/h2.png,,good,p2,Training",
    "a/h3.png,,normal,p3,valid",
    "a/h4.png,,0,p4,test",
    "b/s1.png,m/s1.png,1,p5,val",
    "b/s2.png,m/other.png,anomaly,p6,test",
    '"b/s,3.png",m/s3.png,1,p6,TEST',
]


@pytest.fixture
def root(tmp_path: Path, write: Maker) -> Path:
    """The images and masks of `ROWS`."""
    folder = tmp_path / "set"
    for number, name in enumerate(("a/h1", "a/h2", "a/h3", "a/h4", "b/s1", "b/s2", "b/s,3")):
        write(folder / f"{name}.png", 10 * number)
    for name in ("s1", "other", "s3"):
        write(folder / f"m/{name}.png")
    return folder


def listed(root: Path, rows: list[str], card: str = "table: images.csv", encoding: str = "utf-8") -> Path:
    (root / "images.csv").write_text("\n".join(rows) + "\n", encoding=encoding)
    (root / "card.yaml").write_text(f"name: mine\n{card}\n")
    return root


def counts(dataset: FolderDataset) -> list[int]:
    return [len(dataset.cases(split)) for split in SPLITS]


def problems(root: Path) -> list[str]:
    with pytest.raises(DataError) as raised:
        _ = open_folder(root).fingerprint
    return list(getattr(raised.value, "problems", ())) or [str(raised.value)]


def test_a_table_says_image_mask_label_patient_and_split(root: Path) -> None:
    dataset = open_folder(listed(root, ROWS))
    assert counts(dataset) == [2, 2, 3]
    assert {case.id: case.patient for split in SPLITS for case in dataset.cases(split)} == {
        "a/h1": "p1",
        "a/h2": "p2",
        "a/h3": "p3",
        "a/h4": "p4",
        "b/s1": "p5",
        "b/s2": "p6",
        "b/s,3": "p6",
    }
    assert [case.label for case in dataset.cases("test")] == [0, 1, 1]
    assert [case.mask for case in dataset.cases("valid")] == [None, str(root / "m/s1.png")]
    assert all(dataset.load(case).mask.sum() == case.label for case in dataset.cases("test"))
    assert dataset.notes() == ()
    assert len(dataset.fingerprint) == 64


def test_a_row_may_list_several_masks(root: Path) -> None:
    for row, name in enumerate(("one", "two")):
        mask = np.zeros((6, 8), dtype=np.uint8)
        mask[row] = 255
        Image.fromarray(mask).save(root / f"m/{name}.png")
    dataset = open_folder(listed(root, [row.replace("m/s1.png", "m/one.png; m/two.png") for row in ROWS]))
    (case,) = [case for case in dataset.cases("valid") if case.label]
    assert case.mask == str(root / "m/one.png")
    assert dataset.load(case).mask.sum() == 16
    assert dataset.notes()[0].startswith("1 image has several masks, 2 in all, such as ")
    (problem,) = problems(listed(root, [row.replace("m/s1.png", "m/one.png;m/three.png") for row in ROWS]))
    assert f"there is no mask {root / 'm/three.png'}." in problem


def test_a_mask_may_have_a_semicolon_in_its_name(root: Path) -> None:
    (root / "m/s1.png").rename(root / "m/s;1.png")
    dataset = open_folder(listed(root, [row.replace("m/s1.png", "m/s;1.png") for row in ROWS]))
    assert dataset.cases("valid")[1].mask == str(root / "m/s;1.png")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spreadsheets_may_write_it(root: Path, encoding: str, end: str) -> None:
    rows = [ROWS[0].title(), *(f" {row} " for row in ROWS[1:6]), ",,,,", ""]
    (listed(root, ROWS) / "images.csv").write_bytes((end.join(rows) + end).encode(encoding))
    (root / "images.csv").write_bytes((end.join([*rows, *ROWS[6:]]) + end).encode(encoding))
    assert counts(open_folder(root)) == [2, 2, 3]


def test_a_card_says_what_columns_are_called_and_which_rows_are_meant(root: Path) -> None:
    rows = [ROWS[0].replace("image", "File").replace("split", "fold") + ",site"]
    rows += [f"{row},{'B' if 'h2' in row else 'A'}" for row in ROWS[1:]]
    table = "table: {file: images.csv, columns: {image: file, split: FOLD}, where: {site: A}}"
    dataset = open_folder(listed(root, rows, table))
    assert counts(dataset) == [1, 2, 3]
    (note,) = dataset.notes()
    assert note.startswith(f"1 image is passed over, because {root}/images.csv does not list them: 1 in a.")


def test_without_patients_names_tell_them(root: Path) -> None:
    for name in ("h1", "h2", "h3", "h4"):
        (root / f"a/{name}.png").rename(root / f"a/p_{name}.png")
    rows = [row.replace("a/h", "a/p_h").split(",") for row in ROWS[:7]]
    without = [",".join((*row[:3], row[4])) for row in rows]
    assert {case.patient for case in open_folder(listed(root, without)).cases("train")} == {"p"}
    listed(root, without, "table: images.csv\npatient: '(.)$'")
    assert {case.patient for case in open_folder(root).cases("train")} == {"1", "2"}


def test_numbers_in_folders_are_no_patients(root: Path, write: Maker) -> None:
    rows = ["image,mask,label,split", "t/0.png,,0,train", "n/0.png,,0,test", "s/0.png,m/0.png,1,test"]
    for place in "tnsm":
        write(root / f"{place}/0.png", ord(place) if place != "m" else 0)
    dataset = open_folder(listed(root, rows))
    assert [case.patient for case in dataset.cases("test")] == ["n/0", "s/0"]
    assert shared_patients(dataset) == {}
    assert any(note.startswith("The names of 3 images are numbers within their folders") for note in dataset.notes())


def test_image_labels_need_no_masks(root: Path) -> None:
    rows = ["image,label,split", *(f"{r.split(',')[0]},{r.split(',')[2]},{r.split(',')[4]}" for r in ROWS[1:7])]
    dataset = open_folder(listed(root, rows, "table: images.csv\nannotation: image"))
    assert counts(dataset) == [2, 2, 2]
    assert all(case.mask is None for case in dataset.cases("test"))


def test_one_table_may_say_volumes_too(root: Path) -> None:
    rows = [f"{ROWS[0]},volume,position", *(f"{row},v{number},3" for number, row in enumerate(ROWS[1:]))]
    dataset = open_folder(listed(root, rows, "table: images.csv\nslices: images.csv"))
    assert [(case.volume, case.position) for case in dataset.cases("train")] == [("v0", 3), ("v1", 3)]


# VisA


@pytest.fixture
def visa(tmp_path: Path, write: Maker) -> Path:
    """Two objects in VisA's layout; masks hold the number of the defect."""
    rows = ["object,split,label,image,mask"]
    for thing in ("candle", "pcb1"):
        for index in range(3):
            split = "test" if index == 2 else "train"
            write(tmp_path / f"{thing}/Data/Images/Normal/{index:04}.JPG", 10 * index + len(thing))
            rows.append(f"{thing},{split},normal,{thing}/Data/Images/Normal/{index:04}.JPG,")
        for index in range(2):
            write(tmp_path / f"{thing}/Data/Images/Anomaly/{index:03}.JPG", 100 + 10 * index + len(thing))
            mask = f"{thing}/Data/Masks/Anomaly/{index:03}.png"
            pixels = np.zeros((6, 8), np.uint8)
            pixels[2, 3] = index + 1
            (tmp_path / mask).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / mask)
            rows.append(f"{thing},test,anomaly,{thing}/Data/Images/Anomaly/{index:03}.JPG,{mask}")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_one_object_of_visa_is_read(visa: Path) -> None:
    assert "split_csv/1cls.csv lists images: name it on a card, " in problems(visa)[0]
    (visa / "card.yaml").write_text("{name: candle, table: split_csv/1cls.csv}")
    (text,) = problems(visa)
    assert "lists 2 datasets in its column object: candle, pcb1." in text
    assert "`table: {file: split_csv/1cls.csv, where: {object: candle}}`" in text
    (visa / "card.yaml").write_text("{name: candle, table: {file: split_csv/1cls.csv, where: {object: candle}}}")
    dataset = open_folder(visa)
    assert counts(dataset) == [2, 0, 3]
    assert all("candle" in case.image for split in SPLITS for case in dataset.cases(split))
    assert all(dataset.load(case).mask.sum() == case.label for case in dataset.cases("test"))
    assert not any("passed over" in note for note in dataset.notes())
    (visa / "card.yaml").write_text("{name: candle, table: {file: split_csv/1cls.csv, where: {object: candel}}}")
    assert "has no rows, where object is candel. The values of object are candle, pcb1." in problems(visa)[0]


# What is wrong


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "image,",
            "picture,",
            "images.csv has no column image. It needs image, split, label; mask, patient are",
        ),
        ("image,", "picture,", "Its columns are picture, mask, label, patient, split."),
        ("patient", "label", "has two columns label. Rename one."),
        ("a/h1.png", "a/h9.png", "line 2: there is no image {root}/a/h9.png. Paths are relative to the card's root"),
        ("m/s1.png", "m/s9.png", "line 6: there is no mask {root}/m/s9.png."),
        ("a/h2.png", "a/h1.png", "line 3: a/h1.png is in line 2 already. Remove one of the two rows."),
        ("a/h2.png", "./b/../a/h1.png", "line 3: a/h1.png is in line 2 already."),
        ("Training", "trian", "line 3: 'trian' is no split. Write one of train, training, valid, val"),
        (",good,", ",fine,", "line 3: 'fine' is no label. Write one of 0, good, normal, healthy, 1, anomaly"),
        (",,0,p1,train", ",m/s1.png,1,p1,train", "line 2: an anomalous image is in the train split"),
        ("m/s1.png", "", "line 6: an anomalous image has no mask. If only whole images are labelled"),
        ("m/s1.png", "b/s1.png", "line 6: b/s1.png is named as its own mask."),
        ("p3", "", "line 4: patient is empty. Fill it in in every row."),
        (",p3,valid", ",p3,", "line 4: split is empty."),
        ("a/h1.png", r"a\h1.png", r"line 2: a\h1.png is a path of Windows. Write / in place of \."),
        ("a/h1.png", "C:/a/h1.png", "line 2: C:/a/h1.png is a path of Windows."),
        ("a/h1.png", "../set/a/h1.png", None),
        ("a/h1.png", "../other/h1.png", "line 2: ../other/h1.png leads out of the dataset."),
        ("a/h1.png", "/etc/h1.png", "line 2: /etc/h1.png leads out of the dataset."),
        ("a/h1.png", f"{'a' * 5000}.png", "line 2: there is no image {root}/aaa"),
        ("a/h1.png", "a/h1.dcm", "line 2: a/h1.dcm is not read, only .png"),
        ("p1,train", "p1,train,more", "line 2, has 6 cells, and the first line has 5 names. Put text that has a comma"),
    ],
)
def test_a_wrong_row_is_one_sentence(root: Path, old: str, new: str, said: str | None) -> None:
    found = problems(listed(root, "\n".join(ROWS).replace(old, new, 1).split("\n")))
    assert len(found) == 1
    assert (said or "line 2: ../set/a/h1.png leads out of the dataset.").format(root=root) in found[0]


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_another_delimiter_than_a_comma_is_told(root: Path, delimiter: str, name: str) -> None:
    (text,) = problems(listed(root, [row.replace(",", delimiter) for row in ROWS]))
    assert f"images.csv is separated by {name}. Save it as CSV in UTF-8, with commas." in text


def test_what_is_no_text_in_utf_8_is_told(root: Path) -> None:
    for encoding in ("utf-16", "utf-16-be", "latin-1"):
        (text,) = problems(listed(root, [*ROWS, "é"], encoding=encoding))
        assert "images.csv is no text in UTF-8. Save it as CSV in UTF-8, with commas." in text


@pytest.mark.parametrize(
    ("rows", "said"),
    [([], "has no column image"), (ROWS[:1], "has no rows."), (ROWS[:5], "The test split has no anomalous images in")],
)
def test_a_table_that_lists_nothing_is_told(root: Path, rows: list[str], said: str) -> None:
    (text,) = problems(listed(root, rows))
    assert said in text


def test_what_is_wrong_in_many_rows_is_one_sentence(root: Path) -> None:
    (text,) = problems(listed(root, [row.replace("a/", "c/") for row in ROWS]))
    assert "line 2: there is no image " in text
    assert text.endswith("The same is wrong in 3 more rows.")


def test_two_images_that_differ_in_their_ending_are_told(root: Path, write: Maker) -> None:
    write(root / "a/h1.bmp")
    (text,) = problems(listed(root, [*ROWS, "a/h1.bmp,,0,p9,train"]))
    assert "line 9: a/h1.bmp has the name of a/h1.png, line 2, which must tell a case." in text


def test_a_label_that_a_mask_contradicts_is_told(root: Path) -> None:
    rows = "\n".join(ROWS).replace("a/h4.png,,", "a/h4.png,m/h4.png,").split("\n")
    Image.new("L", (8, 6)).save(root / "m/h4.png")
    dataset = open_folder(listed(root, rows))
    (note,) = dataset.notes()
    assert note.startswith(
        f"1 normal images have a mask in {root}/images.csv, such as {root}/m/h4.png."
    ) or note.startswith("1 normal image has a mask")
    Image.open(root / "m/s1.png").save(root / "m/h4.png")
    with pytest.raises(DataError, match=r"m/h4.png\) has a mask with a lesion, but the label of a normal image"):
        open_folder(root).notes()
    Image.new("L", (8, 6)).save(root / "m/h4.png")
    Image.new("L", (8, 6)).save(root / "m/s1.png")
    _, found = verify_dataset(lambda: open_folder(root))
    assert [each.text for each in found if each.wrong] == [
        f"{root}/m/s1.png shows no lesion, but its image counts as anomalous."
    ]


def test_a_patient_in_two_splits_is_told(root: Path) -> None:
    dataset = open_folder(listed(root, "\n".join(ROWS).replace("p1", "p6").split("\n")))
    assert shared_patients(dataset) == {"train and test": ["p6"]}


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("table: gone.csv", "gone.csv, which the card names, cannot be read: No such file"),
        ("table: images.csv\nmask_suffix: _mask", "table and mask_suffix both say where images and masks are"),
        ("table: images.csv\npatient: '(.)'", "Both the card and {root}/images.csv say who the patients are."),
        ("table: {file: images.csv, columns: {imgae: x}}", "table.columns.imgae"),
        ("table: {file: images.csv, columns: {image: x}}", "images.csv has no column x."),
        ("table: {file: images.csv, were: {a: b}}", "table.were is not a key of a card; did you mean 'where'?"),
        ("table: {file: images.csv, where: {site: A}}", "images.csv has no column site."),
    ],
)
def test_a_wrong_card_is_told(root: Path, card: str, said: str) -> None:
    (text,) = problems(listed(root, ROWS, card))
    assert said.format(root=root) in text
