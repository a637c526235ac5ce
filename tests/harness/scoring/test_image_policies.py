from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label, minimum_filter
from skimage.filters import threshold_otsu, threshold_triangle

from miasbench.harness.api import CalibratedPolicy, ImagePolicy
from miasbench.harness.conformance.policies import check_policy
from miasbench.harness.scoring.histograms import MapHistogram
from miasbench.harness.scoring.image_policies import Entropy, MeBin, Otsu, Triangle

SEEDS = st.integers(0, 2**32 - 1)
STEPS = 64


def blobs(seed: int, side: int = 24, count: int = 4) -> list[np.ndarray]:
    """Smooth noise, each second map with something that stands out."""
    rng = np.random.default_rng(seed)
    maps = [8 * gaussian_filter(rng.normal(size=(side, side)), 2) for _ in range(count)]
    for number, one in enumerate(maps):
        if number % 2:
            one[5 : 12 + number, 8:20] += 4
    return [one.astype(np.float32) for one in maps]


def long_tail(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((20, 24)) ** 3 + rng.random() * (rng.random((20, 24)) < 0.1)).astype(np.float32)


def masks(policy: ImagePolicy, maps: list[np.ndarray]) -> list[np.ndarray]:
    return [one >= np.float32(policy.threshold(one)) for one in maps]


@given(SEEDS)
@settings(max_examples=40)
def test_entropy_is_that_of_itk(seed: int) -> None:
    """Of 256 grey values: those in between fall into bins of ITK's that are a little wider."""
    tail = long_tail(seed)
    grey = np.round(255 * (tail - tail.min()) / np.ptp(tail)).astype(np.uint8)
    itk = sitk.MaximumEntropyThresholdImageFilter()
    itk.SetInsideValue(0)
    itk.SetOutsideValue(1)
    theirs = sitk.GetArrayFromImage(itk.Execute(sitk.GetImageFromArray(grey))) > 0
    np.testing.assert_array_equal(masks(Entropy(), [grey.astype(np.float32)])[0], theirs)


@given(SEEDS)
@settings(max_examples=20)
def test_entropy_is_the_largest_by_its_definition(seed: int) -> None:
    tail = long_tail(seed).astype(np.float64)
    unit = (tail - tail.min()) / np.ptp(tail)
    bins = np.minimum((unit * 256).astype(int), 255)

    def entropy(values: np.ndarray) -> float:
        shares = np.unique(values, return_counts=True)[1] / len(values)
        return -float((shares * np.log(shares)).sum())

    flat = bins.ravel()
    sums = {split: entropy(flat[flat <= split]) + entropy(flat[flat > split]) for split in range(255) if split in flat}
    chosen = int((unit[masks(Entropy(), [long_tail(seed)])[0]]).min() * 256)
    best = max(sums, key=lambda split: sums[split])
    assert chosen in (best, min(flat[flat > best])), "the middle of the last bin below"


@given(SEEDS)
@settings(max_examples=40)
def test_triangle_is_that_of_scikit_image(seed: int) -> None:
    anomaly_map = long_tail(seed)
    wide = anomaly_map.astype(np.float64)
    np.testing.assert_array_equal(masks(Triangle(), [anomaly_map])[0], wide > threshold_triangle(wide))


@given(SEEDS)
@settings(max_examples=40)
def test_otsu_is_that_of_scikit_image(seed: int) -> None:
    anomaly_map = long_tail(seed)
    wide = anomaly_map.astype(np.float64)
    unit = (wide - wide.min()) / np.ptp(wide)
    np.testing.assert_array_equal(masks(Otsu(), [anomaly_map])[0], unit > threshold_otsu(unit))


@given(SEEDS)
@settings(max_examples=40)
def test_a_histogram_is_numpys(seed: int) -> None:
    wide = long_tail(seed).astype(np.float64)
    unit = (wide - wide.min()) / np.ptp(wide)
    histogram = MapHistogram.of(np.sort(wide, axis=None))
    counts, edges = np.histogram(unit, 256, (0.0, 1.0))
    np.testing.assert_array_equal(histogram.counts, counts)
    middles = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_array_equal(histogram.above, [wide[unit > one].min(initial=np.inf) for one in middles])


