from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.models.components import KCenterGreedy
from sklearn.metrics import roc_auc_score

from miasbench.datasets.phantom import phantom_retina_oct
from miasbench.harness.api import Method, Prediction, Weights
from miasbench.harness.data.frame import frame_image, frame_mask
from miasbench.harness.registry import build_method
from miasbench.harness.running.device import seed_everything
from miasbench.methods.backbones import BACKBONES
from miasbench.methods.coreset import Coreset
from miasbench.methods.pixels import as_batch


@pytest.fixture(scope="module")
def images() -> dict[str, list[np.ndarray]]:
    dataset = phantom_retina_oct(Path(), train=4, valid=2, test=4)
    loaded = {split: [dataset.load(case) for case in dataset.cases(split)] for split in ("train", "test")}
    return {
        "train": [frame_image(sample.image, 256) for sample in loaded["train"]],
        "test": [frame_image(sample.image, 256) for sample in loaded["test"]],
        "masks": [frame_mask(sample.mask, 256).overlap for sample in loaded["test"]],
    }


def fitted(images: list[np.ndarray], weights: str = "embedded", **options: float) -> Method:
    method = build_method("patchcore", options, weights=weights, device="cpu", seed=0)
    seed_everything(0)
    method.fit(images)
    return method


def test_lesions_stand_out_in_raw_maps(images: dict[str, list[np.ndarray]]) -> None:
    method = fitted(images["train"], coreset=0.05)
    predictions = list(method.predict_many(images["test"]))
    for prediction in predictions:
        assert prediction.anomaly_map.shape == (256, 256)
        assert prediction.anomaly_map.dtype == np.float32
        assert prediction.mask is None
    maps = np.stack([prediction.anomaly_map for prediction in predictions])
    assert maps.max() > 1.5, "distances, not rescaled to 0 to 1"
    assert roc_auc_score(np.stack(images["masks"]).ravel(), maps.ravel()) > 0.8


def test_the_same_seed_gives_the_same_maps(images: dict[str, list[np.ndarray]]) -> None:
    one, other = (fitted(images["train"][:2]).predict(images["test"][0]) for _ in range(2))
    np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)
    assert one.image_score == other.image_score


def test_a_prediction_does_not_depend_on_the_one_before(images: dict[str, list[np.ndarray]]) -> None:
    method = fitted(images["train"][:2])
    first = method.predict(images["test"][0])
    method.predict(images["test"][1])
    np.testing.assert_array_equal(method.predict(images["test"][0]).anomaly_map, first.anomaly_map)


def test_the_whole_bank_knows_its_own_images(images: dict[str, list[np.ndarray]]) -> None:
    method = fitted(images["train"][:1], coreset=1.0)
    known, other = method.predict(images["train"][0]), method.predict(images["test"][3])
    assert known.anomaly_map.max() < 0.05 * other.anomaly_map.max()


def test_every_embedded_parameter_finds_its_place() -> None:
    """The package's file and timm's whole network hold the same tensors, under other names."""
    import timm

    backbone = BACKBONES["embedded"]
    network = timm.create_model(backbone.name)
    backbone.load_into(network)
    file = torch.load(backbone.fetch(), map_location="cpu", weights_only=True)

    def tensors(state: dict[str, torch.Tensor]) -> list[tuple[tuple[int, ...], float]]:
        return sorted((tuple(value.shape), float(value.double().sum())) for value in state.values())

    assert tensors(network.state_dict()) == tensors(file)


def test_embedded_statistics_are_those_of_the_activations(images: dict[str, list[np.ndarray]]) -> None:
    """Parameters in wrong places would give each layer inputs that its stored mean and deviation do not know."""
    import timm

    backbone = BACKBONES["embedded"]
    network = timm.create_model(backbone.name).eval()
    backbone.load_into(network)
    spread: list[float] = []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):

            def keep(layer: torch.nn.Module, inputs: tuple[torch.Tensor], _output: torch.Tensor) -> None:
                deviation = inputs[0].std(dim=(0, 2, 3)) / layer.get_buffer("running_var").sqrt()
                spread.append(float(deviation.median()))

            module.register_forward_hook(keep)
    with torch.inference_mode():
        network(backbone.normalise(as_batch(images["test"][:1], "cpu")))
    assert len(spread) == 49
    assert min(spread) > 0.1
    assert max(spread) < 10


@pytest.mark.parametrize("ratio", [0.01, 0.3])
def test_the_coreset_is_anomalibs(ratio: float) -> None:
    patches = torch.from_numpy(np.random.default_rng(0).normal(size=(700, 40)).astype(np.float32))
    told: list[tuple[str, int, int]] = []
    selected = []
    for sampler in (KCenterGreedy(patches, ratio), Coreset(patches, ratio, lambda *step: told.append(step))):
        seed_everything(0)
        with torch.inference_mode():
            selected.append(sampler.select_coreset_idxs())
    assert selected[0] == selected[1]
    assert len(set(selected[1])) == int(700 * ratio)
    assert told[-1] == ("coreset", len(selected[1]) - 1, len(selected[1]) - 1)


@pytest.mark.slow
def test_the_published_path_runs_with_random_weights(
    images: dict[str, list[np.ndarray]], hub: Callable[[str], Path]
) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("wide_resnet50_2").state_dict(), hub("timm/wide_resnet50_2.racm_in1k"))
    method = fitted(images["train"][:1], weights="published")
    used = method.weights_used()[0]
    assert (used.name, used.kind) == ("wide_resnet50_2", "published")
    assert isinstance(used, Weights)
    prediction = method.predict(images["test"][0])
    assert isinstance(prediction, Prediction)
    assert prediction.anomaly_map.shape == (256, 256)
