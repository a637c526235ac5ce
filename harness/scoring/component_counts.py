"""How many connected components the masks of one map have, at many thresholds at once.

Every pixel is joined to the highest of its eight neighbours, as long as one is higher, so that each belongs to a peak.
Two peaks are one component of a mask where there is a way from the one to the other that lies in it; which ways there
are is told by the maximum spanning forest of the peaks, whose edges weigh what the highest pass between two of them is.
A mask has as many components as peaks, less the edges of that forest that are in it.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from .tally import sortable

_HALF_OF_EIGHT = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Steps to half of a pixel's eight neighbours: each pair of neighbours once."""

_LOW_BITS = np.uint64(2**32 - 1)


def component_counts(values: np.ndarray, falling: np.ndarray) -> np.ndarray:
    """How many 8-connected components the mask `values > threshold` has at each threshold, int (K,).

    Args:
        values: float32 (H, W); infinity is above every threshold.
        falling: float (K,), falling.
    """
    count, inside = len(falling), values > falling[-1]
    if not inside.any():
        return np.zeros(count, int)
    rising = _rounded_down(falling[::-1])

    def steps(heights: np.ndarray) -> np.ndarray:
        """The first of the thresholds that heights lie above."""
        return count - np.searchsorted(rising, heights)

    peaks, basins = _basins(values, inside)
    pairs, passes = (np.concatenate(parts) for parts in zip(*_passes(values, basins, len(peaks)), strict=True))
    keys = np.sort(pairs * count + steps(passes))  # of several passes between two peaks, the highest comes first
    pairs, steps_of_passes = np.divmod(keys, count)
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    ends = np.divmod(pairs[first], len(peaks))
    graph = coo_array((steps_of_passes[first] + 1.0, ends), shape=(len(peaks), len(peaks)))  # an edge of 0 is none
    edges = minimum_spanning_tree(graph.tocsr()).data.astype(int) - 1
    changes = np.bincount(steps(peaks), minlength=count) - np.bincount(edges, minlength=count)
    return np.cumsum(changes)


def _basins(values: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The heights of all peaks, (P,), and the number of the peak that each pixel belongs to, int (H, W); -1 outside."""
    places = np.flatnonzero(inside)
    heights, numbers = values.ravel()[places], np.arange(len(places))
    keys = np.zeros((inside.shape[0] + 2, inside.shape[1] + 2), np.uint64)  # of equal values, the last is the highest
    keys[1:-1, 1:-1][inside] = sortable(heights) | numbers.astype(np.uint64)
    rows = np.maximum(np.maximum(keys[:-2], keys[1:-1]), keys[2:])
    highest = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    joined = (highest.ravel()[places] & _LOW_BITS).astype(np.intp)
    while not np.array_equal(further := joined.take(joined), joined):
        joined = further
    peaks = np.flatnonzero(joined == numbers)
    ranks = np.empty(len(places), np.intp)
    ranks[peaks] = np.arange(len(peaks))
    basins = np.full(inside.shape, -1)
    basins.ravel()[places] = ranks.take(joined)
    return heights[peaks], basins


def _passes(values: np.ndarray, basins: np.ndarray, peaks: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Where two basins meet: both numbers as one, int64 (N,), and the height of the pass there, (N,)."""
    height, width = values.shape
    for down, right in _HALF_OF_EIGHT:
        first = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        second = np.s_[down:, max(0, right) : width - max(0, -right)]
        one, other = basins[first], basins[second]
        meet = (one != other) & (one >= 0) & (other >= 0)
        one, other = one[meet], other[meet]
        pair = np.minimum(one, other) * peaks + np.maximum(one, other)
        yield pair, np.minimum(values[first][meet], values[second][meet])


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 numbers that are not above thresholds: the same float32 values lie above both."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
