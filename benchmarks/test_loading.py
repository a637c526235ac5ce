"""Training images as batches against a loader that reads and prepares every image anew; read the ratio in brackets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.api import Dataset
from miasbench.harness.data.frame import frame_image
from miasbench.harness.data.reading import ParallelImages
from miasbench.harness.registry import open_dataset
from miasbench.harness.running.provenance import usable_cores
from miasbench.methods.backbones import BACKBONES
from miasbench.methods.loading import KeptImages, PreparedBatches
from miasbench.methods.pixels import channels_first

Benchmark = Any  # called with more than a function: pedantic

COUNT, BATCH, SIZE = 64, 8, 256
NORMALISE = v2.Normalize(list(BACKBONES["embedded"].mean), list(BACKBONES["embedded"].std))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Phantoms as PNG of 240 x 240, as BMAD's brain has them."""
    folder = tmp_path_factory.mktemp("phantom")
    write_bmad(phantom_brain_mri(Path(), train=COUNT, valid=2, test=2, size=240), folder)
    return open_dataset(str(folder), folder)


@pytest.fixture(scope="module")
def read(dataset: Dataset) -> Callable[[int], np.ndarray]:
    cases = dataset.cases("train")
    dataset.load(cases[0])
    return lambda position: frame_image(dataset.load(cases[position]).image, SIZE)


def plain(read: Callable[[int], np.ndarray]) -> Iterator[torch.Tensor]:
    """As anomalib's datasets do: an image is read, and becomes three float channels, whenever it is asked for."""

    class Items(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, index: int) -> torch.Tensor:
            pixels = torch.from_numpy(channels_first(read(index)).copy()).float() / 255
            return NORMALISE(pixels.expand(3, -1, -1))

    yield from DataLoader(Items(), BATCH)


def batches(read: Callable[[int], np.ndarray]) -> PreparedBatches:
    images = KeptImages(ParallelImages(COUNT, read, usable_cores()), passes=2)
    return PreparedBatches(images, BACKBONES["embedded"].normalise, "cpu")


def count(epoch: Iterator[torch.Tensor]) -> int:
    return sum(len(batch) for batch in epoch)


@pytest.mark.benchmark(group=f"{COUNT} training images of 240 x 240, the first epoch, all cores")
def test_first_epoch(benchmark: Benchmark, read: Callable[[int], np.ndarray]) -> None:
    assert benchmark.pedantic(lambda: count(iter(batches(read).loader(batch_size=BATCH))), rounds=5) == COUNT


@pytest.mark.benchmark(group=f"{COUNT} training images of 240 x 240, the first epoch, all cores")
def test_first_epoch_of_a_plain_loader(benchmark: Benchmark, read: Callable[[int], np.ndarray]) -> None:
    assert benchmark.pedantic(lambda: count(plain(read)), rounds=5) == COUNT


@pytest.mark.benchmark(group=f"{COUNT} training images of 240 x 240, later epochs, one core")
def test_later_epochs(benchmark: Benchmark, read: Callable[[int], np.ndarray]) -> None:
    data = batches(read)
    expected = list(plain(read))
    for batch, other in zip(data.loader(batch_size=BATCH), expected, strict=True):
        assert torch.equal(batch, other)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert benchmark(lambda: count(iter(data.loader(batch_size=BATCH)))) == COUNT
    finally:
        torch.set_num_threads(threads)


@pytest.mark.benchmark(group=f"{COUNT} training images of 240 x 240, later epochs, one core")
def test_later_epochs_of_a_plain_loader(benchmark: Benchmark, read: Callable[[int], np.ndarray]) -> None:
    assert benchmark.pedantic(lambda: count(plain(read)), rounds=3) == COUNT
