"""MIAS-SAM's descriptors and search against numpy written out plainly; read the ratios in brackets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from miasbench.methods.mias_sam.memory_bank import MemoryBank, patch_descriptors

Benchmark = Callable[..., Any]


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(1, 256, 64, 64)).astype(np.float32))


@pytest.fixture(scope="module")
def bank() -> tuple[MemoryBank, np.ndarray]:
    """The rows of ten images, and those of one to search for."""
    rng = np.random.default_rng(1)
    bank = MemoryBank(10)
    for _ in range(10):
        bank.add(rng.normal(size=(1024, 1024)).astype(np.float32))
    return bank, rng.normal(size=(1024, 1024)).astype(np.float32)


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


@pytest.mark.benchmark(group="search in the bank of ten images")
def test_faiss(benchmark: Benchmark, bank: tuple[MemoryBank, np.ndarray]) -> None:
    assert benchmark(bank[0].distances, bank[1], 1).shape == (1024,)


@pytest.mark.benchmark(group="search in the bank of ten images")
def test_numpy(benchmark: Benchmark, bank: tuple[MemoryBank, np.ndarray]) -> None:
    def plain() -> np.ndarray:
        rows, queries = bank[0].rows, bank[1]
        squared = (queries**2).sum(axis=1)[:, None] - 2 * queries @ rows.T + (rows**2).sum(axis=1)
        return squared.min(axis=1)

    np.testing.assert_allclose(benchmark(plain), bank[0].distances(bank[1], 1), rtol=1e-3)
