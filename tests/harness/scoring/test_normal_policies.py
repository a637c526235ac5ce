"""Budgets of false positives: each policy against plain counting, and what the conformal ones promise in simulation."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miasbench.harness.api import ForegroundPolicy, NormalImage, PolicyUnavailableError
from miasbench.harness.registry import make_policy
from miasbench.harness.scoring.normal_policies import Conformal, ConformalRisk, NormalFpr, NormalImageFpr
from miasbench.harness.specs import parse_policy

POLICIES = (NormalFpr(), NormalImageFpr(), Conformal(), ConformalRisk())
RATES = (0.0, 0.00267, 0.01, 0.05, 0.1, 0.29, 0.5, 0.999)


def image(*values: float, patient: str = "p") -> NormalImage:
    return NormalImage(np.array(values, np.float32), patient)


def scores_of_patients(values: Sequence[float]) -> list[NormalImage]:
    """An image of one pixel for each patient."""
    return [image(value, patient=str(index)) for index, value in enumerate(values)]


def risk(images: Sequence[NormalImage], threshold: float) -> float:
    """The mean positive share, each patient alike, and within a patient each image."""
    patients = {one.patient for one in images}
    shares = [
        np.mean([(one.values >= np.float32(threshold)).mean() for one in images if one.patient == patient])
        for patient in patients
    ]
    return float(np.mean(shares))


@st.composite
def normal_images(draw: st.DrawFn, most: int = 8) -> list[NormalImage]:
    """Images of one or several patients, with ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 20, 100_000]))
    return [
        NormalImage(
            (rng.integers(-levels, levels, rng.integers(1, 30)) / 7).astype(np.float32), str(rng.integers(0, 5))
        )
        for _ in range(draw(st.integers(1, most)))
    ]


