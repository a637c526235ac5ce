"""Threshold policies that choose for each image by itself, beside Otsu's: entropy, triangle and MEBin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from skimage.filters import threshold_otsu

from ..api import CalibratedPolicy, ImagePolicy
from .component_counts import component_counts
from .histograms import BINS, HistogramPolicy

_MIDDLES = (np.arange(BINS) + 0.5) / BINS
"""The middles of a histogram's bins, where its map goes from 0 to 1."""

_LEVELS = 255.0
_STEP = 4
_SHORTEST = 4
"""MEBin's sweep as published: from 255 down to 3 in steps of 4, and a run is stable from 4 steps on."""


@dataclass(frozen=True)
class Otsu(HistogramPolicy):
    """Otsu's threshold of each map (IEEE Trans. SMC 1979), blind to whether the image is normal."""

    name = "otsu"

    @property
    def convention(self) -> str:
        return "threshold: Otsu's of each map, 256 bins from its minimum to its maximum"

    def last_below(self, counts: np.ndarray) -> int:
        return int(threshold_otsu(hist=(counts, _MIDDLES)) * BINS)


@dataclass(frozen=True)
class Triangle(HistogramPolicy):
    """The triangle threshold of each map (Zack et al., J. Histochem. Cytochem. 1977): for a peak with one long tail.

    It lies where the histogram is farthest below the line from its peak to the end of its tail.
    """

    name = "triangle"

    @property
    def convention(self) -> str:
        return "threshold: the triangle's of each map, 256 bins from its minimum to its maximum"

    def last_below(self, counts: np.ndarray) -> int:
        # As scikit-image's `threshold_triangle`, which takes no histogram.
        first, last = np.flatnonzero(counts)[[0, -1]]
        peak = int(counts.argmax())
        if peak - first < last - peak:  # the longer tail is above the peak
            return BINS - 1 - _farthest_from_line(counts[::-1], BINS - 1 - last, BINS - 1 - peak)
        return _farthest_from_line(counts, first, peak)


@dataclass(frozen=True)
class Entropy(HistogramPolicy):
    """The threshold of each map with the largest entropy of both sides (Kapur et al., CVGIP 1985)."""

    name = "entropy"

    @property
    def convention(self) -> str:
        return "threshold: that of the largest entropy of both sides, of each map, 256 bins from minimum to maximum"

    def last_below(self, counts: np.ndarray) -> int:
        shares = counts / counts.sum()
        below = np.cumsum(shares)[:-1]
        logarithms = np.where(shares > 0, np.log(np.maximum(shares, 1e-300)), 0)
        disorder = -np.cumsum(shares * logarithms)
        # H = log P - (sum of p log p) / P on either side.
        with np.errstate(divide="ignore", invalid="ignore"):
            lower = np.log(below) + disorder[:-1] / below
            upper = np.log(1 - below) + (disorder[-1] - disorder[:-1]) / (1 - below)
        return int(np.nanargmax(lower + upper))


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
        last = _end_of_longest_run(component_counts(_eroded(anomaly_map, self.erosion), falling))
        if last is None:
            return float("inf")
        # As published, the mask lies strictly above the threshold: this is the lowest value of it.
        return float(anomaly_map[anomaly_map > falling[last]].min(initial=np.inf))


def _farthest_from_line(counts: np.ndarray, first: int, peak: int) -> int:
    """The bin that is farthest below the line from a tail's first bin to its peak."""
    width, height = float(peak - first), float(counts[peak])
    length = np.sqrt(height**2 + width**2)
    steps = np.arange(peak - first)
    return int((height / length * steps - width / length * counts[first:peak]).argmax()) + first


def _end_of_longest_run(counts: np.ndarray) -> int | None:
    """Where the longest run of one number ends, the first of several; `None` without one of `_SHORTEST`."""
    starts = np.flatnonzero(np.diff(counts, prepend=-1))
    lengths = np.where(counts[starts] > 0, np.diff(starts, append=len(counts)), 0)
    longest = int(lengths.argmax())
    return int(starts[longest] + lengths[longest] - 1) if lengths[longest] >= _SHORTEST else None


def _eroded(values: np.ndarray, width: int) -> np.ndarray:
    """The smallest of the values in the square around each pixel, which an even width moves up and to the left.

    It is scipy's `minimum_filter` with infinity beyond the edge, and many times as fast.
    """
    for _ in range(2):  # each axis once, the first one always in front
        before = np.full((width // 2, values.shape[1]), np.inf, values.dtype)
        values = np.concatenate([before, values, before[: width - 1 - width // 2]])
        reach = 1  # the smallest of so many in a row; shifts that double
        while reach < width:
            step = min(reach, width - reach)
            values = np.minimum(values[:-step], values[step:])
            reach += step
        values = values.T
    return values
