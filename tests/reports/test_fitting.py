"""Every table of the terminal, at widths that people have: no number is cut or broken, no column left out."""

import io
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from rich.console import Console, RenderableType

from miasbench.reports.fitting import Column, FittedTable
from miasbench.reports.gate import gate_table
from miasbench.reports.published import published_tables
from miasbench.reports.ranks import comparison_tables
from miasbench.reports.run_difference import change_table, difference_tables
from miasbench.reports.tables import run_tables
from miasbench.reports.thresholds import threshold_report, threshold_table
from miasbench.results.baseline import Finding
from miasbench.results.tables import COMPARISONS, RANKS, SCORES, table

WIDTHS = (60, 80, 100, 140)
METHODS = (
    "intensity",
    "sam_refine[base=patchcore[coreset=0.1,neighbours=1],normalisation=test_set,prompt=centroid_box]",
)
DATASETS = ("phantom_liver_ct:train=8,valid=4,test=8,size=128", "肝脏数据集_with_a_name_that_is_longer_than_a_column")
POLICIES = ("own", "normal_quantile", "normal_mean_std", "valid_dice", "valid_f1", "otsu", "fixed", "oracle_dice")
NUMBER = re.compile(r"[-+]?\d+\.\d+(?: ± \d+\.\d+|–\d+\.\d+‡?| to [-+]?\d+\.\d+‡?)?")
EMPTY = {"str": "", "int64": 0, "float64": float("nan"), "bool": False, "object": None}


def row(columns: dict[str, str], **values: Any) -> dict[str, Any]:
    return {name: EMPTY[kind] for name, kind in columns.items()} | values


def scores() -> pd.DataFrame:
    rows, number = [], 0.1
    for dataset in DATASETS:
        for method in METHODS:
            for seed in (0, 1):
                cell = {"dataset": dataset, "method": method, "seed": seed, "patients": 4}
                for metric in ("pixel_auroc", "pixel_ap", "aupro", "image_auroc", "fit_seconds", "predict_ms"):
                    number = number % 0.8 + 0.0137
                    value = number * (1000 if metric.endswith("s") else 1)
                    rows.append(row(SCORES, **cell, policy="none", metric=metric, value=value))
                for policy in POLICIES:
                    number = number % 0.8 + 0.0137
                    made = {"policy": policy, "looks_at": "validation", "oracle": policy == "oracle_dice"}
                    ends = {"ci_low": number - 0.05, "ci_high": number + 0.05, "threshold": 1.2345e-5}
                    for metric in ("dice", "dice_valid", "regret"):
                        rows.append(row(SCORES, **cell, **made, **ends, metric=metric, value=number))
    return table(rows, SCORES)


def compared() -> RenderableType:
    named = {"dataset": DATASETS[0], "policy": "otsu", "patients": 5, "cases": 48}
    ends = {"ci_low": 0.301, "ci_high": 0.502}
    ranks = [
        row(RANKS, **named, **ends, method=method, mean=0.41, rank=1.5, rank_low=1.0, rank_high=2.5, share_first=0.75)
        for method in METHODS
    ]
    pair = {"method_a": METHODS[0], "method_b": METHODS[1], "difference": 0.051, "p": 0.0123, "p_holm": 0.0345}
    more = {"effect": 0.52, "detectable": 0.071, "ci_low": -0.012, "ci_high": 0.113, "test": "a signed-rank test"}
    return comparison_tables(
        table(ranks, RANKS), table([row(COMPARISONS, **named, **pair, **more)], COMPARISONS), "otsu", pairs=True
    )


def differing() -> RenderableType:
    shared = {"dataset": DATASETS[0], "method": METHODS[1], "policy": "normal_mean_std"}
    numbers = {"a": 0.1234, "b": 0.2345, "difference": 0.1111, "ci_low": 0.0501, "ci_high": 0.1702, "better": 1.0}
    return difference_tables(pd.DataFrame([shared | {"metric": "dice"} | numbers]), ["one", "two"])


