from math import isfinite

import pytest

from miasbench.results.metrics import METRICS, Metric, metrics_of
from miasbench.results.tables import CASES, VOLUMES, curve_convention

ENTRIES = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


@ENTRIES
def test_each_entry_is_of_one_piece(metric: Metric) -> None:
    assert METRICS[metric.name] is metric
    low, high = metric.range
    assert low <= metric.collapsed < high
    assert metric.convention
    if metric.gated:
        assert (metric.direction, metric.range, metric.oracle) == ("higher", (0, 1), False), "a baseline holds shares"
    if metric.paired:
        assert metric.per_case, "images are paired by their rows in cases"
    if metric.shown:
        assert not metric.oracle, "an upper bound does not stand beside results"
    if metric.kind == "cost":
        assert not isfinite(high), "a cost has no largest value"
        assert metric.unit
        assert metric.direction == "neither", "costs of two machines are not ranked"


def test_no_two_metrics_have_one_title() -> None:
    titles = [one.title for one in METRICS.values()]
    assert len(set(titles)) == len(titles)


def test_cases_and_volumes_have_a_column_for_each_metric_of_one() -> None:
    for level, columns in (("image", CASES), ("volume", VOLUMES)):
        of_level = [one.name for one in METRICS.values() if one.per_case and one.level == level]
        assert set(of_level) <= set(columns)
        assert not {one.name for one in METRICS.values() if one.name not in of_level and one.per_case} & set(columns)


def test_a_convention_says_how_masks_and_padding_were_treated() -> None:
    scored = {name: one.convention_of("nearest", "exclude", 1, "otsu") for name, one in METRICS.items()}
    assert scored["dice"] == (
        "mean over anomalous images; nothing predicted scores 0; normal images are left out; "
        "masks by nearest pixel centre; padding left out; interval over the patients that have a value"
    )
    assert scored["dice_pooled"] == (
        "all pixels of all test images as one; masks by nearest pixel centre; padding left out"
    )
    for one in metrics_of("image", "cost"):
        assert scored[one.name] == one.convention
    papers = {name: one.convention_of("paper", "count", 1, "otsu") for name, one in METRICS.items()}
    grey = "masks resized bilinearly, grey edges are"
    assert papers["pixel_auroc"] == f"all pixels of all test images; {grey} normal; padding counted"
    assert f"{grey} lesion; padding counted" in papers["best_f1"]
    assert f"{grey} lesion; padding counted" in papers["regret"]
    assert curve_convention("nearest", "exclude") == "masks by nearest pixel centre; padding left out"
    assert curve_convention("paper", "count") == (
        f"{grey} lesion for dice and dice_pooled, normal for the others; padding counted"
    )
