"""Any method's map in the place of MIAS-SAM's: is its memory bank the right map, or will any good one do?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ...harness.api import Diagnostic, LazySequence, Method, Prediction, UsageError, Weights, as_grey
from .prompted import PromptedSam, range_of


@dataclass(kw_only=True)
class SamRefine(PromptedSam):
    """Another method's anomaly map prompts SAM as MIAS-SAM's does; map and image score stay that method's.

    Attributes:
        base: The method that makes the map, as in `sam_refine[base=patchcore]`. A mask of its own is not looked at.
        normalisation: Where the minimum comes from that is subtracted from a map before its centre of gravity: `image`
            (the map itself), `train` (maps of training images that were held out) or `test_set` (transductive, as in
            MIAS-SAM's paper). Maps of the images that a method was fitted on are lower than those of other normal
            images, so `train` costs the base its `held_out` images; `image` costs nothing, and gives a prompt also
            where nothing stands out.
        held_out: How many training images, at most a quarter of them, `normalisation=train` keeps from the base.
    """

    base: Method
    normalisation: Literal["image", "train", "test_set"] = "image"
    held_out: Annotated[int, Field(ge=1)] = 8

    def __post_init__(self) -> None:
        """Refuses to refine what is refined already."""
        if isinstance(self.base, SamRefine):
            raise UsageError(
                f"sam_refine cannot be its own base: the map of {self.base.spec} is that of {self.base.base.spec}, so "
                f"use base={self.base.base.spec}."
            )

    @property
    def transductive(self) -> bool:
        return self.normalisation == "test_set" or self.base.transductive

    @property
    def stochastic(self) -> bool:
        """Beside the base, it is which training images are held out for `normalisation=train`."""
        return self.normalisation == "train" or self.base.stochastic

    def weights_used(self) -> tuple[Weights, ...]:
        self.base.progress = self.progress
        return tuple(dict.fromkeys(super().weights_used() + self.base.weights_used()))

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return self.base.diagnostics()

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Fits the base, and finds the range of normal maps where `normalisation=train` needs it."""
        self.base.progress = self.progress
        self._load_sam()
        if self.normalisation == "train":
            if len(images) < 2:
                raise UsageError("normalisation=train needs two training images or more; use normalisation=image.")
            held_out = min(self.held_out, max(1, len(images) // 4))
            order = np.random.default_rng(self.seed).permutation(len(images)).tolist()
            self.base.fit(self._for_base(_some(images, sorted(order[held_out:]))))
            normal = self.base.predict_many(self._for_base(_some(images, order[:held_out])))
            self._range = range_of([prediction.anomaly_map for prediction in normal])
        else:
            self.base.fit(self._for_base(images))
        self._take_over_savings()

    def predict(self, image: np.ndarray) -> Prediction:
        prediction = self.base.predict(image if self.base.colour else as_grey(image))
        self._take_over_savings()
        return self._refine(image, prediction)

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        """In the base's batches; `normalisation=test_set` needs every map of the test set before the first prompt."""
        predictions = self.base.predict_many(self._for_base(images))
        if self.normalisation == "test_set":
            predictions = list(predictions)
            self._range = range_of([prediction.anomaly_map for prediction in predictions])
        for image, prediction in zip(images, predictions, strict=False):  # the runner tells what is missing
            self._take_over_savings()
            yield self._refine(image, prediction)

    def _for_base(self, images: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Images as the base takes them."""
        if self.base.colour:
            return images
        return LazySequence(len(images), lambda position: as_grey(images[position]))

    def _refine(self, image: np.ndarray, prediction: Prediction) -> Prediction:
        raw_map = prediction.anomaly_map
        value_range = range_of([raw_map]) if self.normalisation == "image" else self._range
        return self._finish(image, self._encode(image), raw_map, prediction.image_score, value_range, prediction.note)

    def _take_over_savings(self) -> None:
        self.saved_seconds += self.base.saved_seconds
        self.base.saved_seconds = 0.0


def _some(images: Sequence[np.ndarray], which: Sequence[int]) -> Sequence[np.ndarray]:
    """Some of the images, still read when they are asked for."""
    return LazySequence(len(which), lambda position: images[which[position]])
