"""Masks of the foreground that come with the data, found beside each image by a pattern."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..harness.api import Case, DataError
from .inspecting import inspect_all, proved
from .masks import read_mask

NAME = "{name}"
"""In a card's `foreground`, it stands for the image's file name without its ending, and tells a pattern from a rule."""


class ForegroundFiles:
    """Where the foreground of an image is.

    Args:
        foreground: The card's: a rule, or a pattern relative to the image's own folder, as in `../brain/{name}.png`.

    Attributes:
        there: Whether it is a pattern.
    """

    def __init__(self, foreground: str) -> None:
        self.there = NAME in foreground
        self._pattern = foreground

    def of(self, case: Case) -> Path:
        """The file of a case's foreground."""
        image = Path(case.image)
        return Path(os.path.normpath(image.parent / self._pattern.replace(NAME, image.stem)))

    def files(self, cases: Sequence[Case]) -> list[Path]:
        """The files of all foregrounds; none where the card names a rule."""
        return [self.of(case) for case in cases] if self.there else []

    def problems(self, cases: Sequence[Case]) -> Iterator[str]:
        """A sentence for each file that is not there."""
        for case, file in zip(cases, self.files(cases), strict=False):
            if not file.is_file():
                yield f"The foreground of {case.image} is missing: the card says that it is {file}."

    def read(self, case: Case, shape: tuple[int, ...]) -> np.ndarray | None:
        """Reads a foreground, bool (H, W): any grey level above 0; `None` where the card names a rule.

        Args:
            case: The case.
            shape: The size of its image.

        Raises:
            DataError: It cannot be read, or has another size.
        """
        if not self.there:
            return None
        mask = read_mask(self.of(case))
        if mask.shape != shape:
            raise DataError(
                f"The foreground {self.of(case)} has {mask.shape[1]} x {mask.shape[0]} pixels, its image {case.image} "
                f"{shape[1]} x {shape[0]}."
            )
        return mask

    def hashed(self, cases: Sequence[Case]) -> bytes:
        """A hash of all files; empty where the card names a rule.

        Raises:
            DataError: A file is damaged.
        """
        files = self.files(cases)
        found = inspect_all(files)
        hashes = [proved(found[file]).digest for file in files]
        return hashlib.sha256("".join(hashes).encode()).digest() if hashes else b""