@pytest.mark.parametrize("policy", [Otsu(), Entropy(), Triangle()])
@given(seed=SEEDS, factor=st.sampled_from([2.0**-20, 8.0]), shift=st.sampled_from([0.0, 64.0]))
@settings(max_examples=20)
def test_the_mask_of_a_histogram_does_not_depend_on_the_unit(
    policy: ImagePolicy, seed: int, factor: float, shift: float
) -> None:
    anomaly_map = np.round(long_tail(seed), 3)
    other = (factor * (anomaly_map.astype(np.float64) + shift)).astype(np.float32)
    one, two = masks(policy, [anomaly_map, other])
    assert (one != two).mean() < 0.02, "only values on the edge of a bin may change sides"


@pytest.mark.parametrize("policy", [Otsu(), Entropy(), Triangle()])
def test_two_values_are_split(policy: ImagePolicy) -> None:
    anomaly_map = np.zeros((9, 9), np.float32)
    anomaly_map[2:4, 3:8] = 1e-3
    np.testing.assert_array_equal(masks(policy, [anomaly_map])[0], anomaly_map > 0)


@pytest.mark.parametrize("value", [-2.5, 0.0, 1e30])
def test_nothing_stands_out_of_a_constant_map(value: float) -> None:
    constant = np.full((8, 8), value, np.float32)
    for policy in (Otsu(), Entropy(), Triangle(), MeBin().calibrate([constant, constant])):
        assert not masks(policy, [constant])[0].any()


@given(SEEDS, st.sampled_from([1, 3, 6]))
@settings(max_examples=30)
def test_mebin_takes_the_end_of_the_longest_run_of_one_number_of_components(seed: int, erosion: int) -> None:
    """Word by word: 64 thresholds, each mask eroded and its components counted by scipy."""
    maps = blobs(seed)
    peaks = [float(one.max()) for one in maps]
    falling = min(peaks) + (max(peaks) - min(peaks)) * (255 - 4 * np.arange(STEPS)) / 255
    policy = MeBin(erosion=erosion).calibrate(maps)
    for one in maps:
        eroded = minimum_filter(one, erosion, mode="constant", cval=np.inf)
        counts = [label(eroded > threshold, np.ones((3, 3)))[1] for threshold in falling]
        runs = [
            (end - start + 1, -start, end)
            for start in range(STEPS)
            for end in range(start, STEPS)
            if counts[start] and len(set(counts[start : end + 1])) == 1 and end - start >= 3
        ]
        expected = one > falling[max(runs)[2]] if runs else np.zeros(one.shape, bool)
        np.testing.assert_array_equal(one >= np.float32(policy.threshold(one)), expected)


@pytest.mark.slow
def test_mebin_with_the_range_of_the_test_set_is_anomalibs(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("anomalib.post_processing.mebin")
    # A component of such small maps is filled after as many steps.
    quick = partial(theirs._count_connected_components, num_iterations=20)
    monkeypatch.setattr(theirs, "_count_connected_components", quick)
    for erosion, erode in ((6, True), (1, False)):
        maps = blobs(5, side=18, count=2)
        expected, _ = theirs.mebin_binarize(torch.tensor(np.stack(maps))[:, None], erode=erode)
        found = masks(MeBin(range="test_set", erosion=erosion).calibrate(maps), maps)
        assert any(one.any() for one in found)
        np.testing.assert_array_equal(np.stack(found), expected[:, 0].numpy() > 0.5)


def test_mebin_finds_nothing_below_the_smallest_peak_of_its_range() -> None:
    maps = blobs(2)
    policy = MeBin().calibrate([one + 100 for one in maps])
    assert policy.threshold(maps[1]) == float("inf")


def test_mebins_range_is_that_of_normal_maps_unless_asked_otherwise() -> None:
    assert MeBin().reference == "normals"
    assert MeBin(range="test_set").reference == "test_set"
    assert "transductive" in MeBin(range="test_set").convention
    assert "transductive" not in MeBin().convention


@pytest.mark.parametrize("text", ["triangle", "entropy", "mebin", "mebin[range=test_set]", "mebin[erosion=1]"])
def test_they_keep_the_contract(text: str) -> None:
    assert check_policy(text) == []


def test_a_calibrated_policy_that_cannot_calibrate_breaks_the_contract() -> None:
    class Unsure(CalibratedPolicy):
        name = "unsure"

    assert check_policy(Unsure) == ["it is a class of policies: it does not define calibrate."]
