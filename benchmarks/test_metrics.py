"""Metrics and thresholds against scikit-learn and against a loop over thresholds; read the ratios in brackets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils import resample

from miasbench.harness.metrics import Overlap, mean_dice_curve, rank_pixels
from miasbench.harness.statistics import bootstrap_mean

Benchmark = Callable[..., Any]


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """20 maps of 256 x 256 with a square lesion each."""
    rng = np.random.default_rng(0)
    truths = np.zeros((20, 256, 256), bool)
    for truth in truths:
        top, left = rng.integers(0, 200, 2)
        truth[top : top + 40, left : left + 50] = True
    return (rng.random(truths.shape) + 0.5 * truths).astype(np.float32), truths


@pytest.mark.benchmark(group="pixel AUROC and AP")
def test_one_ranking(benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray]) -> None:
    def ours() -> tuple[float, float]:
        ranking = rank_pixels(list(images[0]), list(images[1]))
        return ranking.auroc, ranking.average_precision

    auroc, _ = benchmark(ours)
    assert auroc == pytest.approx(roc_auc_score(images[1].ravel(), images[0].ravel()))


@pytest.mark.benchmark(group="pixel AUROC and AP")
def test_scikit_learn(benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray]) -> None:
    def plain() -> tuple[float, float]:
        flat = images[1].ravel(), images[0].ravel()
        return float(roc_auc_score(*flat)), float(average_precision_score(*flat))

    assert benchmark(plain)[0] > 0.5


@pytest.mark.benchmark(group="best mean DICE")
def test_every_threshold_at_once(benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray]) -> None:
    thresholds, dice = benchmark(mean_dice_curve, list(images[0]), list(images[1]))
    at = thresholds[dice.argmax()]
    brute = np.mean([Overlap.of(one >= at, truth).dice for one, truth in zip(*images, strict=True)])
    assert dice.max() == pytest.approx(brute)


@pytest.mark.benchmark(group="best mean DICE")
def test_a_hundred_thresholds_one_by_one(benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray]) -> None:
    def plain() -> float:
        return max(
            float(np.mean([Overlap.of(one >= at, truth).dice for one, truth in zip(*images, strict=True)]))
            for at in np.linspace(0, 1.5, 100)
        )

    assert benchmark(plain) <= mean_dice_curve(list(images[0]), list(images[1]))[1].max() + 1e-12


@pytest.mark.benchmark(group="patient bootstrap, 1,000 draws")
def test_sums_of_patients(benchmark: Benchmark) -> None:
    rng = np.random.default_rng(0)
    values, patients = rng.random(2000), [f"p{index // 20}" for index in range(2000)]
    low, high = benchmark(bootstrap_mean, values, patients, resamples=1000)
    assert low < values.mean() < high


@pytest.mark.benchmark(group="patient bootstrap, 1,000 draws")
def test_images_of_drawn_patients(benchmark: Benchmark) -> None:
    values = np.random.default_rng(0).random((100, 20))

    def plain() -> np.ndarray:
        means = [np.asarray(resample(values, random_state=draw)).mean() for draw in range(1000)]
        return np.quantile(means, [0.025, 0.975])

    low, high = benchmark(plain)
    assert low < values.mean() < high
