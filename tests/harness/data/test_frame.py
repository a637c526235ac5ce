from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miasbench.harness.api import UsageError, as_grey
from miasbench.harness.data.frame import frame_for, frame_image, frame_mask, image_rectangle
from miasbench.harness.registry import build_method

sides = st.integers(1, 60)
sizes = st.integers(32, 80)


def white_rectangle(
    height: int, width: int, top: int, left: int, rectangle_height: int, rectangle_width: int
) -> np.ndarray:
    image = np.zeros((height, width), np.uint8)
    image[top : top + rectangle_height, left : left + rectangle_width] = 255
    return image


def edges_of(region: np.ndarray) -> np.ndarray:
    """First and one past the last row, first and one past the last column."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((4, 8), slice(2, 6), slice(0, 8)),
        ((8, 4), slice(0, 8), slice(2, 6)),
        ((5, 8), slice(1, 6), slice(0, 8)),  # an odd rest: the longer border comes behind
        ((8, 5), slice(0, 8), slice(1, 6)),
        ((7, 7), slice(0, 7), slice(0, 7)),
    ],
)
def test_pads_with_zeros_to_a_centred_square(shape: tuple[int, int], rows: slice, columns: slice) -> None:
    image = np.arange(1, 1 + shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    side = max(shape)
    expected = np.zeros((side, side), np.uint8)
    expected[rows, columns] = image
    np.testing.assert_array_equal(frame_image(image, side), expected)


@given(side=sides)
@settings(max_examples=15)
def test_a_square_of_the_size_stays_as_it_is(side: int) -> None:
    rng = np.random.default_rng(side)
    image = rng.integers(0, 256, (side, side)).astype(np.uint8)
    mask = rng.random((side, side)) > 0.5
    np.testing.assert_array_equal(frame_image(image, side), image)
    for edges in ("nearest", "paper"):
        truth = frame_mask(mask, side, edges)
        np.testing.assert_array_equal(truth.overlap, mask)
        np.testing.assert_array_equal(truth.ranking, mask)


@given(height=sides, width=sides, size=sizes)
@settings(max_examples=40)
def test_shapes_and_types(height: int, width: int, size: int) -> None:
    rng = np.random.default_rng(height * 100 + width)
    image = rng.integers(0, 256, (height, width)).astype(np.uint8)
    framed = frame_image(image, size)
    assert (framed.shape, framed.dtype) == ((size, size), np.dtype(np.uint8))
    for edges in ("nearest", "paper"):
        for truth in frame_mask(image > 128, size, edges):
            assert (truth.shape, truth.dtype) == ((size, size), np.dtype(bool))


@given(height=sides, width=sides, size=sizes)
@settings(max_examples=40)
def test_paper_edges_enclose_the_nearest_mask(height: int, width: int, size: int) -> None:
    mask = np.random.default_rng(height * 100 + width).random((height, width)) > 0.5
    paper = frame_mask(mask, size, "paper")
    assert not (paper.ranking & ~paper.overlap).any(), "full pixels are among those above zero"
    framed = frame_mask(mask, size, "nearest")
    np.testing.assert_array_equal(framed.overlap, framed.ranking)
    assert np.count_nonzero(framed.overlap & ~paper.overlap) == 0
    assert np.count_nonzero(paper.ranking & ~framed.overlap) == 0


def test_paper_edges_mix_values_where_nearest_does_not() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:, 2:] = True
    nearest, paper = frame_mask(mask, 8), frame_mask(mask, 8, "paper")
    np.testing.assert_array_equal(nearest.overlap[0], [False] * 4 + [True] * 4)
    np.testing.assert_array_equal(paper.overlap[0], [False] * 3 + [True] * 5)
    np.testing.assert_array_equal(paper.ranking[0], [False] * 5 + [True] * 3)


def test_edges_are_nearest_unless_asked() -> None:
    mask = np.random.default_rng(0).random((11, 7)) > 0.5
    np.testing.assert_array_equal(frame_mask(mask, 40).overlap, frame_mask(mask, 40, "nearest").overlap)


@given(data=st.data(), size=st.integers(40, 128))
@settings(max_examples=80)
def test_image_and_mask_land_on_the_same_pixels(data: st.DataObject, size: int) -> None:
    height, width = data.draw(st.integers(20, 130)), data.draw(st.integers(20, 130))
    least = -(-3 * max(height, width) // size)  # three pixels of the frame, so that no rectangle vanishes
    rectangle_height = data.draw(st.integers(min(least, height), height))
    rectangle_width = data.draw(st.integers(min(least, width), width))
    top = data.draw(st.integers(0, height - rectangle_height))
    left = data.draw(st.integers(0, width - rectangle_width))
    image = white_rectangle(height, width, top, left, rectangle_height, rectangle_width)
    framed = frame_image(image, size)
    mask = frame_mask(image > 0, size).overlap
    assert np.abs(edges_of(framed >= 128) - edges_of(mask)).max() <= 1
    # Both lie where the geometry says.
    side = max(height, width)
    offsets = np.array([(side - height) // 2] * 2 + [(side - width) // 2] * 2)
    expected = (np.array([top, top + rectangle_height, left, left + rectangle_width]) + offsets) * size / side
    assert np.abs(edges_of(mask) - expected).max() <= 1
    # The paper's edges are those of the white image itself.
    paper = frame_mask(image > 0, size, "paper")
    np.testing.assert_array_equal(paper.overlap, framed > 0)
    np.testing.assert_array_equal(paper.ranking, framed == 255)


def inside(shape: tuple[int, int], size: int) -> np.ndarray:
    """Pixel by pixel, in fractions: whether a centre in the frame lies in the image."""
    side = max(shape)
    found = np.zeros((size, size), bool)
    for row in range(size):
        for column in range(size):
            centre = Fraction(2 * row + 1, 2 * size) * side, Fraction(2 * column + 1, 2 * size) * side
            starts = ((side - length) // 2 for length in shape)
            found[row, column] = all(
                start <= at < start + length for at, start, length in zip(centre, starts, shape, strict=True)
            )
    return found


@given(height=sides, width=sides, size=st.integers(1, 40))
@settings(max_examples=60)
def test_an_images_rectangle_holds_the_pixels_that_have_their_centre_in_it(height: int, width: int, size: int) -> None:
    expected = inside((height, width), size)
    found = np.zeros((size, size), bool)
    found[image_rectangle((height, width), size)] = True
    if expected.any():
        np.testing.assert_array_equal(found, expected)
    else:  # a line so thin that no centre lies in it
        assert found.sum() == max(found.shape)
        assert found[size // 2].all() or found[:, size // 2].all() or found[(size - 1) // 2].all()


@given(height=sides, width=sides, size=sizes)
@settings(max_examples=40)
def test_an_images_rectangle_is_where_the_whole_of_it_lands(height: int, width: int, size: int) -> None:
    framed = frame_mask(np.ones((height, width), bool), size).overlap
    outside = framed.sum() - framed[image_rectangle((height, width), size)].sum()
    assert outside in (0, size), "a line whose centres lie on the very edge"


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((496, 768), 256, (45, 211, 0, 256)),  # Duke's scans
        ((512, 1024), 256, (64, 192, 0, 256)),  # RESC's: half is padding
        ((240, 240), 256, (0, 256, 0, 256)),
        ((300, 200), 300, (0, 300, 50, 250)),
        ((1, 1000), 32, (15, 16, 0, 32)),
    ],
)
def test_rectangles_of_known_images(shape: tuple[int, int], size: int, expected: tuple[int, ...]) -> None:
    rows, columns = image_rectangle(shape, size)
    assert (rows.start, rows.stop, columns.start, columns.stop) == expected


def test_a_truth_is_cut_and_stays_one_where_it_is_one() -> None:
    mask = np.random.default_rng(0).random((10, 20)) > 0.5
    rectangle = image_rectangle(mask.shape, 20)
    cut = frame_mask(mask, 20).within(rectangle)
    np.testing.assert_array_equal(cut.overlap, mask)
    assert not cut.graded
    assert frame_mask(mask, 20, "paper").within(rectangle).graded


@pytest.mark.parametrize(
    ("image", "size", "said"),
    [
        ([[0, 1]], 64, "uint8 .H, W. or .H, W, 3., with a pixel or more; this one is list"),
        (np.zeros((8, 8, 4), np.uint8), 64, r"this one is uint8 \(8, 8, 4\)"),
        (np.zeros((8, 8, 3, 1), np.uint8), 64, r"this one is uint8 \(8, 8, 3, 1\)"),
        (np.zeros(8, np.uint8), 64, r"this one is uint8 \(8,\)"),
        (np.zeros((8, 8)), 64, r"this one is float64 \(8, 8\)"),
        (np.zeros((0, 8), np.uint8), 64, r"this one is uint8 \(0, 8\)"),
        (np.zeros((8, 8), np.uint8), 0, "size=0: it should be a whole number of pixels above 0"),
        (np.zeros((8, 8), np.uint8), 64.5, "size=64.5: it should be a whole number of pixels above 0"),
    ],
)
def test_what_is_no_image_is_named(image: np.ndarray, size: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        frame_image(image, size)


@given(height=sides, width=sides, size=sizes)
@settings(max_examples=15)
def test_a_channel_of_a_colour_image_is_framed_as_it_is_alone(height: int, width: int, size: int) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    framed = frame_image(image, size)
    assert framed.shape == (size, size, 3)
    for channel in range(3):
        np.testing.assert_array_equal(framed[..., channel], frame_image(image[..., channel].copy(), size))


def test_a_method_that_takes_no_colour_gets_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3)).astype(np.uint8)
    grey, coloured = (
        build_method(name, {}, weights="embedded", device="cpu", seed=0) for name in ("intensity", "patchcore")
    )
    np.testing.assert_array_equal(frame_for(grey, image, 32), frame_image(as_grey(image), 32))
    np.testing.assert_array_equal(frame_for(coloured, image, 32), frame_image(image, 32))
    for method in (grey, coloured):
        np.testing.assert_array_equal(frame_for(method, as_grey(image), 32), frame_image(as_grey(image), 32))
