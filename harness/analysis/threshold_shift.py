"""What a shift of domain does to thresholds: they are chosen on one dataset, and applied to the images of another."""

from collections.abc import Mapping
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from ...results.metrics import METRICS
from ...results.seeds import over_seeds
from ..api import Split, UsageError
from ..registry import make_policies
from ..scoring.decisions import TEST_SET_AND_IMAGE, Decision, decide
from ..scoring.intervals import mean_interval
from ..scoring.masks import Overlap
from ..scoring.normal_rates import foreground_counts, normal_rates
from ..scoring.scanning import Scanned
from ..specs import parse_policy, suggest
from .stored_cells import StoredCell, StoredRun

UNCHANGED: Mapping[str, str] = {
    "nothing": "unchanged: it looks at no other images",
    "image": "unchanged: it chooses for each image, and looks at that image only",
    TEST_SET_AND_IMAGE: "unchanged: it chooses for each image, and looks at the test set only",
}
"""Why a policy has the same masks whatever validation split there is, by what it looks at."""

COLUMNS = (
    *("dataset", "threshold_from", "method", "policy", "looks_at", "threshold_own", "threshold_other"),
    *("dice_own", "dice_other", "difference", "difference_low", "difference_high", "patients", "few_patients"),
    *("fpr_own", "fpr_other", "note"),
)
_KEYS = ["dataset", "method", "policy"]
_AVERAGED = ["threshold_own", "threshold_other", "dice_own", "dice_other", "difference", "fpr_own", "fpr_other"]


def threshold_shift(run: StoredRun, source: str) -> pd.DataFrame:
    """Applies the thresholds that each method chose on one dataset to the test splits of the others.

    Args:
        run: The run.
        source: The dataset whose validation split thresholds are chosen on.

    Returns:
        A row for each other dataset, method and policy, seeds averaged: `dataset`, `threshold_from`, `method`,
        `policy`, `looks_at`, `threshold_own`, `threshold_other` (NaN where there is none for all images), `dice_own`,
        `dice_other` (mean over the anomalous test images, by the threshold of the dataset itself and by the other's),
        `difference` (other minus own), `difference_low`, `difference_high` (its 95 % interval over patients, and over
        seeds where there are several), `patients`, `few_patients` (whether it is over few), `fpr_own`, `fpr_other` (the
        metric `normal_fpr` of the test images), and `note`: why a policy is unchanged, or left out. No oracle is there.

    Raises:
        UsageError: The run has no such dataset, or no other, or no method on both.
        ScoringError: A map holds NaN or infinity.
        ResultsError: A prediction is damaged.
    """
    if source not in run.cells:
        raise UsageError(
            f"--threshold-from {source}: the run {run.store.name} has no finished cell with maps and lesion masks on "
            f"it. {suggest(source, run.cells)}"
        )
    others = [name for name in run.cells if name != source]
    if not others:
        raise UsageError(
            f"--threshold-from {source}: the run {run.store.name} has no other dataset with lesion masks to apply its "
            "thresholds to."
        )
    chosen_on = {(cell.method, cell.seed): cell for cell in run.cells[source]}
    pairs = [
        (chosen_on[cell.method, cell.seed], cell)
        for name in others
        for cell in run.cells[name]
        if (cell.method, cell.seed) in chosen_on
    ]
    if not pairs:
        raise UsageError(f"--threshold-from {source}: no method was run on it and on another dataset, with one seed.")
    rows: list[dict[str, Any]] = []
    for done, (one, other) in enumerate(pairs):
        run.progress(f"applying thresholds to {other}", done, len(pairs))
        rows += shifted_scores(run.open(one), run.open(other))
    return _over_seeds(pd.DataFrame(rows))


