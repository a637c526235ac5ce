"""From an anomaly map to prompts, and from these to SAM's mask: what MIAS-SAM does with its map, for any map."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from ...harness.api import Prediction
from .prompts import centroid_prompt, peak_prompts, threshold_boxes
from .sam import Prompt
from .sam_method import BOX_ENCODERS, SamMethod
from .vote import candidate_boxes, vote

EPSILON = float(np.finfo(np.float32).eps)


@dataclass(kw_only=True)
class PromptedSam(SamMethod):
    """The base of methods whose anomaly map prompts SAM's decoder.

    Attributes:
        gamma: Power to which the map is raised before the centre of gravity.
        prompt: `centroid` (the paper's point), `centroid_box` (a box around it), `centroid_mask` (the point, with the
            map as mask prompt), `peaks` (the point or the box for each separate peak), `threshold_boxes` (the released
            code's other switch, and the only one with a threshold), `vote` (about fifty boxes whose answers are
            averaged; not the paper's), or `auto`: the point, but the box for the two MedSAMs, which were trained with
            boxes only.
        box_scale: Half-width of the box, in weighted standard deviations of the map along each axis.
    """

    gamma: Annotated[float, Field(ge=0)] = 5.0
    prompt: Literal["auto", "centroid", "centroid_box", "centroid_mask", "peaks", "threshold_boxes", "vote"] = "auto"
    box_scale: Annotated[float, Field(gt=0)] = 1.5

    def options(self) -> dict[str, Any]:
        """The configuration with `auto` replaced by what it stands for."""
        options = super().options()
        prompt = "centroid_box" if options["encoder"] in BOX_ENCODERS else "centroid"
        return options | {"prompt": prompt if self.prompt == "auto" else self.prompt}

    def controls(self) -> tuple[str, ...]:
        """The same decoder with boxes that know of no memory bank, and beside a vote, with as many of them."""
        shared = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(SamMethod)
            if getattr(self, field.name) != field.default
        ]
        kinds = [["prompt=foreground_box"], ["prompt=intensity_box"]]
        if self.prompt == "vote":
            kinds.append(["prompt=vote", "sigma=2"])  # smoothed as `intensity` is
        return tuple(f"sam_control[{','.join([*kind, *shared])}]" for kind in kinds)

    def _finish(
        self,
        image: np.ndarray,
        features: torch.Tensor,
        raw_map: np.ndarray,
        image_score: float,
        value_range: tuple[float, float],
        note: str = "",
    ) -> Prediction:
        """Turns the map into prompts and these into the mask (steps 7 to 9).

        Args:
            image: uint8 (S, S) or (S, S, 3).
            features: Its features, of SAM's encoder.
            raw_map: float32 (S, S).
            image_score: As in the prediction.
            value_range: The lowest and highest value of normal maps, or as `normalisation` says.
            note: A further note on the image, for the results.
        """
        low, high = value_range
        normalised = np.clip((raw_map - low) / max(high - low, EPSILON), 0, None)
        unit_map = normalised / max(normalised.max(), EPSILON)
        prompts = self._prompts(normalised, unit_map)
        constant = not np.ptp(image, axis=(0, 1)).any()
        if constant or not prompts:
            reason = "the image is constant" if constant else "the anomaly map gives no prompt"
            note = "; ".join(filter(None, [note, f"{reason}: no mask"]))
            return Prediction(raw_map, image_score, np.zeros(raw_map.shape, bool), note)
        if self.prompt == "vote":
            mask = vote(self._logits(features, prompts, len(image)), unit_map)
        else:
            mask = self._segment(features, prompts, len(image))
        return Prediction(raw_map, image_score, mask, note, tuple(prompt.drawn for prompt in prompts))

    def _prompts(self, normalised: np.ndarray, unit_map: np.ndarray) -> list[Prompt]:
        """The prompts for SAM; `None` where the map is flat.

        Args:
            normalised: The map, brought to 0 to 1 by the range of normal maps, or as `normalisation` says.
            unit_map: The same with its own maximum at 1.
        """
        options = self.options()
        weights = unit_map**self.gamma
        match options["prompt"]:
            case "threshold_boxes":
                return threshold_boxes(normalised)
            case "peaks":
                return peak_prompts(weights, self.box_scale if options["encoder"] in BOX_ENCODERS else None)
            case "vote":
                return [Prompt(box=box) for box in candidate_boxes(unit_map)]
            case prompt:
                centre = centroid_prompt(weights, self.box_scale if prompt == "centroid_box" else None)
                if centre is None:
                    return []
                return [replace(centre, mask=normalised) if prompt == "centroid_mask" else centre]


def range_of(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """The smallest and the largest value of several maps."""
    return float(min(one.min() for one in maps)), float(max(one.max() for one in maps))
