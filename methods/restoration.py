"""What methods have in common that learn to restore normal images: the map is what they fail to restore."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from scipy.ndimage import binary_fill_holes

from ..harness.api import Prediction
from .loading import KeptImages, PreparedBatches
from .pixels import channels_first
from .training import TrainedMethod


@dataclass(kw_only=True)
class RestorationMethod(TrainedMethod):
    """Learns to restore normal images; a subclass says with which network, and what it makes of an error."""

    colour: ClassVar[bool] = True

    @abstractmethod
    def make_network(self, channels: int) -> LightningModule:
        """The network, whose `training_step` takes pixels from 0 to 1, and where the body is.

        Args:
            channels: Those of images: 1, or 3 in colour.
        """

    @abstractmethod
    def errors(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the network fails to restore, 0 or more, of pixels from 0 to 1: float32 (N, C, H, W) both."""

    @abstractmethod
    def smooth(self, error: np.ndarray) -> np.ndarray:
        """Makes an anomaly map of an error, float32 (H, W) both."""

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Trains the network on normal images."""
        torch.manual_seed(self.seed)  # of the first weights
        self._network = self.make_network(1 if images[0].ndim == 2 else 3)
        kept = KeptImages(images, self.schedule.epochs, _with_body)
        self.train(self._network, kept, PreparedBatches(kept, _prepare, self.device))
        self._network.to(self.device).eval()

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is the smoothed error, 0 outside the body before that; the score its maximum.

        In colour it is the mean over the channels.
        """
        with_body = np.stack([_with_body(image) for image in images])
        pixels, body = _prepare(torch.from_numpy(with_body).to(self.device))
        errors = (self.errors(pixels) * body).mean(dim=1).cpu().numpy()
        maps = [self.smooth(error) for error in errors]
        return [Prediction(one, float(one.max())) for one in maps]


def _prepare(with_body: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values from 0 to 1, float32 (N, 1 or 3, H, W), and where the body is, bool (N, 1, H, W)."""
    return with_body[:, :-1].float() / 255, with_body[:, -1:] > 0


def body_mean(values: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    """The mean over the body: of all pixels, a black background would be most, and easy.

    Args:
        values: float (N, C, H, W).
        body: bool (N, 1, H, W).

    Returns:
        The mean over the body's pixels and the channels, 0 where there are none.
    """
    return (values * body).sum() / (values.shape[1] * body.sum()).clamp(min=1)


def _with_body(image: np.ndarray) -> np.ndarray:
    """Pixels, and where the body is: what is not black, and what it encloses; uint8 (1 + 1 or 3 + 1, H, W)."""
    pixels = channels_first(image)
    return np.concatenate([pixels, binary_fill_holes(pixels.any(axis=0))[None]])  # type: ignore[index]
