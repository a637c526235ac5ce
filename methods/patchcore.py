"""PatchCore (Roth et al., CVPR 2022) as anomalib implements it, with raw anomaly maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from pydantic import Field

from ..harness.api import Method, Prediction, StageReport, Weights
from .backbones import BACKBONES


@dataclass(kw_only=True)
class Patchcore(Method):
    """A memory bank of CNN patches, thinned to a coreset; the map is the distance to the nearest one.

    anomalib's network is driven directly: its engine would rescale maps by the validation range and clip them to 0 to
    1.

    Attributes:
        coreset: Share of patches that the memory bank keeps. The paper reports 1 %, 10 % and 25 %, and finds them
            level.
        neighbours: Neighbours that re-weight the image score.
    """

    coreset: Annotated[float, Field(gt=0, le=1)] = 0.01
    neighbours: Annotated[int, Field(ge=1)] = 9

    uses_weights: ClassVar[tuple[str, ...]] = tuple(BACKBONES)

    def weights_used(self) -> tuple[Weights, ...]:
        return (BACKBONES[self.weights].weights_used(),)

    @torch.inference_mode()
    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Fills the memory bank with the patches of normal images and thins it."""
        self._backbone = BACKBONES[self.weights]
        model = PatchcoreModel(
            layers=self._backbone.layers, backbone=self._backbone.name, pre_trained=False, num_neighbors=self.neighbours
        )
        self._backbone.load_into(model.feature_extractor.feature_extractor)
        self._model = model.to(self.device).train()
        for done, image in enumerate(images, start=1):
            self._model(self._backbone.normalise(image).to(self.device))
            self.report("memory bank", done, len(images))
        patches = torch.vstack(self._model.embedding_store)
        self._model.embedding_store.clear()
        self._model.memory_bank = Coreset(patches, self.coreset, self.report).sample_coreset()
        self._model.eval()

    @torch.inference_mode()
    def predict(self, image: np.ndarray) -> Prediction:
        """The map is in feature distances, 0 or more, smoothed as anomalib does."""
        output = self._model(self._backbone.normalise(image).to(self.device))
        anomaly_map = output.anomaly_map.reshape(image.shape).float().cpu().numpy()
        return Prediction(anomaly_map, float(output.pred_score.reshape(-1)[0]))


class Coreset(KCenterGreedy):
    """anomalib's greedy selection in memory that is allocated once, and with progress.

    Its own step makes a new array as large as the bank for each patch it selects. That fragments the heap: a bank of
    21,504 patches took up to 4 GB more than its 13 MB.

    Args:
        patches: float32 (N, D).
        ratio: Share of the patches to select.
        report: Told about progress.
    """

    def __init__(self, patches: torch.Tensor, ratio: float, report: StageReport) -> None:
        super().__init__(patches, ratio)
        self._report = report

    def reset_distances(self) -> None:
        """Begins a selection."""
        self._selected = 0
        self._differences = torch.empty_like(self.features)
        self.min_distances = torch.full_like(self.features[:, :1], torch.inf)

    def update_distances(self, cluster_center: int | torch.Tensor | None) -> None:
        """Brings the distance of each patch to its nearest selected one up to date."""
        torch.sub(self.features, self.features[cluster_center], out=self._differences)
        distances = torch.linalg.norm(self._differences, dim=1, keepdim=True)
        torch.minimum(self.min_distances, distances, out=self.min_distances)
        self._selected += 1
        self._report("coreset", self._selected, self.coreset_size - 1)
