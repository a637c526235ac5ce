"""An image of a dataset before its patient and its volume are known."""

from pathlib import Path
from typing import NamedTuple

from ..harness.api import Split


class FoundImage(NamedTuple):
    """An image that was found, and what its place, or a row of a table, says of it.

    Attributes:
        id: Unique within its split; its last part is the file's name without ending.
        split: The split that it is in.
        label: 0 for a normal image, 1 for an anomalous one.
        image: Its file.
        masks: The files of its masks; the lesion is their union.
        patient: Its patient, where a table says it.
        is_numbered: Whether its name is a number that begins again in each folder, and tells no patient.
    """

    id: str
    split: Split
    label: int
    image: Path
    masks: tuple[Path, ...] = ()
    patient: str | None = None
    is_numbered: bool = False

    @property
    def name(self) -> str:
        """The file's name without ending."""
        return self.id.rpartition("/")[2]
