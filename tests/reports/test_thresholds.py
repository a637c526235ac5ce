import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from miasbench.reports.thresholds import threshold_figure, threshold_report, threshold_table
from miasbench.results.extent import Extent
from miasbench.results.tables import CURVES, SCORES, table

DICE = {
    "a": {"own": 0.5, "valid_dice": 0.3, "otsu": 0.1, "oracle_dice": 0.4},
    "b": {"valid_dice": 0.2, "otsu": 0.3, "oracle_dice": 0.45},
    "c": {"valid_dice": 0.1, "otsu": 0.2, "oracle_dice": 0.2},
}
LOOKS_AT = {"own": "nothing", "valid_dice": "validation", "otsu": "image", "oracle_dice": "oracle"}


def blank(columns: dict[str, str]) -> dict[str, Any]:
    values = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}
    return {name: values[kind] for name, kind in columns.items()} | {"dataset": "liver_ct"}


def scores(seeds: int = 1) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        for method, of_method in DICE.items():
            for policy, dice in of_method.items():
                threshold = 2.5 if policy in ("valid_dice", "oracle_dice") else float("nan")
                oracle = policy == "oracle_dice"
                cell = {
                    "method": method,
                    "policy": policy,
                    "looks_at": LOOKS_AT[policy],
                    "oracle": oracle,
                    "seed": seed,
                }
                row = blank(SCORES) | cell | {"threshold": threshold}
                rows.append(row | {"metric": "dice", "value": dice + seed / 100})
                rows.append(row | {"metric": "dice_valid", "value": dice + 0.05})
                if not oracle:
                    regret = of_method["oracle_dice"] - dice
                    rows.append(row | {"metric": "regret", "value": regret, "ci_low": regret - 0.1, "ci_high": regret})
    rows.append(blank(SCORES) | {"method": "a", "policy": "valid_f1", "metric": "dice", "note": "left out: no lesion"})
    rows.append(blank(SCORES) | {"method": "d", "policy": "none", "metric": "none", "error": "broken"})
    return table(rows, SCORES)


def curves() -> pd.DataFrame:
    rows = []
    for method in DICE:
        for split in ("valid", "test"):
            for threshold in np.linspace(5, 0, 30):
                share = 1 - threshold / 5
                rates = {"true_positive_rate": share, "false_positive_rate": share**4}
                dice = {"dice": 0.4 * np.sin(np.pi * share), "split": split, "threshold": threshold, "method": method}
                rows.append(blank(CURVES) | dice | rates)
    return table(rows, CURVES)


def test_the_table_has_validation_test_regret_and_rank() -> None:
    found = threshold_table(scores()).set_index(["method", "policy"])
    assert len(found) == 10, "what was left out or failed has no row"
    row = found.xs(("a", "valid_dice")).to_dict()
    assert (row["dice_test"], row["threshold"], row["looks_at"]) == (0.3, 2.5, "validation")
    expected = {"dice_valid": 0.35, "regret": 0.1, "regret_low": 0.0, "regret_high": 0.1}
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert found.loc[("a", "own"), "regret"] == pytest.approx(-0.1), "an own mask may beat every threshold"
    assert found.xs("valid_dice", level="policy")["rank"].tolist() == [1, 2, 3]
    assert found.xs("otsu", level="policy")["rank"].tolist() == [3, 1, 2]


def test_the_spread_over_folds_stands_beside_what_was_chosen() -> None:
    own = blank(SCORES) | {"method": "a", "policy": "valid_dice", "looks_at": "validation", "threshold": 2.5}
    folds = {"dice_cv": 0.31, "dice_cv_std": 0.042, "threshold_cv_std": 0.15}
    rows = [own | {"metric": metric, "value": value} for metric, value in folds.items()]
    found = threshold_table(pd.concat([scores(), table(rows, SCORES)], ignore_index=True))
    row = found.set_index(["method", "policy"]).xs(("a", "valid_dice"))
    assert {name: row[name] for name in folds} == folds
    out = io.StringIO()
    Console(file=out, width=160).print(threshold_report(found, scores()[:0]))
    (line,) = (one for one in out.getvalue().splitlines() if "2.5 ± 0.15" in one)
    assert "0.310 ± 0.042" in line
    assert "cross-validated: DICE of each fold" in " ".join(out.getvalue().split())
    plain = io.StringIO()
    Console(file=plain, width=160).print(threshold_report(threshold_table(scores()), scores()[:0]))
    assert "cross-validated" not in plain.getvalue()


def test_the_oracle_is_never_ranked() -> None:
    found = threshold_table(scores())
    assert found.loc[found["oracle"], "rank"].isna().all()
    assert found.loc[~found["oracle"], "rank"].notna().all()


def test_seeds_are_averaged_and_have_one_interval() -> None:
    found = threshold_table(scores(seeds=3)).set_index(["method", "policy"])
    row = found.xs(("a", "valid_dice")).to_dict()
    assert row["dice_test"] == pytest.approx(0.31)
    assert [row["regret_low"], row["regret_high"]] == pytest.approx([0, 0.1]), "the same regret with every seed"
    assert not row["few_patients"]


