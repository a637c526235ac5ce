"""False positives on normal test images: their rates by plain counting, their intervals, and what policies promised."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score

from miasbench.harness import registry
from miasbench.harness.api import Case, ForegroundPolicy, NormalImage, Prediction, Promise, Split
from miasbench.harness.config import ScoreConfig
from miasbench.harness.data.frame import Truth
from miasbench.harness.scoring.cell_scores import score_cell
from miasbench.harness.scoring.functions import OF_FOREGROUND
from miasbench.harness.scoring.intervals import mean_interval, ratio_interval, share_interval
from miasbench.harness.scoring.masks import Lesions
from miasbench.harness.scoring.normal_rates import RATES
from miasbench.harness.scoring.ranking import PixelTally, Ranking, rank_pixels
from miasbench.harness.scoring.scanning import SplitTruths
from miasbench.reports.promises import missed_sentences, promises
from miasbench.results.predictions import StoredPrediction
from miasbench.results.record import Measurements
from miasbench.results.tables import IDENTITY, CellTables

from ...support.maps import Images, images

SIDE = 16
NOTHING: dict[str, Any] = dict.fromkeys(IDENTITY, "") | {"seed": 0, "size": SIDE, "transductive": False, "method": "m"}


@dataclass
class Cell:
    """Twelve normal and four anomalous images in each split, two of each patient; the left half is foreground.

    Attributes:
        shift: Is added to the maps of the test split.
        air: Is added to the maps outside of the foreground.
    """

    shift: float = 0.0
    air: float = 0.0
    normal: int = 12

    def split(self, split: Split) -> tuple[SplitTruths, list[StoredPrediction]]:
        rng = np.random.default_rng(len(split))
        inside = np.zeros((SIDE, SIDE), bool)
        inside[:, : SIDE // 2] = True
        cases, truths, stored = [], [], []
        for index in range(self.normal + 4):
            label = int(index >= self.normal)
            mask = np.zeros((SIDE, SIDE), bool)
            mask[4:8, 2:6] = bool(label)
            values = rng.normal(size=(SIDE, SIDE)) + 3 * mask + self.shift * (split == "test") + self.air * ~inside
            cases.append(Case(f"{split}{index}", f"{split}{index // 2}", split, label, "", "m" if label else None))
            truths.append(Truth(mask, mask))
            stored.append(StoredPrediction(Prediction(values.astype(np.float32), 0.0, values > 2), 0.01))
        whole = [np.s_[:, :]] * len(cases)
        lesions = [Lesions(one.overlap) for one in truths]
        notes = [""] * len(cases)
        return SplitTruths(cases, truths, lesions, whole, notes, foregrounds=[inside] * len(cases)), stored

    def both(self) -> tuple[dict[Split, SplitTruths], dict[Split, list[StoredPrediction]]]:
        truths: dict[Split, SplitTruths] = {}
        predictions: dict[Split, list[StoredPrediction]] = {}
        for split in ("valid", "test"):
            truths[split], predictions[split] = self.split(split)
        return truths, predictions

    def score(self, thresholds: Sequence[str] = ("all",)) -> CellTables:
        truths, predictions = self.both()
        config = ScoreConfig.model_validate({"thresholds": ",".join(thresholds)})
        return score_cell(NOTHING, truths, dict(predictions), config, Measurements())


def row(scores: pd.DataFrame, policy: str, metric: str) -> pd.Series:
    (index,) = scores.index[(scores["policy"] == policy) & (scores["metric"] == metric)]
    return scores.loc[index]


def test_rates_are_those_of_plain_counting() -> None:
    cell = Cell()
    tables = cell.score()
    _, stored = cell.split("test")
    for policy, of_policy in tables.cases.groupby("policy"):
        thresholds = of_policy.sort_values("case", key=lambda case: case.str[4:].astype(int))["threshold"]
        inside = [
            (one.prediction.mask if policy == "own" else one.prediction.anomaly_map >= threshold)[:, : SIDE // 2]
            for one, threshold in zip(stored[:12], thresholds, strict=False)
        ]
        assert row(tables.scores, str(policy), "normal_fpr")["value"] == pytest.approx(np.mean(inside))
        assert row(tables.scores, str(policy), "normal_fp_area_foreground")["value"] == pytest.approx(np.mean(inside))
        assert row(tables.scores, str(policy), "normal_image_fpr")["value"] == np.mean([one.any() for one in inside])
        assert row(tables.scores, str(policy), "normal_image_fpr")["n"] == 12


def test_only_a_promised_rate_has_a_promise_beside_it() -> None:
    scores = Cell(normal=40).score(["normal_fpr[rate=0.05]", "conformal", "conformal_risk[alpha=0.2]", "otsu"]).scores
    made = scores[scores["promised"].notna()].set_index("policy")[["metric", "promised"]]
    assert made.to_dict("index") == {
        "normal_fpr[rate=0.05]": {"metric": "normal_fpr", "promised": 0.05},
        "conformal": {"metric": "normal_image_fpr", "promised": 0.1},
        "conformal_risk[alpha=0.2]": {"metric": "normal_fp_area_foreground", "promised": 0.2},
    }


def test_what_lies_outside_of_the_foreground_moves_no_policy_and_no_rate() -> None:
    names = ["normal_fpr", "normal_image_fpr[rate=0.2]", "conformal[alpha=0.2]", "conformal_risk[alpha=0.2]"]
    plain, bright = Cell().score(names), Cell(air=50).score(names)
    for policy in names:
        for metric in ("normal_fpr", "normal_fp_area_foreground", "normal_image_fpr"):
            one, other = (row(tables.scores, policy, metric) for tables in (plain, bright))
            assert one["threshold"] == other["threshold"] and one["value"] == other["value"]
    moved = [row(tables.scores, "normal_fpr", "normal_fp_area")["value"] for tables in (plain, bright)]
    assert moved[1] > moved[0] + 0.4, "the area over the frame sees the air"
    of_frame = [Cell(air=air).score(["normal_quantile"]).scores for air in (0, 50)]
    quantiles = [row(scores, "normal_quantile", "dice")["threshold"] for scores in of_frame]
    assert quantiles[1] > quantiles[0] + 40, "as does the quantile of all pixels"


def test_policies_see_normal_validation_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NormalImage] = []

    @dataclass(frozen=True)
    class Looking(ForegroundPolicy):
        name = "looking"

        def threshold(self, images: Sequence[NormalImage]) -> float:
            seen.extend(images)
            return 0.5

    monkeypatch.setattr(registry, "make_policies", lambda _: {"looking": Looking()})
    cell = Cell()
    scores = cell.score().scores
    truths, stored = cell.split("valid")
    normal = [index for index, case in enumerate(truths.cases) if not case.label]
    assert [one.patient for one in seen] == [truths.cases[index].patient for index in normal]
    for one, index in zip(seen, normal, strict=True):
        np.testing.assert_array_equal(one.values, stored[index].prediction.anomaly_map[:, : SIDE // 2].ravel())
    convention = row(scores, "looking", "dice")["convention"]
    assert "saw 12 normal validation images of 6 patients, 1,536 foreground pixels" in convention


def test_neither_the_test_set_nor_lesions_move_a_threshold() -> None:
    names = ["normal_fpr", "normal_image_fpr", "conformal[alpha=0.2]", "conformal_risk[alpha=0.2]"]

    def chosen(cell: Cell) -> list[float]:
        cases = cell.score(names).cases
        return cases[cases["policy"].isin(names)].groupby("policy")["threshold"].first().tolist()

    class WithoutLesions(Cell):
        def split(self, split: Split) -> tuple[SplitTruths, list[StoredPrediction]]:
            truths, stored = super().split(split)
            blank = np.zeros((SIDE, SIDE), bool)
            changed = [
                StoredPrediction(Prediction(-one.prediction.anomaly_map, 0.0), 0.0) if case.label else one
                for one, case in zip(stored, truths.cases, strict=True)
            ]
            masks = [Truth(blank, blank)] * len(changed) if split == "valid" else truths.masks
            return SplitTruths(
                truths.cases, masks, truths.lesions, truths.rectangles, truths.notes, foregrounds=truths.foregrounds
            ), changed

    assert len(chosen(Cell())) == 4
    assert chosen(Cell()) == chosen(Cell(shift=9)) == chosen(WithoutLesions())


def test_a_promise_is_kept_on_like_images_and_missed_after_a_shift() -> None:
    names = ["normal_fpr", "normal_image_fpr", "conformal", "conformal_risk"]
    like, shifted = Cell(normal=60).score(names).scores, Cell(normal=60, shift=1.5).score(names).scores
    verdicts = [{one.policy: one.verdict for one in promises(scores)} for scores in (like, shifted)]
    assert "missed" not in verdicts[0].values()
    assert verdicts[1] == dict.fromkeys(names[:3], "missed") | {"conformal_risk": verdicts[1]["conformal_risk"]}
    assert not list(missed_sentences(promises(like)))
    sentences = list(missed_sentences(promises(shifted)))
    assert len(sentences) == list(verdicts[1].values()).count("missed")
    assert any("conformal missed its promise with m" in one and "0.1 at most was promised" in one for one in sentences)


def test_without_normal_test_images_there_is_no_rate_and_no_verdict() -> None:
    class Ill(Cell):
        def split(self, split: Split) -> tuple[SplitTruths, list[StoredPrediction]]:
            truths, stored = super().split(split)
            kept = [index for index, case in enumerate(truths.cases) if case.label or split == "valid"]
            return truths.of([truths.cases[index].id for index in kept]), [stored[index] for index in kept]

    scores = Ill().score(["normal_fpr"]).scores
    one = row(scores, "normal_fpr", "normal_fpr")
    assert np.isnan(one["value"]) and one["n"] == 0 and one["promised"] == 0.01
    assert promises(scores) == []


def test_a_promise_of_a_plugin_is_held_too(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Sure(ForegroundPolicy):
        name = "sure"

        @property
        def promise(self) -> Promise:
            return Promise("normal_fpr", 0.001)

        def threshold(self, images: Sequence[NormalImage]) -> float:
            return 0.0

    monkeypatch.setattr(registry, "make_policies", lambda _: {"sure": Sure()})
    (one,) = promises(Cell().score().scores)
    assert (one.policy, one.verdict, one.promised) == ("sure", "missed", 0.001)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
@settings(max_examples=60)
def test_the_interval_of_a_ratio_of_equal_wholes_is_that_of_the_mean(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    parts, groups = rng.integers(0, 50, count).astype(float), rng.integers(0, 5, count).astype(str).tolist()
    ratio = ratio_interval(parts, np.full(count, 50.0), groups)
    mean = mean_interval(parts / 50, groups, (0.0, 1.0))
    np.testing.assert_allclose(ratio, mean)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (3, 10), (1, 40), (20, 40)])
def test_the_interval_of_a_share_of_independent_images_is_clopper_and_pearsons(hits: int, count: int) -> None:
    events = (np.arange(count) < hits).astype(float)
    found = share_interval(events, list(map(str, range(count))))
    # Of the jackknife's deviation, which divides by n - 1, follow n - 1 cases; where all are alike, n.
    cases = count if hits in (0, count) else count - 1
    share = hits / count
    low = beta.ppf(0.025, share * cases, cases - share * cases + 1) if hits else 0
    high = beta.ppf(0.975, share * cases + 1, cases - share * cases) if hits < count else 1
    assert (found.low, found.high, found.patients) == (pytest.approx(low), pytest.approx(high), count)


def test_the_interval_of_a_share_counts_patients_where_their_images_agree() -> None:
    alone = share_interval(np.repeat([1.0, 0, 0, 0, 0], 1), list("abcde"))
    repeated = share_interval(np.repeat([1.0, 0, 0, 0, 0], 20), np.repeat(list("abcde"), 20).tolist())
    assert repeated.patients == 5
    assert repeated.high - repeated.low > 0.4 and alone.high - alone.low > 0.4
    independent = share_interval(np.repeat([1.0, 0, 0, 0, 0], 20), list(map(str, range(100))))
    assert independent.high - independent.low < 0.2
    assert np.isnan(share_interval(np.ones(4), ["a"] * 4).low)


def test_the_interval_of_a_share_holds_the_truth_as_often_as_it_says() -> None:
    """20 patients of 4 images; a patient's own rate is drawn around 0.1."""
    rng, held, draws = np.random.default_rng(0), 0, 600
    groups = np.repeat(np.arange(20).astype(str), 4).tolist()
    for _ in range(draws):
        rates = np.repeat(rng.beta(0.5, 4.5, 20), 4)
        found = share_interval((rng.random(80) < rates).astype(float), groups)
        held += found.low <= 0.1 <= found.high
    assert held / draws > 0.93


