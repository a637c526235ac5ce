"""What can be wrong with a table that was read: its columns, their types and values, and rows that are there twice."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from .metrics import METRICS
from .tables import COLUMNS, COMPARISONS, KEYS, RANKS, with_columns

_ALL = COLUMNS | {"comparisons": COMPARISONS, "ranks": RANKS}
_WORDS = {"int64": "whole numbers", "float64": "numbers", "bool": "true and false", "str": "texts", "object": "lists"}
_FROM_THE_FIRST = {"dice", "iou", "precision", "recall", "hd95_px", "assd_px", "false_lesions"}  # version 0.1.0 on
_ENDLESS = {"threshold"}  # where nothing is predicted
_LEVELS = ("image", "volume")
LONGEST = 10_000
"""Characters of a text in a table: what shows a name in each row would fill a screen for hours."""
_LARGEST = 2**53  # of a whole number: beyond, floats do not tell one from the next
_ROUNDING = 1e-6


def known_columns(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table with the columns that it has by now, and no others.

    Args:
        rows: The table as it was read.
        name: `cases`, `scores`, `curves`, `volumes`, `comparisons` or `ranks`.

    Raises:
        ValueError: It is not such a table; the text says why.
    """
    columns = _ALL[name]
    if not rows.columns.is_unique:
        raise ValueError(f"it has two columns {rows.columns[rows.columns.duplicated()][0]}")
    rows = with_columns(rows, columns)
    # Most metrics came with time, and are not missed.
    later = {*METRICS, "convention"} - _FROM_THE_FIRST
    lacking = [column for column in columns if column not in rows and column not in later]
    if lacking:
        raise ValueError(f"it has no column {lacking[0]}")
    rows = rows[[column for column in columns if column in rows]]
    for column, kind in columns.items():
        if column in rows and (problem := _problem(rows[column], kind)):
            raise ValueError(f"the column {column} {problem}")
    again = rows.duplicated(list(KEYS[name]))
    if name != "curves" and again.any():
        raise ValueError(f"the row {' · '.join(map(str, rows.loc[again, list(KEYS[name])].iloc[0]))} is there twice")
    return rows


def _problem(values: pd.Series, kind: str) -> str:
    """What is wrong with a column; empty where nothing is."""
    of_kind = {
        "int64": types.is_integer_dtype,
        "float64": types.is_any_real_numeric_dtype,
        "bool": types.is_bool_dtype,
        "str": types.is_string_dtype,
        "object": types.is_object_dtype,
    }[kind]
    if not of_kind(values.dtype) or (kind not in ("float64", "object") and values.hasnans):
        return f"does not hold {_WORDS[kind]}"
    if kind == "object" and not values.map(_is_list).all():
        return f"does not hold {_WORDS[kind]} of numbers"
    if kind == "str" and values.str.len().max() > LONGEST:
        return f"holds a text of more than {LONGEST:,} characters"
    if values.name == "level":
        return "" if values.isin(_LEVELS).all() else f"is neither {' nor '.join(_LEVELS)}"
    if kind == "int64" and (values.abs() > _LARGEST).any():
        return "holds a number that is too large"
    if kind != "float64" or values.name in _ENDLESS:
        return ""
    if np.isinf(values.to_numpy(float)).any():
        return "holds a number that is not finite"
    low, high = METRICS[str(values.name)].range if values.name in METRICS else (-np.inf, np.inf)
    if ((values < low - _ROUNDING) | (values > high + _ROUNDING)).any():
        return f"holds a number that is not within {low:g} and {high:g}"
    return ""


def _is_list(value: Any) -> bool:
    """Whether it is a list of numbers, which may be missing."""
    try:
        return isinstance(value, list | np.ndarray) and np.asarray(value, float).ndim == 1
    except (TypeError, ValueError):
        return False
