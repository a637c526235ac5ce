"""Who adds a metric writes its function and its entry, and finds it everywhere."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from miasbench.harness.analysis.doubts import scores_against_cases
from miasbench.harness.analysis.run_difference import compare_runs
from miasbench.harness.cli import main
from miasbench.harness.scoring.curves import Counts
from miasbench.harness.scoring.functions import OF_FOREGROUND, OF_MASK, OF_PIXELS, OF_VOLUME
from miasbench.harness.scoring.lesion_metrics import OF_LESIONS
from miasbench.harness.scoring.masks import MaskScores
from miasbench.harness.scoring.normal_rates import RATES
from miasbench.results.metrics import METRICS, Metric, metrics_of
from miasbench.results.store import RunStore
from miasbench.results.tables import CASES

MASK, PIXELS = "volume_similarity", "specificity_95"
DATASET = "phantom_brain_mri:train=3,valid=6,test=12,size=64"


def volume_similarity(scores: MaskScores) -> float:
    predicted, truth = np.count_nonzero(scores.predicted), np.count_nonzero(scores.truth.mask)
    return 1 - abs(predicted - truth) / (predicted + truth) if truth else float("nan")


def specificity_95(counts: Counts) -> np.ndarray:
    """Share of normal pixels below the highest threshold that 95 % of lesion pixels reach."""
    reached = counts.true >= 0.95 * counts.positives[..., None]
    return 1 - np.where(reached, counts.false, np.inf).min(axis=-1) / counts.negatives


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    of_mask = Metric(
        name=MASK,
        title="volume similarity",
        kind="mask",
        convention="one less the relative difference of areas",
        images="anomalous",
        per_case=True,
        paired=True,
        gated=True,
        shown=True,
    )
    of_pixels = Metric(
        name=PIXELS,
        title="specificity at 95 %",
        kind="map",
        convention="where 95 % of lesion pixels are found",
        edges="normal",
        gated=True,
        shown=True,
        headline=True,
    )
    monkeypatch.setitem(METRICS, MASK, of_mask)
    monkeypatch.setitem(METRICS, PIXELS, of_pixels)
    monkeypatch.setitem(OF_MASK, MASK, volume_similarity)
    monkeypatch.setitem(OF_PIXELS, PIXELS, specificity_95)
    monkeypatch.setitem(CASES, MASK, "float64")  # made of the list when the module is imported


@pytest.mark.usefixtures("undrawn")
def test_it_is_found_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def bench(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        said = capsys.readouterr()
        assert end.value.code == 0, said.err
        return said.out

    assert all(name in bench("list", "metrics") for name in (MASK, PIXELS))
    shared = ("--dataset", DATASET, "--size", "64", "--executor", "inline", "--device", "cpu")
    printed = bench("run", "--methods", "intensity", "--name", "a", *shared)
    bench("run", "--methods", "intensity", "--name", "b", "--set", "intensity.sigma=3", *shared)
    a, b = (RunStore(tmp_path / "bench-results" / name) for name in "ab")

    scores, cases = a.scores().set_index(["policy", "metric"]), a.cases()
    own = cases[(cases["policy"] == "valid_dice") & (cases["label"] == 1)]
    row = scores.xs(("valid_dice", MASK)).to_dict()
    assert row["value"] == pytest.approx(own[MASK].mean())
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert row["convention"].startswith("one less the relative difference of areas; masks by nearest pixel centre")
    pixels = scores.xs(("none", PIXELS)).to_dict()
    assert pixels["ci_low"] < pixels["value"] < pixels["ci_high"]
    curve = a.curves()
    curve = curve[(curve["split"] == "test") & (curve["true_positive_rate"] >= 0.95)]
    assert pixels["value"] >= 1 - curve["false_positive_rate"].min() - 1e-9

    assert "specificity at" in printed
    assert f"{pixels['value']:.3f}" in printed

    bench("report", "a", "--out", "paper")
    tables = tmp_path / "paper" / "tables"
    for kind, title, value in (("masks", "volume similarity", row), ("maps", "specificity at 95 %", pixels)):
        (csv,) = tables.glob(f"{kind}-*.csv")
        found = pd.read_csv(csv).set_index(["row", "column"])
        assert found["value"][("intensity", title)] == pytest.approx(value["value"])
        assert title.replace("%", r"\%") in csv.with_suffix(".tex").read_text()
        assert title in (tables / "tables.md").read_text()
    page = re.search(r'id="data">(.*?)</script>', (tmp_path / "paper" / "report.html").read_text(), re.DOTALL)
    assert page
    data = json.loads(page[1])
    assert {"volume similarity", "specificity at 95 %"} <= {column["title"] for column in data["columns"]}
    (shown,) = (one for one in data["scores"] if one["policy"] == "valid_dice")
    assert shown["values"][MASK]["value"] == row["value"]
    assert shown["values"][PIXELS]["value"] == pixels["value"]

    difference = compare_runs(a, b).scores.set_index(["policy", "metric"]).xs(("valid_dice", MASK)).to_dict()
    assert difference["ci_low"] < difference["difference"] < difference["ci_high"]
    assert PIXELS in bench("compare", "a", "b")
    assert MASK in bench("compare", "a", "b", "--all")

    bench("baseline", "a", "--tolerance", f"{MASK}=0.02", "--tolerance", f"{PIXELS}=0.02")
    checked = bench("check", "a", "--baseline", "baseline.json")
    assert all(re.search(rf"intensity +│ {name} .* ok ", checked) for name in (MASK, PIXELS))
    assert not list(scores_against_cases(a.scores(), cases))


def test_runs_without_it_compare_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As runs that an older version wrote."""
    monkeypatch.chdir(tmp_path)
    shared = ("--dataset", DATASET, "--size", "64", "--executor", "inline", "--device", "cpu")
    for name, sigma in (("a", "1"), ("b", "3")):
        with pytest.raises(SystemExit):
            main(["run", "--methods", "intensity", "--name", name, "--set", f"intensity.sigma={sigma}", *shared])
    runs = [RunStore(tmp_path / "bench-results" / name) for name in "ab"]
    older = runs[0].cases().drop(columns=MASK), runs[0].scores()
    runs[0].write_tables({"cases": older[0], "scores": older[1][~older[1]["metric"].isin([MASK, PIXELS])]})
    found = compare_runs(runs[0], runs[1])
    assert not set(found.scores["metric"]) & {MASK, PIXELS}
    assert found.scores.loc[found.scores["metric"] == "dice", "ci_low"].notna().any()


def test_every_metric_has_its_function() -> None:
    """All others need more than their own mask or curves, or are no scores."""
    costs = {one.name for one in metrics_of("cost")}
    alone = {"lesion_recall", "dice_pooled", "dice_valid", "regret", "image_auroc"} | costs
    alone |= {"volume_lesion_recall", "volume_ap", "dice_cv", "dice_cv_std", "threshold_cv_std", *RATES}
    alone |= {*OF_LESIONS, "aupimo", "sensitivity_at_fpr"}
    alone |= {"image_brier", "image_ece"}
    assert set(OF_MASK) | set(OF_PIXELS) | set(OF_FOREGROUND) | set(OF_VOLUME) == set(METRICS) - alone
    assert {(METRICS[name].kind, METRICS[name].level) for name in OF_MASK} == {("mask", "image")}
    assert {(METRICS[name].kind, METRICS[name].level) for name in OF_VOLUME} == {("mask", "volume")}
    of_curves = [*OF_PIXELS, *OF_FOREGROUND]
    assert {METRICS[name].kind for name in of_curves} == {"map"}
    assert {METRICS[name].range for name in of_curves} == {(0.0, 1.0)}, "intervals of curves are made for shares"
