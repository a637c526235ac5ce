"""YAML cards: what a reader must know of a dataset, and where its images are."""

import dataclasses
import difflib
import re
import textwrap
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ..harness.api import SPLITS, Card, DataError
from ..harness.paths import expanded
from ..harness.safe_files import write_whole
from ..harness.yaml_files import explain_yaml, read_yaml
from .foreground_files import NAME
from .image_files import IMAGE_ENDINGS
from .images import PixelType
from .places import ImageTable, Keys, SplitFolders, Splits
from .splitting import TEST_ONLY, SplitRule

_SHOULD_BE = {  # keys whose wrong values pydantic explains in terms of Python
    "intensity": "two numbers, black and white, such as [0, 4095]",
    "percentiles": "two numbers from 0 to 100, such as [0.5, 99.5]",
    "spacing": "three numbers above 0, the mm between rows, columns and slices, such as [0.5, 0.5, 5]",
    "lesion": "whole numbers from 0 to 65535, such as [1, 4], or any",
    "dtype": f"the type of the images' values, one of {', '.join(get_args(PixelType))}",
    "bits": "a whole number from 8 to 16",
    "patient": "a regular expression with one group, such as '^(p[0-9]+)_'",
    "volume": r"a regular expression with the groups volume and position, such as '^(?P<volume>.+)_(?P<position>\d+)$'",
    "stack": "true or false",
}
_IN_WORDS = {  # kinds of pydantic's findings
    "missing": "is missing",
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}

Millimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Value = Annotated[float, Field(allow_inf_nan=False)]
Percentile = Annotated[float, Field(ge=0, le=100)]


class SplitCounts(Keys):
    """How many cases a complete copy has."""

    train: int
    valid: int = 0
    test: int


class SlicedVolumes(Keys):
    """How volumes became the slices of a dataset.

    Attributes:
        images: Their folder, or a pattern of their files.
        masks: The same for their masks.
        axis: Across which they were cut: `sagittal`, `coronal` or `axial`.
        window: The values that became black and white.
        window_percentiles: Without a window, which percentiles of each volume's voxels above its minimum did.
        lesion: The labels that mean a lesion; `positive` for all above 0.
        labels: In how many mask volumes each label is; of very many labels the lowest ones.
        label_rounding: How far the label furthest from a whole number was from it.
        trust: The header that says where a mask lies: its own (`header`), or that of its image (`image`).
        forms_disagree: How many volumes have an sform and a qform that disagree; the sform was taken.
        unplaced: How many volumes have no geometry in their header; voxels were taken as they lie.
        smallest_voxel_mm: The least size of a voxel in any volume to the right, to anterior and to superior.
        largest_voxel_mm: The greatest.
        seed: The seed of the draw that put patients into the splits.
        shares: The shares of the patients for train, valid and test.
        patients: How many each split has.
        volumes: How many each split has.
        without_mask: How many volumes have no mask, and were taken for normal.
        lesion_slices_left_out: Slices with a lesion, of patients of the training split.
        constant_slices_left_out: Slices of one grey value.
        passed_over: Files of other formats beside the volumes, by their ending.
    """

    images: str
    masks: str
    axis: Literal["sagittal", "coronal", "axial"]
    window: tuple[float, float] | None
    window_percentiles: tuple[float, float] | None
    lesion: Literal["positive"] | tuple[int, ...]
    labels: dict[int, int]
    label_rounding: float
    trust: Literal["header", "image"]
    forms_disagree: int
    unplaced: int = 0
    smallest_voxel_mm: tuple[float, float, float]
    largest_voxel_mm: tuple[float, float, float]
    seed: int
    shares: tuple[float, float, float]
    patients: SplitCounts
    volumes: SplitCounts
    without_mask: int
    lesion_slices_left_out: int
    constant_slices_left_out: int
    passed_over: dict[str, int]

    def notes(self) -> Iterator[str]:
        """Sentences on what may distort a score that is measured on the slices."""
        if self.without_mask:
            yield f"{self.without_mask} volumes have no mask and are taken for normal."
        if self.forms_disagree:
            yield f"The sform and the qform of {self.forms_disagree} volumes disagree, and the sform is taken."
        if self.unplaced:
            yield (
                f"The headers of {self.unplaced} volumes have no geometry (an identity, or no form), so that "
                "orientation and spacing are unknown: voxels are taken as they lie."
            )
        if self.passed_over:
            files = ", ".join(f"{number} {ending}" for ending, number in self.passed_over.items())
            yield f"Files beside the volumes are passed over: {files}."
        if self.shares == TEST_ONLY and self.window is None:
            yield (
                "Black and white are percentiles of each volume, and training images are read as their own dataset "
                "says. Scores suffer where brightness then differs: bench data add --window LOW HIGH makes it alike."
            )
        if self.patients.train and not self.patients.valid:
            few = self.patients.train + self.patients.test
            needed = SplitRule(shares=self.shares).patients_needed("valid", few)
            more = f": with these shares it takes {needed}; bench data add --shares sets others" if needed else ""
            yield f"{few} patients leave none for the validation split, from which thresholds are chosen{more}."


