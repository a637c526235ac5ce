"""Convolutional backbones, with weights from a verified file."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from ..harness.api import Weights
from .weights import EFFICIENTNET_LITE0, describe_weights, load_weights, timm_file

# EfficientNet-Lite0 has seven stages of so many blocks; the package numbers its blocks from 0 to 15.
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_LITE0_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_LITE0_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_LITE0_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


@dataclass(frozen=True)
class Backbone:
    """A backbone and how it is used for patch features.

    Attributes:
        name: timm's name.
        kind: The `--weights` that it belongs to.
        layers: Its nodes that patch features are read from, at 1/8 and 1/16 of the image's size.
        mean: Per channel, of pixel values from 0 to 1.
        std: Likewise.
        pyramid: Its nodes at 1/4, 1/8, 1/16 and 1/32 of the image's size.
        channels: The number of channels of these layers.
    """

    name: str
    kind: str
    layers: tuple[str, str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pyramid: tuple[str, str, str, str]
    channels: tuple[int, int, int, int]

    def fetch(self) -> Path:
        """The verified weight file."""
        return EFFICIENTNET_LITE0.fetch() if self.kind == "embedded" else timm_file(self.name)

    def weights_used(self) -> Weights:
        return describe_weights(self.name, self.kind, self.fetch())  # type: ignore[arg-type]

    def load_into(self, network: torch.nn.Module) -> None:
        """Gives a timm network of this architecture its weights; it may lack the classification head."""
        path = self.fetch()
        state = load_weights(path)
        if self.kind == "embedded":
            state = _rename_lite0(state)
        network.load_state_dict({name: state[name] for name in network.state_dict()})

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Makes the network's input, float32 (N, 3, H, W), of images, uint8 (N, 1 or 3, H, W), on their device."""
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std))
        return pixels.float().div_(255).sub(mean).div_(std)


BACKBONES = {
    "published": Backbone(
        "wide_resnet50_2",
        "published",
        layers=("layer2", "layer3"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        pyramid=("layer1", "layer2", "layer3", "layer4"),
        channels=(256, 512, 1024, 2048),
    ),
    # timm's tf_ variant has the padding and the BatchNorm epsilon with which these weights were trained.
    "embedded": Backbone(
        "tf_efficientnet_lite0",
        "embedded",
        layers=("blocks.2", "blocks.4"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        pyramid=("blocks.1", "blocks.2", "blocks.4", "blocks.6"),
        channels=(24, 40, 112, 320),
    ),
}


def _rename_lite0(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames the package's parameters to timm's."""
    places = [(stage, index) for stage, count in enumerate(_LITE0_STAGES) for index in range(count)]
    renamed = {}
    for key, value in state.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
        if block:
            number = int(block[1])
            names = _LITE0_FIRST_BLOCK if number == 0 else _LITE0_BLOCK
            stage, index = places[number]
            renamed[f"blocks.{stage}.{index}.{names[block[2]]}.{block[3]}"] = value
        else:
            module, _, parameter = key.partition(".")
            renamed[f"{_LITE0_TOP[module]}.{parameter}"] = value
    return renamed
