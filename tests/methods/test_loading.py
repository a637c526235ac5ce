from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from miasbench.harness.api import LazySequence
from miasbench.methods.loading import KeptImages, PreparedBatches


class Counted:
    """Images that remember how often each was read."""

    def __init__(self, shape: tuple[int, ...] = (4, 4), count: int = 6) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
        self.reads = np.zeros(count, int)

    def sequence(self) -> LazySequence[np.ndarray]:
        return LazySequence(len(self.images), self._read)

    def _read(self, position: int) -> np.ndarray:
        self.reads[position] += 1
        return self.images[position]


ORDERS: Sequence[Sequence[int]] = ([4, 0, 5], [1, 2, 3], [3, 0], [5, 4, 1, 2])


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)])
def test_every_image_is_read_once_and_is_what_it_was(shape: tuple[int, ...]) -> None:
    counted = Counted(shape)
    kept = KeptImages(counted.sequence(), passes=2)
    expected = counted.images[:, None] if len(shape) == 2 else counted.images.transpose(0, 3, 1, 2)
    for order in ORDERS:
        np.testing.assert_array_equal(kept.stack(order), expected[list(order)])
    np.testing.assert_array_equal(np.stack(list(kept)), expected)
    assert (counted.reads == 1).all()


def test_a_batch_is_a_copy() -> None:
    kept = KeptImages(Counted().sequence(), passes=2)
    before = kept.stack([0]).copy()
    kept.stack([0])[:] = 7
    np.testing.assert_array_equal(kept.stack([0]), before)


def test_images_of_a_single_pass_are_not_kept() -> None:
    counted = Counted()
    kept = KeptImages(counted.sequence(), passes=1)
    for order in ORDERS[:2]:
        kept.stack(order)
    kept.stack([0])
    assert counted.reads[0] == 2


def test_what_is_too_large_for_the_memory_lies_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIASBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 0}))
    counted = Counted()
    kept = KeptImages(counted.sequence(), passes=2)
    for order in ORDERS:
        np.testing.assert_array_equal(kept.stack(order), counted.images[list(order), None])
    assert (counted.reads == 1).all()
    assert not list((tmp_path / "cache").iterdir()), "the file has no name"


def test_where_there_is_no_room_at_all_images_are_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIASBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MIASBENCH_CACHE_GB", "0")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 0}))
    counted = Counted()
    kept = KeptImages(counted.sequence(), passes=2)
    for order in ORDERS:
        np.testing.assert_array_equal(kept.stack(order), counted.images[list(order), None])
    assert (counted.reads == 2).all()


def test_a_batch_is_prepared_as_a_whole_and_only_what_is_asked_of_an_image_once_is_made_once() -> None:
    counted, made, shapes = Counted(), [], []

    def once(image: np.ndarray) -> np.ndarray:
        made.append(image)
        return np.stack([image, 255 - image])

    def prepare(pixels: torch.Tensor) -> torch.Tensor:
        shapes.append((pixels.dtype, *pixels.shape))
        return pixels.float() / 255

    data = PreparedBatches(KeptImages(counted.sequence(), 2, once), prepare, "cpu")
    batches = [batch for _ in range(2) for batch in data.loader(batch_size=4)]
    assert shapes == 2 * [(torch.uint8, 4, 2, 4, 4), (torch.uint8, 2, 2, 4, 4)]
    assert len(made) == len(counted.images)
    torch.testing.assert_close(batches[0].sum(dim=1), torch.ones(4, 4, 4))
