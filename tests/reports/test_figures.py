from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from miasbench.reports.figures import dice_figure, paper_figures, pareto_front
from miasbench.reports.style import COLUMN, broken, looks
from miasbench.results.seeds import over_seeds
from miasbench.results.tables import CASES, CURVES, HEADLINE, RANKS, SCORES, VOLUMES, table

EMPTY = {"str": "", "int64": 0, "float64": float("nan"), "bool": False, "object": None}
METHODS = ("sam", "core", "variant[of=a long name,with=$dollars_and$]")
FIGURES = {"dice", "distributions", "volumes", "lesion_size", "cost", "roc", "precision_recall", "ranks"}


def row(columns: dict[str, str], **values: Any) -> dict[str, Any]:
    return {name: EMPTY[kind] for name, kind in columns.items()} | {"dataset": "liver"} | values


def data(
    methods: tuple[str, ...] = METHODS,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    cases, scores, curves, volumes, ranks = [], [], [], [], []
    for index, method in enumerate(methods):
        masks = {"method": method, "policy": "own" if method == "sam" else "valid_dice"}
        value = 0.3 + 0.1 * index
        cases += [row(CASES, **masks, label=1, dice=value + 0.02 * case, case=str(case)) for case in range(5)]
        for metric in ("dice", "dice_small", "dice_large"):
            scores.append(row(SCORES, **masks, metric=metric, value=value, ci_low=value - 0.1, ci_high=value + 0.1))
        volumes += [row(VOLUMES, **masks, volume_dice=value + 0.1 * case, volume_hd95_mm=9 - case) for case in range(3)]
        for metric, mean in (("volume_dice", value), ("volume_hd95_mm", 8.0)):
            ends = {"ci_low": 0.9 * mean, "ci_high": 1.1 * mean}
            scores.append(row(SCORES, **masks, metric=metric, level="volume", value=mean, **ends))
        for metric, cost in (("predict_ms", 10.0**index), ("peak_memory_mib", 2000 - 300 * index)):
            scores.append(row(SCORES, method=method, policy="none", metric=metric, value=cost))
        for threshold in np.linspace(1, 0, 20):
            rates = {"true_positive_rate": 1 - threshold**2, "false_positive_rate": (1 - threshold) ** 2}
            named = {"method": method, "split": "test", "threshold": threshold}
            curves.append(row(CURVES, **named, **rates, precision=threshold))
        shares = np.eye(len(methods))[index]
        ranks.append(row(RANKS, method=method, policy=HEADLINE, rank=index + 1.0, rank_shares=shares))
    return (
        table(cases, CASES),
        table(scores, SCORES),
        table(curves, CURVES),
        table(volumes, VOLUMES),
        table(ranks, RANKS),
    )


def test_every_figure_is_a_pdf_and_a_png_of_a_columns_width(tmp_path: Path) -> None:
    files = paper_figures(*data(), HEADLINE, tmp_path)
    assert {file.name for file in files} == {f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")}
    for file in files:
        if file.suffix == ".pdf":
            assert file.read_bytes().startswith(b"%PDF")
        else:
            assert Image.open(file).width == round(COLUMN * 300)


def test_a_method_has_the_same_colour_in_every_figure(tmp_path: Path) -> None:
    paper_figures(*data(), HEADLINE, tmp_path)
    for colour in (np.array(look.colour) for look in looks(METHODS).values()):
        for name in FIGURES - {"ranks"}:  # there they are see-through
            pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) / 255
            assert (np.abs(pixels - colour).max(axis=2) < 0.02).any(), name


def test_what_there_are_no_data_for_is_not_drawn(tmp_path: Path) -> None:
    cases, scores, curves, volumes, ranks = data(("sam",))
    files = paper_figures(cases, scores, curves[:0], volumes, ranks[:0], HEADLINE, tmp_path)
    assert {file.stem for file in files} == FIGURES - {"roc", "precision_recall", "ranks"}


def test_figures_without_lesion_sizes_or_costs_or_volumes(tmp_path: Path) -> None:
    cases, scores, curves, volumes, ranks = data()
    files = paper_figures(cases, scores[scores["metric"] == "dice"], curves, volumes[:0], ranks, HEADLINE, tmp_path)
    assert {file.stem for file in files} == FIGURES - {"lesion_size", "cost", "volumes"}


def test_volumes_without_a_spacing_have_no_distances(tmp_path: Path) -> None:
    cases, scores, curves, volumes, ranks = data()
    wide = paper_figures(cases, scores, curves, volumes, ranks, HEADLINE, tmp_path / "mm")
    scores = scores[scores["metric"] != "volume_hd95_mm"]
    narrow = paper_figures(cases, scores, curves, volumes, ranks, HEADLINE, tmp_path / "pixels")
    drawn = [Image.open(next(file for file in files if file.name == "volumes.png")) for files in (wide, narrow)]
    assert drawn[0].width == drawn[1].width
    assert drawn[0].tobytes() != drawn[1].tobytes()


def test_more_methods_than_colours_are_told_apart() -> None:
    found = looks([f"m{index}" for index in range(24)])
    assert len(set(found.values())) == 24
    assert len({(look.colour, look.dash) for look in found.values()}) == 24
    assert len({(look.colour, look.marker) for look in found.values()}) == 24


def test_the_front_has_what_no_other_beats() -> None:
    points = pd.DataFrame({"cost": [1, 2, 3, 3, 4], "dice": [0.2, 0.1, 0.3, 0.4, 0.4]}, index=list("abcde"))
    assert pareto_front(points).index.tolist() == ["a", "d"]


def test_long_names_are_broken_and_dollars_stay() -> None:
    assert broken("sam_control[prompt=foreground_box]") == "sam_control\n[prompt=foreground_box]"
    assert broken("patchcore") == "patchcore"
    assert broken("cost$") == r"cost\$"
    assert broken("a[x=1,y=2]").replace("\n", "") == "a[x=1,y=2]"


@pytest.mark.parametrize(("patients", "style"), [(20, "-"), (3, ":")])
def test_dice_of_several_seeds_has_the_interval_that_the_caption_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patients: int, style: str
) -> None:
    drawn: dict[str, list[tuple[float, ...]]] = {}

    def look(figure: Figure, folder: Path, name: str) -> list[Path]:
        (axis,) = figure.axes
        lines = [(np.asarray(line.get_xdata()), line.get_linestyle(), line.get_marker()) for line in axis.lines]
        drawn["intervals"] = [tuple(ends) for ends, dash, _ in lines if len(ends) == 2 and dash == style]
        drawn["ticks"] = [tuple(values) for values, _, marker in lines if marker == "|"]
        return []

    monkeypatch.setattr("miasbench.reports.figures.save", look)
    shared = {"method": "sam", "policy": "own", "metric": "dice", "patients": patients}
    rows = [row(SCORES, **shared, seed=seed, value=0.4 + 0.1 * seed, ci_low=0.3, ci_high=0.6) for seed in (0, 1)]
    scores = table(rows, SCORES)
    dice_figure(scores, looks(["sam"]), tmp_path)
    score = over_seeds(scores)
    assert drawn["intervals"] == [(score.low, score.high)]
    assert drawn["ticks"] == [(0.4, 0.5)]
