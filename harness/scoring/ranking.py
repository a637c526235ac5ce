"""Scores of anomaly maps, in one pass over the images.

The pooled metrics depend on few numbers: for each distinct value of a lesion pixel, how many lesion pixels, and what
share of their lesions, lie at or above it, and how many normal pixels lie above and at or above it. Between two such
values only false positives are added: the ROC and the per-region overlap are flat there, and F1 falls. So all pixels
need only be sorted, and the few of lesions be found among them.

By default every value is kept, in about eight bytes a pixel while they are sorted. With a limit on the number of
distinct values, they are rounded down to a common number of bits once there are more: bins whose lower edges are
thresholds of the maps' own type, at which all counts stay exact. The error that is left is bounded from the bins' own
counts.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from scipy.ndimage import label as connected_components

from . import curves
from .curves import AUPRO_LIMIT, Counts
from .masks import EIGHT_NEIGHBOURS

BATCH = 2**24
"""Pixels that wait before they are joined with those already tallied: their sorting takes at most two gigabytes."""

MIN_LIMIT = 512
"""Fewest bins: sign and exponent of a float32 are never rounded, so that every edge is a finite number."""

THREADS = min(2, os.cpu_count() or 1)
"""More would not pay: each thread searches its part for the values of all lesions."""

ROOM = 2**21
"""Pixels for which memory is taken at a time."""

BLOCK = 1024
"""So many thresholds are looked for at a time."""

ROUNDING = 1e-12
"""Mean DICE values that differ by less are equal: their sums are rounded."""

PARTS = 8
"""Into so many parts a block of thresholds is divided in search of the best mean DICE."""


@dataclass(frozen=True)
class ErrorBounds:
    """How far the metrics of binned values can be from those of the values themselves; 0 where none is rounded."""

    auroc: float
    average_precision: float
    best_f1: float
    aupro: float


class Ranking:
    """Scores of positives and negatives, counted from the highest down; every threshold-free metric reads from it.

    Args:
        scores: float (N,), finite; higher means more anomalous.
        positives: bool (N,).

    Attributes:
        thresholds: (K,) the distinct scores of positives, falling.
        true_positives: int (K,), positives at or above each threshold.
        false_positives: int (K,), negatives at or above each threshold.
        false_positives_above: int (K,), negatives strictly above each threshold.
        positives: How many there are.
        negatives: How many there are.
        overlap: float64 (K,), the share of positives at or above each threshold; of pixels, the share of each lesion,
            averaged over lesions.

    Raises:
        ValueError: A score is NaN or infinite.
    """

    def __init__(self, scores: np.ndarray, positives: np.ndarray) -> None:
        if not np.isfinite(scores).all():
            raise ValueError(f"score number {int(np.flatnonzero(~np.isfinite(scores))[0])} is not finite")
        self._rank(*np.unique(scores[positives], return_counts=True), _Sorted([np.sort(scores)]))

    def _rank(self, rising: np.ndarray, counts: np.ndarray, scores: "_Counted | _Sorted") -> None:
        """Sets the attributes, from the distinct scores of positives, how often each occurs, and all scores."""
        self._positives, self._scores = _Counted(rising, counts), scores
        self.positives, self.negatives = self._positives.total, scores.total - self._positives.total
        self.thresholds = rising[::-1]
        self.true_positives = np.cumsum(counts[::-1])
        reached, above = scores.total - scores.around(rising)[:, ::-1]
        self.false_positives = reached - self.true_positives
        self.false_positives_above = above - _from_zero(self.true_positives)[:-1]
        self.overlap = self.true_positives / max(self.positives, 1)

    def at(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives of `score >= threshold` at any thresholds, each int of the same shape."""
        thresholds = rounded_up(thresholds, self.thresholds.dtype)
        true = self.positives - self._positives.below(thresholds)
        return true, self._scores.total - self._scores.below(thresholds) - true

    @property
    def counts(self) -> Counts:
        """What all threshold-free metrics are computed from."""
        return Counts(
            self.true_positives,
            self.false_positives,
            self.false_positives_above,
            self.overlap,
            np.array(self.positives),
            np.array(self.negatives),
        )

    @cached_property
    def auroc(self) -> float:
        """By `curves.auroc`; NaN without positives or without negatives."""
        return float(curves.auroc(self.counts))

    @cached_property
    def average_precision(self) -> float:
        """By `curves.average_precision`; NaN without positives."""
        return float(curves.average_precision(self.counts))

    def best_f1(self) -> tuple[float, float]:
        """The highest threshold of the largest F1 (pooled DICE), and that F1; both NaN without positives."""
        if not self.positives:
            return float("nan"), float("nan")
        f1 = curves.f1(self.counts)
        best = int(f1.argmax())
        return float(self.thresholds[best]), float(f1[best])


