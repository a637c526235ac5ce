"""AUPIMO against anomalib's, and both scores of budgets against their definitions."""

import numpy as np
import pytest

from miasbench.harness.scoring.budgets import Budgets

SIDE = 100  # ten normal images are 100,000 pixels, so that one of them is a rate of 1e-5


def budgets_of(
    maps: np.ndarray, masks: np.ndarray, labels: np.ndarray, foregrounds: np.ndarray | None = None
) -> Budgets:
    budgets = Budgets([SIDE**2] * int(np.count_nonzero(labels == 0)))
    for index, (anomaly_map, mask, label) in enumerate(zip(maps, masks, labels, strict=True)):
        budgets.add(anomaly_map, mask, int(label), None if foregrounds is None else foregrounds[index])
    return budgets


def images(normal: int, anomalous: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of noise, brighter where lesions are."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [normal, anomalous])
    masks = np.zeros((len(labels), SIDE, SIDE), bool)
    masks[normal:, 20:50, 30:70] = True
    maps = rng.standard_normal(masks.shape) + masks * rng.uniform(2, 5, (len(labels), 1, 1))
    return maps.astype(np.float32), masks, labels


def by_definition(maps: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The recall of each image at very many budgets, evenly spread in the logarithm: one threshold after the other."""
    normal = np.sort(maps[labels == 0].ravel())[::-1]
    rates = 10 ** -np.linspace(4, 5, 20_001)[:-1]
    allowed = np.floor(rates * len(normal) + 1e-9).astype(int)
    return np.array(
        [
            np.mean([np.mean(one[mask] > normal[count]) for count in allowed.tolist()]) if mask.any() else np.nan
            for one, mask in zip(maps, masks, strict=True)
        ]
    )


def test_aupimo_is_anomalibs() -> None:
    """On maps whose rates reach 1e-5 and 1e-4 exactly: between, anomalib takes the nearest of its thresholds."""
    torch = pytest.importorskip("torch")
    aupimo = pytest.importorskip("anomalib.metrics").AUPIMO
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [10, 3])
    masks = np.zeros((13, SIDE, SIDE), bool)
    for index, size in enumerate((30, 12, 5), start=10):
        masks[index, 20 : 20 + size, 40 : 40 + size] = True
    maps = rng.integers(0, 800, masks.shape).astype(np.float32)
    places = rng.choice(10 * SIDE**2, 12, replace=False)
    maps[:10].reshape(-1)[places] = np.arange(1000, 880, -10)  # the highest normal pixels: 1000, 990 and so on
    maps[0, 0, 0] = 0
    # Nine of ten steps of whole numbers: no lesion pixel is between a normal value and anomalib's next threshold.
    maps[masks] = 10 * rng.integers(85, 104, masks.sum()) + rng.integers(2, 9, masks.sum()) + 0.5
    theirs = aupimo.__mro__[2](num_thresholds=1001, return_average=False, force=True)
    theirs.update(torch.from_numpy(maps), torch.from_numpy(masks))
    expected = theirs.compute()[1].aupimos.numpy()
    found = budgets_of(maps, masks, labels).aupimo()
    assert np.isnan(found[:10]).all()
    np.testing.assert_allclose(found[10:], expected[10:], rtol=1e-6)
    assert (found[10:] > 0.05).all()
    assert (found[10:] < 0.95).all()


@pytest.mark.parametrize("normal", [3, 12, 30])
def test_aupimo_is_the_mean_recall_over_budgets(normal: int) -> None:
    maps, masks, labels = images(normal, 3, seed=normal)
    found, expected = budgets_of(maps, masks, labels).aupimo(), by_definition(maps, masks, labels)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert (found[normal:] > 0.01).all()


def test_normal_images_count_the_same_whatever_their_size() -> None:
    small, large = np.zeros((10, 10), np.float32), np.zeros((200, 500), np.float32)
    large.reshape(-1)[:8] = 2
    lesion = np.full((1, 4), [1, 1, 3, 3], np.float32)
    budgets = Budgets([small.size, large.size])
    for one in (small, large):
        budgets.add(one, np.zeros(one.shape, bool), 0, None)
    budgets.add(lesion, np.ones(lesion.shape, bool), 1, None)
    # Eight pixels of the large image are a mean rate of 4e-5; up to there, half of the lesion is found, then all.
    assert budgets.aupimo()[2] == pytest.approx(0.5 * np.log10(4) + np.log10(10 / 4))


def test_equal_normal_pixels_that_overstep_a_budget_are_all_left_out() -> None:
    maps, masks, labels = images(10, 1)
    flat = np.ones_like(maps)
    budgets = budgets_of(flat, masks, labels)
    assert budgets.aupimo()[10] == 0
    assert budgets.found()[0].sum() == 0


def test_sensitivity_holds_the_rate_in_the_foreground() -> None:
    maps, masks, labels = images(5, 4)
    foregrounds = np.zeros(masks.shape, bool)
    foregrounds[:, 10:60, 20:90] = True
    for inside, normal in ((foregrounds, maps[:5][foregrounds[:5]]), (None, maps[:5].ravel())):
        found, lesions = budgets_of(maps, masks, labels, inside).found()
        threshold = np.sort(normal)[::-1][int(0.01 * len(normal))]
        assert np.mean(normal > threshold) == 0.01
        expected = [np.count_nonzero(one[mask] > threshold) for one, mask in zip(maps, masks, strict=True)]
        assert found.tolist() == expected
        assert lesions.tolist() == [0] * 5 + [1200] * 4


def test_without_a_normal_image_there_is_no_value() -> None:
    maps, masks, labels = images(0, 2)
    budgets = budgets_of(maps, masks, labels)
    assert np.isnan(budgets.aupimo()).all()
    assert np.isnan(budgets.found()[0]).all()
