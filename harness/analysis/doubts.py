"""Whether the tables that are read most are what the run wrote: a quick look, without predictions and images.

`harness.running.integrity` looks at everything.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from ...results.metrics import metrics_of
from ...results.store import RunStore
from ...results.tables import CASES, with_columns, without_post
from ..scoring.ranking import Ranking

_CLOSE = 1e-6  # another processor rounds otherwise; what matters to a reader is larger
_SHOWN = 5  # findings of one kind in one file


def doubts(store: RunStore) -> list[str]:
    """What speaks, at a quick look, against the tables that are read most: one sentence each.

    Raises:
        ResultsError: There is no run, or it has no tables.
    """
    changed = store.changed_tables(("cases.parquet", "scores.parquet", "volumes.parquet"))
    if changed:
        return [f"{file} of {store.name} is not what the run wrote: its checksum is another." for file in changed]
    scores = store.scores()
    problems = [*scores_against_cases(scores, store.cases()), *scores_against_volumes(scores, store.volumes())]
    return [f"{store.name}: {problem}" for problem in first(problems, 1)]


def scores_against_cases(scores: pd.DataFrame, cases: pd.DataFrame) -> Iterator[str]:
    """Says which scores are not what the cases give; intervals are not looked at."""
    yield from _against(scores, _means(cases), "cases")


def scores_against_volumes(scores: pd.DataFrame, volumes: pd.DataFrame) -> Iterator[str]:
    """Says which scores are not what the volumes give; intervals are not looked at."""
    yield from _against(scores, _means_of_volumes(volumes), "volumes")


def _against(scores: pd.DataFrame, means: pd.DataFrame, source: str) -> Iterator[str]:
    keys = ["cell", "policy", "metric"]
    joined = scores[scores["error"] == ""].merge(means, on=keys, suffixes=("", "_of_source"))
    wrong = joined[~alike(joined["value"], joined["value_of_source"])]
    for row in wrong.to_dict("records"):
        yield (
            f"scores.parquet, {' · '.join(row[key] for key in keys)}: the value is {said(row['value'])}, the {source} "
            f"give {said(row['value_of_source'])}."
        )


def _means(cases: pd.DataFrame) -> pd.DataFrame:
    """The scores that follow from cases: `cell`, `policy`, `metric`, `value`."""
    cases = with_columns(cases, CASES)
    lesion, normal, dice = cases["truth_px"] > 0, cases["label"] == 0, cases["dice"]
    named = cases["policy"].map(without_post).tolist()
    keys = ["cell", "case", "chain"]
    keyed = cases[["cell", "case"]].assign(chain=[chain for _, chain in named])
    by_oracle = np.array([name == "oracle_dice" for name, _ in named], bool)
    oracle = keyed.assign(dice=dice)[by_oracle].set_index(keys)["dice"]
    known = metrics_of("mask", level="image")
    values = {one.name: cases[one.name].where(lesion) for one in known if one.per_case and one.name in cases}
    values |= {f"dice_{size}": dice.where(cases["lesion_size"] == size) for size in ("small", "medium", "large")}
    values["false_lesions"] = cases["false_lesions"]
    values["normal_fp_area"] = (cases["predicted_px"] / cases["image_px"]).where(normal)
    inside, positive = cases["foreground_px"], cases["predicted_foreground_px"]
    on_normal = normal & (inside > 0)
    values["normal_fp_area_foreground"] = (positive / inside).where(on_normal)
    values["normal_image_fpr"] = (positive > 0).astype(float).where(on_normal)
    values["regret"] = keyed.join(oracle, on=keys)["dice"] - dice
    grouped = [cases["cell"], cases["policy"]]
    means = pd.DataFrame(values).groupby(grouped).mean()
    counted = ("lesions", "lesions_hit", "intersection_px", "predicted_px", "truth_px")
    sums = cases[list(counted)].groupby(grouped).sum().astype(float)
    means["lesion_recall"] = sums["lesions_hit"] / sums["lesions"]
    means["dice_pooled"] = 2 * sums["intersection_px"] / (sums["predicted_px"] + sums["truth_px"])
    of_normal = pd.DataFrame({"pixels": inside.where(on_normal), "positive": positive.where(on_normal)})
    of_normal = of_normal.groupby(grouped).sum()
    means["normal_fpr"] = of_normal["positive"] / of_normal["pixels"]
    of_masks = means.reset_index().melt(["cell", "policy"], var_name="metric")
    of_images = [
        {"cell": cell, "policy": "none", "metric": metric, "value": value}
        for cell, rows in cases.drop_duplicates(["cell", "case"]).groupby("cell")
        for metric, value in (("image_auroc", _image_auroc(rows)), ("aupimo", _aupimo(rows)))
    ]
    return pd.concat([of_masks, pd.DataFrame(of_images, columns=list(of_masks))], ignore_index=True)


def _means_of_volumes(volumes: pd.DataFrame) -> pd.DataFrame:
    """The scores that follow from volumes: `cell`, `policy`, `metric`, `value`."""
    keys = [volumes["cell"], volumes["policy"]]
    lesion = volumes["lesions"] > 0
    values = {
        one.name: volumes[one.name].where(lesion) if one.images == "anomalous" else volumes[one.name]
        for one in metrics_of("mask", level="volume")
        if one.per_case and one.name in volumes
    }
    means = pd.DataFrame(values).groupby(keys).mean()
    sums = volumes[["lesions", "lesions_hit"]].groupby(keys).sum().astype(float)
    means["volume_lesion_recall"] = sums["lesions_hit"] / sums["lesions"]
    return means.reset_index().melt(["cell", "policy"], var_name="metric")


def _aupimo(rows: pd.DataFrame) -> float:
    return float(rows["aupimo"].mean()) if "aupimo" in rows else float("nan")


def _image_auroc(rows: pd.DataFrame) -> float:
    if rows["image_score"].isna().all():  # of predictions from elsewhere that have none
        return float("nan")
    return Ranking(rows["image_score"].to_numpy(), rows["label"].to_numpy() == 1).auroc


def alike(values: pd.Series, others: pd.Series) -> np.ndarray:
    """Where two columns hold the same, bool (N,); numbers may differ as processors round."""
    if pd.api.types.is_numeric_dtype(values) and pd.api.types.is_numeric_dtype(others):
        one, other = values.to_numpy(float), others.to_numpy(float)
        return np.isclose(one, other, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
    return np.array([same(value, other) for value, other in zip(values, others, strict=True)], bool)


def same(value: Any, other: Any) -> bool:
    """Whether two values of a table are the same; numbers may differ as processors round."""
    if isinstance(value, bool | str | np.bool_) or isinstance(other, str):
        return bool(value == other)
    one, two = np.asarray(value, float), np.asarray(other, float)
    return one.shape == two.shape and bool(np.allclose(one, two, rtol=_CLOSE, atol=_CLOSE, equal_nan=True))


def said(value: Any) -> str:
    """A value as messages show it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def first(problems: Iterable[str], count: int = _SHOWN) -> Iterator[str]:
    """The first few, and how many there are beside; empty ones are none."""
    found = [problem for problem in problems if problem]
    yield from found[:count]
    if len(found) > count > 1:
        yield f"{found[0].partition(',')[0]}: {len(found) - count} more of the same kind."
