"""PatchCore (Roth et al., CVPR 2022) as anomalib implements it, with raw anomaly maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from pydantic import Field

from ..harness.api import Prediction, Weights
from .backbones import BACKBONES
from .batched import BatchedMethod
from .coreset import Coreset
from .memory import require_memory
from .pixels import as_batch


@dataclass(kw_only=True)
class Patchcore(BatchedMethod):
    """A memory bank of CNN patches, thinned to a coreset; the map is the distance to the nearest one.

    anomalib's network is driven directly: its engine would rescale maps by the validation range and clip them to 0 to
    1.

    Attributes:
        coreset: Share of patches that the memory bank keeps. The paper reports 1 %, 10 % and 25 %, and finds them
            level.
        neighbours: Neighbours that re-weight the image score.
        sample: Share of each image's patches that the coreset is chosen from, drawn at random; the paper takes all.
    """

    coreset: Annotated[float, Field(gt=0, le=1)] = 0.01
    neighbours: Annotated[int, Field(ge=1)] = 9
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0

    colour: ClassVar[bool] = True
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
        store = self._model.embedding_store
        generator = torch.Generator().manual_seed(self.seed)
        for done, image in enumerate(images, start=1):
            self._model(self._backbone.normalise(as_batch([image], self.device)))
            if self.sample < 1:
                kept = max(1, round(self.sample * len(store[-1])))
                store[-1] = store[-1][torch.randperm(len(store[-1]), generator=generator)[:kept]]
            if done == 1:
                self._require_memory(store[0].nbytes * len(images))
            self.progress("memory bank", done, len(images))
        patches = torch.vstack(store)
        store.clear()
        self._model.memory_bank = Coreset(patches, self.coreset, self.progress).sample_coreset()
        self._model.eval()

    def _require_memory(self, bank: int) -> None:
        """Refuses a bank of so many bytes that would not fit.

        All patches exist twice, both while they are joined and as the differences that the coreset's selection needs.
        """
        remedy = (
            "Choose the coreset from fewer patches, as in patchcore[sample=0.1], take --weights embedded, whose "
            "patches are a tenth of the size, or take fewer images with --limit."
        )
        require_memory((2 + self.coreset) * bank, self.device, "PatchCore's memory bank and its coreset", remedy)

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is in feature distances, 0 or more, smoothed as anomalib does."""
        output = self._model(self._backbone.normalise(as_batch(images, self.device)))
        maps = output.anomaly_map.reshape(len(images), *images[0].shape[:2]).float().cpu().numpy()
        return [Prediction(*one) for one in zip(maps, output.pred_score.reshape(len(images)).tolist(), strict=True)]
