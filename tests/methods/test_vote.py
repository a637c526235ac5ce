import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miasbench.methods.mias_sam.vote import candidate_boxes, vote


def bumps(size: int = 128) -> np.ndarray:
    """A map with a high peak at (40, 60) and a lower one at (100, 30)."""
    y, x = np.mgrid[:size, :size]
    found = np.exp(-((x - 40) ** 2 + (y - 60) ** 2) / 128) + 0.6 * np.exp(-((x - 100) ** 2 + (y - 30) ** 2) / 72)
    return (found / found.max()).astype(np.float32)


def test_candidates_are_different_boxes_in_the_image_about_both_peaks() -> None:
    boxes = candidate_boxes(bumps())
    assert 40 <= len(boxes) == len(set(boxes)) <= 65
    for left, top, right, bottom in boxes:
        assert 0 <= left <= right <= 127
        assert 0 <= top <= bottom <= 127
    for x, y in ((40, 60), (100, 30)):
        around = [box for box in boxes if abs(box[0] + box[2] - 2 * x) < 6 and abs(box[1] + box[3] - 2 * y) < 6]
        widths = [box[2] - box[0] for box in around]
        assert len(around) >= 3
        assert max(widths) > 1.5 * min(widths), "of several sizes"


def test_a_map_without_weight_has_no_candidates() -> None:
    assert candidate_boxes(np.zeros((32, 32), np.float32)) == []


@pytest.mark.parametrize("values", [np.ones((32, 32)), np.eye(32)])
def test_a_strange_map_has_candidates(values: np.ndarray) -> None:
    assert candidate_boxes(values.astype(np.float32))


def answers(*regions: tuple[slice, slice]) -> np.ndarray:
    logits = np.full((len(regions), 32, 32), -4, np.float32)
    for one, region in zip(logits, regions, strict=True):
        one[region] = 4
    return logits


LESION, ELSEWHERE = (slice(4, 12), slice(4, 12)), (slice(20, 30), slice(20, 30))


def test_answers_that_overlap_the_map_win() -> None:
    unit_map = np.zeros((32, 32), np.float32)
    unit_map[LESION] = 1
    mask = vote(answers(LESION, ELSEWHERE, ELSEWHERE, ELSEWHERE), unit_map)
    np.testing.assert_array_equal(mask, unit_map > 0)


def test_certainty_beyond_ten_says_no_more() -> None:
    unit_map = np.ones((32, 32), np.float32)
    logits = answers(LESION, ELSEWHERE, ELSEWHERE)
    logits[0][LESION] = 1000
    assert not vote(logits, unit_map)[LESION].any(), "two against one"


def test_empty_answers_leave_an_empty_mask() -> None:
    assert not vote(np.full((3, 32, 32), -5, np.float32), np.ones((32, 32), np.float32)).any()


@given(st.integers(0, 2**32 - 1))
def test_a_vote_does_not_depend_on_the_order_of_answers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, 16, 16)).astype(np.float32)
    unit_map = rng.random((16, 16)).astype(np.float32)
    one, other = vote(logits, unit_map), vote(logits[::-1], unit_map)
    assert (one != other).mean() < 0.01, "but for rounding"
