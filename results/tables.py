"""The tidy tables of a run: `cases` and `scores`, the curves to draw, and how methods compare.

`cases`, `scores` and `curves` begin with the columns that name a cell. Scores that involve no threshold carry the
policy `none`; the method's own, threshold-free mask is the policy `own`. A score is of `n` values, and its interval
stands on so many `patients`, NaN where it has none or an older version did not say. `promised` is what a policy says
that a false-positive rate on normal images is at most. `oracle` marks rows chosen on the
test set's own masks: an upper bound, never a result. A failed cell is one row of `scores` with its `error`. Where
predictions were made elsewhere, `external` says so, and of how many cases they are where some are missing; `seen` is
what their method has learned from.

`comparisons` and `ranks` are of all methods of a run on one dataset, under one policy; `HEADLINE` takes each method at
its best legal mask.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from .metrics import METRICS, pixels_scored

IDENTITY = {
    "dataset": "str",
    "dataset_fingerprint": "str",
    "method": "str",
    "options": "str",
    "weights": "str",
    "weights_sha256": "str",
    "seed": "int64",
    "size": "int64",
    "transductive": "bool",
    "external": "str",
    "seen": "str",
    "cell": "str",
}
POLICY = {"policy": "str", "looks_at": "str", "oracle": "bool", "threshold": "float64", "post": "str"}
CASES = {
    **IDENTITY,
    **POLICY,
    "case": "str",
    "patient": "str",
    "label": "int64",
    **{one.name: "float64" for one in METRICS.values() if one.per_case and one.level == "image"},
    "lesion_size": "str",
    "lesions": "int64",
    "lesions_hit": "int64",
    "false_lesions": "int64",
    "intersection_px": "int64",
    "predicted_px": "int64",
    "truth_px": "int64",
    "image_px": "int64",
    "foreground_px": "float64",
    "predicted_foreground_px": "float64",
    "image_score": "float64",
    "pixel_auroc": "float64",
    "pixel_ap": "float64",
    "aupro": "float64",
    "best_dice": "float64",
    "predict_ms": "float64",
    "note": "str",
}
VOLUMES = {
    **IDENTITY,
    **POLICY,
    "volume": "str",
    "patient": "str",
    "label": "int64",
    "slices": "int64",
    **{one.name: "float64" for one in METRICS.values() if one.per_case and one.level == "volume"},
    "lesions": "int64",
    "lesions_hit": "int64",
    "truth_ml": "float64",
    "predicted_ml": "float64",
}
SCORES = {
    **IDENTITY,
    **POLICY,
    "level": "str",
    "metric": "str",
    "value": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "promised": "float64",
    "n": "int64",
    "patients": "float64",
    "convention": "str",
    "note": "str",
    "error": "str",
}
CURVES = {
    **IDENTITY,
    "split": "str",
    "threshold": "float64",
    "dice": "float64",
    "dice_pooled": "float64",
    "true_positive_rate": "float64",
    "false_positive_rate": "float64",
    "normal_fpr": "float64",
    "precision": "float64",
    "region_overlap": "float64",
    "convention": "str",
}
_COMPARED = {"dataset": "str", "policy": "str"}
COMPARISONS = {
    **_COMPARED,
    "method_a": "str",
    "method_b": "str",
    "patients": "int64",
    "cases": "int64",
    "left_out": "int64",
    "mean_a": "float64",
    "mean_b": "float64",
    "difference": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "p": "float64",
    "p_holm": "float64",
    "effect": "float64",
    "detectable": "float64",
    "tied": "bool",
    "test": "str",
    "convention": "str",
}
RANKS = {
    **_COMPARED,
    "method": "str",
    "mean": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "cases": "int64",
    "patients": "int64",
    "rank": "float64",
    "rank_low": "float64",
    "rank_high": "float64",
    "share_first": "float64",
    "tied_with_best": "bool",
    "rank_shares": "object",
    "convention": "str",
}
COMPARISON_CONVENTION = (
    "images that both have, seeds averaged; interval over the patients that have a value, and over seeds where there "
    "are several; effect: rank-biserial, whose denominator keeps the ranks of zeros"
)
RANK_CONVENTION = (
    "images that all methods have, seeds averaged; ends are percentiles over draws of patients, and of seeds where "
    "there are several; methods that tie in a draw share the mean of their ranks"
)
HEADLINE = "own or valid_dice"
"""The policy that methods are ranked by: the mask a method makes itself, and where it makes none, `valid_dice`."""


_BEHIND = " + "


def with_post(policy: str, chain: str) -> str:
    """The name of a policy with a chain of post-processing behind it, `valid_dice + fill_holes`."""
    return f"{policy}{_BEHIND}{chain}" if chain else policy


def without_post(policy: str) -> tuple[str, str]:
    """A policy's own name, and the chain behind it, empty without any."""
    name, _, chain = policy.partition(_BEHIND)
    return name, chain


