from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miasbench.harness.analysis.run_difference import Change, RunDifference, compare_runs
from miasbench.harness.config import RunConfig
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import execute
from miasbench.harness.scoring.intervals import mean_interval
from miasbench.results.store import RunStore

from ...support.records import rewrite

SET = "phantom_brain_mri:train=4,valid=3,test=8,size=64"


def run(folder: Path, **values: Any) -> RunStore:
    plan = make_plan(RunConfig(**{"methods": ["ae"], "dataset": [SET], "size": 64, "results": folder} | values))
    execute(plan)
    return plan.store


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return run(tmp_path_factory.mktemp("base"), epochs=1)


def row(found: RunDifference, metric: str, policy: str = "none") -> dict[str, Any]:
    (one,) = found.scores[(found.scores["metric"] == metric) & (found.scores["policy"] == policy)].to_dict("records")
    return {str(key): value for key, value in one.items()}


def test_the_same_again_differs_in_nothing(base: RunStore, tmp_path: Path) -> None:
    found = compare_runs(base, run(tmp_path, epochs=1))
    costs = found.scores["metric"].str.contains("_ms|_seconds|_mib")
    assert (found.scores.loc[~costs, "difference"] == 0).all()
    assert found.scores["better"].isna().all()
    assert (found.changes, found.alone) == ([], [])


def test_differences_have_the_interval_of_pairs_and_options_are_told(base: RunStore, tmp_path: Path) -> None:
    other = run(tmp_path, epochs=3)
    found = compare_runs(base, other)
    dice = row(found, "dice", "valid_dice")
    frames = [store.cases() for store in (base, other)]
    a, b = (one[(one["policy"] == "valid_dice") & (one["label"] == 1)].set_index("case") for one in frames)
    difference = (b["dice"] - a["dice"]).dropna()
    assert dice["difference"] == pytest.approx(difference.mean())
    expected = mean_interval(difference.to_numpy(), a.loc[difference.index, "patient"].tolist(), (-1, 1))[:2]
    assert (dice["ci_low"], dice["ci_high"]) == pytest.approx(expected)
    assert np.isnan(row(found, "pixel_auroc")["ci_low"])
    assert not found.scores["policy"].str.startswith("oracle").any()
    assert found.changes == [Change(f"{SET} · ae", "option epochs", "1", "3")]


def test_other_images_are_told_and_not_paired(base: RunStore, tmp_path: Path) -> None:
    other = run(tmp_path, epochs=1)
    rewrite(other, lambda record: record["cells"][0].update(fingerprint="f" * 64))
    found = compare_runs(base, other)
    assert [(change.what, change.b) for change in found.changes] == [("data", "f" * 12)]
    assert found.scores["ci_low"].isna().all()


def test_what_one_run_has_alone_is_told(base: RunStore, tmp_path: Path) -> None:
    found = compare_runs(base, run(tmp_path, methods=["intensity", "ae"], epochs=1))
    assert set(found.scores["method"]) == {"ae"}
    assert Change(f"{SET} · intensity", "measured", "no", "yes") in found.changes


@pytest.mark.parametrize(("metric", "sign"), [("dice", 1), ("hd95_px", -1)])
def test_better_is_said_by_what_the_metric_means(base: RunStore, tmp_path: Path, metric: str, sign: int) -> None:
    other = run(tmp_path, epochs=1)
    cases, scores = other.cases(), other.scores()
    cases[metric] += 0.5
    scores.loc[scores["metric"] == metric, "value"] += 0.5
    other.write_tables({"cases": cases, "scores": scores})
    found = compare_runs(base, other)
    assert row(found, metric, "valid_dice")["better"] == (sign > 0)
    assert row(compare_runs(other, base), metric, "valid_dice")["better"] == (sign < 0)
