"""Regret by dataset, and how many policies change a ranking."""

import io
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from miasbench.reports.regret import ranking_sentences, regret_figure, regret_report, regret_table
from miasbench.reports.thresholds import threshold_table
from miasbench.results.tables import SCORES, table

DICE = {
    "liver": {
        "a": {"valid_dice": 0.3, "otsu": 0.1, "triangle": 0.3, "oracle_dice": 0.4},
        "b": {"valid_dice": 0.2, "otsu": 0.3, "triangle": 0.05, "oracle_dice": 0.4},
        "c": {"valid_dice": 0.1, "otsu": 0.2, "triangle": 0.1, "oracle_dice": 0.2, "own": 0.25},
    },
    "brain": {"a": {"valid_dice": 0.3, "otsu": 0.1, "oracle_dice": 0.3}},
}


def thresholds() -> pd.DataFrame:
    rows = []
    values = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}
    blank = {name: values[kind] for name, kind in SCORES.items()}
    for dataset, methods in DICE.items():
        for method, of_method in methods.items():
            for policy, dice in of_method.items():
                row = blank | {"dataset": dataset, "method": method, "policy": policy, "oracle": "oracle" in policy}
                rows.append(row | {"metric": "dice", "value": dice})
                if "oracle" not in policy:
                    rows.append(row | {"metric": "regret", "value": of_method["oracle_dice"] - dice})
    return threshold_table(table(rows, SCORES))


def test_regret_is_averaged_over_methods_with_its_spread() -> None:
    found = regret_table(thresholds())
    rows = found.to_dict("index")
    assert rows["valid_dice", "liver"] == pytest.approx({"mean": 4 / 30, "std": 0.0577350, "count": 3, "methods": 3})
    assert rows["own", "liver"]["count"] == 1
    assert "oracle_dice" not in found.index.get_level_values("policy")
    assert ("triangle", "brain") not in found.index


def test_one_sentence_for_each_dataset_says_how_many_policies_change_the_ranking() -> None:
    """Otsu puts another method first; triangle the same one, with the others exchanged."""
    assert list(ranking_sentences(thresholds())) == [
        "liver: of 2 other policies, 1 has another best method than valid_dice, and 2 differ from it in two places or "
        "more."
    ]


def test_the_table_has_a_column_for_each_dataset() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(regret_report(thresholds()))
    shown = out.getvalue()
    assert "+0.133 ± 0.058" in shown
    assert "-0.050 (1)" in shown
    otsu = next(line for line in shown.splitlines() if "otsu" in line)
    assert "+0.200" in otsu
    assert "nan" not in shown


def test_the_figure_is_as_wide_as_a_column(tmp_path: Path) -> None:
    pdf, png = regret_figure(thresholds(), tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert Image.open(png).size[0] == pytest.approx(3.4 * 300, abs=2)
