"""A folder of images with masks as a dataset: BMAD's layouts, recognised, or a YAML card that says where things are."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..harness.api import SPLITS, BrokenDatasetError, Case, DataError, Dataset, Sample, Split, VolumeGrid
from ..harness.files import path_text
from .borrowing import notes_on_base, problems_of_base
from .card import CardFile
from .foreground_files import ForegroundFiles
from .found import FoundImage
from .hints import wrapped
from .inspecting import Inspected, inspect_all, proved
from .listing import ListedImages
from .patients import patient_by_name, patients_in_names
from .patterns import search
from .reading import Reading
from .scanning import ScannedFolders
from .slices import SlicePlaces

CARD = "card.yaml"
"""The card that a folder may hold."""

_SHOWN = 5  # problems told of a dataset


class FolderDataset(Dataset):
    """Images and masks in folders; a mask has the name of its image, though its ending may differ.

    A card may name folders, a suffix of masks, or a table that lists images and masks. Where it says that only images
    are annotated, no mask is looked for.

    Args:
        card: The facts about the dataset, and where in `root` its files are.
        root: The folder that holds the splits or the table.
        carded: Whether somebody wrote the card: then it is where to say what the files do not.
        base: The dataset of which train and validation splits are taken; then only the test split is looked for.

    Raises:
        DataError: No layout is recognised, a split is empty, or images and masks do not pair.
    """

    of_files = True

    def __init__(self, card: CardFile, root: Path, *, carded: bool = True, base: "FolderDataset | None" = None) -> None:
        self.name = card.name
        self._card_file = card
        self._base = base
        self._fingerprint: str | None = None
        self._root = root.resolve()
        if not self._root.is_dir():
            raise DataError(f"The dataset {self.name} should be in {self._root}, but there is no such folder.")
        self._top = self._root
        self._found = (ListedImages if card.table else ScannedFolders)(card, self._root, ("test",) if base else SPLITS)
        self._root = self._found.root
        self._tells_patients = card.patient is not None or any(each.patient for each in self._found.images)
        self.guesses_patients = not self._tells_patients or (base is not None and base.guesses_patients)
        self._places = SlicePlaces(card, self._root)
        problems = list(self._found.problems)
        self._own = [self._case(each, problems) for each in self._found.images]
        self._masks = {
            case.image: each.masks for case, each in zip(self._own, self._found.images, strict=True) if case.mask
        }
        self._cases: dict[Split, Sequence[Case]] = {
            split: base.cases(split)
            if base and split != "test"
            else [case for case in self._own if case.split == split]
            for split in SPLITS
        }
        problems += self._places.problems(self._own)
        if base and card.foreground is None and base.card.foreground != "masks":
            card = card.model_copy(update={"foreground": base.card.foreground})
        self._foregrounds = ForegroundFiles(card.foreground or "all")
        problems += self._foregrounds.problems(self._own)
        masks = [mask for of_image in self._masks.values() for mask in of_image]
        self._reading = Reading(card, self._own, masks, self._found.spare, None if carded else self._root)
        self.card = card.card(self._reading.channels)
        problems += problems_of_base(self, base) if base else ()
        self._raise(problems)

    @property
    def root(self) -> Path:
        """The folder of its files."""
        return self._root

    @property
    def is_coloured(self) -> bool:
        """Whether half of its images or more are in colour; all of them are looked at."""
        return 2 * self._reading.facts.coloured.count >= len(self._own)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over the split, label, id, patient and files of every case, but not over where the files are.

        Where train and validation splits are another dataset's, all of that one is in it too.

        Computing it proves every file whole, so that a damaged one is found before a run.

        Raises:
            DataError: Files are damaged, or a mask has another size than its image.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256()
            problems: list[str] = []
            if self._base:
                digest.update(self._base.fingerprint.encode())
            files = [[Path(case.image), *self._masks.get(case.image, ())] for case in self._own]
            found = inspect_all([path for of_case in files for path in of_case])
            for case, of_case in zip(self._own, files, strict=True):
                try:
                    image, *masks = _digests(case, {path: found[path] for path in of_case})
                except DataError as error:
                    problems.append(str(error))
                else:
                    told = (case.split, str(case.label), case.id, case.patient, image, *(masks or [""]))
                    digest.update("".join(f"{each}\0" for each in told).encode(errors="surrogateescape"))
            self._raise(problems)
            digest.update(self._foregrounds.hashed(self._own))
            card = self._card_file
            if (card.lesion, card.bits) != (None, None):
                digest.update(repr((card.lesion, card.bits)).encode())
            if (card.intensity, card.percentiles) != (None, None):
                digest.update(repr((card.intensity, card.percentiles)).encode())
            if card.dtype is not None:
                digest.update(card.dtype.encode())
            if self.card.channels != "grey":
                digest.update(self.card.channels.encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def cases(self, split: Split) -> Sequence[Case]:
        """Normal cases, then anomalous ones, each sorted by name."""
        return self._cases[split]

    def load(self, case: Case) -> Sample:
        if self._base and case.split != "test":
            return self._base.load(case)
        image = self._reading.image(Path(case.image))
        lesion = np.zeros(image.shape[:2], dtype=bool)
        for path in self._masks.get(case.image, ()):
            mask = self._reading.mask(path)
            _check_sizes(case, path, lesion.shape, mask.shape)
            lesion |= mask
        return Sample(image, lesion)

    def foreground(self, case: Case) -> np.ndarray | None:
        if self._base and case.split != "test":
            return self._base.foreground(case)
        return self._foregrounds.read(case, self._reading.image(Path(case.image)).shape[:2])

    def grid(self, volume: str) -> VolumeGrid | None:
        return self._places.geometry.get(volume) or (self._base.grid(volume) if self._base else None)

    def notes(self) -> tuple[str, ...]:
        """How images and masks are read, which files are passed over, and what names may say of patients.

        Raises:
            BrokenDatasetError: It is unclear which mask values mean lesion, or a file cannot be read.
        """
        self._raise([*self._reading.problems, *self._contradictions()])
        volumes = self._card_file.volumes.notes() if self._card_file.volumes else ()
        patients = () if self._tells_patients else patients_in_names(self._own)
        places = self._places.notes(self._own)
        of_files = (*self._reading.notes(), *self._united(), *self._passed_over())
        notes = (*volumes, *of_files, *self._numbers(), *patients, *places)
        of_base = notes_on_base(self, self._base, self._base.root) if self._base else ()
        return (*of_base, *notes, *self._linked())

    def _contradictions(self) -> Iterator[str]:
        """What a table says of an image, and the mask that it names there says otherwise."""
        ill = self._reading.facts.ill if self._card_file.table and self._found.spare else None
        if ill and ill.count:
            yield (
                f"{ill.told('normal image', 'has', 'have')} a mask with a lesion, but the label of a normal image in "
                "the table. Mend the label, or the mask."
            )

    def _united(self) -> Iterator[str]:
        """Says which images have several masks."""
        several = [masks for masks in self._masks.values() if len(masks) > 1]
        if several:
            images = "1 image has" if len(several) == 1 else f"{len(several):,} images have"
            first, second, *_ = several[0]
            yield (
                f"{images} several masks, {sum(map(len, several)):,} in all, such as {first} and {second.name}. Lesion "
                "is what any of them marks."
            )

    def _passed_over(self) -> Iterator[str]:
        spare = {*self._found.spare, *self._foregrounds.files(self._own)}
        return self._found.passed_over({*self._files(), *map(str, spare)})

    def _files(self) -> Iterator[str]:
        """The paths of all images and masks."""
        for case in self._own:
            yield case.image
            yield from map(str, self._masks.get(case.image, ()))

    def _linked(self) -> Iterator[str]:
        """Says which files are read outside of the dataset's folder, because links in it lead there."""
        inside = f"{self._top}{os.sep}"  # texts: paths of tens of thousands of files take a second
        below = [path for path in self._files() if path.startswith(inside)]
        away = [path for path in below if not os.path.realpath(path).startswith(inside)]
        if away:
            yield (
                f"{len(away):,} files are read outside of the folder {self._top}, because links lead there, such as "
                f"{away[0]} to {os.path.realpath(away[0])}."
            )

    def _numbers(self) -> Iterator[str]:
        """Says where names are numbers within their folders, so that each image is taken for a patient of its own."""
        numbered = [each.image for each in self._found.images if each.is_numbered and each.patient is None]
        if numbered and self._card_file.patient is None:
            yield (
                f"The names of {len(numbered):,} images are numbers within their folders, such as {numbered[0]}, and "
                "tell no patient: each image counts as a patient of its own. What is of one patient belongs in one "
                "split, and intervals draw patients. A table with a column patient says who it is."
            )

    def _case(self, found: FoundImage, problems: list[str]) -> Case:
        """A case with its patient and its place in a volume; adds to `problems` what is wrong."""
        has_mask = found.label and self._card_file.annotation == "mask"
        mask = str(next(iter(found.masks), "")) if has_mask else None
        patient = self._patient(found, problems)
        place = self._places.of(found.split, found.name, found.image)
        return Case(found.id, patient, found.split, found.label, str(found.image), mask, *place)

    def _patient(self, found: FoundImage, problems: list[str]) -> str:
        pattern, name = self._card_file.patient, found.name
        if found.patient is not None:
            return found.patient
        if pattern is None:
            return found.id if found.is_numbered else patient_by_name(name)
        match = search(pattern, (name.rpartition("_")[0] or name) if self._card_file.volumes else name)
        if match is None or not match.group(1):
            problems.append(f"The card's patient pattern {pattern.pattern!r} does not fit {found.image}.")
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
    """Opens a folder in a known layout, or one that holds a card (`card.yaml`), or a card.

    Raises:
        DataError: There is nothing there, or it is not understood.
    """
    return open_card(*card_of(path))