class PixelRanking(Ranking):
    """The pixels of many images ranked together; made by `PixelTally`.

    Attributes:
        overlap: float64 (K,), the share of each lesion at or above each threshold, averaged over all lesions.
        regions: Number of 8-connected lesions.
        binned: Whether values were rounded down. All that is counted at `thresholds` is exact then too.
    """

    def __init__(self, lesions: "_Tally", pixels: "_Counted | _Sorted", regions: int) -> None:
        counts, shares = lesions.sums or (np.empty(0, np.int64), np.empty(0))
        self._rank(lesions.values, counts, pixels)
        self.overlap = np.cumsum(shares[::-1]) / max(regions, 1)
        self.regions = regions
        self.binned = lesions.shift > 0

    def overlap_at(self, thresholds: np.ndarray) -> np.ndarray:
        """The overlap at any thresholds, float64 of the same shape; 0 without lesions."""
        return _from_zero(self.overlap)[len(self.overlap) - self._positives.places(thresholds)]

    def aupro(self, limit: float = AUPRO_LIMIT) -> float:
        """By `curves.aupro`; NaN without lesions or without normal pixels."""
        return float(curves.aupro(self.counts, limit)) if self.positives else float("nan")

    def error_bounds(self, limit: float = AUPRO_LIMIT) -> ErrorBounds:
        """Bounds on the error of each metric: whatever the order of values within the bins was, it lies within them.

        Each lesion pixel adds its own part to AUROC, average precision and AUPRO. That part is smallest when all normal
        pixels of its bin lie above it, and largest when all lie below.

        Args:
            limit: Of `aupro`.
        """
        if not self.binned or not self.positives:
            return ErrorBounds(0.0, 0.0, 0.0, 0.0)
        counts = self.counts
        steps, true, false, above = counts.steps, counts.true, counts.false, counts.above
        tied = int(steps @ (false - above)) / (2 * self.positives * max(self.negatives, 1))
        first, precision = true - steps + 1, true / (true + false)
        # From the first lesion pixel of a bin to its last, precision is concave: no mean is below that of these two.
        lowest, highest = (first / (first + false) + precision) / 2, true / (true + above)
        least, area, most = curves.overlap_areas(counts, limit)
        overlap = np.diff(counts.overlap, prepend=0.0)
        return ErrorBounds(
            tied,
            _larger_sum(steps / self.positives, precision - lowest, highest - precision),
            max(0.0, float((2 * true / (true + above + self.positives)).max()) - self.best_f1()[1]),
            _larger_sum(overlap, area - least, most - area) / limit,
        )


