"""The trainable half of reverse distillation (Deng & Li, CVPR 2022), for encoders of any width.

A frozen encoder yields three feature maps; the bottleneck compresses them into one embedding, from which the decoder
restores all three. What was never seen in training does not pass the bottleneck, so it is restored badly. For the
channels of Wide ResNet-50-2, (256, 512, 1024), widths and numbers of blocks are the paper's.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

EMBEDDING_BLOCKS = 3
DECODER_BLOCKS = (3, 4, 6)  # coarse to fine; ResNet-50's third, second and first stage, mirrored


class Bottleneck(nn.Module):
    """Multi-scale feature fusion and one-class embedding (Section 3.3 and Figure 4 of the paper).

    Args:
        channels: The channels of the encoder's maps at 1/4, 1/8 and 1/16 of the image's size.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.fine = nn.Sequential(_halve(fine, middle), _halve(middle, coarse))
        self.middle = _halve(middle, coarse)
        self.embed = _stage(3 * coarse, 2 * coarse, EMBEDDING_BLOCKS, scale=0.5)
        _initialise(self)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Makes the embedding, float (N, 2 C, H/32, W/32) for C coarse channels, of maps at 1/4, 1/8 and 1/16."""
        fine, middle, coarse = features
        return self.embed(torch.cat([self.fine(fine), self.middle(middle), coarse], dim=1))


class Trunk(nn.Module):
    """The paper's decoder: an encoder upside down, whose halving convolutions are transposed ones that double.

    Its maps are 0 or more, as those of a ResNet are.

    Args:
        channels: As those of the bottleneck.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        coarse_to_fine = [2 * channels[-1], *reversed(channels)]
        self.stages = nn.ModuleList(
            _stage(before, after, blocks, scale=2)
            for (before, after), blocks in zip(pairwise(coarse_to_fine), DECODER_BLOCKS, strict=True)
        )
        _initialise(self)

    def forward(self, embedding: torch.Tensor) -> list[torch.Tensor]:
        """Restores the maps at 1/4, 1/8 and 1/16, in this order; their sides are 8, 4 and 2 times the embedding's."""
        maps = []
        for stage in self.stages:
            embedding = stage(embedding)
            maps.insert(0, embedding)
        return maps


class Outputs(nn.Module):
    """A linear map of each scale, without which a trunk could not restore features that have a sign.

    The features of an EfficientNet do, since its blocks end without an activation.

    Args:
        channels: As those of the bottleneck.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Conv2d(width, width, 1) for width in channels)
        _initialise(self)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Maps features to others of the same shapes."""
        return [scale(features) for scale, features in zip(self.scales, maps, strict=True)]


class Decoder(nn.Sequential):
    """Restores an encoder's three feature maps, fine to coarse, of the bottleneck's embedding.

    Args:
        channels: As those of the bottleneck.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(Trunk(channels), Outputs(channels))


class _Residual(nn.Module):
    """A bottleneck residual block of a wide ResNet: its inner width is half of its output's.

    Args:
        before: Channels of the input.
        after: Channels of the output; those of the input where the scale is 1.
        scale: The factor between the sides of the input and of the output: 0.5, 1 or 2.
    """

    def __init__(self, before: int, after: int, scale: float = 1) -> None:
        super().__init__()
        width = after // 2
        self.body = nn.Sequential(
            _convolution(before, width, kernel=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _convolution(width, width, kernel=3, scale=scale),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _convolution(width, after, kernel=1),
            nn.BatchNorm2d(after),
        )
        self.shortcut = (
            nn.Identity()
            if scale == 1
            else nn.Sequential(_convolution(before, after, kernel=1, scale=scale), nn.BatchNorm2d(after))
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(features) + self.shortcut(features))


def _stage(before: int, after: int, blocks: int, scale: float) -> nn.Sequential:
    """Residual blocks, of which the first changes channels and size."""
    return nn.Sequential(_Residual(before, after, scale), *(_Residual(after, after) for _ in range(blocks - 1)))


def _halve(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(_convolution(before, after, kernel=3, scale=0.5), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _convolution(before: int, after: int, kernel: int, scale: float = 1) -> nn.Module:
    if scale == 2:
        return nn.ConvTranspose2d(before, after, kernel_size=2, stride=2, bias=False)
    return nn.Conv2d(before, after, kernel, stride=round(1 / scale), padding=kernel // 2, bias=False)


def _initialise(module: nn.Module) -> None:
    """Draws convolutions as ResNet does (He et al., ICCV 2015)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
