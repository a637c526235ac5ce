"""Comparisons and ranks that respect that slices of one patient are not independent.

Ranks are bootstrapped: patients are drawn with replacement, each with all its images (cluster bootstrap, Davison and
Hinkley 1997, section 3.8). A draw is how often each patient came up, so that every resampled sum is a matrix product of
draws and sums of patients, and everything computed from the same patients shares its draws.
"""

from functools import lru_cache
from itertools import combinations
from math import inf
from typing import cast

import numpy as np
import pandas as pd

from ...results.seeds import seeds_part_of_difference, with_seeds
from ...results.tables import LEVEL
from ..scoring.intervals import chunks, jackknife, means_without

RESAMPLES = 10_000
SIGNIFICANCE = 0.05
POWER = 0.8

_EXACT_UP_TO = 50  # patients; as SciPy
_DIGITS = 12  # DICE values that are equal on paper differ after the 15th digit, unequal ones before the 11th
_ANYTHING = (-inf, inf)


@lru_cache(maxsize=1)  # all policies of a dataset share the patients
def patient_draws(count: int, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Draws patients with replacement, as many as there are.

    Args:
        count: Number of patients, at least 1.
        resamples: How often they are drawn.
        seed: The seed of the draws.

    Returns:
        How often each patient came up, uint8 (resamples, count), read-only; the same array for the same arguments.
    """
    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, count), np.uint8)  # nobody comes up 256 times: the chance is below 1e-500
    for rows in chunks(resamples, count):
        of_draw = np.arange(len(draws[rows]))[:, None] * count
        drawn = rng.integers(count, size=(len(of_draw), count)) + of_draw
        draws[rows] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    draws.flags.writeable = False
    return draws


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


def seed_table(cases: pd.DataFrame, table: pd.DataFrame, values: str = "dice") -> pd.DataFrame:
    """Each seed's means over the cases that every method has.

    Args:
        cases: The cases that the table was made from.
        table: By `case_table`.
        values: The column that was compared.

    Returns:
        Index seed; a column for each method, NaN where it was not run with a seed that others were run with.
    """
    complete = table.dropna().index.get_level_values("case")
    kept = cases[cases["case"].isin(complete)].dropna(subset=[values])
    means = kept.pivot_table(index="seed", columns="method", values=values, aggfunc="mean")
    return means.reindex(columns=table.columns)


def compare(
    table: pd.DataFrame, seeds: pd.DataFrame | None = None, bounds: tuple[float, float] = _ANYTHING
) -> pd.DataFrame:
    """Compares every two methods on the same cases.

    Differences are tested with Wilcoxon's signed-rank test on patient means, because images of one patient are not
    independent. Patients without a difference, often those whose lesion both methods miss, keep their ranks by Pratt's
    method (JASA 1959): they are evidence that the methods are alike, and to drop them, as Wilcoxon did, would let a
    few other patients decide alone. Up to 50 patients, the null distribution is enumerated with the ranks as they are,
    ties and zeros included; beyond, it is SciPy's normal approximation. Fewer than six patients can never reach 5 %.

    The test averages seeds, and its p-values allow for the draw of patients only. The interval allows for the draw of
    patients and of seeds.

    Args:
        table: By `case_table`. Cases that not every method has are left out and counted.
        seeds: By `seed_table`; `None` where there is one seed.
        bounds: The smallest and the largest value that a case can have.

    Returns:
        A row for each pair, in the order of the columns; what fewer than two patients cannot tell is NaN:

        - `method_a`, `method_b`, `patients`, `cases`, `left_out` (cases);
        - `mean_a`, `mean_b`, `difference` (a less b): means over cases;
        - `ci_low`, `ci_high`: 95 % interval of the difference, over patients, and over seeds where there are several;
        - `p`, and `p_holm` corrected for all pairs of the table (Holm, Scand. J. Stat. 1979);
        - `effect`: matched-pairs rank-biserial correlation, -1 to 1 (Kerby, Compr. Psychol. 2014): the share of the
          test's ranks in favour of a less the share in favour of b; zeros favour neither;
        - `detectable`: the smallest difference of patient means that would have been found with a power of 80 % at
          5 %, two-sided. It is the paired t-test's, uncorrected for the number of pairs; with many of them, the
          smallest difference that could have been found is larger;
        - `tied`: whether the data cannot separate the two: `p_holm` is not below 5 %, or the seeds of one of them
          differ and the interval holds 0;
        - `test`: how it was tested.
    """
    # Up to a second to import, which only comparisons should pay.
    from statsmodels.stats.power import TTestPower

    complete = table.dropna()
    sums, sizes = _of_patients(complete)
    count = len(sizes)
    pairs = list(combinations(range(table.shape[1]), 2))
    first, second = np.array(pairs, int).reshape(-1, 2).T
    means = complete.mean().to_numpy()
    difference = means[first] - means[second]
    frame = pd.DataFrame(
        {
            "method_a": table.columns[first],
            "method_b": table.columns[second],
            "patients": count,
            "cases": len(complete),
            "left_out": len(table) - len(complete),
            "mean_a": means[first],
            "mean_b": means[second],
            "difference": difference,
        }
    )
    columns = ["ci_low", "ci_high", "p", "p_holm", "effect", "detectable"]
    if count < 2 or not pairs:
        return frame.assign(**dict.fromkeys(columns, float("nan")), tied=True, test="none: fewer than two patients")
    ends = bounds[0] - bounds[1], bounds[1] - bounds[0]
    without = np.round(means_without(sums, sizes), _DIGITS)
    low, high = jackknife(difference, without[:, first] - without[:, second], count, ends)
    if seeds is None:
        parts = np.zeros(len(pairs))
    else:
        parts = np.array([seeds_part_of_difference(seeds.iloc[:, a], seeds.iloc[:, b]) for a, b in pairs])
        together = zip(difference, low, high, parts, strict=True)
        low, high = np.array([with_seeds(value, (one, other), [part], ends) for value, one, other, part in together]).T
    of_patients = sums / sizes[:, None]
    differences = np.round(of_patients[:, first] - of_patients[:, second], _DIGITS).T
    p, effect = np.array([_signed_rank(one) for one in differences]).T
    p_holm = _holm(p)
    effect_size = float(cast("float", TTestPower().solve_power(nobs=count, alpha=SIGNIFICANCE, power=POWER)))
    detectable = effect_size * differences.std(axis=1, ddof=1)
    how = "exact" if count <= _EXACT_UP_TO else "normal approximation"
    corrected = f"Holm over {len(pairs)} pairs" if len(pairs) > 1 else "a single pair"
    averaged = (
        "; seeds averaged, and tied too where the interval over seeds and patients holds 0" if parts.any() else ""
    )
    test = f"Wilcoxon signed-rank on patient means, zeros by Pratt, {how}, {corrected}{averaged}"
    numbers = dict(zip(columns, (low, high, p, p_holm, effect, detectable), strict=True))
    tied = (p_holm >= SIGNIFICANCE) | ((parts > 0) & (low <= 0) & (high >= 0))
    return frame.assign(**numbers, tied=tied, test=test)


def any_difference(table: pd.DataFrame) -> float:
    """Tests whether any methods differ: Friedman's test (JASA 1937) on patient means, each patient a block.

    Args:
        table: By `case_table`. Cases that not every method has are left out.

    Returns:
        The p-value of the chi-square approximation, corrected for ties; NaN with fewer than three methods or patients.
    """
    from scipy import stats

    sums, sizes = _of_patients(table.dropna())
    if min(sums.shape) < 3:
        return float("nan")
    means = np.round(sums / sizes[:, None], _DIGITS)
    if (means == means[:, :1]).all():  # SciPy divides by zero
        return 1.0
    return float(stats.friedmanchisquare(*means.T).pvalue)


def rank_stability(
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    seeds: pd.DataFrame | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How far the ranking of methods depends on which patients happen to be in the test set, and on seeds.

    Args:
        table: By `case_table`. Cases that not every method has are left out.
        pairs: The pairs of the same table, from `compare`.
        seeds: By `seed_table`; each method's are drawn with replacement, as patients are. `None` where there is one.
        resamples: How often patients are drawn.
        seed: The seed of the draws.

    Returns:
        A row for each method, in the order of the columns; intervals and shares are NaN with fewer than two patients:

        - `method`;
        - `rank` by the mean over cases, 1 is best; equal means share the mean of their ranks;
        - `rank_low`, `rank_high`: 95 % percentile interval over draws;
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
        drawn = _drawn_means(patient_draws(len(sizes), resamples=resamples, seed=seed), sums, sizes)
        if seeds is not None:
            drawn += np.stack([_drawn_shift(seeds[name], resamples, seed + at + 1) for at, name in enumerate(seeds)], 1)
        worse = -np.round(drawn, _DIGITS)  # equal methods are equal in every draw
        lowest, highest = (stats.rankdata(worse, method, axis=1) for method in ("min", "max"))
        ends = _percentiles((lowest + highest) / 2)
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


def _of_patients(complete: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Sums (patients, methods) and numbers of cases (patients,), in the order of patients' names."""
    by_patient = complete.groupby(level="patient")
    return by_patient.sum().to_numpy(), by_patient.size().to_numpy()


def _drawn_means(draws: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Means over the cases of drawn patients, (draws, columns), from sums (patients, columns) and sizes (patients,)."""
    means = np.empty((len(draws), sums.shape[1]))
    for rows in chunks(len(draws), max(sums.shape)):
        weights = draws[rows].astype(np.float64)
        means[rows] = weights @ sums / (weights @ sizes)[:, None]
    return means


def _drawn_shift(values: pd.Series, resamples: int, seed: int) -> np.ndarray:
    """By how much the mean of drawn seeds differs from that of all, (resamples,), from a value of each seed."""
    kept = values.dropna().to_numpy()
    draws = np.random.default_rng(seed).multinomial(len(kept), np.full(len(kept), 1 / len(kept)), size=resamples)
    return draws @ (kept - kept.mean()) / len(kept)


def _percentiles(drawn: np.ndarray) -> np.ndarray:
    """The ends of 95 % of resampled values, (K, 2), from (draws, K)."""
    return np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T


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


def _holm(p: np.ndarray) -> np.ndarray:
    """Corrects p-values for their number by Holm's method. That of statsmodels collects garbage at every call."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
