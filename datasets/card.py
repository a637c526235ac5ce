"""YAML cards: what a reader must know of a dataset, and where its images are."""

import dataclasses
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..harness.api import SPLITS, Card, DataError


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitFolders(_Keys):
    """Where the files of a split are: folders, or globs such as `*/flair.png`, relative to the dataset's root."""

    normal: str | None = None
    anomalous: str | None = None
    masks: str | None = None

    def places(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(place for place in (self.normal, self.anomalous, self.masks) if place is not None)


class Splits(_Keys):
    """The folders of every split; a dataset may have no validation cases."""

    train: SplitFolders
    valid: SplitFolders = SplitFolders()
    test: SplitFolders

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        if self.train.normal is None or self.train.anomalous is not None:
            raise ValueError("train must have normal and nothing else, because methods learn from normal images only")
        if self.test.anomalous is None:
            raise ValueError("test must have anomalous")
        return self


class Counts(_Keys):
    """How many cases a complete copy has."""

    train: int
    valid: int = 0
    test: int


class CardFile(_Keys):
    """A YAML card.

    Attributes:
        annotation: `mask`, or `image` where anomalous images have a label only.
        root: Where the images are, relative to the card's own folder.
        splits: Folders of every split; by default a layout of BMAD's is recognised.
        patient: A regular expression with one group, searched in the file name without its ending; by default the
            patient is BIDS's `sub-…` in that name, or the name up to its last underscore.
        lesion: The grey levels, or indices of a palette, that mean lesion in masks; `any` is every one above 0. By
            default it is every one above 0, and masks with more grey levels than labels have are cut at half.
        bits: How many bits of images of more than 8 mean something; by default the fewest of 8, 10, 12, 14 and 16 that
            hold the largest value of all images.
    """

    name: str
    title: str = ""
    modality: str = "unknown"
    origin: str = "unknown"
    licence: str = "unknown"
    citation: str = "unknown"
    annotation: Literal["mask", "image"] = "mask"
    counts: Counts | None = None
    root: str = "."
    splits: Splits | None = None
    patient: re.Pattern[str] | None = None
    lesion: tuple[Annotated[int, Field(ge=0, le=65_535)], ...] | Literal["any"] | None = None
    bits: Annotated[int, Field(ge=8, le=16)] | None = None

    @field_validator("patient")
    @classmethod
    def _has_one_group(cls, patient: re.Pattern[str] | None) -> re.Pattern[str] | None:
        if patient is not None and patient.groups != 1:
            raise ValueError(f"{patient.pattern!r} must have one group, which is the patient")
        return patient

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
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except ValidationError as error:
            wrong = "; ".join(_explain(each["loc"], each["type"], each["msg"]) for each in error.errors())
            raise DataError(f"The card {path} is not right: {wrong}.") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"The card {path} cannot be read: {' '.join(str(error).split())}.") from error

    def card(self) -> Card:
        """What the results keep of the card."""
        kept: dict[str, Any] = self.model_dump(include={field.name for field in dataclasses.fields(Card)})
        kept["title"] = self.title or self.name
        return Card(**kept)


def _explain(place: tuple[int | str, ...], kind: str, message: str) -> str:
    """One finding of pydantic as `key: what is wrong with it`, and for an unknown key the nearest known one."""
    if not place:
        return (
            message.removeprefix("Value error, ") if kind == "value_error" else "it is not a list of keys with values"
        )
    key = ".".join(map(str, place))
    if kind != "extra_forbidden":
        return f"{key}: {message.removeprefix('Value error, ')}"
    known = list((CardFile, Splits, SplitFolders)[len(place) - 1].model_fields)  # Counts has the keys of Splits
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    suggestion = f"did you mean {near[0]!r}? " if near else ""
    return f"{key} is not a key of a card; {suggestion}known are {', '.join(known)}"
