"""Components at many thresholds at once, against scipy's labels of each mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from miasbench.harness.scoring.component_counts import component_counts

SEEDS = st.integers(0, 2**32 - 1)


def counted(values: np.ndarray, falling: np.ndarray) -> list[int]:
    return [label(values > one, np.ones((3, 3)))[1] for one in falling]


@given(SEEDS, st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([None, 0, 1]))
@settings(max_examples=60)
def test_they_are_those_of_each_mask(seed: int, smooth: float, digits: int | None) -> None:
    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.normal(size=tuple(rng.integers(1, 24, 2))), smooth).astype(np.float32)
    values = values if digits is None else np.round(values, digits)  # plateaus, and zeros of both signs
    falling = np.linspace(values.max() + 0.1, values.min() + rng.normal() / 4, 17)
    np.testing.assert_array_equal(component_counts(values, falling), counted(values, falling))


def test_a_threshold_that_is_a_value_of_the_map_leaves_it_out() -> None:
    values = np.array([[3, 2, 3], [0, 0, 0], [1, 0, np.inf]], np.float32)
    falling = np.array([3.0, 2.0, 1.0, 0.0])
    np.testing.assert_array_equal(component_counts(values, falling), [1, 3, 2, 3])


@pytest.mark.parametrize("lowest", [5.0, np.inf])
def test_nothing_above_any_threshold_is_no_component(lowest: float) -> None:
    assert component_counts(np.full((4, 4), 5, np.float32), np.array([np.inf, lowest])).tolist() == [0, 0]
