"""A folder of images with masks as a dataset: BMAD's layouts, recognised, or a YAML card that says where things are."""

import difflib
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from ..harness.api import SPLITS, Card, Case, DataError, Dataset, Sample, Split
from .images import ENDINGS, inspect, read_grey, read_mask

_TRAIN = ("train", "training")
_VALID = ("valid", "validation", "val")
_TEST = ("test", "testing")
_NORMAL = ("good", "normal")
_ANOMALOUS = ("ungood", "bad", "anomaly", "anomalous", "abnormal")
_IMAGES = ("img", "image", "images")
_MASKS = ("anomaly_mask", "label", "labels", "mask", "masks", "ground_truth")
_MASK_SUFFIXES = ("_mask", "_label", "_seg", "_gt")
_LAYOUTS = (
    "train, valid and test, each with good/img, Ungood/img and Ungood/anomaly_mask or Ungood/label; "
    "or train/good, test/test/good, test/test/Ungood and test/test_labels/Ungood"
)
_SHOWN = 5


class SplitFolders(BaseModel):
    """Where the images of a split are: folders or globs, relative to the dataset's root."""

    model_config = ConfigDict(extra="forbid")

    normal: str | None = None
    anomalous: str | None = None
    masks: str | None = None

    @field_validator("normal", "anomalous", "masks")
    @classmethod
    def _is_relative(cls, place: str | None) -> str | None:
        if place is not None and Path(place).is_absolute():
            raise ValueError(f"{place} must be relative to the card's root")
        return place

    @model_validator(mode="after")
    def _has_masks_for_anomalous(self) -> "SplitFolders":
        if (self.anomalous is None) != (self.masks is None):
            raise ValueError("anomalous and masks must be given together")
        return self


class Splits(BaseModel):
    """The folders of every split; a dataset may have no validation cases."""

    model_config = ConfigDict(extra="forbid")

    train: SplitFolders
    valid: SplitFolders = SplitFolders()
    test: SplitFolders

    @field_validator("train")
    @classmethod
    def _is_normal(cls, train: SplitFolders) -> SplitFolders:
        if train.anomalous is not None:
            raise ValueError("methods learn from normal images only; leave out anomalous and masks")
        return train


