"""A folder of images with masks as a dataset: BMAD's layouts, recognised, or a YAML card that says where things are."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..harness.api import SPLITS, Card, Case, DataError, Dataset, Sample, Split
from .images import ENDINGS, inspect, read_grey, read_mask

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val"),
    "test": ("test", "testing"),
}
_NORMAL = ("good", "normal")
_ANOMALOUS = ("ungood", "bad", "anomaly", "anomalous", "abnormal")
_IMAGES = ("img", "image", "images")
_MASKS = ("anomaly_mask", "label", "labels", "mask", "masks", "ground_truth")
_MASK_SUFFIX = re.compile(r"_(mask|label|seg|gt)$", re.IGNORECASE)
_LAYOUTS = (
    "<split>/good/img and <split>/Ungood/img with Ungood/anomaly_mask or Ungood/label, "
    "or train/good and test/test/{good,Ungood} with test/test_labels/Ungood"
)
_SHOWN = 5


class SplitFolders(BaseModel):
    """Where a card says the images of a split are: folders relative to the card's root."""

    model_config = ConfigDict(extra="forbid")

    normal: str | None = None
    anomalous: str | None = None
    masks: str | None = None


class CardFile(BaseModel):
    """A YAML card.

    Attributes:
        root: Where the images are, relative to the card.
        splits: Folders per split, for a root in none of the known layouts.
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
    splits: dict[Split, SplitFolders] | None = None
    patient: str | None = None

    def card(self) -> Card:
        about = self.model_dump(include={"name", "title", "modality", "origin", "licence", "citation", "counts"})
        return Card(**about | {"title": self.title or self.name})


class FolderDataset(Dataset):
    """Images and masks in folders.

    Args:
        card: What is known of the dataset; its name is the dataset's.
        root: The folder that holds the splits.
        splits: Folders per split; recognised from their names when `None`.
        patient: A regular expression whose group is the patient; by default the file name up to its last underscore.

    Raises:
        DataError: No layout is recognised, a split is empty, or images and masks do not pair.
    """

    def __init__(
        self, card: Card, root: Path, splits: dict[Split, SplitFolders] | None = None, patient: str | None = None
    ) -> None:
        self.name = card.name
        self.card = card
        self.root = root.resolve()
        self._patient = re.compile(patient) if patient else None
        self._fingerprint: str | None = None
        if splits is None:
            self.root, splits = _recognise(self.root)
        problems: list[str] = []
        self._cases = {split: self._scan(split, splits.get(split, SplitFolders()), problems) for split in SPLITS}
        if not self._cases["train"]:
            problems.append(f"the training split has no normal images in {self.root}")
        if not any(case.label for case in self._cases["test"]):
            problems.append(f"the test split has no anomalous images in {self.root}")
        _raise(self.name, problems)

    @property
    def fingerprint(self) -> str:
        """A hash over every file. Computing it proves each file whole, so a damaged one is found before a run.

        Raises:
            DataError: Files are damaged, or a mask has another size than its image.
        """
        if self._fingerprint is None:
            digest, problems = hashlib.sha256(), []
            for case in (case for split in SPLITS for case in self._cases[split]):
                try:
                    parts = self._inspect(case)
                except DataError as error:
                    problems.append(str(error).rstrip("."))
                    continue
                digest.update("\0".join([case.split, str(case.label), case.id, case.patient, *parts, ""]).encode())
            _raise(self.name, problems)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def cases(self, split: Split) -> Sequence[Case]:
        return self._cases[split]

    def load(self, case: Case) -> Sample:
        image = read_grey(Path(case.image))
        if case.mask is None:
            return Sample(image, image.astype(bool) & False)
        mask = read_mask(Path(case.mask))
        _check_sizes(case, image.shape, mask.shape)
        return Sample(image, mask)

    def _inspect(self, case: Case) -> list[str]:
        image_hash, image_shape = inspect(Path(case.image))
        if case.mask is None:
            return [image_hash]
        mask_hash, mask_shape = inspect(Path(case.mask))
        _check_sizes(case, image_shape, mask_shape)
        return [image_hash, mask_hash]

    def _scan(self, split: Split, folders: SplitFolders, problems: list[str]) -> list[Case]:
        normal = [self._case(split, 0, path) for path in _images(self._folder(folders.normal))]
        if split == "train":  # methods learn from normal images only
            return normal
        masks_folder = self._folder(folders.masks)
        masks = {_MASK_SUFFIX.sub("", path.stem): path for path in _images(masks_folder)}
        anomalous = []
        for path in _images(self._folder(folders.anomalous)):
            mask = masks.pop(_MASK_SUFFIX.sub("", path.stem), None)
            if mask is None:
                where = f"{masks_folder} holds no {path.stem}.png" if masks_folder else "no mask folder was found"
                problems.append(f"{path} has no mask: {where}")
            else:
                anomalous.append(replace(self._case(split, 1, path), mask=str(mask)))
        problems += [f"{path} is the mask of no image" for path in masks.values()]
        return _distinct([*normal, *anomalous])

    def _folder(self, name: str | None) -> Path | None:
        return None if name is None else self.root / name

    def _case(self, split: Split, label: int, path: Path) -> Case:
        if self._patient is None:
            patient = path.stem.rpartition("_")[0] or path.stem
        else:
            found = self._patient.search(path.stem)
            if not found or not found.groups():
                raise DataError(f"The card's patient pattern {self._patient.pattern!r} finds no group in {path.name}.")
            patient = found.group(1)
        return Case(path.stem, patient, split, label, str(path))


def open_folder(path: Path) -> FolderDataset:
    """Opens a folder in a known layout, or a YAML card.

    Raises:
        DataError: There is nothing there, or it is not understood.
    """
    if not path.exists():
        raise DataError(f"There is no dataset at {path}: neither a folder nor a card (.yaml).")
    if path.is_dir():
        name = path.resolve().name
        return FolderDataset(Card(name, name, "unknown", "a local folder", "unknown", "unknown"), path)
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
        raise DataError(f"The card {path} cannot be read: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the card"
        known = ", ".join(CardFile.model_fields)
        raise DataError(f"The card {path}: {key}: {first['msg']}. A card may hold {known}.") from error


def child(folder: Path, names: Iterable[str]) -> Path | None:
    """The subfolder with one of these names, whatever its case."""
    if not folder.is_dir():
        return None
    wanted = {name.lower() for name in names}
    return next((path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in wanted), None)


def _recognise(root: Path) -> tuple[Path, dict[Split, SplitFolders]]:
    """Finds the splits in a folder, or in the only folder inside it, as archives unpack."""
    found: dict[Split, SplitFolders] = {}
    for split, names in _SPLIT_NAMES.items():
        folder = child(root, names)
        if folder is not None:
            found[split] = _split_folders(root, folder, names)  # type: ignore[index]
    if found:
        return root, found
    inside = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")] if root.is_dir() else []
    if len(inside) == 1 and inside[0].is_dir():
        return _recognise(inside[0])
    there = ", ".join(path.name for path in inside[:8]) or "nothing"
    raise DataError(f"{root} is in no layout that is understood ({_LAYOUTS}). It holds {there}. A YAML card can say where things are.")


def _split_folders(root: Path, folder: Path, names: Sequence[str]) -> SplitFolders:
    nested = child(folder, names)  # the older layout repeats the split's name and keeps masks apart
    labels = child(folder, [f"{name}_labels" for name in names] + [f"{name}_label" for name in names])
    holder = nested or folder
    normal, anomalous = child(holder, _NORMAL), child(holder, _ANOMALOUS)
    masks = child(labels, _ANOMALOUS) if labels else anomalous and child(anomalous, _MASKS)

    def relative(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(root).as_posix()

    return SplitFolders(
        normal=relative(normal and (child(normal, _IMAGES) or normal)),
        anomalous=relative(anomalous and (child(anomalous, _IMAGES) or anomalous)),
        masks=relative(masks),
    )


def _images(folder: Path | None) -> list[Path]:
    if folder is None or not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))


def _distinct(cases: list[Case]) -> list[Case]:
    """Ids are file names; one that stands for a normal and an anomalous image gets its folder's name as well."""
    count = Counter(case.id for case in cases)
    return [
        replace(case, id=f"{'Ungood' if case.label else 'good'}/{case.id}") if count[case.id] > 1 else case for case in cases
    ]


def _check_sizes(case: Case, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image != mask:
        raise DataError(
            f"{case.image} is {image[1]} x {image[0]} pixels and its mask {case.mask} is {mask[1]} x {mask[0]}: they must agree."
        )


def _raise(name: str, problems: Sequence[str]) -> None:
    if problems:
        more = f" … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(f"The dataset {name} is broken: {'; '.join(problems[:_SHOWN])}{more}.")
