"""The images in the folders of the splits, paired with their masks by name."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import zip_longest
from pathlib import Path

from ..harness.api import DataError, Split
from ..harness.files import one_spelling, path_text
from .card import CardFile
from .found import FoundImage
from .hints import entries, holding, subfolder
from .image_files import IMAGE_ENDINGS
from .layouts import ANOMALOUS, IMAGES, MASKS, NORMAL, SPLIT_NAMES, Layout, recognise
from .pairing import image_of_mask, masks_among, pairing_problems
from .passing import passed_over
from .places import Place, SplitFolders, places_of

_REMEDY = "Move those to be used into the folders that are, or name folders or patterns of files on a card (.yaml)."


class ScannedFolders:
    """The images in the folders that a card names, or that are recognised. No file is opened.

    Args:
        card: It may name folders and a suffix of masks; it says whether images have masks.
        root: The folder that holds the splits.
        splits: The splits that are looked for.

    Attributes:
        root: The folder to which places are relative: that on the card, or the one that was recognised in it.
        images: What was found.
        spare: Masks of normal images, which are not used.
        problems: What is wrong, a sentence each.

    Raises:
        DataError: No layout is recognised, or a place on the card can be none.
    """

    def __init__(self, card: CardFile, root: Path, splits: Sequence[Split]) -> None:
        self._card = card
        self.layout = Layout(root, card.splits, "card") if card.splits else recognise(root, splits)
        self.root = self.layout.root
        self._suffix = card.mask_suffix or self.layout.mask_suffix
        self.images: list[FoundImage] = []
        self.spare: list[Path] = []
        self.problems: list[str] = []
        for split in splits:
            self._scan(split, getattr(self.layout.splits, split))
        self._folders = [place for split in splits for place in getattr(self.layout.splits, split).places()]

    def passed_over(self, used: Set[str]) -> Iterator[str]:
        """Says which files are not used, although they may be images."""
        whole = self._card.splits is None
        places = [self.root] if whole else [self.root / place for place in self._folders]
        suffix = f", or because the name of a mask ends with {self._suffix}" if self._suffix else ""
        why = f"the layout does not look there{suffix}"
        return passed_over(self.root, [place for place in places if place.is_dir()], used, why, _REMEDY)

    def _scan(self, split: Split, folders: SplitFolders) -> None:
        """Adds the images of a split, normal ones first."""
        normal: dict[str, Path] = {}
        anomalous: dict[str, Path] = {}
        masks: dict[str, tuple[Path, ...]] = {}
        for place, prefix in _named_places(folders.normal):
            found = self._named_images(place)
            self._check_found(split, "normal", place, found)
            normal |= {prefix + name: path for name, path in found.items()}
        has_masks = self._card.annotation == "mask"
        mask_places = places_of(folders.masks) if has_masks else ()
        for (place, prefix), mask_place in zip_longest(_named_places(folders.anomalous), mask_places):
            found, truths = self._named_images(place), self._named_masks(mask_place)
            self._check_found(split, "anomalous", place, found)
            if mask_place is not None and (found or truths):
                self._check_pairs(
                    found, {name: paths[0] for name, paths in truths.items()}, self.root / place, self.root / mask_place
                )
            anomalous |= {prefix + name: path for name, path in found.items()}
            masks |= {prefix + name: path for name, path in truths.items()}
        self.problems += self._masks_among(split, normal | anomalous, masks)
        numbered = {0: isinstance(folders.normal, tuple), 1: isinstance(folders.anomalous, tuple)}
        for label, images in enumerate((normal, anomalous)):
            for name, path in images.items():
                # A normal and an anomalous image may share a name, but ids are unique.
                unique = f"{(NORMAL, ANOMALOUS)[label][0]}/{name}" if name in normal and name in anomalous else name
                of_image = masks.get(name, ()) if label else ()
                number = numbered[label] and name.rpartition("/")[2].isdigit()
                self.images.append(FoundImage(unique, split, label, path, of_image, None, number))
        if has_masks:
            self.spare += self._masks_of_normal(folders, {path.stem for path in normal.values()})

    def _masks_among(self, split: Split, images: Mapping[str, Path], masks: Mapping[str, Sequence[Path]]) -> list[str]:
        """Why images are masks, or masks images."""
        told = list(masks_among(images, self._suffix))
        itself = next((path for name, path in images.items() if path in masks.get(name, ())), None)
        if itself and not told:
            told.append(
                f"The masks of the {split} split are its images, such as {itself}. Name the place of masks on the "
                "card, or how their names end, such as `mask_suffix: _mask`."
            )
        return told

    def _check_found(self, split: Split, kind: str, place: str, found: Mapping[str, Path]) -> None:
        """Refuses an empty place that is needed: a spelling mistake on a card is not an empty split."""
        needed = self._card.splits is not None or (split, kind) in (("train", "normal"), ("test", "anomalous"))
        if needed and not found:
            self.problems.append(
                f"The {split} split has no {kind} images at {self.root / place}.{self._hint(split, place)}"
            )

    def _check_pairs(
        self, images: Mapping[str, Path], masks: Mapping[str, Path], place: Path, mask_place: Path
    ) -> None:
        if images and not mask_place.is_dir() and not masks:
            self.problems.append(
                f"None of the {len(images):,} images at {place} has a mask: there is no {mask_place}. If only whole "
                "images are labelled, say `annotation: image` on a card (.yaml)."
            )
        elif masks or not entries(mask_place):
            self.problems += pairing_problems(images, masks, place, mask_place, self._suffix)
        else:
            of_name = f" whose name ends with {self._suffix}" if self._suffix else ""
            self.problems.append(
                f"None of the {len(images):,} images at {place} has a mask{of_name} at {mask_place}. It "
                f"{holding(mask_place)}"
            )

    def _hint(self, split: Split, place: str) -> str:
        """A sentence that suggests another folder, where this one has no images."""
        if self._card.splits is not None:
            folder = self.root / place
            return f" It {holding(folder)}" if folder.is_dir() else ""
        folder = subfolder(self.root, SPLIT_NAMES[split])
        if folder is None:
            return f" It {holding(self.root)}"
        nearest = self.root / place
        while not nearest.is_dir() or (nearest != folder and not entries(nearest)):
            nearest = nearest.parent
        return f" It {holding(nearest)}"

    def _named_images(self, place: str | None) -> dict[str, Path]:
        """The images at a place, by their names without ending, sorted."""
        return self._named(path for path in self._files(place) if not self._is_mask(path))

    def _named_masks(self, place: str | None) -> dict[str, tuple[Path, ...]]:
        """The masks at a place, by the names of their images without ending; a suffix tells several of an image."""
        if not self._suffix:
            return {name: (path,) for name, path in self._named(self._files(place)).items()}
        of_image: dict[str, tuple[Path, ...]] = {}
        for name, path in self._named(filter(self._is_mask, self._files(place))).items():
            image = image_of_mask(name, self._suffix)
            of_image[image] = (*of_image.get(image, ()), path)
        return of_image

    def _named(self, files: Iterable[Path]) -> dict[str, Path]:
        """Files by their names without ending, sorted."""
        named: dict[str, Path] = {}
        for path in files:
            name = _name(path)
            other = named.setdefault(name, path)
            if other is not path:
                self.problems.append(
                    f"{other} and {path} have the same name, which must tell a case. Rename one"
                    f"{', or list the folders on the card: [FIRST, SECOND]' if other.parent != path.parent else ''}."
                )
        return dict(sorted(named.items()))

    def _is_mask(self, path: Path) -> bool:
        """Whether a file is a mask by its suffix."""
        return bool(self._suffix and image_of_mask(_name(path), self._suffix))

    def _files(self, place: str | None) -> list[Path]:
        """The files with the ending of an image in a folder, or those that a pattern fits."""
        if place is None:
            return []
        folder = self.root / place
        try:
            found = entries(folder) if folder.is_dir() else sorted(self.root.glob(place))
        except (ValueError, NotImplementedError) as error:
            raise DataError(f"{place!r} is neither a folder nor a pattern of files in {self.root}: {error}.") from error
        return [path for path in found if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")]

    def _masks_of_normal(self, folders: SplitFolders, names: Set[str]) -> list[Path]:
        """Masks of normal images: beside them by the suffix, or where a recognised layout has some."""
        beside = [path for place in places_of(folders.normal) for path in self._files(place)] if self._suffix else []
        found = [path for path in beside if self._is_mask(path)]
        if self._card.splits is None and isinstance(folders.normal, str):
            for place in self._mask_places_of_normal(self.root / folders.normal, folders):
                found += [path for path in entries(place) if path.suffix.lower() in IMAGE_ENDINGS]
        return [path for path in found if (image_of_mask(path.stem, self._suffix) or path.stem) in names]

    def _mask_places_of_normal(self, normal: Path, folders: SplitFolders) -> Iterable[Path]:
        around = normal.parent if normal.name.lower() in IMAGES else normal
        places = [subfolder(around, MASKS)]
        masks = self.root / (*places_of(folders.masks), ".")[0]
        if isinstance(folders.masks, tuple) or masks.name.lower() in (name.lower() for name in ANOMALOUS):
            places.append(subfolder(masks.parent, NORMAL) if masks.parent != normal.parent else None)
        return [place for place in places if place is not None]


def _name(path: Path) -> str:
    return one_spelling(path_text(path.stem))


def _named_places(place: Place | None) -> list[tuple[str, str]]:
    """Each place with what stands before its images' names in their ids: of several, what tells their folders apart."""
    if place is None or isinstance(place, str):
        return [(each, "") for each in places_of(place)]
    parts = [Path(each).parts for each in place]
    names = [Path(*each) for each in _without_common(parts)]
    plain = [re.sub(r"[*?\[\]]", "", name.as_posix()).strip("/.") for name in names]
    unique = len(set(filter(None, plain))) == len(place)
    numbered = enumerate(zip(place, plain, strict=True))
    return [(each, f"{name if unique else number}/") for number, (each, name) in numbered]


def _without_common(parts: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Paths without the folders that all of them begin with and end with; one path alone is its last folder."""
    if len(parts) == 1:
        return [parts[0][-1:]]
    shortest = min(map(len, parts))
    end = next((count for count in range(shortest) if len({each[-1 - count] for each in parts}) > 1), shortest)
    parts = [each[: len(each) - end] for each in parts]
    shortest = min(map(len, parts))
    begin = next((count for count in range(shortest) if len({each[count] for each in parts}) > 1), shortest)
    return [each[begin:] for each in parts]
