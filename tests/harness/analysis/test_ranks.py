from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from miasbench.harness.analysis.ranks import compare_methods, compare_regrets
from miasbench.harness.analysis.statistics import case_table, compare
from miasbench.harness.scoring.intervals import mean_interval
from miasbench.results.seeds import over_seeds
from miasbench.results.tables import CASES, COMPARISONS, HEADLINE, RANKS, headline, table

PATIENTS, SLICES = 12, 3


def cases_of(method: str, dice: np.ndarray, policy: str, **more: Any) -> pd.DataFrame:
    """Rows of one method; the last case is a normal image."""
    blank = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}
    row = {name: blank[kind] for name, kind in CASES.items()} | {"dataset": "d", "method": method, "policy": policy}
    rows = [
        row | {"case": f"c{index}", "patient": f"p{index // SLICES}", "dice": value} | more
        for index, value in enumerate([*dice, np.nan])
    ]
    return table(rows, CASES)


def a_run(**shifts: float) -> pd.DataFrame:
    """Methods that differ by a constant and a little noise, each by a mask of its own and by two thresholds."""
    rng = np.random.default_rng(0)
    common = rng.random(PATIENTS * SLICES) / 2
    parts = []
    for method, shift in shifts.items():
        dice = np.clip(common + shift + 0.02 * rng.normal(size=len(common)), 0, 1)
        policies: Mapping[str, float] = {"valid_dice": 0, "otsu": -0.01} | ({"own": 0.1} if method == "sam" else {})
        parts += [cases_of(method, np.clip(dice + more, 0, 1), policy) for policy, more in policies.items()]
        parts.append(cases_of(method, dice + 0.3, "oracle_dice", oracle=True, looks_at="oracle"))
    return pd.concat(parts, ignore_index=True)


def test_every_policy_but_the_oracle_is_compared() -> None:
    comparisons, ranks = compare_methods(a_run(sam=0.1, good=0.2, same=0.2, bad=0.0))
    assert list(comparisons) == list(COMPARISONS)
    assert list(ranks) == list(RANKS)
    assert comparisons["policy"].unique().tolist() == [HEADLINE, "valid_dice", "otsu"]
    assert (comparisons.groupby("policy").size() == 6).all()
    assert ranks["rank"].tolist() == [*sorted(ranks["rank"][:4])] * 3
    valid = ranks[ranks["policy"] == "valid_dice"].set_index("method")
    assert valid["tied_with_best"].to_dict() == {"good": True, "same": True, "sam": False, "bad": False}


def test_the_headline_takes_own_masks_before_those_of_validation() -> None:
    chosen = headline(a_run(sam=0.1, good=0.2))
    assert chosen.groupby("method")["policy"].unique().str[0].to_dict() == {"sam": "own", "good": "valid_dice"}


def test_numbers_are_those_of_statistics() -> None:
    cases = a_run(good=0.2, bad=0.1)
    comparisons, ranks = compare_methods(cases)
    methods = case_table(cases[cases["policy"] == "otsu"])
    expected = compare(methods, bounds=(0, 1)).iloc[0]
    found = comparisons[comparisons["policy"] == "otsu"].iloc[0]
    pd.testing.assert_series_equal(found[expected.index], expected, check_names=False)
    row = ranks[(ranks["policy"] == "otsu") & (ranks["method"] == "good")].iloc[0]
    patients = methods.index.get_level_values("patient").tolist()
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(
        mean_interval(methods["good"].to_numpy(), patients, (0, 1))[:2]
    )
    assert row["mean"] == pytest.approx(methods["good"].mean())
    assert (row["cases"], row["patients"]) == (PATIENTS * SLICES, PATIENTS)


def with_regret(**costs: float) -> pd.DataFrame:
    """Methods whose masks by `valid_dice` are worse than the oracle's by so much, and a little noise."""
    rng = np.random.default_rng(1)
    parts = []
    for method, cost in costs.items():
        best = 0.4 + 0.4 * rng.random(PATIENTS * SLICES)
        parts.append(cases_of(method, best, "oracle_dice", oracle=True, looks_at="oracle"))
        parts.append(cases_of(method, best - cost - 0.02 * rng.random(len(best)), "valid_dice"))
    return pd.concat(parts, ignore_index=True)


