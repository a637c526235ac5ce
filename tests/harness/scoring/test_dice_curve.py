import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miasbench.harness.scoring.dice_curve import dice_curve
from miasbench.harness.scoring.tally import MIN_LIMIT

from ...support.maps import Images, finely_valued_images, flat, images, mean_dice, plain_dice


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
