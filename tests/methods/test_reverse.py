import pytest
import torch
from torch import nn

from miasbench.methods.reverse import Bottleneck, Decoder, Trunk

CHANNELS = (24, 40, 112)


def maps(channels: tuple[int, ...], side: int = 64, images: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(images, width, side >> level, side >> level) for level, width in enumerate(channels, start=2)]


@pytest.mark.parametrize("side", [64, 96])
def test_the_decoder_restores_the_encoders_shapes_in_its_order(side: int) -> None:
    features = maps(CHANNELS, side)
    embedding = Bottleneck(CHANNELS)(features)
    assert embedding.shape == (2, 224, side // 32, side // 32)
    restored = Decoder(CHANNELS)(embedding)
    assert [part.shape for part in restored] == [part.shape for part in features]


def test_sizes_are_those_of_the_paper_for_wide_resnet() -> None:
    with torch.device("meta"):
        bottleneck, trunk = Bottleneck((256, 512, 1024)), Trunk((256, 512, 1024))
    blocks = [len(stage) for stage in trunk.stages if isinstance(stage, nn.Sequential)]
    assert blocks == [3, 4, 6]
    widest = next(part for part in bottleneck.embed.modules() if isinstance(part, nn.Conv2d))
    assert (widest.in_channels, widest.out_channels) == (3072, 1024)


def test_a_trunk_has_no_sign_and_a_decoder_has() -> None:
    embedding = Bottleneck(CHANNELS)(maps(CHANNELS))
    assert all(part.min() >= 0 for part in Trunk(CHANNELS)(embedding))
    assert all(part.min() < 0 for part in Decoder(CHANNELS)(embedding))


def test_anomalibs_model_works_with_both() -> None:
    from anomalib.models.components import TimmFeatureExtractor
    from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
    from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel

    layers = ["blocks.1", "blocks.2", "blocks.4"]
    model = ReverseDistillationModel("resnet18", (64, 64), ["layer1"], AnomalyMapGenerationMode.ADD, pre_trained=False)
    model.encoder = TimmFeatureExtractor("tf_efficientnet_lite0", layers, pre_trained=False)
    model.add_module("bottleneck", Bottleneck(CHANNELS))
    model.add_module("decoder", Decoder(CHANNELS))
    encoded, decoded = model.train()(torch.randn(2, 3, 64, 64))
    assert [part.shape for part in encoded] == [part.shape for part in decoded]
    output = model.eval()(torch.randn(1, 3, 64, 64))
    assert output.anomaly_map.shape == (1, 1, 64, 64)


def test_gradients_reach_every_parameter() -> None:
    network = nn.Sequential(Bottleneck(CHANNELS), Decoder(CHANNELS))
    features = maps(CHANNELS)
    errors = [(part - wanted).square().mean() for part, wanted in zip(network(features), features, strict=True)]
    torch.stack(errors).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
