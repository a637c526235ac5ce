"""SAM's decoder without an anomaly map: the control beside which every method that ends in the decoder is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import gaussian_filter

from ...harness.api import Prediction, as_grey
from .prompted import EPSILON
from .prompts import Box, centroid_prompt, foreground_box
from .sam import Prompt
from .sam_method import SamMethod
from .vote import candidate_boxes, vote


@dataclass(kw_only=True)
class SamControl(SamMethod):
    """SAM, prompted by boxes that are found without a memory bank.

    The anomaly map that it hands in is the box itself: 1 inside, 0 outside; of several boxes, the share that holds a
    pixel.

    Attributes:
        prompt: `foreground_box` is the bounding box of the bright part, shrunk; `intensity_box` is the centroid box
            of the smoothed grey values; `vote` reads about fifty boxes off these, as a method with `prompt=vote` reads
            them off its map, and averages the answers likewise.
        share: The share of the foreground's width and height that the box keeps, for `foreground_box`.
        sigma: The standard deviation of the Gaussian filter over the grey values, in pixels, for `intensity_box`
            and `vote`.
        gamma: Power to which the smoothed grey values are raised, for `intensity_box`.
        box_scale: Half-width of the `intensity_box`, in weighted standard deviations along each axis.
    """

    prompt: Literal["foreground_box", "intensity_box", "vote"] = "foreground_box"
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
        smoothed = gaussian_filter(grey.astype(np.float32), self.sigma)  # the map of the method `intensity`
        unit_map = (smoothed - smoothed.min()) / max(float(np.ptp(smoothed)), EPSILON)
        boxes = [] if grey.min() == grey.max() else self._boxes(grey, unit_map)
        if not boxes:
            nothing = np.zeros(grey.shape, np.float32)
            return Prediction(nothing, 0.0, nothing > 0, "the image is constant: no mask")
        prompts, features = [Prompt(box=box) for box in boxes], self._encode(image)
        if self.prompt == "vote":
            mask = vote(self._logits(features, prompts, len(image)), unit_map)
        else:
            mask = self._segment(features, prompts, len(image))
        return Prediction(_share_inside(boxes, grey.shape), 0.0, mask, prompts=tuple(one.drawn for one in prompts))

    def _boxes(self, grey: np.ndarray, unit_map: np.ndarray) -> list[Box]:
        """The boxes of an image, uint8 (S, S), and of its smoothed grey values, float32 (S, S), 0 to 1."""
        match self.prompt:
            case "vote":
                return candidate_boxes(unit_map)
            case "foreground_box":
                prompt = foreground_box(grey, self.share)
            case "intensity_box":
                prompt = centroid_prompt(gaussian_filter(grey / 255, self.sigma) ** self.gamma, self.box_scale)
        return [prompt.box] if prompt and prompt.box else []


def _share_inside(boxes: Sequence[Box], shape: tuple[int, ...]) -> np.ndarray:
    """For each pixel, the share of the boxes that hold it, float32, 0 to 1."""
    share = np.zeros(shape, np.float32)
    for box in boxes:
        left, top, right, bottom = (round(edge) for edge in box)
        share[top : bottom + 1, left : right + 1] += 1 / len(boxes)
    return share
