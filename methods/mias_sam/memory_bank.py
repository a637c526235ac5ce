"""Patch descriptors, the memory bank of normal ones, and the anomaly map made from distances to it."""

import faiss
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from ...harness.api import UsageError


def patch_descriptors(features: torch.Tensor, patch_size: int, stride: int, size: int) -> torch.Tensor:
    """Describes each patch of a feature map by its averaged features (step 3 of the released code).

    Args:
        features: float32 (B, C, H, W).
        patch_size: Width of a patch, in feature pixels, odd.
        stride: Distance between patches.
        size: Numbers per descriptor, to which the C * patch_size ** 2 of a patch are averaged.

    Returns:
        float32 (B, P, size), the patches row by row.
    """
    patches = F.unfold(features, patch_size, stride=stride, padding=(patch_size - 1) // 2)
    return F.adaptive_avg_pool1d(patches.transpose(1, 2), size)


class MemoryBank:
    """The descriptors of every training image, searched exhaustively (steps 4 and 5).

    Args:
        images: How many images will be added.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._rows = np.empty((0, 0), np.float32)
        self._filled = 0
        self._rows_per_image = 0

    @property
    def rows(self) -> np.ndarray:
        """float32 (N, D): image after image, patches row by row."""
        return self._rows[: self._filled]

    def add(self, descriptors: np.ndarray) -> None:
        """Adds the descriptors of one image, float32 (P, D).

        Raises:
            UsageError: The whole bank will not fit into memory.
        """
        if not self._filled:
            needed, free = self._images * descriptors.nbytes, psutil.virtual_memory().available
            if needed > free:  # said now, not by the operating system when the bank is half full
                raise UsageError(
                    f"The memory bank of {self._images} images needs {needed / 2**30:.1f} GiB of memory, and "
                    f"{free / 2**30:.1f} GiB are free. Use fewer images (--limit), or a larger mias_sam.stride or a "
                    "smaller mias_sam.descriptor_size."
                )
            self._rows_per_image = len(descriptors)
            self._rows = np.empty((self._images * len(descriptors), descriptors.shape[1]), np.float32)
        self._rows[self._filled : self._filled + len(descriptors)] = descriptors
        self._filled += len(descriptors)

    def distances(self, descriptors: np.ndarray, neighbours: int, leave_out: int | None = None) -> np.ndarray:
        """Mean squared L2 distance of each descriptor to its nearest neighbours in the bank.

        Args:
            descriptors: float32 (P, D).
            neighbours: How many neighbours are averaged; the released code uses one.
            leave_out: The index of a training image whose own rows are passed over.

        Returns:
            float32 (P,), 0 or more.
        """
        if leave_out is None:
            parts = [self.rows]
        else:
            start = leave_out * self._rows_per_image
            parts = [self.rows[:start], self.rows[start + self._rows_per_image :]]
        nearest = [
            faiss.knn(descriptors, part, min(neighbours, len(part)))[0]  # exhaustive, as IndexFlatL2, without a copy
            for part in parts
            if len(part)
        ]
        return np.sort(np.concatenate(nearest, axis=1), axis=1)[:, :neighbours].mean(axis=1)


def anomaly_map(distances: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Patch scores as a map (step 6): bilinear to `size` pixels, then a Gaussian filter.

    Args:
        distances: float32 (P,) of a square grid of patches.
        size: Width and height of the map.
        sigma: Of the filter, in pixels.

    Returns:
        float32 (size, size).
    """
    side = round(len(distances) ** 0.5)
    grid = torch.from_numpy(distances.reshape(1, 1, side, side))
    upsampled = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)
    return gaussian_filter(upsampled[0, 0].numpy(), sigma)
