from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as label_regions
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from miasbench.harness.scoring import ranking as ranking_module
from miasbench.harness.scoring.curves import AUPRO_LIMIT
from miasbench.harness.scoring.ranking import (
    MIN_LIMIT,
    DiceCurve,
    DiceTally,
    ErrorBounds,
    PixelRanking,
    PixelTally,
    Ranking,
    dice_curve,
    rank_pixels,
    rounded_up,
)

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


@st.composite
def finely_valued_images(draw: st.DrawFn) -> Images:
    """Maps with far more different values than the fewest bins, on both sides of zero, close together or far apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([lambda x: x, np.exp, lambda x: x**15, lambda x: x * 1e37, lambda x: 5 + x / 1e3]))
    maps, truths = [], []
    for _ in range(draw(st.integers(1, 3))):
        truth = rng.random((25, 31)) < draw(st.sampled_from([0.0, 0.01, 0.2, 0.9]))
        maps.append(spread(rng.normal(size=truth.shape) + draw(st.sampled_from([0, 1, 4])) * truth).astype(np.float32))
        truths.append(truth)
    return maps, truths


def all_metrics(ranking: PixelRanking) -> np.ndarray:
    return np.array([ranking.auroc, ranking.average_precision, ranking.best_f1()[1], ranking.aupro()])


def mean_dice(curve: DiceCurve) -> np.ndarray:
    return curve.at(curve.thresholds)


def in_batches(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Takes no more than this number of pixels, or of thresholds, at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking_module, "BATCH", size)
        patch.setattr(ranking_module, "BLOCK", size)
        patch.setattr(ranking_module, "ROOM", size)
        return work(*arguments)


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


@given(images(), st.randoms(use_true_random=False), st.sampled_from([None, MIN_LIMIT]))
@settings(max_examples=60)
def test_neither_the_order_of_images_nor_the_size_of_batches_matters(
    content: Images, random: Any, limit: int | None
) -> None:
    pairs = list(zip(*content, strict=True))
    random.shuffle(pairs)
    one, other = rank_pixels(*content, limit), in_batches(20, rank_pixels, *zip(*pairs, strict=True), limit)
    np.testing.assert_array_equal(one.thresholds, other.thresholds)
    np.testing.assert_array_equal(one.true_positives, other.true_positives)
    np.testing.assert_array_equal(one.false_positives, other.false_positives)
    np.testing.assert_array_equal(one.false_positives_above, other.false_positives_above)
    np.testing.assert_allclose(all_metrics(one), all_metrics(other), atol=1e-12)
    curve, shuffled = dice_curve(*content, limit), in_batches(20, dice_curve, *zip(*pairs, strict=True), limit)
    np.testing.assert_array_equal(curve.thresholds, shuffled.thresholds)
    np.testing.assert_allclose(mean_dice(curve), mean_dice(shuffled), atol=1e-12)
    assert curve.best() == pytest.approx(shuffled.best(), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking_module, "THREADS", threads)
    monkeypatch.setattr(ranking_module, "ROOM", 10_000)
    rng = np.random.default_rng(0)
    maps, truths = rng.normal(size=(7, 64, 64)).astype(np.float32).round(2), rng.random((7, 64, 64)) < 0.1
    tally = PixelTally()
    for count, (anomaly_map, truth) in enumerate(zip(maps, truths, strict=True), 1):
        tally.add(anomaly_map, truth)
        ranking, whole = tally.ranking(), Ranking(flat(list(maps[:count])), flat(list(truths[:count])))
        for name in ("thresholds", "true_positives", "false_positives", "false_positives_above"):
            np.testing.assert_array_equal(getattr(ranking, name), getattr(whole, name))
        assert (ranking.auroc, ranking.average_precision) == (whole.auroc, whole.average_precision)


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


@given(finely_valued_images(), st.sampled_from([300, 2**24]))
@settings(max_examples=50)
def test_edges_of_bins_are_thresholds_at_which_everything_is_exact(content: Images, batch: int) -> None:
    maps, truths = content
    ranking, curve = rank_pixels(maps, truths), dice_curve(maps, truths)
    binned = in_batches(batch, rank_pixels, maps, truths, MIN_LIMIT)
    edges = binned.thresholds
    assert len(edges) <= MIN_LIMIT
    assert edges.dtype == np.float32
    assert np.isfinite(edges).all()
    np.testing.assert_array_equal(binned.true_positives, ranking.at(edges)[0])
    np.testing.assert_array_equal(binned.false_positives, ranking.at(edges)[1])
    np.testing.assert_allclose(binned.overlap, ranking.overlap_at(edges), atol=1e-12)
    binned_curve = in_batches(batch, dice_curve, maps, truths, MIN_LIMIT)
    assert len(binned_curve.thresholds) <= MIN_LIMIT
    np.testing.assert_allclose(mean_dice(binned_curve), curve.at(binned_curve.thresholds), atol=1e-12)
    if len(curve.thresholds):
        assert -1e-12 <= curve.best()[1] - binned_curve.best()[1] <= binned_curve.error_bound + 1e-12


@pytest.mark.parametrize("spread", [lambda x: x, np.exp, lambda x: 1 / (1 + np.exp(-x))])
def test_binned_metrics_of_a_million_pixels_are_exact_to_a_hundred_thousandth(
    spread: Callable[[np.ndarray], np.ndarray],
) -> None:
    rng = np.random.default_rng(0)
    truths = [np.kron(rng.random((16, 16)) < 0.1, np.ones((32, 32), bool)).astype(bool) for _ in range(4)]
    maps = [spread(rng.normal(size=truth.shape) + 1.5 * truth).astype(np.float32) for truth in truths]
    exact, binned = rank_pixels(maps, truths), rank_pixels(maps, truths, 2**19)
    assert binned.binned
    np.testing.assert_allclose(all_metrics(binned), all_metrics(exact), atol=1e-5)
    assert exact.auroc == pytest.approx(roc_auc_score(flat(truths), flat(maps)), abs=1e-9)
    assert exact.average_precision == pytest.approx(average_precision_score(flat(truths), flat(maps)), abs=1e-9)
    best, best_binned = dice_curve(maps, truths).best()[1], dice_curve(maps, truths, 2**19).best()[1]
    assert best_binned == pytest.approx(best, abs=1e-5)


def test_half_precision_maps_have_few_enough_values_to_be_exact() -> None:
    rng = np.random.default_rng(0)
    truths = [rng.random((256, 256)) < 0.2 for _ in range(3)]
    maps = [rng.normal(size=truth.shape).astype(np.float16) for truth in truths]
    exact, binned = rank_pixels(maps, truths), rank_pixels(maps, truths, 2**16)
    assert not binned.binned
    np.testing.assert_array_equal(all_metrics(binned), all_metrics(exact))
    assert binned.error_bounds() == ErrorBounds(0, 0, 0, 0)
    assert dice_curve(maps, truths, 2**16).error_bound == 0


@pytest.mark.parametrize("limit", [None, MIN_LIMIT])
def test_more_may_be_added_after_a_look(limit: int | None) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((30, 30), np.float32) for _ in range(3)]
    truths = [rng.random((30, 30)) < 0.2 for _ in range(3)]
    pixels, dice = PixelTally(limit), DiceTally(limit)
    for count, (anomaly_map, truth) in enumerate(zip(maps, truths, strict=True), 1):
        pixels.add(anomaly_map, truth)
        dice.add(anomaly_map, truth)
        so_far = rank_pixels(maps[:count], truths[:count], limit)
        np.testing.assert_allclose(all_metrics(pixels.ranking()), all_metrics(so_far), atol=1e-12)
        assert dice.curve().best() == pytest.approx(dice_curve(maps[:count], truths[:count], limit).best())


@pytest.mark.parametrize("limit", [None, MIN_LIMIT])
def test_a_map_is_left_alone_and_may_be_written_over(limit: int | None) -> None:
    rng = np.random.default_rng(0)
    maps, truths = rng.random((3, 30, 30), np.float32), rng.random((3, 30, 30)) < 0.2
    pixels, dice, room = PixelTally(limit), DiceTally(limit), np.empty((30, 30), np.float32)
    for anomaly_map, truth in zip(maps, truths, strict=True):
        room[:] = anomaly_map
        pixels.add(room, truth)
        dice.add(room, truth)
        np.testing.assert_array_equal(room, anomaly_map)
    np.testing.assert_array_equal(all_metrics(pixels.ranking()), all_metrics(rank_pixels(maps, truths, limit)))
    assert dice.curve().best() == dice_curve(maps, truths, limit).best()


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


def test_zero_has_no_sign() -> None:
    signed, plain = np.array([[-0.0, 0.0, 1.0]], np.float32), np.array([[0.0, -0.0, 1.0]], np.float32)
    truth = np.array([[True, False, False]])
    for limit in (None, MIN_LIMIT):
        for anomaly_map in (signed, plain):
            ranking, curve = rank_pixels([anomaly_map], [truth], limit), dice_curve([anomaly_map], [truth], limit)
            assert (ranking.auroc, ranking.best_f1()) == (0.25, (0, 0.5))
            assert curve.best() == (0, 0.5)
            assert not np.signbit([ranking.best_f1()[0], curve.best()[0]]).any()


@pytest.mark.parametrize("tally", [PixelTally, DiceTally])
def test_what_cannot_be_counted_is_refused(tally: type[PixelTally] | type[DiceTally]) -> None:
    truth = np.array([[True, False]])
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="not finite"):
            tally().add(np.array([[0, bad]], np.float32), truth)
    with pytest.raises(ValueError, match=r"a map of \(1, 2\) has a truth of \(2, 1\)"):
        tally().add(np.zeros((1, 2), np.float32), truth.T)
    with pytest.raises(ValueError, match="float64 would be rounded"):
        tally().add(np.zeros((1, 2)), truth)
    with pytest.raises(ValueError, match="511 values is below 512"):
        tally(511)
    with pytest.raises(ValueError, match="shorter"):
        rank_pixels([np.zeros((1, 2), np.float32)], [])


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


@given(images(), st.sampled_from([None, MIN_LIMIT]))
@settings(max_examples=150)
def test_mean_dice_is_that_of_every_threshold_by_itself(content: Images, limit: int | None) -> None:
    maps, truths = content
    curve = dice_curve(maps, truths, limit)
    with_lesion = [(anomaly_map, truth) for anomaly_map, truth in zip(maps, truths, strict=True) if truth.any()]
    assert curve.error_bound == 0
    if not with_lesion:
        assert len(curve.thresholds) == 0
        assert np.isnan(curve.best()).all()
        return
    anywhere = np.array([*sorted(set(flat(maps).tolist()), reverse=True), np.inf, -np.inf, 0.1])
    brute = [np.mean([plain_dice(one >= at, truth) for one, truth in with_lesion]) for at in anywhere]
    np.testing.assert_allclose(curve.at(anywhere), brute, atol=1e-12)
    assert float(curve.at(anywhere[0])) == pytest.approx(brute[0])
    threshold, best = curve.best()
    assert best == pytest.approx(max(brute), abs=1e-12)
    assert threshold == anywhere[np.flatnonzero(np.array(brute) >= max(brute) - 1e-12)[0]], "of several, the highest"


@given(finely_valued_images())
@settings(max_examples=50)
def test_the_best_mean_dice_is_that_of_all_values_of_lesions(content: Images) -> None:
    curve = dice_curve(*content)
    lesions = flat([anomaly_map[truth] for anomaly_map, truth in zip(*content, strict=True)])
    np.testing.assert_array_equal(curve.thresholds, np.unique(lesions)[::-1])
    if len(lesions):
        dice = mean_dice(curve)
        best = np.flatnonzero(dice >= dice.max() - 1e-12)[0]
        assert curve.best() == (curve.thresholds[best], dice[best])


@pytest.mark.parametrize("limit", [None, MIN_LIMIT])
def test_of_several_best_thresholds_the_highest_is_taken(limit: int | None) -> None:
    """Each further lesion pixel comes with just so many false ones that DICE stays one half."""
    truth = np.array([[True, True, False, False, False, True, False, False, False]])
    anomaly_map = np.array([[3, 2, 2, 2, 2, 1, 1, 1, 1]], np.float32)
    assert dice_curve([anomaly_map] * 3, [truth] * 3, limit).best() == (3, pytest.approx(0.5))


def test_mean_dice_of_maps_of_different_sizes() -> None:
    maps = [np.array([[2, 1]], np.float32), np.array([[3, 0], [0, 0]], np.float32)]
    truths = [np.array([[True, False]]), np.array([[True, True], [False, False]])]
    curve = dice_curve(maps, truths)
    np.testing.assert_array_equal(curve.thresholds, [3, 2, 0])
    np.testing.assert_allclose(mean_dice(curve), [(0 + 2 / 3) / 2, (1 + 2 / 3) / 2, (2 / 3 + 2 / 3) / 2])
    assert curve.best() == (2, pytest.approx(5 / 6))


@given(
    threshold=st.floats(allow_nan=False) | st.floats(-1, 1) | st.floats(-1e-44, 1e-44),
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
)
@settings(max_examples=300)
def test_a_threshold_rounded_up_is_reached_by_the_same_values(threshold: float, values: list[float]) -> None:
    near = np.array([threshold]).astype(np.float32) if abs(threshold) < 3e38 else np.zeros(1, np.float32)
    around = [np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf)]
    exact = np.concatenate([np.array(values, np.float32), near, *around])
    expected = exact.astype(np.float64) >= np.float64(threshold)
    for given_as in (threshold, np.float64(threshold), np.array([threshold])):
        rounded = rounded_up(given_as)
        assert rounded.dtype == np.float32
        np.testing.assert_array_equal(exact >= rounded, expected)
        np.testing.assert_array_equal(exact >= float(rounded.item()), expected)


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
