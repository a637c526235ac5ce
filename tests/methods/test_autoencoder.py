import numpy as np
import pytest
import torch

from miasbench.methods.autoencoder import Autoencoder, Network, body_loss


def fitted(images: list[np.ndarray], seed: int = 0, **options: float) -> Autoencoder:
    method = Autoencoder(**({"epochs": 2, "batch_size": 2} | options))  # type: ignore[arg-type]
    method.seed = seed
    method.fit(images)
    return method


def test_maps_are_finite_and_tell_a_lesion_from_none(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    method = fitted(slices)
    normal, anomalous = method.predict(slices[0]), method.predict(lesion)
    for prediction in (normal, anomalous):
        assert prediction.anomaly_map.shape == (64, 64)
        assert prediction.anomaly_map.dtype == np.float32
        assert np.isfinite(prediction.anomaly_map).all()
        assert prediction.image_score == prediction.anomaly_map.max()
    assert not np.allclose(normal.anomaly_map, anomalous.anomaly_map)


def test_the_seed_decides(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    maps = [fitted(slices, seed).predict(lesion).anomaly_map for seed in (0, 0, 1)]
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


def test_a_constant_image_and_an_odd_size_are_taken() -> None:
    prediction = fitted([np.full((50, 50), 90, np.uint8)]).predict(np.full((50, 50), 120, np.uint8))
    assert prediction.anomaly_map.shape == (50, 50)
    assert np.isfinite(prediction.anomaly_map).all()


def test_the_loss_is_that_of_the_body() -> None:
    grey = torch.zeros(1, 1, 2, 2)
    restored = torch.tensor([[1.0, 2.0], [5.0, 5.0]])[None, None]
    body = torch.tensor([[True, True], [False, False]])[None, None]
    assert body_loss(grey, restored, body).item() == pytest.approx((1 + 4) / 2)
    assert body_loss(grey, restored, torch.zeros_like(body)).item() == 0


def test_the_code_is_narrow() -> None:
    network = Network(code=4)
    codes = []
    network.layers[6].register_forward_hook(lambda layer, inputs, output: codes.append(inputs[0].shape))
    network(torch.zeros(1, 1, 256, 256))
    assert codes == [(1, 4, 8, 8)]


def test_training_lowers_the_loss(slices: list[np.ndarray]) -> None:
    told: list[str] = []
    method = Autoencoder(epochs=8, batch_size=4)
    method.progress = lambda stage, done, total: told.append(stage)
    method.fit(slices)
    losses = [float(text.rpartition(" ")[2]) for text in told if "loss" in text]
    assert losses[-1] < 0.7 * losses[0]
