"""How image files become uint8: in grey or in colour, and which values are black and white, by one rule for all."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..harness.api import DataError
from ..harness.cache import Cache, cache_key
from ..harness.files import path_text
from .card import CardFile
from .facts import Facts, Some, states
from .images import read_pixels, to_8_bits

_VERSION = "2"  # to be raised when percentiles are found otherwise
_DEPTHS = (8, 10, 12, 14, 16)  # bits of scanners
_NARROW = 16  # of 256 grey levels; images that have no more lie far above 0
_SAMPLES = 2**26  # pixels that percentiles are taken of; where there are more, every second, third, … of an image


class Range(NamedTuple):
    """The values that become black and white, and who says so."""

    low: float
    high: float
    why: str


class ImageReader:
    """Reads the images of a dataset.

    Args:
        card: Its channels, and its intensity, percentiles or bits, win over what was found.
        images: The images of all splits.
        train: Those of the training split.
        facts: What all files hold; called where a file or a note makes it necessary.
        folder: The dataset's folder, where nobody wrote a card.
    """

    def __init__(
        self,
        card: CardFile,
        images: Sequence[Path],
        train: Sequence[Path],
        facts: Callable[[], Facts],
        folder: Path | None,
    ) -> None:
        self._card = card
        self._images = images
        self._train = train
        self._facts = facts
        self._folder = folder

    @cached_property
    def channels(self) -> Literal["grey", "rgb"]:
        """How all images are read; only `auto` has to look at them for that."""
        if self._card.channels == "auto":
            return "rgb" if self._facts().coloured.count else "grey"
        return self._card.channels or "grey"

    def read(self, path: Path) -> np.ndarray:
        """Reads an image as uint8 (H, W), or (H, W, 3) where channels are RGB.

        Raises:
            DataError: It cannot be read, or nobody says which of its values are black and white.
        """
        image = self._to_8_bits(self._pixels(path))
        return image if image.ndim == 3 or self.channels == "grey" else np.repeat(image[..., None], 3, axis=2)

    def _pixels(self, path: Path) -> np.ndarray:
        stated = self._card.intensity is not None or self._card.percentiles is not None
        return read_pixels(path, colour=self.channels == "rgb", all_bits=stated, dtype=self._card.dtype)

    def _to_8_bits(self, pixels: np.ndarray) -> np.ndarray:
        if self._stated is not None:
            return to_8_bits(pixels, self._stated.low, self._stated.high)
        if pixels.dtype == np.uint8:
            return pixels
        if pixels.dtype != np.uint16:
            raise DataError(self._unknown)
        return to_8_bits(pixels, 0, 2**self._bits - 1)

    def problems(self) -> Iterator[str]:
        """Why the images cannot be used, beside those that are damaged."""
        facts = self._facts()
        try:
            stated = self._stated
        except DataError as error:
            yield str(error)
            return
        if stated is None:
            yield from [self._unknown] if facts.rangeless.count else []
        elif self._extent and (stated.high <= self._extent[0] or stated.low >= self._extent[1]):
            low, high = self._extent
            yield (
                f"The card's range, {_number(stated.low)} to {_number(stated.high)}, shows nothing of the images: "
                f"their values are {_number(low)} to {_number(high)}. Change it on the card, to "
                f"`intensity: [{_plain(low)}, {_plain(high)}]` or a part of that."
            )

    def notes(self) -> Iterator[str]:
        """Sentences on facts that can change a score."""
        facts = self._facts()
        if self._stated is not None:
            found = "; their values are {} to {}".format(*map(_number, self._extent)) if self._extent else ""
            yield (
                f"In all images, {_number(self._stated.low)} and what is below become black, "
                f"{_number(self._stated.high)} and what is above white: {self._stated.why}{found}."
            )
        elif facts.deep.count:
            yield self._note_on_bits(facts)
        if facts.wrapped.count and self._card.dtype is None:
            yield (
                f"{facts.wrapped.told('image', 'has', 'have')} values near 0 and near 65,535 and none in between, as "
                "negative numbers have that were saved without their sign: what should be black is white. If so, "
                f"{self._say('dtype: int16')} Beside it, `intensity: [black, white]` is needed."
            )
        if facts.cut.count and self._stated is None:
            yield (
                f"{facts.cut.told('image', 'has', 'have')} 16 bits in each channel of colour, with values up to "
                f"{facts.cut_highest:,}, of which the upper 8 bits are read. To have all of them read, "
                f"{self._say(f'intensity: [0, {facts.cut_highest}]')}"
            )
        yield from self._notes_on_colour(facts.coloured)

    def _notes_on_colour(self, coloured: Some) -> Iterator[str]:
        why = f", as the card says (channels: {self._card.channels})" if self._card.channels else ""
        if self.channels == "rgb":
            others = len(self._images) - coloured.count
            beside = f"; {others:,} of {len(self._images):,} are grey, with three equal channels" if others else ""
            yield f"Images are read in colour (RGB){why}{beside}."
        elif coloured.count:
            keep = "" if why else f" Colour is lost. To keep it, {self._say('channels: rgb')}"
            yield f"{coloured.told('image', 'is', 'are')} in colour and read as grey (luma of ITU-R BT.601){why}.{keep}"

    def _note_on_bits(self, facts: Facts) -> str:
        bits, top = self._bits, 2**self._bits - 1
        why = "as the card says" if self._card.bits else f"the fewest of {', '.join(map(str, _DEPTHS))} that hold all"
        beside = f" {facts.shallow:,} images of 8 bits are taken as they are." if facts.shallow else ""
        shown = (facts.highest - facts.lowest) * 255 // top + 1
        if shown <= _NARROW and facts.highest // 2 < facts.lowest < facts.highest:
            remedy = (
                f"All values but 0 are above {facts.lowest - 1:,}, an offset such as that of Hounsfield units stored "
                f"without a sign, which leaves {shown} of 256 grey levels: to say which values are black and white, "
                f"{self._say(f'intensity: [{facts.lowest}, {facts.highest}]')}"
            )
        else:
            remedy = f"If other values are black and white, {self._say(f'intensity: [0, {facts.highest}]')}"
        return (
            f"{facts.deep.told('image', 'has', 'have')} more than 8 bits, with values up to {facts.highest:,}: 0 "
            f"to {top:,} become 0 to 255 ({bits} bits, {why}).{beside} {remedy}"
        )

    @cached_property
    def _stated(self) -> Range | None:
        """The range of all images, where the card states one."""
        if self._card.intensity is not None:
            return Range(*self._card.intensity, "the card's intensity")
        if self._card.percentiles is not None:
            return self._percentiles(self._card.percentiles)
        return None

    def _percentiles(self, percentiles: tuple[float, float]) -> Range:
        cache = Cache.from_environment()
        how = repr((percentiles, self.channels, self._card.dtype))
        key = cache_key("percentiles of images", _VERSION, how, states(self._train))
        kept = cache.find(key)
        if kept is not None:
            low, high = json.loads(kept.read_text(encoding="utf-8"))
        else:
            low, high = np.percentile(self._sample(), percentiles).tolist()
            text = json.dumps([low, high])
            cache.store(key, len(text), lambda path: path.write_text(text, encoding="utf-8"))
        told = " and ".join(f"{each:g}" for each in percentiles)
        if low == high:
            raise DataError(
                f"The percentiles {told} of the training images' pixels are both {_number(low)}. Take others on the "
                "card, further apart, or say which values are black and white, with `intensity: [black, white]`."
            )
        return Range(low, high, f"the percentiles {told} of the pixels of all {len(self._train):,} training images")

    def _sample(self) -> np.ndarray:
        """The pixels of all training images, or evenly many of each."""
        each = max(1, _SAMPLES // len(self._train))
        flat = (self._pixels(path).ravel() for path in self._train)
        return np.concatenate([pixels[:: -(-pixels.size // each)] for pixels in flat])

    @property
    def _bits(self) -> int:
        """How many bits of images of more than 8 mean something."""
        return self._card.bits or next(bits for bits in _DEPTHS if self._facts().highest < 2**bits)

    @property
    def _extent(self) -> tuple[float, float] | None:
        """The least and the greatest value of all images, where some have more than 8 bits."""
        facts = self._facts()
        if facts.rangeless.count:
            low, high = facts.extent
            return min(low, 0) if facts.deep.count else low, max(high, facts.highest, facts.cut_highest)
        return (0, max(facts.highest, facts.cut_highest)) if facts.deep.count or facts.cut.count else None

    @property
    def _unknown(self) -> str:
        """Why images cannot be read without a range."""
        facts = self._facts()
        low, high = facts.extent
        return (
            f"{facts.rangeless.told('image', 'has', 'have')} {facts.kind}, with values from {_number(low)} to "
            f"{_number(high)}, and which of them are black and white is unknown: "
            f"{self._say(f'intensity: [{_plain(low)}, {_plain(high)}]')}"
        )

    def _say(self, line: str) -> str:
        """How to state something on the card: the end of a sentence."""
        if self._folder is None:
            return f"say so on the card, such as `{line}`."
        return (
            f"say so on a card, a file card.yaml in {path_text(self._folder)} with the lines `name: {self._card.name}` "
            f"and, for example, `{line}`."
        )


def _number(value: float) -> str:
    """A value as a sentence has it."""
    return f"{value:,.6g}"


def _plain(value: float) -> str:
    """A value as a card has it."""
    return f"{value:.6g}"
