"""Threshold policies with options, from the command line through every command that reads a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from miasbench.harness.cli import main
from miasbench.harness.front.runs import Run
from miasbench.results.store import RunStore, find_run

Bench = Callable[..., tuple[int, str, str]]

SPELT = "phantom_brain_mri[train=3,valid=2,test=4,size=64]"
NAME = "phantom_brain_mri:train=3,valid=2,test=4,size=64"
ASKED = ["normal_quantile[q=0.95]", "normal_quantile[q=0.99]", "valid_dice", "fixed[value=60]"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIASBENCH_RESULTS", str(tmp_path / "runs"))

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, output.out, output.err

    return run


def measure(bench: Bench, *more: object) -> RunStore:
    methods = "intensity,intensity[sigma=3]"
    given = ("-m", methods, "-d", SPELT, "--size", 64, "--executor", "inline", "--name", "it")
    assert bench("run", *given, *more)[0] == 0
    return find_run("it", Path("runs"))  # type: ignore[arg-type]


def policies_of(scores: pd.DataFrame) -> list[str]:
    return [name for name in scores["policy"].unique() if name != "none"]


def test_several_of_one_kind_stand_in_every_table(bench: Bench) -> None:
    store = measure(bench, "--thresholds", ",".join(ASKED), "--pixels", "binned")
    scores = store.scores()
    assert policies_of(scores) == ASKED
    assert scores["dataset"].unique().tolist() == [NAME], "a dataset has one name, however it is spelt"
    score = store.read().config.score.content()
    assert (score["pixels"], score["thresholds"]) == ("binned", ASKED)
    told = scores[scores["metric"] == "dice"].groupby("policy")["convention"].first()
    assert "0.95 quantile" in told[ASKED[0]]
    assert "0.99 quantile" in told[ASKED[1]]
    assert set(ASKED) < set(store.ranks()["policy"])

    shown = Run(store).table(width=200)
    assert "normal quantile [q=0.95]" in shown
    assert "normal quantile [q=0.99]" in shown
    assert bench("stats", "it", "--policy", ASKED[0])[0] == 0
    code, _, err = bench("thresholds", "it", "--out", "figures")
    assert code == 0, err
    assert pd.read_csv(Path("figures", "thresholds.csv"))["policy"].unique().tolist() == ASKED
    code, _, err = bench("report", "it", "--out", "paper", "--policy", ASKED[0])
    assert code == 0, err
    table = pd.read_csv(next(Path("paper", "tables").glob("policies-*.csv")))
    assert {"normal quantile [q=0.95]", "normal quantile [q=0.99]"} <= set(table["column"])
    assert json.dumps(ASKED[0]) in Path("paper", "report.html").read_text(encoding="utf-8")
    assert bench("verify", "it")[0] == 0


def test_scores_are_made_again_by_other_policies_and_by_all_of_them(bench: Bench) -> None:
    store = measure(bench)
    before = store.scores()
    assert bench("score", "it", "--thresholds", "otsu,normal_quantile[q=0.5]", "--pixels", "exact")[0] == 0
    assert policies_of(store.scores()) == ["otsu", "normal_quantile[q=0.5]"]
    assert bench("score", "it")[0] == 0
    assert policies_of(store.scores()) == ["otsu", "normal_quantile[q=0.5]"], "what is not given is as in the run"
    assert bench("score", "it", "--thresholds", "all", "--pixels", "auto")[0] == 0
    pd.testing.assert_frame_equal(store.scores(), before)


def test_a_row_without_options_is_compared_with_the_default_of_that_name(bench: Bench) -> None:
    measure(bench)
    again = ("-m", "intensity", "-d", SPELT, "--size", 64, "--executor", "inline", "--name", "other")
    assert bench("run", *again, "--thresholds", "all,normal_quantile[q=0.5]")[0] == 0
    assert bench("compare", "it", "other", "--all", "--csv", "table.csv")[0] == 0
    table = pd.read_csv("table.csv")
    assert {"normal_quantile", "normal_mean_std"} < set(table["policy"])
    assert "normal_quantile[q=0.5]" not in set(table["policy"]), "only one of them has it"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("normal_quantil", "There is no policy 'normal_quantil'. Did you mean 'normal_quantile'?"),
        ("normal_quantile[q=2]", "normal_quantile[q=2].q=2: Input should be less than or equal to 1."),
        ("otsu[", "Option score.thresholds on the command line: A bracket has no counterpart in 'otsu['"),
    ],
)
def test_a_wrong_policy_stops_a_run_before_it_begins(bench: Bench, asked: str, says: str) -> None:
    code, _, err = bench("run", "-m", "intensity", "-d", SPELT, "--thresholds", asked)
    assert code == 2
    assert says in err
    assert not Path("runs").exists()


def test_policies_are_listed_with_their_options(bench: Bench) -> None:
    code, out, _ = bench("list", "policies")
    assert code == 0
    assert ["normal_quantile", "q=0.99"] in [line.split()[:2] for line in out.splitlines()]
    assert ["fixed", "value"] in [line.split()[:2] for line in out.splitlines()]


def test_options_of_a_run_are_listed(bench: Bench) -> None:
    code, out, _ = bench("list", "options")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()][:3] == ["methods", "dataset", "weights"]
