"""The histogram of a map, made once for all policies that choose a threshold by one."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from ..api import ImagePolicy

BINS = 256


@dataclass(frozen=True, eq=False)
class MapHistogram:
    """The values of one map in bins of equal width, from its minimum to its maximum.

    Attributes:
        counts: int (256,), the pixels of each bin; the last one holds the maximum.
        above: (256,) of the map's type, its lowest value above the middle of each bin; infinity without one.
        flat: Whether all values are equal, so that nothing stands out.
    """

    counts: np.ndarray
    above: np.ndarray
    flat: bool

    @classmethod
    def of(cls, rising: np.ndarray) -> "MapHistogram":
        """Counts the values of a map.

        Args:
            rising: float (N,), sorted and finite.
        """
        low, high = np.float64(rising[0]), np.float64(rising[-1])
        if low == high:
            return cls(np.zeros(BINS, int), np.full(BINS, np.inf, rising.dtype), flat=True)
        # Brought to 0 to 1, any finite range has room for the bins.
        unit = (rising - low) / (high - low)
        counts = np.diff(np.searchsorted(unit, np.arange(BINS) / BINS), append=len(unit))
        places = np.searchsorted(unit, (np.arange(BINS) + 0.5) / BINS, "right")
        return cls(counts, np.append(rising, np.inf).astype(rising.dtype)[places], flat=False)


class HistogramPolicy(ImagePolicy):
    """A policy that looks at the histogram of the map only."""

    @abstractmethod
    def last_below(self, counts: np.ndarray) -> int:
        """The bin whose middle is the threshold, given the pixels of each, int (256,), of which two are not empty."""

    def of_histogram(self, histogram: MapHistogram) -> float:
        """The threshold: the lowest value of the map that lies above the bin's middle."""
        return float("inf") if histogram.flat else float(histogram.above[self.last_below(histogram.counts)])

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return self.of_histogram(MapHistogram.of(np.sort(anomaly_map, axis=None)))