def test_pixels_of_the_foreground_have_scores_of_their_own() -> None:
    cell = Cell(air=4)
    truths, stored = cell.split("test")
    scores = cell.score(["otsu"]).scores
    inside = [
        (one.overlap[:, : SIDE // 2], two.prediction.anomaly_map[:, : SIDE // 2])
        for one, two in zip(truths.masks, stored, strict=True)
    ]
    lesions, values = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*inside, strict=True))
    assert row(scores, "none", "pixel_auroc_foreground")["value"] == pytest.approx(roc_auc_score(lesions, values))
    assert row(scores, "none", "pixel_ap_foreground")["value"] == pytest.approx(
        average_precision_score(lesions, values)
    )
    ranking = rank_pixels([two for _, two in inside], [one for one, _ in inside])
    assert row(scores, "none", "aupro_foreground")["value"] == ranking.aupro()
    for metric in ("pixel_auroc", "pixel_ap", "aupro"):
        inside_only, frame = row(scores, "none", f"{metric}_foreground"), row(scores, "none", metric)
        assert inside_only["value"] > frame["value"], "bright air looks anomalous"
        assert inside_only["ci_low"] < inside_only["value"] < inside_only["ci_high"]
        assert "foreground: all" in inside_only["convention"] and "foreground" not in frame["convention"]