def below(threshold: float) -> float:
    """The next lower threshold that a map of float32 can tell."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))


@given(normal_images(), st.sampled_from(RATES))
@settings(max_examples=200)
def test_normal_fpr_is_the_lowest_threshold_within_its_rate(images: list[NormalImage], rate: float) -> None:
    pixels = np.concatenate([one.values for one in images])
    threshold = NormalFpr(rate).threshold(images)
    allowed = rate * len(pixels)
    assert (pixels >= np.float32(threshold)).sum() <= allowed + 1e-9
    assert (pixels >= np.float32(below(threshold))).sum() > allowed - 1e-9, "a lower one has more"


@given(normal_images(), st.sampled_from(RATES))
@settings(max_examples=200)
def test_normal_image_fpr_is_the_lowest_threshold_within_its_rate(images: list[NormalImage], rate: float) -> None:
    def positive(threshold: float) -> int:
        return sum(bool((one.values >= np.float32(threshold)).any()) for one in images)

    threshold = NormalImageFpr(rate).threshold(images)
    assert positive(threshold) <= rate * len(images) + 1e-9
    assert positive(below(threshold)) > rate * len(images) - 1e-9


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.00267])
def test_normal_fpr_is_a_quantile_of_numpy(rate: float) -> None:
    values = np.random.default_rng(0).permutation(10_000).astype(np.float32)
    threshold = NormalFpr(rate).threshold([NormalImage(part, "p") for part in np.split(values, 4)])
    expected = np.quantile(values, 1 - floor(rate * 10_000) / 10_000, method="inverted_cdf")
    assert below(threshold) == expected


def test_a_rate_is_a_decimal() -> None:
    """0.29 times 100 is 28.999… in binary."""
    assert (np.arange(100) >= NormalFpr(0.29).threshold([image(*range(100))])).sum() == 29


@pytest.mark.parametrize(
    ("count", "alpha"), [(9, 0.1), (10, 0.1), (19, 0.05), (19, 0.1), (23, 0.1), (99, 0.29), (3, 0.5)]
)
def test_conformal_takes_the_order_statistic_of_the_textbook(count: int, alpha: float) -> None:
    values = np.random.default_rng(count).permutation(count) + 0.5
    place = ceil(round((count + 1) * (1 - alpha), 9))
    expected = np.sort(values)[place - 1]
    images = [image(value, value - 3, value - 7, patient=str(index)) for index, value in enumerate(values)]
    assert below(Conformal(alpha).threshold(images)) == expected
    pixels = scores_of_patients(values.tolist())
    assert ConformalRisk(alpha).threshold(pixels) == Conformal(alpha).threshold(pixels), "of one pixel, it is the same"


@given(normal_images(most=12), st.sampled_from([0.2, 0.34, 0.5, 0.9]))
@settings(max_examples=200)
def test_conformal_risk_is_the_lowest_threshold_within_its_budget(images: list[NormalImage], alpha: float) -> None:
    patients = len({one.patient for one in images})

    def bound(threshold: float) -> float:
        return patients / (patients + 1) * risk(images, threshold) + 1 / (patients + 1)

    if alpha < 1 / (patients + 1):
        with pytest.raises(PolicyUnavailableError):
            ConformalRisk(alpha).threshold(images)
        return
    threshold = ConformalRisk(alpha).threshold(images)
    assert bound(threshold) <= alpha + 1e-8
    assert bound(below(threshold)) > alpha - 1e-8


@given(normal_images(most=12), st.sampled_from([0.2, 0.34, 0.5, 0.9]))
@settings(max_examples=100)
def test_conformal_is_risk_control_of_images_with_any_positive(images: list[NormalImage], alpha: float) -> None:
    highest = [image(float(one.values.max()), patient=one.patient) for one in images]
    try:
        expected = ConformalRisk(alpha).threshold(highest)
    except PolicyUnavailableError:
        return
    assert Conformal(alpha).threshold(images) == expected


@given(normal_images(most=12))
@settings(max_examples=100)
def test_a_larger_budget_never_raises_a_threshold(images: list[NormalImage]) -> None:
    kinds = (
        lambda rate: NormalFpr(rate),
        lambda rate: NormalImageFpr(rate),
        lambda rate: Conformal(rate, "image"),
        lambda rate: ConformalRisk(rate, "image"),
    )
    for kind in kinds:
        chosen = []
        for rate in (0.1, 0.3, 0.5, 0.7, 0.9):
            try:
                chosen.append(kind(rate).threshold(images))
            except PolicyUnavailableError:
                assert not chosen, "a larger alpha needs fewer images"
        assert all(one >= other for one, other in pairwise(chosen))


def test_patients_weigh_the_same_however_many_slices_they_have() -> None:
    """Of three patients, one has eight of the ten slices: over images, its own slices would decide."""
    images = [*(image(1, patient="many") for _ in range(8)), image(5, patient="a"), image(6, patient="b")]
    assert below(Conformal(0.3, "image").threshold(images)) == 1
    assert below(Conformal(0.3).threshold(images)) == 6, "3 patients allow nothing below 0.25, and 0.3 only the highest"
    assert below(Conformal(0.5).threshold(images)) == 5


@pytest.mark.parametrize("policy", [Conformal, ConformalRisk])
def test_too_few_patients_are_counted_in_a_sentence(policy: type[Conformal | ConformalRisk]) -> None:
    images = scores_of_patients(range(8))
    with pytest.raises(PolicyUnavailableError, match=r"alpha=0.1 .* images of 8 patients: the smallest .* is 0\.111"):
        policy(0.1).threshold(images)
    policy(0.1).threshold(scores_of_patients(range(9)))
    with pytest.raises(PolicyUnavailableError, match=r"images of 1 patient: .* is 0\.5"):
        policy(0.1).threshold([image(1), image(2)])
    with pytest.raises(PolicyUnavailableError, match=r"images of 2 images: .* is 0\.333"):
        policy(0.1, "image").threshold([image(1), image(2)])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_that_sees_nothing_says_so(policy: ForegroundPolicy) -> None:
    with pytest.raises(PolicyUnavailableError, match="the validation split has no normal image"):
        policy.threshold([])
    with pytest.raises(PolicyUnavailableError, match="no normal validation image has a foreground"):
        policy.threshold([image(patient=str(index)) for index in range(20)])


@pytest.mark.parametrize("policy", POLICIES)
def test_an_image_without_a_foreground_is_never_positive(policy: ForegroundPolicy) -> None:
    images = [*scores_of_patients(range(30)), image(patient="empty")]
    assert np.isfinite(policy.threshold(images))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_says_what_it_saw(policy: ForegroundPolicy) -> None:
    seen = policy.seen([image(1, 2, patient="a"), image(3, patient="a"), image(4, patient="b")])
    assert seen.startswith("saw 3 normal validation images of 2 patients, 4 foreground pixels")
    allowed = {Conformal(): "2 patients allow is 0.333", Conformal(unit="image"): "3 images allow is 0.25"}
    for one, words in allowed.items():
        assert words in one.seen([image(1, 2, patient="a"), image(3, patient="a"), image(4, patient="b")])


def test_what_each_policy_promises() -> None:
    promised = {type(policy).name: (*policy.promise,) for policy in POLICIES if policy.promise}
    assert promised == {
        "normal_fpr": ("normal_fpr", 0.01),
        "normal_image_fpr": ("normal_image_fpr", 0.05),
        "conformal": ("normal_image_fpr", 0.1),
        "conformal_risk": ("normal_fp_area_foreground", 0.1),
    }
    assert make_policy(parse_policy("normal_fpr[rate=0.00267]")).promise == ("normal_fpr", 0.00267)


DRAWS = 10_000


def conformal_thresholds(calibration: np.ndarray, alpha: float) -> np.ndarray:
    """The policy's threshold of draws of maxima, (D, n): an order statistic, as 20 of them show."""
    count = calibration.shape[1]
    order = np.sort(calibration, axis=1)
    expected = order[:, count - floor(round((count + 1) * alpha, 9))]
    for draw in range(20):
        chosen = Conformal(alpha).threshold(scores_of_patients(calibration[draw]))
        assert below(chosen) == expected[draw]
    return np.nextafter(expected, np.float32(np.inf))


