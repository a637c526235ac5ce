"""Intervals, comparisons and ranks that respect that slices of one patient are not independent.

Patients are drawn with replacement, each with all its images (cluster bootstrap, Davison and Hinkley 1997, section
3.8). A draw is how often each patient came up, so that every resampled sum is a matrix product of draws and sums of
patients, and everything computed from the same patients shares its draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import cast

import numpy as np
import pandas as pd

from .metrics import AUPRO_LIMIT

RESAMPLES = 10_000
LEVEL = 0.95
SIGNIFICANCE = 0.05
POWER = 0.8

_EXACT_UP_TO = 50  # patients; as SciPy
_CHUNK = 1_000_000  # numbers held at once; bounds the memory, and fits the cache
_DIGITS = 12  # DICE values that are equal on paper differ after the 15th digit, unequal ones before the 11th


@lru_cache(maxsize=4)  # of one dataset: all patients, those with lesions, those with normal images
def patient_draws(count: int, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Draws patients with replacement, as many as there are.

    Args:
        count: Number of patients, at least 1.
        resamples: How often they are drawn.
        seed: Of the draws.

    Returns:
        How often each patient came up, uint8 (resamples, count), read-only; the same array for the same arguments.
    """
    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, count), np.uint8)  # nobody comes up 256 times: the chance is below 1e-500
    for rows in _parts(resamples, count):
        of_draw = np.arange(len(draws[rows]))[:, None] * count
        drawn = rng.integers(count, size=(len(of_draw), count)) + of_draw
        draws[rows] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    draws.flags.writeable = False
    return draws


