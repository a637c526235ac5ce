"""A row of the table `scores`, before it names its cell."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...results.metrics import METRICS
from .decisions import PolicyColumns
from .intervals import Interval, mean_interval

NAN = float("nan")


def score_row(
    columns: PolicyColumns, metric: str, value: float, n: int, interval: Interval | None = None
) -> dict[str, Any]:
    """A score by one policy, with how many images it is of, and its interval over patients."""
    return columns._asdict() | {
        "level": METRICS[metric].level if metric in METRICS else "image",
        "metric": metric,
        "value": value,
        "ci_low": interval.low if interval else NAN,
        "ci_high": interval.high if interval else NAN,
        "promised": NAN,
        "n": n,
        "patients": interval.patients if interval else NAN,
        "note": "",
    }


def mean_row(columns: PolicyColumns, metric: str, values: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    """A mean over what is not NaN, with its interval over patients."""
    kept = ~np.isnan(values)
    mean = float(values[kept].mean()) if kept.any() else NAN
    return score_row(columns, metric, mean, int(kept.sum()), mean_interval(values, patients, METRICS[metric].range))


def without_value(row: dict[str, Any], why: str) -> dict[str, Any]:
    """The same score without a value."""
    columns = PolicyColumns(**{name: row[name] for name in PolicyColumns._fields})
    return score_row(columns, row["metric"], NAN, 0) | {"note": f"left out: {why}"}


def values_of(masks: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """One number of each mask, float64 (N,)."""
    return np.array([one[name] for one in masks], float)
