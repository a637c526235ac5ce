import numpy as np
import pandas as pd
import pytest
from scipy import stats

from miasbench.results.metrics import METRICS
from miasbench.results.seeds import over_seeds, seeds_part, seeds_part_of_difference, with_seeds

NAN = float("nan")


def rows(*seeds: tuple[float, float, float], metric: str = "dice", patients: float = 12) -> pd.DataFrame:
    """Scores of one cell for each seed: value, low and high end."""
    columns = ["value", "ci_low", "ci_high"]
    return pd.DataFrame(list(seeds), columns=columns).assign(metric=metric, patients=patients, seed=range(len(seeds)))


def test_one_seed_is_its_own_value_and_interval() -> None:
    found = over_seeds(rows((0.4, 0.3, 0.6)))
    assert found[:1] + found[2:] == pytest.approx((0.4, 0.3, 0.6, 1, 12))
    assert np.isnan(found.std)


def test_several_seeds_have_the_deviation_of_a_sample() -> None:
    found = over_seeds(rows((0.4, 0.3, 0.6), (0.5, 0.4, 0.7), (0.3, 0.2, 0.5)))
    assert (found.value, found.std) == pytest.approx((0.4, 0.1)), "n - 1 in the denominator"
    assert found.seeds == 3


def test_the_interval_is_over_seeds_and_patients_together() -> None:
    found = over_seeds(rows((0.4, 0.35, 0.6), (0.5, 0.45, 0.7), (0.45, 0.4, 0.65)))
    of_seeds = stats.t.ppf(0.975, 2) * 0.05 / np.sqrt(3)
    assert found.low == pytest.approx(0.45 - np.hypot(0.05, of_seeds))
    assert found.high == pytest.approx(0.45 + np.hypot(0.2, of_seeds)), "each side by itself"


def test_equal_seeds_leave_the_interval_over_patients() -> None:
    found = over_seeds(rows((0.4, 0.3, 0.6), (0.4, 0.3, 0.6)))
    assert (found.low, found.high, found.std) == pytest.approx((0.3, 0.6, 0))


def test_an_interval_ends_where_the_metric_does() -> None:
    wide = rows((0.1, 0.0, 0.4), (0.9, 0.6, 1.0))
    assert over_seeds(wide)[2:4] == (0, 1)
    assert over_seeds(wide.assign(metric="regret"))[2:4] == (-1, 1)
    low, high = over_seeds(wide.assign(metric="hd95_px"))[2:4]
    assert (low, high > 1) == (0, True)
    low, high = over_seeds(wide.assign(metric="of a plugin"))[2:4]
    assert (low < -1, high > 1) == (True, True)
    assert METRICS["dice"].range == (0, 1)


def test_seeds_without_a_value_are_left_out() -> None:
    found = over_seeds(rows((0.4, 0.3, 0.6), (NAN, NAN, NAN)))
    assert (found.value, found.low, found.high, found.seeds) == (0.4, pytest.approx(0.3), 0.6, 1)
    nothing = over_seeds(rows((NAN, NAN, NAN)))
    assert np.isnan(nothing[:4]).all()
    assert (nothing.seeds, over_seeds(rows()).seeds) == (0, 0)


def test_there_is_no_interval_where_a_seed_has_none() -> None:
    found = over_seeds(rows((0.4, 0.3, 0.6), (0.5, NAN, NAN)))
    assert np.isnan([found.low, found.high]).all()
    assert (found.value, found.std > 0) == (0.45, True)


@pytest.mark.parametrize(("patients", "few"), [(NAN, False), (2, True), (7, True), (8, False)])
def test_an_interval_over_few_patients_is_marked(patients: float, few: bool) -> None:
    assert over_seeds(rows((0.4, 0.3, 0.6), patients=patients)).few_patients == few
    assert not over_seeds(rows((0.4, NAN, NAN), patients=patients)).few_patients


def test_the_seeds_part_is_half_of_students_interval() -> None:
    values = np.random.default_rng(0).random(5)
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert seeds_part([*values, NAN]) == pytest.approx((interval.high - interval.low) / 2)
    assert seeds_part([0.3]) == seeds_part([]) == 0


def test_differences_of_the_same_seeds_are_paired() -> None:
    a, b = pd.Series([0.1, 0.5, 0.3], [0, 1, 2]), pd.Series([0.2, 0.6, 0.4], [0, 1, 2])
    assert seeds_part_of_difference(a, b.iloc[::-1]) == pytest.approx(0, abs=1e-12)
    others = b.set_axis([3, 4, 5])
    assert seeds_part_of_difference(a, others) == pytest.approx(np.hypot(seeds_part(a), seeds_part(b)))


def test_a_method_without_randomness_adds_nothing_to_a_difference() -> None:
    a, once = pd.Series([0.1, 0.5, 0.3], [0, 1, 2]), pd.Series([0.2], [0])
    assert seeds_part_of_difference(a, once) == seeds_part_of_difference(once, a) == seeds_part(a)


@pytest.mark.parametrize("seeds_matter", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_covers_the_mean_of_all_seeds_and_patients(seeds: int, seeds_matter: float) -> None:
    """Of 4,000 benchmarks of 10 patients, about 95 % have the truth within, whatever the seeds' share of the noise."""
    rng = np.random.default_rng(seeds)
    covered = 0
    for _ in range(4000):
        of_patients = rng.normal(size=10)
        values = of_patients + seeds_matter * rng.normal(size=(seeds, 1)) + 0.2 * rng.normal(size=(seeds, 10))
        reach = stats.t.ppf(0.975, 9) * values.std(axis=1, ddof=1).mean() / np.sqrt(10)
        mean = values.mean()
        low, high = with_seeds(mean, (mean - reach, mean + reach), [seeds_part(values.mean(axis=1))])
        covered += low <= 0 <= high
    assert 0.94 <= covered / 4000 <= 0.985
