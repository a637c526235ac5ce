import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miasbench.methods.mias_sam.prompts import centroid_prompt, foreground_box, peak_prompts, square, threshold_boxes


def bump(x: float, y: float, height: float = 1.0, width: float = 6.0, size: int = 96) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))


def test_the_point_is_the_weighted_mean_in_x_and_y() -> None:
    weights = np.zeros((10, 20), np.float32)
    weights[3, 7] = 3
    weights[5, 15] = 1
    prompt = centroid_prompt(weights)
    assert prompt is not None
    assert prompt.point == pytest.approx((9, 3.5))
    assert prompt.box is None


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 4))
def test_the_box_is_so_many_weighted_deviations_wide(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random((12, 17)) ** 4
    y, x = np.mgrid[:12, :17]
    total = weights.sum()
    mean_x, mean_y = (weights * x).sum() / total, (weights * y).sum() / total
    half_x = scale * np.sqrt((weights * (x - mean_x) ** 2).sum() / total)
    half_y = scale * np.sqrt((weights * (y - mean_y) ** 2).sum() / total)
    prompt = centroid_prompt(weights, scale)
    assert prompt is not None
    assert prompt.point is None
    inside = np.clip([mean_x - half_x, mean_y - half_y, mean_x + half_x, mean_y + half_y], 0, [16, 11, 16, 11])
    assert prompt.box == pytest.approx(inside)


def test_the_box_stays_in_the_image() -> None:
    weights = np.ones((8, 8))
    prompt = centroid_prompt(weights, 100)
    assert prompt is not None
    assert prompt.box == (0, 0, 7, 7)
    assert square((1, 6), 3, 8) == (0, 3, 4, 7)


@pytest.mark.parametrize("weights", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), np.inf)])
@pytest.mark.parametrize("scale", [None, 1.5])
def test_without_weight_there_is_no_centre(weights: np.ndarray, scale: float | None) -> None:
    assert centroid_prompt(weights, scale) is None


def test_each_separate_peak_has_a_prompt_the_heaviest_first() -> None:
    weights = bump(25, 30, height=0.8) + bump(70, 60)
    first, second = peak_prompts(weights)
    assert first.point == pytest.approx((70, 60), abs=1)
    assert second.point == pytest.approx((25, 30), abs=1)
    boxes = [prompt.box for prompt in peak_prompts(weights, 1.5)]
    assert boxes[0] == pytest.approx((61, 51, 79, 69), abs=1)
    assert boxes[1] == pytest.approx((16, 21, 34, 39), abs=1)
    rescaled = peak_prompts(1000 * weights)
    assert rescaled[0].point == pytest.approx(first.point)
    assert len(rescaled) == 2


def test_a_peak_of_less_than_half_the_weight_does_not_count() -> None:
    (only,) = peak_prompts(bump(25, 30, height=0.4) + bump(70, 60))
    assert only.point == pytest.approx((70, 60), abs=1)


def test_one_peak_is_prompted_by_its_centre_of_gravity() -> None:
    weights = bump(40, 50)
    whole = centroid_prompt(weights, 1.5)
    assert whole is not None
    (only,) = peak_prompts(weights, 1.5)
    assert only.box == pytest.approx(whole.box)


@pytest.mark.parametrize("value", [0, 1])
def test_a_flat_map_has_no_separate_peaks(value: float) -> None:
    assert len(peak_prompts(np.full((32, 32), value, np.float32))) <= value


def test_a_region_above_the_threshold_has_a_box_and_the_map_as_mask() -> None:
    normalised = np.zeros((40, 40), np.float32)
    normalised[2:6, 3:9] = 0.5
    normalised[6, 9] = 0.9  # touches at a corner: 8-connected
    normalised[20:35, 20:35] = 0.7
    normalised[24:31, 24:31] = 0.1
    normalised[27, 27] = 1  # an island in a hole
    normalised[12, 12] = 0.49
    prompts = threshold_boxes(normalised)
    assert sorted(prompt.box or () for prompt in prompts) == [(3, 2, 9, 6), (20, 20, 34, 34)]
    for prompt in prompts:
        np.testing.assert_array_equal(prompt.mask, normalised)  # type: ignore[arg-type]
    assert threshold_boxes(normalised, 1.1) == []


def test_the_foreground_box_is_a_share_of_what_is_bright() -> None:
    image = np.full((64, 64), 3, np.uint8)
    image[10:51, 20:31] = 200
    prompt = foreground_box(image, 0.5)
    assert prompt is not None
    assert prompt.box == (22.5, 20, 27.5, 40)
    assert foreground_box(np.zeros((8, 8), np.uint8), 0.8) is None
