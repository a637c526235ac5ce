"""Intervals that respect that slices of one patient are not independent."""

from collections.abc import Sequence

import numpy as np


def bootstrap_mean(
    values: np.ndarray, groups: Sequence[str], *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean over cases, when patients are drawn with replacement (cluster bootstrap).

    Args:
        values: float (N,); NaN values are left out.
        groups: The patient of each value.
        resamples: How often patients are drawn.
        level: Coverage of the interval, 0 to 1.
        seed: Of the draws.

    Returns:
        Low and high end; NaN with fewer than two patients.
    """
    kept = ~np.isnan(values)
    names, index = np.unique(np.asarray(groups, dtype=str)[kept], return_inverse=True)
    count = len(names)
    if count < 2:
        return float("nan"), float("nan")
    sums = np.bincount(index, weights=values[kept])
    sizes = np.bincount(index)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    chunk = max(1, 10_000_000 // count)  # bounds the memory of the draws
    for start in range(0, resamples, chunk):
        drawn = rng.integers(count, size=(min(chunk, resamples - start), count))
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