@pytest.mark.parametrize("pixels", ["exact", "binned"])
def test_a_foreground_leaves_scores_of_the_frame_as_they_are(pixels: str) -> None:
    """To the last digit, though the pixels are sorted in other parts."""
    tables = []
    for foreground in (True, False):
        truths, predictions = Cell(air=1).both()
        for split, one in truths.items():
            truths[split] = one if foreground else replace(one, foregrounds=None)
        config = ScoreConfig.model_validate(
            {"pixels": pixels, "thresholds": "normal_quantile,valid_dice,valid_f1,otsu"}
        )
        tables.append(score_cell(NOTHING, truths, dict(predictions), config, Measurements()))
    inside = [*OF_FOREGROUND, *RATES, "sensitivity_at_fpr"]
    with_one, without = (table.scores[~table.scores["metric"].isin(inside)] for table in tables)
    pd.testing.assert_frame_equal(with_one.reset_index(drop=True), without.reset_index(drop=True), check_exact=True)
    with_one, without = (table.cases.drop(columns=["foreground_px", "predicted_foreground_px"]) for table in tables)
    pd.testing.assert_frame_equal(with_one, without, check_exact=True)
    with_one, without = (table.curves.drop(columns="normal_fpr") for table in tables)
    pd.testing.assert_frame_equal(with_one, without, check_exact=True)


