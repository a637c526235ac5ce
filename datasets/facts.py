"""What all files of a dataset hold, looked for once and kept in the cache."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from scipy.ndimage import maximum_filter, minimum_filter

from ..harness.api import DataError
from ..harness.cache import Cache, cache_key
from .images import ImageTraits, PixelType, look_at
from .masks import HALF, MaskPixels, mask_pixels, read_mask

_VERSION = "7"  # to be raised when Facts, or how they are found, change
_BRIGHT = 224  # of 255; what black and white saved with loss or smoothed have of white
_MIDDLE = 48, 208  # and what they have at edges only
_FLAT = 24  # grey levels between the darkest and the brightest of 3 x 3 pixels that are no edge
_NEGATIVE = 2**16 - 2**14  # from here on up, 16 bits may be negative numbers without their sign


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
        rangeless: Images in grey whose pixels do not say which value is black: signed, of 32 bits, or floating point.
        kind: The kind of pixels of the first of those.
        extent: Their smallest and largest value.
        cut: Images in colour of 16 bits a channel.
        cut_highest: The largest value of those.
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
    rangeless: Some = Some()
    kind: str = ""
    extent: tuple[float, float] = (0.0, 0.0)
    cut: Some = Some()
    cut_highest: int = 0
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

    def add_image(self, path: Path, traits: ImageTraits) -> None:
        """Adds what an image holds."""
        if traits.cut:
            self.cut_highest = max(self.cut_highest, int(traits.extent[1] if traits.extent else 0))
        elif traits.extent is not None:
            low, high = traits.extent
            if self.rangeless.count:
                low, high = min(low, self.extent[0]), max(high, self.extent[1])
            self.extent, self.kind = (low, high), self.kind or traits.kind
            self.rangeless.add(path)
        elif not traits.values.size:
            self.shallow += 1
        else:
            self.deep.add(path)
            self.highest = max(self.highest, int(traits.values[-1]))
            self.lowest = int(min(self.lowest, *traits.values[traits.values > 0][:1]))
        for holds, some in (
            (_is_wrapped(traits.values), self.wrapped),
            (traits.cut, self.cut),
            (traits.coloured, self.coloured),
            (traits.turned, self.turned),
        ):
            if holds:
                some.add(path)

    def add_mask(self, path: Path, mask: MaskPixels) -> None:
        """Adds what a lesion mask holds."""
        self.background += 0 in mask.counts
        if mask.turned:
            self.turned.add(path)
        if mask.has_labels:
            for level in mask.counts.keys() - {0}:
                self.levels.setdefault(level, Some()).add(path)
                self.pixels[level] = self.pixels.get(level, 0) + mask.counts[level]
                if mask.palette is not None:
                    self.colours.setdefault(level, set()).add(f"#{mask.palette[level].tobytes().hex()}")
            if not mask.is_binary and _has_dark_labels(mask):
                self.dark.add(path)
        else:
            self.smooth.add(path)
            if mask.lossy:
                self.lossy.add(path)
            self.bright += int(np.count_nonzero(mask.grey >= _BRIGHT))
            self.flat += _flat(mask.grey)
            self.brightest = max(self.brightest, int(mask.grey.max()))


def facts_of(
    images: Sequence[Path], masks: Sequence[Path], spare: Sequence[Path], dtype: PixelType | None = None
) -> Facts:
    """Finds the facts, or what was kept of them: they are looked for again when a file has changed.

    Args:
        images: All images.
        masks: The lesion masks.
        spare: Masks of normal images.
        dtype: The type of the images' values, where somebody says it.
    """
    cache = Cache.from_environment()
    key = cache_key("facts of a dataset's files", _VERSION, str(dtype), *map(states, (images, masks, spare)))
    kept = cache.find(key)
    if kept is not None:
        with suppress(OSError, ValueError):
            return Facts.model_validate_json(kept.read_text(encoding="utf-8"))
    facts = _find(images, masks, spare, dtype)
    if not facts.problems:
        text = facts.model_dump_json()
        cache.store(key, len(text), lambda path: path.write_text(text, encoding="utf-8"))
    return facts


def states(paths: Sequence[Path]) -> str:
    """The paths of files, with their sizes and times, which change with their content."""
    return repr([(str(path), *_state(path)) for path in paths])


def _state(path: Path) -> tuple[int, ...]:
    """The size and times of a file; empty where there is no file."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _find(images: Sequence[Path], masks: Sequence[Path], spare: Sequence[Path], dtype: PixelType | None) -> Facts:
    facts = Facts()
    for path in images:
        with _told(facts.problems):
            facts.add_image(path, look_at(path, dtype))
    for path in masks:
        with _told(facts.problems):
            facts.add_mask(path, mask_pixels(path))
    for path in spare:
        with suppress(DataError):  # nobody asked for it
            if read_mask(path).any():
                facts.ill.add(path)
    return facts


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


@contextmanager
def _told(problems: list[str]) -> Iterator[None]:
    """Adds what is wrong with a file to the problems."""
    try:
        yield
    except DataError as error:
        problems.append(str(error))
