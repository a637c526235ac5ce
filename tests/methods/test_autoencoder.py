import numpy as np
import pytest
import torch

from miasbench.methods.autoencoder import (
    Autoencoder,
    Network,
    UncertaintyAutoencoder,
    UncertaintyNetwork,
    VariationalAutoencoder,
    VariationalNetwork,
    gaussian_divergence,
)
from miasbench.methods.restoration import body_mean

KINDS = (Autoencoder, VariationalAutoencoder, UncertaintyAutoencoder)


def fitted(
    images: list[np.ndarray], seed: int = 0, kind: type[Autoencoder] = Autoencoder, **options: float
) -> Autoencoder:
    method = kind(**({"epochs": 2, "batch_size": 2} | options))  # type: ignore[arg-type]
    method.seed = seed
    method.fit(images)
    return method


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_finite_and_tell_a_lesion_from_none(
    kind: type[Autoencoder], slices: list[np.ndarray], lesion: np.ndarray
) -> None:
    method = fitted(slices, kind=kind)
    normal, anomalous = method.predict(slices[0]), method.predict(lesion)
    for prediction in (normal, anomalous):
        assert prediction.anomaly_map.shape == (64, 64)
        assert prediction.anomaly_map.dtype == np.float32
        assert np.isfinite(prediction.anomaly_map).all()
        assert prediction.image_score == prediction.anomaly_map.max()
    assert not np.allclose(normal.anomaly_map, anomalous.anomaly_map)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: type[Autoencoder], slices: list[np.ndarray], lesion: np.ndarray) -> None:
    maps = [fitted(slices, seed, kind).predict(lesion).anomaly_map for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_the_background_is_never_anomalous(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    method = fitted(slices, sigma=0)
    assert (method.predict(lesion).anomaly_map[lesion == 0] == 0).all()
    assert not method.predict(np.zeros((64, 64), np.uint8)).anomaly_map.any()


def test_black_holes_in_the_body_are_looked_at(slices: list[np.ndarray]) -> None:
    hole = slices[0].copy()
    hole[30:34, 30:34] = 0
    assert fitted(slices, sigma=0).predict(hole).anomaly_map[30:34, 30:34].all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_image_and_an_odd_size_are_taken(kind: type[Autoencoder]) -> None:
    prediction = fitted([np.full((50, 50), 90, np.uint8)], kind=kind).predict(np.full((50, 50), 120, np.uint8))
    assert prediction.anomaly_map.shape == (50, 50)
    assert np.isfinite(prediction.anomaly_map).all()


def test_a_mean_is_that_of_the_body() -> None:
    values = torch.tensor([[1.0, 4.0], [25.0, 25.0]])[None, None]
    body = torch.tensor([[True, True], [False, False]])[None, None]
    assert body_mean(values, body).item() == pytest.approx((1 + 4) / 2)
    assert body_mean(values.expand(1, 3, 2, 2), body).item() == pytest.approx((1 + 4) / 2)
    assert body_mean(values, torch.zeros_like(body)).item() == 0


def test_the_code_is_narrow() -> None:
    network = Network(code=4)
    codes = []
    network.decoder.register_forward_hook(lambda layer, inputs, output: codes.append(inputs[0].shape))
    network(torch.zeros(1, 1, 256, 256))
    assert codes == [(1, 4, 8, 8)]


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(kind: type[Autoencoder], slices: list[np.ndarray]) -> None:
    told: list[str] = []
    method = kind(epochs=8, batch_size=4)
    method.progress = lambda stage, done, total: told.append(stage)
    method.fit(slices)
    losses = [float(text.rpartition(" ")[2]) for text in told if "loss" in text]
    assert losses[-1] < 0.7 * losses[0]


def test_the_divergence_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 50, generator=generator)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_divergence(mean, log_variance), expected)


def test_the_code_of_vae_is_drawn_in_training_and_its_mean_otherwise() -> None:
    torch.manual_seed(0)
    network = VariationalNetwork(code=2, channels=1, divergence=0.02).eval()
    images, body = torch.rand(1, 1, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.bool)
    assert torch.equal(network(images), network(images))
    assert network.training_step((images, body), 0) != network.training_step((images, body), 0)


def test_a_costlier_divergence_keeps_codes_nearer_to_the_standard_gaussian() -> None:
    images, body = torch.rand(4, 1, 64, 64), torch.ones(4, 1, 64, 64, dtype=torch.bool)
    found = []
    for divergence in (0.0, 20.0):
        torch.manual_seed(0)
        network = VariationalNetwork(code=2, channels=1, divergence=divergence)
        optimiser: torch.optim.Optimizer = network.configure_optimizers()
        for _ in range(20):
            optimiser.zero_grad()
            network.training_step((images, body), 0).backward()
            optimiser.step()
        found.append(gaussian_divergence(*network.encode(images).chunk(2, dim=1)).mean().item())
    assert found[1] < found[0] / 2


def test_the_loss_of_ae_u_is_the_gaussian_likelihood() -> None:
    torch.manual_seed(0)
    network = UncertaintyNetwork(code=1).eval()
    images, body = torch.rand(2, 1, 64, 64), torch.rand(2, 1, 64, 64) > 0.5
    restored, log_variance = network(images)
    likelihood = torch.distributions.Normal(restored, (log_variance / 2).exp()).log_prob(images)
    expected = -likelihood[body].mean() - np.log(2 * np.pi) / 2  # which torch's loss leaves out, as the paper does
    torch.testing.assert_close(network.training_step((images, body), 0), expected)


def test_the_map_of_ae_u_is_the_squared_error_over_the_variance(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    method = fitted(slices, kind=UncertaintyAutoencoder, sigma=0)
    network = next(value for value in vars(method).values() if isinstance(value, UncertaintyNetwork))
    with torch.inference_mode():
        restored, log_variance = network(torch.from_numpy(lesion)[None, None] / 255)
    expected = ((torch.from_numpy(lesion) / 255 - restored) ** 2 / log_variance.exp())[0, 0].numpy()
    found = method.predict(lesion).anomaly_map
    np.testing.assert_allclose(found[lesion > 0], expected[lesion > 0], rtol=1e-4)


def test_ae_u_forgives_what_it_never_can_restore() -> None:
    """Half of the images is noise; a spot in the quiet half stands out more than it does in the map of `ae`."""
    generator = np.random.default_rng(0)
    images = [np.full((32, 32), 120, np.uint8) for _ in range(8)]
    for image in images:
        image[:, 16:] = generator.integers(20, 220, (32, 16))
    shown = images[0].copy()
    shown[14:18, 5:9] = 160
    ratios = []
    for kind in (Autoencoder, UncertaintyAutoencoder):
        found = fitted(images, kind=kind, epochs=40, batch_size=4, sigma=0).predict(shown).anomaly_map
        ratios.append(found[14:18, 5:9].mean() / found[:, 18:].mean())
    assert ratios[1] > 2 * ratios[0]
