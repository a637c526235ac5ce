"""A small U-Net (Ronneberger et al., MICCAI 2015), with BatchNorm."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class UNet(nn.Module):
    """Two convolutions a level, on as many levels as there are widths; each level has half the size of the one above.

    Args:
        before: Channels of the images.
        after: Channels of the output.
        widths: Channels of each level, from the top.
    """

    def __init__(self, before: int, after: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(_level(above, here) for above, here in pairwise((before, *widths)))
        upwards = pairwise(reversed(widths))
        self.up = nn.ModuleList(_level(below + here, here) for below, here in upwards)
        self.last = nn.Conv2d(widths[0], after, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Makes outputs, float32 (N, after, H, W), of images, float32 (N, before, H, W), of any size."""
        height, width = images.shape[-2:]
        unit = 2 ** len(self.up)
        values = functional.pad(images, (0, -width % unit, 0, -height % unit))
        skipped: list[torch.Tensor] = []
        for level in self.down:
            values = level(functional.avg_pool2d(values, 2) if skipped else values)
            skipped.append(values)
        for level, skip in zip(self.up, reversed(skipped[:-1]), strict=True):
            values = level(torch.cat([functional.interpolate(values, scale_factor=2, mode="bilinear"), skip], dim=1))
        return self.last(values)[..., :height, :width]


def _level(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(before, after), *_convolution(after, after))


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.SiLU()