class CardFile(Keys):
    r"""A YAML card.

    Attributes:
        annotation: `mask`, or `image` where anomalous images have a label only.
        root: Where the images are, relative to the card's own folder.
        splits: Folders of every split; by default a layout of BMAD's, or MVTec's, is recognised.
        mask_suffix: What the name of a mask has behind that of its image, before the ending, such as `_mask`. Files of
            such names are masks wherever they are, so that images and masks may be in one folder.
        train_from: The folder or card, relative to the card's own folder, of another dataset, of which the train and
            validation splits are taken. All that this card describes is then the test split.
        table: In place of `splits`, a table that lists the images; see `datasets.listing`.
        patient: A regular expression with one group, searched in the file name without its ending; by default the
            patient is BIDS's `sub-…` in that name, or the name up to its last underscore. Of slices of volumes it is
            searched in the volume's name, which is the name up to its last underscore.
        lesion: The grey levels, or indices of a palette, that mean lesion in masks; `any` is every one above 0. By
            default it is every one above 0, and masks with more grey levels than labels have are cut at half.
        bits: How many bits of images of more than 8 mean something; by default the fewest of 8, 10, 12, 14 and 16 that
            hold the largest value of all images.
        dtype: The type of the values in the files of images, such as `uint16`. Files of another type are refused, but
            where only the sign differs: `int16` takes grey images of 16 bits for signed, whatever their files say.
        intensity: The values that become black and white in all images, whatever their type.
        percentiles: In place of `intensity`, the percentiles of the pixels of all training images together that do.
        channels: How images are read: `grey`, which is the default, `rgb`, or `auto`: RGB if one of them is in colour.
        volumes: How slices were made, where they are of volumes.
        volume: A regular expression with the groups `volume` and `position`, as in
            `^(?P<volume>.+)_(?P<position>\d+)$`, searched in the file name without its ending. It says which volume an
            image is a slice of, and which slice.
        slices: In place of `volume`, a CSV file that says it, relative to `root`: see `datasets.slices`.
        spacing: The distances in mm between two rows, two columns and two neighbouring slices, where they are the same
            in all volumes.
        stack: Whether a volume is a stack of slices that somebody chose, and not all slices of a scan.
        foreground: Which pixels are of the body: a rule such as `otsu` or `all`, or where masks of it are, relative to
            each image's folder, as in `../brain/{name}.png`. One rule is for all splits: by default `all` or, with
            `train_from`, that of the other dataset.
    """

    name: str
    title: str = ""
    modality: str = "unknown"
    origin: str = "unknown"
    licence: str = "unknown"
    citation: str = "unknown"
    annotation: Literal["mask", "image"] = "mask"
    counts: SplitCounts | None = None
    root: str = "."
    splits: Splits | None = None
    mask_suffix: Annotated[str, Field(min_length=1)] | None = None
    train_from: str | None = None
    table: ImageTable | None = None
    patient: re.Pattern[str] | None = None
    lesion: tuple[Annotated[int, Field(ge=0, le=65_535)], ...] | Literal["any"] | None = None
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    dtype: PixelType | None = None
    intensity: tuple[Value, Value] | None = None
    percentiles: tuple[Percentile, Percentile] | None = None
    channels: Literal["grey", "rgb", "auto"] | None = None
    volumes: SlicedVolumes | None = None
    volume: re.Pattern[str] | None = None
    slices: str | None = None
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = None
    stack: bool = False
    foreground: str | None = None

    @field_validator("foreground")
    @classmethod
    def _is_rule_or_pattern(cls, foreground: str | None) -> str | None:
        if foreground is not None and "/" in foreground and NAME not in foreground:
            raise ValueError(f"{foreground!r} is no rule; a pattern of files has {NAME}, as in ../brain/{NAME}.png")
        return foreground

    @field_validator("mask_suffix")
    @classmethod
    def _is_before_the_ending(cls, suffix: str | None) -> str | None:
        ending = Path(f"mask{suffix}").suffix.lower()
        if suffix is not None and ending in IMAGE_ENDINGS:
            raise ValueError(f"it is what stands before the ending: write {suffix[: -len(ending)]!r}")
        return suffix

    @field_validator("patient")
    @classmethod
    def _has_one_group(cls, patient: re.Pattern[str] | None) -> re.Pattern[str] | None:
        if patient is not None and patient.groups != 1:
            raise ValueError(f"{patient.pattern!r} must have one group, which is the patient")
        return patient

    @field_validator("volume")
    @classmethod
    def _has_its_groups(cls, volume: re.Pattern[str] | None) -> re.Pattern[str] | None:
        if volume is not None and not {"volume", "position"} <= set(volume.groupindex):
            raise ValueError(f"{volume.pattern!r} must have the groups (?P<volume>…) and (?P<position>…)")
        return volume

    @model_validator(mode="after")
    def _tells_the_range_once(self) -> Self:
        told = [key for key in ("bits", "intensity", "percentiles") if getattr(self, key) is not None]
        if len(told) > 1:
            raise ValueError(f"{told[0]} and {told[1]} both say which values are black and white: keep one of them")
        for low, high in filter(None, (self.intensity, self.percentiles)):
            if low >= high:
                raise ValueError(f"{told[0]}: {low:g} becomes black and {high:g} white, so it must be the smaller one")
        return self

    @model_validator(mode="after")
    def _tells_files_once(self) -> Self:
        for key in ("splits", "mask_suffix") if self.table else ():
            if getattr(self, key) is not None:
                raise ValueError(f"table and {key} both say where images and masks are: keep one of them")
        return self

    @model_validator(mode="after")
    def _trains_on_something(self) -> Self:
        if self.splits and self.train_from is None and self.splits.train.normal is None:
            raise ValueError("splits: train must have normal, because methods learn from normal images")
        if self.splits and self.train_from is not None and (self.splits.train.places() or self.splits.valid.places()):
            raise ValueError("train_from takes train and valid of another dataset: leave them out of splits")
        if self.percentiles and self.train_from is not None:
            raise ValueError("percentiles are of training images, which are those of train_from: say intensity instead")
        return self

    @model_validator(mode="after")
    def _tells_volumes_once(self) -> Self:
        told = [key for key in ("volume", "slices", "volumes") if getattr(self, key) is not None]
        if len(told) > 1:
            raise ValueError(f"{told[0]} and {told[1]} both say which volume an image is of: keep one of them")
        alone = [key for key in ("spacing", "stack") if getattr(self, key)]
        if alone and not told:
            raise ValueError(f"{alone[0]} is of volumes: say with volume or slices which volume an image is of")
        return self

    @model_validator(mode="after")
    def _has_masks_as_announced(self) -> Self:
        for name in SPLITS if self.splits else ():
            folders: SplitFolders = getattr(self.splits, name)
            wanted = folders.anomalous is not None and self.annotation == "mask"
            if (folders.masks is not None) != wanted:
                raise ValueError(
                    f"splits.{name}: anomalous and masks must be given together"
                    if self.annotation == "mask"
                    else f"splits.{name}: there are no masks where the annotation is image"
                )
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a card from a file.

        Raises:
            DataError: It is not YAML, or a key is unknown, missing or of a wrong type; the text lists all of them.
        """
        try:
            return cls.model_validate(read_yaml(path) or {})
        except ValidationError as error:
            told = (_explain(each["loc"], each["type"], each["msg"]) for each in error.errors())
            wrong = "; ".join(dict.fromkeys(told))
            raise DataError(f"The card {path} is not right: {wrong}.") from error
        except OSError as error:
            raise DataError(f"The card {path} cannot be read: {' '.join(str(error).split())}.") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"The card {path} is not YAML: {explain_yaml(error)}.") from error

    def write(self, path: Path, comment: Sequence[str] = (), told: Set[str] = frozenset()) -> None:
        """Writes a card to a file, which is not there before all of it is.

        Args:
            path: The file.
            comment: Paragraphs at its beginning.
            told: Keys that are written whatever they are; others where they differ from a card's defaults.
        """
        least = self.model_dump(mode="json", exclude_defaults=True)
        content = {
            key: least.get(key, value)
            for key, value in self.model_dump(mode="json").items()
            if key in told | least.keys()
        }
        lines = [line for text in comment for line in textwrap.wrap(text, 110, subsequent_indent="  ")]
        head = "".join(f"# {line}\n" for line in lines)
        write_whole(path, head + yaml.safe_dump(content, sort_keys=False))

    def folder(self, card: Path) -> Path:
        """Where the images are, given where the card is."""
        return card.parent / expanded(self.root)

    def base(self, card: Path) -> Path | None:
        """The dataset of which train and validation splits are taken, given where the card is."""
        return None if self.train_from is None else card.parent / expanded(self.train_from)

    def card(self, channels: Literal["grey", "rgb"] = "grey") -> Card:
        """The part of the card that the results keep.

        Args:
            channels: How images are read, which may depend on all of them.
        """
        kept: dict[str, Any] = self.model_dump(include={field.name for field in dataclasses.fields(Card)})
        kept["title"], kept["channels"] = self.title or self.name, channels
        foreground = self.foreground or "all"
        kept["foreground"] = "masks" if NAME in foreground else foreground
        return Card(**kept)


def _explain(place: tuple[int | str, ...], kind: str, message: str) -> str:
    """One finding of pydantic as `key: what is wrong with it`, and for an unknown key the nearest known one."""
    if not place:
        return (
            message.removeprefix("Value error, ") if kind == "value_error" else "it is not a list of keys with values"
        )
    key = ".".join(map(str, place))
    if kind not in ("extra_forbidden", "value_error") and place[0] in _SHOULD_BE:
        return f"{place[0]} should be {_SHOULD_BE[str(place[0])]}"
    if kind in _IN_WORDS:
        return f"{key} {_IN_WORDS[kind]}"
    if kind != "extra_forbidden":
        return f"{key}: {message.removeprefix('Value error, ')}"
    model: type[BaseModel] = CardFile
    for part in place[:-1]:
        annotation: Any = model.model_fields[str(part)].annotation  # SplitCounts, or SplitCounts | None
        model = next(each for each in (annotation, *get_args(annotation)) if hasattr(each, "model_fields"))
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    suggestion = f"did you mean {near[0]!r}? " if near else ""
    return f"{key} is not a key of a card; {suggestion}known are {', '.join(known)}"
