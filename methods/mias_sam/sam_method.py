"""The base of methods that end in SAM's decoder: the choice of an encoder, and masks from prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from ...harness.api import Method, UsageError, Weights
from ...harness.cache import Cache
from ..weights import SAM, describe_weights
from .sam import Precision, Prompt, best_precision, load_sam

Encoder = Literal["auto", "vit_b", "vit_l", "vit_h", "medsam", "lite_medsam"]
Mask = Literal["auto", "predicted_iou", "single", "0", "1", "2"]

_PROMPTS_AT_ONCE = 8  # the decoder's memory grows with them

BOX_ENCODERS = ("medsam", "lite_medsam")
"""Trained with boxes and SAM's single output only."""


@dataclass(kw_only=True)
class SamMethod(Method):
    """The base of methods that end in SAM's decoder.

    Attributes:
        encoder: `auto` is SAM ViT-B with `--weights published`, and LiteMedSAM with `--weights embedded`.
        precision: In which the encoder computes. `bfloat16` changes maps by about 1 %. It is faster on GPUs and on
            processors with AMX, and slower on others. `auto` is `bfloat16` where it is faster, so scores differ from
            machine to machine; results say which was used.
        input_size: Width in pixels to which SAM's input is resized. Smaller than the published 1024 is faster; position
            embeddings are interpolated. LiteMedSAM's input is always 256.
        mask: Which of the decoder's masks: the one of three whose `predicted_iou` is highest, one of the three by
            number, or its `single` output. `auto` is `predicted_iou`, but `single` for the two MedSAMs, which were
            trained with the single output only.
    """

    encoder: Encoder = "auto"
    precision: Literal["auto", Precision] = "float32"
    input_size: Annotated[int, Field(ge=256, le=1024, multiple_of=16)] = 1024
    mask: Mask = "auto"

    colour: ClassVar[bool] = True
    uses_weights: ClassVar[tuple[str, ...]] = ("published", "embedded")

    def options(self) -> dict[str, Any]:
        """The configuration with `auto` replaced by what it stands for."""
        encoder = self._resolved_encoder()
        mask = "single" if encoder in BOX_ENCODERS else "predicted_iou"
        return super().options() | {
            "encoder": encoder,
            "precision": self._resolved_precision(),
            "mask": mask if self.mask == "auto" else self.mask,
        }

    def weights_used(self) -> tuple[Weights, ...]:
        source = SAM[self._resolved_encoder()]
        return (describe_weights(source.name, self.weights, source.fetch(self.progress)),)  # type: ignore[arg-type]

    def _load_sam(self) -> None:
        encoder = self._resolved_encoder()
        self._sam = load_sam(
            encoder,
            SAM[encoder].fetch(),
            self.device,
            precision=self._resolved_precision(),
            input_size=self.input_size,
            cache=Cache.from_environment(),
        )

    def _encode(self, image: np.ndarray) -> torch.Tensor:
        saved = self._sam.saved_seconds
        features = self._sam.encode(image)
        self.saved_seconds += self._sam.saved_seconds - saved
        return features

    def _segment(self, features: torch.Tensor, prompts: Sequence[Prompt], size: int) -> np.ndarray:
        """Decodes prompts and unites their masks, bool (size, size)."""
        return np.logical_or.reduce(self._logits(features, prompts, size) > 0)

    def _logits(self, features: torch.Tensor, prompts: Sequence[Prompt], size: int) -> np.ndarray:
        """Decodes prompts to one mask each, float32 (N, size, size), above 0 inside."""
        return np.concatenate(
            [
                self._decode(features, prompts[start : start + _PROMPTS_AT_ONCE], size)
                for start in range(0, len(prompts), _PROMPTS_AT_ONCE)
            ]
        )

    def _decode(self, features: torch.Tensor, prompts: Sequence[Prompt], size: int) -> np.ndarray:
        mask = self.options()["mask"]
        logits, predicted_iou = self._sam.decode(features, prompts, size, multimask=mask != "single")
        best = predicted_iou.argmax(axis=1) if mask in ("predicted_iou", "single") else int(mask)
        return logits[np.arange(len(logits)), best]

    def _resolved_encoder(self) -> str:
        default = "lite_medsam" if self.weights == "embedded" else "vit_b"
        encoder = default if self.encoder == "auto" else self.encoder
        if (encoder == "lite_medsam") != (self.weights == "embedded"):
            raise UsageError(
                f"encoder={encoder} has no {self.weights} weights: lite_medsam goes with --weights embedded, the "
                "others with --weights published."
            )
        if encoder == "lite_medsam" and self.input_size != 1024:
            raise UsageError("input_size is an option of SAM's own encoders; lite_medsam's input is always 256.")
        return encoder

    def _resolved_precision(self) -> Precision:
        return best_precision(self.device) if self.precision == "auto" else self.precision