def gated() -> RenderableType:
    text = "below the baseline by 0.123, which is more than its tolerance of 0.01"
    return gate_table([Finding("regression", DATASETS[0], METHODS[1], "dice of valid_dice", 0.512, 0.389, text)], "it")


def quoted() -> RenderableType:
    same = {"dataset": "liver_ct", "published_dataset": "liver_ct", "method": METHODS[1], "metric": "pixel_auroc"}
    other = {"dataset": DATASETS[0], "published_dataset": "liver_ct", "method": "rd4ad", "metric": "aupro"}
    numbers = {"policy": "none", "measured": 0.912, "measured_std": 0.011, "published": 0.934, "published_std": 0.012}
    known = {"difference": -0.022, "source": "BMAD (2024), Table 2", "protocol": "as they did", "reasons": ("why",)}
    return published_tables(pd.DataFrame([one | numbers | known for one in (same, other)]))


TABLES: dict[str, Callable[[], RenderableType]] = {
    "run": lambda: run_tables(scores()),
    "thresholds": lambda: threshold_report(threshold_table(scores()), scores()[:0]),
    "stats": compared,
    "compare_with_published": differing,
    "changes": lambda: change_table([(f"{DATASETS[0]} · {METHODS[1]}", "option sigma", "1.5", "2.25")]),
    "check": gated,
    "published": quoted,
}


def shown(content: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(content)
    return out.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_every_number_is_whole_at_every_width(name: str, width: int) -> None:
    expected = sorted(NUMBER.findall(shown(TABLES[name](), 1000)))
    narrow = shown(TABLES[name](), width)
    assert expected
    found = sorted(NUMBER.findall(narrow))
    assert [number for number in expected if number not in found] == []
    assert "…" not in narrow
    assert max(map(len, narrow.splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_policies_can_be_told_apart(width: int) -> None:
    lines = shown(run_tables(scores()), width).splitlines()
    heads = " ".join(re.sub("[┃│]", " ", line) for line in lines if "┃" in line)
    rows = " ".join(line.split("│")[1] for line in lines if line.startswith("│"))
    words = heads + rows  # a policy is a column, or a row where that takes fewer parts
    assert words.count("quantile") == words.count("mean") == words.count("std") == 2
    assert "normal_mean_std" in shown(TABLES["thresholds"](), width)


def test_what_has_room_is_one_table() -> None:
    one = FittedTable("title", [Column("method", "label"), Column("a"), Column("b")])
    one.add_row("x", "0.123", "0.456")
    assert shown(one, 60).count("┏") == 1
    narrow = shown(one, 24)
    assert narrow.count("┏") == 2, "the second number goes on below"
    assert narrow.count("│ x ") == 2, "and says what it is of"


def test_a_table_is_turned_where_its_rows_fit_and_its_columns_do_not() -> None:
    policies = ["own", "otsu", "triangle", "entropy", "fixed"]
    one = FittedTable("title", [Column("method", "label"), *map(Column, policies)], turned="policy")
    for method in ("x", "y"):
        one.add_row(method, *("0.123\n0.1–0.2" for _ in policies))
    wide, narrow = shown(one, 100), shown(one, 40)
    assert wide.count("┏") == narrow.count("┏") == 1
    assert "┃ method ┃" in wide
    assert "┃ policy   ┃" in narrow
    assert [line.split("│")[1].strip() for line in narrow.splitlines() if "0.123" in line] == policies


def test_a_long_name_is_broken_at_its_options() -> None:
    one = FittedTable("", [Column("method", "label"), Column("a")])
    one.add_row("sam_refine[base=patchcore,prompt=centroid_box]", "0.123")
    lines = [line.split("│")[1].strip() for line in shown(one, 40).splitlines() if line.startswith("│")]
    assert lines == ["sam_refine[base=patchcore,", "prompt=centroid_box]"]
