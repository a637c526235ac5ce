"""The two tidy tables of a run: `cases` and `scores`.

Both begin with the columns that name a cell. Scores that involve no threshold carry the policy `none`; the method's
own, threshold-free mask is the policy `own`. `oracle` marks rows whose threshold was chosen on the test set's own
masks: an upper bound, never a result. A failed cell is one row of `scores` with its `error`.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

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
    "cell": "str",
}
POLICY = {"policy": "str", "looks_at": "str", "oracle": "bool", "threshold": "float64"}
CASES = {
    **IDENTITY,
    **POLICY,
    "case": "str",
    "patient": "str",
    "label": "int64",
    "dice": "float64",
    "intersection_px": "int64",
    "predicted_px": "int64",
    "truth_px": "int64",
    "image_px": "int64",
    "image_score": "float64",
    "predict_ms": "float64",
    "note": "str",
}
SCORES = {
    **IDENTITY,
    **POLICY,
    "metric": "str",
    "value": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "n": "int64",
    "convention": "str",
    "note": "str",
    "error": "str",
}
CONVENTIONS = {
    "dice": "mean over anomalous images; nothing predicted scores 0; normal images are left out",
    "dice_pooled": "all pixels of all test images as one",
    "normal_fp_area": "mean predicted share of the image over normal images",
    "pixel_auroc": "all pixels of all test images",
    "pixel_ap": "all pixels of all test images, steps without interpolation",
    "aupro": "8-connected lesions, false-positive rate up to 0.3, divided by 0.3",
    "image_auroc": "image scores of all test images",
    "fit_seconds": "reading images left out; what a cache spared is counted",
    "predict_ms": "median over test images after a warm-up, mean if transductive; reading and scoring left out; "
    "what a cache spared is counted",
    "peak_memory_mib": "largest resident memory of the process while the cell ran",
    "peak_gpu_memory_mib": "largest memory that torch allocated on the GPU",
}
"""The harness's own metrics and how each is computed; any other metric is a diagnostic, which a method reported."""


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Makes a table with exactly these columns and types, also when there are no rows."""
    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns)


def concatenate(tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Joins the `cases` and `scores` of several cells."""
    cases = [table([], CASES), *(cases for cases, _ in tables)]
    scores = [table([], SCORES), *(scores for _, scores in tables)]
    return pd.concat(cases, ignore_index=True), pd.concat(scores, ignore_index=True)


def failed_cell(identity: dict[str, Any], error: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a cell that failed: no cases, one row of scores that says why."""
    row = identity | {
        "policy": "none",
        "looks_at": "nothing",
        "oracle": False,
        "threshold": float("nan"),
        "metric": "none",
        "value": float("nan"),
        "ci_low": float("nan"),
        "ci_high": float("nan"),
        "n": 0,
        "convention": "",
        "note": "",
        "error": error,
    }
    return table([], CASES), table([row], SCORES)
