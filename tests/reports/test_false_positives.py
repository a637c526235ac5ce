"""DICE over the realised false-positive rate, with the point of each policy."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from miasbench.reports.false_positives import rate_figure
from miasbench.results.tables import CURVES, SCORES, table

POLICIES = {"valid_dice": (0.3, 0.02), "otsu": (0.1, 0.2), "conformal": (0.0, 0.0), "oracle_dice": (0.4, 0.05)}


def blank(columns: dict[str, str]) -> dict[str, Any]:
    values = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}
    return {name: values[kind] for name, kind in columns.items()} | {"dataset": "liver"}


def measured(methods: tuple[str, ...] = ("a", "b", "c")) -> tuple[pd.DataFrame, pd.DataFrame]:
    curves, scores = [], []
    for method in methods:
        for rate in np.geomspace(1e-6, 1, 20):
            row = {"method": method, "split": "test", "normal_fpr": rate, "dice": 0.4 * rate**0.2}
            curves.append(blank(CURVES) | row)
        for policy, (dice, rate) in POLICIES.items():
            row = blank(SCORES) | {"method": method, "policy": policy, "oracle": policy == "oracle_dice"}
            scores += [row | {"metric": "dice", "value": dice}, row | {"metric": "normal_fpr", "value": rate}]
    return table(curves, CURVES), table(scores, SCORES)


def test_the_figure_is_as_wide_as_a_column(tmp_path: Path) -> None:
    png = rate_figure(*measured(), "liver", tmp_path)
    assert png is not None
    assert png == tmp_path / "false_positives-liver.png"
    assert png.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert Image.open(png).size[0] == pytest.approx(3.4 * 300, abs=2)


def test_every_policy_stands_at_its_rate_and_dice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[tuple[float, float]] = []

    def look(figure: Figure, folder: Path, name: str) -> list[Path]:
        (axis,) = figure.axes
        assert axis.get_xscale() == "log"
        assert "foreground" in axis.get_xlabel()
        for line in axis.get_lines():
            if len(line.get_xdata()) == 1:  # type: ignore[arg-type]
                points.append((line.get_xdata()[0], line.get_ydata()[0]))  # type: ignore[index]
        return [folder / f"{name}.{kind}" for kind in ("pdf", "png")]

    monkeypatch.setattr("miasbench.reports.false_positives.save", look)
    curves, scores = measured(("a",))
    behind = scores[scores["policy"] == "otsu"].assign(policy="otsu + fill_holes", value=0.25)
    rate_figure(curves, pd.concat([scores, behind]), "liver", tmp_path)
    at_the_edge = (1e-5, 0.0)
    assert set(points) == {(0.02, 0.3), (0.2, 0.1), (0.05, 0.4), at_the_edge}, "a rate of 0 has no place on a log axis"


def test_there_is_no_figure_where_no_rate_is_known(tmp_path: Path) -> None:
    curves, scores = measured()
    assert rate_figure(curves.assign(normal_fpr=float("nan")), scores, "liver", tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_panel_above_an_empty_place_shows_its_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []

    def look(figure: Figure, folder: Path, name: str) -> list[Path]:
        figure.draw_without_rendering()
        shown.extend(any(label.get_visible() for label in axis.get_xticklabels()) for axis in figure.axes)
        return [folder / f"{name}.{kind}" for kind in ("pdf", "png")]

    monkeypatch.setattr("miasbench.reports.false_positives.save", look)
    rate_figure(*measured(), "liver", tmp_path)
    assert shown == [False, True, True]
