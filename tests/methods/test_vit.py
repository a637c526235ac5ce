from functools import partial
from typing import Any

import pytest
import torch
from segment_anything.modeling.image_encoder import ImageEncoderViT

from miasbench.harness.api import UsageError
from miasbench.methods.mias_sam.vit import FastViT


def encoder(size: int = 160, window: int = 4, **options: Any) -> ImageEncoderViT:
    """Random weights, also where segment-anything starts with zeros; attention that is far from uniform."""
    torch.manual_seed(0)
    options = {"embed_dim": 64, "depth": 3, "num_heads": 4, "global_attn_indexes": (1,)} | options
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    network = ImageEncoderViT(img_size=size, window_size=window, use_rel_pos=True, norm_layer=norm, **options)  # pyright: ignore[reportArgumentType]
    for name, value in network.requires_grad_(False).named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            value.normal_(0, 0.5)
        elif "qkv.weight" in name:
            value.mul_(2)
    return network.eval()


def pixels(size: int = 160, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def relative_error(features: torch.Tensor, expected: torch.Tensor) -> float:
    return float((features - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("size", "window"),
    [
        pytest.param(160, 5, id="windows divide the grid"),
        pytest.param(160, 4, id="windows reach over the edge"),
        pytest.param(48, 4, id="one window is larger than the grid"),
        pytest.param(320, 7, id="more rows than a band, and not a multiple of it"),
    ],
)
def test_features_are_segment_anythings(size: int, window: int) -> None:
    theirs = encoder(size, window)
    expected = theirs(pixels(size))
    features = FastViT(theirs, input_size=size)(pixels(size))
    assert features.dtype == torch.float32
    assert features.shape == expected.shape
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    reduced = FastViT(theirs, "bfloat16", size)(pixels(size))
    assert reduced.dtype == torch.float32
    assert 1e-5 < relative_error(reduced, expected) < 0.02


def test_relative_positions_matter_here() -> None:
    """Otherwise the comparisons above could not find a wrong one."""
    theirs = encoder()
    expected = theirs(pixels())
    for block in theirs.blocks:
        block.attn.rel_pos_h.copy_(block.attn.rel_pos_h.flip(0))  # pyright: ignore
    assert relative_error(theirs(pixels()), expected) > 0.05


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_batch_is_its_images_one_by_one(precision: Any) -> None:
    ours = FastViT(encoder(), precision, 160)
    batch = pixels(count=3)
    expected = torch.cat([ours(image[None]) for image in batch])
    assert relative_error(ours(batch), expected) < (1e-5 if precision == "float32" else 0.01)


@pytest.mark.parametrize("size", [80, 96, 240])
def test_another_input_size_interpolates_positions(size: int) -> None:
    theirs = encoder()
    ours = FastViT(theirs, input_size=size)
    assert ours.img_size == size
    features = ours(pixels(size))
    assert features.shape == (1, 256, size // 16, size // 16)
    # segment-anything interpolates relative positions itself, but not absolute ones.
    positions = theirs.pos_embed
    assert positions is not None
    resized = torch.nn.functional.interpolate(
        positions.permute(0, 3, 1, 2), (size // 16, size // 16), mode="bicubic", antialias=True
    )
    theirs.pos_embed = torch.nn.Parameter(resized.permute(0, 2, 3, 1), requires_grad=False)
    torch.testing.assert_close(features, theirs(pixels(size)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_encoder_that_is_taken_over_still_computes_the_same(precision: Any) -> None:
    theirs = encoder()
    expected = theirs(pixels())
    image = pixels()
    FastViT(theirs, precision, 160)(image)
    torch.testing.assert_close(theirs(pixels()), expected, rtol=0, atol=0)
    torch.testing.assert_close(image, pixels(), rtol=0, atol=0)


def test_state_is_saved_and_moved_as_any_modules() -> None:
    ours = FastViT(encoder(), "bfloat16", 160).to("cpu").eval().requires_grad_(False)
    other = encoder()
    for value in other.parameters():
        value.normal_()
    restored = FastViT(other, "bfloat16", 160)
    restored.load_state_dict(ours.state_dict())
    torch.testing.assert_close(restored(pixels()), ours(pixels()), rtol=0, atol=0)
    assert {value.device.type for value in FastViT(encoder(), "float32", 160).to("meta").state_dict().values()} == {
        "meta"
    }


def test_an_option_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        FastViT(encoder(), input_size=1000)
    with pytest.raises(UsageError, match="multiple of 16"):
        FastViT(encoder(), input_size=0)
    with pytest.raises(UsageError, match="float16"):
        FastViT(encoder(), "float16")  # pyright: ignore[reportArgumentType]


@pytest.mark.soak
def test_features_at_the_width_and_the_input_size_of_vit_b() -> None:
    theirs = encoder(1024, 14, embed_dim=768, depth=2, num_heads=12)
    expected = theirs(pixels(1024))
    features = FastViT(theirs)(pixels(1024))
    assert (features - expected).abs().max() < 1e-4 * expected.abs().max()


def test_bfloat16_costs_a_deep_encoder_less_than_it_costs_segment_anythings() -> None:
    """Many random layers this sharp amplify any rounding, so that no fixed tolerance would say much."""
    # Narrow, and of few pixels: a processor without instructions for bfloat16 takes hours for a whole ViT-B.
    theirs = encoder(depth=12, global_attn_indexes=(2, 5, 8, 11))
    expected = theirs(pixels())
    reduced = FastViT(theirs, "bfloat16", 160)(pixels())
    with torch.autocast("cpu", torch.bfloat16):
        autocast = theirs(pixels())
    assert relative_error(reduced, expected) < relative_error(autocast.float(), expected)
