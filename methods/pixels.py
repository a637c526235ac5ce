"""Images as torch has them."""

import numpy as np
import torch


def channels_first(image: np.ndarray) -> torch.Tensor:
    """An image, uint8 (H, W) or RGB (H, W, 3), with channels first: a copy, uint8 (1 or 3, H, W)."""
    return torch.from_numpy(np.array(image[None] if image.ndim == 2 else image.transpose(2, 0, 1), order="C"))