class CardFile(BaseModel):
    """A YAML card.

    Attributes:
        root: Where the images are, relative to the card.
        splits: Folders of every split, for a root in none of the known layouts.
        patient: A regular expression with one group, searched in the file name without its ending.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str = ""
    modality: str = "unknown"
    origin: str = "unknown"
    licence: str = "unknown"
    citation: str = "unknown"
    counts: dict[Split, int] | None = None
    root: str = "."
    splits: Splits | None = None
    patient: re.Pattern[str] | None = None

    @field_validator("patient")
    @classmethod
    def _has_one_group(cls, patient: re.Pattern[str] | None) -> re.Pattern[str] | None:
        if patient is not None and patient.groups != 1:
            raise ValueError(f"{patient.pattern!r} must have one group, which is the patient")
        return patient

    def card(self) -> Card:
        """What the card tells a reader of results."""
        return Card(
            self.name,
            self.title or self.name,
            self.modality,
            self.origin,
            self.licence,
            self.citation,
            None if self.counts is None else {str(split): count for split, count in self.counts.items()},
        )


class FolderDataset(Dataset):
    """Images and masks in folders.

    A mask has the name of its image, with any image ending, or that name and `_mask`, `_label`, `_seg` or `_gt`.

    Args:
        card: What is known of the dataset; its name is the dataset's.
        root: The folder that holds the splits.
        splits: Folders of every split; recognised by their names when `None`.
        patient: A regular expression whose group is the patient; by default the file name up to its last underscore.

    Raises:
        DataError: No layout is recognised, a split is empty, or images and masks do not pair.
    """

    def __init__(
        self, card: Card, root: Path, splits: Splits | None = None, patient: re.Pattern[str] | None = None
    ) -> None:
        self.name = card.name
        self.card = card
        self.root = root.resolve()
        self._patient = patient
        self._fingerprint: str | None = None
        if not self.root.is_dir():
            raise DataError(f"The dataset {card.name} should be in {self.root}, but there is no such folder.")
        if splits is None:
            self.root, splits = _recognise(self.root)
        problems: list[str] = []
        self._cases: dict[Split, list[Case]] = {
            "train": self._scan("train", splits.train, problems),
            "valid": self._scan("valid", splits.valid, problems),
            "test": self._scan("test", splits.test, problems),
        }
        _raise_all(card.name, problems)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over split, label, id, patient and file hashes of every case; not over where the files are.

        Computing it reads every file and proves it whole, so that a damaged one is found before a run.

        Raises:
            DataError: Files are damaged, or a mask has another size than its image.
        """
        if self._fingerprint is None:
            digest, problems = hashlib.sha256(), []
            for case in (case for split in SPLITS for case in self._cases[split]):
                image, mask = _file_hashes(case, problems)
                fields = (case.split, str(case.label), case.id, case.patient, image, mask)
                digest.update("".join(f"{field}\0" for field in fields).encode())
            _raise_all(self.name, problems)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def cases(self, split: Split) -> Sequence[Case]:
        """Normal cases, then anomalous ones, each sorted by file name."""
        return self._cases[split]

    def load(self, case: Case) -> Sample:
        """Reads one case: uint8 (H, W) and bool (H, W).

        Raises:
            DataError: A file is missing or damaged, or the mask has another size than the image.
        """
        image = read_grey(Path(case.image))
        if case.mask is None:
            return Sample(image, np.zeros(image.shape, dtype=bool))
        mask = read_mask(Path(case.mask))
        problem = _size_problem(case, image.shape[::-1], mask.shape[::-1])
        if problem:
            raise DataError(f"{problem}.")
        return Sample(image, mask)

    def _scan(self, split: Split, folders: SplitFolders, problems: list[str]) -> list[Case]:
        """Pairs the images of a split with their masks, without opening a file; adds to `problems` what is wrong."""
        normal = self._images(folders.normal, problems)
        anomalous = self._images(folders.anomalous, problems)
        if split == "train" and not normal:
            problems.append(f"the train split has no normal images in {self.root / (folders.normal or 'train/good')}")
        if split == "test" and not anomalous:
            kind = "anomalous images" if normal else "images"
            where = self.root / (folders.anomalous or "test/Ungood")
            problems.append(f"the test split has no {kind}; anomalous ones are expected in {where}")
        cases = [self._case(split, 0, path, None, problems) for path in normal]
        for path, mask in self._pairs(anomalous, folders.masks, problems):
            cases.append(self._case(split, 1, path, mask, problems))
        return _distinct(cases, problems)

    def _images(self, place: str | None, problems: list[str]) -> list[Path]:
        if place is None:
            return []
        found = _image_files(self.root, place)
        if not found and not (self.root / place).is_dir():
            problems.append(f"{self.root / place} is not a folder, and no image matches it as a pattern")
        return found

    def _pairs(
        self, images: Sequence[Path], place: str | None, problems: list[str]
    ) -> Iterable[tuple[Path, Path | None]]:
        if place is None:
            return []
        masks: defaultdict[str, list[Path]] = defaultdict(list)
        for path in _image_files(self.root, place):
            masks[path.stem].append(path)
        pairs = []
        for image in images:
            # The exact name wins: of the images a.png and a_seg.png, each has the mask of its own name.
            names = [image.stem] if image.stem in masks else [image.stem + suffix for suffix in _MASK_SUFFIXES]
            found = [path for name in names for path in masks.pop(name, [])]
            if not found:
                problems.append(
                    f"the anomalous image {image} has no mask; expected {self._mask_expected(image, place)}"
                )
            elif len(found) > 1:
                problems.append(f"the image {image} has several masks: {', '.join(map(str, found))}")
            pairs.append((image, found[0] if found else None))
        for paths in masks.values():
            problems += [f"the mask {path} belongs to no anomalous image of its name" for path in paths]
        return pairs

    def _mask_expected(self, image: Path, place: str) -> str:
        is_glob = any(character in place for character in "*?[") and not (self.root / place).is_dir()
        name = f"{image.stem}.png"
        return f"{name} among {self.root / place}" if is_glob else str(self.root / place / name)

    def _case(self, split: Split, label: int, image: Path, mask: Path | None, problems: list[str]) -> Case:
        if self._patient is None:
            patient = image.stem.rpartition("_")[0] or image.stem
        else:
            match = self._patient.search(image.stem)
            patient = match.group(1) if match else None
            if patient is None:
                problems.append(f"the card's patient pattern {self._patient.pattern!r} does not fit {image}")
        return Case(image.stem, patient or image.stem, split, label, str(image), None if mask is None else str(mask))


