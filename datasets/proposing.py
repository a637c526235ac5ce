"""Looks at a folder, and says what it believes of it: a card for its user to edit."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ..harness.api import SPLITS, BrokenDatasetError, DataError, Split
from ..harness.files import path_text
from .card import CardFile, SplitCounts
from .folder import FolderDataset
from .hints import entries, holding, subfolder
from .image_files import IMAGE_ENDINGS
from .layouts import NORMAL, SPLIT_NAMES, Layout, NoLayoutError, recognise
from .pairing import common_suffix, is_mask_name
from .patients import guess_patients
from .places import ImageTable, Place, SplitFolders, Splits, TableColumn, places_of
from .sorting import write_listing
from .tables import LISTING, columns_of, read_table, some
from .volume_files import explain_volumes, files_below

TO_EDIT = frozenset({"title", "modality", "origin", "licence", "citation"})
"""What a folder cannot say: these keys stand on a card that was proposed, for its user to fill in."""

_ANY_NAME = ("data", "dataset", "images")
_OBJECT = "object"
_COLUMNS: dict[TableColumn, tuple[str, ...]] = {  # in lower case; the first that is there is taken
    "image": ("image", "image_path", "img", "img_path", "image_file", "file", "filename", "file_name", "path"),
    "mask": ("mask", "mask_path", "mask_file", "segmentation", "seg", "ground_truth"),
    "label": ("label", "class", "target", "anomaly", "is_anomaly", "abnormal"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id"),
    "split": ("split", "set", "subset", "partition", "fold"),
}


@dataclass(frozen=True)
class Proposal:
    """A card for a folder, and what it was made of.

    Attributes:
        card: The card.
        beliefs: Sentences on what the folder is taken for; a guess is said to be one.
        notes: What was passed over, and what may be odd.
        problems: What keeps the dataset from being used.
    """

    card: CardFile
    beliefs: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def propose_card(folder: Path, file: Path, where: Mapping[str, str] | None = None) -> Proposal:
    """Looks at a folder of images. A card that it holds already is not read.

    Where masks lie beside images, and neither folders nor a table sort them, a table is written into the folder.

    Args:
        folder: The folder.
        file: Where the card is to be, to which the root on it is relative.
        where: The rows of a table that are meant, where it lists several datasets.

    Raises:
        DataError: The folder is not understood; the text says what is seen there, and what to do.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Give a folder of images.")
    try:
        layout = None if where else recognise(folder)
    except NoLayoutError:
        layout = None
    listed = () if where or (layout and _names(layout.root, layout.splits.train.normal)) else _list_images(folder)
    layout = None if listed else layout
    table = None if layout else _table_of(folder, where or {})
    name = _name_of(layout.root if layout else folder, folder, where or {})
    card = CardFile(name=name, root=_relative(folder, file))
    if layout:
        layout = _with_kinds(layout)
        suffix, masks_beside = _suffix(layout)
        card = card.model_copy(update={"root": _relative(layout.root, file), "mask_suffix": suffix or None})
        looked = card if not masks_beside else card.model_copy(update={"splits": _splits(layout, masks_beside)})
        written: dict[str, Any] = {"splits": _splits(layout, masks_beside)}
        beliefs = list(_layout_beliefs(folder, layout, suffix))
    else:
        looked = card.model_copy(update={"table": table})
        written = {"table": table}
        beliefs = [*listed, *(_table_beliefs(table) if table else ())]
    dataset, problems = _opened(looked, file)
    if not (dataset.cases("train") and dataset.cases("test")):
        raise DataError(f"{problems[0]} Name folders or a table on a card yourself, or sort the images into a layout.")
    if dataset.is_coloured:
        written |= {"channels": "rgb"}
        beliefs.append("A guess: `channels: rgb`, because images are in colour. Methods that take colour get it.")
        dataset, problems = _opened(looked.model_copy(update={"channels": "rgb"}), file)
    patient, told = _patients(dataset, looked)
    counts = SplitCounts(**{split: len(dataset.cases(split)) for split in SPLITS})
    try:
        notes = dataset.notes()
    except BrokenDatasetError as error:
        notes, problems = (), (*problems, *error.problems)
    return Proposal(
        CardFile.model_validate(
            card.model_dump(exclude_defaults=True) | written | {"patient": patient, "counts": counts}
        ),
        (*beliefs, _counted(dataset), told),
        notes,
        problems,
    )


