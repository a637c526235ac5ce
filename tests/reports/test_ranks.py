import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from miasbench.reports.ranks import SHARED_RANKS, comparison_tables, ranks_in_words, regrets_in_words
from miasbench.results.tables import COMPARISONS, RANKS, table


def rank(method: str, rank: float, mean: float, *, tied: bool, **more: Any) -> dict[str, Any]:
    spread = {"ci_low": mean - 0.1, "ci_high": mean + 0.1, "rank_low": 1.0, "rank_high": 2.5, "share_first": 0.75}
    counts = {"cases": 48, "patients": 9, "rank_shares": []}
    named = {"dataset": "liver_ct", "policy": "otsu", "method": method, "mean": mean, "rank": rank}
    return named | spread | counts | {"tied_with_best": tied} | more


def pair(one: str, other: str, *, tied: bool, **more: Any) -> dict[str, Any]:
    numbers = {"difference": 0.05, "ci_low": -0.01, "ci_high": 0.11, "p": 0.01, "p_holm": 0.03, "effect": 0.5}
    counts = {"patients": 9, "cases": 48, "left_out": 0, "mean_a": 0.4, "mean_b": 0.35, "detectable": 0.07}
    named = {"dataset": "liver_ct", "policy": "otsu", "method_a": one, "method_b": other, "tied": tied}
    return named | numbers | counts | {"test": "a signed-rank test"} | more


def tables(*, tied: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    ranks = [rank("a[x=1]", 1, 0.4, tied=True), rank("b", 2, 0.35, tied=tied), rank("c", 3, 0.1, tied=False)]
    pairs = [
        pair("a[x=1]", "b", tied=tied),
        pair("a[x=1]", "c", tied=False, detectable=0.09),
        pair("b", "c", tied=False),
    ]
    return table(ranks, RANKS), table(pairs, COMPARISONS)


def shown(ranks: pd.DataFrame, comparisons: pd.DataFrame, *, pairs: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(comparison_tables(ranks, comparisons, "otsu", pairs=pairs))
    return out.getvalue()


def test_the_ranking_says_who_is_tied() -> None:
    text = shown(*tables())
    lines = {name: next(line for line in text.splitlines() if f" {name} " in line) for name in ("a[x=1]", "b", "c")}
    assert "tied" in lines["b"]
    assert "tied" not in lines["a[x=1]"] + lines["c"]
    assert "0.300 to 0.500" in lines["a[x=1]"]
    assert "1 to 2.5" in lines["a[x=1]"]
    assert "75%" in lines["a[x=1]"]


def test_a_half_rank_is_explained_where_there_is_one() -> None:
    ranks, pairs = tables()
    whole = {"rank_low": 1.0, "rank_high": 2.0}
    assert SHARED_RANKS in shown(ranks, pairs)
    assert SHARED_RANKS in shown(ranks.assign(**whole | {"rank": [1.5, 1.5, 3.0]}), pairs)
    assert SHARED_RANKS not in shown(ranks.assign(**whole), pairs)


def test_pairs_are_shown_when_asked_for() -> None:
    assert "every two methods" not in shown(*tables())
    text = shown(*tables(), pairs=True)
    assert "+0.050" in text
    assert "-0.010 to +0.110" in text


def test_words_name_the_best_and_what_is_tied_with_it() -> None:
    assert list(ranks_in_words(*tables())) == [
        "a[x=1] has the highest DICE (0.400, and is first in 75% of resamples).",
        "The data cannot separate it from b: tied.",
        "It is better than c.",
        "a signed-rank test; 9 patients, 48 images that all methods have.",
        "With so many patients, the test finds a true difference to it of 0.070 to 0.090, depending on the method, in "
        "four of five cases. The correction for many pairs, left out of this number, makes it find fewer.",
    ]
    assert "It is better than b and c." in list(ranks_in_words(*tables(tied=False)))


@pytest.mark.parametrize(("patients", "enough"), [(6, False), (7, True)])
def test_too_few_patients_are_pointed_out(patients: int, enough: bool) -> None:
    """Three pairs: 3 x 2 / 2^6 is above 5 %, 3 x 2 / 2^7 is below."""
    ranks, pairs = tables()
    sentences = list(ranks_in_words(ranks, pairs.assign(patients=patients)))
    assert any("are too few for 3 pairs" in sentence for sentence in sentences) != enough


def test_words_about_one_pair_speak_of_one() -> None:
    ranks, pairs = tables()
    sentences = list(ranks_in_words(ranks[:2], pairs[:1].assign(patients=3, detectable=0.83)))
    assert sentences[-2:] == [
        "3 patients are too few for this test: even where every patient favours the same method, the two are tied. "
        "Only more patients can tell them apart.",
        "With so many patients, the test finds a true difference to it of 0.830 in four of five cases.",
    ]


def test_words_about_one_patient_speak_of_one() -> None:
    ranks, pairs = tables()
    sentences = list(ranks_in_words(ranks[:2], pairs[:1].assign(patients=1, cases=1)))
    assert "a signed-rank test; 1 patient, 1 image that all methods have." in sentences
    assert [one for one in sentences if one.startswith("1 patient is too few for this test: ")]


def test_one_patient_tells_nothing() -> None:
    missing = dict.fromkeys(("ci_low", "ci_high", "rank_low", "rank_high", "share_first"), np.nan)
    ranks = table([rank("a", 1, 0.4, tied=True, **missing), rank("b", 2, 0.3, tied=True, **missing)], RANKS)
    lacking = dict.fromkeys(("ci_low", "ci_high", "p", "p_holm", "effect", "detectable"), np.nan)
    pairs = table([pair("a", "b", tied=True, **lacking, test="none: fewer than two patients")], COMPARISONS)
    text = shown(ranks, pairs, pairs=True)
    assert "nan" not in text
    assert "a has the highest DICE (0.400)." in text
    assert "The data cannot separate it from b: tied." in text


def test_many_methods_behind_are_counted() -> None:
    ranks, pairs = tables(tied=False)
    more = [rank(f"m{index}", 4 + index, 0.05, tied=False) for index in range(3)]
    assert "It is better than the other 5 methods." in list(
        ranks_in_words(pd.concat([ranks, table(more, RANKS)]), pairs)
    )


def test_another_policys_rows_are_left_out() -> None:
    ranks, pairs = tables()
    assert "elsewhere" not in shown(pd.concat([ranks, ranks.assign(policy="own", method="elsewhere")]), pairs)


def test_words_about_the_regret_of_one_pair_speak_of_one() -> None:
    _, pairs = tables()
    sentences = list(regrets_in_words(pairs[:1].assign(patients=3, detectable=0.83), float("nan"), "valid_dice"))
    assert sentences == [
        "No two methods can be told apart by their regret.",
        "a signed-rank test; 3 patients. Tests of other policies are not corrected for.",
        "3 patients are too few for this test: even where every patient favours the same method, the two are tied. "
        "Only more patients can tell them apart.",
        "With so many patients, the test finds a true difference of 0.830 in four of five cases.",
    ]
    *_, power = regrets_in_words(pairs, 0.5, "valid_dice")
    assert power == (
        "With so many patients, the test finds a true difference of 0.070 to 0.090, depending on the pair, in four of "
        "five cases, before the correction."
    )
