"""LiteMedSAM's encoder against the package's own; read the ratio in brackets."""

from typing import Any

import pytest
import torch

from miasbench.methods.mias_sam.tiny_vit import FastTinyViT

from .textbook import literal_lite_medsam

Benchmark = Any  # called with more than a function: pedantic

GROUP = "LiteMedSAM's encoder, one image, embedded weights"


@pytest.fixture(scope="module")
def literal() -> torch.nn.Module:
    return literal_lite_medsam()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))


@pytest.mark.benchmark(group=GROUP)
@torch.inference_mode()
def test_the_packages_own(benchmark: Benchmark, literal: torch.nn.Module, pixels: torch.Tensor) -> None:
    features = benchmark.pedantic(literal, args=(pixels,), rounds=3, warmup_rounds=1)
    assert features.shape == (1, 256, 64, 64)


@pytest.mark.benchmark(group=GROUP)
@torch.inference_mode()
def test_mias_sams(benchmark: Benchmark, literal: torch.nn.Module, pixels: torch.Tensor) -> None:
    features = benchmark.pedantic(FastTinyViT(literal), args=(pixels,), rounds=5, warmup_rounds=1)
    expected = literal(pixels)
    assert (features - expected).abs().max() < 1e-4 * expected.abs().max()
