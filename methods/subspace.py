"""SubspaceAD (Lendering et al., CVPR 2026, arXiv 2602.23013): what normal patch features do not span is anomalous."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from ..harness.api import Prediction, Weights
from .backbones import BACKBONES
from .batched import BatchedMethod
from .features import PatchFeatures, enlarge, mean_of_highest

_TOP = 0.01  # the share of a map whose mean is the image score, the released code's default


@dataclass(kw_only=True)
class SubspaceAD(BatchedMethod):
    """The principal components of normal patch features; the map is the distance from the subspace they span.

    The paper takes features of DINOv2, and turns the few images it fits by random angles. Here the features are those
    of PatchCore, and images stay upright, as medical ones are.

    Attributes:
        explained: The share of the variance that the subspace keeps; 0.99 in the released code.
        sigma: The standard deviation of the Gaussian filter over the map, in pixels; as in PatchCore.
    """

    explained: Annotated[float, Field(gt=0, lt=1)] = 0.99
    sigma: Annotated[float, Field(ge=0)] = 4.0

    colour: ClassVar[bool] = True
    uses_weights: ClassVar[tuple[str, ...]] = tuple(BACKBONES)

    @property
    def stochastic(self) -> bool:
        return False

    def weights_used(self) -> tuple[Weights, ...]:
        return (BACKBONES[self.weights].weights_used(),)

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Adds up the covariance of all patches, an image at a time, and decomposes it once."""
        self._features = PatchFeatures(BACKBONES[self.weights]).to(self.device).eval()
        moments = Moments(self._features.channels, self.device)
        for done, image in enumerate(images, start=1):
            moments.add(self._features.of([image], self.device).flatten(0, 2))
            self.progress("covariance", done, len(images))
        self._subspace = moments.subspace(explained=self.explained)

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is in feature distances, 0 or more; the image score is the mean of its highest hundredth."""
        distances = self._subspace.distances(self._features.of(images, self.device))
        maps = enlarge(distances, images[0].shape, self.sigma)
        return [Prediction(one, mean_of_highest(one, _TOP)) for one in maps]


@dataclass(frozen=True)
class Subspace:
    """An affine subspace.

    Attributes:
        mean: Float32 (D,).
        axes: Orthonormal, float32 (K, D); those of largest variance first.
    """

    mean: torch.Tensor
    axes: torch.Tensor

    def coordinates(self, features: torch.Tensor) -> torch.Tensor:
        """Where features, (…, D), are in the subspace: (…, K)."""
        return (features - self.mean) @ self.axes.T

    def points(self, coordinates: torch.Tensor) -> torch.Tensor:
        """The features, (…, D), that stand at coordinates, (…, K)."""
        return self.mean + coordinates @ self.axes

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """How far features, (…, D), are from the subspace, the norm of their residual: (…)."""
        return torch.linalg.vector_norm(features - self.points(self.coordinates(features)), dim=-1)


class Moments:
    """The first two moments of features that come a batch at a time.

    Args:
        dimension: The length of a feature.
        device: A torch device.
    """

    def __init__(self, dimension: int, device: str) -> None:
        self._count = 0
        self._sum = torch.zeros(dimension, dtype=torch.float64, device=device)
        self._products = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)

    def add(self, features: torch.Tensor) -> None:
        """Takes a batch of features, (M, D)."""
        exact = features.double()
        self._count += len(exact)
        self._sum += exact.sum(dim=0)
        self._products += exact.T @ exact

    def subspace(self, *, explained: float = 1.0, dimensions: int | None = None) -> Subspace:
        """The span of the fewest principal components that explain so much of the variance.

        Args:
            explained: A share of the variance.
            dimensions: No more components than this.

        Returns:
            The subspace; only the mean where nothing varies.
        """
        mean = self._sum / self._count
        covariance = self._products / self._count - mean.outer(mean)
        variances, axes = torch.linalg.eigh(covariance)
        variances, axes = variances.flip(0).clamp(min=0), axes.flip(1).T
        kept = int((variances.cumsum(0) <= explained * variances.sum()).sum()) + 1
        # Rounding leaves a trace of variance where there is none.
        trace = torch.finfo(torch.float64).eps * len(mean) * self._products.diagonal().max() / self._count
        varying = int((variances > trace).sum())
        kept = min(kept, varying, dimensions or varying)
        return Subspace(mean.float(), axes[:kept].float())
