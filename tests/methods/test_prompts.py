import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miasbench.methods.mias_sam.prompts import centroid_prompt


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


@pytest.mark.parametrize("weights", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), np.inf)])
@pytest.mark.parametrize("scale", [None, 1.5])
def test_without_weight_there_is_no_centre(weights: np.ndarray, scale: float | None) -> None:
    assert centroid_prompt(weights, scale) is None
