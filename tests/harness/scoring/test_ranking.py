from collections.abc import Callable, Sequence
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as label_regions
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from miasbench.harness.scoring.curves import AUPRO_LIMIT
from miasbench.harness.scoring.dice_curve import dice_curve
from miasbench.harness.scoring.ranking import ErrorBounds, PixelTally, Ranking, rank_pixels
from miasbench.harness.scoring.tally import MIN_LIMIT

from ...support.maps import Images, all_metrics, finely_valued_images, flat, images, in_batches, mean_dice


@st.composite
def scored_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels with both classes."""
    count = draw(st.integers(2, 60))
    values = draw(st.sampled_from([2, 5, 1000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positives = rng.random(count) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    positives[:2] = [False, True]
    return (rng.integers(-values, values, count) / 7).astype(np.float32), rng.permutation(positives)


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


@given(scored_labels())
@settings(max_examples=50)
def test_counts_at_any_threshold(content: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positives = content
    ranking = Ranking(scores, positives)
    between = [scores.astype(float) + offset for offset in (-1e-12, 1e-12, 0.01)]
    thresholds = np.concatenate([scores, *between, [np.inf, -np.inf, 1e300, -1e300]])
    true, false = ranking.at(thresholds)
    np.testing.assert_array_equal(true, [(positives & (scores >= at)).sum() for at in thresholds])
    np.testing.assert_array_equal(false, [(~positives & (scores >= at)).sum() for at in thresholds])
    true, false = ranking.at(ranking.thresholds)
    np.testing.assert_array_equal(true, ranking.true_positives)
    np.testing.assert_array_equal(false, ranking.false_positives)


@given(images())
@settings(max_examples=60)
def test_pixels_of_all_images_are_ranked_together(content: Images) -> None:
    maps, truths = content
    ranking, positives = rank_pixels(maps, truths), flat(truths)
    if positives.all() or not positives.any():
        assert np.isnan([ranking.auroc, ranking.aupro()]).all()
    else:
        assert ranking.auroc == pytest.approx(roc_auc_score(positives, flat(maps)), abs=1e-12)
    if positives.any():
        assert ranking.average_precision == pytest.approx(average_precision_score(positives, flat(maps)), abs=1e-12)
        threshold, f1 = ranking.best_f1()
        assert f1_score(positives, flat(maps) >= threshold) == pytest.approx(f1, abs=1e-12)
        whole = Ranking(flat(maps), positives)
        np.testing.assert_array_equal(ranking.thresholds, whole.thresholds)
        np.testing.assert_array_equal(ranking.true_positives, whole.true_positives)
        np.testing.assert_array_equal(ranking.false_positives, whole.false_positives)
        np.testing.assert_array_equal(ranking.false_positives_above, whole.false_positives_above)
    else:
        assert np.isnan([ranking.average_precision, *ranking.best_f1()]).all()
    values = all_metrics(ranking)
    assert ((values >= 0) & (values <= 1 + 1e-12))[~np.isnan(values)].all()
    assert ranking.error_bounds() == ErrorBounds(0, 0, 0, 0)
    assert not ranking.binned


@given(images(), st.sampled_from([lambda x: 3 * x - 100, np.tanh, np.exp2]))
@settings(max_examples=60)
def test_only_the_order_of_values_matters(content: Images, rising: Callable[[np.ndarray], np.ndarray]) -> None:
    maps, truths = content
    ranks = np.unique(flat(maps), return_inverse=True)[1] / np.float32(100)
    parts = np.split(ranks.astype(np.float32), np.cumsum([one.size for one in maps])[:-1])
    ranked = [part.reshape(one.shape) for part, one in zip(parts, maps, strict=True)]
    others = [rising(one).astype(np.float32) for one in ranked]
    np.testing.assert_array_equal(all_metrics(rank_pixels(ranked, truths)), all_metrics(rank_pixels(others, truths)))
    np.testing.assert_array_equal(mean_dice(dice_curve(ranked, truths)), mean_dice(dice_curve(others, truths)))


@given(finely_valued_images(), st.sampled_from([300, 2**24]), st.sampled_from([AUPRO_LIMIT, 0.01, 1.0]))
@settings(max_examples=150)
def test_binned_metrics_lie_within_their_error_bounds(content: Images, batch: int, limit: float) -> None:
    exact, binned = rank_pixels(*content), in_batches(batch, rank_pixels, *content, MIN_LIMIT)
    bounds, truth = binned.error_bounds(limit), flat(content[1])
    assert binned.binned or not any(astuple(bounds))
    if not truth.any():
        return
    assert abs(binned.average_precision - exact.average_precision) <= bounds.average_precision + 1e-12
    assert 0 <= exact.best_f1()[1] - binned.best_f1()[1] <= bounds.best_f1
    if not truth.all():
        assert abs(binned.auroc - exact.auroc) <= bounds.auroc + 1e-12
        assert abs(binned.aupro(limit) - exact.aupro(limit)) <= bounds.aupro + 1e-12


def test_equal_scores_are_one_threshold() -> None:
    ranking = Ranking(np.full(6, 0.5), np.array([1, 0, 1, 0, 0, 0], bool))
    assert ranking.auroc == 0.5
    assert ranking.average_precision == pytest.approx(2 / 6)
    assert ranking.best_f1() == (0.5, pytest.approx(0.5))


@pytest.mark.parametrize("limit", [None, MIN_LIMIT])
def test_a_constant_map_cannot_tell_lesions(limit: int | None) -> None:
    truth = np.zeros((10, 10), bool)
    truth[2:4, 3:8] = True
    constant = np.full((10, 10), 0.7, np.float32)
    ranking = rank_pixels([constant], [truth], limit)
    assert ranking.auroc == 0.5
    assert ranking.average_precision == pytest.approx(0.1)
    assert ranking.best_f1() == (float(np.float32(0.7)), pytest.approx(0.2 / 1.1))
    assert ranking.aupro() == pytest.approx(0.15)
    assert dice_curve([constant], [truth], limit).best() == (float(np.float32(0.7)), pytest.approx(0.2 / 1.1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="score number 2 is not finite"):
        Ranking(np.array([0.0, 1.0, bad, 2.0]), np.array([True, False, True, False]))


def test_one_class_alone_has_no_ranking() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    no_positives, no_negatives = Ranking(scores, np.zeros(3, bool)), Ranking(scores, np.ones(3, bool))
    assert np.isnan(no_positives.auroc)
    assert np.isnan(no_positives.average_precision)
    assert np.isnan(no_negatives.auroc)
    assert no_negatives.average_precision == 1


def test_without_a_single_pixel_everything_is_nan() -> None:
    for limit in (None, MIN_LIMIT):
        ranking = rank_pixels([], [], limit)
        assert (ranking.positives, ranking.negatives, ranking.regions) == (0, 0, 0)
        assert np.isnan(all_metrics(ranking)).all()
        assert np.isnan(dice_curve([], [], limit).best()).all()
        np.testing.assert_array_equal(dice_curve([], [], limit).at(np.array([0.0, 1.0])), 0)


@given(content=images(), limit=st.sampled_from([AUPRO_LIMIT, 0.05, 0.5, 1.0]))
@settings(max_examples=150)
def test_aupro_is_that_of_every_threshold_and_region_by_itself(content: Images, limit: float) -> None:
    maps, truths = content
    value = rank_pixels(maps, truths).aupro(limit)
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
    assert rank_pixels(maps, truths).aupro() == pytest.approx(plain_aupro(maps, truths, 0.3), abs=1e-12)


def test_aupro_of_a_map_worked_out_by_hand() -> None:
    """Half of the lesion stands out; the other half comes together with every normal pixel."""
    anomaly_map = np.array([[3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]], np.float32)
    truth = np.zeros((1, 12), bool)
    truth[0, :2] = True
    # Between the two thresholds the curve is the line from (0, 0.5) to (1, 1), cut at 0.3.
    assert rank_pixels([anomaly_map], [truth]).aupro() == pytest.approx((0.5 + 0.65) / 2)


def test_aupro_counts_small_and_large_lesions_the_same() -> None:
    truth = np.zeros((20, 20), bool)
    truth[2:12, 2:12] = True
    truth[18, 18] = True
    large, small = np.zeros((20, 20), np.float32), np.zeros((20, 20), np.float32)
    large[2:12, 2:12] = 1
    small[18, 18] = 1
    values = [rank_pixels([anomaly_map], [truth]).aupro() for anomaly_map in (large, small)]
    assert values[0] == pytest.approx(values[1])


def test_aupro_takes_diagonal_pixels_as_one_lesion() -> None:
    truth = np.zeros((6, 6), bool)
    truth[[0, 1, 5], [0, 1, 5]] = True
    found = np.zeros((6, 6), np.float32)
    found[5, 5] = 1
    one_of_two = rank_pixels([found], [truth]).aupro()
    assert one_of_two == pytest.approx(0.5 + 0.5 * 0.15), "half the lesions at once, the rest with the last threshold"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_and_a_reversed_map(sign: int) -> None:
    truth = np.zeros((10, 10), bool)
    truth[2:4, 3:6] = True
    truth[7, 7] = True
    anomaly_map = sign * truth.astype(np.float32)
    ranking = rank_pixels([anomaly_map], [truth])
    assert ranking.auroc == (1 if sign > 0 else 0)
    assert ranking.aupro() == pytest.approx(1 if sign > 0 else 0)
    if sign > 0:
        assert ranking.average_precision == 1
        assert ranking.best_f1() == (1, 1)


@given(images())
@settings(max_examples=50)
def test_overlap_at_any_threshold(content: Images) -> None:
    maps, truths = content
    ranking = rank_pixels(maps, truths)
    labels = [np.asarray(label_regions(truth, connectivity=2)) for truth in truths]
    regions = [(number, one == region) for number, one in enumerate(labels) for region in range(1, one.max() + 1)]
    assert ranking.regions == len(regions)
    thresholds = np.array([-np.inf, -1, 0, 0.34, 1, np.inf])
    shares = [[(maps[number] >= at)[region].mean() for number, region in regions] or [0] for at in thresholds]
    np.testing.assert_allclose(ranking.overlap_at(thresholds), np.mean(shares, axis=1), atol=1e-12)
    np.testing.assert_array_equal(ranking.overlap_at(ranking.thresholds), ranking.overlap)


def test_pixels_are_ranked_against_two_truths_as_against_each() -> None:
    rng = np.random.default_rng(3)
    maps = [rng.normal(size=(30, 20)).astype(np.float32) for _ in range(3)]
    wide = [rng.random((30, 20)) < 0.3 for _ in maps]
    narrow = [truth & (rng.random((30, 20)) < 0.5) for truth in wide]
    for limit in (None, MIN_LIMIT):
        tally = PixelTally(limit, truths=2)
        for one, truths in zip(maps, zip(wide, narrow, strict=True), strict=True):
            tally.add(one, *truths)
        for found, truths in zip(tally.rankings(), (wide, narrow), strict=True):
            exact, bounds = rank_pixels(maps, truths), found.error_bounds()
            assert found.auroc == pytest.approx(exact.auroc, abs=bounds.auroc + 1e-12)
            assert found.aupro() == pytest.approx(exact.aupro(), abs=bounds.aupro + 1e-12)
            assert found.best_f1()[1] == pytest.approx(exact.best_f1()[1], abs=bounds.best_f1 + 1e-12)
            assert (found.positives, found.regions) == (exact.positives, exact.regions)
