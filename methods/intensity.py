"""The smoothed grey value as the anomaly map: no training, and what every method has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.ndimage import gaussian_filter

from ..harness.api import Method, Prediction


@dataclass(kw_only=True)
class Intensity(Method):
    """Brighter is more anomalous (Meissen et al., arXiv 2109.06023, for FLAIR).

    Attributes:
        sigma: The standard deviation of the Gaussian filter, in pixels.
    """

    sigma: Annotated[float, Field(ge=0)] = 2.0

    @property
    def stochastic(self) -> bool:
        return False

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Learns nothing."""

    def predict(self, image: np.ndarray) -> Prediction:
        """The map is in grey levels, 0 to 255; the image score is its maximum."""
        anomaly_map = gaussian_filter(image.astype(np.float32), self.sigma)
        return Prediction(anomaly_map, float(anomaly_map.max()))
