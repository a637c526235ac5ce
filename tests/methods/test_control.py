from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from miasbench.harness.api import Method
from miasbench.harness.registry import build_method
from miasbench.methods.mias_sam import sam_method
from miasbench.methods.mias_sam.prompts import centroid_prompt

from ..support.blur_sam import BlurSam, answer


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> BlurSam:
    sam = BlurSam()
    monkeypatch.setattr(sam_method, "load_sam", lambda *_, **__: sam)
    return sam


@pytest.fixture
def image() -> np.ndarray:
    """A body, grey, with a bright spot right of and below its middle."""
    image = np.full((128, 128), 4, np.uint8)
    image[20:101, 30:111] = 120
    image[70:80, 80:90] = 250
    return image


def make(images: Sequence[np.ndarray] = (), **options: Any) -> Method:
    method = build_method("sam_control", options, weights="embedded", device="cpu", seed=0)
    method.fit(images)
    return method


def test_the_foreground_box_is_the_body_a_fifth_smaller(blur: BlurSam, image: np.ndarray) -> None:
    prediction = make().predict(image)
    (prompt,) = blur.prompts
    assert prediction.prompts == (prompt.box,) == ((38, 28, 102, 92),)
    assert prompt.point is prompt.mask is None
    assert prediction.mask is not None
    np.testing.assert_array_equal(prediction.mask, answer(prompt, 128, 0))
    make(share=0.5).predict(image)
    assert blur.prompts[-1].box == (50, 40, 90, 80)


def test_the_intensity_box_is_the_centroid_box_of_smoothed_grey_values(blur: BlurSam, image: np.ndarray) -> None:
    make(prompt="intensity_box", sigma=3, gamma=4, box_scale=2).predict(image)
    expected = centroid_prompt(gaussian_filter(image / 255, 3) ** 4, 2)
    assert expected is not None
    assert blur.prompts[0].box == pytest.approx(expected.box)
    make(prompt="intensity_box", gamma=40).predict(image)
    left, top, right, bottom = blur.prompts[1].box or (0, 0, 0, 0)
    assert (left + right) / 2 == pytest.approx(84.5, abs=2), "the more, the nearer to the spot"
    assert (top + bottom) / 2 == pytest.approx(74.5, abs=2)


def test_the_vote_is_that_of_the_map_of_intensity(blur: BlurSam, image: np.ndarray) -> None:
    refined = build_method(
        "sam_refine", {"base": "intensity", "prompt": "vote"}, weights="embedded", device="cpu", seed=0
    )
    refined.fit([])
    expected = refined.predict(image)
    asked = len(blur.prompts)
    prediction = make(prompt="vote", sigma=2).predict(image)
    assert prediction.prompts == expected.prompts
    assert len(blur.prompts) == 2 * asked > 20
    assert prediction.mask is not None
    assert prediction.mask.any()
    np.testing.assert_array_equal(prediction.mask, expected.mask)
    assert prediction.image_score == 0
    assert 0 < prediction.anomaly_map.max() <= 1 + 1e-6
    top, left = np.unravel_index(prediction.anomaly_map.argmax(), image.shape)
    assert image[top, left] == 250, "most boxes hold the spot"


@pytest.mark.parametrize("prompt", ["foreground_box", "intensity_box"])
def test_the_map_is_the_box_and_the_score_says_nothing(blur: BlurSam, image: np.ndarray, prompt: str) -> None:
    prediction = make(prompt=prompt).predict(image)
    rows, columns = np.nonzero(prediction.anomaly_map)
    assert blur.prompts[0].box == pytest.approx((columns[0], rows[0], columns[-1], rows[-1]), abs=0.5)
    assert (prediction.anomaly_map[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 1).all()
    assert prediction.anomaly_map.dtype == np.float32
    assert prediction.image_score == 0
    assert prediction.note == ""


@pytest.mark.parametrize("prompt", ["foreground_box", "intensity_box", "vote"])
@pytest.mark.parametrize("value", [0, 90])
def test_a_constant_image_has_an_empty_mask_and_a_note(blur: BlurSam, prompt: str, value: int) -> None:
    prediction = make(prompt=prompt).predict(np.full((64, 64), value, np.uint8))
    assert prediction.mask is not None
    assert not prediction.mask.any()
    assert not prediction.anomaly_map.any()
    assert prediction.note == "the image is constant: no mask"
    assert not blur.prompts


def test_normal_images_teach_it_nothing(blur: BlurSam, image: np.ndarray) -> None:
    fitted = make([image, image])
    assert not blur.encoded
    assert fitted.controls() == fitted.diagnostics() == ()
    assert not fitted.transductive
    prediction = fitted.predict(image)
    assert len(blur.encoded) == 1
    other = make().predict(image)
    np.testing.assert_array_equal(prediction.anomaly_map, other.anomaly_map)


def test_the_time_that_the_encoders_cache_saved_is_counted(blur: BlurSam, image: np.ndarray) -> None:
    blur.saving = 3
    fitted = make()
    fitted.predict(image)
    fitted.predict(image)
    assert fitted.saved_seconds == 6
    assert make().saved_seconds == 0