def bootstrap_mean(
    values: np.ndarray, groups: Sequence[str], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean over cases, when patients are drawn with replacement.

    Args:
        values: float (N,); NaN values are left out.
        groups: The patient of each value.
        resamples: How often patients are drawn.
        level: Coverage of the interval, 0 to 1.
        seed: Of the draws.

    Returns:
        Low and high end; NaN with fewer than two patients.
    """
    kept = ~np.isnan(values)
    names, index = np.unique(np.asarray(groups, dtype=str)[kept], return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    draws = patient_draws(len(names), resamples=resamples, seed=seed)
    sums = np.bincount(index, weights=values[kept])
    return _interval(_drawn_means(draws, sums[:, None], np.bincount(index))[:, 0], level)


def bootstrap_auroc(
    scores: np.ndarray, labels: np.ndarray, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the image AUROC, when patients are drawn with replacement.

    Args:
        scores: float (N,), finite; higher means more anomalous. Equal scores count one half.
        labels: bool (N,).
        groups: The patient of each image.
        resamples: How often patients are drawn; draws with images of one label only are left out.
        seed: Of the draws.

    Returns:
        Low and high end; NaN with fewer than two patients or where all images have the same label.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    draws = patient_draws(len(names), resamples=resamples, seed=seed)
    order = np.argsort(-scores, kind="stable")
    ordered, positive = scores[order], labels[order].astype(bool)
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # equal scores switch together
    drawn = np.empty(resamples)
    for rows in _parts(resamples, len(scores)):
        weights = draws[rows][:, index[order]].astype(np.float64)
        true, false = (np.cumsum(weights * side, axis=1)[:, ends] for side in (positive, ~positive))
        drawn[rows] = _auroc(_from_zero(true), _from_zero(false))
    return _interval(drawn)


@dataclass(frozen=True)
class PatientCurves:
    """What each patient adds to the pooled pixel curves at K falling thresholds, the last of which takes in all pixels.

    Attributes:
        true: Lesion pixels at or above each threshold, (patients, K).
        false: Normal pixels at or above each threshold, (patients, K).
        overlap: Summed shares of lesions at or above each threshold, (patients, K): a pixel of a lesion of n pixels
            weighs 1 / n.
        regions: Number of lesions, (patients,).
    """

    true: np.ndarray
    false: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray

    def intervals(
        self, exact: Mapping[str, float], *, resamples: int = RESAMPLES, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """95 % percentile intervals of the pooled pixel metrics, when patients are drawn with replacement.

        K thresholds make the curves coarse. What this takes from a metric it takes from its resamples as well, so the
        interval is moved by the exact value less the coarse one, and cut to 0 to 1.

        Args:
            exact: The metric over all patients and all thresholds, by name: of `pixel_auroc`, `pixel_ap`, `aupro` (up
                to a false-positive rate of 0.3) and `best_f1`, those that are wanted.
            resamples: How often patients are drawn; draws without a lesion or without a normal pixel are left out.
            seed: Of the draws.

        Returns:
            Low and high end by name; NaN with fewer than two patients, without lesions or without normal pixels.
        """
        count = len(self.regions)
        if count < 2:
            return dict.fromkeys(exact, (float("nan"), float("nan")))
        draws = patient_draws(count, resamples=resamples, seed=seed)
        coarse = self._pooled(np.ones((1, count), np.float32))
        parts = [self._pooled(draws[rows].astype(np.float32)) for rows in _parts(resamples, max(self.true.shape))]
        found = {}
        for name, value in exact.items():
            low, high = np.array(_interval(np.concatenate([part[name] for part in parts]))) + value - coarse[name]
            found[name] = float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
        return found

    def _pooled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric, (draws,), for float32 weights (draws, patients)."""
        true, false, overlap = (
            _from_zero(weights @ curve.astype(np.float32)) for curve in (self.true, self.false, self.overlap)
        )
        positives, negatives = true[:, -1:], false[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without lesions or without normal pixels
            precision = true / np.maximum(true + false, 1)
            scores = {
                "pixel_auroc": _auroc(true, false),
                "pixel_ap": (np.diff(true) * precision[:, 1:]).sum(axis=1) / positives[:, 0],
                "aupro": _area_to_limit(overlap / (weights @ self.regions)[:, None], false / negatives),
                "best_f1": (2 * true / (true + false + positives)).max(axis=1),
            }
        complete = (positives * negatives)[:, 0] > 0
        return {name: np.where(complete, score, np.nan) for name, score in scores.items()}


def case_table(cases: pd.DataFrame, values: str = "dice") -> pd.DataFrame:
    """Puts the methods of a dataset side by side, joined on case id; several seeds are averaged case by case.

    Args:
        cases: Rows of `results.tables.CASES`, of one dataset and one threshold policy for each method.
        values: The column to compare, higher is better; NaN values, such as the DICE of normal images, are left out.

    Returns:
        Index (case, patient), sorted; a column for each method, NaN where it lacks a case that others have.

    Raises:
        ValueError: A method has two rows for the same case and seed.
    """
    kept = cases.dropna(subset=[values])
    twice = kept.duplicated(["method", "seed", "case"])
    if twice.any():
        row = kept[twice].iloc[0]
        raise ValueError(f"{row['method']} has two rows for case {row['case']}, seed {row['seed']}")
    return kept.pivot_table(index=["case", "patient"], columns="method", values=values, aggfunc="mean")


def compare(table: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Compares every two methods on the same cases.

    Differences are tested with Wilcoxon's signed-rank test on patient means, because images of one patient are not
    independent. Patients without a difference, often those whose lesion both methods miss, keep their ranks by Pratt's
    method (JASA 1959): they are evidence that the methods are alike, and to drop them, as Wilcoxon did, would let a
    few other patients decide alone. Up to 50 patients, the null distribution is enumerated with the ranks as they are,
    ties and zeros included; beyond, it is SciPy's normal approximation. Fewer than six patients can never reach 5 %.

    Args:
        table: By `case_table`. Cases that not every method has are left out and counted.
        resamples: How often patients are drawn.
        seed: Of the draws.

    Returns:
        A row for each pair, in the order of the columns; what fewer than two patients cannot tell is NaN:

        - `method_a`, `method_b`, `patients`, `cases`, `left_out` (cases);
        - `mean_a`, `mean_b`, `difference` (a less b): means over cases;
        - `ci_low`, `ci_high`: 95 % percentile interval of the difference over drawn patients;
        - `p`, and `p_holm` corrected for all pairs of the table (Holm, Scand. J. Stat. 1979);
        - `effect`: matched-pairs rank-biserial correlation, -1 to 1 (Kerby, Compr. Psychol. 2014): the share of the
          test's ranks in favour of a less the share in favour of b; zeros favour neither;
        - `detectable`: the smallest difference of patient means that would have been found with a power of 80 % at
          5 %, two-sided. It is the paired t-test's, uncorrected for the number of pairs; with many of them, the
          smallest difference that could have been found is larger;
        - `tied`: whether the data cannot separate the two: `p_holm` is not below 5 %;
        - `test`: how it was tested.
    """
    # Like scipy.stats below, up to a second to import, which only comparisons should pay.
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.power import TTestPower

    complete = table.dropna()
    sums, sizes = _of_patients(complete)
    count = len(sizes)
    pairs = list(combinations(range(table.shape[1]), 2))
    first, second = np.array(pairs, int).reshape(-1, 2).T
    means = complete.mean().to_numpy()
    frame = pd.DataFrame(
        {
            "method_a": table.columns[first],
            "method_b": table.columns[second],
            "patients": count,
            "cases": len(complete),
            "left_out": len(table) - len(complete),
            "mean_a": means[first],
            "mean_b": means[second],
            "difference": means[first] - means[second],
        }
    )
    columns = ["ci_low", "ci_high", "p", "p_holm", "effect", "detectable"]
    if count < 2 or not pairs:
        return frame.assign(**dict.fromkeys(columns, float("nan")), tied=True, test="none: fewer than two patients")
    drawn = _drawn_methods(sums, sizes, resamples, seed).T
    low, high = np.array([_interval(drawn[a] - drawn[b]) for a, b in pairs]).T
    of_patients = sums / sizes[:, None]
    differences = np.round(of_patients[:, first] - of_patients[:, second], _DIGITS).T
    p, effect = np.array([_signed_rank(one) for one in differences]).T
    p_holm = cast("np.ndarray", multipletests(p, method="holm")[1])
    effect_size = float(cast("float", TTestPower().solve_power(nobs=count, alpha=SIGNIFICANCE, power=POWER)))
    detectable = effect_size * differences.std(axis=1, ddof=1)
    how = "exact" if count <= _EXACT_UP_TO else "normal approximation"
    corrected = f"Holm over {len(pairs)} pairs" if len(pairs) > 1 else "a single pair"
    test = f"Wilcoxon signed-rank on patient means, zeros by Pratt, {how}, {corrected}"
    numbers = dict(zip(columns, (low, high, p, p_holm, effect, detectable), strict=True))
    return frame.assign(**numbers, tied=p_holm >= SIGNIFICANCE, test=test)


def rank_stability(
    table: pd.DataFrame, pairs: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """How far the ranking of methods depends on which patients happen to be in the test set.

    Args:
        table: By `case_table`. Cases that not every method has are left out.
        pairs: Of the same table, by `compare`.
        resamples: How often patients are drawn.
        seed: Of the draws.

    Returns:
        A row for each method, in the order of the columns; intervals and shares are NaN with fewer than two patients:

        - `method`;
        - `rank` by the mean over cases, 1 is best; equal means share the mean of their ranks;
        - `rank_low`, `rank_high`: 95 % percentile interval over drawn patients;
        - `share_first`: share of draws in which it is first, 0 to 1; methods that tie in a draw divide it;
        - `rank_shares`: the same for every rank, a list that begins with `share_first`;
        - `tied_with_best`: whether it is first or the data cannot separate it from one that is.
    """
    from scipy import stats

    complete = table.dropna()
    sums, sizes = _of_patients(complete)
    methods = table.shape[1]
    ranks = complete.mean().round(_DIGITS).rank(ascending=False).to_numpy()
    shares = np.full((methods, methods), np.nan)
    ends = np.full((methods, 2), np.nan)
    if len(sizes) >= 2:
        worse = -_drawn_methods(sums, sizes, resamples, seed)
        lowest, highest = (stats.rankdata(worse, method, axis=1) for method in ("min", "max"))
        ends = np.array([_interval(of_method) for of_method in (lowest + highest).T / 2])
        for rank in range(methods):
            here = (lowest <= rank + 1) & (rank + 1 <= highest)
            shares[:, rank] = (here / (highest - lowest + 1)).mean(axis=0)
    best = table.columns[ranks == ranks.min(initial=np.inf)]
    with_best = pairs[pairs["tied"] & (pairs["method_a"].isin(best) | pairs["method_b"].isin(best))]
    return pd.DataFrame(
        {
            "method": table.columns,
            "rank": ranks,
            "rank_low": ends[:, 0],
            "rank_high": ends[:, 1],
            "share_first": [of_method[0] for of_method in shares],
            "rank_shares": shares.tolist(),
            "tied_with_best": table.columns.isin([*best, *with_best["method_a"], *with_best["method_b"]]),
        }
    )


def _parts(count: int, width: int) -> Iterator[slice]:
    """Rows to be worked on at once, where each is `width` numbers wide."""
    rows = max(1, _CHUNK // width)
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def _of_patients(complete: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Sums (patients, methods) and numbers of cases (patients,), in the order of patients' names."""
    by_patient = complete.groupby(level="patient")
    return by_patient.sum().to_numpy(), by_patient.size().to_numpy()


def _drawn_means(draws: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Means over the cases of drawn patients, (draws, columns), from sums (patients, columns) and sizes (patients,)."""
    means = np.empty((len(draws), sums.shape[1]))
    for rows in _parts(len(draws), max(sums.shape)):
        weights = draws[rows].astype(np.float64)
        means[rows] = weights @ sums / (weights @ sizes)[:, None]
    return means


def _drawn_methods(sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of methods over drawn patients, (draws, methods), rounded so that equal methods are equal in every draw."""
    return np.round(_drawn_means(patient_draws(len(sizes), resamples=resamples, seed=seed), sums, sizes), _DIGITS)


def _interval(drawn: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of resampled values, (draws,); NaN values are left out."""
    kept = drawn[~np.isnan(drawn)]
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _from_zero(curves: np.ndarray) -> np.ndarray:
    return np.pad(curves, ((0, 0), (1, 0)))


def _auroc(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Area under ROC curves of counts that begin at zero, (curves, K), by trapezoids."""
    with np.errstate(invalid="ignore"):  # 0 / 0: NaN without positives or without negatives
        return np.trapezoid(true, false, axis=1) / (true[:, -1] * false[:, -1])


def _area_to_limit(overlap: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """As `metrics.aupro`, for many curves (curves, K) that begin at zero."""
    step = np.diff(rate)
    width = np.diff(np.minimum(rate, AUPRO_LIMIT))
    inside = width / np.where(step > 0, step, 1)  # share of the trapezoid before the limit
    height = overlap[:, :-1] + np.diff(overlap) * inside / 2
    return (width * height).sum(axis=1) / AUPRO_LIMIT


def _signed_rank(differences: np.ndarray) -> tuple[float, float]:
    """Two-sided p-value of the signed-rank test with Pratt's zeros, and the rank-biserial correlation."""
    from scipy import stats

    ranks = stats.rankdata(np.abs(differences))
    effect = float(ranks @ np.sign(differences) / ranks.sum())
    if not differences.any():
        return 1.0, effect
    if len(differences) > _EXACT_UP_TO:
        return float(cast("tuple[float, float]", stats.wilcoxon(differences, zero_method="pratt"))[1]), effect
    # Each sign is a coin. SciPy flips them all where there are ties or zeros, which takes a second for 13 patients;
    # one coin after the other gives the same distribution. Ranks are doubled, because ties have half ones.
    doubled = np.rint(2 * ranks).astype(int)
    chance = np.ones(1)
    for rank in doubled[differences != 0]:
        nothing = np.zeros(rank)
        chance = (np.concatenate([chance, nothing]) + np.concatenate([nothing, chance])) / 2
    favourable = int(doubled[differences > 0].sum())
    return float(min(1, 2 * min(chance[: favourable + 1].sum(), chance[favourable:].sum()))), effect