def test_regrets_are_compared_on_the_same_patients() -> None:
    cases = with_regret(costly=0.2, cheap=0.0, alike=0.0)
    means, pairs, p = compare_regrets(cases, "valid_dice")["d"]
    of_case = cases.pivot_table(index=["method", "patient", "case"], columns="policy", values="dice")
    regret = of_case["oracle_dice"] - of_case["valid_dice"]
    assert means["mean"].to_dict() == pytest.approx(regret.groupby("method").mean().to_dict())
    assert means.index[-1] == "costly"
    of_patient = regret.reset_index(name="regret").pivot_table(index="patient", columns="method", values="regret")
    assert p == pytest.approx(stats.friedmanchisquare(*of_patient.to_numpy().T).pvalue)
    tied = {frozenset((row.method_a, row.method_b)): row.tied for row in pairs.itertuples()}
    assert tied[frozenset(("cheap", "alike"))]
    assert not tied[frozenset(("cheap", "costly"))]


def test_regrets_of_two_methods_have_one_test_and_of_one_none() -> None:
    regrets = compare_regrets(with_regret(costly=0.2, cheap=0.0), HEADLINE)["d"]
    assert np.isnan(regrets.p)
    assert len(regrets.pairs) == 1
    assert compare_regrets(with_regret(alone=0.1), "valid_dice") == {}
    assert compare_regrets(cases_of("a", np.ones(3), "valid_dice"), "valid_dice") == {}


def test_equal_regrets_differ_by_no_test() -> None:
    best = np.linspace(0.2, 0.8, PATIENTS * SLICES)
    parts = [
        cases_of(method, values, policy, oracle=policy == "oracle_dice")
        for method in "abc"
        for policy, values in (("oracle_dice", best), ("otsu", best / 2))
    ]
    assert compare_regrets(pd.concat(parts, ignore_index=True), "otsu")["d"].p == 1


def test_datasets_are_compared_each_by_itself() -> None:
    one = a_run(good=0.2, bad=0.1)
    comparisons, ranks = compare_methods(pd.concat([one, one.assign(dataset="e")], ignore_index=True))
    first, second = (rows.drop(columns="dataset").reset_index(drop=True) for _, rows in comparisons.groupby("dataset"))
    pd.testing.assert_frame_equal(first, second)
    assert set(ranks["dataset"]) == {"d", "e"}


@pytest.mark.parametrize("cases", [table([], CASES), a_run(only=0.1)], ids=["nothing", "one method"])
def test_there_is_nothing_to_compare(cases: pd.DataFrame) -> None:
    comparisons, ranks = compare_methods(cases)
    assert (len(comparisons), len(ranks)) == (0, 0)
    assert (list(comparisons), list(ranks)) == (list(COMPARISONS), list(RANKS))


def test_several_seeds_have_the_interval_that_their_scores_have() -> None:
    """The mean of the seeds' intervals over patients and the seeds' own part, as in every other table."""
    rng = np.random.default_rng(1)
    parts, scores = [cases_of("once", rng.random(36), "otsu")], []
    groups = [f"p{index // SLICES}" for index in range(36)]
    for seed in range(3):
        dice = np.clip(rng.random(36) + 0.1 * seed, 0, 1)
        parts.append(cases_of("varies", dice, "otsu", seed=seed))
        low, high, count = mean_interval(dice, groups, (0, 1))
        scores.append({"metric": "dice", "value": dice.mean(), "ci_low": low, "ci_high": high, "patients": count})
    comparisons, ranks = compare_methods(pd.concat(parts, ignore_index=True))
    found = ranks.set_index("method").loc["varies"]
    expected = over_seeds(pd.DataFrame(scores))
    assert (found["mean"], found["ci_low"], found["ci_high"]) == pytest.approx((expected.value, *expected[2:4]))
    assert (found["cases"], found["patients"]) == (36, 12)
    assert "seeds averaged" in comparisons["test"].iloc[0]
    assert len(comparisons) == 1
