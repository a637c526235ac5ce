"""Values of pixels, sorted or binned, with what is counted or summed of each.

By default every value is kept, in about eight bytes a pixel while they are sorted. With a limit on the number of
distinct values, they are rounded down to a common number of bits once there are more: bins whose lower edges are
thresholds of the maps' own type, at which all counts stay exact.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

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


class SortedValues:
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
        counts = _side_by_side(lambda part: _around(part, rising), self.parts, self.total)
        return sum(counts, start=np.zeros((2, len(rising)), int))


class CountedValues:
    """Distinct values, rising, and how often each occurs."""

    def __init__(self, values: np.ndarray, counts: np.ndarray) -> None:
        self.values = values
        self._before = zero_first(np.cumsum(counts))
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


class KeptValues:
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

    def sorted(self) -> SortedValues:
        """Sorts all so far."""
        if self._used:
            self._close()
            parts = [self._parts[first::THREADS] for first in range(min(THREADS, len(self._parts)))]
            self._parts = _side_by_side(_sorted_together, parts, sum(map(len, self._parts)))
        return SortedValues(self._parts)

    def _close(self) -> None:
        if self._used:
            self._parts.append(self._room[: self._used])
            self._room, self._used = np.empty(0, np.float32), 0


class Tally:
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
        self._waiting.append((unsigned_zeros(values), *columns))
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

    def counted(self) -> CountedValues:
        """The values, where nothing came with them."""
        return CountedValues(self.values, *(self.sums or [np.empty(0, np.int64)]))

    def _reduced(self, values: np.ndarray, sums: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Sorts, rounds down as far as the limit asks for, and joins what is equal."""
        if sums:
            # Sorted together with their places: several times faster than by argsort.
            packed = sortable(values)
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
        starts = zero_first(np.flatnonzero(difference >= 2**self.shift) + 1)
        sums = [np.add.reduceat(column, starts) for column in sums] or [np.diff(starts, append=len(values))]
        return _rounded_down(values[starts], self.shift), sums


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


def checked_map(anomaly_map: np.ndarray, *truths: np.ndarray) -> np.ndarray:
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


def unsigned_zeros(values: np.ndarray) -> np.ndarray:
    """A copy without a negative zero, whose bits differ from those of zero."""
    return values + np.float32(0)


def zero_first(curve: np.ndarray) -> np.ndarray:
    """The curve behind a zero, (N + 1,)."""
    return np.concatenate([np.zeros(1, curve.dtype), curve])


def _side_by_side(work: Callable[[Any], np.ndarray], parts: Sequence[Any], pixels: int) -> list[np.ndarray]:
    """Works on each part in a thread of its own, where there are so many pixels that it pays."""
    if len(parts) < 2 or pixels < ROOM:
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


def _rounded_down(values: np.ndarray, shift: int) -> np.ndarray:
    """Clears low bits of float32 values, or sets them where that is lower: below zero."""
    bits, low = values.view(np.uint32), np.uint32(2**shift - 1)
    return np.where(values < 0, bits | low, bits & ~low).view(np.float32)


def sortable(values: np.ndarray) -> np.ndarray:
    """Integers in the order of float32 values, negative zero before zero; they leave the lower 32 bits free.

    Args:
        values: float32 (N,).

    Returns:
        uint64 (N,).
    """
    bits = values.view(np.int32)
    return (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32).astype(np.uint64) << np.uint64(32)


def _values(sortable: np.ndarray) -> np.ndarray:
    """The float32 values back."""
    bits = (sortable >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return (bits ^ (~(bits >> 31) | np.int32(-(2**31)))).view(np.float32)
