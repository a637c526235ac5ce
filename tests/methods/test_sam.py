from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.measure import label

from miasbench.datasets.phantom import phantom_brain_mri
from miasbench.harness.metrics import Overlap
from miasbench.methods.mias_sam.sam import Prompt, Sam, load_sam
from miasbench.methods.weights import SAM


class Encoder(torch.nn.Module):
    img_size = 64

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 1)


class PromptEncoder(torch.nn.Module):
    def forward(
        self, points: tuple[torch.Tensor, torch.Tensor] | None, boxes: torch.Tensor | None, masks: None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if points is not None:
            assert points[1].tolist() == [[1]], "a point is a foreground point"
            return points[0], None
        return None, boxes

    def get_dense_pe(self) -> torch.Tensor:
        return torch.zeros(1)


class Decoder(torch.nn.Module):
    """Marks the point, or fills the box, on a grid of 16 x 16; the second mask is larger, the third empty."""

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_pe: torch.Tensor,
        sparse_prompt_embeddings: torch.Tensor | None,
        dense_prompt_embeddings: torch.Tensor | None,
        multimask_output: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.full((1, 3, 16, 16), -1.0)
        if sparse_prompt_embeddings is not None:
            x, y = (sparse_prompt_embeddings[0, 0] / 4).int().tolist()
            logits[0, 0, y, x] = 9
        if dense_prompt_embeddings is not None:
            x0, y0, x1, y1 = (dense_prompt_embeddings[0] / 4).int().tolist()
            logits[0, 0, y0:y1, x0:x1] = 9
        logits[0, 1, :8] = 1
        count = 3 if multimask_output else 1
        return logits[:, :count], torch.tensor([[0.5, 0.9, 0.1]])[:, :count]


@pytest.fixture
def sam() -> Sam:
    network = torch.nn.Module()
    network.image_encoder, network.prompt_encoder, network.mask_decoder = Encoder(), PromptEncoder(), Decoder()
    return Sam(network, lambda rgb: rgb[None].float(), "cpu")


def test_prompts_are_scaled_to_the_networks_input(sam: Sam) -> None:
    features = sam.encode(np.zeros((32, 32), np.uint8))
    masks, scores = sam.decode(features, Prompt(point=(20.0, 6.0)), 32, multimask=True)
    assert masks.shape == (3, 32, 32)
    assert masks.dtype == bool
    assert scores.tolist() == pytest.approx([0.5, 0.9, 0.1])
    y, x = np.argwhere(masks[0]).mean(axis=0)
    assert (x, y) == pytest.approx((20.5, 6.5), abs=1), "the centre of the marked cell"
    masks, scores = sam.decode(features, Prompt(box=(4, 8, 20, 24)), 32, multimask=False)
    assert masks.shape == (1, 32, 32)
    assert len(scores) == 1
    rows, columns = np.flatnonzero(masks[0].any(axis=1)), np.flatnonzero(masks[0].any(axis=0))
    assert (columns[0], rows[0], columns[-1], rows[-1]) == pytest.approx((4, 8, 19, 23), abs=1)


def test_encoding_takes_any_view_of_an_image(sam: Sam) -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    flipped = sam.encode(image[:, ::-1])
    np.testing.assert_array_equal(flipped[0, 0].numpy(), image[:, ::-1])
    assert flipped.shape[1] == 3


def test_lite_medsam_finds_a_lesion_in_its_box() -> None:
    """With the true box this network is known to be good; so preparation, scaling and decoding are right."""
    sam = load_sam("lite_medsam", SAM["lite_medsam"].fetch(), "cpu")
    dataset = phantom_brain_mri(Path(), train=2, valid=2, test=12)
    dices = []
    for case in dataset.cases("test")[6:]:
        image, lesions = dataset.load(case)
        regions = np.asarray(label(lesions))
        mask = regions == np.bincount(regions.ravel())[1:].argmax() + 1
        y, x = np.nonzero(mask)
        features = sam.encode(image)
        assert features.shape == (1, 256, 64, 64)
        box = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
        masks, _ = sam.decode(features, Prompt(box=box), 256, multimask=False)
        dices.append(Overlap.of(masks[0], mask).dice)
    assert np.mean(dices) > 0.6


def test_preparation_is_that_of_segment_anything() -> None:
    from segment_anything.utils.transforms import ResizeLongestSide

    from miasbench.methods.mias_sam.sam import _standardise  # pyright: ignore[reportPrivateUsage]

    image = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    rgb = np.repeat(image[:, :, None], 3, axis=2)
    theirs = torch.from_numpy(ResizeLongestSide(1024).apply_image(rgb)).permute(2, 0, 1).float()
    network = SimpleNamespace(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    expected = (theirs - torch.tensor(network.mean)[:, None, None]) / torch.tensor(network.std)[:, None, None]
    ours = _standardise(torch.from_numpy(rgb).permute(2, 0, 1))[0]
    assert (ours - expected).abs().max() <= 1.01 / 57, "at most one grey level from rounding"
