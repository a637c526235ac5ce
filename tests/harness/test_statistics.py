import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from miasbench.harness.statistics import bootstrap_mean

finite = st.floats(-1e3, 1e3)


def patients(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def test_one_image_per_patient_is_the_plain_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).beta(2, 3, 40)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    low, high = bootstrap_mean(values, patients(40), resamples=20_000)
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.003)


def test_one_image_per_patient_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(5, 2, 400)
    half = 1.96 * values.std() / np.sqrt(400)
    assert bootstrap_mean(values, patients(400)) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.02
    )


def test_two_patients_can_be_enumerated() -> None:
    """Two patients are drawn twice each with a chance of a quarter; the mean is over images, not over patients."""
    values, groups = np.array([0.0, 0.0, 0.0, 1.0]), ["a", "a", "a", "b"]
    assert bootstrap_mean(values, groups) == (0.0, 1.0)
    assert bootstrap_mean(values, groups, level=0.4) == (0.25, 0.25)


def test_level_sets_the_width() -> None:
    values = np.random.default_rng(4).random(30)
    widths = [np.diff(bootstrap_mean(values, patients(30), level=level))[0] for level in (0.5, 0.8, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_slices_of_one_patient_widen_the_interval() -> None:
    of_patients = np.random.default_rng(5).random(12)
    values = np.repeat(of_patients, 20)
    clustered = bootstrap_mean(values, [f"p{number // 20}" for number in range(len(values))])
    independent = bootstrap_mean(values, patients(len(values)))
    ratio = (clustered[1] - clustered[0]) / (independent[1] - independent[0])
    assert ratio == pytest.approx(np.sqrt(20), rel=0.15), "twelve patients are all there is to know"
    assert clustered == pytest.approx(bootstrap_mean(of_patients, patients(12)), abs=1e-12)


@given(values=st.lists(finite, min_size=2, max_size=30), seed=st.integers(0, 100))
@settings(max_examples=30)
def test_lies_within_the_values_and_is_the_same_for_the_same_seed(values: list[float], seed: int) -> None:
    array = np.array(values)
    low, high = bootstrap_mean(array, patients(len(values)), resamples=200, seed=seed)
    slack = 1e-9 * max(1.0, np.abs(array).max())
    assert array.min() - slack <= low <= high <= array.max() + slack
    assert (low, high) == bootstrap_mean(array, patients(len(values)), resamples=200, seed=seed)


def test_another_seed_draws_otherwise() -> None:
    values = np.random.default_rng(6).random(25)
    assert bootstrap_mean(values, patients(25), resamples=100) != bootstrap_mean(
        values, patients(25), resamples=100, seed=1
    )


def test_leaves_nan_values_out() -> None:
    values = np.random.default_rng(7).random(20)
    with_gaps = np.concatenate([values, np.full(5, np.nan)])
    groups = [*patients(20), "p0", "p1", "other", "other", "p19"]
    assert bootstrap_mean(with_gaps, groups) == bootstrap_mean(values, patients(20))


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([], []),
        ([0.5], ["a"]),
        ([0.5, 0.7, 0.1], ["a", "a", "a"]),
        ([0.5, np.nan], ["a", "b"]),
        ([np.nan, np.nan], ["a", "b"]),
    ],
)
def test_no_interval_with_fewer_than_two_patients(values: list[float], groups: list[str]) -> None:
    assert np.isnan(bootstrap_mean(np.array(values, float), groups)).all()


def test_constant_values_have_an_interval_of_no_width() -> None:
    assert bootstrap_mean(np.full(9, 0.25), patients(9)) == (0.25, 0.25)


def test_many_patients_are_drawn_in_parts() -> None:
    """With more draws than fit at once, the result is still one interval around the mean."""
    values = np.random.default_rng(8).random(6_000)
    low, high = bootstrap_mean(values, patients(6_000), resamples=3_000)
    half = 1.96 * values.std() / np.sqrt(6_000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)