def shifted_scores(chosen_on: StoredCell, applied_to: StoredCell) -> list[dict[str, Any]]:
    """Scores the test images of a cell by its own thresholds and by those of another cell.

    Args:
        chosen_on: The cell whose validation split the other thresholds are chosen on.
        applied_to: The cell whose test split is measured.

    Returns:
        Rows as those of `threshold_shift`, of one seed.

    Raises:
        ScoringError: A map holds NaN or infinity.
        ResultsError: A prediction is damaged.
    """
    test = applied_to.scan("test")
    own, other = (_decisions(one, test) for one in (applied_to, chosen_on))
    cells = {"dataset": applied_to.cell.dataset, "threshold_from": chosen_on.cell.dataset}
    cells |= {"method": applied_to.cell.method, "seed": applied_to.cell.seed}
    rows = []
    for policy, mine in own.items():
        theirs, row = other[policy], cells | {"policy": policy}
        if isinstance(mine, str) or isinstance(theirs, str):
            where, why = (applied_to, mine) if isinstance(mine, str) else (chosen_on, theirs)
            rows.append(row | {"note": f"left out: on {where.cell.dataset}, {why}"})
            continue
        columns = mine.columns
        row |= {"looks_at": columns.looks_at, "note": UNCHANGED.get(columns.looks_at, "")}
        row |= {"threshold_own": columns.threshold, "threshold_other": theirs.columns.threshold}
        rows.append(row | _compared(mine, theirs, applied_to))
    return rows


def _decisions(chosen_on: StoredCell, test: Scanned) -> dict[str, Decision | str]:
    """The thresholds that policies choose for test images, with the validation split of one cell; or why they cannot.

    No oracle is asked: nothing here looks at a test mask.
    """
    scanned: dict[Split, Scanned] = {"valid": chosen_on.scan("valid"), "test": test}
    policies = make_policies(chosen_on.score.thresholds)
    asked = [parse_policy(name) for name, one in policies.items() if getattr(one, "looks_at", "") != "oracle"]
    decisions, left_out = decide(scanned, asked, chosen_on.score.fixed_threshold)
    return {one.columns.policy: one for one in decisions} | {columns.policy: why for columns, why in left_out}


def _measured(decision: Decision, cell: StoredCell) -> tuple[np.ndarray, float]:
    """DICE of each test image, NaN without a lesion, and `normal_fpr` of all."""
    truths, stored = cell.truths["test"], cell.predictions["test"]
    dice, counts = np.full(len(truths.cases), nan), []
    for index, truth in enumerate(truths.masks):
        mask = decision.mask("test", index, stored[index].prediction)
        dice[index] = Overlap.of(mask, truth.overlap).dice
        foreground = None if truths.foregrounds is None else truths.foregrounds[index]
        counts.append(foreground_counts(mask, foreground))
    return dice, normal_rates(counts, truths.labels, truths.patients)["normal_fpr"][0]


def _compared(own: Decision, other: Decision, cell: StoredCell) -> dict[str, Any]:
    """The scores of the masks of the same images by two thresholds."""
    (dice_own, fpr_own), (dice_other, fpr_other) = (_measured(one, cell) for one in (own, other))
    change = dice_other - dice_own
    interval = mean_interval(change, cell.truths["test"].patients, METRICS["regret"].range)
    return {
        "dice_own": _mean(dice_own),
        "dice_other": _mean(dice_other),
        "difference": _mean(change),
        "ci_low": interval.low,
        "ci_high": interval.high,
        "patients": interval.patients,
        "fpr_own": fpr_own,
        "fpr_other": fpr_other,
    }


def _mean(dice: np.ndarray) -> float:
    """The mean over images with a lesion."""
    kept = dice[~np.isnan(dice)]
    return float(kept.mean()) if len(kept) else nan


def _over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    averaged = []
    for _, of_seeds in rows.reindex(columns=[*COLUMNS, "seed", "ci_low", "ci_high"]).groupby(_KEYS, sort=False):
        row = of_seeds.iloc[0].to_dict()
        row |= of_seeds[_AVERAGED].mean().to_dict()
        differences = over_seeds(of_seeds.assign(metric="regret", value=of_seeds["difference"]))
        row |= {"difference_low": differences.low, "difference_high": differences.high}
        averaged.append(row | {"patients": differences.patients, "few_patients": differences.few_patients})
    return pd.DataFrame(averaged)[list(COLUMNS)]
