from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miasbench.datasets.phantom import phantom_liver_ct
from miasbench.harness.api import Method, UsageError
from miasbench.harness.registry import build_method
from miasbench.methods.mias_sam import MiasSam, method
from miasbench.methods.mias_sam.memory_bank import MemoryBank, anomaly_map, patch_descriptors
from miasbench.methods.mias_sam.prompts import centroid_prompt
from miasbench.methods.mias_sam.sam import Prompt, Sam


class BlurSam:
    """Stands in for SAM where no real features are needed: 256 fixed filters, and a mask around the prompt."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        self._filters = torch.randn(256, 1, 4, 4, generator=rng)
        self.encoded = 0
        self.prompts: list[Prompt] = []

    def encode(self, image: np.ndarray) -> torch.Tensor:
        self.encoded += 1
        pixels = torch.from_numpy(image.copy()).float()[None, None] / 255
        return torch.nn.functional.conv2d(pixels, self._filters, stride=4)

    def decode(
        self, features: torch.Tensor, prompt: Prompt, size: int, multimask: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        self.prompts.append(prompt)
        count = 3 if multimask else 1
        masks = np.zeros((count, size, size), bool)
        for index in range(count):
            masks[index, : index + 1] = True
        return masks, np.array([0.2, 0.9, 0.4], np.float32)[:count]


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> BlurSam:
    sam = BlurSam()
    monkeypatch.setattr(method, "load_sam", lambda *_: sam)
    return sam


@pytest.fixture(scope="module")
def images() -> dict[str, list[np.ndarray]]:
    dataset = phantom_liver_ct(Path(), train=4, valid=2, test=4)
    return {split: [dataset.load(case).image for case in dataset.cases(split)] for split in ("train", "test")}


def make(**options: Any) -> Method:
    return build_method("mias_sam", options, weights="embedded", device="cpu", seed=0)


def predict(fitted: Method, images: Sequence[np.ndarray]) -> list[Any]:
    return list(fitted.predict_many(images))


def test_the_steps_of_the_paper_in_order(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    """The whole procedure, written out once more with numpy for `normalisation=test_set`."""
    fitted = make(flip=0.0, normalisation="test_set", prompt="centroid", mask="predicted_iou")
    fitted.fit(images["train"])
    predictions = predict(fitted, images["test"])

    bank = MemoryBank(4)
    reference = BlurSam()
    for image in images["train"]:
        bank.add(patch_descriptors(reference.encode(image), 5, 2, 1024)[0].numpy())
    distances = [
        bank.distances(patch_descriptors(reference.encode(image), 5, 2, 1024)[0].numpy(), 1) for image in images["test"]
    ]
    maps = np.stack([anomaly_map(one, 256, 4.0) for one in distances])
    normalised = (maps - maps.min()) / (maps.max() - maps.min())
    for index, prediction in enumerate(predictions):
        np.testing.assert_array_equal(prediction.anomaly_map, maps[index])
        assert prediction.image_score == distances[index].max()
        expected = centroid_prompt(normalised[index] ** 5)
        assert expected is not None
        assert expected.point is not None
        assert blur.prompts[index].point == pytest.approx(expected.point, rel=1e-4)
        assert prediction.mask.sum() == 2 * 256, "the second of three masks has the highest predicted IoU"


def test_no_image_passes_the_encoder_twice(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    for normalisation in ("train", "image", "test_set"):
        fitted = make(normalisation=normalisation)
        blur.encoded = 0
        fitted.fit(images["train"])
        assert blur.encoded == 4
        predict(fitted, images["test"])
        assert blur.encoded == 8


@pytest.mark.parametrize("normalisation", ["train", "image"])
def test_a_prediction_does_not_depend_on_other_test_images(
    blur: BlurSam, images: dict[str, list[np.ndarray]], normalisation: str
) -> None:
    fitted = make(normalisation=normalisation)
    assert not fitted.transductive
    fitted.fit(images["train"])
    together = predict(fitted, images["test"])
    prompts = list(blur.prompts)
    alone = fitted.predict(images["test"][3])
    np.testing.assert_array_equal(alone.anomaly_map, together[3].anomaly_map)
    assert blur.prompts[-1] == prompts[3]


def test_test_set_normalisation_is_transductive(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    fitted = make(normalisation="test_set")
    assert fitted.transductive
    fitted.fit(images["train"])
    rng = np.random.default_rng(0)
    noises = [rng.integers(0, top, (256, 256), dtype=np.uint8) for top in (30, 120, 250)]
    predict(fitted, noises)
    together = blur.prompts[:]
    blur.prompts.clear()
    for image in noises:
        predict(fitted, [image])
    assert blur.prompts != together, "the minimum that was subtracted came from another image"


def test_the_floor_of_train_comes_from_leave_one_out_maps(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    fitted = make(flip=0.0, gamma=1.0, prompt="centroid")
    fitted.fit(images["train"])
    prediction = fitted.predict(images["test"][3])
    described = [patch_descriptors(blur.encode(image), 5, 2, 1024)[0].numpy() for image in images["train"]]
    floors = []
    for left_out in range(4):
        bank = MemoryBank(3)
        for index, rows in enumerate(described):
            if index != left_out:
                bank.add(rows)
        floors.append(anomaly_map(bank.distances(described[left_out], 1), 256, 4.0).min())
    expected = centroid_prompt(np.clip(prediction.anomaly_map - min(floors), 0, None))
    assert expected is not None
    assert expected.point is not None
    assert blur.prompts[-1].point == pytest.approx(expected.point, rel=1e-4)


@pytest.mark.parametrize(
    ("mask", "rows"), [("0", 1), ("1", 2), ("2", 3), ("predicted_iou", 2), ("single", 1), ("auto", 1)]
)
def test_which_mask(blur: BlurSam, images: dict[str, list[np.ndarray]], mask: str, rows: int) -> None:
    fitted = make(mask=mask, calibration_images=1)
    fitted.fit(images["train"][:2])
    prediction = fitted.predict(images["test"][3])
    assert prediction.mask is not None
    assert prediction.mask.sum() == rows * 256


def test_training_images_are_flipped_by_the_seed(
    monkeypatch: pytest.MonkeyPatch, images: dict[str, list[np.ndarray]]
) -> None:
    seen: list[np.ndarray] = []

    class Watching(BlurSam):
        def encode(self, image: np.ndarray) -> torch.Tensor:
            seen.append(image.copy())
            return super().encode(image)

    monkeypatch.setattr(method, "load_sam", lambda *_: Watching())

    def flips(seed: int, flip: float) -> list[bool]:
        seen.clear()
        build_method("mias_sam", {"flip": flip}, weights="embedded", device="cpu", seed=seed).fit(images["train"] * 3)
        return [bool((one != image).any()) for one, image in zip(seen, images["train"] * 3, strict=True)]

    assert flips(0, 0.5) == flips(0, 0.5) != flips(1, 0.5)
    assert not any(flips(0, 0.0))
    assert all(flips(0, 1.0))
    for one, image in zip(seen, images["train"] * 3, strict=True):
        np.testing.assert_array_equal(one, image[:, ::-1])


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_image_has_an_empty_mask_and_a_note(
    blur: BlurSam, images: dict[str, list[np.ndarray]], value: int
) -> None:
    fitted = make()
    fitted.fit(images["train"][:2])
    prediction = fitted.predict(np.full((256, 256), value, np.uint8))
    assert prediction.mask is not None
    assert not prediction.mask.any()
    assert prediction.note == "the image is constant: no centre of gravity, no mask"
    assert np.isfinite(prediction.anomaly_map).all()
    assert not blur.prompts


def test_a_flat_map_has_an_empty_mask_and_a_note(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    """Constant training images leave every one out at distance 0, and so is the bank for an image among them."""
    fitted = make(flip=0.0, normalisation="image")
    fitted.fit(images["test"][3:] * 2)
    prediction = fitted.predict(images["test"][3])
    assert prediction.anomaly_map.max() < 1e-2
    fitted.fit([np.zeros((256, 256), np.uint8)] * 2)
    checkered = np.tile(np.kron([[0, 255], [255, 0]], np.ones((4, 4))).astype(np.uint8), (32, 32))
    assert np.isfinite(fitted.predict(checkered).anomaly_map).all()


def test_defaults_follow_the_encoder() -> None:
    embedded = make()
    assert embedded.options()["encoder"] == "lite_medsam"
    assert (embedded.options()["prompt"], embedded.options()["mask"]) == ("centroid_box", "single")
    published = MiasSam()
    assert published.options() == {
        "encoder": "vit_b",
        "flip": 0.5,
        "patch_size": 5,
        "stride": 2,
        "descriptor_size": 1024,
        "neighbours": 1,
        "sigma": 4.0,
        "normalisation": "train",
        "calibration_images": 32,
        "gamma": 5.0,
        "prompt": "centroid",
        "box_scale": 1.5,
        "mask": "predicted_iou",
    }
    assert MiasSam(encoder="medsam").options()["prompt"] == "centroid_box"
    assert MiasSam(encoder="vit_h", prompt="centroid_box").options()["prompt"] == "centroid_box"


@pytest.mark.parametrize(
    ("options", "weights", "says"),
    [
        ({"encoder": "vit_b"}, "embedded", "vit_b has no embedded weights"),
        ({"encoder": "lite_medsam"}, "published", "lite_medsam has no published weights"),
        ({"patch_size": 4}, "embedded", "must be odd"),
    ],
)
def test_what_does_not_go_together_is_said_before_the_run(options: dict[str, Any], weights: str, says: str) -> None:
    made = build_method("mias_sam", options, weights=weights, device="cpu", seed=0)
    with pytest.raises(UsageError, match=says):
        made.weights_used()


def test_leaving_one_out_needs_two_training_images(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    with pytest.raises(UsageError, match="normalisation=image"):
        make().fit(images["train"][:1])
    make(normalisation="image").fit(images["train"][:1])


def test_progress_is_reported(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    told: list[tuple[str, int, int]] = []
    fitted = make()
    fitted.report = lambda stage, done, total: told.append((stage, done, total))
    fitted.fit(images["train"])
    assert [step for step in told if step[0] == "memory bank"] == [("memory bank", done, 4) for done in range(1, 5)]
    assert ("leave-one-out maps", 4, 4) in told


def test_with_real_features_a_lesion_stands_out() -> None:
    dataset = phantom_liver_ct(Path(), train=6, valid=2, test=4)
    fitted = make(calibration_images=2)
    assert fitted.weights_used()[0].kind == "embedded"
    fitted.fit([dataset.load(case).image for case in dataset.cases("train")])
    case = dataset.cases("test")[-1]
    image, mask = dataset.load(case)
    prediction = fitted.predict(image)
    assert prediction.anomaly_map.shape == (256, 256)
    assert prediction.anomaly_map.dtype == np.float32
    assert prediction.mask is not None
    assert prediction.mask.any()
    assert prediction.anomaly_map[mask].mean() > prediction.anomaly_map[(image > 0) & ~mask].mean()


@pytest.mark.slow
def test_the_published_path_runs_with_random_weights(
    serve: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: dict[str, list[np.ndarray]]
) -> None:
    """SAM ViT-B, whole: download, verification, encoder at 1024 pixels, point prompt, three masks."""
    import pooch
    from segment_anything import sam_model_registry

    from miasbench.methods import weights

    torch.manual_seed(0)
    served = tmp_path / "served"
    served.mkdir()
    torch.save(sam_model_registry["vit_b"](checkpoint=None).state_dict(), served / "random.pth")
    checksum = pooch.file_hash(served / "random.pth")
    source = weights.Download("sam_vit_b", f"{serve(served)}/random.pth", f"sha256:{checksum}")
    monkeypatch.setitem(weights.SAM, "vit_b", source)
    monkeypatch.setenv("MIASBENCH_WEIGHTS", str(tmp_path / "weights"))
    fitted = build_method("mias_sam", {"normalisation": "image"}, weights="published", device="cpu", seed=0)
    assert fitted.weights_used()[0].sha256 == checksum
    fitted.fit(images["train"][:1])
    prediction = fitted.predict(images["test"][3])
    assert prediction.anomaly_map.shape == (256, 256)
    assert prediction.anomaly_map.min() >= 0
    assert prediction.mask is not None
    assert prediction.mask.shape == (256, 256)


def test_sam_keeps_what_the_stand_in_promises() -> None:
    assert {name for name in vars(BlurSam) if not name.startswith("_")} == {
        name for name in vars(Sam) if not name.startswith("_")
    }
