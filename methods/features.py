"""Features of a frozen convolutional network, and maps that are made of a score for each of their places."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import timm
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from .backbones import Backbone
from .loading import Batches
from .pixels import as_batch

_KEPT = 4 * 2**30  # bytes of features


class FrozenFeatures(nn.Module):
    """Levels of a backbone with its weights; a subclass says what `forward` makes of them.

    Args:
        backbone: The backbone.
        levels: Which of its levels; level n has the image's size divided by 2 to the power of n + 1.

    Attributes:
        channels: Those of all levels together.
    """

    def __init__(self, backbone: Backbone, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        network: Any = timm.create_model(backbone.name, features_only=True, out_indices=levels)
        backbone.load_into(network)
        self.levels = network
        self.channels: int = sum(network.feature_info.channels())

    def of(self, images: Sequence[np.ndarray], device: str) -> torch.Tensor:
        """Makes the features of images, uint8 (H, W) or (H, W, 3), on a device."""
        return self(self.backbone.normalise(as_batch(images, device)))


class PatchFeatures(FrozenFeatures):
    """PatchCore's patch features (Roth et al., CVPR 2022, Section 3.1), without its reduction of their length.

    Args:
        backbone: Its second and third level are used.
    """

    PATCH = 3

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, (2, 3))

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Makes features, float32 (N, H/8, W/8, D), of normalised images, float32 (N, 3, H, W).

        Each value is the mean of 3 x 3 places.
        """
        levels = [functional.avg_pool2d(level, self.PATCH, 1, self.PATCH // 2) for level in self.levels(images)]
        return join(levels).permute(0, 2, 3, 1)


class KeptFeatures(Batches):
    """The frozen features of images: computed once, and kept in memory as far as that goes.

    Args:
        images: The images.
        make: Makes the features of a list of images, float32 (N, …).
        device: A torch device, where batches are wanted.
    """

    def __init__(
        self, images: Sequence[np.ndarray], make: Callable[[Sequence[np.ndarray]], torch.Tensor], device: str
    ) -> None:
        self._images = images
        self._make = make
        self._device = device
        self._kept: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, positions: Sequence[int]) -> torch.Tensor:
        return torch.stack([self._features(position) for position in positions]).to(self._device)

    def _features(self, position: int) -> torch.Tensor:
        if position in self._kept:
            return self._kept[position]
        features = self._make([self._images[position]])[0].cpu()
        if (len(self._kept) + 1) * features.nbytes <= _KEPT:
            self._kept[position] = features
        return features


def join(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Brings levels, float32 (N, C, h, w), to the size of the first, and joins their channels."""
    size = levels[0].shape[-2:]
    return torch.cat([functional.interpolate(level, size, mode="bilinear") for level in levels], dim=1)


def enlarge(scores: torch.Tensor, shape: tuple[int, ...], sigma: float) -> list[np.ndarray]:
    """Makes anomaly maps of scores of patches: bilinear, then smoothed.

    Args:
        scores: (N, h, w).
        shape: Of the images; the first two numbers are height and width.
        sigma: The standard deviation of the Gaussian filter, in pixels.

    Returns:
        Maps, float32 (H, W).
    """
    maps = functional.interpolate(scores[:, None].float(), shape[:2], mode="bilinear")[:, 0].cpu().numpy()
    return [gaussian_filter(one, sigma) for one in maps]


def mean_of_highest(values: np.ndarray, share: float) -> float:
    """The mean of the highest share of values, of one of them at least; 0 where there are none."""
    if not values.size:
        return 0.0
    count = max(1, round(share * values.size))
    return float(np.partition(values.ravel(), -count)[-count:].mean())
