"""MIAS-SAM's descriptors and search against what is written out plainly; read the ratios in brackets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miasbench.datasets.phantom import phantom_brain_mri
from miasbench.methods.mias_sam.memory_bank import MemoryBank, anomaly_map, patch_descriptors

from .grown_rows import GrownRows
from .performance import embedded_rows, filled, images_of

Benchmark = Callable[..., Any]
IMAGES = 64  # in the bank: 65,536 rows


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(1, 256, 64, 64)).astype(np.float32))


@pytest.fixture(scope="module")
def grown() -> GrownRows:
    """Rows like those that LiteMedSAM makes of generated images."""
    return GrownRows(embedded_rows(images_of(phantom_brain_mri(Path(), train=12, valid=2, test=2), "train")))


@pytest.fixture(scope="module")
def query() -> np.ndarray:
    """The rows of an image with a lesion."""
    return embedded_rows(images_of(phantom_brain_mri(Path(), train=2, valid=2, test=2), "test")[-1:])[0]


@pytest.fixture(scope="module")
def exact(grown: GrownRows) -> MemoryBank:
    return filled("exact", grown.images(IMAGES), IMAGES, held_out=0)


@pytest.mark.benchmark(group="descriptors of one image")
def test_unfold(benchmark: Benchmark, features: torch.Tensor) -> None:
    assert benchmark(patch_descriptors, features, 5, 2, 1024).shape == (1, 1024, 1024)


@pytest.mark.benchmark(group="descriptors of one image")
def test_patch_by_patch(benchmark: Benchmark, features: torch.Tensor) -> None:
    def plain() -> torch.Tensor:
        padded = torch.nn.functional.pad(features, (2, 2, 2, 2))
        patches = [padded[0, :, y : y + 5, x : x + 5].flatten() for y in range(0, 64, 2) for x in range(0, 64, 2)]
        return torch.nn.functional.adaptive_avg_pool1d(torch.stack(patches)[None], 1024)

    torch.testing.assert_close(benchmark(plain), patch_descriptors(features, 5, 2, 1024))


@pytest.mark.benchmark(group="search in the bank of 64 images")
def test_automatic_index(benchmark: Benchmark, grown: GrownRows, exact: MemoryBank, query: np.ndarray) -> None:
    bank = filled("auto", grown.images(IMAGES), IMAGES, held_out=8)
    assert bank.choice.name == "pca_ivf"
    found, expected = (
        anomaly_map(scores, 256, 4.0) for scores in (benchmark(bank.distances, query), exact.distances(query))
    )
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.benchmark(group="search in the bank of 64 images")
def test_exhaustive(benchmark: Benchmark, exact: MemoryBank, query: np.ndarray) -> None:
    assert benchmark(exact.distances, query).shape == (1024,)


@pytest.mark.benchmark(group="search in the bank of 64 images")
def test_numpy(benchmark: Benchmark, grown: GrownRows, exact: MemoryBank, query: np.ndarray) -> None:
    rows = np.concatenate(list(grown.images(IMAGES)))

    def plain() -> np.ndarray:
        squared = (query**2).sum(axis=1)[:, None] - 2 * query @ rows.T + (rows**2).sum(axis=1)
        return squared.min(axis=1)

    np.testing.assert_allclose(benchmark(plain), exact.distances(query), rtol=1e-3, atol=0.01)
