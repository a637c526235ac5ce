import numpy as np
import pytest

from miasbench.harness.scoring.boundaries import boundary_iou
from miasbench.harness.scoring.intervals import ratio_interval
from miasbench.harness.scoring.lesion_metrics import lesion_counts, lesion_scores
from miasbench.harness.scoring.masks import Lesions, MaskScores

SHAPE = (40, 50)


def boxes(*found: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of boxes: top, left, height, width."""
    mask = np.zeros(SHAPE, bool)
    for top, left, height, width in found:
        mask[top : top + height, left : left + width] = True
    return mask


def counted(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    scores = MaskScores(predicted, Lesions(truth))
    return lesion_counts(scores) | {"lesions": scores.lesions}


# Lesions of 4 x 5 pixels. The first is found but for one column, IoU 16 / 20; of the second, half is found, IoU
# 10 / 20, which is not above 0.5; the third is missed, and one prediction has no lesion.
TRUTH = boxes((2, 2, 4, 5), (2, 20, 4, 5), (20, 2, 4, 5))
FOUND = boxes((2, 2, 4, 4), (2, 20, 2, 5), (30, 40, 3, 3))


def test_a_lesion_matches_where_the_iou_is_above_a_half() -> None:
    assert counted(FOUND, TRUTH) == {"predicted_lesions": 3, "matched_lesions": 1, "matched_iou": 0.8, "lesions": 3}


def test_both_are_of_all_images_as_one_with_the_false_lesions_of_normal_ones() -> None:
    normal = counted(boxes((0, 0, 2, 2), (10, 10, 2, 2)), boxes())
    perfect = counted(boxes((5, 5, 6, 6)), boxes((5, 5, 6, 6)))
    masks = [counted(FOUND, TRUTH), normal, perfect, counted(boxes(), boxes())]
    found = lesion_scores(masks, ["a", "a", "b", "c"])
    # TP 1 + 0 + 1, FP 2 + 2 + 0, FN 2 + 0 + 0, by hand.
    assert found["lesion_f1"][0] == pytest.approx(2 * 2 / (2 * 2 + 4 + 2))
    assert found["panoptic_quality"][0] == pytest.approx((0.8 + 1) / (2 + 4 / 2 + 2 / 2))
    assert {n for _, n, _ in found.values()} == {3}, "an image without any lesion, true or predicted, does not count"
    twice, both = np.array([2.0, 0, 2]), np.array([6.0, 2, 2])
    assert found["lesion_f1"][2] == ratio_interval(twice, both, ["a", "a", "b"])
    quality = found["panoptic_quality"][2]
    assert quality.low < found["panoptic_quality"][0] < quality.high


def test_they_are_those_of_the_definition_pair_by_pair() -> None:
    rng = np.random.default_rng(3)
    for share in (0.1, 0.3, 0.5):
        truth = rng.random(SHAPE) < share
        predicted = truth ^ (rng.random(SHAPE) < 0.03)
        scores = MaskScores(predicted, Lesions(truth))
        labels, found = scores.components
        iou = [
            float(np.count_nonzero(one & other) / np.count_nonzero(one | other))
            for one in (labels == number for number in range(1, found + 1))
            for other in (scores.truth.labels == number for number in range(1, scores.lesions + 1))
        ]
        matches = [one for one in iou if one > 0.5]
        got = lesion_counts(scores)
        assert matches
        assert got["matched_lesions"] == len(matches)
        assert got["matched_iou"] == pytest.approx(sum(matches))


def test_without_a_lesion_there_is_no_value_and_with_nothing_predicted_it_is_0() -> None:
    for value, n, interval in lesion_scores([counted(FOUND, boxes())] * 2, ["a", "b"]).values():
        assert np.isnan([value, interval.low]).all()
        assert n == 0
    for value, n, _ in lesion_scores([counted(boxes(), TRUTH)] * 2, ["a", "b"]).values():
        assert (value, n) == (0, 2)


def direct_border(mask: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a mask from which an outside pixel, or the image's outside, is in reach, each looked at."""
    padded = np.pad(mask, distance)
    border = np.zeros(mask.shape, bool)
    for row, column in np.argwhere(mask):
        border[row, column] = not padded[row : row + 2 * distance + 1, column : column + 2 * distance + 1].all()
    return border


def test_boundary_iou_is_that_of_a_direct_implementation() -> None:
    rng = np.random.default_rng(5)
    for height, width in ((20, 30), (90, 120), (150, 110)):  # borders of 1, 3 and 4 pixels
        distance = max(1, round(0.02 * np.sqrt(height**2 + width**2)))
        rows, columns = np.ogrid[:height, :width]
        truth = (rows - height / 3) ** 2 + (columns - width / 2) ** 2 < (height / 3) ** 2
        predicted = (rows < height / 2) & (columns > width / 4) & (rng.random((height, width)) < 0.999)
        one, other = direct_border(predicted, distance), direct_border(truth, distance)
        expected = np.count_nonzero(one & other) / np.count_nonzero(one | other)
        assert 0 < expected < 1
        assert boundary_iou(MaskScores(predicted, Lesions(truth))) == expected


def test_boundary_iou_looks_at_borders_only() -> None:
    truth = boxes((5, 5, 30, 40))
    hollow = truth & ~boxes((12, 12, 16, 26))
    scores = MaskScores(hollow, Lesions(truth))
    assert boundary_iou(scores) < scores.overlap.iou
    assert boundary_iou(MaskScores(truth, Lesions(truth))) == 1
    assert boundary_iou(MaskScores(boxes(), Lesions(truth))) == 0
    assert np.isnan(boundary_iou(MaskScores(truth, Lesions(boxes()))))
