from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from miasbench.datasets.phantom import phantom_liver_ct
from miasbench.harness import registry
from miasbench.harness.api import Diagnostic, Method, Prediction, UsageError
from miasbench.harness.registry import build_method
from miasbench.methods.intensity import Intensity
from miasbench.methods.mias_sam import MiasSam, SamRefine, sam_method
from miasbench.methods.mias_sam.prompts import centroid_prompt

from ..support.blur_sam import BlurSam, answer


@dataclass(kw_only=True)
class Recorder(Intensity):
    """The grey value, and what it was told to do."""

    def fit(self, images: Sequence[np.ndarray]) -> None:
        self.seen = [image.tobytes() for image in images]
        self.progress("recording", 1, 1)
        self.saved_seconds += 10

    def predict(self, image: np.ndarray) -> Prediction:
        self.saved_seconds += 1
        return Prediction(super().predict(image).anomaly_map, 7.0, np.ones(image.shape, bool), "recorded")

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return (Diagnostic("seen", len(self.seen), "images"),)


@dataclass(kw_only=True)
class Whole(Intensity):
    """The grey value, of whole splits only."""

    transductive = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def predict(self, image: np.ndarray) -> Prediction:
        raise AssertionError("it is asked for whole splits")

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        for image in list(images):
            yield Intensity.predict(self, image)


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> BlurSam:
    sam = BlurSam()
    monkeypatch.setattr(sam_method, "load_sam", lambda *_, **__: sam)
    monkeypatch.setattr(registry, "method_class", _class_of)
    return sam


_CLASSES = {"recorder": Recorder, "whole": Whole}
_method_class = registry.method_class


def _class_of(name: str) -> type[Method]:
    return _CLASSES.get(name) or _method_class(name)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    dataset = phantom_liver_ct(Path(), train=9, valid=2, test=4)
    return [dataset.load(case).image for case in dataset.cases("train")]


@pytest.fixture
def spot() -> np.ndarray:
    image = np.full((128, 128), 4, np.uint8)
    image[20:101, 30:111] = 120
    image[70:80, 80:90] = 250
    return image


def make(base: str = "intensity", weights: str = "embedded", **options: Any) -> Any:
    return build_method("sam_refine", {"base": base, **options}, weights=weights, device="cpu", seed=3)


def fitted(images: Sequence[np.ndarray], base: str = "intensity", **options: Any) -> Any:
    method = make(base, **options)
    method.fit(images)
    return method


def test_the_map_of_the_base_prompts_sam(blur: BlurSam, images: list[np.ndarray], spot: np.ndarray) -> None:
    prediction = fitted(images, "intensity[sigma=3]", prompt="centroid", gamma=4).predict(spot)
    raw = gaussian_filter(spot.astype(np.float32), 3)
    np.testing.assert_allclose(prediction.anomaly_map, raw)
    assert prediction.image_score == pytest.approx(raw.max())
    expected = centroid_prompt((raw - raw.min()) ** 4)
    assert expected is not None
    assert blur.prompts[0].point == pytest.approx(expected.point, rel=1e-4)
    np.testing.assert_array_equal(prediction.mask, answer(blur.prompts[0], 128, 0))


@pytest.mark.parametrize("prompt", ["centroid_box", "centroid_mask", "peaks", "threshold_boxes", "vote"])
def test_every_prompt_of_mias_sam_is_one_here(
    blur: BlurSam, images: list[np.ndarray], spot: np.ndarray, prompt: str
) -> None:
    prediction = fitted(images, prompt=prompt).predict(spot)
    assert blur.prompts
    assert prediction.mask.any()


def test_defaults_follow_the_encoder_as_those_of_mias_sam() -> None:
    for weights in ("embedded", "published"):
        mine, theirs = (
            method.options()
            for method in (make(weights=weights), build_method("mias_sam", {}, weights=weights, device="cpu", seed=0))
        )
        for name in ("encoder", "prompt", "mask", "gamma", "box_scale"):
            assert mine[name] == theirs[name]
    assert make().controls() == MiasSam().controls()


@pytest.mark.parametrize(("count", "held_out", "expected"), [(2, 8, 1), (9, 8, 2), (9, 1, 1)])
def test_the_floor_of_train_comes_from_images_that_the_base_has_not_seen(
    blur: BlurSam, images: list[np.ndarray], spot: np.ndarray, count: int, held_out: int, expected: int
) -> None:
    train = [np.maximum(image, 20 + 5 * index) for index, image in enumerate(images[:count])]
    options = {"prompt": "centroid", "gamma": 1, "held_out": held_out, "normalisation": "train"}
    method = fitted(train, "recorder", **options)
    held = [image for image in train if image.tobytes() not in method.base.seen]
    assert len(held) == expected
    assert len(method.base.seen) == count - expected
    prediction = method.predict(spot)
    floor = min(gaussian_filter(image.astype(np.float32), 2).min() for image in held)
    centre = centroid_prompt(np.clip(prediction.anomaly_map - floor, 0, None))
    assert centre is not None
    assert blur.prompts[-1].point == pytest.approx(centre.point, rel=1e-4)