def by_chain(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows with each chain of post-processing, first those without any; policies have their own names.

    Args:
        rows: Rows of the table `cases` or `scores`.
    """
    parts = {policy: without_post(policy) for policy in rows["policy"].unique()}
    own = rows["policy"].map({policy: name for policy, (name, _) in parts.items()})
    behind = rows["policy"].map({policy: chain for policy, (_, chain) in parts.items()})
    chains = dict.fromkeys(["", *(chain for _, chain in parts.values())])
    return {chain: rows.assign(policy=own)[behind == chain] for chain in chains}


def headline(rows: pd.DataFrame, chain: str = "") -> pd.DataFrame:
    """The rows of each method's best legal mask: its own, or, where it makes none, that of `valid_dice`.

    Args:
        rows: Rows of the table `cases` or `scores`.
        chain: The chain of post-processing behind both.
    """
    own = rows[rows["policy"] == with_post("own", chain)]
    makes = pd.MultiIndex.from_frame(own[["dataset", "method"]])
    lacking = ~pd.MultiIndex.from_frame(rows[["dataset", "method"]]).isin(makes)
    return pd.concat([own, rows[(rows["policy"] == with_post("valid_dice", chain)) & lacking]], ignore_index=True)


def masks_by(rows: pd.DataFrame, policy: str) -> pd.DataFrame:
    """The rows of a legal policy, which may be `HEADLINE`, with a chain of post-processing behind it or without.

    Args:
        rows: Rows of the table `cases` or `scores`.
        policy: The policy's name.
    """
    name, chain = without_post(policy)
    return headline(rows, chain) if name == HEADLINE else rows[(rows["policy"] == policy) & ~rows["oracle"]]


def oracles_beside(rows: pd.DataFrame, policy: str) -> pd.DataFrame:
    """The rows of oracles with the same chain of post-processing behind them as a policy, or none as it has none.

    Args:
        rows: Rows of the table `cases` or `scores`.
        policy: The policy's name.
    """
    _, chain = without_post(policy)
    beside = [one for one in rows["policy"].unique() if without_post(one)[1] == chain]
    return rows[rows["oracle"] & rows["policy"].isin(beside)]


def may_be_ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods that have seen neither anomalous images nor the test set.

    Args:
        rows: Rows of the table `cases` or `scores`.
    """
    return rows[~rows["seen"].str.contains("anomalous images|the test set")]


def may_be_best(rows: pd.DataFrame) -> bool:
    """Whether a number of these rows can be the best of a table: of a method that is ranked, and of all test images.

    Args:
        rows: Rows of the table `cases` or `scores`.
    """
    return len(may_be_ranked(rows)) == len(rows) and not rows["external"].str.contains("test cases").any()


LEVEL = 0.95
"""How often an interval should hold the truth."""

FEW_PATIENTS = 8
"""An interval over fewer patients than this is marked where it is shown: docs/scores.md says how far it holds."""


def curve_convention(mask_edges: str, padding: str) -> str:
    """How the columns of `CURVES` are computed.

    Args:
        mask_edges: `nearest` or `paper`.
        padding: `exclude` or `count`.
    """
    return pixels_scored(mask_edges, padding, "lesion for dice and dice_pooled, normal for the others")


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Makes a table with exactly these columns and types, also when there are no rows."""
    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns)


_ADDED: dict[str, Any] = {
    **dict.fromkeys(("patients", "promised", "foreground_px", "predicted_foreground_px", "normal_fpr"), float("nan")),
    "external": "",
    "seen": "",
    "level": "image",
    "post": "",
}


def with_columns(rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Adds the columns to a table that an older version wrote without them.

    Args:
        rows: The table.
        columns: All that it has by now, such as `SCORES`.
    """
    missing = {name: value for name, value in _ADDED.items() if name in columns and name not in rows}
    return rows.assign(**missing)[[name for name in columns if name in rows or name in missing]] if missing else rows


COLUMNS = {"cases": CASES, "scores": SCORES, "curves": CURVES, "volumes": VOLUMES}
"""The columns of each table of a cell."""

KEYS = {
    "cases": ("cell", "policy", "case"),
    "scores": ("cell", "policy", "metric"),
    "curves": ("cell", "split", "threshold"),
    "volumes": ("cell", "policy", "volume"),
    "comparisons": ("dataset", "policy", "method_a", "method_b"),
    "ranks": ("dataset", "policy", "method"),
}
"""The columns that tell a row of a table from all others."""


class CellTables(NamedTuple):
    """The rows of one cell, or of several."""

    cases: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame
    volumes: pd.DataFrame


def empty_tables() -> CellTables:
    """Tables without rows."""
    return CellTables(*(table([], columns) for columns in COLUMNS.values()))


def concatenate(cells: Sequence[CellTables]) -> CellTables:
    """Joins the tables of several cells."""
    empty = empty_tables()
    return CellTables(*(pd.concat(tables, ignore_index=True) for tables in zip(empty, *cells, strict=True)))


def failed_cell(identity: dict[str, Any], error: str) -> CellTables:
    """The tables of a cell that failed: no cases, no curves, one row of scores that says why."""
    row = identity | {
        "policy": "none",
        "looks_at": "nothing",
        "oracle": False,
        "threshold": float("nan"),
        "post": "",
        "level": "image",
        "metric": "none",
        "value": float("nan"),
        "ci_low": float("nan"),
        "ci_high": float("nan"),
        "promised": float("nan"),
        "n": 0,
        "patients": float("nan"),
        "convention": "",
        "note": "",
        "error": error,
    }
    return empty_tables()._replace(scores=table([row], SCORES))
