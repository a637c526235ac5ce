"""How many lesion pixels are found within a budget of false positives on the normal images of the test set.

AUPIMO (Bertoldo et al., "AUPIMO: redefining visual anomaly detection benchmarks with high speed and low tolerance",
BMVC 2024) is the recall of one image, averaged over budgets of 1e-5 to 1e-4 of a normal image's pixels, each power of
ten weighing the same. A budget is the mean of the normal images' own false-positive rates. Its recall is that of the
lowest threshold that keeps it: normal pixels of one value that would overstep it together are all left out.
"""

import numpy as np

AUPIMO_RATES = 1e-5, 1e-4
SENSITIVITY_RATE = 0.01


class Budgets:
    """Collects the pixels that budgets are spent on, and those of lesions, image by image.

    Args:
        sizes: The number of pixels of each normal image that will be added.
    """

    def __init__(self, sizes: list[int]) -> None:
        self._images, self.pixels = len(sizes), sum(sizes)
        self._whole = _Highest(int(AUPIMO_RATES[1] * len(sizes) * max(sizes, default=0)) + 1)
        self._inside = _Highest(int(SENSITIVITY_RATE * self.pixels) + 1)
        self._foreground = 0
        self._lesions: list[np.ndarray] = []

    def add(self, anomaly_map: np.ndarray, lesion: np.ndarray, label: int, foreground: np.ndarray | None) -> None:
        """Adds an image.

        Args:
            anomaly_map: float (H, W), finite; higher means more anomalous.
            lesion: bool (H, W).
            label: 0 where the image is normal.
            foreground: bool (H, W); `None` for all of the image.
        """
        self._lesions.append(np.sort(anomaly_map[lesion]))
        if label:
            return
        inside = anomaly_map.ravel() if foreground is None else anomaly_map[foreground]
        self._foreground += len(inside)
        self._whole.add(anomaly_map.ravel(), 1 / (self._images * anomaly_map.size))
        self._inside.add(inside, 1.0)

    def aupimo(self) -> np.ndarray:
        """The AUPIMO of each image, 0 to 1, float64 (N,); NaN without a lesion, and where no image is normal."""
        values, above, reached = self._whole.rates()
        low, high = (np.clip(rate, *AUPIMO_RATES) for rate in (above, reached))
        weights = np.log(high / low) / np.log(AUPIMO_RATES[1] / AUPIMO_RATES[0])
        spent = weights > 0
        if not spent.any():
            return np.full(len(self._lesions), np.nan)
        return np.array([float(weights[spent] @ _recall(one, values[spent])) for one in self._lesions])

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """The lesion pixels that are found where `SENSITIVITY_RATE` of the normal foreground pixels are not exceeded.

        Returns:
            Of each image, how many are found and how many there are, float64 (N,) each; found is NaN where there is no
            foreground pixel of a normal image.
        """
        lesions = np.array([len(one) for one in self._lesions], float)
        if not self._foreground:
            return np.full(len(lesions), np.nan), lesions
        values, _, reached = self._inside.rates()
        first = values[np.argmax(reached / self._foreground > SENSITIVITY_RATE)]
        return np.array([_above(one, first) for one in self._lesions], float), lesions


class _Highest:
    """The highest of many values, with their weights.

    Args:
        count: So many are kept at least.
    """

    def __init__(self, count: int) -> None:
        self._count, self._floor, self._kept = count, -np.inf, 0
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, values: np.ndarray, weight: float) -> None:
        kept = values[values > self._floor]
        self._parts.append((kept, np.full(len(kept), weight)))
        self._kept += len(kept)
        if self._kept > 2 * self._count:
            values, weights = self._joined()
            best = np.argpartition(values, -self._count)[-self._count :]
            self._parts = [(values[best], weights[best])]
            self._kept, self._floor = self._count, values[best].min()

    def _joined(self) -> tuple[np.ndarray, np.ndarray]:
        values, weights = zip(*self._parts, strict=True) if self._parts else ([np.empty(0)], [np.empty(0)])
        return np.concatenate(values), np.concatenate(weights)

    def rates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct values, falling, with the weight that lies above each and that at or above it."""
        values, weights = self._joined()
        values, place = np.unique(-values, return_inverse=True)
        reached = np.cumsum(np.bincount(place, weights=weights, minlength=len(values)))
        return -values, np.concatenate([[0.0], reached[:-1]])[: len(reached)], reached


def _above(rising: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many of some sorted numbers are above each value."""
    return len(rising) - np.searchsorted(rising, values, side="right")


def _recall(rising: np.ndarray, values: np.ndarray) -> np.ndarray:
    return _above(rising, values) / len(rising) if len(rising) else np.full(len(values), np.nan)
