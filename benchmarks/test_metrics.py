"""Metrics of pixels against anomalib, adeval and scikit-learn, and against loops; read the ratios in brackets."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import adeval
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from miasbench.harness.scoring.dice_curve import DiceTally, dice_curve
from miasbench.harness.scoring.ranking import PixelTally, rank_pixels

Benchmark = Any  # called with more than a function: pedantic, extra_info

BINS = 2**21
POOLED = "AUROC, average precision, best F1 and AUPRO of 100 maps of 512 x 512"
STREAMED, ANOMALOUS = 1805, 764  # the test images of BMAD's retinal OCT (RESC)


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """100 maps of 512 x 512 with one to three lesions each; four where nothing is timed."""
    count = 4 if request.config.getoption("benchmark_disable") else 100
    rng = np.random.default_rng(0)
    truths = np.zeros((count, 512, 512), bool)
    for truth in truths:
        for _ in range(rng.integers(1, 4)):
            top, left = rng.integers(0, 430, 2)
            height, width = rng.integers(20, 80, 2)
            truth[top : top + height, left : left + width] = True
    maps = rng.normal(size=truths.shape) + 1.5 * truths
    return (1 / (1 + np.exp(-maps))).astype(np.float32), truths  # anomalib squashes all that lies outside 0 to 1


@pytest.fixture(scope="module")
def expected(images: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float, float]:
    return pooled(images, None)


def pooled(images: tuple[np.ndarray, np.ndarray], limit: int | None) -> tuple[float, float, float, float]:
    ranking = rank_pixels(*images, limit)
    return ranking.auroc, ranking.average_precision, ranking.best_f1()[1], ranking.aupro()


@pytest.mark.benchmark(group=POOLED)
@pytest.mark.parametrize("limit", [None, BINS], ids=["exact", "binned"])
def test_one_pass(
    benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray], expected: tuple[float, ...], limit: int | None
) -> None:
    scores = benchmark.pedantic(pooled, args=(images, limit), rounds=5, warmup_rounds=1)
    assert scores == pytest.approx(expected, abs=1e-5)
    benchmark.extra_info["largest_difference"] = float(np.abs(np.subtract(scores, expected)).max())


@pytest.mark.benchmark(group=POOLED)
def test_adeval(
    benchmark: Benchmark,
    images: tuple[np.ndarray, np.ndarray],
    expected: tuple[float, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """AUROC, average precision and AUPRO from 1,000 bins; it has no best F1."""
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # NumPy 2.4 took it away
    truths = images[1].astype(np.uint8)
    arguments = (images[0], truths)
    scores = benchmark.pedantic(adeval.auroc_aupr_aupro, args=arguments, rounds=5, warmup_rounds=1)
    auroc, average_precision, _, aupro = expected
    assert scores == pytest.approx((auroc, average_precision, aupro), abs=1e-3)


@pytest.mark.benchmark(group=POOLED)
def test_anomalib(benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray], expected: tuple[float, ...]) -> None:
    # Not above: the process whose memory is measured loads this file too.
    import torch
    from anomalib.metrics import AUPRO, AUROC, F1Max

    batch: Any = SimpleNamespace(map=torch.from_numpy(images[0]), truth=torch.from_numpy(images[1]).long())

    def theirs() -> list[float]:
        metrics = [metric(fields=["map", "truth"]) for metric in (AUROC, F1Max, AUPRO)]
        for metric in metrics:
            metric.update(batch)
        return [float(metric.compute()) for metric in metrics]

    auroc, _, best_f1, aupro = expected
    assert benchmark.pedantic(theirs, rounds=1) == pytest.approx((auroc, best_f1, aupro), abs=1e-3)


@pytest.mark.benchmark(group=POOLED)
def test_scikit_learn_auroc_alone(
    benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray], expected: tuple[float, ...]
) -> None:
    auroc = benchmark.pedantic(roc_auc_score, args=(images[1].ravel(), images[0].ravel()), rounds=1)
    assert auroc == pytest.approx(expected[0], abs=1e-9)


def smooth_images(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps of 512 x 1,024, each mixed anew from eight smooth fields; two in five have a lesion."""
    rng = np.random.default_rng(0)
    fields = [gaussian_filter(rng.normal(size=(512, 1024)), sigma) for sigma in (2, 2, 4, 4, 8, 8, 16, 16)]
    fields = [(field / field.std()).astype(np.float32) for field in fields]
    for index in range(count):
        truth = np.zeros((512, 1024), bool)
        if index * ANOMALOUS % STREAMED < ANOMALOUS:
            top, left = rng.integers(0, (400, 800))
            truth[top : top + rng.integers(20, 100), left : left + rng.integers(20, 200)] = True
        one, other = rng.choice(8, 2, replace=False)
        mixed = np.roll(fields[one], int(rng.integers(512)), axis=0) + np.float32(rng.random()) * fields[other]
        yield mixed + np.float32(1.5) * truth, truth


