from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import ttest_power

from miasbench.harness.analysis.statistics import case_table, compare, patient_draws, rank_stability, seed_table
from miasbench.harness.scoring.intervals import PatientCurves, auroc_interval, mean_interval
from miasbench.results.seeds import seeds_part


def patients(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def t_interval(value: float, without: Sequence[float], patients: int | None = None) -> tuple[float, float]:
    """Student's interval by the jackknife on the logit scale, of a score between 0 and 1."""
    count = len(without)
    error = np.sqrt((count - 1) / count * np.square(np.asarray(without) - np.mean(without)).sum())
    reach = stats.t.ppf(0.975, (patients or count) - 1) * error / (value * (1 - value))
    middle = np.log(value / (1 - value))
    low, high = 1 / (1 + np.exp(-(middle + reach * np.array([-1, 1]))))
    return float(low), float(high)


def redrawn(draw: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The rows of drawn patients, as often as each came up; `index` holds the patient of each row."""
    return np.repeat(np.arange(len(index)), draw[index])


class TestPatientDraws:
    def test_each_draw_holds_as_many_as_there_are(self) -> None:
        draws = patient_draws(7, resamples=500)
        assert draws.shape == (500, 7)
        assert (draws.sum(axis=1) == 7).all()

    def test_every_patient_comes_up_as_often_as_by_chance(self) -> None:
        draws = patient_draws(10, resamples=20_000)
        assert draws.mean(axis=0) == pytest.approx(np.ones(10), abs=0.03)
        assert draws.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.04), "multinomial: n / n * (1 - 1 / n)"
        assert np.corrcoef(draws.T)[0, 1:] == pytest.approx(np.full(9, -1 / 9), abs=0.03)

    def test_are_the_same_for_the_same_seed_and_cannot_be_changed(self) -> None:
        draws = patient_draws(5, resamples=50, seed=3)
        patient_draws.cache_clear()
        assert (patient_draws(5, resamples=50, seed=3) == draws).all()
        assert (patient_draws(5, resamples=50, seed=4) != draws).any()
        with pytest.raises(ValueError, match="read-only"):
            draws[0, 0] = 9

    def test_many_patients_are_drawn_in_parts(self) -> None:
        draws = patient_draws(3_001, resamples=1_000)
        assert (draws.sum(axis=1) == 3_001).all()
        assert len(np.unique(draws, axis=0)) == 1_000


class TestMeanInterval:
    @pytest.mark.parametrize("count", [2, 3, 8, 60])
    def test_one_image_per_patient_has_the_interval_of_the_t_test(self, count: int) -> None:
        values = np.random.default_rng(count).normal(5, 2, count)
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        assert mean_interval(values, patients(count)) == pytest.approx((expected.low, expected.high, count))

    def test_patients_of_equal_size_have_the_interval_of_the_t_test_on_their_means(self) -> None:
        values = np.random.default_rng(1).random((7, 4))
        expected = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval()
        found = mean_interval(values.ravel(), np.repeat(patients(7), 4).tolist())
        assert found == pytest.approx((expected.low, expected.high, 7))

    def test_patients_of_unequal_size_are_each_left_out_in_turn(self) -> None:
        rng = np.random.default_rng(2)
        index = np.repeat(np.arange(9), rng.integers(1, 8, 9))
        values = rng.random(9)[index] + 0.1 * rng.random(len(index))
        without = np.array([values[index != one].mean() for one in range(9)])
        reach = stats.t.ppf(0.975, 8) * np.sqrt(8 / 9 * np.square(without - without.mean()).sum())
        found = mean_interval(values, index.astype(str).tolist())
        assert found == pytest.approx((values.mean() - reach, values.mean() + reach, 9))

    def test_many_patients_of_unequal_size_are_near_the_cluster_robust_interval(self) -> None:
        rng = np.random.default_rng(3)
        index = np.repeat(np.arange(300), rng.integers(1, 8, 300))
        values = rng.random(300)[index] + 0.1 * rng.random(len(index))
        fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": index}, use_t=True)
        assert mean_interval(values, index.astype(str).tolist())[:2] == pytest.approx(fit.conf_int()[0], rel=0.002)

    def test_a_score_with_two_ends_has_its_interval_on_the_logit_scale(self) -> None:
        values = np.random.default_rng(4).beta(0.5, 2, 6)
        without = [np.delete(values, one).mean() for one in range(6)]
        found = mean_interval(values, patients(6), (0, 1))
        assert found[:2] == pytest.approx(t_interval(values.mean(), without))
        assert mean_interval(2 * values - 1, patients(6), (-1, 1))[:2] == pytest.approx(2 * np.array(found[:2]) - 1)

    @given(values=st.lists(st.floats(0, 1), min_size=2, max_size=12))
    @settings(max_examples=50)
    def test_lies_within_its_bounds_around_the_mean(self, values: list[float]) -> None:
        low, high, _ = mean_interval(np.array(values), patients(len(values)), (0, 1))
        assert 0 <= low <= np.mean(values) + 1e-9
        assert np.mean(values) - 1e-9 <= high <= 1

    def test_a_score_with_one_end_is_cut_there(self) -> None:
        low, high, _ = mean_interval(np.array([0.0, 0, 12]), patients(3), (0, np.inf))
        assert (low, high) == (0, pytest.approx(4 + stats.t.ppf(0.975, 2) * 4))

    def test_slices_of_one_patient_widen_the_interval(self) -> None:
        of_patients = np.random.default_rng(5).random(12)
        values = np.repeat(of_patients, 20)
        clustered = mean_interval(values, [f"p{number // 20}" for number in range(len(values))])
        assert clustered == pytest.approx(mean_interval(of_patients, patients(12)))
        independent = mean_interval(values, patients(len(values)))
        ratio = (clustered[1] - clustered[0]) / (independent[1] - independent[0])
        assert ratio == pytest.approx(np.sqrt(20) * 2.2 / 1.97, rel=0.05), "twelve patients are all there is to know"

    def test_leaves_nan_values_out(self) -> None:
        values = np.random.default_rng(7).random(20)
        with_gaps = np.concatenate([values, np.full(5, np.nan)])
        groups = [*patients(20), "p0", "p1", "other", "other", "p19"]
        assert mean_interval(with_gaps, groups) == mean_interval(values, patients(20))

    @pytest.mark.parametrize(
        ("values", "groups", "count"),
        [
            ([], [], 0),
            ([0.5], ["a"], 1),
            ([0.5, 0.7, 0.1], ["a", "a", "a"], 1),
            ([0.5, np.nan], ["a", "b"], 1),
            ([np.nan, np.nan], ["a", "b"], 0),
        ],
    )
    def test_no_interval_with_fewer_than_two_patients(self, values: list[float], groups: list[str], count: int) -> None:
        low, high, found = mean_interval(np.array(values, float), groups)
        assert np.isnan([low, high]).all()
        assert found == count

    @pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
    def test_constant_values_have_an_interval_of_no_width(self, value: float) -> None:
        assert mean_interval(np.full(9, value), patients(9), (0, 1)) == (value, value, 9)

    @pytest.mark.parametrize("count", [2, 3, 5, 8, 24])
    @pytest.mark.parametrize(("most", "least"), [(1, 930), (12, 905)])
    def test_covers_the_mean_of_few_patients(self, count: int, most: int, least: int) -> None:
        """Of 1,000 test sets, whose patients have one image or 1 to 12 similar ones, about 95 % have the truth within.

        A percentile bootstrap held it in 52, 75, 84, 88 and 94 % of them.
        """
        rng = np.random.default_rng(count)
        covered = 0
        for _ in range(1_000):
            index = np.repeat(np.arange(count), rng.integers(1, most + 1, count))
            values = rng.normal(0, 1, count)[index] + rng.normal(0, 0.5, len(index))
            low, high, _ = mean_interval(values, index.astype(str).tolist())
            covered += low <= 0 <= high
        assert least <= covered <= 975

    @pytest.mark.parametrize(("count", "least"), [(5, 0.85), (8, 0.89), (24, 0.91)])
    @pytest.mark.parametrize("missed", [0.0, 0.5])
    def test_covers_the_mean_of_skewed_dice(self, missed: float, count: int, least: float) -> None:
        """Also where half of the patients' lesions are missed."""
        rng = np.random.default_rng(count)
        truth = (1 - missed) * 0.2
        values = rng.beta(0.5, 2, (1_000, count)) * (rng.random((1_000, count)) >= missed)
        intervals = [mean_interval(one, patients(count), (0, 1)) for one in values]
        assert np.mean([low <= truth <= high for low, high, _ in intervals]) >= least


class TestAurocInterval:
    @pytest.mark.parametrize("seed", range(3))
    def test_is_what_scikit_learn_gives_without_each_patient(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        index = np.sort(np.append(rng.integers(8, size=30), np.arange(8)))
        labels = rng.random(len(index)) < 0.4
        scores = np.round(rng.random(len(index)) + 0.3 * labels, 1)  # many ties
        without = [float(roc_auc_score(labels[index != one], scores[index != one])) for one in range(8)]
        of_labels = min(len(np.unique(index[labels])), len(np.unique(index[~labels])))
        expected = t_interval(float(roc_auc_score(labels, scores)), without, of_labels)
        found = auroc_interval(scores, labels, [f"p{number}" for number in index])
        assert found == pytest.approx((*expected, of_labels))

    def test_does_not_depend_on_the_order_of_images(self) -> None:
        rng = np.random.default_rng(2)
        scores, labels, groups = rng.random(50), rng.random(50) < 0.5, np.array([f"p{n // 3}" for n in range(50)])
        mixed = rng.permutation(50)
        found = auroc_interval(scores, labels, groups.tolist())
        assert auroc_interval(scores[mixed], labels[mixed], groups[mixed].tolist()) == pytest.approx(found)

    def test_many_images_have_delongs_error(self) -> None:
        rng = np.random.default_rng(3)
        labels = rng.random(3_000) < 0.5
        scores = rng.normal(size=3_000) + labels
        above = scores[labels][:, None] > scores[~labels]
        of_sides = [above.mean(axis=side) for side in (0, 1)]
        error = np.sqrt(sum(one.var(ddof=1) / len(one) for one in of_sides))
        low, high, _ = auroc_interval(scores, labels, patients(3_000))
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.005)
        assert (low + high) / 2 == pytest.approx(roc_auc_score(labels, scores), abs=0.001)

    def test_images_told_apart_without_fault_have_an_interval_of_no_width(self) -> None:
        labels = np.array([0, 1, 0, 1], bool)
        assert auroc_interval(np.array([0.1, 0.8, 0.2, 0.9]), labels, ["a", "a", "b", "b"]) == (1, 1, 2)

    @pytest.mark.parametrize(
        ("labels", "groups", "count"),
        [
            ([], [], 0),
            ([0, 1], ["a", "a"], 1),
            ([1, 1], ["a", "b"], 0),
            ([0, 0], ["a", "b"], 0),
            ([0, 0, 0, 1], ["a", "b", "c", "c"], 1),
        ],
    )
    def test_no_interval_without_two_patients_of_each_label(
        self, labels: list[int], groups: list[str], count: int
    ) -> None:
        low, high, found = auroc_interval(np.arange(len(labels), dtype=float), np.array(labels, bool), groups)
        assert np.isnan([low, high]).all()
        assert found == count


EXACT = {"pixel_auroc": 0.5, "pixel_ap": 0.5, "aupro": 0.5, "best_f1": 0.5}


class Pixels:
    """Patients with one image and a few lesions each, and what the metrics are without one of them."""

    def __init__(self, count: int, pixels: int, seed: int, levels: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.index = np.repeat(np.arange(count), pixels)
        region = rng.integers(-6, 3, self.index.size)  # below 0: normal
        region[:pixels] = -1  # one healthy patient
        self.lesion = region >= 0
        self.values = rng.random(self.index.size) + 0.2 * self.lesion
        if levels:
            self.values = np.floor(levels * self.values)
        name = np.where(self.lesion, 3 * self.index + region, -1)
        _, position, sizes = np.unique(name, return_inverse=True, return_counts=True)
        self.share = np.where(self.lesion, 1 / sizes[position], 0)
        self.regions = np.array([len(np.unique(name[(self.index == one) & self.lesion])) for one in range(count)])

    def curves(self, thresholds: np.ndarray) -> PatientCurves:
        above = self.values[:, None] >= np.sort(thresholds)[::-1]
        member = self.index == np.arange(self.index.max() + 1)[:, None]
        true, false, overlap = (
            (member * weight) @ above for weight in (self.lesion.astype(int), 1 - self.lesion, self.share)
        )
        return PatientCurves(true, false, overlap, self.regions)

    def metrics(self, without: int = -1) -> dict[str, float]:
        rows = self.index != without
        lesion, values = self.lesion[rows], self.values[rows]
        precision, recall, _ = precision_recall_curve(lesion, values)
        rate, _, thresholds = roc_curve(lesion, values, drop_intermediate=False)
        overlap = np.array([self.share[rows][values >= at].sum() for at in thresholds])
        overlap = overlap / np.delete(self.regions, [without] if without >= 0 else []).sum()
        grid = np.append(rate[rate < 0.3], 0.3)
        upto = np.append(overlap[rate < 0.3], np.interp(0.3, rate, overlap))
        with np.errstate(invalid="ignore"):
            f1 = np.nanmax(2 * precision * recall / (precision + recall))
        return {
            "pixel_auroc": float(roc_auc_score(lesion, values)),
            "pixel_ap": float(average_precision_score(lesion, values)),
            "aupro": float(np.trapezoid(upto, grid) / 0.3),
            "best_f1": float(f1),
        }


class TestPatientCurves:
    @pytest.mark.parametrize("levels", [None, 5, 30])
    @pytest.mark.parametrize("seed", range(2))
    def test_with_every_threshold_they_are_what_scikit_learn_gives_without_each_patient(
        self, seed: int, levels: int | None
    ) -> None:
        """Also where lesions and normal pixels share values, so that curves are no stairs."""
        pixels = Pixels(5, 30, seed, levels)
        whole = pixels.metrics()
        without = [pixels.metrics(one) for one in range(5)]
        found = pixels.curves(np.unique(pixels.values)).intervals(whole)
        assert list(found) == list(whole)
        for name in whole:
            expected = t_interval(whole[name], [one[name] for one in without], 4)
            assert found[name] == pytest.approx((*expected, 4)), name

    def test_few_thresholds_will_do(self) -> None:
        pixels = Pixels(20, 100, seed=4)
        whole = pixels.metrics()
        fine = pixels.curves(pixels.values).intervals(whole)
        levels = np.quantile(pixels.values, np.linspace(0, 1, 40), method="lower")
        coarse = pixels.curves(levels).intervals(whole)
        for name in whole:
            assert coarse[name] == pytest.approx(fine[name], abs=0.01), name

    def test_are_around_the_exact_value_within_0_and_1(self) -> None:
        curves = Pixels(6, 30, seed=5).curves(np.linspace(0, 1, 20))
        for value in (0.02, 0.4, 0.98):
            low, high, _ = curves.intervals({"pixel_ap": value})["pixel_ap"]
            assert 0 < low < value < high < 1
        assert curves.intervals({"pixel_ap": 1.0})["pixel_ap"][1] == 1
        assert curves.intervals({"pixel_ap": 0.0})["pixel_ap"][0] == 0

    def test_many_patients_are_left_out_in_parts(self) -> None:
        few = Pixels(300, 20, seed=6).curves(np.linspace(0, 1, 20))
        true, false, overlap = (np.repeat(curve, 200, axis=1) for curve in (few.true, few.false, few.overlap))
        for name, found in PatientCurves(true, false, overlap, few.regions).intervals(EXACT).items():
            assert found == pytest.approx(few.intervals(EXACT)[name], abs=1e-9), name

    def test_no_interval_for_one_patient_or_without_lesions(self) -> None:
        one, zero = np.array([[1, 2]]), np.zeros((2, 2))
        nothing = dict.fromkeys(EXACT, float("nan"))
        alone = PatientCurves(one, one, one / 2, np.ones(1)).intervals(EXACT)
        assert list(alone) == list(EXACT)
        assert all(np.isnan(found[:2]).all() and found.patients == 1 for found in alone.values())
        healthy = PatientCurves(zero, np.array([[1, 2], [1, 2]]), zero, np.zeros(2)).intervals(nothing)
        assert all(np.isnan(found[:2]).all() and found.patients == 0 for found in healthy.values())

    def test_no_interval_where_one_patient_has_all_lesions(self) -> None:
        """Without that patient there is no metric, and nobody knows how it differs from patient to patient."""
        curves = PatientCurves(
            np.array([[2, 2], [0, 0]]), np.array([[0, 5], [3, 6]]), np.array([[1.0, 1], [0, 0]]), np.array([1, 0])
        )
        assert all(np.isnan(found[:2]).all() and found.patients == 1 for found in curves.intervals(EXACT).values())


def cases_of(methods: dict[str, np.ndarray], groups: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Rows of `cases`, a value of each method for each case."""
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "case": f"c{number:03}", "patient": patient, "dice": value}
            for method, values in methods.items()
            for number, (patient, value) in enumerate(zip(groups, values, strict=True))
        ]
    )


def table_of(methods: dict[str, np.ndarray], groups: Sequence[str]) -> pd.DataFrame:
    return case_table(cases_of(methods, groups))


def drawn_table(seed: int, count: int = 12, methods: str = "abcd") -> pd.DataFrame:
    """Methods of unlike quality on patients with 1 to 3 images; a tenth is missed by all."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(patients(count), rng.integers(1, 4, count)).tolist()
    found = rng.random(len(groups)) > 0.1
    level = rng.random(len(groups))
    return table_of(
        {name: found * (level + rng.random(len(groups)) + 0.1 * at) / 3 for at, name in enumerate(methods)}, groups
    )


class TestCaseTable:
    def test_joins_on_case_id_and_averages_seeds(self) -> None:
        first = cases_of({"a": np.array([0.1, 0.2]), "b": np.array([0.3, 0.4])}, ["p", "q"])
        second = cases_of({"a": np.array([0.5, 0.4])}, ["p", "q"], seed=1)
        table = case_table(pd.concat([first, second]).iloc[::-1])
        assert list(table.index) == [("c000", "p"), ("c001", "q")]
        assert table["a"].tolist() == pytest.approx([0.3, 0.3])
        assert table["b"].tolist() == [0.3, 0.4]

    def test_normal_images_are_left_out_and_missing_cases_are_gaps(self) -> None:
        cases = cases_of({"a": np.array([0.1, np.nan, 0.2]), "b": np.array([0.3, np.nan, 0.4])}, ["p", "q", "r"])
        table = case_table(cases.iloc[:-1])
        assert list(table.index.get_level_values("case")) == ["c000", "c002"]
        assert pd.isna(table["b"][("c002", "r")])

    def test_another_column_can_be_compared(self) -> None:
        cases = cases_of({"a": np.array([0.1])}, ["p"]).assign(image_score=7.0)
        assert case_table(cases, "image_score").loc[("c000", "p"), "a"] == 7

    def test_two_rows_for_a_case_and_seed_are_an_error(self) -> None:
        cases = cases_of({"a": np.array([0.1])}, ["p"])
        with pytest.raises(ValueError, match="a has two rows for case c000, seed 0"):
            case_table(pd.concat([cases, cases]))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return drawn_table(1)


@pytest.fixture(scope="module")
def pairs(table: pd.DataFrame) -> pd.DataFrame:
    return compare(table)


def of_patients(table: pd.DataFrame, a: str, b: str) -> np.ndarray:
    return (table[a] - table[b]).groupby(level="patient").mean().round(12).to_numpy()


def scipy_p(differences: np.ndarray) -> float:
    return cast("tuple[float, float]", stats.wilcoxon(differences, zero_method="pratt"))[1]


class TestCompare:
    def test_every_two_methods_in_the_order_of_columns(self, pairs: pd.DataFrame) -> None:
        assert (pairs["method_a"] + pairs["method_b"]).tolist() == ["ab", "ac", "ad", "bc", "bd", "cd"]

    def test_means_are_over_cases(self, table: pd.DataFrame, pairs: pd.DataFrame) -> None:
        assert pairs["mean_a"].tolist() == table[list("aaabbc")].mean().tolist()
        assert pairs["mean_b"].tolist() == table[list("bcdcdd")].mean().tolist()
        assert pairs["difference"].tolist() == pytest.approx((pairs["mean_a"] - pairs["mean_b"]).tolist())
        assert set(pairs["cases"]) == {len(table)}
        assert set(pairs["patients"]) == {12}

    def test_intervals_are_those_of_the_paired_differences(self, table: pd.DataFrame, pairs: pd.DataFrame) -> None:
        groups = table.index.get_level_values("patient").tolist()
        for a, b, low, high in pairs[["method_a", "method_b", "ci_low", "ci_high"]].to_numpy():
            difference = (table[a] - table[b]).to_numpy()
            assert (low, high) == pytest.approx(mean_interval(difference, groups)[:2], abs=1e-9)
            assert low < difference.mean() < high

    @pytest.mark.parametrize(
        ("differences", "how"),
        [
            (lambda rng: rng.normal(0.3, 1, 20), "exact"),
            (lambda rng: rng.normal(0.3, 1, 50), "exact"),
            (lambda rng: np.round(rng.normal(0.3, 1, 9)), "exact"),  # ties and zeros: SciPy permutes
            (lambda rng: np.append(rng.normal(0.3, 1, 5), np.zeros(4)), "exact"),
            (lambda rng: np.round(rng.normal(0.3, 1, 70), 1), "normal approximation"),
        ],
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_p_is_that_of_scipy(
        self, differences: Callable[[np.random.Generator], np.ndarray], how: str, seed: int
    ) -> None:
        values = differences(np.random.default_rng(seed))
        found = compare(table_of({"a": values, "b": 0 * values}, patients(len(values)))).iloc[0]
        assert found["p"] == pytest.approx(scipy_p(values), abs=1e-12)
        assert how in found["test"]

    def test_p_is_near_the_normal_approximation_where_scipy_takes_it_for_ties(self) -> None:
        values = np.round(np.random.default_rng(4).normal(0.4, 1, 45), 1)
        found = compare(table_of({"a": values, "b": 0 * values}, patients(45))).iloc[0]
        assert found["p"] == pytest.approx(scipy_p(values), abs=0.003)

    def test_the_test_is_over_patients(self, table: pd.DataFrame, pairs: pd.DataFrame) -> None:
        reference = [
            scipy_p(of_patients(table, a, b)) for a, b in zip(pairs["method_a"], pairs["method_b"], strict=True)
        ]
        assert pairs["p"].tolist() == pytest.approx(reference)

    def test_p_is_corrected_over_all_pairs(self, pairs: pd.DataFrame) -> None:
        """Holm by hand: the smallest of six times 6, the next times 5, never falling."""
        ordered = np.sort(pairs["p"])
        by_hand = np.minimum(1, np.maximum.accumulate(ordered * np.arange(6, 0, -1)))
        assert np.sort(pairs["p_holm"]) == pytest.approx(by_hand)
        np.testing.assert_array_equal(pairs["p_holm"], cast("np.ndarray", multipletests(pairs["p"], method="holm")[1]))
        assert pairs["tied"].tolist() == (pairs["p_holm"] >= 0.05).tolist()

    def test_effect_is_the_difference_of_rank_shares(self) -> None:
        """Differences 0, 1, -2, 3 have the ranks 1 to 4: (2 + 4 - 3) of 10; the zero keeps its rank."""
        values = np.array([0, 1, -2, 3]) / 10
        assert compare(table_of({"a": values, "b": 0 * values}, patients(4)))["effect"].tolist() == [pytest.approx(0.3)]

    def test_detectable_difference_has_a_power_of_80_percent(self, table: pd.DataFrame, pairs: pd.DataFrame) -> None:
        for a, b, detectable in pairs[["method_a", "method_b", "detectable"]].to_numpy():
            effect_size = detectable / of_patients(table, a, b).std(ddof=1)
            assert ttest_power(effect_size, 12, 0.05) == pytest.approx(0.8, abs=1e-4)

    @pytest.mark.parametrize("count", [2, 3, 6, 5_000])
    def test_detectable_difference_is_found_for_few_and_many_patients(self, count: int) -> None:
        values = np.random.default_rng(count).normal(size=count)
        found = compare(table_of({"a": values, "b": 0 * values}, patients(count))).iloc[0]
        assert ttest_power(found["detectable"] / values.std(ddof=1), count, 0.05) == pytest.approx(0.8, abs=1e-4)

    def test_equal_methods_are_tied(self) -> None:
        values = np.random.default_rng(2).random(30)
        groups = [f"p{number // 2}" for number in range(30)]
        found = compare(table_of({"a": values, "b": values.copy(), "c": values + 1}, groups)).iloc[0]
        assert (found["p"], found["p_holm"], found["effect"], found["difference"]) == (1, 1, 0, 0)
        assert (found["ci_low"], found["ci_high"], found["detectable"]) == (0, 0, 0)
        assert found["tied"]

    def test_clearly_different_methods_are_not_tied(self) -> None:
        values = np.random.default_rng(3).random(20)
        found = compare(table_of({"a": values + 0.3, "b": values}, patients(20))).iloc[0]
        assert found["p"] == pytest.approx(2 / 2**20)
        assert found["effect"] == 1
        assert not found["tied"]

    def test_five_patients_are_too_few_to_separate_anything(self) -> None:
        found = compare(table_of({"a": np.arange(1.0, 6), "b": np.zeros(5)}, patients(5))).iloc[0]
        assert found["p"] == 2 / 2**5
        assert found["tied"]

    @given(seed=st.integers(0, 1000), shift=st.floats(-1, 1))
    @settings(max_examples=8)
    def test_a_constant_more_is_a_constant_more(self, seed: int, shift: float) -> None:
        table = drawn_table(seed, methods="ab")
        before, after = (compare(one).iloc[0] for one in (table, table.assign(a=table["a"] + shift)))
        for name in ("difference", "ci_low", "ci_high"):
            assert after[name] == pytest.approx(before[name] + shift, abs=1e-9)
        assert after["detectable"] == pytest.approx(before["detectable"])

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=8)
    def test_swapping_methods_turns_the_signs(self, seed: int) -> None:
        table = drawn_table(seed, methods="ab")
        one, other = (compare(table[list(order)]).iloc[0] for order in ("ab", "ba"))
        names = ["difference", "ci_low", "ci_high", "effect", "p", "detectable"]
        mirrored = [-other["difference"], -other["ci_high"], -other["ci_low"], -other["effect"], other["p"]]
        assert one[names].tolist() == pytest.approx([*mirrored, other["detectable"]])
        assert one["tied"] == other["tied"]

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=8)
    def test_the_order_of_rows_is_nothing(self, seed: int) -> None:
        """Joined on case id, never on position."""
        rng = np.random.default_rng(seed)
        groups = [f"p{number // 2}" for number in range(20)]
        cases = cases_of({"a": rng.random(20), "b": rng.random(20), "c": rng.random(20)}, groups)
        tables = [case_table(cases), case_table(cases.sample(frac=1, random_state=seed))]
        pairs, shuffled_pairs = (compare(one) for one in tables)
        pd.testing.assert_frame_equal(pairs, shuffled_pairs)
        pd.testing.assert_frame_equal(
            rank_stability(tables[0], pairs, resamples=100), rank_stability(tables[1], shuffled_pairs, resamples=100)
        )

    def test_cases_that_not_every_method_has_are_left_out_and_counted(self) -> None:
        rng = np.random.default_rng(5)
        cases = cases_of({"a": rng.random(10), "b": rng.random(10), "c": rng.random(10)}, patients(10))
        lacking = (cases["method"] == "c") & cases["case"].isin(["c003", "c007"])
        found = compare(case_table(cases[~lacking]))
        common = compare(case_table(cases[~cases["case"].isin(["c003", "c007"])]))
        assert set(found["left_out"]) == {2}
        assert set(found["cases"]) == {8}
        pd.testing.assert_frame_equal(found.drop(columns="left_out"), common.drop(columns="left_out"))

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_fewer_than_two_patients_cannot_separate_anything(self, count: int) -> None:
        """However many cases they have."""
        table = table_of({"a": np.arange(3.0), "b": np.zeros(3)}, ["p"] * 3)
        pairs = compare(table.iloc[:count])
        row = pairs.iloc[0]
        assert row["cases"] == count
        assert row[["ci_low", "ci_high", "p", "p_holm", "effect", "detectable"]].isna().all()
        assert row["tied"]
        assert row["test"] == "none: fewer than two patients"
        ranks = rank_stability(table.iloc[:count], pairs)
        assert ranks[["rank_low", "rank_high", "share_first"]].isna().all(axis=None)

    @pytest.mark.parametrize("methods", [{}, {"a": np.array([0.1, 0.2])}])
    def test_without_two_methods_there_is_no_pair(self, methods: dict[str, np.ndarray]) -> None:
        none = pd.DataFrame(columns=["method", "seed", "case", "patient", "dice"])
        table = case_table(pd.concat([none, cases_of(methods, ["p", "q"])]))
        pairs = compare(table)
        assert list(pairs) == list(compare(drawn_table(1, methods="ab")))
        assert len(pairs) == 0
        assert rank_stability(table, pairs)["rank"].tolist() == [1] * len(methods)

    def test_an_interval_of_several_seeds_is_over_seeds_too(self) -> None:
        rng = np.random.default_rng(7)
        values = rng.random(12)
        cases = pd.concat(
            [
                cases_of({"a": values + 0.1 + shift, "b": values + rng.normal(0, 0.01, 12)}, patients(12), seed)
                for seed, shift in enumerate([0.0, 0.05, -0.04])
            ]
        )
        table = case_table(cases)
        seeds = seed_table(cases, table)
        assert seeds.index.tolist() == [0, 1, 2]
        assert seeds["a"].tolist() == pytest.approx((values.mean() + np.array([0.1, 0.15, 0.06])).tolist())
        alone, together = compare(table).iloc[0], compare(table, seeds).iloc[0]
        reach = np.hypot(alone["ci_high"] - alone["difference"], seeds_part(seeds["a"] - seeds["b"]))
        assert together["ci_high"] == pytest.approx(together["difference"] + reach)
        assert together["ci_low"] == pytest.approx(together["difference"] - reach)
        assert together["p"] == alone["p"] < 0.05
        assert not alone["tied"]
        assert together["tied"] == (together["ci_low"] <= 0)

    def test_seeds_that_disagree_tie_what_patients_would_separate(self) -> None:
        values = np.random.default_rng(8).random(12)
        runs = [cases_of({"a": values + shift, "b": values}, patients(12), at) for at, shift in enumerate([0.3, 0.01])]
        table = case_table(pd.concat(runs))
        found = compare(table, seed_table(pd.concat(runs), table)).iloc[0]
        assert (found["p"] < 0.001, bool(found["tied"])) == (True, True)
        assert found["ci_low"] < 0 < found["ci_high"]
        assert "seeds averaged" in found["test"]

    def test_a_method_without_randomness_is_compared_with_one_of_several_seeds(self) -> None:
        rng = np.random.default_rng(9)
        values = rng.random(12)
        seeds = [cases_of({"a": values + 0.2 + rng.normal(0, 0.02, 12)}, patients(12), seed) for seed in range(3)]
        cases = pd.concat([cases_of({"b": values}, patients(12)), *seeds])
        table = case_table(cases)
        means = seed_table(cases, table)
        assert means["b"].isna().tolist() == [False, True, True]
        found, alone = compare(table, means).iloc[0], compare(table).iloc[0]
        reach = np.hypot(alone["ci_high"] - alone["difference"], seeds_part(means["a"]))
        assert found["ci_high"] - found["difference"] == pytest.approx(reach)
        assert not found["tied"]

    def test_one_seed_leaves_everything_as_it_is(self, table: pd.DataFrame, pairs: pd.DataFrame) -> None:
        seeds = pd.DataFrame([table.mean()], index=[0])
        pd.testing.assert_frame_equal(compare(table, seeds), pairs)
        pd.testing.assert_frame_equal(rank_stability(table, pairs, seeds), rank_stability(table, pairs))

    def test_alike_methods_are_rarely_told_apart(self) -> None:
        """Of 120 pairs of methods that differ by chance from patient to patient, about 5 % have a p-value below 5 %."""
        rng = np.random.default_rng(6)
        index = np.repeat(np.arange(15), 4)
        names = [f"m{number:02}" for number in range(24)]
        disjoint = list(zip(names[::2], names[1::2], strict=True))
        found = {"patients": 0, "images": 0}
        for _ in range(10):
            values = rng.normal(size=(24, 15))[:, index] + 0.3 * rng.normal(size=(24, 60))
            for over, groups in (("patients", index), ("images", np.arange(60))):
                table = table_of(dict(zip(names, values, strict=True)), groups.astype(str).tolist())
                found[over] += sum(compare(table[list(pair)])["p"].item() < 0.05 for pair in disjoint)
        assert 1 <= found["patients"] <= 12
        assert found["images"] > 30, "what a test over images would claim"


class TestRankStability:
    def test_is_what_a_loop_over_draws_gives(self, table: pd.DataFrame) -> None:
        index = pd.factorize(table.index.get_level_values("patient"), sort=True)[0]
        draws = patient_draws(12, resamples=300)
        ranks = np.array([table.iloc[redrawn(draw, index)].mean().rank(ascending=False) for draw in draws])
        found = rank_stability(table, compare(table), resamples=300)
        assert found["rank"].tolist() == table.mean().rank(ascending=False).tolist()
        assert found["rank_low"].tolist() == np.quantile(ranks, 0.025, axis=0).tolist()
        assert found["rank_high"].tolist() == np.quantile(ranks, 0.975, axis=0).tolist()
        shares = np.array([(ranks == rank + 1).mean(axis=0) for rank in range(4)]).T
        assert np.array(found["rank_shares"].tolist()) == pytest.approx(shares)
        assert found["share_first"].tolist() == pytest.approx(shares[:, 0].tolist())

    @given(seed=st.integers(0, 1000), equal=st.booleans())
    @settings(max_examples=8)
    def test_every_rank_is_given_once(self, seed: int, equal: bool) -> None:
        table = drawn_table(seed)
        if equal:
            table = table.assign(c=table["a"])
        found = rank_stability(table, compare(table), resamples=100)
        shares = np.array(found["rank_shares"].tolist())
        assert shares.sum(axis=0) == pytest.approx(np.ones(4))
        assert shares.sum(axis=1) == pytest.approx(np.ones(4))
        assert found["rank"].sum() == 10
        assert equal or sorted(found["rank"]) == [1, 2, 3, 4]
        assert (found["rank_low"] <= found["rank_high"]).all()

    def test_the_best_everywhere_is_always_first(self) -> None:
        values = np.random.default_rng(1).random(20)
        table = table_of({"low": values, "top": values + 0.5, "next": values + 0.4}, patients(20))
        found = rank_stability(table, compare(table)).set_index("method")
        assert list(found.loc["top", ["rank", "rank_low", "rank_high", "share_first"]]) == [1, 1, 1, 1]
        assert found["tied_with_best"].to_dict() == {"low": False, "next": False, "top": True}

    def test_equal_methods_share_ranks_and_draws(self) -> None:
        values = np.random.default_rng(2).random(30)
        table = table_of({"a": values, "b": values.copy(), "c": values - 0.2}, patients(30))
        found = rank_stability(table, compare(table))
        assert found["rank"].tolist() == [1.5, 1.5, 3]
        assert found["share_first"].tolist() == [0.5, 0.5, 0]
        assert found["rank_shares"].tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]
        assert found["tied_with_best"].tolist() == [True, True, False]

    def test_equal_methods_are_equal_in_every_draw(self) -> None:
        """Matrix products may round equal columns unequally, as they did for 301 patients."""
        table = table_of(dict(zip("abcd", np.random.default_rng(2).random((4, 301)), strict=True)), patients(301))
        found = rank_stability(table.assign(e=table["a"]), compare(table))
        assert found["rank_shares"].iloc[0] == found["rank_shares"].iloc[-1]

    def test_tied_with_the_best_is_what_the_comparison_says(self, table: pd.DataFrame, pairs: pd.DataFrame) -> None:
        best = table.mean().idxmax()
        tied = pairs[pairs["tied"] & ((pairs["method_a"] == best) | (pairs["method_b"] == best))]
        found = rank_stability(table, pairs).set_index("method")["tied_with_best"]
        assert set(found.index[found]) == {best, *tied["method_a"], *tied["method_b"]}

    def test_seeds_that_disagree_widen_the_range_of_ranks(self) -> None:
        rng = np.random.default_rng(3)
        values = rng.random(20)
        cases = pd.concat(
            [
                cases_of({"a": values + shift, "b": values + 0.05}, patients(20), seed)
                for seed, shift in enumerate((0, 0.2))
            ]
        )
        table = case_table(cases)
        pairs = compare(table)
        alone, together = (rank_stability(table, pairs, one).iloc[0] for one in (None, seed_table(cases, table)))
        assert (alone["rank"], alone["rank_low"], alone["rank_high"]) == (1, 1, 1)
        assert (together["rank"], together["rank_low"], together["rank_high"]) == (1, 1, 2)
        assert together["share_first"] == pytest.approx(0.75, abs=0.02), "a quarter of draws has the worse seed twice"