def open_card(card: CardFile, file: Path) -> FolderDataset:
    """Opens a dataset of which the card is known already.

    Args:
        card: The card.
        file: Where it is, or would be: its paths are relative to that folder.

    Raises:
        DataError: The dataset, or the one from which it takes splits, is not there or not understood.
    """
    return FolderDataset(card, card.folder(file), carded=file.exists(), base=open_base(card, file))


def card_of(path: Path) -> tuple[CardFile, Path]:
    """The card of a dataset, and its file; a folder without one has a card that says nothing, and is not there.

    Args:
        path: A folder, or a card.

    Raises:
        DataError: There is nothing there, or the card is not right.
    """
    if not path.exists():
        raise DataError(f"There is no dataset at {path.absolute()}. Give a folder of images or a card (.yaml).")
    file = _card_in(path) if path.is_dir() else path
    if file is None:
        return CardFile(name=path_text(path.resolve().name), origin="a local folder"), path / CARD
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{path} is neither a folder nor a card (.yaml). bench data add registers an archive.")
    return CardFile.read(file), file


def open_base(card: CardFile, file: Path) -> FolderDataset | None:
    """Opens the dataset of which a card takes train and validation splits; `None` where it has its own.

    Args:
        card: The card.
        file: Where it is, or would be.

    Raises:
        DataError: The other dataset is not there, not understood, or cannot give them.
    """
    path = card.base(file)
    if path is None:
        return None
    takes = f"{card.name} takes its train and validation splits from {path}"
    if not path.exists():
        raise DataError(f"{takes}, and there is nothing. Mend train_from on its card, which is relative to the card.")
    other, place = card_of(path)
    if other.train_from is not None:
        raise DataError(f"{takes}, which takes its own from {other.train_from}. Name that dataset in train_from.")
    base = open_card(other, place)
    if other.annotation != card.annotation:
        raise DataError(
            f"{takes}, whose annotation is {other.annotation}, and that of {card.name} is {card.annotation}. Both must "
            "have the same."
        )
    return base


def _card_in(folder: Path) -> Path | None:
    """The card in a folder, or in one that an archive wrapped around it."""
    return next((each / CARD for each in wrapped(folder) if (each / CARD).is_file()), None)


def _digests(case: Case, found: Mapping[Path, Inspected | DataError]) -> list[str]:
    """The hashes of a case's image and of its masks, which are whole and have the size of the image."""
    digests = []
    size = None
    for path, one in found.items():
        digest, own_size = proved(one)
        size = size or own_size
        _check_sizes(case, path, size, own_size)
        digests.append(digest)
    return digests


def _check_sizes(case: Case, path: Path, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image != mask:
        turned = " One is the other turned, perhaps by its EXIF." if image == mask[::-1] else ""
        raise DataError(
            f"The image {case.image} has {image[1]} x {image[0]} pixels, but its mask {path} has "
            f"{mask[1]} x {mask[0]}.{turned} Replace the one that is wrong."
        )
