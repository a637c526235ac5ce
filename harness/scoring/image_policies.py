"""Threshold policies that choose for each image by itself, beside Otsu's: entropy, triangle and MEBin."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import minimum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from skimage.filters import threshold_otsu, threshold_triangle

from ..api import CalibratedPolicy, ImagePolicy

_BINS = 256
_FOUR_OF_EIGHT = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Steps to half of a pixel's eight neighbours: each pair of neighbours once."""

_LEVELS = 255.0
_STEP = 4
_SHORTEST = 4
"""MEBin's sweep as published: from 255 down to 3 in steps of 4, and a run is stable from 4 steps on."""


@dataclass(frozen=True)
class Otsu(ImagePolicy):
    """Otsu's threshold of each map (IEEE Trans. SMC 1979), blind to whether the image is normal."""

    name = "otsu"

    @property
    def convention(self) -> str:
        return "threshold: Otsu's of each map, 256 bins from its minimum to its maximum"

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return _above(threshold_otsu, anomaly_map)


@dataclass(frozen=True)
class Triangle(ImagePolicy):
    """The triangle threshold of each map (Zack et al., J. Histochem. Cytochem. 1977): for a peak with one long tail.

    It lies where the histogram is farthest below the line from its peak to the end of its tail.
    """

    name = "triangle"

    @property
    def convention(self) -> str:
        return "threshold: the triangle's of each map, 256 bins from its minimum to its maximum"

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return _above(threshold_triangle, anomaly_map)


@dataclass(frozen=True)
class Entropy(ImagePolicy):
    """The threshold of each map with the largest entropy of both sides (Kapur et al., CVGIP 1985)."""

    name = "entropy"

    @property
    def convention(self) -> str:
        return "threshold: that of the largest entropy of both sides, of each map, 256 bins from minimum to maximum"

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return _above(_maximum_entropy, anomaly_map)


@dataclass(frozen=True)
class MeBin(CalibratedPolicy):
    """MEBin (Huang et al., CVPR 2025): where the number of a map's components stays the same for longest.

    The threshold falls in 64 steps through a range that other maps give: from the largest to the smallest of their
    peaks. At each step the mask is eroded and its 8-connected components are counted. Of the longest run of steps with
    the same number of components, not zero and at least 4 steps long, the last threshold is taken; without such a run
    nothing is anomalous.

    Attributes:
        range: Whose peaks give the range. The paper takes those of the test set, so that the mask of an image depends
            on other test images.
        erosion: Width in pixels of the square that masks are eroded with before components are counted; 1 for none.
    """

    name = "mebin"
    range: Literal["normals", "test_set"] = "normals"
    erosion: Annotated[int, Field(ge=1)] = 6

    @property
    def reference(self) -> Literal["normals", "test_set"]:
        return self.range

    @property
    def convention(self) -> str:
        maps = "normal validation maps" if self.range == "normals" else "all test maps (transductive)"
        return (
            "threshold: of each map, the last of the longest run of thresholds with as many components, "
            f"eroded by {self.erosion} px, from the largest to the smallest peak of {maps}"
        )

    def calibrate(self, maps: Sequence[np.ndarray]) -> ImagePolicy:
        extremes = np.array([(one.min(), one.max()) for one in maps], np.float64)
        lowest, peaks = extremes.T
        low = peaks.min() if peaks.min() < peaks.max() else lowest.min()
        return _Sweep(float(low), float(peaks.max()), self.erosion)


