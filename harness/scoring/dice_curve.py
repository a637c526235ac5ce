"""Mean DICE over the images with a lesion, at every threshold.

Walking down the values of an image, its DICE changes at each. Without a limit on distinct values, the sorted pixels of
each image are kept, and the best threshold is found by branch and bound; with one, the changes of all images are summed
in bins.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .tally import Tally, checked_map, rounded_up, unsigned_zeros, zero_first

ROUNDING = 1e-12
"""Mean DICE values that differ by less are equal: their sums are rounded."""

PARTS = 8
"""Into so many parts a block of thresholds is divided in search of the best mean DICE."""


class DiceCurve(ABC):
    """Mean DICE of the masks `map >= threshold` over the images with a lesion; made by `DiceTally`.

    Attributes:
        thresholds: float32 (K,), falling, of which one is the best; empty without a lesion.
    """

    thresholds: np.ndarray

    @abstractmethod
    def best(self) -> tuple[float, float]:
        """The highest threshold of the largest mean DICE, and that DICE; both NaN without a lesion."""

    @abstractmethod
    def at(self, thresholds: np.ndarray) -> np.ndarray:
        """Mean DICE at any thresholds, float64 of the same shape, 0 to 1; 0 without a lesion."""

    @property
    @abstractmethod
    def error_bound(self) -> float:
        """How far the mean DICE of any threshold whatever can lie above that of `best`; 0 where none is rounded."""


class DiceTally:
    """Takes in the DICE of one image after the other, at all thresholds; images with an empty truth are left out.

    Args:
        limit: The most distinct values to keep, at least 512; `None` keeps all, in four bytes a pixel.

    Raises:
        ValueError: The limit is too small.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._images: list[_ImageDice] = []
        self._changes = None if limit is None else Tally(limit)
        self._binned_images = 0

    def add(self, anomaly_map: np.ndarray, truth: np.ndarray, rising: np.ndarray | None = None) -> None:
        """Adds an image; arguments and errors are those of `PixelTally.add`.

        Args:
            anomaly_map: float32 (H, W).
            truth: bool (H, W).
            rising: The map's values, sorted, where they are at hand.
        """
        values = checked_map(anomaly_map, truth)
        if not truth.any():
            return
        if self._changes is None:
            rising = np.sort(values, axis=None) if rising is None else rising
            self._images.append(_ImageDice(rising, np.sort(values[truth])))
        else:
            # Walking down the values of all images together, each pixel changes the DICE of its own image only.
            distinct, pixels = np.unique(values, return_counts=True)
            lesion = np.bincount(np.searchsorted(distinct, values[truth]), minlength=len(distinct))
            reached, found = (np.cumsum(counts[::-1])[::-1] for counts in (pixels, lesion))
            change = -np.diff(2 * found / (reached + found[0]), append=0.0)
            self._changes.add(distinct, change, np.maximum(change, 0))
            self._binned_images += 1

    def curve(self) -> DiceCurve:
        """The mean of all images so far; more may be added afterwards."""
        if self._changes is None:
            return _ExactDice(tuple(self._images))
        self._changes.join()
        sums = self._changes.sums or (np.empty(0),) * 2
        change, rise = (column[::-1] / max(self._binned_images, 1) for column in sums)
        dice = np.cumsum(change)
        ceilings = dice - change + rise if self._changes.shift else dice
        return _BinnedDice(self._changes.values[::-1], dice, ceilings)


class _ImageDice(NamedTuple):
    """The pixels of an image, and those of its lesions, sorted: float32 (N,) each."""

    pixels: np.ndarray
    lesion: np.ndarray

    def between(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """DICE at the high thresholds, and what it does not exceed from there down to the low ones."""
        total = len(self.lesion)
        found, more = total - np.searchsorted(self.lesion, high), total - np.searchsorted(self.lesion, low)
        both = total + len(self.pixels) - np.searchsorted(self.pixels, high)
        # On the way down the mask grows by the lesion pixels it finds, at least; and the more it finds the better.
        return 2 * found / both, 2 * more / (both + more - found)


class _ExactDice(DiceCurve):
    """Counts each image's pixels at every threshold asked for."""

    def __init__(self, images: Sequence[_ImageDice]) -> None:
        self._images = images
        # Between the values of lesions only false positives are added: none is better than the next higher of these.
        lesions = np.concatenate([np.empty(0, np.float32), *(image.lesion for image in images)])
        self.thresholds = np.unique(unsigned_zeros(lesions))[::-1]

    def best(self) -> tuple[float, float]:
        """By branch and bound: blocks of neighbouring thresholds are divided where the best may lie among them."""
        rising = self.thresholds[::-1]
        if not len(rising):
            return float("nan"), float("nan")
        starts, size, best = np.zeros(1, int), 1, 0.0
        while size < len(rising):
            size *= PARTS
        while True:
            low, high = rising[starts], rising[np.minimum(starts + size, len(rising)) - 1]
            dice, ceiling = self._between(low, high)
            best = max(best, float(dice.max()))
            kept = ceiling >= best - ROUNDING
            if size == 1:
                return float(high[kept][-1]), float(dice[kept][-1])
            size //= PARTS
            starts = (starts[kept, None] + np.arange(0, size * PARTS, size)).ravel()
            starts = starts[starts < len(rising)]

    def at(self, thresholds: np.ndarray) -> np.ndarray:
        thresholds = rounded_up(thresholds, self.thresholds.dtype)
        return self._between(thresholds, thresholds)[0]

    @property
    def error_bound(self) -> float:
        return 0.0

    def _between(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means of `_ImageDice.between`."""
        sums = np.zeros((2, *np.shape(low)))
        for image in self._images:
            sums += image.between(low, high)
        dice, ceiling = sums / max(len(self._images), 1)
        return dice, ceiling


@dataclass(frozen=True)
class _BinnedDice(DiceCurve):
    """Running sums of the changes in DICE.

    Attributes:
        thresholds: Lower edges of bins.
        dice: float64 (K,), exact mean DICE there.
        ceilings: float64 (K,), above which no mean DICE lies between a threshold and the next higher one.
    """

    thresholds: np.ndarray
    dice: np.ndarray
    ceilings: np.ndarray

    def best(self) -> tuple[float, float]:
        if not len(self.dice):
            return float("nan"), float("nan")
        best = int(np.flatnonzero(self.dice >= self.dice.max() - ROUNDING)[0])
        return float(self.thresholds[best]), float(self.dice[best])

    def at(self, thresholds: np.ndarray) -> np.ndarray:
        """The value at the next higher threshold in the curve."""
        return zero_first(self.dice)[len(self.dice) - np.searchsorted(self.thresholds[::-1], thresholds)]

    @property
    def error_bound(self) -> float:
        return max(0.0, float((self.ceilings - self.dice.max()).max())) if len(self.dice) else 0.0


def dice_curve(maps: Iterable[np.ndarray], truths: Iterable[np.ndarray], limit: int | None = None) -> DiceCurve:
    """Mean DICE over images at every threshold; see `DiceTally`."""
    tally = DiceTally(limit)
    for anomaly_map, truth in zip(maps, truths, strict=True):
        tally.add(anomaly_map, truth)
    return tally.curve()
