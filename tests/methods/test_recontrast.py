import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from miasbench.methods import recontrast
from miasbench.methods.backbones import BACKBONES
from miasbench.methods.recontrast import Reconstruction, ReContrast, hard_cosine_loss, hardness_limit


def fitted(images: list[np.ndarray], seed: int = 0, weights: str = "embedded", **options: object) -> ReContrast:
    method = ReContrast(**({"epochs": 2, "batch_size": 2} | options))  # type: ignore[arg-type]
    method.seed, method.weights = seed, weights
    method.fit(images)
    return method


def test_maps_are_finite_and_tell_a_lesion_from_none(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    method = fitted(slices)
    normal, anomalous = method.predict(slices[0]), method.predict(lesion)
    for prediction in (normal, anomalous):
        assert prediction.anomaly_map.shape == (64, 64)
        assert prediction.anomaly_map.dtype == np.float32
        assert 0 <= prediction.anomaly_map.min() <= prediction.image_score <= 12
        assert prediction.image_score == prediction.anomaly_map.max()
    assert not np.allclose(normal.anomaly_map, anomalous.anomaly_map)


def test_the_seed_decides(slices: list[np.ndarray], lesion: np.ndarray) -> None:
    maps = [fitted(slices, seed).predict(lesion).anomaly_map for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_a_constant_image_and_an_odd_size_are_taken() -> None:
    prediction = fitted([np.full((72, 72), 90, np.uint8)] * 2).predict(np.zeros((72, 72), np.uint8))
    assert prediction.anomaly_map.shape == (72, 72)
    assert np.isfinite(prediction.anomaly_map).all()


def test_hardness_rises_in_the_first_tenth() -> None:
    limits = [hardness_limit(progress) for progress in (0, 0.05, 0.1, 0.5, 1)]
    assert limits == pytest.approx([-3, -1, 1, 1, 1])


def test_hardness_follows_the_share_of_the_training(slices: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(recontrast, "hardness_limit", lambda progress: seen.append(progress) or 0.0)
    fitted(slices, epochs=2, batch_size=2)
    assert seen == [0, 0.25, 0.5, 0.75]


def test_only_hard_places_change_the_gradient_and_only_the_decoded_map_has_one() -> None:
    torch.manual_seed(0)
    encoded = torch.randn(2, 6, 4, 4, requires_grad=True)
    decoded = (encoded.detach() + 0.5 * torch.randn(2, 6, 4, 4)).requires_grad_()
    whole = torch.autograd.grad(hard_cosine_loss(encoded, decoded, hardness=-100), decoded)[0]
    loss = hard_cosine_loss(encoded, decoded, hardness=1)
    loss.backward()
    assert encoded.grad is None
    assert decoded.grad is not None
    distances = 1 - torch.cosine_similarity(encoded, decoded).detach()
    hard = (distances >= distances.mean() + distances.std())[:, None].expand_as(decoded)
    assert 0 < hard.sum() < hard.numel() / 2
    torch.testing.assert_close(decoded.grad[hard], whole[hard])
    assert (decoded.grad[~hard] == 0).all()
    assert loss.item() == pytest.approx(hard_cosine_loss(encoded, decoded, hardness=-100).item())


def test_the_distance_is_global() -> None:
    """One vector per image: a place of small features weighs little."""
    encoded = torch.tensor([[3.0, 0.0, 0.0, 0.1]]).reshape(1, 2, 1, 2)
    decoded = torch.tensor([[3.0, 0.0, 0.0, -0.1]]).reshape(1, 2, 1, 2)
    assert hard_cosine_loss(encoded, decoded, hardness=-100).item() == pytest.approx(0.02 / 9.01, rel=1e-3)


@pytest.fixture(scope="module")
def network() -> Reconstruction:
    torch.manual_seed(0)
    return Reconstruction(BACKBONES["embedded"], "stored").train()


def test_encoders_are_restored_from_one_another(network: Reconstruction) -> None:
    """The decoder of the trained encoder's features restores the frozen one's, and only there the encoder learns."""
    images = torch.randn(2, 3, 64, 64)
    encoded, decoded = network(images)
    assert [part.shape for part in encoded] == [part.shape for part in decoded]
    for one, frozen in zip(encoded[:3], network.frozen(images), strict=True):
        torch.testing.assert_close(one, frozen)
        assert not one.requires_grad
    parameter = next(network.encoder.parameters())
    assert torch.autograd.grad(decoded[0].sum(), parameter, retain_graph=True)[0].abs().sum() > 0
    of_frozen = hard_cosine_loss(encoded[3], network.outputs[1]([part.detach() for part in decoded[3:]])[0], 1)
    assert torch.autograd.grad(of_frozen, parameter, retain_graph=True, allow_unused=True)[0] is None


def test_statistics_stay_or_follow_the_batch(network: Reconstruction) -> None:
    def running(model: Reconstruction, encoder: str) -> torch.Tensor:
        return next(value for name, value in getattr(model, encoder).named_buffers() if "running_mean" in name).clone()

    other = Reconstruction(BACKBONES["embedded"], "batch").train()
    for model, moves in ((network, False), (other, True)):
        before = running(model, "encoder"), running(model, "frozen")
        model(torch.randn(2, 3, 64, 64))
        assert torch.equal(before[0], running(model, "encoder")) is not moves
        assert torch.equal(before[1], running(model, "frozen"))


def test_training_moves_the_encoder_lowers_the_loss_and_leaves_the_frozen_one(slices: list[np.ndarray]) -> None:
    told: list[str] = []
    method = ReContrast(epochs=24, batch_size=4)
    method.weights = "embedded"
    method.progress = lambda stage, done, total: told.append(stage)
    method.fit(slices)
    losses = [float(text.rpartition(" ")[2]) for text in told if "loss" in text]
    assert losses[-1] < 0.8 * losses[0]
    pairs = zip(method._network.encoder.parameters(), method._network.frozen.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    pretrained = Reconstruction(BACKBONES["embedded"], "stored")
    for one, other in zip(pretrained.frozen.parameters(), method._network.frozen.parameters(), strict=True):
        assert torch.equal(one, other)


def test_by_default_the_authors_steps_are_made() -> None:
    schedule = ReContrast().schedule
    assert (schedule.batch_size, schedule.steps) == (32, 1000)


@pytest.mark.slow
def test_the_published_path_runs_with_random_weights(
    slices: list[np.ndarray], hub: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As deep as the published network, and a quarter as wide: what is trained would take 2 GB."""
    import timm
    from safetensors.torch import save_file

    monkeypatch.setattr(timm, "create_model", functools.partial(timm.create_model, channels=(16, 32, 64, 128)))
    torch.manual_seed(0)
    save_file(timm.create_model("wide_resnet50_2").state_dict(), hub("timm/wide_resnet50_2.racm_in1k"))
    method = fitted(slices[:1], weights="published", epochs=1)
    assert method.weights_used()[0].kind == "published"
    assert np.isfinite(method.predict(slices[0]).anomaly_map).all()