@dataclass(frozen=True)
class _Sweep(ImagePolicy):
    """MEBin with its range.

    Attributes:
        low: Lower end of the range.
        high: Upper end.
        erosion: As of `MeBin`.
    """

    name = "mebin"
    low: float
    high: float
    erosion: int

    def threshold(self, anomaly_map: np.ndarray) -> float:
        falling = self.low + (self.high - self.low) * np.arange(_LEVELS, -1, -_STEP) / _LEVELS
        # What is left of a mask that is eroded is a mask of the smallest values around each pixel.
        eroded = minimum_filter(anomaly_map, self.erosion, mode="constant", cval=np.inf)
        last = _end_of_longest_run(_components(eroded, falling))
        if last is None:
            return float("inf")
        # As published, the mask lies strictly above the threshold: this is the lowest value of it.
        return float(anomaly_map[anomaly_map > falling[last]].min(initial=np.inf))


def _components(values: np.ndarray, falling: np.ndarray) -> np.ndarray:
    """How many 8-connected components `values > threshold` has at each of falling thresholds, int (K,).

    A mask has as many components as pixels, less the edges of a spanning forest. Of the minimum spanning forest, where
    an edge weighs the step at which both its pixels are in, the edges up to any step are a spanning forest of its mask.
    """
    count = len(falling)
    # The step from which on a pixel is in the mask; `count` where it never is.
    steps = count - np.searchsorted(falling[::-1], values, side="left")
    pixels = np.bincount(steps.ravel(), minlength=count + 1)[:count]
    numbers = np.arange(steps.size).reshape(steps.shape)
    ends = [np.concatenate(parts) for parts in zip(*_edges(steps, numbers, count), strict=True)]
    graph = coo_array((ends[2], (ends[0], ends[1])), shape=(steps.size, steps.size))
    edges = minimum_spanning_tree(graph.tocsr()).data.astype(int) - 1
    return np.cumsum(pixels - np.bincount(edges, minlength=count))


def _edges(steps: np.ndarray, numbers: np.ndarray, never: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of neighbours that are in a mask together, with the step from which on they are, plus 1: 0 is no edge."""
    height, width = steps.shape
    for down, right in _FOUR_OF_EIGHT:
        first = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        second = np.s_[down:, max(0, right) : width - max(0, -right)]
        both = np.maximum(steps[first], steps[second])
        there = both < never
        yield numbers[first][there], numbers[second][there], both[there] + 1.0


def _end_of_longest_run(counts: np.ndarray) -> int | None:
    """Where the longest run of one number ends, the first of several; `None` without one of `_SHORTEST`."""
    starts = np.flatnonzero(np.diff(counts, prepend=-1))
    lengths = np.where(counts[starts] > 0, np.diff(starts, append=len(counts)), 0)
    longest = int(lengths.argmax())
    return int(starts[longest] + lengths[longest] - 1) if lengths[longest] >= _SHORTEST else None


def _above(threshold: Callable[[np.ndarray], float], anomaly_map: np.ndarray) -> float:
    """The lowest value of a map above a threshold that is computed of it."""
    if anomaly_map.min() == anomaly_map.max():
        return float("inf")  # nothing stands out
    # Brought to 0 to 1, any finite range has room for the histogram's bins.
    low, high = np.float64(anomaly_map.min()), np.float64(anomaly_map.max())
    unit = (anomaly_map - low) / (high - low)
    # scikit-image's foreground lies strictly above its threshold: this is the lowest value of it.
    return float(anomaly_map[unit > threshold(unit)].min())


def _maximum_entropy(unit: np.ndarray) -> float:
    """Kapur's threshold of values between 0 and 1: the middle of the last bin below, as scikit-image's are."""
    counts, edges = np.histogram(unit, _BINS, (0.0, 1.0))
    shares = counts / unit.size
    below = np.cumsum(shares)[:-1]
    logarithms = np.where(shares > 0, np.log(np.maximum(shares, 1e-300)), 0)
    disorder = -np.cumsum(shares * logarithms)
    # H = log P - (sum of p log p) / P on either side.
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.log(below) + disorder[:-1] / below
        upper = np.log(1 - below) + (disorder[-1] - disorder[:-1]) / (1 - below)
    return float(edges[int(np.nanargmax(lower + upper))] + 0.5 / _BINS)