def open_folder(path: Path) -> FolderDataset:
    """Opens a folder in a known layout, or a YAML card.

    Raises:
        DataError: There is nothing there, or it is not understood.
    """
    if not path.exists():
        raise DataError(f"There is no dataset at {path}. Give a folder of images or a card (.yaml).")
    if path.is_dir():
        name = path.resolve().name
        return FolderDataset(Card(name, name, "unknown", "a local folder", "unknown", "unknown"), path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{path} is neither a folder nor a card (.yaml). If it is an archive, unpack it first.")
    card = read_card(path)
    return FolderDataset(card.card(), path.parent / card.root, card.splits, card.patient)


def read_card(path: Path) -> CardFile:
    """Reads a YAML card.

    Raises:
        DataError: It is not YAML, or a key is unknown, missing or wrong.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return CardFile.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"The card {path} cannot be read: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        wrong = "; ".join(_key_problem(each["loc"], each["type"], each["msg"]) for each in error.errors())
        raise DataError(f"The card {path} is not right: {wrong}.") from error


def subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The subfolder with one of these names in whatever case; where there are several, the one named first."""
    wanted = {name.lower(): rank for rank, name in reversed(list(enumerate(names)))}
    found = [path for path in _entries(folder) if path.name.lower() in wanted and path.is_dir()]
    return min(found, key=lambda path: wanted[path.name.lower()], default=None)


def _key_problem(place: tuple[int | str, ...], kind: str, message: str) -> str:
    """One finding of pydantic, as `key: what is wrong with it`."""
    key = ".".join(str(part) for part in place)
    if kind != "extra_forbidden":
        text = message.removeprefix("Value error, ")
        return f"{key}: {text}" if key else text
    known = list(
        (CardFile, Splits, SplitFolders)[len(place) - 1].model_fields
    )  # unknown keys are one level deeper each
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    suggestion = f"did you mean {near[0]!r}? " if near else ""
    return f"{key} is not a key of a card; {suggestion}known are {', '.join(known)}"


def _recognise(root: Path) -> tuple[Path, Splits]:
    """Finds the splits in a folder, or in the only folder inside it, as archives unpack."""
    inside = [path for path in _entries(root) if path.is_dir() and path.name != "__MACOSX"]
    alone = len(inside) == 1 and not _image_files(root, ".")
    for folder in (root, inside[0]) if alone else (root,):
        train, valid, test = (subfolder(folder, names) for names in (_TRAIN, _VALID, _TEST))
        if train or valid or test:
            normal_only = SplitFolders(normal=_split_folders(folder, train, _TRAIN).normal)
            return folder, Splits(
                train=normal_only,
                valid=_split_folders(folder, valid, _VALID),
                test=_split_folders(folder, test, _TEST),
            )
    names = [path.name for path in _entries(root)]
    there = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"
    raise DataError(
        f"No train, valid or test folder was found in {root}; it holds {there}. "
        f"These layouts are understood: {_LAYOUTS}. For another one, write a card (.yaml) that names the folders."
    )


def _split_folders(root: Path, folder: Path | None, names: Sequence[str]) -> SplitFolders:
    if folder is None:
        return SplitFolders()
    # The older layout repeats the split's name and keeps the masks apart: test/test/Ungood and test/test_labels/Ungood.
    holder = subfolder(folder, names) or folder
    labels = subfolder(folder, [f"{name}_{end}" for name in names for end in ("labels", "label")])
    normal, anomalous = subfolder(holder, _NORMAL), subfolder(holder, _ANOMALOUS)
    masks = None
    if anomalous is not None and labels is not None:
        masks = subfolder(labels, _ANOMALOUS) or labels / anomalous.name
    elif anomalous is not None:
        masks = subfolder(anomalous, _MASKS) or anomalous / _MASKS[0]

    def relative(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(root).as_posix()

    return SplitFolders(
        normal=relative(normal and (subfolder(normal, _IMAGES) or normal)),
        anomalous=relative(anomalous and (subfolder(anomalous, _IMAGES) or anomalous)),
        masks=relative(masks),
    )


def _image_files(root: Path, place: str) -> list[Path]:
    """The image files in a folder, or those that a glob matches, sorted by name; hidden ones are left out."""
    folder = root / place
    try:
        found = _entries(folder) if folder.is_dir() else list(root.glob(place))
    except ValueError as error:
        raise DataError(f"{place!r} is not a pattern of files in {root}: {error}.") from error
    images = [path for path in found if path.suffix.lower() in ENDINGS and not path.name.startswith(".")]
    return sorted((path for path in images if path.is_file()), key=lambda path: (path.name, path))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, by name."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _distinct(cases: Sequence[Case], problems: list[str]) -> list[Case]:
    """Ids are file names; one that stands for a normal and an anomalous image gets its folder's name as well."""
    first: dict[tuple[int, str], Case] = {}
    for case in cases:
        other = first.setdefault((case.label, case.id), case)
        if other is not case:
            problems.append(f"{other.image} and {case.image} have the same name, so that their ids would be the same")
    count = Counter(name for _, name in first)
    return [
        replace(case, id=f"{'Ungood' if case.label else 'good'}/{case.id}") if count[case.id] > 1 else case
        for case in cases
    ]


def _file_hashes(case: Case, problems: list[str]) -> tuple[str, str]:
    """The SHA-256 of a case's image and mask files, an empty text for no mask; adds to `problems` what is wrong."""
    hashes, sizes = [], []
    for place in (case.image, case.mask):
        if place is None:
            continue
        try:
            file_hash, size = inspect(Path(place))
        except DataError as error:
            problems.append(str(error).rstrip("."))
            continue
        hashes.append(file_hash)
        sizes.append(size)
    if len(sizes) == 2 and (problem := _size_problem(case, *sizes)):
        problems.append(problem)
    return hashes[0] if hashes else "", hashes[1] if len(hashes) == 2 else ""


def _size_problem(case: Case, image: tuple[int, ...], mask: tuple[int, ...]) -> str | None:
    if image == mask:
        return None
    return (
        f"the image {case.image} has {image[0]} x {image[1]} pixels and its mask {case.mask} has {mask[0]} x {mask[1]}: "
        "replace the one that is wrong"
    )


def _raise_all(name: str, problems: Sequence[str]) -> None:
    if not problems:
        return
    shown = "".join(f"\n- {problem}" for problem in problems[:_SHOWN])
    more = f"\nand {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise DataError(f"The dataset {name} cannot be used; it has {count}:{shown}{more}")
