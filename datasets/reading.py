"""How the files of a dataset become pixels: by one rule for all of them, which follows from what all of them hold."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from scipy.ndimage import maximum_filter, minimum_filter

from ..harness.api import Case, DataError
from ..harness.cache import Cache, cache_key
from .card import CardFile
from .images import HALF, MaskPixels, look_at, mask_pixels, read_mask, read_pixels, to_8_bits

_VERSION = "5"  # to be raised when Facts, or how they are found, change
_DEPTHS = (8, 10, 12, 14, 16)  # bits of scanners
_BRIGHT = 224  # of 255; what black and white saved with loss or smoothed have of white
_MIDDLE = 48, 208  # and what they have at edges only
_FLAT = 24  # grey levels between the darkest and the brightest of 3 x 3 pixels that are no edge
_CLASS = 0.005  # flat pixels in the middle, of those and the bright ones: of a class 0.012 and more, of edges 0.0002
_SMALL_LABEL = 64
_BORDER = "#e0e0c0"  # in the palette of Pascal VOC
_NEGATIVE = 2**16 - 2**14  # from here on up, 16 bits may be negative numbers without their sign
_NARROW = 16  # of 256 grey levels; images that have no more lie far above 0
_SHOWN = 12  # grey levels
_NO_LABELS = "more grey levels than labels have, or a format that changes them (JPEG)"


class Some(BaseModel):
    """How many files there are of a kind, and the first of them."""

    count: int = 0
    example: str = ""

    def add(self, path: Path) -> None:
        self.example = self.example or str(path).encode(errors="backslashreplace").decode()
        self.count += 1

    def told(self, noun: str, verb: str, verbs: str) -> str:
        """`1 mask (a.png) has` or `3 masks (such as a.png) have`, the beginning of a sentence."""
        return (
            f"1 {noun} ({self.example}) {verb}"
            if self.count == 1
            else (f"{self.count:,} {noun}s (such as {self.example}) {verbs}")
        )


class Facts(BaseModel):
    """The facts that were found in the files of a dataset.

    Attributes:
        shallow: Images of 8 bits.
        deep: Images in grey of more.
        highest: The largest value of those.
        lowest: The smallest one above 0.
        wrapped: Those of them whose negative values lost their sign.
        cut: Images in colour of 16 bits a channel.
        coloured: Images whose channels differ.
        turned: Images and masks that EXIF says are to be turned.
        levels: For each label value, the masks that hold it.
        pixels: How many pixels have each.
        colours: The colours of the values that are indices of a palette.
        dark: Those of them with several labels, of which a cut at half would lose some.
        smooth: Masks that do not.
        lossy: Those of them whose format does not keep levels as they were.
        bright: How many pixels of those are white.
        flat: How many are neither black nor white, and at no edge.
        brightest: The highest grey level of those.
        background: Masks with a pixel of 0.
        ill: Masks of normal images that hold a lesion.
        problems: The files that cannot be read.
    """

    shallow: int = 0
    deep: Some = Some()
    highest: int = 0
    lowest: int = 2**16
    wrapped: Some = Some()
    cut: Some = Some()
    coloured: Some = Some()
    turned: Some = Some()
    levels: dict[int, Some] = {}
    pixels: dict[int, int] = {}
    colours: dict[int, set[str]] = {}
    dark: Some = Some()
    smooth: Some = Some()
    lossy: Some = Some()
    bright: int = 0
    flat: int = 0
    brightest: int = 0
    background: int = 0
    ill: Some = Some()
    problems: list[str] = []


class Reading:
    """Reads the images and masks of a dataset.

    What all files hold is looked for where a file makes it necessary, and kept in the cache, so that other processes
    need not decode everything again.

    Args:
        card: Its bits and lesion values, where it gives them, win over those that were found.
        cases: The cases of all splits.
        spare: Masks of normal images, which are looked at only.
    """

    def __init__(self, card: CardFile, cases: Sequence[Case], spare: Sequence[Path]) -> None:
        self._card = card
        self._images = [Path(case.image) for case in cases]
        self._masks = [Path(case.mask) for case in cases if case.mask]
        self._spare = spare

    def image(self, path: Path) -> np.ndarray:
        """Reads an image as uint8 (H, W).

        Raises:
            DataError: It cannot be read.
        """
        pixels = read_pixels(path)
        return pixels if pixels.dtype == np.uint8 else to_8_bits(pixels, self._bits)

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
        cache, key = Cache.from_environment(), self._key
        kept = cache.find(key)
        if kept is not None:
            with suppress(OSError, ValueError):
                return Facts.model_validate_json(kept.read_text(encoding="utf-8"))
        facts = self._find()
        if not facts.problems:
            text = facts.model_dump_json()
            cache.store(key, len(text), lambda path: path.write_text(text, encoding="utf-8"))
        return facts

    @property
    def problems(self) -> list[str]:
        """Why the images or masks cannot be used."""
        facts, lesion = self.facts, self._card.lesion
        problems = list(facts.problems)
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
        return [*self._notes_on_images(), *self._notes_on_masks()]

    @cached_property
    def _bits(self) -> int:
        """How many bits of images of more than 8 mean something."""
        return self._card.bits or next(bits for bits in _DEPTHS if self.facts.highest < 2**bits)

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

    @property
    def _key(self) -> str:
        """A hash of the facts; it changes with any file."""
        files = [self._images, self._masks, self._spare]
        told = [[(str(path), *_state(path)) for path in paths] for paths in files]
        return cache_key("facts of a dataset's files", _VERSION, repr(told))

    def _find(self) -> Facts:
        facts = Facts()
        for path in self._images:
            with _told(facts.problems):
                traits = look_at(path)
                if not traits.values.size:
                    facts.shallow += 1
                else:
                    facts.deep.add(path)
                    facts.highest = max(facts.highest, int(traits.values[-1]))
                    facts.lowest = int(min(facts.lowest, *traits.values[traits.values > 0][:1]))
                for holds, some in (
                    (_is_wrapped(traits.values), facts.wrapped),
                    (traits.cut, facts.cut),
                    (traits.coloured, facts.coloured),
                    (traits.turned, facts.turned),
                ):
                    if holds:
                        some.add(path)
        for path in self._masks:
            with _told(facts.problems):
                mask = mask_pixels(path)
                facts.background += 0 in mask.counts
                if mask.turned:
                    facts.turned.add(path)
                if mask.has_labels:
                    for level in mask.counts.keys() - {0}:
                        facts.levels.setdefault(level, Some()).add(path)
                        facts.pixels[level] = facts.pixels.get(level, 0) + mask.counts[level]
                        if mask.palette is not None:
                            facts.colours.setdefault(level, set()).add(f"#{mask.palette[level].tobytes().hex()}")
                    if not mask.is_binary and _has_dark_labels(mask):
                        facts.dark.add(path)
                else:
                    facts.smooth.add(path)
                    if mask.lossy:
                        facts.lossy.add(path)
                    facts.bright += int(np.count_nonzero(mask.grey >= _BRIGHT))
                    facts.flat += _flat(mask.grey)
                    facts.brightest = max(facts.brightest, int(mask.grey.max()))
        for path in self._spare:
            with suppress(DataError):  # nobody asked for it
                if read_mask(path).any():
                    facts.ill.add(path)
        return facts

    def _notes_on_images(self) -> Iterator[str]:
        facts = self.facts
        if facts.deep.count:
            bits, top = self._bits, 2**self._bits - 1
            why = "as the card says" if self._card.bits else f"the fewest of {_listed(_DEPTHS)} that hold all"
            beside = f" {facts.shallow:,} images of 8 bits are taken as they are." if facts.shallow else ""
            shown = (facts.highest - facts.lowest) * 255 // top + 1
            remedy = (
                f"All values but 0 are above {facts.lowest - 1:,}, an offset such as that of Hounsfield units stored "
                f"without a sign, which leaves {shown} of 256 grey levels: subtract it from all images, and save them "
                "again."
                if shown <= _NARROW and facts.highest // 2 < facts.lowest < facts.highest
                else f"A card can say how many bits mean something, such as `bits: {12 if bits != 12 else 16}`."
            )
            yield (
                f"{facts.deep.told('image', 'has', 'have')} more than 8 bits, with values up to {facts.highest:,}: 0 "
                f"to {top:,} become 0 to 255 ({bits} bits, {why}).{beside} {remedy}"
            )
        if facts.wrapped.count:
            yield (
                f"{facts.wrapped.told('image', 'has', 'have')} values near 0 and near 65,535 and none in between, as "
                "negative numbers have that were saved without their sign: what should be black is white. Add 1,024, "
                "or what makes the lowest value 0, before saving them without a sign."
            )
        if facts.cut.count:
            yield (
                f"{facts.cut.told('image', 'has', 'have')} 16 bits in each channel of colour, of which the upper 8 are "
                "read. Save as grey of 16 bits if the lower ones mean something."
            )
        if facts.coloured.count:
            yield f"{facts.coloured.told('image', 'is', 'are')} in colour and turned to grey (luminance)."
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


def _flat(grey: np.ndarray) -> int:
    """How many pixels are neither black nor white, and at no edge, as those of a class are."""
    spread = maximum_filter(grey, 3) - minimum_filter(grey, 3)
    return int(np.count_nonzero((spread <= _FLAT) & (grey >= _MIDDLE[0]) & (grey < _MIDDLE[1])))


def _is_wrapped(values: np.ndarray) -> bool:
    """Whether values of 16 bits, in order, are near 0 on both sides, as those of signed ones whose sign was lost."""
    below = values[values < _NEGATIVE]
    return len(values) - len(below) > 1 and int(below.max(initial=0)) < 2**16 - _NEGATIVE


def _has_dark_labels(mask: MaskPixels) -> bool:
    """Whether areas, or all there is, are darker than half; what loss leaves beside white changes at each pixel."""
    dark = (mask.levels > 0) & (mask.grey < HALF)
    areas = maximum_filter(mask.levels, 3) == minimum_filter(mask.levels, 3)
    return bool((dark & areas).any()) or bool(dark.any() and mask.grey.max() < HALF)


def _lost(path: str) -> str:
    return (
        f"The mask {path} was saved with loss (JPEG), which keeps no grey level as it was, so that the card's lesion "
        "levels cannot be found in it. Save masks as PNG."
    )


def _listed(numbers: Iterable[int]) -> str:
    first = sorted(numbers)
    more = len(first) - _SHOWN
    return ", ".join(map(str, first[:_SHOWN])) + (f" and {more:,} more" if more > 0 else "")


def _state(path: Path) -> tuple[int, ...]:
    """The size and times of a file, which change with its content; empty where there is no file."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


@contextmanager
def _told(problems: list[str]) -> Iterator[None]:
    """Adds what is wrong with a file to the problems."""
    try:
        yield
    except DataError as error:
        problems.append(str(error))
