"""Training images as batches: each is read once and kept, and a whole batch is prepared at a time, on the device."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from ..harness.api import LazySequence
from ..harness.cache import Cache
from .pixels import channels_first

_KEPT_SHARE = 0.25  # of the memory that is free


class KeptImages(LazySequence[np.ndarray]):
    """Images with channels first, uint8 (C, H, W), each of which is read once and kept.

    All of them lie in memory where they take no more than a quarter of what is free; else in a file on the disk of the
    cache, which disappears with this object; and where there is no room either, each is read whenever it is asked for.

    Args:
        images: uint8 (H, W) or RGB (H, W, 3), all of one shape.
        passes: How often each will be asked for; for a single time, none is kept.
        once: Makes what is kept of an image.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        passes: int,
        once: Callable[[np.ndarray], np.ndarray] = channels_first,
    ) -> None:
        super().__init__(len(images), lambda position: self.stack([position])[0])
        self._images = images
        self._passes = passes
        self._once = once
        self._there = np.zeros(len(images), bool)
        self._kept: np.ndarray | None = None

    def stack(self, positions: Sequence[int]) -> np.ndarray:
        """The images at these positions, uint8 (N, C, H, W): a copy."""
        missing = [position for position in positions if not self._there[position]]
        read = [self._once(image) for image in _many(self._images, missing)]
        if read and self._passes > 1 and not self._there.any():
            self._kept = _room((len(self), *read[0].shape))
        if self._kept is None:
            return np.stack(read)
        for position, pixels in zip(missing, read, strict=True):
            self._kept[position] = pixels
            self._there[position] = True
        return self._kept[list(positions)]


class Batches(Dataset[Any]):
    """Data that a `DataLoader` takes batch by batch: a batch is made as a whole, and not joined from items."""

    @abstractmethod
    def __len__(self) -> int:
        """How many items there are."""

    @abstractmethod
    def __getitems__(self, positions: Sequence[int]) -> Any:
        """The batch of the items at these positions, on the device where there is one."""

    def loader(self, **options: Any) -> DataLoader[Any]:
        """A `DataLoader` of these batches, with further options of its own."""
        return DataLoader(self, collate_fn=lambda batch: batch, **options)


class PreparedBatches(Batches):
    """Batches of images, each of which is prepared as a whole.

    Args:
        images: The images.
        prepare: Makes a batch of pixels, uint8 (N, C, H, W), that are on the device.
        device: A torch device.
    """

    def __init__(self, images: KeptImages, prepare: Callable[[torch.Tensor], Any], device: str) -> None:
        self._images = images
        self._prepare = prepare
        self._device = device

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, positions: Sequence[int]) -> Any:
        return self._prepare(torch.from_numpy(self._images.stack(positions)).to(self._device))


def _many(images: Sequence[np.ndarray], positions: Sequence[int]) -> Sequence[np.ndarray]:
    if isinstance(images, LazySequence):
        return images.many(positions)
    return [images[position] for position in positions]


def _room(shape: tuple[int, ...]) -> np.ndarray | None:
    """An array for all images, uint8 of this shape; `None` where there is no room for it."""
    size = math.prod(shape)
    if size <= _KEPT_SHARE * psutil.virtual_memory().available:
        return np.empty(shape, np.uint8)
    file = Cache.from_environment().scratch(size)
    return None if file is None else np.memmap(file, np.uint8, "w+", shape=shape)
