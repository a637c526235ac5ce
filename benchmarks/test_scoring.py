"""All policies and metrics of stored predictions against what a script computes of them; read the ratio in brackets."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from miasbench import Run, run
from miasbench.harness.running.rescoring import rescore

Benchmark = Any  # called with more than a function: pedantic, extra_info

IMAGES = 24  # 8 of validation and 16 of the test set, half of them anomalous
THRESHOLDS = 100
GROUP = f"scores of {IMAGES} maps of 256 x 256"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(
        ["intensity"],
        ["phantom_brain_mri:train=2,valid=8,test=16"],
        results=tmp_path_factory.mktemp("results"),
        executor="inline",
        quiet=True,
    )


@pytest.mark.benchmark(group=GROUP)
def test_every_policy_and_metric(benchmark: Benchmark, made: Run) -> None:
    before = made.scores
    benchmark.pedantic(rescore, args=(made.store,), rounds=5, warmup_rounds=1)
    benchmark.extra_info["ms_an_image"] = 1000 * benchmark.stats.stats.min / IMAGES if benchmark.stats else None
    pd.testing.assert_frame_equal(made.scores, before)


@pytest.mark.benchmark(group=GROUP)
def test_two_metrics_of_pixels_and_the_best_of_a_hundred_thresholds(benchmark: Benchmark, made: Run) -> None:
    """The habit of the field: scikit-learn's AUROC and average precision, and the best mean DICE on the test set."""
    scores = made.scores.query("policy == 'none' and level == 'image'").set_index("metric")["value"]
    auroc, _, best = benchmark.pedantic(_by_hand, args=(made,), rounds=3)
    assert auroc == pytest.approx(scores["pixel_auroc"], abs=1e-3)
    assert best <= made.scores.query("policy == 'oracle_dice' and metric == 'dice'")["value"].max() + 1e-6


def _by_hand(made: Run) -> tuple[float, float, float]:
    cases = [*made.predictions(policy="valid_dice")]
    maps = np.stack([case.anomaly_map for case in cases])
    truths = np.stack([case.truth for case in cases])
    pixels = maps.ravel(), truths.ravel()
    dice = []
    for threshold in np.linspace(maps.min(), maps.max(), THRESHOLDS):
        masks = maps >= threshold
        overlap, area = (masks & truths).sum(axis=(1, 2)), masks.sum(axis=(1, 2)) + truths.sum(axis=(1, 2))
        dice.append((2 * overlap / np.maximum(area, 1))[truths.any(axis=(1, 2))].mean())
    return float(roc_auc_score(*pixels[::-1])), float(average_precision_score(*pixels[::-1])), float(max(dice))