@given(images(), st.integers(0, 2**32 - 1), st.sampled_from([None, 512]))
@settings(max_examples=150)
def test_the_ranking_of_a_foreground_is_that_of_its_pixels_alone(content: Images, seed: int, limit: int | None) -> None:
    maps, truths = content
    rng = np.random.default_rng(seed)
    foregrounds = [rng.random(one.shape) < rng.choice([0, 0.5, 1]) for one in maps]
    tally, plain = PixelTally(limit), PixelTally(limit)
    for one, truth, inside in zip(maps, truths, foregrounds, strict=True):
        tally.add(one, truth, foreground=inside)
        plain.add(one, truth)
    found = tally.foreground_ranking()
    assert found is not None and plain.foreground_ranking() is None
    expected = Ranking(
        np.concatenate([one[inside] for one, inside in zip(maps, foregrounds, strict=True)]),
        np.concatenate([truth[inside] for truth, inside in zip(truths, foregrounds, strict=True)]),
    )
    np.testing.assert_array_equal(found.counts.true, expected.counts.true)
    np.testing.assert_array_equal(found.counts.false, expected.counts.false)
    np.testing.assert_array_equal(found.counts.above, expected.counts.above)
    for one, other in zip(vars(tally.ranking().counts).values(), vars(plain.ranking().counts).values(), strict=True):
        np.testing.assert_array_equal(one, other)
