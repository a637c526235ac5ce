import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from miasbench.methods.dae import Denoiser, DenoisingAutoencoder, coarse_noise
from miasbench.methods.unet import UNet

from ..support.textures import spotted, textures


def fitted(images: list[np.ndarray], seed: int = 0, **options: float) -> DenoisingAutoencoder:
    method = DenoisingAutoencoder(**({"epochs": 2, "batch_size": 4, "width": 8} | options))  # type: ignore[arg-type]
    method.seed = seed
    method.fit(images)
    return method


@pytest.fixture(scope="module")
def trained() -> DenoisingAutoencoder:
    return fitted(textures(8), epochs=50, width=4, resolution=6)


@pytest.mark.parametrize("grey", [60, 180])
def test_a_spot_on_a_normal_texture_stands_out(trained: DenoisingAutoencoder, grey: int) -> None:
    image, spot = spotted(grey)
    found = trained.predict(image)
    assert found.anomaly_map.dtype == np.float32
    assert roc_auc_score(spot.ravel(), found.anomaly_map.ravel()) > 0.9
    assert found.image_score == found.anomaly_map.max()


def test_the_seed_decides(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    maps = [fitted(slices, seed).predict(lesion).anomaly_map for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_the_background_is_never_anomalous(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    method = fitted(slices, median=1)
    assert (method.predict(lesion).anomaly_map[lesion == 0] == 0).all()
    assert not method.predict(np.zeros((64, 64), np.uint8)).anomaly_map.any()


def test_noise_is_in_the_body_only_and_the_image_without_it_is_the_aim() -> None:
    network = Denoiser(channels=1, width=8, noise=0.2, resolution=16)
    seen: list[torch.Tensor] = []
    network.forward = lambda images: seen.append(images) or images  # type: ignore[method-assign,func-returns-value]
    images, body = torch.full((2, 1, 64, 64), 0.5), torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    body[..., 20:40, 20:40] = True
    torch.manual_seed(0)
    loss = network.training_step((images, body), 0)
    noise = seen[0] - images
    assert (noise[~body] == 0).all()
    assert (noise[body] != 0).any()
    assert loss.item() == pytest.approx(noise[body].square().mean().item())


def test_noise_is_as_strong_and_as_coarse_as_was_asked_for() -> None:
    torch.manual_seed(0)
    noise = coarse_noise((200, 2, 64, 64), resolution=16, standard_deviation=0.2)
    assert noise.shape == (200, 2, 64, 64)
    # A bilinear value is a weighted mean of the places around it, and beyond the outermost places it is theirs.
    weights = np.tile([0.125, 0.375, 0.625, 0.875], 15)
    variance = np.concatenate([weights**2 + (1 - weights) ** 2, np.ones(4)]).mean()  # along each axis
    assert noise.std().item() == pytest.approx(0.2 * variance, rel=0.02)
    neighbours = torch.corrcoef(torch.stack([noise[..., :-1].ravel(), noise[..., 1:].ravel()]))[0, 1]
    assert neighbours > 0.8
    apart = torch.corrcoef(torch.stack([noise[..., :-12].ravel(), noise[..., 12:].ravel()]))[0, 1]
    assert apart.abs() < 0.05
    assert not torch.equal(noise, coarse_noise((200, 2, 64, 64), 16, 0.2))


def test_a_u_net_takes_any_size() -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, (8, 16, 32))
    assert network(torch.rand(2, 3, 37, 50)).shape == (2, 2, 37, 50)
