"""The denoising autoencoder of Kascenas et al. (MIDL 2022): it learns to take coarse noise away, and takes lesions."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from scipy.ndimage import median_filter
from torch.nn import functional

from .restoration import RestorationMethod, body_mean
from .training import Schedule
from .unet import UNet

_LEVELS = 4


@dataclass(kw_only=True)
class DenoisingAutoencoder(RestorationMethod):
    """Learns to take noise away that is as coarse as lesions are; the map is what it takes away from an image.

    Its U-Net needs no narrow code, so that it restores normal tissue sharply. The noise is the paper's: drawn from a
    Gaussian at 16 x 16 places, enlarged, shifted at random, and inside the body only. The widths of the U-Net, its
    training and the size of the median filter are this project's.

    Attributes:
        noise: The standard deviation of the noise before it is enlarged, where pixels are from 0 to 1.
        resolution: The width in places of the noise before it is enlarged.
        width: Channels of the U-Net's highest level; each of the three below has twice as many as the one above.
        median: The width of the median filter over the map, in pixels; 1 for none.
    """

    noise: Annotated[float, Field(gt=0)] = 0.2
    resolution: Annotated[int, Field(ge=1)] = 16
    width: Annotated[int, Field(ge=1)] = 32
    median: Annotated[int, Field(ge=1)] = 5

    published: ClassVar[Schedule] = Schedule(epochs=100, batch_size=16)

    def make_network(self, channels: int) -> LightningModule:
        return Denoiser(channels, self.width, self.noise, self.resolution)

    def errors(self, pixels: torch.Tensor) -> torch.Tensor:
        """The absolute residual."""
        return (pixels - self._network(pixels)).abs()

    def smooth(self, error: np.ndarray) -> np.ndarray:
        return median_filter(error, self.median)


class Denoiser(LightningModule):
    """A U-Net that restores images from images with noise.

    Args:
        channels: Those of the image.
        width: Channels of the U-Net's highest level.
        noise: See `DenoisingAutoencoder`.
        resolution: See `DenoisingAutoencoder`.
    """

    def __init__(self, channels: int, width: int, noise: float, resolution: int) -> None:
        super().__init__()
        self.noise = noise
        self.resolution = resolution
        self.network = UNet(channels, channels, tuple(width * 2**level for level in range(_LEVELS)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Takes away from images, float32 (N, 1 or 3, H, W), what does not look normal."""
        return self.network(images)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The mean squared error over the body."""
        images, body = batch
        noise = coarse_noise(tuple(images.shape), self.resolution, self.noise).to(images.device)
        return body_mean((images - self(images + noise * body)).square(), body)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def coarse_noise(shape: tuple[int, ...], resolution: int, standard_deviation: float) -> torch.Tensor:
    """Gaussian noise at a few places, enlarged, and rolled by a random number of rows and columns.

    Drawn on the CPU, it is the same on every device.

    Args:
        shape: (N, C, H, W).
        resolution: Places in a row and in a column.
        standard_deviation: At the places; between them it is less.

    Returns:
        float32, of this shape.
    """
    count, channels, height, width = shape
    drawn = standard_deviation * torch.randn(count, channels, resolution, resolution)
    enlarged = functional.interpolate(drawn, (height, width), mode="bilinear")
    rows, columns = (int(torch.randint(size, ())) for size in (height, width))
    return enlarged.roll((rows, columns), dims=(-2, -1))
