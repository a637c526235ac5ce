"""A Dirichlet-process mixture of normal patch features (Schulthess & Konukoglu, MICCAI 2025, arXiv 2509.19997)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from torch.nn import functional

from ..harness.api import Prediction, Weights
from .backbones import BACKBONES
from .batched import BatchedMethod
from .features import PatchFeatures, enlarge
from .subspace import Moments


@dataclass(kw_only=True)
class Dpmm(BatchedMethod):
    """A mixture that decides how many components normal patches need; the map is how unlike all their centres one is.

    As in the paper, features are brought to length 1, and the map is made of their similarity to the components'
    centres. The paper takes features of DINOv2; here they are PatchCore's. The numbers below are this project's.

    Attributes:
        components: The most components that there may be; the process leaves those empty that it has no use for.
        dimension: Principal components of the features that the mixture is fitted to.
        sample: Patches that it is fitted to, drawn at random from all images alike.
        score: `similarity`, as published: 1 less the cosine of the angle to the nearest centre. Or `likelihood`: the
            negative logarithm of the mixture's density.
        sigma: The standard deviation of the Gaussian filter over the map, in pixels.
    """

    components: Annotated[int, Field(ge=1)] = 50
    dimension: Annotated[int, Field(ge=1)] = 32
    sample: Annotated[int, Field(ge=2)] = 10_000
    score: Literal["similarity", "likelihood"] = "similarity"
    sigma: Annotated[float, Field(ge=0)] = 4.0

    colour: ClassVar[bool] = True
    uses_weights: ClassVar[tuple[str, ...]] = tuple(BACKBONES)

    def weights_used(self) -> tuple[Weights, ...]:
        return (BACKBONES[self.weights].weights_used(),)

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Fits the mixture to patches of normal images."""
        self._features = PatchFeatures(BACKBONES[self.weights]).to(self.device).eval()
        patches = self._sampled(images)
        moments = Moments(self._features.channels, self.device)
        moments.add(patches)
        self._subspace = moments.subspace(dimensions=self.dimension)
        coordinates = self._subspace.coordinates(patches).cpu().numpy().astype(np.float64)
        self.progress("mixture", 0, 1)
        self._mixture = BayesianGaussianMixture(
            n_components=min(self.components, len(coordinates)),
            covariance_type="diag",
            weight_concentration_prior_type="dirichlet_process",
            max_iter=200,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            # To stop after 200 steps is this project's choice, so nobody is warned that the bound still moves.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._mixture.fit(coordinates)
        # A component that has not even one patch stands at the mean of all.
        used = self._mixture.weights_ * len(coordinates) >= 1
        centres = torch.from_numpy(self._mixture.means_[used]).float().to(self.device)
        self._centres = functional.normalize(self._subspace.points(centres), dim=-1)
        self.progress("mixture", 1, 1)

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is the enlarged, smoothed score of patches; the image score is its maximum."""
        maps = enlarge(self._scores(self._embeddings(images)), images[0].shape, self.sigma)
        return [Prediction(one, float(one.max())) for one in maps]

    def _scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """How anomalous embeddings, (N, h, w, D), are: (N, h, w)."""
        if self.score == "similarity":
            return 1 - (embeddings @ self._centres.T).amax(dim=-1)
        coordinates = self._subspace.coordinates(embeddings).flatten(0, 2).cpu().numpy()
        density = self._mixture.score_samples(coordinates.astype(np.float64))
        return torch.from_numpy(-density).reshape(embeddings.shape[:-1])

    def _embeddings(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        return functional.normalize(self._features.of(images, self.device), dim=-1)

    def _sampled(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """About `sample` embeddings, (M, D), as many of each image."""
        generator = torch.Generator().manual_seed(self.seed)
        each = max(2, round(self.sample / len(images)))
        found: list[torch.Tensor] = []
        for done, image in enumerate(images, start=1):
            embeddings = self._embeddings([image]).flatten(0, 2)
            found.append(embeddings[torch.randperm(len(embeddings), generator=generator)[:each].to(embeddings.device)])
            self.progress("patches", done, len(images))
        return torch.cat(found)
