"""Leaving patients out in closed form and resampling by matrix products, against loops; read the ratios in brackets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.utils import resample

from miasbench.harness.analysis.statistics import case_table, compare, patient_draws, rank_stability
from miasbench.harness.scoring.intervals import PatientCurves, auroc_interval, mean_interval

Benchmark = Callable[..., Any]
PATIENTS = 60


@pytest.mark.benchmark(group="mean of 2,000 images of 100 patients")
def test_sums_of_patients(benchmark: Benchmark) -> None:
    rng = np.random.default_rng(0)
    values, patients = rng.random(2000), [f"p{index // 20}" for index in range(2000)]
    low, high, _ = benchmark(mean_interval, values, patients, (0, 1))
    assert low < values.mean() < high


@pytest.mark.benchmark(group="mean of 2,000 images of 100 patients")
def test_images_of_drawn_patients(benchmark: Benchmark) -> None:
    values = np.random.default_rng(0).random((100, 20))

    def plain() -> np.ndarray:
        means = [np.asarray(resample(values, random_state=draw)).mean() for draw in range(1000)]
        return np.quantile(means, [0.025, 0.975])

    low, high = benchmark(plain)
    assert low < values.mean() < high


@pytest.mark.benchmark(group="image AUROC, 300 patients")
def test_pairs_of_each_patient(benchmark: Benchmark) -> None:
    scores, labels = _images()
    low, high, _ = benchmark(auroc_interval, scores, labels, [f"p{index}" for index in range(300)])
    assert low < roc_auc_score(labels, scores) < high


@pytest.mark.benchmark(group="image AUROC, 300 patients")
def test_scikit_learn_without_each_patient(benchmark: Benchmark) -> None:
    scores, labels = _images()

    def plain() -> float:
        without = [roc_auc_score(np.delete(labels, one), np.delete(scores, one)) for one in range(300)]
        return float(np.std(without)) * np.sqrt(299)

    assert 0.01 < benchmark(plain) < 0.05


@pytest.mark.benchmark(group="draws of 60 patients")
def test_draws(benchmark: Benchmark) -> None:
    assert benchmark(patient_draws.__wrapped__, PATIENTS).shape == (10_000, PATIENTS)


@pytest.mark.benchmark(group="pooled pixel metrics, 60 patients, 256 thresholds")
def test_pixel_metrics(benchmark: Benchmark) -> None:
    rng = np.random.default_rng(0)
    true, false = (np.cumsum(rng.integers(0, most, (PATIENTS, 256)), axis=1) for most in (40, 2000))
    curves = PatientCurves(true, false, true / true[:, -1:], np.ones(PATIENTS))
    found = benchmark(curves.intervals, {"pixel_auroc": 0.5, "pixel_ap": 0.02, "aupro": 0.15, "best_f1": 0.04})
    assert all(low < high for low, high, _ in found.values())


@pytest.mark.benchmark(group="20 methods, 60 patients, 10,000 draws")
def test_compare_and_rank(benchmark: Benchmark) -> None:
    rng = np.random.default_rng(0)
    cases = pd.DataFrame(
        {
            "method": np.repeat([f"m{index:02}" for index in range(20)], 91),
            "seed": 0,
            "case": np.tile([f"c{index}" for index in range(91)], 20),
            "patient": np.tile([f"p{index % PATIENTS}" for index in range(91)], 20),
            "dice": rng.random(20 * 91),
        }
    )

    def both() -> tuple[pd.DataFrame, pd.DataFrame]:
        table = case_table(cases)
        pairs = compare(table)
        return pairs, rank_stability(table, pairs)

    pairs, ranks = benchmark(both)
    assert (len(pairs), len(ranks)) == (190, 20)


def _images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.5
    return rng.normal(size=300) + labels, labels
