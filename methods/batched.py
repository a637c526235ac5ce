"""Methods that predict several images at a time."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..harness.api import Method, Prediction


@dataclass(kw_only=True)
class BatchedMethod(Method):
    """A method whose network takes `batch` images at a time, which the runner sets."""

    batches: ClassVar[bool] = True

    @abstractmethod
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Says where images, uint8 as those in `fit`, are anomalous; in their order."""

    def predict(self, image: np.ndarray) -> Prediction:
        return self.predict_batch([image])[0]

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        for start in range(0, len(images), self.batch):
            yield from self.predict_batch([*images[start : start + self.batch]])
