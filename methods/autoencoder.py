"""Convolutional autoencoders: the classic of reconstruction-based anomaly segmentation, and two with a likelihood.

`ae` and `vae` are after Baur et al. (MedIA 2021, arXiv 2004.03271), `ae_u` after Mao et al. (MICCAI 2020).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from .restoration import RestorationMethod, body_mean
from .training import Schedule

WIDTHS = (16, 32, 64, 128, 128)  # channels after each halving
_HALVED = 2 ** len(WIDTHS)
LEAST_VARIANCE = 1e-6  # that of rounding to 8 bits, and torch's own limit


@dataclass(kw_only=True)
class Autoencoder(RestorationMethod):
    """Learns to restore normal images through a narrow code; the map is what it fails to restore.

    After the autoencoders that Baur et al. (arXiv 2004.03271) compare, smaller and with a spatial code. They stop
    training when the loss of held-out images does not fall any more; the number of epochs here is this project's.

    Attributes:
        code: Channels of the code, which has 1/32 of the image's height and width.
        sigma: The standard deviation of the Gaussian filter over the map, in pixels.
    """

    code: Annotated[int, Field(ge=1)] = 1
    sigma: Annotated[float, Field(ge=0)] = 2.0

    published: ClassVar[Schedule] = Schedule(epochs=100, batch_size=8)

    def make_network(self, channels: int) -> LightningModule:
        return Network(self.code, channels)

    def errors(self, pixels: torch.Tensor) -> torch.Tensor:
        """The absolute residual, 0 to 1."""
        return (pixels - self._network(pixels)).abs()

    def smooth(self, error: np.ndarray) -> np.ndarray:
        return gaussian_filter(error, self.sigma)


@dataclass(kw_only=True)
class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose code is drawn from a Gaussian that stays near the standard one (Baur et al.).

    Baur et al.'s code has 128 numbers; so has this one, which is spatial, at 256 pixels. The weight of the divergence
    and the number of epochs are this project's.

    Attributes:
        code: Channels of the code, which has 1/32 of the image's height and width.
        divergence: What a nat of the divergence from the standard Gaussian costs, in squared errors of a pixel whose
            range is 1. That is twice the variance of a pixel given the code; 0.02 is a standard deviation of 0.1.
    """

    code: Annotated[int, Field(ge=1)] = 2
    divergence: Annotated[float, Field(ge=0)] = 0.02

    def make_network(self, channels: int) -> LightningModule:
        return VariationalNetwork(self.code, channels, self.divergence)


@dataclass(kw_only=True)
class UncertaintyAutoencoder(Autoencoder):
    """An autoencoder that also predicts how wrong it will be; the map is the squared error over that variance.

    So it forgives edges, which no narrow code restores (Mao et al., MICCAI 2020). The network, its code and the number
    of epochs are those of `ae`, so that only the loss and the map differ.
    """

    def make_network(self, channels: int) -> LightningModule:
        return UncertaintyNetwork(self.code, channels)

    def errors(self, pixels: torch.Tensor) -> torch.Tensor:
        """The squared error over the predicted variance (Mao et al.), 0 or more: 1 is what is expected."""
        restored, log_variance = self._network(pixels)
        return (pixels - restored).square() / log_variance.exp().clamp(min=LEAST_VARIANCE)


class Network(LightningModule):
    """Halves an image five times, and doubles it as often.

    Args:
        code: Channels of the code.
        channels: Those of the image: 1, or 3 in colour.
    """

    encoded = 1
    """Numbers that the encoder says of each number of the code."""
    decoded = 1
    """Numbers that the decoder says of each value of the image."""

    def __init__(self, code: int, channels: int = 1) -> None:
        super().__init__()
        halvings = [halve(before, after) for before, after in pairwise((channels, *WIDTHS))]
        self.encoder = nn.Sequential(*halvings, nn.Conv2d(WIDTHS[-1], self.encoded * code, 1))
        widen = nn.Conv2d(code, WIDTHS[-1], 1)
        doublings = [double(before, after) for before, after in pairwise(reversed(WIDTHS))]
        last = nn.ConvTranspose2d(WIDTHS[0], self.decoded * channels, 4, stride=2, padding=1)
        self.decoder = nn.Sequential(widen, *doublings, last)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Codes, float32 (N, C, ⌈H/32⌉, ⌈W/32⌉), of images, float32 (N, 1 or 3, H, W), of any size."""
        height, width = images.shape[-2:]
        return self.encoder(functional.pad(images, (0, -width % _HALVED, 0, -height % _HALVED)))

    def decode(self, codes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """What codes stand for, float32 (N, C, H, W), in the size of the images."""
        height, width = images.shape[-2:]
        return self.decoder(codes)[..., :height, :width]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Restores images, float32 (N, 1 or 3, H, W), of any size."""
        return self.decode(self.encode(images), images)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The mean squared error over the body."""
        images, body = batch
        return body_mean((images - self(images)).square(), body)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class VariationalNetwork(Network):
    """Encodes images as Gaussians, of which it draws in training, and takes the mean otherwise.

    Args:
        code: Channels of the code.
        channels: Those of the image.
        divergence: See `VariationalAutoencoder`.
    """

    encoded = 2

    def __init__(self, code: int, channels: int, divergence: float) -> None:
        super().__init__(code, channels)
        self.divergence = divergence

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Restores images from the means of their codes, float32 (N, 1 or 3, H, W), of any size."""
        mean, _ = self.encode(images).chunk(2, dim=1)
        return self.decode(mean, images)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The negative evidence lower bound, in squared errors of a pixel of the body."""
        images, body = batch
        mean, log_variance = self.encode(images).chunk(2, dim=1)
        # Drawn on the CPU, the noise is the same on every device.
        drawn = mean + (log_variance / 2).exp() * torch.randn(mean.shape).to(mean)
        error = body_mean((images - self.decode(drawn, images)).square(), body)
        values = (images.shape[1] * body.sum()).clamp(min=1)
        return error + self.divergence * gaussian_divergence(mean, log_variance).sum() / values


class UncertaintyNetwork(Network):
    """Restores images, and predicts the logarithm of the variance of each value."""

    decoded = 2

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Restored images and log variances, float32 (N, 1 or 3, H, W) both."""
        restored, log_variance = self.decode(self.encode(images), images).chunk(2, dim=1)
        return restored, log_variance

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The mean negative Gaussian log-likelihood over the body: half of Mao et al.'s loss."""
        images, body = batch
        restored, log_variance = self(images)
        loss = functional.gaussian_nll_loss(restored, images, log_variance.exp(), eps=LEAST_VARIANCE, reduction="none")
        return body_mean(loss, body)


def gaussian_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """The Kullback–Leibler divergence of each Gaussian from the standard one, in nats, 0 or more."""
    return (log_variance.exp() + mean.square() - 1 - log_variance) / 2


def halve(before: int, after: int) -> nn.Sequential:
    """A layer that halves height and width, rounded up."""
    return nn.Sequential(
        nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU()
    )


def double(before: int, after: int, kernel: int = 4) -> nn.Sequential:
    """A layer that doubles height and width; the kernel's width is even."""
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, kernel, stride=2, padding=kernel // 2 - 1, bias=False),
        nn.BatchNorm2d(after),
        nn.LeakyReLU(),
    )
