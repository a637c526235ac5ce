"""How many validation images a policy needs: thresholds chosen on parts of the validation split, measured on test."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ...results.record import Cell
from ..api import Progress, Split
from ..registry import make_policies
from ..scoring.decisions import decide
from ..scoring.scanning import Scanned
from ..specs import Spec, parse_policy
from .stored_cells import StoredCell, StoredRun

DRAWS = 20
SPREAD = (10, 90)
"""The percentiles of the draws' DICE between which most of them lie."""
_LOOKS_AT = ("normals", "validation")


def validation_sizes(run: StoredRun, sizes: Sequence[int], draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Lets policies choose thresholds on fewer validation images than there are.

    A draw brings the patients of the validation split into a random order, and the images of each; it takes as many
    images as it should from the beginning, so that images of one patient come together, as they would where few were
    collected. A larger part of the same draw holds the smaller ones. All methods and policies have the same draws. Test
    masks measure the thresholds, and choose nothing.

    Args:
        run: The run; of each method, the first seed counts.
        sizes: How many images, each 1 or more; a size that leaves out no image is dropped. All images are added.
        draws: How often each part is drawn.
        seed: The seed of the draws.

    Returns:
        A row for each dataset, method, policy that looks at validation images and has one threshold for all test
        images, and size: `dataset`, `method`, `policy`, `images`, `of_images` (in the whole split), `draws`, `chose`
        (on how many draws the policy could choose: some hold no lesion, or no normal image). Over these draws
        `dice_mean`, `dice_std` (with their number less one in its denominator), `dice_low`, `dice_high` (percentiles,
        by `SPREAD`) of the mean DICE of the anomalous test images.

    Raises:
        ScoringError: A map holds NaN or infinity.
        ResultsError: A prediction is damaged.
    """
    first: dict[tuple[str, str], Cell] = {}
    for cells in run.cells.values():
        for cell in cells:
            first.setdefault((cell.dataset, cell.method), cell)
    rows: list[dict[str, Any]] = []
    for cell in first.values():
        rows += sizes_of_cell(run.open(cell), sizes, draws, seed, run.progress)
    return pd.DataFrame(rows, columns=list(COLUMNS))


COLUMNS = (
    *("dataset", "method", "policy", "images", "of_images", "draws", "chose"),
    *("dice_mean", "dice_std", "dice_low", "dice_high"),
)


def sizes_of_cell(
    cell: StoredCell, sizes: Sequence[int], draws: int = DRAWS, seed: int = 0, progress: Progress = lambda *_: None
) -> list[dict[str, Any]]:
    """The rows of `validation_sizes` of one cell; arguments and errors are the same."""
    valid, test = cell.truths["valid"], cell.scan("test")
    whole = len(valid.cases)
    of_whole = _choose(cell.scan("valid"), test, _policies(cell))
    policies = [parse_policy(name) for name in of_whole]
    orders = [image_order(valid.patients, np.random.default_rng([seed, draw])) for draw in range(draws)]
    smaller = sorted({size for size in sizes if size < whole})
    chosen: dict[tuple[int, str], list[float]] = {(size, name): [] for size in smaller for name in of_whole}
    for done, (size, draw) in enumerate(product(smaller, range(draws))):
        progress(f"choosing thresholds for {cell.cell}", done, len(smaller) * draws)
        part = cell.scan("valid", {valid.cases[index].id for index in orders[draw][:size]})
        for name, threshold in _choose(part, test, policies).items():
            chosen[size, name].append(threshold)
    chosen |= {(whole, name): [threshold] for name, threshold in of_whole.items()}
    of_cell = {"dataset": cell.cell.dataset, "method": cell.cell.method, "of_images": whole}
    return [
        {**of_cell, "policy": name, "images": size, "draws": draws if size < whole else 1, "chose": len(thresholds)}
        | _summary(test.dice_at(np.array(thresholds, float)))
        for (size, name), thresholds in chosen.items()
    ]


def image_order(patients: Sequence[str], rng: np.random.Generator) -> list[int]:
    """A random order of images: of the patients, and of the images of each, which come together."""
    names, index = np.unique(np.asarray(patients, str), return_inverse=True)
    return [
        int(image)
        for patient in rng.permutation(len(names))
        for image in rng.permutation(np.flatnonzero(index == patient))
    ]


def _policies(cell: StoredCell) -> list[Spec]:
    """Those that choose one threshold for all images from validation images."""
    made = make_policies(cell.score.thresholds)
    return [parse_policy(name) for name, one in made.items() if getattr(one, "looks_at", "") in _LOOKS_AT]


def _choose(part: Scanned, test: Scanned, policies: Sequence[Spec]) -> dict[str, float]:
    """The threshold of each policy that can choose; the test split says only how many images it is for."""
    scanned: dict[Split, Scanned] = {"valid": part, "test": test}
    decisions, _ = decide(scanned, policies, None)
    return {one.columns.policy: one.columns.threshold for one in decisions if not np.isnan(one.columns.threshold)}


def _summary(dice: np.ndarray) -> dict[str, float]:
    if not len(dice):
        return dict.fromkeys(("dice_mean", "dice_std", "dice_low", "dice_high"), float("nan"))
    low, high = np.percentile(dice, SPREAD)
    std = float(dice.std(ddof=1)) if len(dice) > 1 else float("nan")
    return {"dice_mean": float(dice.mean()), "dice_std": std, "dice_low": float(low), "dice_high": float(high)}