def _name_of(root: Path, folder: Path, where: Mapping[str, str]) -> str:
    """A name that tells a dataset from others: its folder, those in it that lead to it, and the rows that are meant."""
    top = folder.resolve()
    around = [top.parent.name] if top.name.lower() in _ANY_NAME else []
    parts = (*around, top.name, *root.relative_to(folder).parts, *where.values())
    return re.sub(r"[^\w.-]+", "_", path_text("_".join(dict.fromkeys(parts))))


def _opened(card: CardFile, file: Path) -> tuple[FolderDataset, tuple[str, ...]]:
    """The dataset of a card that is going to be written, and what is wrong with it."""
    try:
        return FolderDataset(card, card.folder(file)), ()
    except BrokenDatasetError as error:
        assert isinstance(error.dataset, FolderDataset)
        return error.dataset, error.problems


def _relative(folder: Path, file: Path) -> str:
    """A folder as a card tells it: relative where the card is in it or around it, otherwise from the root on."""
    place, home = folder.resolve(), file.resolve().parent
    return os.path.relpath(place, home) if place.is_relative_to(home) else str(place)


# Folders


def _suffix(layout: Layout) -> tuple[str, bool]:
    """What masks have behind their images' names, and whether they are beside the images."""
    if layout.mask_suffix:
        return layout.mask_suffix, False
    folders = layout.splits.test
    images = set(_names(layout.root, folders.anomalous))
    masks = _names(layout.root, folders.masks) if folders.masks != folders.anomalous else []
    if masks and not images & set(masks):
        return common_suffix(images, masks), False
    beside = [name for name in images if is_mask_name(name, images)]
    return (common_suffix(images - set(beside), beside), True) if beside and not masks else ("", False)


def _with_kinds(layout: Layout) -> Layout:
    """The folders of a test split as kinds of anomaly, with masks beside the images, where no other is understood."""
    test, folder = layout.splits.test, subfolder(layout.root, SPLIT_NAMES["test"])
    if folder is None or _names(layout.root, test.anomalous):
        return layout
    kinds = [path for path in entries(folder) if path.is_dir() and path.name.lower() not in NORMAL]
    places = tuple(path.relative_to(layout.root).as_posix() for path in kinds)
    names = set(_names(layout.root, places))
    if not any(is_mask_name(name, names) for name in names):
        return layout
    of_test = SplitFolders(normal=test.normal, anomalous=places, masks=places)
    return layout._replace(splits=layout.splits.model_copy(update={"test": of_test}), name="")


def _names(root: Path, place: Place | None) -> list[str]:
    folders = [root / each for each in places_of(place) if (root / each).is_dir()]
    return [path.stem for folder in folders for path in entries(folder) if path.suffix.lower() in IMAGE_ENDINGS]


def _splits(layout: Layout, masks_beside: bool) -> Splits:
    """The folders of the layout in which there are images, and those in which there must be some."""

    def kept(split: Split) -> SplitFolders:
        folders: SplitFolders = getattr(layout.splits, split)
        has_normal = split == "train" or _names(layout.root, folders.normal)
        has_anomalous = split == "test" or _names(layout.root, folders.anomalous)
        return SplitFolders(
            normal=folders.normal if has_normal else None,
            anomalous=folders.anomalous if has_anomalous else None,
            masks=(folders.anomalous if masks_beside else folders.masks) if has_anomalous else None,
        )

    return Splits(**{split: kept(split) for split in SPLITS})


def _layout_beliefs(folder: Path, layout: Layout, suffix: str) -> Iterator[str]:
    looks = f"looks like {layout.name}'s layout" if layout.name else "has folders of splits, in no known layout"
    yield f"{folder} {looks}{'' if layout.root == folder else f', in {layout.root}'}."
    anomalous = layout.splits.test.anomalous
    if isinstance(anomalous, tuple):
        guess = "Kinds of anomaly" if layout.name else "A guess: folders of the test split are kinds of anomaly"
        yield f"{guess}: {some([Path(each).name for each in anomalous])}."
    if suffix:
        yield f"A guess: the name of a mask is that of its image with {suffix} behind it, as in all of the test split."


# Tables


def _tables(folder: Path) -> dict[Path, dict[TableColumn, str]]:
    """The tables in a folder, and which of their columns are which."""
    found = [table for table in (folder / "split_csv/1cls.csv", *sorted(folder.glob("*.csv"))) if table.is_file()]
    return {table: _columns(columns_of(table)) for table in found}


def _list_images(folder: Path) -> tuple[str, ...]:
    """Lists images that have their masks beside them in a table, unless some table does so already."""
    return () if any("image" in columns for columns in _tables(folder).values()) else write_listing(folder)


