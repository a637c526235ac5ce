from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from statsmodels.stats.power import ttest_power

from miasbench.harness.statistics import (
    PatientCurves,
    bootstrap_auroc,
    bootstrap_mean,
    case_table,
    compare,
    patient_draws,
    rank_stability,
)

finite = st.floats(-1e3, 1e3)


def patients(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
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


class TestBootstrapMean:
    def test_one_image_per_patient_is_the_plain_percentile_bootstrap(self) -> None:
        values = np.random.default_rng(1).beta(2, 3, 40)
        reference = stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        low, high = bootstrap_mean(values, patients(40), resamples=20_000)
        assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.003)

    def test_one_image_per_patient_is_near_the_normal_interval(self) -> None:
        values = np.random.default_rng(3).normal(5, 2, 400)
        half = 1.96 * values.std() / np.sqrt(400)
        assert bootstrap_mean(values, patients(400)) == pytest.approx(
            (values.mean() - half, values.mean() + half), abs=0.02
        )

    def test_two_patients_can_be_enumerated(self) -> None:
        """Two patients are drawn twice each with a chance of a quarter; the mean is over images, not over patients."""
        values, groups = np.array([0.0, 0.0, 0.0, 1.0]), ["a", "a", "a", "b"]
        assert bootstrap_mean(values, groups) == (0.0, 1.0)
        assert bootstrap_mean(values, groups, level=0.4) == (0.25, 0.25)

    def test_level_sets_the_width(self) -> None:
        values = np.random.default_rng(4).random(30)
        widths = [np.diff(bootstrap_mean(values, patients(30), level=level))[0] for level in (0.5, 0.8, 0.95, 0.99)]
        assert widths == sorted(widths)
        assert widths[0] < widths[-1]

    def test_slices_of_one_patient_widen_the_interval(self) -> None:
        of_patients = np.random.default_rng(5).random(12)
        values = np.repeat(of_patients, 20)
        clustered = bootstrap_mean(values, [f"p{number // 20}" for number in range(len(values))])
        independent = bootstrap_mean(values, patients(len(values)))
        ratio = (clustered[1] - clustered[0]) / (independent[1] - independent[0])
        assert ratio == pytest.approx(np.sqrt(20), rel=0.15), "twelve patients are all there is to know"
        assert clustered == pytest.approx(bootstrap_mean(of_patients, patients(12)), abs=1e-12)

    @given(values=st.lists(finite, min_size=2, max_size=30), seed=st.integers(0, 100))
    @settings(max_examples=30)
    def test_lies_within_the_values_and_is_the_same_for_the_same_seed(self, values: list[float], seed: int) -> None:
        array = np.array(values)
        low, high = bootstrap_mean(array, patients(len(values)), resamples=200, seed=seed)
        slack = 1e-9 * max(1.0, np.abs(array).max())
        assert array.min() - slack <= low <= high <= array.max() + slack
        assert (low, high) == bootstrap_mean(array, patients(len(values)), resamples=200, seed=seed)

    def test_another_seed_draws_otherwise(self) -> None:
        values = np.random.default_rng(6).random(25)
        assert bootstrap_mean(values, patients(25), resamples=100) != bootstrap_mean(
            values, patients(25), resamples=100, seed=1
        )

    def test_leaves_nan_values_out(self) -> None:
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
    def test_no_interval_with_fewer_than_two_patients(self, values: list[float], groups: list[str]) -> None:
        assert np.isnan(bootstrap_mean(np.array(values, float), groups)).all()

    def test_constant_values_have_an_interval_of_no_width(self) -> None:
        assert bootstrap_mean(np.full(9, 0.25), patients(9)) == (0.25, 0.25)

    def test_many_patients_are_drawn_in_parts(self) -> None:
        """With more draws than fit at once, the result is still one interval around the mean."""
        values = np.random.default_rng(8).random(6_000)
        low, high = bootstrap_mean(values, patients(6_000), resamples=3_000)
        half = 1.96 * values.std() / np.sqrt(6_000)
        assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)

    def test_is_what_a_loop_over_draws_gives(self) -> None:
        rng = np.random.default_rng(9)
        index = np.sort(np.append(rng.integers(6, size=20), np.arange(6)))
        values = rng.random(len(index))
        means = [values[redrawn(draw, index)].mean() for draw in patient_draws(6, resamples=300)]
        found = bootstrap_mean(values, [f"p{number}" for number in index], resamples=300)
        assert found == pytest.approx(interval(means), abs=1e-12)

    def test_covers_the_mean_of_clustered_slices(self) -> None:
        """Of 1,000 test sets of 40 patients, each with 1 to 12 similar slices, about 95 % have the truth within."""
        rng = np.random.default_rng(10)
        covered = {"patients": 0, "slices": 0}
        for _ in range(1_000):
            index = np.repeat(np.arange(40), rng.integers(1, 13, 40))
            values = rng.normal(0, 1, 40)[index] + rng.normal(0, 0.5, len(index))
            for name, groups in (("patients", index), ("slices", np.arange(len(index)))):
                low, high = bootstrap_mean(values, groups.astype(str).tolist(), resamples=400)
                covered[name] += low <= 0 <= high
        assert 920 <= covered["patients"] <= 965
        assert covered["slices"] < 700, "what the bootstrap over slices would claim"


