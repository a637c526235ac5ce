"""The structural feature autoencoder of Meissen et al. (arXiv 2208.10992): it restores features, judged by SSIM."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from torch import nn
from torch.nn import functional

from ..harness.api import Prediction, Weights
from .autoencoder import double, halve
from .backbones import BACKBONES, Backbone
from .features import FrozenFeatures, KeptFeatures, enlarge, join, mean_of_highest
from .pixels import channels_first
from .training import Schedule, TrainedMethod

ENCODERS = {
    "published": Backbone(
        "resnet18",
        "published",
        layers=("layer2", "layer3"),
        mean=BACKBONES["published"].mean,
        std=BACKBONES["published"].std,
        pyramid=BACKBONES["published"].pyramid,
        channels=(64, 128, 256, 512),
    ),
    "embedded": BACKBONES["embedded"],
}
_EARLY = (1, 2, 3)
_DROPOUT = 0.1
_C1, _C2 = 0.01**2, 0.03**2
_RADIUS, _SIGMA = 5, 1.5
_TOP = 0.1  # the share of the body whose mean is the image score


@dataclass(kw_only=True)
class FeatureAutoencoder(TrainedMethod):
    """Learns to restore early features of normal images; the map is how little a place's structure is restored.

    It is not the brightness of pixels that counts, which is the claim: lesions that are not bright are found too.
    The layers, their widths, the dropout, the optimiser, the schedule and the image score are those of the released
    code, which also equalises the histograms of images. Here images are what the dataset gives.

    Attributes:
        width: Channels of the first of four layers; the others have 9/8, 5/4 and 3/2 of it.
    """

    width: Annotated[int, Field(ge=8)] = 400

    published: ClassVar[Schedule] = Schedule(epochs=1_000_000, batch_size=64, steps=10_000)
    colour: ClassVar[bool] = True
    uses_weights: ClassVar[tuple[str, ...]] = tuple(ENCODERS)

    def weights_used(self) -> tuple[Weights, ...]:
        return (ENCODERS[self.weights].weights_used(),)

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Trains the autoencoder on the frozen features of normal images."""
        self._features = EarlyFeatures(ENCODERS[self.weights]).to(self.device).eval()
        torch.manual_seed(self.seed)  # of the first weights
        self._network = FeatureNetwork(self._features.channels, self.width)
        features = KeptFeatures(images, lambda some: self._features.of(some, self.device), self.device)
        self.train(self._network, images, features)
        self._network.to(self.device).eval()

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is 1 less the features' mean SSIM, 0 to 2; the score the mean of its highest tenth in the body."""
        features = self._features.of(images, self.device)
        maps = enlarge(1 - ssim(self._network(features), features).mean(dim=1), images[0].shape, sigma=0)
        bodies = [channels_first(image).any(axis=0) for image in images]
        return [Prediction(one, mean_of_highest(one[body], _TOP)) for one, body in zip(maps, bodies, strict=True)]


class EarlyFeatures(FrozenFeatures):
    """Levels at 1/4, 1/8 and 1/16 of the image's size, joined.

    Args:
        backbone: The backbone.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, _EARLY)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Makes features, float32 (N, D, H/4, W/4), of normalised images, float32 (N, 3, H, W)."""
        return join(self.levels(images))


class FeatureNetwork(LightningModule):
    """Halves features four times, and doubles them as often.

    Args:
        channels: Those of the features.
        width: Those after the first halving.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, width * 9 // 8, width * 5 // 4, width * 3 // 2)
        halvings = [halve(before, after) for before, after in pairwise(widths)]
        doublings = [double(before, after, kernel=6) for before, after in pairwise(reversed(widths))]
        layers = [nn.Sequential(layer, nn.Dropout2d(_DROPOUT)) for layer in (*halvings, *doublings)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, channels, 1, bias=False))
        self.unit = 2 ** len(halvings)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Restores features, float32 (N, D, h, w), of any size."""
        height, width = features.shape[-2:]
        padded = functional.pad(features, (0, -width % self.unit, 0, -height % self.unit))
        return self.layers(padded)[..., :height, :width]

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """1 less the mean SSIM."""
        return 1 - ssim(self(batch), batch).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-4)


def ssim(restored: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The structural similarity (Wang et al. 2004, Eq. 13) at each place and in each channel, -1 to 1.

    Its window and its constants are the usual ones: a Gaussian of standard deviation 1.5, 11 places wide, and a range
    of 1, as in the released code, which also sees zeros beyond the border.

    Args:
        restored: float32 (N, D, h, w).
        features: float32 (N, D, h, w).

    Returns:
        float32 (N, D, h, w).
    """
    mean, other_mean = _blurred(restored), _blurred(features)
    variances = _blurred(restored.square() + features.square()) - mean.square() - other_mean.square()
    covariance = _blurred(restored * features) - mean * other_mean
    means = (2 * mean * other_mean + _C1) / (mean.square() + other_mean.square() + _C1)
    return means * (2 * covariance + _C2) / (variances + _C2)


def _blurred(values: torch.Tensor) -> torch.Tensor:
    """The mean of values, (N, D, h, w), under the window, as two products: several times faster than a convolution."""
    rows, columns = (_window(size).to(values) for size in values.shape[-2:])
    return rows @ values @ columns


def _window(size: int) -> torch.Tensor:
    """The Gaussian window around each of `size` places, float64 (size, size), cut off at the border."""
    places = torch.arange(size, dtype=torch.float64)
    steps = places[:, None] - places
    weights = torch.exp(-steps.square() / (2 * _SIGMA**2)) * (steps.abs() <= _RADIUS)
    whole = torch.exp(-torch.arange(-_RADIUS, _RADIUS + 1).double().square() / (2 * _SIGMA**2)).sum()
    return weights / whole