def test_the_base_sees_every_image_where_none_is_held_out(blur: BlurSam, images: list[np.ndarray]) -> None:
    for normalisation in ("image", "test_set"):
        method = fitted(images, "recorder", normalisation=normalisation)
        assert method.base.seen == [image.tobytes() for image in images]
        assert [found.metric for found in method.diagnostics()] == ["seen"]


def test_holding_an_image_out_needs_two_training_images(blur: BlurSam, images: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match="normalisation=image"):
        fitted(images[:1], normalisation="train")


def test_test_set_normalisation_is_transductive(blur: BlurSam, images: list[np.ndarray], spot: np.ndarray) -> None:
    method = fitted(images, normalisation="test_set", prompt="centroid", gamma=1)
    assert method.transductive
    dark, bright = np.maximum(spot, 60), np.maximum(spot, 90)
    list(method.predict_many([dark, bright]))
    expected = centroid_prompt(gaussian_filter(bright.astype(np.float32), 2) - 60)
    assert expected is not None
    assert blur.prompts[1].point == pytest.approx(expected.point, rel=1e-4), "the minimum is the other image's"


def test_a_transductive_base_is_transductive(blur: BlurSam, images: list[np.ndarray], spot: np.ndarray) -> None:
    method = fitted(images, "whole")
    assert method.transductive
    assert not make().transductive
    assert len(list(method.predict_many([spot, spot]))) == 2


def test_many_are_as_one_by_one(blur: BlurSam, images: list[np.ndarray], spot: np.ndarray) -> None:
    method = fitted(images)
    many = list(method.predict_many([spot, images[0]]))
    for image, found in zip((spot, images[0]), many, strict=True):
        alone = method.predict(image)
        np.testing.assert_array_equal(found.anomaly_map, alone.anomaly_map)
        np.testing.assert_array_equal(found.mask, alone.mask)


def test_what_the_base_says_and_saves_is_passed_on(blur: BlurSam, images: list[np.ndarray], spot: np.ndarray) -> None:
    told = []
    method = make("recorder")
    method.progress = lambda *step: told.append(step)
    method.fit(images)
    assert told == [("recording", 1, 1)]
    assert method.saved_seconds == 10
    blur.saving = 3
    prediction = method.predict(spot)
    assert method.saved_seconds == 10 + 1 + 3
    list(method.predict_many([spot, spot]))
    assert method.saved_seconds == 10 + 3 * (1 + 3)
    assert (prediction.note, prediction.image_score) == ("recorded", 7.0)
    assert not prediction.mask.all(), "the base's own mask is not looked at"
    flat = method.predict(np.full((64, 64), 9, np.uint8))
    assert flat.note == "recorded; the image is constant: no mask"
    assert not flat.mask.any()


def test_weights_and_options_are_those_of_both() -> None:
    method = make("patchcore[coreset=0.5]")
    assert [weights.name for weights in method.weights_used()] == ["lite_medsam", "tf_efficientnet_lite0"]
    own = build_method("patchcore", {"coreset": 0.5}, weights="embedded", device="cpu", seed=0).options()
    assert method.options()["base"] == {"method": "patchcore[coreset=0.5]", **own}
    assert (method.base.weights, method.base.seed) == ("embedded", 3)
    assert [weights.name for weights in make("mias_sam").weights_used()] == ["lite_medsam"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("sam_refine", "sam_refine needs the option base: sam_refine[base=…]"),
        ("sam_refine[base=patchcor]", "sam_refine.base: There is no method 'patchcor'. Did you mean 'patchcore'?"),
        ("sam_refine[base=patchcore[coreset=2]]", "sam_refine.base: patchcore[coreset=2].coreset=2: "),
        ("sam_refine[base=patchcore[k=2]]", "sam_refine.base: patchcore[k=2] has no option 'k'"),
        (
            "sam_refine[base=sam_refine[base=intensity[sigma=1]]]",
            "the map of sam_refine[base=intensity[sigma=1]] is that of intensity[sigma=1], so use "
            "base=intensity[sigma=1].",
        ),
    ],
)
def test_what_cannot_be_a_base_is_one_message(spec: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_method(spec, {}, weights="embedded", device="cpu", seed=0)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_base_without_such_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Intensity, "uses_weights", ("published",))
    with pytest.raises(UsageError, match=r"sam_refine\.base: intensity has no embedded weights. It has published ones"):
        make()


@pytest.mark.parametrize("base", ["intensity", "patchcore", "mias_sam"])
def test_with_a_real_sam(base: str) -> None:
    dataset = phantom_liver_ct(Path(), train=3, valid=2, test=4)
    method = make(base)
    assert isinstance(method, SamRefine)
    assert {weights.kind for weights in method.weights_used()} == {"embedded"}
    method.fit([dataset.load(case).image for case in dataset.cases("train")])
    prediction = method.predict(dataset.load(dataset.cases("test")[-1]).image)
    assert prediction.anomaly_map.shape == (256, 256)
    assert prediction.mask is not None
    assert prediction.mask.dtype == bool
    assert 0 < prediction.mask.mean() < 0.5
