"""SimpleNet (Liu et al., CVPR 2023, arXiv 2303.15140): a discriminator between features and noisy features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from torch import nn
from torch.nn import functional

from ..harness.api import Prediction, Weights
from .backbones import BACKBONES, Backbone
from .features import KeptFeatures, PatchFeatures, enlarge
from .training import Schedule, TrainedMethod

MARGIN = 0.5  # th+ and -th- of Eq. 7
SMOOTHING = 4.0  # Section 3.6
HIDDEN = 1024  # of the discriminator, as in the released code
# The paper's noise is as good as none for EfficientNet-Lite0's features, whose standard deviation is 3.7 on FLAIR
# slices: the discriminator then stays at chance.
NOISE = {"published": 0.015, "embedded": 0.5}


@dataclass(kw_only=True)
class SimpleNet(TrainedMethod):
    """Learns to tell normal patch features from the same ones with noise; the map is the discriminator's verdict.

    The optimiser, its learning rates, the margin and the number of epochs are those of the paper's Section 4.2. The
    released code differs from it: batches of 8, and for the adaptor AdamW with its own weight decay.

    Attributes:
        dimension: The length of patch features; no more than the backbone has channels in both layers,
            which in the paper's are as many as its 1,536.
        noise: Standard deviation of the Gaussian noise that makes normal features anomalous; by default the paper's
            0.015, and 0.5 for the embedded weights, whose features are much larger.
    """

    dimension: Annotated[int, Field(ge=1)] = 1536
    noise: Annotated[float, Field(gt=0)] | None = None

    published: ClassVar[Schedule] = Schedule(epochs=160, batch_size=4)
    colour: ClassVar[bool] = True
    uses_weights: ClassVar[tuple[str, ...]] = tuple(BACKBONES)

    def weights_used(self) -> tuple[Weights, ...]:
        return (BACKBONES[self.weights].weights_used(),)

    def options(self) -> dict[str, Any]:
        return super().options() | {"noise": self.noise or NOISE[self.weights]}

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Trains the adaptor and the discriminator on the frozen features of normal images."""
        self._extractor = FeatureExtractor(BACKBONES[self.weights], self.dimension).to(self.device).eval()
        torch.manual_seed(self.seed)  # of the first weights
        self._network = FeatureDiscriminator(self._extractor.dimension, self.noise or NOISE[self.weights])
        features = KeptFeatures(images, lambda some: self._extractor.of(some, self.device), self.device)
        self.train(self._network, images, features)
        self._network.to(self.device).eval()

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is the enlarged, smoothed patch scores (Eq. 10); the image score is the largest of them (Eq. 11)."""
        scores = self._network(self._extractor.of(images, self.device))
        maps = enlarge(scores, images[0].shape, SMOOTHING)
        return [Prediction(*one) for one in zip(maps, scores.amax(dim=(1, 2)).tolist(), strict=True)]


class FeatureExtractor(PatchFeatures):
    """Feature extractor with local aggregation (Eq. 4): what is around a place becomes its feature.

    Args:
        backbone: Its second and third level are used.
        dimension: The greatest length of a feature.

    Attributes:
        dimension: The length of a feature, once it is known.
    """

    def __init__(self, backbone: Backbone, dimension: int) -> None:
        super().__init__(backbone)
        self.dimension = min(dimension, self.channels)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Makes features, float32 (N, H/8, W/8, D), of normalised images, float32 (N, 3, H, W).

        Both levels are brought to the finer one's size and joined (Eq. 3).
        """
        fine, coarse = (self._neighbourhoods(level) for level in self.levels(images))
        coarse = functional.interpolate(coarse, fine.shape[-2:], mode="bilinear")
        # As in PatchCore's code, averages of neighbours in the list of values bring both levels, and then their
        # concatenation, to the dimension.
        both = torch.cat([self._average(fine), self._average(coarse)], dim=-1)
        return functional.adaptive_avg_pool1d(both.flatten(1, 2), self.dimension).unflatten(1, both.shape[1:3])

    def _neighbourhoods(self, level: torch.Tensor) -> torch.Tensor:
        """Lists the values around each place (Eq. 1): (N, C, h, w) becomes (N, 9 C, h, w), zeros beyond the border."""
        values = functional.unfold(level, self.PATCH, padding=self.PATCH // 2)
        return values.unflatten(-1, level.shape[-2:])

    def _average(self, values: torch.Tensor) -> torch.Tensor:
        """Averages what is around each place (Eq. 2): (N, values, h, w) becomes (N, h, w, D)."""
        lists = values.permute(0, 2, 3, 1)
        return functional.adaptive_avg_pool1d(lists.flatten(1, 2), self.dimension).unflatten(1, lists.shape[1:3])


class FeatureDiscriminator(LightningModule):
    """Feature adaptor (Eq. 5), generator of anomalous features (Eq. 6), and discriminator (Section 3.4).

    Args:
        dimension: The length of a feature.
        noise: Standard deviation of the noise.
    """

    def __init__(self, dimension: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.adaptor = nn.Linear(dimension, dimension, bias=False)
        self.discriminator = nn.Sequential(
            nn.Linear(dimension, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, 1, bias=False)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scores features, float32 (N, h, w, D): (N, h, w), higher is more anomalous (Eq. 9)."""
        return -self._judge(self.adaptor(features.flatten(0, -2))).reshape(features.shape[:-1])

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """Adapts features (Eq. 5), adds noise to them (Eq. 6), and averages the loss over places and images (Eq. 8)."""
        normal = self.adaptor(batch.flatten(0, -2))
        # Drawn on the CPU, the noise is the same on every device.
        anomalous = normal + self.noise * torch.randn(normal.shape).to(normal)
        # Both pass BatchNorm together: with statistics of their own, each half would be normal in its own way.
        scores = self._judge(torch.cat([normal, anomalous]))
        return truncated_l1(*scores.chunk(2))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [
            {"params": self.adaptor.parameters(), "lr": 1e-4},
            {"params": self.discriminator.parameters(), "lr": 2e-4},
        ]
        return torch.optim.Adam(groups, weight_decay=1e-5)

    def _judge(self, adapted: torch.Tensor) -> torch.Tensor:
        """How normal adapted features are: (M, D) becomes (M,)."""
        return self.discriminator(adapted)[:, 0]


def truncated_l1(normal: torch.Tensor, anomalous: torch.Tensor) -> torch.Tensor:
    """The truncated L1 loss (Eq. 7): what is at least the margin away from 0, on its side, costs nothing.

    Args:
        normal: How normal the discriminator finds normal features, (M,).
        anomalous: How normal it finds anomalous ones, (M,).

    Returns:
        The mean loss, 0 or more.
    """
    return functional.relu(MARGIN - normal).mean() + functional.relu(MARGIN + anomalous).mean()
