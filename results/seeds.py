"""One number of several seeds: its mean, its deviation, and one interval over seeds and patients together.

Seeds share patients, so more seeds make the seeds' part of an interval smaller, but not the patients' part. Each part
reaches so far below and above the mean; the interval's reach is the root of the sum of their squares (Zou and Donner,
Stat. Med. 2008: MOVER), which lets the parts be of different kinds and need not be symmetric:

    patients' part:  the mean of the seeds' ends, less the mean of their values
    seeds' part:     t(k - 1) * s / sqrt(k), with s the deviation of the k seeds' values, k - 1 in its denominator

A single seed says nothing of others: its interval is over patients alone.
"""

from collections.abc import Iterable
from math import hypot, inf, nan, sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from .metrics import METRICS
from .tables import FEW_PATIENTS, LEVEL


class OverSeeds(NamedTuple):
    """A score over seeds.

    Attributes:
        value: The mean of the seeds' values; NaN where none has one.
        std: Their standard deviation, with the number of seeds less one in its denominator; NaN with fewer than two.
        low, high: The ends of the 95 % interval; NaN where a seed has none.
        seeds: How many have a value.
        patients: How many the interval stands on, the fewest of any seed; NaN where that is not known.
    """

    value: float
    std: float
    low: float
    high: float
    seeds: int
    patients: float

    @property
    def few_patients(self) -> bool:
        """Whether the interval is over so few patients that it must be marked."""
        return not np.isnan(self.low) and self.patients < FEW_PATIENTS


def over_seeds(rows: pd.DataFrame) -> OverSeeds:
    """Brings the seeds of a score together.

    Args:
        rows: Rows of the table `scores`: one dataset, method, policy and metric, a row for each seed.
    """
    kept = rows[rows["value"].notna()]
    if kept.empty:
        return OverSeeds(nan, nan, nan, nan, 0, nan)
    values = kept["value"].to_numpy(float)
    ends = kept["ci_low"].mean(skipna=False), kept["ci_high"].mean(skipna=False)
    metric = METRICS.get(str(kept["metric"].iloc[0]))
    bounds = metric.range if metric else (-inf, inf)
    low, high = with_seeds(values.mean(), ends, [seeds_part(values)], bounds)
    std = float(values.std(ddof=1)) if len(values) > 1 else nan
    return OverSeeds(float(values.mean()), std, low, high, len(values), float(kept["patients"].min()))


def seeds_part(values: Iterable[float]) -> float:
    """How far the seeds' part of an interval reaches from the mean.

    Args:
        values: One of each seed; NaN values are left out.

    Returns:
        Half a width, of a 95 % interval over seeds alone; 0 where there are fewer than two.
    """
    kept = np.array([value for value in values if not np.isnan(value)])
    if len(kept) < 2:
        return 0.0
    return float(stdtrit(len(kept) - 1, (1 + LEVEL) / 2) * kept.std(ddof=1) / sqrt(len(kept)))


def seeds_part_of_difference(a: pd.Series, b: pd.Series) -> float:
    """How far the seeds' part of a difference's interval reaches.

    Where both have the same seeds, differences are taken seed by seed, as equal seeds share what is random. Where they
    have not, each adds a part of its own; one without randomness, which has a single seed, adds none.

    Args:
        a: A value of each seed, its index.
        b: Likewise.
    """
    a, b = a.dropna(), b.dropna()
    if set(a.index) == set(b.index):
        return seeds_part(a - b)
    return hypot(seeds_part(a), seeds_part(b))


def with_seeds(
    value: float, ends: tuple[float, float], parts: Iterable[float], bounds: tuple[float, float] = (-inf, inf)
) -> tuple[float, float]:
    """Widens an interval over patients by the seeds' parts.

    Args:
        value: The mean over seeds.
        ends: Its interval over patients; NaN where there is none.
        parts: Half widths, by `seeds_part`.
        bounds: The lowest and the highest value that the metric can have; the interval is cut to them.

    Returns:
        Low and high end; NaN where there is no interval over patients.
    """
    low = value - hypot(value - ends[0], *parts)
    high = value + hypot(ends[1] - value, *parts)
    return float(np.clip(low, *bounds)), float(np.clip(high, *bounds))
