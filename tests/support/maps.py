"""Anomaly maps with truths for tests of rankings and curves, and the plain forms of what they count."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from miasbench.harness.scoring import tally as tally_module
from miasbench.harness.scoring.dice_curve import DiceCurve
from miasbench.harness.scoring.ranking import PixelRanking

Images = tuple[list[np.ndarray], list[np.ndarray]]


@st.composite
def images(
    draw: st.DrawFn,
    most: Sequence[int] = (2, 6, 10_000),
    side: int = 7,
    shares: Sequence[float] = (0.0, 0.2, 0.5, 1.0),
) -> Images:
    """One to four maps with ties; truths may be empty, touch diagonally, or fill the image."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.sampled_from(most))
    maps, truths = [], []
    for _ in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(1, side)), draw(st.integers(1, side)))
        maps.append((rng.integers(-values, values, shape) / 3).astype(np.float32))
        truths.append(rng.random(shape) < draw(st.sampled_from(shares)))
    return maps, truths


@st.composite
def finely_valued_images(draw: st.DrawFn) -> Images:
    """Maps with far more different values than the fewest bins, on both sides of zero, close together or far apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([lambda x: x, np.exp, lambda x: x**15, lambda x: x * 1e37, lambda x: 5 + x / 1e3]))
    maps, truths = [], []
    for _ in range(draw(st.integers(1, 3))):
        truth = rng.random((25, 31)) < draw(st.sampled_from([0.0, 0.01, 0.2, 0.9]))
        maps.append(spread(rng.normal(size=truth.shape) + draw(st.sampled_from([0, 1, 4])) * truth).astype(np.float32))
        truths.append(truth)
    return maps, truths


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


def plain_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


def all_metrics(ranking: PixelRanking) -> np.ndarray:
    return np.array([ranking.auroc, ranking.average_precision, ranking.best_f1()[1], ranking.aupro()])


def mean_dice(curve: DiceCurve) -> np.ndarray:
    return curve.at(curve.thresholds)


def in_batches(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Takes no more than this number of pixels, or of thresholds, at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally_module, "BATCH", size)
        patch.setattr(tally_module, "BLOCK", size)
        patch.setattr(tally_module, "ROOM", size)
        return work(*arguments)