class PixelTally:
    """Counts the pixels of one image after the other, and ranks them all together.

    Args:
        limit: The most distinct values to keep, at least 512; `None` keeps all.
        truths: How many truths each image is ranked against; the pixels are kept once for all of them.

    Raises:
        ValueError: The limit is too small.
    """

    def __init__(self, limit: int | None = None, truths: int = 1) -> None:
        self._pixels = _Kept() if limit is None else _Tally(limit)
        self._lesions = [_Tally(limit) for _ in range(truths)]
        self._regions = [0] * truths

    def add(self, anomaly_map: np.ndarray, *truths: np.ndarray) -> None:
        """Counts the pixels of an image.

        Args:
            anomaly_map: float32 (H, W), finite; higher means more anomalous.
            truths: bool (H, W) each.

        Raises:
            ValueError: A value is NaN or infinite, or would be rounded to float32; or the shapes differ.
        """
        values = _checked(anomaly_map, *truths)
        for index, (lesions, truth) in enumerate(zip(self._lesions, truths, strict=True)):
            lesion_values, shares, regions = _lesion_pixels(values, truth)
            self._regions[index] += regions
            lesions.add(lesion_values, np.ones(len(shares), np.int64), shares)
        self._pixels.add(values.ravel())

    def ranking(self) -> PixelRanking:
        """Ranks all pixels so far against the first truth; more may be added afterwards."""
        return self.rankings()[0]

    def rankings(self) -> list[PixelRanking]:
        """Ranks all pixels so far against each truth; more may be added afterwards."""
        for lesions in self._lesions:
            lesions.join()
        if isinstance(self._pixels, _Kept):
            pixels = self._pixels.sorted()
        else:
            self._pixels.join()
            shift = max(tally.shift for tally in (self._pixels, *self._lesions))
            for tally in (self._pixels, *self._lesions):
                tally.round_down(shift)
            pixels = self._pixels.counted()
        return [
            PixelRanking(lesions, pixels, regions)
            for lesions, regions in zip(self._lesions, self._regions, strict=True)
        ]


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
        self._changes = None if limit is None else _Tally(limit)
        self._binned_images = 0

    def add(self, anomaly_map: np.ndarray, truth: np.ndarray) -> None:
        """Adds an image; arguments and errors are those of `PixelTally.add`."""
        values = _checked(anomaly_map, truth)
        if not truth.any():
            return
        if self._changes is None:
            self._images.append(_ImageDice(np.sort(values, axis=None), np.sort(values[truth])))
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
        self.thresholds = np.unique(_unsigned_zeros(lesions))[::-1]

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
        """That of the next higher threshold in the curve."""
        return _from_zero(self.dice)[len(self.dice) - np.searchsorted(self.thresholds[::-1], thresholds)]

    @property
    def error_bound(self) -> float:
        return max(0.0, float((self.ceilings - self.dice.max()).max())) if len(self.dice) else 0.0


