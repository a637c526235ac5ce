"""The gate: every way in which a run can differ from a baseline is told apart, by its words and by its exit code."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from miasbench.harness.analysis.gate import Measured, check, gated, make_baseline, measure, parse_tolerances
from miasbench.harness.api import UsageError
from miasbench.harness.cli.check_command import exit_code
from miasbench.harness.config import RunConfig
from miasbench.harness.running.device import calibrate
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import execute
from miasbench.harness.scoring.ranking import PixelTally, Ranking
from miasbench.reports.gate import gate_in_words, gate_markdown, junit_xml
from miasbench.results.baseline import (
    DEFAULT_TOLERANCES,
    FAILURES,
    Absolute,
    Baseline,
    BaselineCell,
    BaselineError,
    Factor,
    Finding,
    FindingKind,
    Runtime,
    Score,
    Tolerance,
    find_baseline,
    read_baseline,
    write_baseline,
)
from miasbench.results.metrics import METRICS
from miasbench.results.store import RunStore

DICE = {f"p{patient}": {f"p{patient}-{case}": 0.5 + 0.02 * patient for case in range(2)} for patient in range(6)}
CELL = BaselineCell(
    dataset="liver",
    method="padim",
    seeds=(0,),
    fingerprint="f" * 64,
    configuration={"size": 64, "option gamma": 5},
    scores={
        "dice": Score("valid_dice", 0.55, 0.5, 0.6),
        "pixel_auroc": Score("none", 0.9, None, None),
    },
    runtime=Runtime("cpu", 1, predict_ms=100.0, calibration_ms=10.0),
    dice=DICE,
)
TINY = "phantom_brain_mri:train=3,valid=4,test=6,size=64"
KEYS = frozenset({CELL.key})
BOTH = KEYS | {("liver", "alone")}


def baseline(**tolerance: Any) -> Baseline:
    defaults: dict[str, Tolerance] = {
        name: one for name, one in DEFAULT_TOLERANCES.items() if name in {*CELL.scores, "runtime"}
    }
    return Baseline("run", defaults | tolerance, (CELL,))


def measured(*cells: BaselineCell, **changes: Any) -> Measured:
    return replace(Measured(cells, {}, frozenset({"liver"}), KEYS), **changes)


def findings(cell: BaselineCell, **tolerance: Any) -> dict[str, Finding]:
    return {one.what: one for one in check(baseline(**tolerance), measured(cell))}


def scored(metric: str, by: float) -> BaselineCell:
    score = CELL.scores[metric]
    return replace(CELL, scores=CELL.scores | {metric: replace(score, value=round(score.value + by, 6))})


def paired(*differences: float) -> BaselineCell:
    """A difference for each patient."""
    dice = {
        patient: {case: value + by for case, value in cases.items()}
        for (patient, cases), by in zip(DICE.items(), differences, strict=True)
    }
    return replace(scored("dice", sum(differences) / 6), dice=dice)


def timed(predict_ms: float, calibration_ms: float = 10.0, device: str = "cpu", threads: int = 1) -> BaselineCell:
    return replace(CELL, runtime=Runtime(device, threads, predict_ms, calibration_ms))


def only(kind: FindingKind, found: list[Finding]) -> Finding:
    (one,) = found
    assert one.kind == kind
    return one


class TestScores:
    def test_what_is_the_same_passes(self) -> None:
        assert {one.kind for one in findings(CELL).values()} == {"ok"}

    @pytest.mark.parametrize(("by", "kind"), [(-0.02, "ok"), (-0.021, "regression"), (0.02, "ok"), (0.021, "improved")])
    def test_an_absolute_tolerance(self, by: float, kind: str) -> None:
        found = findings(scored("dice", by))
        assert found["dice"].kind == kind
        assert found["pixel_auroc"].kind == "ok"

    def test_a_tolerance_of_nothing_takes_the_same_and_nothing_less(self) -> None:
        assert findings(CELL, dice=Absolute(0))["dice"].kind == "ok"
        assert findings(scored("dice", -1e-6), dice=Absolute(0))["dice"].kind == "regression"

    @pytest.mark.parametrize(
        ("differences", "kind"),
        [
            ((-0.03, -0.02, -0.04, -0.03, -0.02, -0.03), "regression"),
            ((0.03, 0.02, 0.04, 0.03, 0.02, 0.03), "improved"),
            ((-0.3, 0.2, -0.2, 0.1, -0.1, 0.1), "ok"),
            ((-0.0005,) * 6, "ok"),
            ((0.0,) * 6, "ok"),
        ],
    )
    def test_a_paired_tolerance_asks_whether_patients_agree(self, differences: tuple[float, ...], kind: str) -> None:
        found = findings(paired(*differences), dice="paired")["dice"]
        assert found.kind == kind
        assert "paired 95 % interval" in found.text

    def test_one_patient_cannot_be_paired(self) -> None:
        alone = replace(CELL, dice={"p0": DICE["p0"]})
        found = check(Baseline("run", {"dice": "paired"}, (alone,)), measured(alone))
        assert [one.kind for one in found] == ["not judged", "nothing judged", "nothing judged"]
        assert found[0].text == "a paired interval takes two patients or more"
        assert exit_code(found) == 5

    def test_what_has_no_tolerance_is_not_looked_at(self) -> None:
        only("ok", check(Baseline("run", {"dice": Absolute(0.02)}, (CELL,)), measured(scored("pixel_auroc", -0.5))))

    def test_a_score_that_is_gone_is_missing(self) -> None:
        assert findings(replace(CELL, scores={"dice": CELL.scores["dice"]}))["pixel_auroc"].kind == "missing"

    def test_a_baseline_from_before_padding_was_left_out_is_another_configuration(self) -> None:
        now = replace(CELL, configuration=CELL.configuration | {"padding": "exclude"})
        assert findings(now)["cell"].text == "padding is exclude, was absent"

    def test_another_policy_is_another_configuration(self) -> None:
        own = replace(CELL, scores=CELL.scores | {"dice": Score("own", 0.1, None, None)})
        assert findings(own)["dice"].text == "masks are those of own, were those of valid_dice"


class TestNothingJudged:
    """A gate that has nothing to judge does not pass."""

    def kinds(self, tolerance: dict[str, Any], before: BaselineCell = CELL, now: BaselineCell = CELL) -> list[str]:
        found = check(Baseline("run", tolerance, (before,)), measured(now))
        assert exit_code(found) == (5 if "nothing judged" in {one.kind for one in found} else 0)
        return [one.kind for one in found]

    def test_a_tolerance_for_a_score_that_no_cell_has(self) -> None:
        assert self.kinds({"aupro": Absolute(0.02)}) == ["not judged", "nothing judged", "nothing judged"]
        both = {"dice": Absolute(0.02), "aupro": Absolute(0.02)}
        assert self.kinds(both) == ["ok", "not judged", "nothing judged"]

    def test_a_cell_that_no_tolerance_is_for(self) -> None:
        alone = replace(CELL, method="alone", scores={"pixel_auroc": CELL.scores["pixel_auroc"]})
        found = check(Baseline("run", {"dice": Absolute(0.02)}, (CELL, alone)), measured(CELL, alone, planned=BOTH))
        assert [(one.kind, one.method) for one in found if one.failed] == [("nothing judged", "alone")]

    @pytest.mark.parametrize("tolerance", [0.55, 0.9])
    def test_a_tolerance_that_not_even_zero_breaks(self, tolerance: float) -> None:
        assert self.kinds({"dice": Absolute(tolerance)}) == ["not judged", "nothing judged", "nothing judged"]
        better = scored("dice", 0.95)
        assert self.kinds({"dice": Absolute(tolerance)}, now=better) == ["improved"]

    @pytest.mark.parametrize(
        ("metric", "value", "collapsed"), [("pixel_auroc", 0.9, 0.5), ("image_auroc", 0.9, 0.5), ("aupro", 0.55, 0.15)]
    )
    def test_a_tolerance_that_the_score_of_a_constant_map_would_not_break(
        self, metric: str, value: float, collapsed: float
    ) -> None:
        cell = replace(CELL, scores={metric: Score("none", value, None, None)})
        found = check(Baseline("run", {metric: Absolute(0.4)}, (cell,)), measured(cell))
        assert [one.kind for one in found] == ["not judged", "nothing judged", "nothing judged"]
        told = f"not even {metric} {collapsed:g}, a total collapse, would be a regression (+0.000, tolerance 0.4)"
        assert found[0].text == told
        assert exit_code(found) == 5
        assert self.kinds({metric: Absolute(0.39)}, cell, cell) == ["ok"]

    def test_a_score_that_has_collapsed_already(self) -> None:
        chance = replace(CELL, scores={"image_auroc": Score("none", 0.49, None, None)})
        assert "nothing judged" in self.kinds({"image_auroc": Absolute(0.02)}, chance, chance)

    def test_a_collapse_is_what_a_constant_map_scores(self) -> None:
        truth = np.zeros((20, 20), bool)
        truth[3:8, 3:9] = True
        tally = PixelTally()
        body = np.zeros((20, 20), bool)
        body[2:15, 1:18] = True
        tally.add(np.full((20, 20), 0.7, np.float32), truth, foreground=body)
        pixels, inside, images = tally.ranking(), tally.foreground_ranking(), Ranking(np.full(8, 0.7), np.arange(8) < 3)
        assert inside is not None
        found = {"pixel_auroc": pixels.auroc, "image_auroc": images.auroc, "aupro": pytest.approx(pixels.aupro())}
        found |= {"pixel_auroc_foreground": inside.auroc, "aupro_foreground": pytest.approx(inside.aupro())}
        assert {one.name: one.collapsed for one in METRICS.values() if one.collapsed} == found
        assert pixels.average_precision == truth.mean()

    def test_a_paired_dice_that_is_zero_already(self) -> None:
        zero = paired(*(-DICE[patient][f"{patient}-0"] for patient in DICE))
        assert "nothing judged" in self.kinds({"dice": "paired"}, zero, zero)

    def test_a_name_that_is_no_metric(self) -> None:
        assert "nothing judged" in self.kinds({"dice": Absolute(0.02), "dise": Absolute(0.02)})

    def test_the_runtime_on_another_device_is_enough_only_beside_scores(self) -> None:
        elsewhere = timed(100.0, device="cuda")
        assert self.kinds({"dice": Absolute(0.02), "runtime": Factor(2)}, now=elsewhere) == ["ok", "not judged"]
        assert "nothing judged" in self.kinds({"runtime": Factor(2)}, now=elsewhere)
        assert self.kinds({"runtime": Factor(2)}) == ["ok"]

    def test_what_is_missing_or_crashed_is_told_as_that_alone(self) -> None:
        found = check(baseline(), measured(failures={CELL.key: "cheese"}))
        assert [one.kind for one in found] == ["crashed"]

    @pytest.mark.parametrize("number", ["NaN", "Infinity"])
    def test_a_baseline_without_numbers_is_none(self, tmp_path: Path, number: str) -> None:
        write_baseline(tmp_path / "b.json", baseline())
        text = (tmp_path / "b.json").read_text()
        for value in ("0.55", "0.52", "0.5"):  # the score, a case, an interval's end
            (tmp_path / "b.json").write_text(text.replace(f" {value}", f" {number}"))
            with pytest.raises(BaselineError, match="is not a baseline"):
                read_baseline(tmp_path / "b.json")

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            (
                '"value": 0.55',
                '"value": -0.3',
                r"cells.0.scores.dice.value of liver · padim: .* equal to 0, not -0.3\.",
            ),
            ('"value": 0.9', '"value": 1.2', r"cells.0.scores.pixel_auroc.value of liver · padim: .* to 1, not 1.2\."),
            ('"ci_low": 0.5,', '"ci_low": -5,', r"cells.0.scores.dice.ci_low of liver · padim: .* to 0, not -5\."),
            ('"deviation": null', '"deviation": -1', r"cells.0.scores.dice.deviation of liver · padim"),
            ('"p0-1": 0.5', '"p0-1": 50', r"cells.0.dice.p0.p0-1 of liver · padim: .* to 1, not 50\."),
        ],
    )
    def test_a_baseline_with_a_score_outside_its_range_is_none(
        self, tmp_path: Path, old: str, new: str, says: str
    ) -> None:
        file = tmp_path / "b.json"
        write_baseline(file, baseline())
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        with pytest.raises(BaselineError, match=says) as error:
            read_baseline(file)
        assert str(error.value).startswith(f"{file} is not a baseline")
        assert str(error.value).endswith(f"or delete it and make another with bench baseline RUN --out {file}.")

    @pytest.mark.parametrize("empty", [{"cells": ()}, {"tolerance": {}}])
    def test_an_empty_baseline_is_none(self, empty: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="it judges nothing"):
            replace(baseline(), **empty)

    def test_is_no_pass_anywhere(self) -> None:
        found = check(Baseline("run", {"aupro": Absolute(0.02)}, (CELL,)), measured(CELL))
        assert gate_markdown(found, "accept").startswith("### Benchmark gate: failed")
        assert "Nothing is worse" not in " ".join(gate_in_words(found, "accept"))
        assert 'errors="2" skipped="1"' in junit_xml(found)


class TestPairedOfFewPatients:
    """DICE by patient, with `dice=paired`."""

    def found(self, before: list[float], now: list[float], **other: Any) -> list[Finding]:
        cells = []
        for values in (before, now):
            dice = {f"p{patient}": {"a": value} for patient, value in enumerate(values)}
            score = Score("valid_dice", float(np.mean(values)), None, None)
            cells.append(replace(CELL, dice=dice, scores=CELL.scores | {"dice": score}))
        tolerance: dict[str, Tolerance] = {"dice": "paired"}
        return check(Baseline("run", tolerance | other, (cells[0],)), measured(cells[1]))

    @pytest.mark.parametrize(
        ("before", "now", "interval"),
        [
            ([1.0, 1.0], [0.1, 0.24], "paired 95 % interval -0.999 to +0.932"),
            ([1.0, 1.0, 1.0], [0.2, 0.2, 1.0], ""),
            ([1.0, 1.0, 1.0, 1.0], [0.2, 0.2, 0.2, 1.0], ""),
            ([1.0, 1.0, 1.0, 1.0, 1.0], [0.2, 0.2, 0.2, 1.0, 1.0], ""),
            ([1.0], [0.17], "a paired interval takes two patients or more"),
        ],
    )
    def test_a_large_loss_that_they_cannot_be_sure_of_does_not_pass(
        self, before: list[float], now: list[float], interval: str
    ) -> None:
        for other in ({}, {"pixel_auroc": Absolute(0.02)}):
            found = self.found(before, now, **other)
            assert found[0].kind == "unsure"
            assert interval in found[0].text
            assert found[0].text.endswith("a quarter of the dice or more is lost, if these patients can be believed")
            assert exit_code(found) == 5
            assert gate_markdown(found, "accept").startswith("### Benchmark gate: failed")

    def test_a_small_loss_that_they_cannot_be_sure_of_passes(self) -> None:
        assert [one.kind for one in self.found([0.9, 0.8, 0.7, 0.9], [0.8, 0.85, 0.6, 0.9])] == ["ok"]

    def test_a_loss_that_they_agree_on_is_a_regression(self) -> None:
        assert exit_code(self.found([1.0, 1.0, 1.0], [0.2, 0.25, 0.2])) == 1

    def test_an_interval_in_which_all_could_be_lost_judges_nothing(self) -> None:
        found = self.found([0.5, 0.5], [0.45, 0.55])
        assert found[0].kind == "not judged"
        assert "too wide, a loss of all dice would be no regression in it" in found[0].text
        assert exit_code(found) == 5

    def test_a_dice_of_nothing_is_not_a_large_loss(self) -> None:
        assert self.found([0.0, 0.0], [0.0, 0.0])[0].kind == "not judged"


class TestChangedTables:
    DOUBT = "scores.parquet of run is not what the run wrote: its checksum is another."

    def test_are_no_pass_anywhere(self) -> None:
        found = check(baseline(), measured(CELL, doubts=(self.DOUBT,)))
        (changed,) = [one for one in found if one.failed]
        assert (changed.kind, changed.what) == ("tables changed", "tables")
        assert changed.text.startswith(self.DOUBT)
        assert exit_code(found) == 2
        assert gate_markdown(found, "accept").startswith("### Benchmark gate: failed")
        assert 'errors="1"' in junit_xml(found)


class TestSeeds:
    def over(self, seeds: tuple[int, ...], value: float, deviation: float | None) -> BaselineCell:
        score = Score("valid_dice", value, None, None, deviation)
        return replace(CELL, seeds=seeds, scores=CELL.scores | {"dice": score})

    def finding(self, before: BaselineCell, now: BaselineCell) -> Finding:
        return check(Baseline("run", {"dice": Absolute(0.02)}, (before,)), measured(now))[0]

    def test_the_same_seeds_are_allowed_nothing_more(self) -> None:
        found = self.finding(self.over((0, 1), 0.5, 0.1), self.over((1, 0), 0.47, 0.1))
        assert (found.kind, found.text) == ("regression", "-0.030, tolerance 0.02")

    def test_a_loss_just_above_its_tolerance_is_not_rounded_to_it(self) -> None:
        found = self.finding(self.over((0,), 0.5, None), self.over((0,), 0.4797, None))
        assert (found.kind, found.text) == ("regression", "-0.020300, tolerance 0.02")

    def test_other_seeds_are_allowed_twice_the_standard_error(self) -> None:
        # 2 * 0.03 * sqrt(1 / 4 + 1 / 4)
        before = self.over((0, 1, 2, 3), 0.5, 0.03)
        found = self.finding(before, self.over((4, 5, 6, 7), 0.45, 0.03))
        assert found.kind == "ok"
        assert "seeds are 4, 5, 6, 7 (deviation 0.030), were 0, 1, 2, 3 (deviation 0.030): 0.042 more" in found.text
        assert self.finding(before, self.over((4, 5, 6, 7), 0.43, 0.03)).kind == "regression"

    def test_one_seed_is_held_against_the_deviation_of_several(self) -> None:
        # 2 * 0.02 * sqrt(1 / 4 + 1)
        found = self.finding(self.over((0, 1, 2, 3), 0.5, 0.02), self.over((9,), 0.44, None))
        assert found.kind == "ok"
        assert "seeds are 9, were 0, 1, 2, 3 (deviation 0.020): 0.045 more" in found.text

    def test_seeds_that_differ_too_much_leave_nothing_to_judge(self) -> None:
        found = self.finding(self.over((0, 1), 0.3, 0.4), self.over((2, 3), 0.1, 0.4))
        assert found.kind == "not judged"

    def test_seeds_that_differ_widen_nothing_that_they_are_judged_by(self) -> None:
        # One of three seeds has collapsed: 0.8, 0.8, 0.
        found = self.finding(self.over((0, 1, 2), 0.8, 0.01), self.over((3, 4, 5), 0.533, 0.462))
        assert found.kind == "regression"
        assert "(deviation 0.462), were 0, 1, 2 (deviation 0.010): 0.016 more" in found.text

    def test_the_deviation_of_a_run_serves_where_the_baseline_has_one_seed(self) -> None:
        # 2 * 0.03 * sqrt(1 + 1 / 3)
        found = self.finding(self.over((0,), 0.5, None), self.over((1, 2, 3), 0.46, 0.03))
        assert (found.kind, "0.069 more" in found.text) == ("ok", True)

    def test_one_seed_each_names_both(self) -> None:
        found = self.finding(CELL, replace(scored("dice", -0.3), seeds=(1,)))
        assert found.kind == "regression"
        assert "seeds are 1, were 0: how far seeds differ is not known" in found.text


class TestRuntime:
    @pytest.mark.parametrize(
        ("predict_ms", "calibration_ms", "kind"),
        [
            (199.0, 10.0, "ok"),
            (201.0, 10.0, "slower"),
            (900.0, 100.0, "ok"),
            (100.0, 4.0, "slower"),
            (40.0, 10.0, "improved"),
        ],
    )
    def test_is_measured_in_what_the_machine_can_do(self, predict_ms: float, calibration_ms: float, kind: str) -> None:
        assert findings(timed(predict_ms, calibration_ms))["runtime"].kind == kind

    def test_what_is_too_quick_is_not_judged(self) -> None:
        before = Baseline("run", {"runtime": Factor(2)}, (timed(0.1),))
        only("ok", check(before, measured(timed(9.0))))
        only("slower", check(before, measured(timed(11.0))))

    @pytest.mark.parametrize(
        "other", [timed(1000.0, device="cuda"), timed(1000.0, threads=2), replace(CELL, runtime=None)]
    )
    def test_without_a_common_measure_it_is_not_judged(self, other: BaselineCell) -> None:
        assert findings(other)["runtime"].kind == "not judged"

    def test_the_calibration_is_quick_and_does_not_draw(self) -> None:
        import torch

        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        assert 0 < calibrate("cpu") < 1000
        assert torch.rand(1) == expected


class TestCells:
    def test_a_crash_is_a_crash_though_a_seed_was_finished(self) -> None:
        found = check(baseline(), measured(CELL, failures={CELL.key: "seed 1: RuntimeError: cheese"}))
        assert only("crashed", found).text == "seed 1: RuntimeError: cheese"

    def test_what_crashes_and_was_not_there_before_is_a_crash_too(self) -> None:
        found = check(baseline(), measured(CELL, failures={("liver", "new"): "seed 0: cheese"}))
        assert [one.kind for one in found] == ["ok", "ok", "ok", "crashed"]

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"datasets": frozenset({"brain"}), "planned": frozenset()}, "the dataset liver is not in the run"),
            ({"planned": frozenset()}, "padim was not run on liver"),
            ({}, "the run ended before it was measured"),
        ],
    )
    def test_what_is_missing_is_told_by_its_cause(self, changes: dict[str, Any], says: str) -> None:
        assert says in only("missing", check(baseline(), measured(**changes))).text

    def test_other_images_are_not_a_drop(self) -> None:
        found = check(baseline(), measured(replace(scored("dice", -0.5), fingerprint="e" * 64)))
        assert "(fingerprint eeeeeeeeeeee, was ffffffffffff)" in only("dataset changed", found).text

    def test_another_configuration_is_told_beside_what_it_did(self) -> None:
        found = findings(replace(scored("dice", -0.5), configuration={"size": 64, "option gamma": 0, "weights x": "1"}))
        assert found["cell"].kind == "configuration changed"
        assert found["cell"].text == "option gamma is 0, was 5; weights x is 1, was absent"
        assert found["dice"].kind == "regression"

    def test_fewer_images_are_another_configuration(self) -> None:
        """Predictions from elsewhere may lack some: to leave out hard images must not look like progress."""
        fewer = {
            patient: dict(list(cases.items())[:1]) if patient == "p0" else cases for patient, cases in DICE.items()
        }
        found = findings(replace(scored("dice", +0.1), dice=fewer))
        assert found["cell"].kind in FAILURES
        assert "1 of the baseline's 12 images with a lesion have no prediction, such as p0-1" in found["cell"].text

    def test_another_seed_is_no_change(self) -> None:
        found = findings(replace(CELL, seeds=(7, 8)))
        assert {one.kind for one in found.values()} == {"ok"}
        assert "; seeds are 7, 8, were 0: how far seeds differ is not known" in found["dice"].text

    def test_what_is_new_is_told_and_passes(self) -> None:
        found = check(baseline(), measured(CELL, replace(CELL, method="stfpm")))
        assert [one.kind for one in found] == ["ok", "ok", "ok", "new"]
        assert exit_code(found) == 0


def finding(kind: FindingKind, text: str = "text") -> Finding:
    return Finding(kind, "li|ver", "pa_dim", "dice", 0.5, 0.25, text)


class TestReports:
    def test_exit_codes_go_by_the_most_serious(self) -> None:
        codes = [exit_code([finding(kind)]) for kind in FAILURES]
        assert codes == [5, 5, 1, 1, 2, 2, 2, 2, 3]
        assert exit_code([finding(kind) for kind in FAILURES]) == 3
        assert exit_code([finding("regression"), finding("missing")]) == 2
        assert exit_code([finding("regression"), finding("nothing judged")]) == 1
        assert exit_code([finding("ok"), finding("improved"), finding("not judged")]) == 0

    def test_every_kind_of_failure_has_words_of_its_own(self) -> None:
        said = [next(gate_in_words([finding(kind)], "accept")) for kind in FAILURES]
        assert len(set(said)) == len(FAILURES)

    def test_an_improvement_comes_with_the_command_that_accepts_it(self) -> None:
        assert "bench baseline x" in list(gate_in_words([finding("improved")], "bench baseline x"))[-1]

    def test_markdown_shows_text_as_it_is(self) -> None:
        text = gate_markdown([finding("regression", "a|b\n<i>*c*"), finding("ok")], "bench baseline x")
        assert text.startswith("### Benchmark gate: failed")
        assert r"| pa\_dim | dice | 0.500 | 0.250 | **regression** | a\|b \<i\>\*c\* |" in text
        assert "<details><summary>1 as before</summary>" in text

    def test_junit_has_failures_errors_and_what_was_skipped(self) -> None:
        found = [finding("regression", "bell \a"), finding("crashed"), finding("not judged"), finding("ok")]
        suite = ElementTree.fromstring(junit_xml(found).encode()).find("testsuite")
        assert suite is not None
        assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
            "tests": "4",
            "failures": "1",
            "errors": "1",
            "skipped": "1",
        }
        assert [[child.tag for child in case] for case in suite] == [["failure"], ["error"], ["skipped"], []]


class TestFiles:
    def test_come_back_as_they_were(self, tmp_path: Path) -> None:
        kept = baseline(dice="paired", runtime=Factor(3))
        scored = replace(CELL, configuration=CELL.configuration | {"padding": "exclude"})
        kept = replace(kept, cells=(scored,))
        write_baseline(tmp_path / "deep" / "b.json", kept)
        assert read_baseline(tmp_path / "deep" / "b.json") == kept

    def test_one_of_version_0_1_0_counted_the_padding(self, tmp_path: Path) -> None:
        write_baseline(tmp_path / "b.json", baseline(dice="paired"))
        assert "padding" not in (tmp_path / "b.json").read_text()
        assert {cell.configuration["padding"] for cell in read_baseline(tmp_path / "b.json").cells} == {"count"}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("", "is not a baseline"),
            ('{"run": "x", "tolerance": {}}', "cells"),
            ('{"run": "x", "tolerance": {"dice": {"absolut": 1}}, "cells": []}', "tolerance.dice"),
            ('{"run": "x", "tolerance": {"aupro": "paired"}, "cells": []}', "only dice can be paired"),
            ('{"run": "x", "tolerance": {"runtime": {"absolute": 1}}, "cells": []}', "a factor is for runtime"),
            ('{"run": "x", "tolerance": {"dice": {"factor": 2}}, "cells": []}', "a factor is for runtime"),
        ],
    )
    def test_that_are_none_are_named(self, tmp_path: Path, content: str, says: str) -> None:
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(BaselineError, match=r"b\.json is not a baseline") as error:
            read_baseline(tmp_path / "b.json")
        assert says in str(error.value)

    def test_that_are_missing_say_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(BaselineError, match="bench baseline RUN"):
            read_baseline(tmp_path / "b.json")

    def test_the_shipped_one_is_found_by_its_name(self) -> None:
        shipped = read_baseline(find_baseline(Path("phantoms")))
        assert {cell.method for cell in shipped.cells} >= {"intensity", "mias_sam"}
        assert all(set(cell.scores) == {"dice", "pixel_auroc", "aupro"} for cell in shipped.cells)


class TestTolerances:
    def test_are_read(self) -> None:
        texts = ["dice=paired", "aupro=0.01", "runtime=1.5", "iou=0"]
        assert parse_tolerances(texts) == {
            "dice": "paired",
            "aupro": Absolute(0.01),
            "runtime": Factor(1.5),
            "iou": Absolute(0),
        }

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("dise=0.1", "Did you mean 'dice'?"),
            ("best_f1=0.1", "there is no 'best_f1'"),
            ("dice", "or dice=paired"),
            ("dice=-1", "at least 0"),
            ("aupro=paired", "at least 0, like aupro=0.02."),
            ("runtime=1", "a factor above 1"),
            ("dice=nan", "at least 0"),
            ("dice=1", "nothing could break it. Give less, like dice=0.02."),
            ("pixel_auroc=0.5", "is at most 1, and 0.5 once a method has collapsed, so that nothing could break it."),
            ("aupro=0.85", "is at most 1, and 0.15 once a method has collapsed"),
        ],
    )
    def test_that_are_wrong_are_refused(self, text: str, says: str) -> None:
        with pytest.raises(UsageError) as error:
            parse_tolerances([text])
        assert f"--tolerance {text}: " in str(error.value)
        assert says in str(error.value)


@pytest.mark.usefixtures("plugins")
class TestRuns:
    """With methods that are run."""

    def run(self, results: Path, methods: list[str], **options: Any) -> RunStore:
        values = {"methods": methods, "dataset": [TINY], "size": 64, "results": results, "device": "cpu"}
        plan = make_plan(RunConfig.model_validate(values | options))
        execute(plan)
        return plan.store

    def test_a_baseline_has_what_the_run_measured(self, tmp_path: Path) -> None:
        store = self.run(tmp_path, ["scripted", "intensity"], seeds=[0, 1])
        scripted, intensity = make_baseline(store, DEFAULT_TOLERANCES).cells
        assert (scripted.seeds, intensity.configuration["option sigma"]) == ((0, 1), 2.0)
        assert (scripted.scores["dice"].policy, intensity.scores["dice"].policy) == ("own", "valid_dice")
        scores = store.scores().query("method == 'scripted' and policy == 'own' and metric == 'dice'")
        assert scripted.scores["dice"].value == pytest.approx(scores["value"].mean(), abs=1e-6)
        cases = [dice for of_patient in scripted.dice.values() for dice in of_patient.values()]
        assert sum(cases) / len(cases) == pytest.approx(scripted.scores["dice"].value, abs=1e-6)
        assert scripted.runtime is not None
        assert scripted.runtime.calibration_ms > 0

    def test_every_gated_metric_can_be_had_and_none_is_an_oracles(self, tmp_path: Path) -> None:
        store = self.run(tmp_path, ["intensity"])
        (cell,) = measure(store, gated()).cells
        of_volumes = {one.name for one in METRICS.values() if one.level == "volume"}  # which this dataset has none of
        assert set(gated()) - set(cell.scores) <= {"dice_small", "dice_medium", "dice_large"} | of_volumes
        assert {score.policy for score in cell.scores.values()} == {"valid_dice", "none"}

    def test_a_damaged_method_is_caught_and_another_seed_is_not(
        self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = make_baseline(self.run(tmp_path / "a", ["intensity"]), DEFAULT_TOLERANCES)
        metrics = ["dice", "pixel_auroc", "aupro"]
        again = check(kept, measure(self.run(tmp_path / "b", ["intensity"], seeds=[5]), metrics))
        assert {one.kind for one in again} == {"ok"}

        from miasbench.methods.intensity import Intensity

        predict = Intensity.predict

        def damaged(self: Intensity, image: Any) -> Any:
            prediction = predict(self, image)
            return replace(prediction, anomaly_map=-prediction.anomaly_map)

        monkeypatch.setattr(Intensity, "predict", damaged)
        found = {one.what: one.kind for one in check(kept, measure(self.run(tmp_path / "c", ["intensity"]), metrics))}
        assert found["pixel_auroc"] == found["aupro"] == "regression"
        assert "cell" not in found, "it is configured as before"

    def test_options_and_limits_are_told_apart_from_drops(self, tmp_path: Path) -> None:
        kept = make_baseline(self.run(tmp_path / "a", ["intensity"]), DEFAULT_TOLERANCES)
        other = self.run(tmp_path / "b", ["intensity"], set={"intensity": {"sigma": 9}})
        found = check(kept, measure(other, ["dice"]))
        assert found[0].text == "option sigma is 9.0, was 2.0"
        fewer = self.run(tmp_path / "c", ["intensity"], limit=4)
        only("dataset changed", check(kept, measure(fewer, ["dice"])))

    def test_a_run_that_was_stopped_is_not_a_drop(self, tmp_path: Path, plugins: Any) -> None:
        kept = make_baseline(self.run(tmp_path / "a", ["scripted"], seeds=[0, 1]), DEFAULT_TOLERANCES)
        calls = iter(range(15))  # 11 predictions a seed

        def stop(count: int) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt

        plugins.hook = stop
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path / "b", ["scripted"], seeds=[0, 1])
        (folder,) = (tmp_path / "b").iterdir()
        found = only("missing", check(kept, measure(RunStore(folder), ["dice"])))
        assert "the run ended before it was measured" in found.text
        with pytest.raises(UsageError, match="is not finished"):
            make_baseline(RunStore(folder), DEFAULT_TOLERANCES)

    def test_a_last_seed_that_failed_is_a_crash(self, tmp_path: Path, plugins: Any) -> None:
        kept = make_baseline(self.run(tmp_path / "a", ["scripted"], seeds=[0, 1]), DEFAULT_TOLERANCES)
        calls = iter(range(15))  # 11 predictions a seed

        def crash(count: int) -> None:
            if next(calls, None) is None:
                raise RuntimeError("out of cheese")

        plugins.hook = crash
        now = measure(self.run(tmp_path / "b", ["scripted"], seeds=[0, 1]), kept.tolerance)
        found = only("crashed", check(kept, now))
        assert found.text == "seed 1: RuntimeError: out of cheese"
        assert not now.empty, "seed 0 was finished"

    def test_a_baseline_keeps_the_deviation_over_seeds(self, tmp_path: Path) -> None:
        store = self.run(tmp_path, ["scripted"], seeds=[0, 1, 2])
        (cell,) = make_baseline(store, DEFAULT_TOLERANCES).cells
        values = store.scores().query("policy == 'own' and metric == 'dice'")["value"]
        assert cell.scores["dice"].deviation == pytest.approx(np.std(values, ddof=1), abs=1e-6)

    def test_a_baseline_leaves_defaults_out_that_judge_nothing_and_refuses_others(self, tmp_path: Path) -> None:
        store = self.run(tmp_path, ["intensity"])
        scores = store.scores()
        store.write_tables({"scores": scores[scores["metric"] != "aupro"]})
        tolerance = DEFAULT_TOLERANCES | {"pixel_ap": Absolute(0.02)}
        with pytest.raises(UsageError, match=r"This gate could not fail\. aupro: there is no aupro\."):
            make_baseline(store, tolerance)
        assert set(make_baseline(store, tolerance, ["aupro"]).tolerance) == set(tolerance) - {"aupro"}
        with pytest.raises(UsageError, match=r"The run has .*pixel_auroc"):
            make_baseline(store, {"aupro": Absolute(0.02), "runtime": Factor(2)}, ["aupro"])
        with pytest.raises(UsageError, match="not even dice 0, a total collapse, would be a regression"):
            make_baseline(store, {"dice": Absolute(0.99)})

    def test_a_failed_run_makes_no_baseline(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"failing of the run .* is not finished"):
            make_baseline(self.run(tmp_path, ["failing", "intensity"]), DEFAULT_TOLERANCES)