class TestBootstrapAuroc:
    def test_is_what_scikit_learn_gives_for_each_draw(self) -> None:
        rng = np.random.default_rng(1)
        index = np.sort(np.append(rng.integers(8, size=30), np.arange(8)))
        labels = rng.random(len(index)) < 0.4
        scores = np.round(rng.random(len(index)) + 0.3 * labels, 1)  # many ties
        aurocs = [
            roc_auc_score(labels[rows], scores[rows])
            for rows in (redrawn(draw, index) for draw in patient_draws(8, resamples=300))
            if 0 < labels[rows].sum() < len(rows)
        ]
        found = bootstrap_auroc(scores, labels, [f"p{number}" for number in index], resamples=300)
        assert found == pytest.approx(interval(aurocs), abs=1e-9)

    def test_draws_with_one_label_only_are_left_out(self) -> None:
        """Of two patients, one anomalous, half the draws have both; in those the AUROC is 1."""
        assert bootstrap_auroc(np.array([0.2, 0.9]), np.array([False, True]), ["a", "b"]) == (1, 1)

    def test_does_not_depend_on_the_order_of_images(self) -> None:
        rng = np.random.default_rng(2)
        scores, labels, groups = rng.random(50), rng.random(50) < 0.5, np.array([f"p{n // 3}" for n in range(50)])
        mixed = rng.permutation(50)
        found = bootstrap_auroc(scores, labels, groups.tolist(), resamples=200)
        assert bootstrap_auroc(scores[mixed], labels[mixed], groups[mixed].tolist(), resamples=200) == found

    def test_many_images_are_scored_in_parts(self) -> None:
        rng = np.random.default_rng(3)
        labels = rng.random(3_000) < 0.5
        scores = rng.normal(size=3_000) + labels
        low, high = bootstrap_auroc(scores, labels, patients(3_000), resamples=1_000)
        auroc = roc_auc_score(labels, scores)
        assert (low, high) == pytest.approx((auroc - 0.0155, auroc + 0.0155), abs=0.003), "1.96 of DeLong's error"

    @pytest.mark.parametrize(
        ("labels", "groups"), [([], []), ([0, 1], ["a", "a"]), ([1, 1], ["a", "b"]), ([0, 0], ["a", "b"])]
    )
    def test_no_interval_without_two_patients_and_two_labels(self, labels: list[int], groups: list[str]) -> None:
        scores = np.arange(len(labels), dtype=float)
        assert np.isnan(bootstrap_auroc(scores, np.array(labels, bool), groups, resamples=100)).all()


EXACT = {"pixel_auroc": 0.5, "pixel_ap": 0.5, "aupro": 0.5, "best_f1": 0.5}


