from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage.metrics import structural_similarity
from sklearn.metrics import roc_auc_score

from miasbench.methods.backbones import BACKBONES
from miasbench.methods.fae import EarlyFeatures, FeatureAutoencoder, FeatureNetwork, ssim

from ..support.textures import spotted, textures


def structured(images: list[np.ndarray]) -> list[np.ndarray]:
    """The same rings in all images, with little of their noise: what is noise has no structure to restore."""
    rings = 40 * np.sin(np.hypot(*np.mgrid[:64, :64]) / 4)
    return [(rings + 120 + (image.astype(float) - 120) / 4).round().clip(0, 255).astype(np.uint8) for image in images]


def fitted(images: list[np.ndarray], seed: int = 0, weights: str = "embedded", **options: int) -> FeatureAutoencoder:
    method = FeatureAutoencoder(**({"epochs": 2, "batch_size": 4, "width": 16} | options))  # type: ignore[arg-type]
    method.seed, method.weights = seed, weights
    method.fit(images)
    return method


@pytest.fixture(scope="module")
def trained() -> FeatureAutoencoder:
    return fitted(structured(textures(8)), epochs=40, width=64)


@pytest.mark.parametrize("grey", [30, 220])
def test_a_spot_on_a_normal_texture_stands_out(trained: FeatureAutoencoder, grey: int) -> None:
    (normal,), spot = structured(textures(9)[8:]), spotted(grey)[1]
    image = np.where(spot, grey, normal).astype(np.uint8)
    found = trained.predict(image)
    assert found.anomaly_map.shape == image.shape
    assert found.anomaly_map.dtype == np.float32
    assert roc_auc_score(spot.ravel(), found.anomaly_map.ravel()) > 0.8
    assert found.image_score > trained.predict(normal).image_score


def test_the_image_score_is_the_mean_of_the_highest_tenth_of_the_body(trained: FeatureAutoencoder) -> None:
    image = spotted(220)[0]
    image[:, 32:] = 0
    found = trained.predict(image)
    highest = np.sort(found.anomaly_map[image > 0])[-round(0.1 * (image > 0).sum()) :]
    assert found.image_score == pytest.approx(highest.mean())
    assert trained.predict(np.zeros((64, 64), np.uint8)).image_score == 0


def test_the_seed_decides() -> None:
    maps = [fitted(textures(4), seed).predict(spotted(220)[0]).anomaly_map for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_ssim_is_scikit_images() -> None:
    one, other = np.random.default_rng(0).normal(0, 2, (2, 3, 32, 32))
    ours = ssim(torch.from_numpy(one)[None], torch.from_numpy(other)[None])[0].numpy()
    theirs = structural_similarity(
        *(one, other), channel_axis=0, data_range=1.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )[1]
    inside = np.s_[:, 5:-5, 5:-5]  # what lies beyond the border is not imagined alike
    np.testing.assert_allclose(ours[inside], np.asarray(theirs)[inside], rtol=1e-6, atol=1e-8)


def test_the_loss_is_one_less_the_mean_ssim_and_training_lowers_it() -> None:
    torch.manual_seed(0)
    network = FeatureNetwork(channels=6, width=16)
    features = torch.rand(2, 6, 16, 16).mul(4)
    optimiser: torch.optim.Optimizer = network.configure_optimizers()
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = network.training_step(features, 0)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    network.eval()
    assert network.training_step(features, 0).item() == pytest.approx(
        1 - ssim(network(features), features).mean().item()
    )


def test_features_are_the_first_three_levels_after_the_stem() -> None:
    extractor = EarlyFeatures(BACKBONES["embedded"]).eval()
    features = extractor.of(textures(1), "cpu")
    assert features.shape == (1, 24 + 40 + 112, 16, 16)
    fine = extractor.levels(BACKBONES["embedded"].normalise(torch.from_numpy(textures(1)[0])[None, None]))[0]
    torch.testing.assert_close(features[:, :24], fine)


def test_odd_sizes_are_taken() -> None:
    image = textures(1)[0][:50, :38]
    assert np.isfinite(fitted([image] * 2).predict(image).anomaly_map).all()


def test_the_published_encoder_is_resnet_18(hub: Callable[[str], Path]) -> None:
    save_file(timm.create_model("resnet18").state_dict(), hub("timm/resnet18.a1_in1k"))
    method = fitted(textures(2), weights="published", epochs=1)
    assert method.weights_used()[0].name == "resnet18"
    assert np.isfinite(method.predict(textures(1)[0]).anomaly_map).all()
