"""Where the images of a dataset are: the part of a card that says it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Place = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""A folder, or a pattern of files, or several of them."""

TableColumn = Literal["image", "mask", "label", "patient", "split"]


class Keys(BaseModel):
    """A part of a card, of which no other key is allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitFolders(Keys):
    """Where the files of a split are: folders, or globs such as `*/flair.png`, relative to the dataset's root.

    Each may be a list. The masks of the first place of `anomalous` are then in the first place of `masks`, and so on.
    """

    normal: Place | None = None
    anomalous: Place | None = None
    masks: Place | None = None

    @model_validator(mode="after")
    def _lists_match(self) -> Self:
        for key in ("normal", "anomalous"):
            listed = places_of(getattr(self, key))
            if len(set(listed)) < len(listed):
                raise ValueError(f"{key} names a place twice")
        images, masks = len(places_of(self.anomalous)), len(places_of(self.masks))
        if self.masks is not None and images != masks:
            raise ValueError(
                f"anomalous has {images} {'place' if images == 1 else 'places'} and masks {masks}: list as many places "
                "of masks, in the same order"
            )
        return self

    def places(self) -> tuple[str, ...]:
        """All of them."""
        return (*places_of(self.normal), *places_of(self.anomalous), *places_of(self.masks))


def places_of(place: Place | None) -> tuple[str, ...]:
    """One place, several, or none, as a tuple."""
    return () if place is None else (place,) if isinstance(place, str) else place


class Splits(Keys):
    """The folders of every split; a dataset may have no validation cases."""

    train: SplitFolders = SplitFolders()
    valid: SplitFolders = SplitFolders()
    test: SplitFolders

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        if self.train.anomalous is not None:
            raise ValueError("train must have normal and nothing else, because methods learn from normal images only")
        if self.test.anomalous is None:
            raise ValueError("test must have anomalous")
        return self


class ImageTable(Keys):
    """A CSV file with a row for each image.

    Attributes:
        file: Its path, relative to the dataset's root.
        columns: What its columns are called, where it is not `image`, `mask`, `label`, `patient` or `split`.
        where: The rows that are taken: those with these values in these columns. By default all are.
    """

    file: str
    columns: dict[TableColumn, str] = {}
    where: dict[str, str | int] = {}

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_path(cls, told: Any) -> Any:
        return {"file": told} if isinstance(told, str) else told
