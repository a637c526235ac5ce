"""A folder of images with masks as a dataset: BMAD's layouts, recognised, or a YAML card that says where things are."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..harness.api import SPLITS, BrokenDatasetError, Case, DataError, Dataset, Sample, Split, VolumeGrid
from ..harness.files import path_text
from .card import CardFile, SplitFolders, Splits
from .hints import dataset_near, entries, holding, holds_splits, mvtec, subfolder
from .images import IMAGE_ENDINGS, inspect
from .pairing import masks_among, pairing_problems
from .passing import passed_over
from .patients import patients_in_names
from .reading import Reading
from .slices import SlicePlaces
from .volume_files import explain_volumes

# The first name is BMAD's own, the others are met elsewhere; upper and lower case are the same.
_SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
_NORMAL = ("good", "normal")
_ANOMALOUS = ("Ungood", "bad", "anomalous", "abnormal")
_IMAGES = ("img", "image", "images")
_MASKS = ("anomaly_mask", "label", "labels", "mask", "masks")
_LAYOUTS = (
    "train, valid and test, each with good/img, Ungood/img and Ungood/anomaly_mask or Ungood/label; "
    "or train/good and, for valid and test alike, test/test/good, test/test/Ungood and test/test_labels/Ungood, "
    "or test/img/good, test/img/Ungood and test/label/Ungood"
)
_BIDS_PATIENT = re.compile(r"(?:^|_)(sub-[A-Za-z0-9]+)")
_DEPTH = 5  # folders around the splits; a link to its own folder would make them endless
_SHOWN = 5  # problems told of a dataset


class FolderDataset(Dataset):
    """Images and masks in folders; a mask has the name of its image, though its ending may differ.

    Where the card says that only images are annotated, no mask is looked for.

    Args:
        card: The facts about the dataset, and where in `root` its files are.
        root: The folder that holds the splits.
        carded: Whether somebody wrote the card: then it is where to say what the files do not.

    Raises:
        DataError: No layout is recognised, a split is empty, or images and masks do not pair.
    """

    of_files = True

    def __init__(self, card: CardFile, root: Path, *, carded: bool = True) -> None:
        self.name = card.name
        self.card = card.card()
        self._card_file = card
        self._fingerprint: str | None = None
        self._root = root.resolve()
        if not self._root.is_dir():
            raise DataError(f"The dataset {self.name} should be in {self._root}, but there is no such folder.")
        self._root, splits = (self._root, card.splits) if card.splits else _recognise(self._root)
        self._splits = splits
        self._places = SlicePlaces(card, self._root)
        problems: list[str] = []
        self._cases: dict[Split, list[Case]] = {
            "train": self._scan("train", splits.train, problems),
            "valid": self._scan("valid", splits.valid, problems),
            "test": self._scan("test", splits.test, problems),
        }
        cases = [case for split in SPLITS for case in self._cases[split]]
        problems += self._places.problems(cases)
        self._reading = Reading(card, cases, self._normal_masks(), None if carded else self._root)
        self._raise(problems)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over the split, label, id, patient and files of every case, but not over where the files are.

        Computing it proves every file whole, so that a damaged one is found before a run.

        Raises:
            DataError: Files are damaged, or a mask has another size than its image.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256()
            problems: list[str] = []
            for case in (case for split in SPLITS for case in self._cases[split]):
                try:
                    image, size = inspect(Path(case.image))
                    mask, mask_size = inspect(Path(case.mask)) if case.mask else ("", size)
                    _check_sizes(case, size, mask_size)
                except DataError as error:
                    problems.append(str(error))
                else:
                    told = (case.split, str(case.label), case.id, case.patient, image, mask)
                    digest.update("".join(f"{each}\0" for each in told).encode(errors="surrogateescape"))
            self._raise(problems)
            card = self._card_file
            if (card.lesion, card.bits) != (None, None):
                digest.update(repr((card.lesion, card.bits)).encode())
            if (card.intensity, card.percentiles) != (None, None):
                digest.update(repr((card.intensity, card.percentiles)).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def cases(self, split: Split) -> Sequence[Case]:
        """Normal cases, then anomalous ones, each sorted by name."""
        return self._cases[split]

    def load(self, case: Case) -> Sample:
        image = self._reading.image(Path(case.image))
        mask = self._reading.mask(Path(case.mask)) if case.mask else np.zeros(image.shape, dtype=bool)
        _check_sizes(case, image.shape, mask.shape)
        return Sample(image, mask)

    def grid(self, volume: str) -> VolumeGrid | None:
        return self._places.geometry.get(volume)

    def notes(self) -> tuple[str, ...]:
        """How images and masks are read, which files are passed over, and what names may say of patients.

        Raises:
            BrokenDatasetError: It is unclear which mask values mean lesion, or a file cannot be read.
        """
        self._raise(self._reading.problems)
        volumes = self._card_file.volumes.notes() if self._card_file.volumes else ()
        cases = [case for split in SPLITS for case in self._cases[split]]
        patients = patients_in_names(cases) if self._card_file.patient is None else ()
        places = self._places.notes(cases)
        return (*volumes, *self._reading.notes(), *self._passed_over(), *patients, *places)

    def _passed_over(self) -> Iterator[str]:
        cases = [case for split in SPLITS for case in self._cases[split]]
        used = {case.image for case in cases} | {case.mask for case in cases if case.mask}
        used |= {str(path) for path in self._normal_masks()}
        if self._card_file.splits is None:
            return passed_over(self._root, [self._root], used)
        places = [place for split in SPLITS for place in getattr(self._splits, split).places()]
        return passed_over(self._root, [self._root / place for place in places if (self._root / place).is_dir()], used)

    def _normal_masks(self) -> list[Path]:
        """Masks of normal images, where a recognised layout has some; they are not used."""
        found: list[Path] = []
        for split in SPLITS if self._card_file.splits is None else ():
            folders: SplitFolders = getattr(self._splits, split)
            if folders.normal is None or self.card.annotation != "mask":
                continue
            normal = self._root / folders.normal
            beside = normal.parent if normal.name.lower() in _IMAGES else normal
            places = [subfolder(beside, _MASKS)]
            masks = self._root / folders.masks if folders.masks else None
            if masks is not None and masks.name.lower() in (name.lower() for name in _ANOMALOUS):
                places.append(subfolder(masks.parent, _NORMAL) if masks.parent != normal.parent else None)
            names = {Path(case.image).stem for case in self._cases[split] if not case.label}
            found += [
                path
                for place in places
                if place is not None
                for path in entries(place)
                if path.suffix.lower() in IMAGE_ENDINGS and path.stem in names
            ]
        return found

    def _hint(self, split: Split, place: str) -> str:
        """A sentence that suggests another folder, where this one has no images."""
        if self._card_file.splits is not None:
            folder = self._root / place
            return f" It {holding(folder)}" if folder.is_dir() else ""
        folder = subfolder(self._root, _SPLIT_NAMES[split])
        if folder is None:
            return f" It {holding(self._root)}"
        if split == "test" and (found := mvtec(self._root, folder, _NORMAL)):
            return f" {found}"
        nearest = self._root / place
        while not nearest.is_dir() or (nearest != folder and not entries(nearest)):
            nearest = nearest.parent
        return f" It {holding(nearest)}"

    def _scan(self, split: Split, folders: SplitFolders, problems: list[str]) -> list[Case]:
        """Pairs the images of a split with their masks, without opening a file; adds to `problems` what is wrong."""
        normal = self._named_images(folders.normal, problems)
        anomalous = self._named_images(folders.anomalous, problems)
        has_masks = self.card.annotation == "mask"
        masks = self._named_images(folders.masks if has_masks else None, problems)
        for kind, place, found in (("normal", folders.normal, normal), ("anomalous", folders.anomalous, anomalous)):
            # Folders that a card names must exist: a spelling mistake is not an empty split.
            needed = self._card_file.splits is not None or (split, kind) in (("train", "normal"), ("test", "anomalous"))
            if place is not None and needed and not found:
                problems.append(
                    f"The {split} split has no {kind} images at {self._root / place}.{self._hint(split, place)}"
                )
        problems += masks_among(normal | anomalous)
        if has_masks and (anomalous or masks):
            place, mask_place = self._root / str(folders.anomalous), self._root / str(folders.masks)
            if masks or not mask_place.is_dir() or not entries(mask_place):
                problems += pairing_problems(anomalous, masks, place, mask_place)
            else:
                problems.append(
                    f"None of the {len(anomalous):,} images at {place} has a mask at {mask_place}. It "
                    f"{holding(mask_place)}"
                )
        cases = []
        for label, images in enumerate((normal, anomalous)):
            for name, path in images.items():
                # A normal and an anomalous image may share a name, but ids are unique.
                unique = f"{(_NORMAL, _ANOMALOUS)[label][0]}/{name}" if name in normal and name in anomalous else name
                mask = str(masks.get(name, "")) if label and has_masks else None
                patient, place = self._patient(name, path, problems), self._places.of(split, name, path)
                cases.append(Case(unique, patient, split, label, str(path), mask, *place))
        return cases

    def _named_images(self, place: str | None, problems: list[str]) -> dict[str, Path]:
        """The image files in a folder, or those that a glob matches, by their names without ending, sorted."""
        if place is None:
            return {}
        folder = self._root / place
        try:
            found = entries(folder) if folder.is_dir() else sorted(self._root.glob(place))
        except (ValueError, NotImplementedError) as error:
            raise DataError(
                f"{place!r} is neither a folder nor a pattern of files in {self._root}: {error}."
            ) from error
        named: dict[str, Path] = {}
        for path in found:
            if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith("."):
                # One name has several spellings in Unicode, and archives made on macOS use another one than Linux.
                other = named.setdefault(unicodedata.normalize("NFC", path_text(path.stem)), path)
                if other is not path:
                    problems.append(f"{other} and {path} have the same name, which must tell a case. Rename one.")
        return dict(sorted(named.items()))

    def _patient(self, name: str, path: Path, problems: list[str]) -> str:
        pattern = self._card_file.patient
        stem = name.rpartition("_")[0] or name
        if pattern is None:
            bids = _BIDS_PATIENT.search(name)
            return bids.group(1) if bids else stem
        match = pattern.search(stem if self._card_file.volumes else name)
        if match is None or not match.group(1):
            problems.append(f"The card's patient pattern {pattern.pattern!r} does not fit {path}.")
            return name
        return match.group(1)

    def _raise(self, problems: Sequence[str]) -> None:
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            shown = "".join(f"\n- {problem}" for problem in problems[:_SHOWN])
            more = f"\nand {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else ""
            text = (
                f"The dataset {self.name} cannot be used; it has {count}:{shown}{more}\n"
                "bench data verify lists all of a dataset's problems."
            )
            raise BrokenDatasetError(text, problems, self)


def open_folder(path: Path) -> FolderDataset:
    """Opens a folder in a known layout, or a YAML card.

    Raises:
        DataError: There is nothing there, or it is not understood.
    """
    if not path.exists():
        raise DataError(f"There is no dataset at {path.absolute()}. Give a folder of images or a card (.yaml).")
    if path.is_dir():
        return FolderDataset(CardFile(name=path_text(path.resolve().name), origin="a local folder"), path, carded=False)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{path} is neither a folder nor a card (.yaml). bench data add registers an archive.")
    card = CardFile.read(path)
    return FolderDataset(card, card.folder(path))


def _recognise(root: Path) -> tuple[Path, Splits]:
    """Finds the folder that holds the splits: the root, or one that archives wrap around it and nothing else."""
    chain = [root]
    while len(inside := [path for path in entries(chain[-1]) if path.is_dir()]) == 1 and len(chain) < _DEPTH:
        chain += inside
    # BMAD's own archive has chains such as Liver/Train/hist_DIY: the folder with the most splits is taken.
    counts = [sum(subfolder(folder, names) is not None for names in _SPLIT_NAMES.values()) for folder in chain]
    folder = chain[counts.index(max(counts))]
    needed = [_SPLIT_NAMES["train"], _SPLIT_NAMES["test"]]
    if not holds_splits(folder, needed) and (near := dataset_near(root, needed)):
        raise DataError(near)
    if max(counts) == 0:
        volumes = explain_volumes(root)
        raise DataError(
            f"No train, valid or test folder was found in {root}; it {holding(root)} "
            f"These layouts are understood: {_LAYOUTS}. For another one, write a card (.yaml) that names the folders."
            f"{f' {volumes}' if volumes else ''}"
        )
    train, valid, test = (_split_folders(folder, names) for names in _SPLIT_NAMES.values())
    return folder, Splits(train=SplitFolders(normal=train.normal), valid=valid, test=test)


def _split_folders(root: Path, names: Sequence[str]) -> SplitFolders:
    split = subfolder(root, names) or root / names[0]
    # Images and masks may be apart in test/test and test/test_labels, as in RESC, or in test/img and test/label.
    images = subfolder(split, (*names, *_IMAGES)) or split
    masks = subfolder(split, (*(f"{name}_{end}" for name in names for end in ("labels", "label")), *_MASKS))
    normal = subfolder(images, _NORMAL) or images / _NORMAL[0]
    anomalous = subfolder(images, _ANOMALOUS) or images / _ANOMALOUS[0]
    if masks is None:
        masks = subfolder(anomalous, _MASKS) or anomalous / _MASKS[0]
    else:
        masks = subfolder(masks, _ANOMALOUS) or masks / _ANOMALOUS[0]
    return SplitFolders(
        normal=(subfolder(normal, _IMAGES) or normal).relative_to(root).as_posix(),
        anomalous=(subfolder(anomalous, _IMAGES) or anomalous).relative_to(root).as_posix(),
        masks=masks.relative_to(root).as_posix(),
    )


def _check_sizes(case: Case, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image != mask:
        turned = " One is the other turned, perhaps by its EXIF." if image == mask[::-1] else ""
        raise DataError(
            f"The image {case.image} has {image[1]} x {image[0]} pixels, but its mask {case.mask} has "
            f"{mask[1]} x {mask[0]}.{turned} Replace the one that is wrong."
        )