def stream(count: int, limit: int | None) -> dict[str, Any]:
    """Scores such maps in one pass, pooled and each by itself; says what it took."""
    pixels, dice, own = PixelTally(limit), DiceTally(limit), []
    seconds = 0.0
    for anomaly_map, truth in smooth_images(count):
        start = time.perf_counter()
        pixels.add(anomaly_map, truth)
        dice.add(anomaly_map, truth)
        if truth.any():
            ranking = rank_pixels([anomaly_map], [truth])
            own.append((ranking.auroc, ranking.average_precision, ranking.aupro(), ranking.best_f1()[1]))
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    ranking, curve = pixels.ranking(), dice.curve()
    scores = {
        "auroc": ranking.auroc,
        "average_precision": ranking.average_precision,
        "best_f1": ranking.best_f1()[1],
        "aupro": ranking.aupro(),
        "best_dice": curve.best()[1],
    }
    bounds = vars(ranking.error_bounds()) | {"best_dice": curve.error_bound}
    return {
        "scores": scores,
        "bounds": bounds,
        "mean_of_images": np.mean(own, axis=0).tolist(),
        "seconds": seconds + time.perf_counter() - start,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@pytest.mark.benchmark(group="one pass over 1,805 maps of 512 x 1,024")
def test_stream(benchmark: Benchmark) -> None:
    """Everything that is computed from maps; its own process, so that its memory can be told."""
    count, limit = (4, 2**18) if benchmark.disabled else (STREAMED, BINS)

    def streamed() -> dict[str, Any]:
        done = subprocess.run([sys.executable, __file__, str(count), str(limit)], check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    found = benchmark.pedantic(streamed, rounds=1)
    benchmark.extra_info.update(found)
    assert found["peak_memory_mib"] < 4096
    assert max(found["bounds"].values()) < 1e-3
    if benchmark.disabled:
        exact = stream(count, None)
        for name, bound in found["bounds"].items():
            assert found["scores"][name] == pytest.approx(exact["scores"][name], abs=bound + 1e-12)


@pytest.mark.benchmark(group="mean DICE at every threshold")
@pytest.mark.parametrize("limit", [None, BINS], ids=["exact", "binned"])
def test_dice_of_every_threshold_at_once(
    benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray], limit: int | None
) -> None:
    curve = benchmark.pedantic(dice_curve, args=(*images, limit), rounds=3, warmup_rounds=1)
    threshold, dice = curve.best()
    assert dice == pytest.approx(plain_mean_dice(images, threshold))


@pytest.mark.benchmark(group="mean DICE at every threshold")
def test_dice_of_fifty_thresholds_one_by_one(benchmark: Benchmark, images: tuple[np.ndarray, np.ndarray]) -> None:
    def plain() -> float:
        return max(plain_mean_dice(images, at) for at in np.linspace(0.02, 1, 50))

    assert benchmark.pedantic(plain, rounds=1) <= dice_curve(*images).best()[1] + 1e-12


def plain_mean_dice(images: tuple[np.ndarray, np.ndarray], threshold: float) -> float:
    predicted, truths = images[0] >= threshold, images[1]
    both, either = (one.sum(axis=(1, 2)) for one in (predicted & truths, predicted))
    return float(np.mean(2 * both / (either + truths.sum(axis=(1, 2)))))


if __name__ == "__main__":
    print(json.dumps(stream(int(sys.argv[1]), int(sys.argv[2]))))
