"""Surface distances of masks and volumes against MONAI's, on the same ones; read the ratio in brackets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy.ndimage import gaussian_filter

from miasbench.harness.scoring.functions import OF_MASK
from miasbench.harness.scoring.masks import Lesions, MaskScores

Benchmark = Callable[..., Any]
Pairs = list[tuple[np.ndarray, np.ndarray]]

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Predicted and true masks of 256 x 256: the predictions from smooth to noisy, and one that is the whole image."""
    rng = np.random.default_rng(0)
    made = []
    for smooth in (8, 4, 2, 1, 0):
        truth = np.zeros((256, 256), bool)
        top, left = rng.integers(0, 200, 2)
        truth[top : top + 40, left : left + 50] = True
        noise = gaussian_filter(rng.standard_normal(truth.shape), smooth)
        made.append((noise / noise.std() + truth > 1.5, truth))
    return [*made, (np.ones((256, 256), bool), made[0][1])]


@pytest.mark.benchmark(group="HD95 and ASSD of 6 masks")
def test_ours(benchmark: Benchmark, pairs: Pairs) -> None:
    truths = [Lesions(truth) for _, truth in pairs]
    ours = benchmark(
        lambda: [
            (distances.hd95, distances.assd)
            for (predicted, _), truth in zip(pairs, truths, strict=True)
            for distances in [MaskScores(predicted, truth).distances()]
        ]
    )
    np.testing.assert_allclose(ours, _monai(pairs), atol=1e-4)


@pytest.mark.benchmark(group="HD95 and ASSD of 6 masks")
def test_monai(benchmark: Benchmark, pairs: Pairs) -> None:
    assert len(benchmark(_monai, pairs)) == len(pairs)


@pytest.mark.benchmark(group="all scores of 6 masks")
def test_every_score_of_a_mask(benchmark: Benchmark, pairs: Pairs) -> None:
    truths = [Lesions(truth) for _, truth in pairs]
    scores = benchmark(
        lambda: [
            {name: function(one) for name, function in OF_MASK.items()}
            for one in (MaskScores(predicted, truth) for (predicted, _), truth in zip(pairs, truths, strict=True))
        ]
    )
    assert [set(one) for one in scores] == [set(OF_MASK)] * len(pairs)


SPACING = (3.0, 0.8, 0.8)


@pytest.fixture(scope="module")
def volume() -> tuple[np.ndarray, np.ndarray]:
    """A predicted and a true volume of 40 x 160 x 160: one lesion, and a noisy prediction of it."""
    rng = np.random.default_rng(0)
    truth = np.zeros((40, 160, 160), bool)
    truth[12:24, 40:90, 60:100] = True
    noise = gaussian_filter(rng.standard_normal(truth.shape), (1, 2, 2))
    return noise / noise.std() + 2 * truth > 2, truth


@pytest.mark.benchmark(group="HD95, ASSD and NSD of a volume")
def test_ours_of_a_volume(benchmark: Benchmark, volume: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, truth = volume

    def measure() -> list[float]:
        scores = MaskScores(predicted, Lesions(truth, SPACING))
        return [scores.hd95_mm, scores.assd_mm, scores.nsd]

    np.testing.assert_allclose(benchmark(measure), _monai_of_a_volume(volume), rtol=1e-4)


@pytest.mark.benchmark(group="HD95, ASSD and NSD of a volume")
def test_monai_of_a_volume(benchmark: Benchmark, volume: tuple[np.ndarray, np.ndarray]) -> None:
    assert len(benchmark(_monai_of_a_volume, volume)) == 3


def _monai_of_a_volume(volume: tuple[np.ndarray, np.ndarray]) -> list[float]:
    predicted, truth = (torch.from_numpy(mask)[None, None] for mask in volume)
    told: dict[str, Any] = {"include_background": True, "spacing": list(SPACING)}
    found = (
        compute_hausdorff_distance(predicted, truth, percentile=95, **told),
        compute_average_surface_distance(predicted, truth, symmetric=True, **told),
        compute_surface_dice(predicted, truth, class_thresholds=[1.0], **told),
    )
    return [float(one) for one in found]


def _monai(pairs: Pairs) -> list[tuple[float, float]]:
    tensors = [[torch.from_numpy(mask)[None, None] for mask in pair] for pair in pairs]
    return [
        (
            float(compute_hausdorff_distance(*pair, include_background=True, percentile=95)),
            float(compute_average_surface_distance(*pair, include_background=True, symmetric=True)),
        )
        for pair in tensors
    ]
