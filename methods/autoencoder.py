"""A convolutional autoencoder, the classic of reconstruction-based anomaly segmentation (Baur et al., MedIA 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from scipy.ndimage import binary_fill_holes, gaussian_filter
from torch import nn
from torch.nn import functional

from ..harness.api import Prediction
from .loading import KeptImages, PreparedBatches
from .pixels import channels_first
from .training import Schedule, TrainedMethod

WIDTHS = (16, 32, 64, 128, 128)  # channels after each halving
_HALVED = 2 ** len(WIDTHS)


@dataclass(kw_only=True)
class Autoencoder(TrainedMethod):
    """Learns to restore normal images through a narrow code; the map is what it fails to restore.

    After the autoencoders that Baur et al. (arXiv 2004.03271) compare, smaller and with a spatial code. They stop
    training when the loss of held-out images does not fall any more; the number of epochs here is this project's.

    Attributes:
        code: Channels of the code, which has 1/32 of the image's height and width.
        sigma: The standard deviation of the Gaussian filter over the map, in pixels.
    """

    code: Annotated[int, Field(ge=1)] = 1
    sigma: Annotated[float, Field(ge=0)] = 2.0

    colour: ClassVar[bool] = True
    published: ClassVar[Schedule] = Schedule(epochs=100, batch_size=8)

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Trains the network on normal images."""
        torch.manual_seed(self.seed)  # of the first weights
        self._network = Network(self.code, 1 if images[0].ndim == 2 else 3)
        kept = KeptImages(images, self.schedule.epochs, _with_body)
        self.train(self._network, kept, PreparedBatches(kept, _prepare, self.device))
        self._network.to(self.device).eval()

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is the absolute residual, 0 to 1 of the range and 0 outside the body; the score its maximum.

        In colour it is the mean over the channels.
        """
        with_body = np.stack([_with_body(image) for image in images])
        pixels, body = _prepare(torch.from_numpy(with_body).to(self.device))
        residuals = ((pixels - self._network(pixels)).abs() * body).mean(dim=1).cpu().numpy()
        maps = [gaussian_filter(residual, self.sigma) for residual in residuals]
        return [Prediction(one, float(one.max())) for one in maps]


class Network(LightningModule):
    """Halves an image five times, and doubles it as often.

    Args:
        code: Channels of the code.
        channels: Those of the image: 1, or 3 in colour.
    """

    def __init__(self, code: int, channels: int = 1) -> None:
        super().__init__()
        halvings = [_halve(before, after) for before, after in pairwise((channels, *WIDTHS))]
        narrow = [nn.Conv2d(WIDTHS[-1], code, 1), nn.Conv2d(code, WIDTHS[-1], 1)]
        doublings = [_double(before, after) for before, after in pairwise(reversed(WIDTHS))]
        last = nn.ConvTranspose2d(WIDTHS[0], channels, 4, stride=2, padding=1)
        self.layers = nn.Sequential(*halvings, *narrow, *doublings, last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Restores images, float32 (N, 1 or 3, H, W), of any size."""
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, -width % _HALVED, 0, -height % _HALVED))
        return self.layers(padded)[..., :height, :width]

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, body = batch
        return body_loss(images, self(images), body)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def body_loss(images: torch.Tensor, restored: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    """The mean squared error over the body: of all pixels, a black background would be most, and easy.

    Args:
        images: float (N, C, H, W).
        restored: float (N, C, H, W).
        body: bool (N, 1, H, W).

    Returns:
        The mean over the body's pixels and the channels, 0 where there are none.
    """
    return ((images - restored).square() * body).sum() / (images.shape[1] * body.sum()).clamp(min=1)


def _with_body(image: np.ndarray) -> np.ndarray:
    """Pixels, and where the body is: what is not black, and what it encloses; uint8 (1 + 1 or 3 + 1, H, W)."""
    pixels = channels_first(image)
    return np.concatenate([pixels, binary_fill_holes(pixels.any(axis=0))[None]])  # type: ignore[index]


def _prepare(with_body: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values from 0 to 1, float32 (N, 1 or 3, H, W), and where the body is, bool (N, 1, H, W)."""
    return with_body[:, :-1].float() / 255, with_body[:, -1:] > 0


def _halve(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU()
    )


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU()
    )
