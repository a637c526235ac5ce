"""A test image's whole procedure against the textbook, both with one SAM ViT-B; read the ratios in brackets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from miasbench.datasets.phantom import phantom_liver_ct
from miasbench.harness.api import Method
from miasbench.harness.registry import build_method

from .random_sam import as_published, random_sam
from .textbook import Textbook

Benchmark = Any  # called with more than a function: pedantic

GROUP = "one test image, SAM ViT-B, random weights"


@pytest.fixture(scope="module")
def images() -> tuple[list[np.ndarray], np.ndarray]:
    """Two normal images for the bank, and one with a lesion."""
    dataset = phantom_liver_ct(Path(), train=2, valid=2, test=2)
    train, test = ([dataset.load(case).image for case in dataset.cases(split)] for split in ("train", "test"))
    return train, test[-1]


@pytest.fixture(scope="module")
def network() -> Sam:
    return random_sam()


class Answer:
    """What the textbook says, found once: it takes its time."""

    def __init__(self, textbook: Textbook, image: np.ndarray) -> None:
        self._textbook, self._image = textbook, image
        self._found: tuple[np.ndarray, np.ndarray] | None = None

    def find(self) -> tuple[np.ndarray, np.ndarray]:
        """Goes through the whole procedure, and keeps the map and the masks."""
        self._found = self._textbook.predict(self._image)
        return self._found

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        return self._found or self.find()


@pytest.fixture(scope="module")
def answer(network: Sam, images: tuple[list[np.ndarray], np.ndarray]) -> Answer:
    return Answer(Textbook(network).fit(images[0]), images[1])


@pytest.fixture(scope="module")
def fitted(network: Sam, images: tuple[list[np.ndarray], np.ndarray]) -> Iterator[Callable[[str], Method]]:
    """Fits mias_sam with the network's weights."""
    options = {"flip": 0.0, "normalisation": "image", "mask": "0"}

    def fit(precision: str) -> Method:
        made = build_method("mias_sam", options | {"precision": precision}, weights="published", device="cpu", seed=0)
        made.fit(images[0])
        return made

    with as_published(network):
        yield fit


@pytest.mark.benchmark(group=GROUP)
def test_textbook(benchmark: Benchmark, answer: Answer) -> None:
    found, masks = benchmark.pedantic(answer.find, rounds=2)
    assert found.shape == (256, 256)
    assert masks.shape == (3, 256, 256)


@pytest.mark.benchmark(group=GROUP)
def test_mias_sam(
    benchmark: Benchmark,
    answer: Answer,
    fitted: Callable[[str], Method],
    images: tuple[list[np.ndarray], np.ndarray],
) -> None:
    prediction = benchmark.pedantic(fitted("float32").predict, args=(images[1],), rounds=3, warmup_rounds=1)
    expected, masks = answer.known()
    assert np.abs(prediction.anomaly_map - expected).max() < 1e-4 * expected.max()
    assert (prediction.mask != masks[0]).mean() < 1e-3, "pixels at the very edge of the mask"


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor has no instructions for bfloat16, and takes a quarter of an hour an image",
)
@pytest.mark.benchmark(group=GROUP)
def test_mias_sam_in_bfloat16(
    benchmark: Benchmark,
    answer: Answer,
    fitted: Callable[[str], Method],
    images: tuple[list[np.ndarray], np.ndarray],
) -> None:
    prediction = benchmark.pedantic(fitted("bfloat16").predict, args=(images[1],), rounds=3, warmup_rounds=1)
    expected, _ = answer.known()
    assert np.linalg.norm(prediction.anomaly_map - expected) < 0.01 * np.linalg.norm(expected)
