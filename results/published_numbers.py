"""Numbers that papers have published, as data: to be put beside measured ones, never among them.

Each row of `published/*.csv` is one number. `value` and `std` are fractions. `policy` is this harness's name for how
masks were made, empty where the paper does not say. `copied_from` names the source that the paper repeats the number
from. `mask_edges`, `padding` and `options` are the paper's settings where they are known: `padding` is `count`, `none`
where images were stretched, and empty where they are square; `options` are `option=value;option=value`.
`not_comparable` says why no run of this harness can be held against the number.
"""

from pathlib import Path

import pandas as pd

PUBLISHED = {
    "dataset": "str",
    "method": "str",
    "metric": "str",
    "policy": "str",
    "value": "float64",
    "std": "float64",
    "source": "str",
    "copied_from": "str",
    "mask_edges": "str",
    "padding": "str",
    "options": "str",
    "not_comparable": "str",
    "protocol": "str",
}


def published() -> pd.DataFrame:
    """Every published number, a row for each, with the columns of `PUBLISHED`."""
    files = sorted(Path(__file__).with_name("published").glob("*.csv"))
    text = {name: kind for name, kind in PUBLISHED.items() if kind == "str"}
    tables = [pd.read_csv(file, dtype=PUBLISHED).fillna(dict.fromkeys(text, "")) for file in files]  # pyright: ignore
    return pd.concat(tables, ignore_index=True)