class Pixels:
    """Patients with one image and a few lesions each, and what the metrics are when patients are redrawn."""

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

    def metrics(self, draw: np.ndarray) -> dict[str, float]:
        rows = redrawn(draw, self.index)
        lesion, values = self.lesion[rows], self.values[rows]
        if not lesion.any() or lesion.all():
            return dict.fromkeys(EXACT, float("nan"))
        precision, recall, _ = precision_recall_curve(lesion, values)
        rate, _, thresholds = roc_curve(lesion, values, drop_intermediate=False)
        overlap = np.array([self.share[rows][values >= at].sum() for at in thresholds]) / (draw @ self.regions)
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
    def test_with_every_threshold_they_are_what_scikit_learn_gives_for_each_draw(
        self, seed: int, levels: int | None
    ) -> None:
        """Also where lesions and normal pixels share values, so that curves are no stairs."""
        pixels = Pixels(5, 30, seed, levels)
        whole = pixels.metrics(np.ones(5, int))
        drawn = [pixels.metrics(draw) for draw in patient_draws(5, resamples=150)]
        found = pixels.curves(np.unique(pixels.values)).intervals(whole, resamples=150)
        assert list(found) == list(whole)
        for name in whole:
            assert found[name] == pytest.approx(interval([one[name] for one in drawn]), abs=1e-6), name

    def test_few_thresholds_are_made_up_for(self) -> None:
        pixels = Pixels(20, 100, seed=4)
        whole = pixels.metrics(np.ones(20, int))
        fine = pixels.curves(pixels.values).intervals(whole, resamples=500)
        levels = np.quantile(pixels.values, np.linspace(0, 1, 40), method="lower")
        coarse = pixels.curves(levels).intervals(whole, resamples=500)
        for name in whole:
            assert coarse[name] == pytest.approx(fine[name], abs=0.01), name

    def test_move_with_the_exact_value_within_0_and_1(self) -> None:
        curves = Pixels(6, 30, seed=5).curves(np.linspace(0, 1, 20))
        middle, moved = (curves.intervals({"pixel_ap": value}, resamples=100)["pixel_ap"] for value in (0.4, 0.45))
        assert np.subtract(moved, middle) == pytest.approx([0.05, 0.05])
        assert curves.intervals({"pixel_ap": 1.0}, resamples=100)["pixel_ap"][1] == 1
        assert curves.intervals({"pixel_ap": 0.0}, resamples=100)["pixel_ap"][0] == 0

    def test_draws_without_a_lesion_or_without_a_normal_pixel_are_left_out(self) -> None:
        """Drawn alone, one patient is all lesion, the other all normal; only together they have a metric."""
        curves = PatientCurves(
            np.array([[2, 2], [0, 0]]), np.array([[0, 0], [3, 6]]), np.array([[1.0, 1], [0, 0]]), np.array([1, 0])
        )
        together = {"pixel_auroc": 0.75, "pixel_ap": 0.4, "aupro": 0.8, "best_f1": 4 / 7}
        for name, found in curves.intervals(together, resamples=100).items():
            assert found == pytest.approx((together[name], together[name])), name

    def test_no_interval_for_one_patient_or_without_lesions(self) -> None:
        one, zero = np.array([[1, 2]]), np.zeros((2, 2))
        nothing = dict.fromkeys(EXACT, float("nan"))
        alone = PatientCurves(one, one, one / 2, np.ones(1)).intervals(EXACT)
        assert np.isnan(list(alone.values())).all()
        healthy = PatientCurves(zero, np.array([[1, 2], [1, 2]]), zero, np.zeros(2)).intervals(nothing, resamples=50)
        assert np.isnan(list(healthy.values())).all()
        assert list(alone) == list(healthy) == list(EXACT)


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
        assert np.isnan(table.loc[("c002", "r"), "b"])

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
            assert (low, high) == pytest.approx(bootstrap_mean(difference, groups), abs=1e-9)
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
        found = compare(table_of({"a": values, "b": 0 * values}, patients(len(values))), resamples=50).iloc[0]
        assert found["p"] == pytest.approx(scipy_p(values), abs=1e-12)
        assert how in found["test"]

    def test_p_is_near_the_normal_approximation_where_scipy_takes_it_for_ties(self) -> None:
        values = np.round(np.random.default_rng(4).normal(0.4, 1, 45), 1)
        found = compare(table_of({"a": values, "b": 0 * values}, patients(45)), resamples=50).iloc[0]
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
        found = compare(table_of({"a": values, "b": 0 * values}, patients(count)), resamples=20).iloc[0]
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
        before, after = (compare(one, resamples=200).iloc[0] for one in (table, table.assign(a=table["a"] + shift)))
        for name in ("difference", "ci_low", "ci_high"):
            assert after[name] == pytest.approx(before[name] + shift, abs=1e-9)
        assert after["detectable"] == pytest.approx(before["detectable"])

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=8)
    def test_swapping_methods_turns_the_signs(self, seed: int) -> None:
        table = drawn_table(seed, methods="ab")
        one, other = (compare(table[list(order)], resamples=200).iloc[0] for order in ("ab", "ba"))
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
        found = [compare(one, resamples=100) for one in tables]
        pd.testing.assert_frame_equal(*found)
        pd.testing.assert_frame_equal(
            *(rank_stability(one, pairs, resamples=100) for one, pairs in zip(tables, found, strict=True))
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
                p = compare(table, resamples=20).set_index(["method_a", "method_b"]).loc[disjoint, "p"]
                found[over] += int((p < 0.05).sum())
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
        found = rank_stability(table, compare(table, resamples=100), resamples=100)
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
        assert found.loc["top", ["rank", "rank_low", "rank_high", "share_first"]].tolist() == [1, 1, 1, 1]
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
