"""SAM's decoder without an anomaly map: the control beside which every method that ends in the decoder is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import gaussian_filter

from ...harness.api import Prediction, as_grey
from .prompts import centroid_prompt, foreground_box
from .sam_method import SamMethod


@dataclass(kw_only=True)
class SamControl(SamMethod):
    """SAM, prompted by a box that is found without a memory bank.

    The anomaly map that it hands in is the box itself: 1 inside, 0 outside.

    Attributes:
        prompt: `foreground_box` is the bounding box of the bright part, shrunk; `intensity_box` is the centroid box
            of the smoothed grey values.
        share: The share of the foreground's width and height that the box keeps, for `foreground_box`.
        sigma: The standard deviation of the Gaussian filter over the grey values, in pixels, for `intensity_box`.
        gamma: Power to which the smoothed grey values are raised, for `intensity_box`.
        box_scale: Half-width of the `intensity_box`, in weighted standard deviations along each axis.
    """

    prompt: Literal["foreground_box", "intensity_box"] = "foreground_box"
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    sigma: Annotated[float, Field(ge=0)] = 4.0
    gamma: Annotated[float, Field(ge=0)] = 5.0
    box_scale: Annotated[float, Field(gt=0)] = 1.5

    @property
    def stochastic(self) -> bool:
        return False

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Loads SAM; normal images teach it nothing."""
        self._load_sam()

    def predict(self, image: np.ndarray) -> Prediction:
        """The image score is 0 for every image: a control ranks none before another. Boxes are found in grey."""
        grey = as_grey(image)
        if self.prompt == "foreground_box":
            prompt = foreground_box(grey, self.share)
        else:
            smoothed = gaussian_filter(grey / 255, self.sigma)
            prompt = centroid_prompt(smoothed**self.gamma, self.box_scale)
        anomaly_map = np.zeros(grey.shape, np.float32)
        if prompt is None or prompt.box is None or grey.min() == grey.max():
            return Prediction(anomaly_map, 0.0, np.zeros(grey.shape, bool), "the image is constant: no mask")
        left, top, right, bottom = (round(edge) for edge in prompt.box)
        anomaly_map[top : bottom + 1, left : right + 1] = 1
        mask = self._segment(self._encode(image), [prompt], len(image))
        return Prediction(anomaly_map, 0.0, mask, prompts=(prompt.drawn,))