def rounded_up(thresholds: float | np.ndarray, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """The smallest numbers of a type that are not below thresholds: values of that type reach the one or neither.

    NumPy would round a Python float to the nearest float32 where it is compared with a float32 map, and so take in
    pixels below a threshold such as 0.7, which float32 cannot hold.

    Args:
        thresholds: float, of any shape; infinite ones, and those beyond the range of the type, keep their meaning.
        dtype: A floating-point type, that of the values.

    Returns:
        The same shape, of that type.
    """
    thresholds = np.asarray(thresholds)
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(dtype)
    return np.where(rounded < thresholds, np.nextafter(rounded, rounded.dtype.type(np.inf)), rounded)


def rank_pixels(maps: Iterable[np.ndarray], truths: Iterable[np.ndarray], limit: int | None = None) -> PixelRanking:
    """Ranks all pixels of all images; see `PixelTally`."""
    tally = PixelTally(limit)
    for anomaly_map, truth in zip(maps, truths, strict=True):
        tally.add(anomaly_map, truth)
    return tally.ranking()


def dice_curve(maps: Iterable[np.ndarray], truths: Iterable[np.ndarray], limit: int | None = None) -> DiceCurve:
    """Mean DICE over images at every threshold; see `DiceTally`."""
    tally = DiceTally(limit)
    for anomaly_map, truth in zip(maps, truths, strict=True):
        tally.add(anomaly_map, truth)
    return tally.curve()


class _Sorted:
    """Values, each beside its equals, in parts that are each sorted; a thread searches each."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self.total = sum(len(part) for part in parts)

    def below(self, thresholds: np.ndarray) -> np.ndarray:
        """How many lie below each threshold."""
        counts = [np.searchsorted(part, thresholds) for part in self.parts]
        return sum(counts, start=np.zeros(np.shape(thresholds), int))

    def around(self, rising: np.ndarray) -> np.ndarray:
        """How many lie below each of rising thresholds, and below or at it, int (2, K)."""
        counts = _side_by_side(lambda part: _around(part, rising), self.parts)
        return sum(counts, start=np.zeros((2, len(rising)), int))


class _Counted:
    """Distinct values, rising, and how often each occurs."""

    def __init__(self, values: np.ndarray, counts: np.ndarray) -> None:
        self.values = values
        self._before = _from_zero(np.cumsum(counts))
        self.total = int(self._before[-1])

    def below(self, thresholds: np.ndarray) -> np.ndarray:
        """How many lie below each threshold."""
        return self._before[self.places(thresholds)]

    def places(self, thresholds: np.ndarray) -> np.ndarray:
        """The same, of the distinct values."""
        return np.searchsorted(self.values, thresholds)

    def around(self, rising: np.ndarray) -> np.ndarray:
        """How many lie below each of rising thresholds, and below or at it, int (2, K)."""
        return self._before[_around(self.values, rising)]


class _Kept:
    """All values that are added; once sorted, in a part for each thread, as NumPy lets others run while it sorts.

    They wait in rooms of one size: the system hands out memory faster in few large pages than in many small ones.
    """

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._room, self._used = np.empty(0, np.float32), 0

    def add(self, values: np.ndarray) -> None:
        """Adds a copy of values, float32 (N,)."""
        if self._used + len(values) > len(self._room):
            self._close()
            self._room = np.empty(max(ROOM, len(values)), np.float32)
        self._room[self._used : self._used + len(values)] = values
        self._used += len(values)

    def sorted(self) -> _Sorted:
        """Sorts all so far."""
        if self._used:
            self._close()
            parts = [self._parts[first::THREADS] for first in range(min(THREADS, len(self._parts)))]
            self._parts = _side_by_side(_sorted_together, parts)
        return _Sorted(self._parts)

    def _close(self) -> None:
        if self._used:
            self._parts.append(self._room[: self._used])
            self._room, self._used = np.empty(0, np.float32), 0


class _Tally:
    """Distinct values, rising, with sums of what came with each; where nothing comes with them, they are counted.

    What is added waits and is joined in large batches; without a limit, all at once. With more distinct values than the
    limit allows, all are rounded down to fewer bits, as many as fit, and equal ones are joined.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < MIN_LIMIT:
            raise ValueError(f"a limit of {limit} values is below {MIN_LIMIT}")
        self.limit = limit
        self.shift = 0
        self.values = np.empty(0, np.float32)
        self.sums: list[np.ndarray] = []
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._pixels = 0

    def add(self, values: np.ndarray, *columns: np.ndarray) -> None:
        """Adds values, float32 (N,), each with its entry of the columns, (N,) each."""
        self._waiting.append((_unsigned_zeros(values), *columns))
        self._pixels += len(values)
        if self.limit is not None and self._pixels >= max(BATCH, len(self.values)):
            self.join()

    def join(self) -> None:
        """Joins what waits with what is tallied already."""
        if not self._pixels:
            return
        values, *sums = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        self._waiting, self._pixels = [], 0
        values, sums = self._reduced(values, sums)
        if len(self.values):
            both = [np.concatenate(pair) for pair in zip((self.values, *self.sums), (values, *sums), strict=True)]
            values, sums = self._reduced(both[0], both[1:])
        self.values, self.sums = values, sums

    def round_down(self, shift: int) -> None:
        """Clears that many low bits of all values."""
        if shift > self.shift:
            self.shift = shift
            if len(self.values):
                self.values, self.sums = self._reduced(self.values, self.sums)

    def counted(self) -> _Counted:
        """The values, where nothing came with them."""
        return _Counted(self.values, *(self.sums or [np.empty(0, np.int64)]))

    def _reduced(self, values: np.ndarray, sums: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Sorts, rounds down as far as the limit asks for, and joins what is equal."""
        if sums:
            # Sorted together with their places: several times faster than by argsort.
            packed = _sortable(values)
            packed |= np.arange(len(values), dtype=np.uint64)
            packed.sort()
            values, order = _values(packed), packed.astype(np.uint32)
            sums = [column[order] for column in sums]
        else:
            values.sort()
        difference = values.view(np.uint32)[1:] ^ values.view(np.uint32)[:-1]
        if self.limit is not None:
            while np.count_nonzero(difference >= 2**self.shift) >= self.limit:
                self.shift += 1
        starts = _from_zero(np.flatnonzero(difference >= 2**self.shift) + 1)
        sums = [np.add.reduceat(column, starts) for column in sums] or [np.diff(starts, append=len(values))]
        return _rounded_down(values[starts], self.shift), sums


def _checked(anomaly_map: np.ndarray, *truths: np.ndarray) -> np.ndarray:
    """The map as float32 (H, W)."""
    for truth in truths:
        if anomaly_map.shape != truth.shape:
            raise ValueError(f"a map of {anomaly_map.shape} has a truth of {truth.shape}")
    if not np.can_cast(anomaly_map.dtype, np.float32):
        raise ValueError(f"a map of {anomaly_map.dtype} would be rounded to float32")
    values = anomaly_map.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ValueError("a value of the map is not finite")
    return values


def _side_by_side(work: Callable[[Any], np.ndarray], parts: Sequence[Any]) -> list[np.ndarray]:
    """Works on each part in a thread of its own."""
    if len(parts) < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, parts))


def _around(values: np.ndarray, rising: np.ndarray) -> np.ndarray:
    """How many of sorted values lie below each of rising thresholds, and below or at it, int (2, K)."""
    counts = np.empty((2, len(rising)), int)
    starts = range(0, len(rising), BLOCK)
    ends = np.searchsorted(values, rising[::BLOCK]).tolist()
    for start, low, high in zip(starts, ends, [*ends[1:], len(values)], strict=False):
        # Among few values, which stay in the processor's cache.
        near, block = values[low:high], slice(start, start + BLOCK)
        counts[0, block] = low + np.searchsorted(near, rising[block])
        counts[1, block] = low + np.searchsorted(near, rising[block], "right")
    return counts


def _sorted_together(parts: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate(parts)
    values.sort()
    return values


def _unsigned_zeros(values: np.ndarray) -> np.ndarray:
    """A copy without a negative zero, whose bits differ from those of zero."""
    return values + np.float32(0)


def _rounded_down(values: np.ndarray, shift: int) -> np.ndarray:
    """Clears low bits of float32 values, or sets them where that is lower: below zero."""
    bits, low = values.view(np.uint32), np.uint32(2**shift - 1)
    return np.where(values < 0, bits | low, bits & ~low).view(np.float32)


def _sortable(values: np.ndarray) -> np.ndarray:
    """Integers in the order of float32 values, which leave the lower 32 bits free, uint64 (N,)."""
    bits = values.view(np.int32)
    return (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32).astype(np.uint64) << np.uint64(32)


def _values(sortable: np.ndarray) -> np.ndarray:
    """The float32 values back."""
    bits = (sortable >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return (bits ^ (~(bits >> 31) | np.int32(-(2**31)))).view(np.float32)


def _lesion_pixels(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Values of lesion pixels, one over the size of the 8-connected lesion of each, and the number of lesions."""
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    if not len(rows):
        return np.empty(0, np.float32), np.empty(0), 0
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, count = cast("tuple[np.ndarray, int]", connected_components(truth[box], EIGHT_NEIGHBOURS))
    of_lesion = labels[truth[box]]
    return values[box][truth[box]], (1 / np.maximum(np.bincount(of_lesion), 1))[of_lesion], count


def _larger_sum(weights: np.ndarray, below: np.ndarray, above: np.ndarray) -> float:
    return float(max(weights @ below, weights @ above))


def _from_zero(curve: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, curve.dtype), curve])
