"""A folder of images with masks as a dataset: BMAD's layouts, recognised, or a YAML card that says where things are."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..harness.api import SPLITS, BrokenDatasetError, Case, DataError, Dataset, Sample, Split, VolumeGrid
from ..harness.files import path_text
from .card import CardFile
from .found import FoundImage
from .hints import wrapped
from .images import inspect
from .listing import ListedImages
from .patients import patients_in_names
from .reading import Reading
from .scanning import ScannedFolders
from .slices import SlicePlaces

CARD = "card.yaml"
"""The card that a folder may hold."""

_BIDS_PATIENT = re.compile(r"(?:^|_)(sub-[A-Za-z0-9]+)")
_SHOWN = 5  # problems told of a dataset


class FolderDataset(Dataset):
    """Images and masks in folders; a mask has the name of its image, though its ending may differ.

    A card may name folders, a suffix of masks, or a table that lists images and masks. Where it says that only images
    are annotated, no mask is looked for.

    Args:
        card: The facts about the dataset, and where in `root` its files are.
        root: The folder that holds the splits or the table.
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
        self._found = (ListedImages if card.table else ScannedFolders)(card, self._root, SPLITS)
        self._root = self._found.root
        self._places = SlicePlaces(card, self._root)
        problems = list(self._found.problems)
        cases = [self._case(each, problems) for each in self._found.images]
        self._cases: dict[Split, list[Case]] = {
            split: [case for case in cases if case.split == split] for split in SPLITS
        }
        problems += self._places.problems(cases)
        self._reading = Reading(card, cases, self._found.spare, None if carded else self._root)
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
        self._raise([*self._reading.problems, *self._contradictions()])
        volumes = self._card_file.volumes.notes() if self._card_file.volumes else ()
        cases = [case for split in SPLITS for case in self._cases[split]]
        told = self._card_file.patient is not None or any(each.patient for each in self._found.images)
        patients = () if told else patients_in_names(cases)
        places = self._places.notes(cases)
        return (*volumes, *self._reading.notes(), *self._passed_over(), *self._numbers(), *patients, *places)

    def _contradictions(self) -> Iterator[str]:
        """What a table says of an image, and the mask that it names there says otherwise."""
        ill = self._reading.facts.ill if self._card_file.table and self._found.spare else None
        if ill and ill.count:
            yield (
                f"{ill.told('normal image', 'has', 'have')} a mask with a lesion, but the label of a normal image in "
                "the table. Mend the label, or the mask."
            )

    def _passed_over(self) -> Iterator[str]:
        cases = [case for split in SPLITS for case in self._cases[split]]
        used = {case.image for case in cases} | {case.mask for case in cases if case.mask}
        return self._found.passed_over(used | {str(path) for path in self._found.spare})

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
        mask = str(found.mask or "") if found.label and self.card.annotation == "mask" else None
        patient = self._patient(found, problems)
        place = self._places.of(found.split, found.name, found.image)
        return Case(found.id, patient, found.split, found.label, str(found.image), mask, *place)

    def _patient(self, found: FoundImage, problems: list[str]) -> str:
        pattern, name = self._card_file.patient, found.name
        if found.patient is not None:
            return found.patient
        stem = name.rpartition("_")[0] or name
        if pattern is None:
            bids = _BIDS_PATIENT.search(name)
            return bids.group(1) if bids else found.id if found.is_numbered else stem
        match = pattern.search(stem if self._card_file.volumes else name)
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
    card, root = card_of(path)
    return FolderDataset(card, root, carded=not path.is_dir() or has_card(path))


def card_of(path: Path) -> tuple[CardFile, Path]:
    """The card of a dataset, and where its images are; a folder without a card has one that says nothing.

    Args:
        path: A folder, or a card.

    Raises:
        DataError: There is nothing there, or the card is not right.
    """
    if not path.exists():
        raise DataError(f"There is no dataset at {path.absolute()}. Give a folder of images or a card (.yaml).")
    file = _card_in(path) if path.is_dir() else path
    if file is None:
        return CardFile(name=path_text(path.resolve().name), origin="a local folder"), path
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{path} is neither a folder nor a card (.yaml). bench data add registers an archive.")
    card = CardFile.read(file)
    return card, card.folder(file)


def has_card(folder: Path) -> bool:
    """Whether a folder holds a card."""
    return _card_in(folder) is not None


def _card_in(folder: Path) -> Path | None:
    """The card in a folder, or in one that an archive wrapped around it."""
    return next((each / CARD for each in wrapped(folder) if (each / CARD).is_file()), None)


def _check_sizes(case: Case, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image != mask:
        turned = " One is the other turned, perhaps by its EXIF." if image == mask[::-1] else ""
        raise DataError(
            f"The image {case.image} has {image[1]} x {image[0]} pixels, but its mask {case.mask} has "
            f"{mask[1]} x {mask[0]}.{turned} Replace the one that is wrong."
        )