def test_a_short_title_has_the_whole_name_and_how_much_was_measured_below() -> None:
    spec = "phantom:train=4,size=64"
    named = threshold_table(scores().assign(dataset=spec))
    out = io.StringIO()
    extent = Extent(spec, 5, 2, 3, 2, 64, 0, (0,), ("colour was made grey",))
    Console(file=out, width=160).print(threshold_report(named, scores()[:0], {spec: extent}))
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["phantom: where each policy landed", spec, f"{extent}."]
    assert f"{spec}: colour was made grey" in lines


def test_the_report_shows_how_the_ranking_changes() -> None:
    out = io.StringIO()
    noted = scores().query("note != ''")
    Console(file=out, width=160).print(threshold_report(threshold_table(scores()), noted))
    text = out.getvalue()
    assert "valid_f1 left out: no lesion." in text
    ranking = text[text.index("how the ranking changes") :]
    header = next(line for line in ranking.splitlines() if "method" in line)
    assert "oracle" not in header
    assert "own" not in header, "only one method has masks of its own"
    tau = next(line for line in ranking.splitlines() if "Kendall" in line)
    assert "1.00" in tau
    assert "-0.33" in tau
    assert "per image" in text
    assert "nan" not in text


def test_the_figure_has_a_panel_for_each_method(tmp_path: Path) -> None:
    path = threshold_figure(curves(), scores(seeds=2), "liver_ct", tmp_path / "figures")
    assert path == tmp_path / "figures" / "thresholds-liver_ct.png"
    pixels = np.asarray(Image.open(path).convert("L"))
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    thirds = np.array_split(pixels, 3, axis=1)
    assert all((third < 120).any() for third in thirds), "three panels, each with a curve"


def test_dice_has_one_scale_in_all_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, float]] = []

    def look(figure: Figure, folder: Path, name: str) -> list[Path]:
        limits.extend(axis.get_ylim() for axis in figure.axes)
        return [folder / f"{name}.{kind}" for kind in ("pdf", "png")]

    monkeypatch.setattr("miasbench.reports.thresholds.save", look)
    high = curves()
    high["dice"] *= high["method"].map({"a": 0.1, "b": 1.0, "c": 2.0})
    threshold_figure(high, scores(), "liver_ct", tmp_path)
    assert len(limits) == 3
    assert set(limits) == {(0.0, limits[0][1])}
    assert limits[0][1] > high["dice"].max(), "no curve is cut"


def test_the_legend_has_room_below_the_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def look(figure: Figure, folder: Path, name: str) -> list[Path]:
        figure.draw_without_rendering()
        places.append((figure.legends[0].get_window_extent(), figure.bbox, [one.bbox for one in figure.axes]))
        return [folder / f"{name}.{kind}" for kind in ("pdf", "png")]

    monkeypatch.setattr("miasbench.reports.thresholds.save", look)
    ours = scores()
    longer = {"otsu": "mebin[range=test_set,erosion=3]", "valid_dice": "normal_quantile[q=0.995]"}
    more = [
        ours.assign(policy=ours["policy"].replace(longer)),
        ours[ours["policy"] == "otsu"].assign(policy="triangle"),
    ]
    rows, lines = pd.concat([ours, *more], ignore_index=True), curves()
    for kept in ("a", "ab", "abc"):
        drawn, scored = (one[one["method"].isin(list(kept))] for one in (lines, rows))
        threshold_figure(drawn, scored, "liver_ct", tmp_path)
    for legend, whole, panels in places:
        assert whole.x0 <= legend.x0 < legend.x1 <= whole.x1
        assert legend.y0 >= whole.y0
        assert all(legend.y1 < panel.y0 and panel.height > whole.height / 3 for panel in panels)


def test_the_figure_shows_methods_whose_first_seeds_differ(tmp_path: Path) -> None:
    """A method in which nothing is random is run with the first seed alone, which need not be the smallest."""
    once, others = curves(), scores()
    once.loc[once["method"] == "b", "seed"] = others.loc[others["method"] == "b", "seed"] = 5
    sizes = [
        Image.open(threshold_figure(*tables, "liver_ct", tmp_path / str(at))).size
        for at, tables in enumerate([(curves(), scores()), (once, others)])
    ]
    assert sizes[0] == sizes[1], "as many panels"


def test_any_number_of_policies_can_be_drawn(tmp_path: Path) -> None:
    many = pd.concat(
        [scores(), *(scores().replace("otsu", f"normal_quantile[q=0.{place}]") for place in range(10, 40))]
    )
    assert threshold_figure(curves(), many, "liver_ct", tmp_path).exists()


def test_without_an_oracle_nothing_is_said_of_regret() -> None:
    found = scores()
    legal = found[~found["oracle"] & (found["metric"] != "regret")]
    console = Console(file=io.StringIO(), width=160)
    console.print(threshold_report(threshold_table(legal), legal[legal["note"] != ""]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "regret: DICE of oracle_dice" not in shown
    assert "where each policy landed" in shown
