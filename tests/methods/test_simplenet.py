from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from miasbench.methods.backbones import BACKBONES
from miasbench.methods.simplenet import FeatureDiscriminator, FeatureExtractor, SimpleNet, truncated_l1


def fitted(images: list[np.ndarray], seed: int = 0, weights: str = "embedded", **options: float) -> SimpleNet:
    method = SimpleNet(**({"epochs": 2, "batch_size": 2} | options))  # type: ignore[arg-type]
    method.seed, method.weights = seed, weights
    method.fit(images)
    return method


def test_maps_are_finite_and_tell_a_lesion_from_none(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    method = fitted(slices)
    normal, anomalous = method.predict(slices[0]), method.predict(lesion)
    for prediction in (normal, anomalous):
        assert prediction.anomaly_map.shape == (64, 64)
        assert prediction.anomaly_map.dtype == np.float32
        assert np.isfinite(prediction.anomaly_map).all()
        assert np.isfinite(prediction.image_score)
    assert not np.allclose(normal.anomaly_map, anomalous.anomaly_map)


def test_the_seed_decides(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    maps = [fitted(slices, seed).predict(lesion).anomaly_map for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_a_constant_image_and_a_single_one_are_taken() -> None:
    prediction = fitted([np.full((64, 64), 90, np.uint8)]).predict(np.zeros((64, 64), np.uint8))
    assert np.isfinite(prediction.anomaly_map).all()


def test_the_image_score_is_the_largest_patchs(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    prediction = fitted(slices).predict(lesion)
    assert prediction.image_score >= prediction.anomaly_map.max()


def test_truncated_l1_by_hand() -> None:
    normal, anomalous = torch.tensor([0.7, 0.5, 0.1, -1.0]), torch.tensor([-0.9, -0.5, -0.1, 1.0])
    assert truncated_l1(normal, anomalous).item() == pytest.approx((0.4 + 1.5) / 4 + (0.4 + 1.5) / 4)
    assert truncated_l1(normal[:2], anomalous[:2]).item() == 0


def test_the_discriminator_learns_the_difference() -> None:
    torch.manual_seed(0)
    network = FeatureDiscriminator(dimension=64, noise=2.0).train()
    features = 0.1 * torch.randn(8, 4, 4, 64)
    optimiser: torch.optim.Optimizer = network.configure_optimizers()
    losses = []
    for _ in range(150):
        loss = network.training_step(features, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    network.eval()
    with torch.inference_mode():
        assert network(features + 3).mean() > network(features).mean()


def test_learning_rates_are_the_papers() -> None:
    groups = FeatureDiscriminator(dimension=12, noise=0.015).configure_optimizers().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-4, 1e-5), (2e-4, 1e-5)]


def test_features_see_their_neighbourhood_and_no_more() -> None:
    extractor = FeatureExtractor(BACKBONES["embedded"], dimension=1536)
    assert extractor.dimension == 40 + 112
    level = torch.zeros(1, 2, 5, 5)
    level[0, 0, 2, 2] = 9.0
    values = extractor._neighbourhoods(level)
    assert values.shape == (1, 18, 5, 5)
    seen = values[0, :9].sum(dim=0)
    assert (seen[1:4, 1:4] == 9).all()
    assert seen.sum() == 81
    assert values[0, 9:].abs().sum() == 0


@pytest.mark.slow
def test_the_published_path_has_the_papers_dimensions(slices: list[np.ndarray], hub: Callable[[str], Path]) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("wide_resnet50_2").state_dict(), hub("timm/wide_resnet50_2.racm_in1k"))
    method = fitted(slices[:2], weights="published", epochs=1)
    assert method.weights_used()[0].kind == "published"
    assert method._network.adaptor.weight.shape == (1536, 1536)
    assert method._network.discriminator[0].out_features == 1024
    assert np.isfinite(method.predict(slices[0]).anomaly_map).all()


def test_the_noise_suits_the_weights_and_is_told() -> None:
    published, embedded, asked = SimpleNet(), SimpleNet(), SimpleNet(noise=0.1)
    embedded.weights = "embedded"
    assert published.options()["noise"] == 0.015
    assert embedded.options()["noise"] > 0.015
    assert asked.options()["noise"] == 0.1
