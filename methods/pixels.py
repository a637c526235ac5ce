"""Images as torch has them."""

from collections.abc import Sequence

import numpy as np
import torch


def channels_first(image: np.ndarray) -> np.ndarray:
    """An image, uint8 (H, W) or RGB (H, W, 3), with channels first, uint8 (1 or 3, H, W): a view, or a copy of RGB.

    Of a view of RGB, torch would take the strides for `channels_last`: other kernels, which round in another way.
    """
    return image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))


def as_batch(images: Sequence[np.ndarray], device: str) -> torch.Tensor:
    """Images, uint8 (H, W) or RGB (H, W, 3) and all alike, as a copy on a device, uint8 (N, 1 or 3, H, W)."""
    return torch.from_numpy(np.stack([channels_first(image) for image in images])).to(device)
