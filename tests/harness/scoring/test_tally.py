from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from miasbench.harness.scoring import tally as tally_module
from miasbench.harness.scoring.dice_curve import DiceTally, dice_curve
from miasbench.harness.scoring.ranking import ErrorBounds, PixelTally, Ranking, rank_pixels
from miasbench.harness.scoring.tally import MIN_LIMIT, rounded_up

from ...support.maps import Images, all_metrics, finely_valued_images, flat, images, in_batches, mean_dice


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
    monkeypatch.setattr(tally_module, "THREADS", threads)
    monkeypatch.setattr(tally_module, "ROOM", 10_000)
    rng = np.random.default_rng(0)
    maps, truths = rng.normal(size=(7, 64, 64)).astype(np.float32).round(2), rng.random((7, 64, 64)) < 0.1
    tally = PixelTally()
    for count, (anomaly_map, truth) in enumerate(zip(maps, truths, strict=True), 1):
        tally.add(anomaly_map, truth)
        ranking, whole = tally.ranking(), Ranking(flat(list(maps[:count])), flat(list(truths[:count])))
        for name in ("thresholds", "true_positives", "false_positives", "false_positives_above"):
            np.testing.assert_array_equal(getattr(ranking, name), getattr(whole, name))
        assert (ranking.auroc, ranking.average_precision) == (whole.auroc, whole.average_precision)


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
