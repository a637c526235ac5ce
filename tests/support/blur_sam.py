"""Stands in for SAM where no real features are needed."""

from collections.abc import Sequence

import numpy as np
import torch

from miasbench.methods.mias_sam.sam import Prompt


class BlurSam:
    """256 fixed filters for features, and squares around the prompt for masks.

    Attributes:
        encoded: The images that were encoded.
        prompts: What the decoder was told.
        batches: How many prompts it was told at once.
        saving: What a cache saves, with each image that is encoded.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._filters = torch.randn(256, 1, 4, 4, generator=generator)
        self.identity = "blur"
        self.saved_seconds = 0.0
        self.saving = 0.0
        self.encoded: list[np.ndarray] = []
        self.prompts: list[Prompt] = []
        self.batches: list[int] = []

    def encode(self, image: np.ndarray) -> torch.Tensor:
        self.encoded.append(image.copy())
        self.saved_seconds += self.saving
        pixels = torch.from_numpy(image.copy()).float()[None, None] / 255
        return torch.nn.functional.conv2d(pixels, self._filters, stride=4)

    def decode(
        self, features: torch.Tensor, prompts: Sequence[Prompt], size: int, multimask: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """The second of three masks has the highest predicted IoU."""
        self.prompts += prompts
        self.batches.append(len(prompts))
        count = 3 if multimask else 1
        masks = np.stack([[answer(prompt, size, which) for which in range(count)] for prompt in prompts])
        predicted_iou = np.tile(np.array([0.2, 0.9, 0.4], np.float32)[:count], (len(prompts), 1))
        return np.where(masks, np.float32(5), np.float32(-5)), predicted_iou


def answer(prompt: Prompt, size: int, which: int) -> np.ndarray:
    """A square around the prompt's centre, the larger the later the mask: bool (size, size)."""
    if prompt.point is not None:
        x, y = prompt.point
    else:
        assert prompt.box is not None
        left, top, right, bottom = prompt.box
        x, y = (left + right) / 2, (top + bottom) / 2
    rows, columns = np.mgrid[:size, :size]
    return (abs(rows - y) <= 4 * (which + 1)) & (abs(columns - x) <= 4 * (which + 1))
