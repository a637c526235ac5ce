"""ReContrast (Guo et al., NeurIPS 2023, arXiv 2306.02602): reverse distillation whose encoder adapts to its domain."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import timm
import torch
from lightning.pytorch import LightningModule
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from ..harness.api import Prediction, Weights
from .backbones import BACKBONES, Backbone
from .loading import KeptImages, PreparedBatches
from .pixels import as_batch
from .reverse import Bottleneck, Outputs, Trunk
from .training import Schedule, TrainedMethod

SMOOTHING = 4.0
WARM_UP = 0.1  # share of the training in which the hardness limit rises
HARDNESS = (-3.0, 1.0)  # the limit's start and end, in standard deviations above the mean distance


@dataclass(kw_only=True)
class ReContrast(TrainedMethod):
    """Two encoders, one frozen and one trained, each restored by one decoder from what the other one sees.

    Hyperparameters are those that the authors' released code has for their medical datasets OCT2017 and APTOS: 1,000
    steps of 32 images, learning rates 2e-3 and, for the encoder, 1e-5.

    Attributes:
        batchnorm: Whether the trained encoder normalises by its stored statistics (`stored`, the authors' choice for
            OCT2017) or in training by those of the batch (`batch`, their choice for APTOS).
    """

    batchnorm: Literal["stored", "batch"] = "stored"

    # Epochs without number: it is the steps that end the training.
    published: ClassVar[Schedule] = Schedule(epochs=1000, batch_size=32, steps=1000)
    colour: ClassVar[bool] = True
    uses_weights: ClassVar[tuple[str, ...]] = tuple(BACKBONES)

    def weights_used(self) -> tuple[Weights, ...]:
        return (BACKBONES[self.weights].weights_used(),)

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Trains the encoder, the bottleneck and the decoder."""
        self._backbone = BACKBONES[self.weights]
        torch.manual_seed(self.seed)  # of the first weights
        self._network = Reconstruction(self._backbone, self.batchnorm).train()
        kept = KeptImages(images, self.schedule.epochs)
        self.train(self._network, kept, PreparedBatches(kept, self._backbone.normalise, self.device))
        self._network.to(self.device).eval()

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is the smoothed sum of six cosine distances (Eq. 1), 0 to 12; the image score is its maximum."""
        encoded, decoded = self._network(self._backbone.normalise(as_batch(images, self.device)))
        shape = images[0].shape[:2]
        total = torch.zeros(len(images), *shape)
        for one, other in zip(encoded, decoded, strict=True):
            distance = 1 - functional.cosine_similarity(one, other)
            enlarged = functional.interpolate(distance[:, None], shape, mode="bilinear", align_corners=True)
            total += enlarged[:, 0].cpu()
        maps = [gaussian_filter(one, SMOOTHING) for one in total.numpy()]
        return [Prediction(one, float(one.max())) for one in maps]


class Reconstruction(LightningModule):
    """The whole network and its training (Section 2.5 of the paper, and Configuration E in its Figure 2).

    Args:
        backbone: Its first three levels are what is restored.
        batchnorm: See `ReContrast`.
    """

    def __init__(self, backbone: Backbone, batchnorm: Literal["stored", "batch"]) -> None:
        super().__init__()
        encoder: Any = timm.create_model(backbone.name, features_only=True, out_indices=(1, 2, 3))
        backbone.load_into(encoder)
        self.encoder = encoder
        self.frozen = copy.deepcopy(encoder).requires_grad_(False)
        self.batchnorm = batchnorm
        channels = encoder.feature_info.channels()
        self.bottleneck = Bottleneck(channels)
        self.trunk = Trunk(channels)
        self.outputs = nn.ModuleList([Outputs(channels), Outputs(channels)])

    def train(self, mode: bool = True) -> "Reconstruction":
        super().train(mode)
        self.frozen.eval()
        if self.batchnorm == "stored":
            self.encoder.eval()
        return self

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Encodes images, and restores each encoder's features from those of the other.

        Args:
            images: Normalised, float32 (N, 3, H, W).

        Returns:
            Six encoded maps, three of the frozen encoder and three of the trained one, fine to coarse, and the six
            restored ones that belong to them.
        """
        trained, frozen = self.encoder(images), self.frozen(images)
        # Both pass the decoder as one batch, so that its BatchNorm knows both by the same statistics.
        maps = self.trunk(self.bottleneck([torch.cat(pair) for pair in zip(trained, frozen, strict=True)]))
        of_trained, of_frozen = zip(*(features.chunk(2) for features in maps), strict=True)
        encoded = [*frozen, *trained]
        decoded = [*self.outputs[0](of_trained), *self.outputs[1](of_frozen)]
        # Where a side is odd, halving rounds up and doubling again gives one row too many.
        return encoded, [b[..., : a.shape[-2], : a.shape[-1]] for a, b in zip(encoded, decoded, strict=True)]

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """The loss of Eq. 4, learnt from at hard places (Eq. 5), of each encoder's three maps; the mean of both."""
        encoded, decoded = self(batch)
        hardness = hardness_limit(self.global_step / float(self.trainer.estimated_stepping_batches))
        losses = [hard_cosine_loss(one, other, hardness) for one, other in zip(encoded, decoded, strict=True)]
        return torch.stack(losses).sum() / 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        new = [*self.bottleneck.parameters(), *self.trunk.parameters(), *self.outputs.parameters()]
        groups = [{"params": new, "lr": 2e-3}, {"params": self.encoder.parameters(), "lr": 1e-5}]
        return torch.optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=1e-5)


def hardness_limit(progress: float) -> float:
    """The factor of Eq. 5 after a share of the training, 0 to 1: standard deviations above the mean distance.

    It rises during the warm-up: at first nearly every place is hard, at last about one in six.
    """
    start, end = HARDNESS
    return min(start + (end - start) * progress / WARM_UP, end)


def hard_cosine_loss(encoded: torch.Tensor, decoded: torch.Tensor, hardness: float) -> torch.Tensor:
    """The global cosine distance (Eq. 3), learnt from at hard places only.

    Each image's map is one long vector, so that all places count together and not each for itself. The encoded map is
    a target: no gradient enters it (Eq. 4). Places that are restored well already send no gradient back through the
    decoded map, though they count in the loss (Eq. 5).

    Args:
        encoded: float (N, C, h, w).
        decoded: float (N, C, h, w).
        hardness: Standard deviations above the batch's mean distance from which on a place is hard.

    Returns:
        The mean over images, 0 to 2.
    """
    encoded = encoded.detach()
    distances = 1 - functional.cosine_similarity(encoded, decoded.detach())
    hard = distances >= distances.mean() + hardness * distances.std()
    learnt = torch.where(hard[:, None], decoded, decoded.detach())
    return (1 - functional.cosine_similarity(encoded.flatten(1), learnt.flatten(1))).mean()
