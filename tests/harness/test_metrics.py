from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as label_regions
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from miasbench.harness.metrics import AUPRO_LIMIT, Overlap, Ranking, aupro, mean_dice_curve, rank_pixels

Images = tuple[list[np.ndarray], list[np.ndarray]]


@st.composite
def scored_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels with both classes."""
    count = draw(st.integers(2, 60))
    values = draw(st.sampled_from([2, 5, 1000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positives = rng.random(count) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    positives[:2] = [False, True]
    return (rng.integers(-values, values, count) / 7).astype(np.float32), rng.permutation(positives)


@st.composite
def images(draw: st.DrawFn) -> Images:
    """One to four maps with ties; truths may be empty, touch diagonally, or fill the image."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.sampled_from([2, 6, 10_000]))
    maps, truths = [], []
    for _ in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
        maps.append((rng.integers(-values, values, shape) / 3).astype(np.float32))
        truths.append(rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])))
    return maps, truths


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


def plain_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


def plain_aupro(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], limit: float) -> float:
    """Every threshold by itself, every region by itself."""
    regions = []
    for number, truth in enumerate(truths):
        labels = np.asarray(label_regions(truth, connectivity=2))
        regions += [(number, labels == region) for region in range(1, labels.max() + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in sorted(set(flat(maps).tolist()), reverse=True):
        masks = [anomaly_map >= threshold for anomaly_map in maps]
        false = sum((mask & ~truth).sum() for mask, truth in zip(masks, truths, strict=True))
        rates.append(false / sum((~truth).sum() for truth in truths))
        overlaps.append(float(np.mean([masks[number][region].mean() for number, region in regions])))
    area = 0.0
    for left, right, low, high in zip(rates[:-1], rates[1:], overlaps[:-1], overlaps[1:], strict=True):
        if left >= limit:
            break
        if right > limit:
            high = low + (high - low) * (limit - left) / (right - left)
            right = limit
        area += (right - left) * (low + high) / 2
    return float(area / limit)


@given(scored_labels())
@settings(max_examples=100)
def test_auroc_and_average_precision_are_those_of_scikit_learn(content: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positives = content
    ranking = Ranking(scores, positives)
    assert ranking.auroc == pytest.approx(roc_auc_score(positives, scores), abs=1e-12)
    assert ranking.average_precision == pytest.approx(average_precision_score(positives, scores), abs=1e-12)
    assert (ranking.positives, ranking.negatives) == (positives.sum(), (~positives).sum())


@given(scored_labels())
@settings(max_examples=100)
def test_best_f1_is_that_of_scikit_learn(content: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positives = content
    precision, recall, thresholds = precision_recall_curve(positives, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300))[:-1]
    threshold, best = Ranking(scores, positives).best_f1()
    assert best == pytest.approx(f1.max(), abs=1e-12)
    assert f1_score(positives, scores >= threshold) == pytest.approx(best, abs=1e-12)
    assert threshold == thresholds[f1 >= f1.max() - 1e-12].max(), "of several, the highest"


@given(images())
@settings(max_examples=60)
def test_pixels_of_all_images_are_ranked_together(content: Images) -> None:
    maps, truths = content
    ranking, positives = rank_pixels(maps, truths), flat(truths)
    if positives.all() or not positives.any():
        assert np.isnan(ranking.auroc)
    else:
        assert ranking.auroc == pytest.approx(roc_auc_score(positives, flat(maps)), abs=1e-12)
    if positives.any():
        assert ranking.average_precision == pytest.approx(average_precision_score(positives, flat(maps)), abs=1e-12)


@given(scored_labels(), st.sampled_from([lambda x: 3 * x - 100, np.tanh, np.exp2]))
@settings(max_examples=30)
def test_only_the_order_of_scores_matters(
    content: tuple[np.ndarray, np.ndarray], rising: Callable[[np.ndarray], np.ndarray]
) -> None:
    scores, positives = content
    ranks = np.unique(scores, return_inverse=True)[1] / 100
    one, other = Ranking(ranks, positives), Ranking(rising(ranks), positives)
    assert (one.auroc, one.average_precision) == (other.auroc, other.average_precision)
    assert one.best_f1()[1] == other.best_f1()[1]


def test_equal_scores_are_one_threshold() -> None:
    ranking = Ranking(np.full(6, 0.5), np.array([1, 0, 1, 0, 0, 0], bool))
    assert ranking.auroc == 0.5
    assert ranking.average_precision == pytest.approx(2 / 6)
    assert ranking.best_f1() == (0.5, pytest.approx(0.5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="score number 2 is not finite"):
        Ranking(np.array([0.0, 1.0, bad, 2.0]), np.array([True, False, True, False]))
    with pytest.raises(ValueError, match="not finite"):
        rank_pixels([np.array([[bad]], np.float32)], [np.array([[True]])])


def test_one_class_alone_has_no_ranking() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    no_positives, no_negatives = Ranking(scores, np.zeros(3, bool)), Ranking(scores, np.ones(3, bool))
    assert np.isnan(no_positives.auroc)
    assert np.isnan(no_positives.average_precision)
    assert np.isnan(no_negatives.auroc)
    assert no_negatives.average_precision == 1


def test_without_a_single_score_everything_is_nan() -> None:
    ranking = rank_pixels([], [])
    assert (ranking.positives, ranking.negatives) == (0, 0)
    assert np.isnan([ranking.auroc, ranking.average_precision, aupro(ranking, [])]).all()


@given(content=images(), limit=st.sampled_from([AUPRO_LIMIT, 0.05, 0.5, 1.0]))
@settings(max_examples=150)
def test_aupro_is_that_of_every_threshold_and_region_by_itself(content: Images, limit: float) -> None:
    maps, truths = content
    value = aupro(rank_pixels(maps, truths), truths, limit)
    positives = flat(truths)
    if positives.all() or not positives.any():
        assert np.isnan(value)
    else:
        assert value == pytest.approx(plain_aupro(maps, truths, limit), abs=1e-12)
        assert 0 <= value <= 1 + 1e-12


def test_aupro_integrates_to_a_false_positive_rate_of_three_tenths() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((12, 12)).astype(np.float32) for _ in range(3)]
    truths = [rng.random((12, 12)) < 0.2 for _ in range(3)]
    assert AUPRO_LIMIT == 0.3
    assert aupro(rank_pixels(maps, truths), truths) == pytest.approx(plain_aupro(maps, truths, 0.3), abs=1e-12)


def test_aupro_of_a_map_worked_out_by_hand() -> None:
    """Half of the lesion stands out; the other half comes together with every normal pixel."""
    anomaly_map = np.array([[3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]], np.float32)
    truth = np.zeros((1, 12), bool)
    truth[0, :2] = True
    # Between the two thresholds the curve is the line from (0, 0.5) to (1, 1), cut at 0.3.
    assert aupro(rank_pixels([anomaly_map], [truth]), [truth]) == pytest.approx((0.5 + 0.65) / 2)


def test_aupro_counts_small_and_large_lesions_the_same() -> None:
    truth = np.zeros((20, 20), bool)
    truth[2:12, 2:12] = True
    truth[18, 18] = True
    large, small = np.zeros((20, 20), np.float32), np.zeros((20, 20), np.float32)
    large[2:12, 2:12] = 1
    small[18, 18] = 1
    values = [aupro(rank_pixels([anomaly_map], [truth]), [truth]) for anomaly_map in (large, small)]
    assert values[0] == pytest.approx(values[1])


def test_aupro_takes_diagonal_pixels_as_one_lesion() -> None:
    truth = np.zeros((6, 6), bool)
    truth[[0, 1, 5], [0, 1, 5]] = True
    found = np.zeros((6, 6), np.float32)
    found[5, 5] = 1
    one_of_two = aupro(rank_pixels([found], [truth]), [truth])
    assert one_of_two == pytest.approx(0.5 + 0.5 * 0.15), "half the lesions at once, the rest with the last threshold"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_and_a_reversed_map(sign: int) -> None:
    truth = np.zeros((10, 10), bool)
    truth[2:4, 3:6] = True
    truth[7, 7] = True
    anomaly_map = sign * truth.astype(np.float32)
    ranking = rank_pixels([anomaly_map], [truth])
    assert ranking.auroc == (1 if sign > 0 else 0)
    assert aupro(ranking, [truth]) == pytest.approx(1 if sign > 0 else 0)
    if sign > 0:
        assert ranking.average_precision == 1
        assert ranking.best_f1() == (1, 1)


@given(images(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_overlap_counts_pixels(content: Images, seed: int) -> None:
    rng = np.random.default_rng(seed)
    overlaps = []
    for truth in content[1]:
        predicted = rng.random(truth.shape) < 0.4
        overlap = Overlap.of(predicted, truth)
        overlaps.append(overlap)
        assert overlap == Overlap((predicted & truth).sum(), predicted.sum(), truth.sum(), truth.size)
        assert overlap.predicted_share == pytest.approx(predicted.mean())
        if truth.any():
            assert overlap.dice == pytest.approx(plain_dice(predicted, truth))
            assert overlap.dice == pytest.approx(f1_score(truth.ravel(), predicted.ravel(), zero_division=0))  # pyright: ignore[reportArgumentType]
        else:
            assert np.isnan(overlap.dice)
    pooled = Overlap.pooled(overlaps)
    assert pooled.pixels == sum(truth.size for truth in content[1])
    assert pooled.intersection == sum(overlap.intersection for overlap in overlaps)


def test_conventions_for_empty_masks() -> None:
    empty, lesion = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    lesion[1, 1:3] = True
    assert np.isnan(Overlap.of(empty, empty).dice)
    assert np.isnan(Overlap.of(lesion, empty).dice)
    assert Overlap.of(empty, lesion).dice == 0
    assert Overlap.of(lesion, lesion).dice == 1
    assert Overlap.of(lesion, empty).predicted_share == 0.1


def test_pooled_of_nothing() -> None:
    pooled = Overlap.pooled([])
    assert pooled == Overlap(0, 0, 0, 0)
    assert np.isnan([pooled.dice, pooled.predicted_share]).all()


@given(images())
@settings(max_examples=100)
def test_mean_dice_is_that_of_every_threshold_by_itself(content: Images) -> None:
    maps, truths = content
    thresholds, curve = mean_dice_curve(maps, truths)
    with_lesion = [(anomaly_map, truth) for anomaly_map, truth in zip(maps, truths, strict=True) if truth.any()]
    if not with_lesion:
        assert len(thresholds) == len(curve) == 0
        return
    expected = sorted(set(flat([anomaly_map for anomaly_map, _ in with_lesion]).tolist()), reverse=True)
    np.testing.assert_array_equal(thresholds, expected)
    brute = [np.mean([plain_dice(one >= threshold, truth) for one, truth in with_lesion]) for threshold in expected]
    np.testing.assert_allclose(curve, brute, atol=1e-12)


def test_mean_dice_of_maps_of_different_sizes() -> None:
    maps = [np.array([[2, 1]], np.float32), np.array([[3, 0], [0, 0]], np.float32)]
    truths = [np.array([[True, False]]), np.array([[True, True], [False, False]])]
    thresholds, curve = mean_dice_curve(maps, truths)
    np.testing.assert_array_equal(thresholds, [3, 2, 1, 0])
    np.testing.assert_allclose(curve, [(0 + 2 / 3) / 2, (1 + 2 / 3) / 2, (2 / 3 + 2 / 3) / 2, (2 / 3 + 2 / 3) / 2])