def _table_of(folder: Path, where: Mapping[str, str]) -> ImageTable:
    """The table in a folder that lists its images."""
    tables = _tables(folder)
    listing = [table for table, columns in tables.items() if set(LISTING) <= set(columns)]
    if not listing:
        raise DataError(_not_understood(folder, tables))
    if len(listing) > 1:
        names = some([table.relative_to(folder).as_posix() for table in listing])
        raise DataError(f"{folder} has several tables that list images: {names}. Leave one of them there.")
    table = listing[0]
    columns: dict[TableColumn, str] = {column: name for column, name in tables[table].items() if name.lower() != column}
    rows = read_table(table, (*LISTING, *where), (), {**columns})
    objects = sorted({row.cells[_OBJECT] for row in rows if _OBJECT in row.cells})
    if len(objects) > 1 and not where:
        raise DataError(
            f"{table} lists {len(objects)} datasets in its column {_OBJECT}: {some(objects)}. Say which, such as "
            f"--where {_OBJECT}={objects[0]} --out {objects[0]}.yaml."
        )
    return ImageTable(file=table.relative_to(folder).as_posix(), columns=columns, where={**where})


def _columns(names: Sequence[str]) -> dict[TableColumn, str]:
    """Which columns are which, by their names."""
    there = {name.lower(): name for name in names}
    guessed: dict[TableColumn, str] = {}
    for column in get_args(TableColumn):
        known = next((name for name in _COLUMNS[column] if name in there), None)
        if known:
            guessed[column] = there[known]
    return guessed


def _table_beliefs(table: ImageTable) -> Iterator[str]:
    chosen = "".join(f", the rows where {column} is {value}" for column, value in table.where.items())
    yield f"{table.file} lists the images{chosen}."
    if table.columns:
        told = ", ".join(f"{name} is the {column}" for column, name in table.columns.items())
        yield f"A guess: of its columns, {told}."


def _not_understood(folder: Path, tables: Mapping[Path, Mapping[TableColumn, str]]) -> str:
    """One sentence on what is seen in a folder, and what to do."""
    for table, columns in tables.items():
        if "image" in columns:
            lacking = [column for column in LISTING if column not in columns]
            return (
                f"{table} lists images in its column {columns['image']}, but has no column {' and '.join(lacking)}. "
                "Add what is missing: split is train, valid or test, and label is 0 or 1. A column that is "
                "called otherwise is told on a card: "
                f"`table: {{file: {table.relative_to(folder).as_posix()}, columns: {{{lacking[0]}: NAME}}}}`."
            )
        if len(columns_of(table)) == 1:
            read_table(table, LISTING)  # says that it is not separated by commas
    volumes = explain_volumes(folder)
    if volumes:
        return f"{folder} holds volumes and no images: {volumes}"
    places = Counter(
        path.parent.relative_to(folder).as_posix()
        for path in files_below(folder)
        if path.suffix.lower() in IMAGE_ENDINGS
    )
    if not places:
        return f"{folder} holds no images: it {holding(folder)} Give a folder of images."
    told = some([f"{count:,} in {place}" for place, count in places.most_common()])
    return (
        f"{folder} holds {places.total():,} images ({told}), but no folder and no table says which of them train and "
        "which are for the test. Sort them into train/good, test/good/img, test/Ungood/img and "
        "test/Ungood/anomaly_mask, or write a table, images.csv, with the columns image, mask, label, patient, split."
    )


# What is believed of images


def _counted(dataset: FolderDataset) -> str:
    told = []
    for split in SPLITS:
        labels = Counter(case.label for case in dataset.cases(split))
        told.append(f"{split} has {labels[0]:,} normal and {labels[1]:,} anomalous images")
    return f"Splits: {', '.join(told)}."


def _patients(dataset: FolderDataset, card: CardFile) -> tuple[str | None, str]:
    """A pattern for the card, where one is guessed, and a sentence on who the patients are."""
    cases = [case for split in SPLITS for case in dataset.cases(split)]
    count = len({case.patient for case in cases})
    if card.table and "patient" in _columns(columns_of(dataset.root / card.table.file)):
        return None, f"Patients: {count:,}, by the table."
    guess = guess_patients(cases)
    if guess:
        return guess.pattern, f"A guess: `patient: '{guess.pattern}'`. {guess.why}."
    names = {case.id: case.id.rpartition("/")[2] for case in cases}
    example = next((case for case in cases if case.patient not in (case.id, names[case.id])), None)
    if example is None:
        return None, "A guess: each image is of a patient of its own. If not, say with `patient` who they are."
    return None, f"A guess: {count:,} patients, by file names: {names[example.id]} is of {example.patient}."