@pytest.mark.parametrize(("count", "alpha"), [(9, 0.1), (23, 0.1), (39, 0.05), (50, 0.2)])
def test_conformal_keeps_its_promise_where_images_are_exchangeable(count: int, alpha: float) -> None:
    """Miscoverage lies between alpha - 1 / (n + 1) and alpha, within four standard errors of 10,000 draws."""
    rng = np.random.default_rng(count)
    values = rng.gamma(2.0, size=(DRAWS, count + 1)).astype(np.float32)
    missed = (values[:, -1] >= conformal_thresholds(values[:, :-1], alpha)).mean()
    error = 4 * np.sqrt(alpha * (1 - alpha) / DRAWS)
    assert alpha - 1 / (count + 1) - error < missed < alpha + error


def test_conformal_fails_where_the_test_set_is_shifted() -> None:
    rng = np.random.default_rng(1)
    values = rng.gamma(2.0, size=(DRAWS, 24)).astype(np.float32)
    missed = (values[:, -1] + 1.5 >= conformal_thresholds(values[:, :-1], 0.1)).mean()
    assert missed > 0.25, "a promise of 0.1"


def test_slices_of_one_patient_are_not_exchangeable() -> None:
    """10 patients have 8 nearly equal slices each, and the new image is of another patient.

    80 images seem to allow an alpha of 0.05. There are 10 patients, and 1 of 11 is the highest: 0.09.
    """
    rng, draws = np.random.default_rng(2), 1500
    over_images, over_patients, images = 0, 0, list[NormalImage]()
    for _ in range(draws):
        levels = rng.normal(size=(11, 1))
        values = (levels + 0.01 * rng.normal(size=(11, 8))).astype(np.float32)
        images = [image(value, patient=str(one)) for one in range(10) for value in values[one]]
        over_images += values[10, 0] >= np.float32(Conformal(0.05, "image").threshold(images))
        over_patients += values[10, 0] >= np.float32(Conformal(0.1).threshold(images))
    assert over_images / draws > 0.05 + 4 * np.sqrt(0.05 * 0.95 / draws)
    assert over_patients / draws < 0.1 + 4 * np.sqrt(0.1 * 0.9 / draws)
    with pytest.raises(PolicyUnavailableError, match=r"10 patients: the smallest alpha that they allow is 0\.0909"):
        Conformal(0.05).threshold(images)


def test_conformal_risk_keeps_its_promise_in_expectation() -> None:
    """The positive share of a new image, with shares that differ much from image to image."""
    rng, alpha, draws, pixels = np.random.default_rng(3), 0.1, 1000, 40
    shares = []
    for _ in range(draws):
        levels = rng.exponential(size=(13, 1))
        values = (levels * rng.random((13, pixels))).astype(np.float32)
        images = [NormalImage(one, str(index)) for index, one in enumerate(values[:12])]
        shares.append((values[12] >= np.float32(ConformalRisk(alpha).threshold(images))).mean())
    error = 4 * np.std(shares) / np.sqrt(draws)
    assert alpha - 1 / 13 - error < np.mean(shares) < alpha + error
