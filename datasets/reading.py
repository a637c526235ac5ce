"""How the files of a dataset become pixels: by one rule for all of them, which follows from what all of them hold."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from ..harness.api import Case, DataError
from .card import CardFile
from .facts import Facts, facts_of
from .image_reader import ImageReader
from .masks import HALF, mask_pixels

_CLASS = 0.005  # flat pixels in the middle, of those and the bright ones: of a class 0.012 and more, of edges 0.0002
_SMALL_LABEL = 64
_BORDER = "#e0e0c0"  # in the palette of Pascal VOC
_SHOWN = 12  # grey levels
_NO_LABELS = "more grey levels than labels have, or a format that changes them (JPEG)"


class Reading:
    """Reads the images and masks of a dataset.

    What all files hold is looked for where a file makes it necessary, and kept in the cache, so that other processes
    need not decode everything again.

    Args:
        card: What it says of the values of images and masks wins over what was found.
        cases: The cases of all splits.
        masks: Their masks.
        spare: Masks of normal images, which are looked at only.
        folder: The dataset's folder, where nobody wrote a card.
    """

    def __init__(
        self,
        card: CardFile,
        cases: Sequence[Case],
        masks: Sequence[Path],
        spare: Sequence[Path],
        folder: Path | None = None,
    ) -> None:
        self._card = card
        self._all_images = [Path(case.image) for case in cases]
        self._masks = masks
        self._spare = spare
        train = [Path(case.image) for case in cases if case.split == "train"]
        self._images = ImageReader(card, self._all_images, train, lambda: self.facts, folder)

    @property
    def channels(self) -> Literal["grey", "rgb"]:
        """How all images are read."""
        return self._images.channels

    def image(self, path: Path) -> np.ndarray:
        """Reads an image as uint8 (H, W), or (H, W, 3) where channels are RGB.

        Raises:
            DataError: It cannot be read.
        """
        return self._images.read(path)

    def mask(self, path: Path) -> np.ndarray:
        """Reads a lesion mask as bool (H, W).

        Raises:
            DataError: It cannot be read, or what of it is lesion cannot be told.
        """
        mask = mask_pixels(path)
        lesion = self._card.lesion
        if isinstance(lesion, tuple):
            if mask.lossy:
                raise DataError(_lost(str(path)))
            return np.isin(mask.levels, lesion)
        if lesion == "any" or mask.is_binary or not self.facts.smooth.count:
            return mask.levels > 0
        if self._unclear:
            raise DataError(self._unclear)
        return mask.grey >= HALF

    @cached_property
    def facts(self) -> Facts:
        """The facts that were found in the files."""
        return facts_of(self._all_images, self._masks, self._spare, self._card.dtype)

    @property
    def problems(self) -> list[str]:
        """Why the images or masks cannot be used."""
        facts, lesion = self.facts, self._card.lesion
        problems = list(facts.problems) or list(self._images.problems())
        held = _listed(facts.levels)
        if isinstance(lesion, tuple):
            renumbered = next((level for level, colours in facts.colours.items() if len(colours) > 1), None)
            absent = [level for level in lesion if level not in {0, *facts.levels}]
            if facts.lossy.count:
                problems.append(_lost(facts.lossy.example))
            elif renumbered is not None:
                problems.append(
                    f"The masks' palettes are numbered in different ways: {renumbered} is "
                    f"{' and '.join(sorted(facts.colours[renumbered]))}, so that the card's lesion levels do not tell "
                    "classes. Save masks as grey PNG, with the same level for a class in all of them."
                )
            elif absent and self._masks and not facts.smooth.count:
                problems.append(f"The card says that {_listed(absent)} is lesion, but the masks hold {held or 'none'}.")
        elif lesion is None and self._unclear:
            problems.append(self._unclear)
        elif lesion is None and len(facts.levels) > 1 and not facts.background and not facts.smooth.count:
            most = max(facts.pixels, key=facts.pixels.__getitem__)
            share = facts.pixels[most] / sum(facts.pixels.values())
            problems.append(
                f"No mask has a pixel of 0, so that all would be lesion; they hold the grey levels {held}, and {most}, "
                f"with {100 * share:.0f} % of the pixels, looks like their background. Say on a card which of them "
                f"mean lesion, such as `lesion: [{self._likely_lesion(facts.levels.keys() - {most})}]`."
            )
        return problems

    def notes(self) -> list[str]:
        """Sentences on facts that can change a score."""
        return [*self._images.notes(), *self._notes_on_files(), *self._notes_on_masks()]

    @cached_property
    def _unclear(self) -> str:
        """Why masks that do not hold labels cannot be cut at half; nothing where they can."""
        facts = self.facts
        if facts.dark.count and facts.smooth.count:
            return (
                f"{facts.dark.told('mask', 'holds', 'hold')} labels darker than half of white, and "
                f"{facts.smooth.told('mask', 'has', 'have')} {_NO_LABELS}, so that what is lesion is unknown. Save "
                f"all masks as PNG with the same labels, and say on a card which of {_listed(facts.levels)} mean "
                f"lesion, such as `lesion: [{min(facts.levels)}]`."
            )
        if facts.flat <= _CLASS * (facts.flat + facts.bright) and (facts.bright or not facts.brightest):
            return ""
        return (
            f"{facts.smooth.told('mask', 'has', 'have')} {_NO_LABELS}, and not black and white alone, so that what "
            "is lesion is unknown. Save masks as PNG with a grey level for each class, or with 0 and 255. If every "
            "level above 0 is lesion, say `lesion: any` on a card."
        )

    @property
    def _border(self) -> int | None:
        """The label that is, by custom, a border between classes and no class."""
        levels = sorted(self.facts.levels)
        if len(levels) > 1 and levels[-1] == 255 and levels[-2] < _SMALL_LABEL:
            return 255
        return next((level for level, colours in self.facts.colours.items() if _BORDER in colours), None)

    def _likely_lesion(self, levels: Iterable[int]) -> int:
        """An example for a card."""
        classes = set(levels) - {self._border}
        return min(classes) if classes and self._border is not None else max(levels)

    def _notes_on_files(self) -> Iterator[str]:
        facts = self.facts
        if facts.turned.count:
            yield (
                f"{facts.turned.told('file', 'is', 'are')} to be turned or mirrored when shown, as EXIF says, and "
                "taken as stored. If lesions were drawn on the turned images, save images and masks turned, without "
                "EXIF."
            )

    def _notes_on_masks(self) -> Iterator[str]:
        facts, lesion = self.facts, self._card.lesion
        levels = sorted(facts.levels)
        holders = ", ".join(
            f"{' '.join([str(level), *sorted(facts.colours.get(level, ()))])} in {facts.levels[level].count:,}"
            for level in levels[:_SHOWN]
        )
        holders += f" and {len(levels) - _SHOWN:,} more" if len(levels) > _SHOWN else ""
        if isinstance(lesion, tuple):
            yield f"Lesion is where masks are {_listed(lesion)}, as the card says; beside 0 they hold {holders}."
        elif len(levels) > 1:
            rarest = min(levels, key=lambda level: facts.levels[level].count)
            border = {
                None: "",
                255: " 255 beside small labels often marks a border.",
            }.get(self._border, f" {self._border} has the colour of borders in Pascal VOC.")
            alone = " where a mask holds one alone" if facts.smooth.count and lesion is None else ""
            yield (
                f"Masks hold {len(levels):,} grey levels beside 0 ({holders}; {rarest} in "
                f"{facts.levels[rarest].example}), and all of them are lesion{alone}.{border} If some are "
                f"not, say on a card which are, such as `lesion: [{self._likely_lesion(levels)}]`."
            )
        if facts.smooth.count and isinstance(lesion, tuple):
            yield (
                f"{facts.smooth.told('mask', 'has', 'have')} {_NO_LABELS}. Of them too, what has exactly the card's "
                "grey levels is lesion, be it at an edge only."
            )
        if facts.smooth.count and lesion is None:
            yield (
                f"{facts.smooth.told('mask', 'has', 'have')} {_NO_LABELS}: in masks of more than one "
                f"level beside 0 a pixel of {HALF} or above, of 255, is lesion, a lower one is not."
            )
        if facts.lossy.count and lesion == "any":
            yield (
                f"{facts.lossy.told('mask', 'was', 'were')} saved with loss (JPEG), and every level above 0 is lesion, "
                "as the card says, also where only the loss put it."
            )
        if facts.ill.count:
            yield (
                f"{facts.ill.told('normal image', 'has', 'have')} a mask with a lesion. They count as normal: move "
                "those with lesions to the anomalous ones."
            )


def _lost(path: str) -> str:
    return (
        f"The mask {path} was saved with loss (JPEG), which keeps no grey level as it was, so that the card's lesion "
        "levels cannot be found in it. Save masks as PNG."
    )


def _listed(numbers: Iterable[int]) -> str:
    first = sorted(numbers)
    more = len(first) - _SHOWN
    return ", ".join(map(str, first[:_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
