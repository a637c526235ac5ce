"""Operations against scikit-image, and their properties."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import gaussian
from skimage.filters.rank import median as rank_median
from skimage.measure import label as label_of
from skimage.measure import regionprops
from skimage.morphology import closing, remove_small_holes, remove_small_objects

from miasbench.harness.scoring.operations import (
    Closing,
    ErodeForeground,
    FillHoles,
    Gaussian,
    Largest,
    MaskOperation,
    Median,
    MinArea,
    MinVolume,
)


def label(mask: np.ndarray, connectivity: int) -> np.ndarray:
    return cast(np.ndarray, label_of(mask, connectivity=connectivity))


@st.composite
def masks(draw: st.DrawFn, dimensions: int = 2) -> np.ndarray:
    shape = draw(st.tuples(*[st.integers(1, 12)] * dimensions))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.4, 0.8, 1.0]))


@given(masks(), st.integers(0, 9))
@settings(max_examples=100)
def test_min_area_is_that_of_scikit_image(mask: np.ndarray, px: int) -> None:
    expected = remove_small_objects(mask, max_size=px - 1, connectivity=2) if px else mask
    np.testing.assert_array_equal(MinArea(px=px).apply(mask, None), expected)


@given(masks())
@settings(max_examples=30)
def test_min_area_in_mm2_counts_pixels_by_their_size(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(MinArea(mm2=3.0).apply(mask, (0.5, 2.0)), MinArea(px=3).apply(mask, None))
    np.testing.assert_array_equal(MinArea(mm2=3.0).apply(mask, (0.5, 1.0)), MinArea(px=6).apply(mask, None))


@given(masks(3), st.integers(1, 9))
@settings(max_examples=40)
def test_min_volume_is_of_components_in_three_dimensions(volume: np.ndarray, voxels: int) -> None:
    expected = remove_small_objects(volume, max_size=voxels - 1, connectivity=3)
    found = MinVolume(ml=voxels * 0.012).apply(volume, (3.0, 2.0, 2.0))
    np.testing.assert_array_equal(found, expected)


@given(st.one_of(masks(), masks(3)), st.integers(1, 4))
@settings(max_examples=60)
def test_the_largest_components_stay(mask: np.ndarray, k: int) -> None:
    found = Largest(k=k).apply(mask, None)
    components = regionprops(label(mask, connectivity=mask.ndim))
    sizes: list[Any] = sorted((one.area for one in components), reverse=True)
    assert found.sum() == sum(sizes[:k])
    assert label(found, connectivity=mask.ndim).max() == min(k, len(sizes))
    assert not (found & ~mask).any()


def test_of_equal_components_the_first_stays() -> None:
    mask = np.zeros((5, 9), bool)
    mask[1, 1:3] = mask[3, 5:7] = True
    expected = np.zeros((5, 9), bool)
    expected[1, 1:3] = True
    np.testing.assert_array_equal(Largest().apply(mask, None), expected)


@given(masks())
@settings(max_examples=60)
def test_fill_holes_fills_what_scikit_image_takes_for_holes(mask: np.ndarray) -> None:
    framed = np.pad(mask, 1)  # what reaches the border of the image is no hole
    expected = remove_small_holes(framed, max_size=10_000, connectivity=1)
    outside = label(~framed, connectivity=1) == label(~framed, connectivity=1)[0, 0]
    np.testing.assert_array_equal(
        FillHoles().apply(mask, None), (expected | ~outside)[1:-1, 1:-1] & ~outside[1:-1, 1:-1]
    )


@given(masks(), st.integers(1, 5))
@settings(max_examples=60)
def test_closing_is_that_of_scikit_image_in_a_wide_image(mask: np.ndarray, size: int) -> None:
    wide = np.pad(mask, 2 * size)
    expected = closing(wide, np.ones((size, size)))[2 * size : -2 * size, 2 * size : -2 * size]
    found = Closing(size=size).apply(mask, None)
    np.testing.assert_array_equal(found, expected)
    assert not (mask & ~found).any(), "no predicted pixel is lost, at the border neither"


@pytest.mark.parametrize("size", [1, 3, 5])
def test_median_is_that_of_scikit_image_away_from_the_border(size: int) -> None:
    grey = np.random.default_rng(size).integers(0, 256, (17, 14)).astype(np.uint8)
    inside = np.s_[size // 2 : 17 - size // 2, size // 2 : 14 - size // 2]
    found = Median(size=size).apply(grey.astype(np.float32))
    np.testing.assert_array_equal(found[inside], rank_median(grey, np.ones((size, size)))[inside])


def test_gaussian_is_that_of_scikit_image() -> None:
    anomaly_map = np.random.default_rng(1).random((17, 14)).astype(np.float32)
    found = Gaussian(sigma=1.5).apply(anomaly_map)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, gaussian(anomaly_map, 1.5, mode="reflect"), atol=1e-6)


@given(masks(), masks(), st.integers(0, 3))
@settings(max_examples=100)
def test_erode_foreground_keeps_what_is_deep_enough_inside(mask: np.ndarray, other: np.ndarray, px: int) -> None:
    foreground = np.resize(other, mask.shape)
    found = ErodeForeground(px=px).apply(mask, foreground)
    for row, column in np.ndindex(mask.shape):
        around = foreground[max(row - px, 0) : row + px + 1, max(column - px, 0) : column + px + 1]
        assert found[row, column] == (mask[row, column] and around.all())
    np.testing.assert_array_equal(ErodeForeground(px=px).apply(mask, None), mask)


IDENTITIES = [MinArea(px=0), MinArea(px=1), Closing(size=1), Largest(k=1000)]


@given(masks())
@settings(max_examples=30)
def test_some_operations_change_nothing(mask: np.ndarray) -> None:
    for operation in IDENTITIES:
        np.testing.assert_array_equal(operation.apply(mask, None), mask)
    anomaly_map = mask.astype(np.float32)
    np.testing.assert_array_equal(Median(size=1).apply(anomaly_map), anomaly_map)


@pytest.mark.parametrize("operation", [MinArea(px=4), Largest(k=2), Closing(size=3), FillHoles()])
@given(mask=masks())
@settings(max_examples=30)
def test_a_second_time_changes_nothing(operation: MaskOperation, mask: np.ndarray) -> None:
    once = operation.apply(mask, None)
    np.testing.assert_array_equal(operation.apply(once, None), once)
