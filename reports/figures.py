"""The figures of a paper, each as PDF and PNG: DICE, its distribution, volumes, curves, cost, lesion size, ranks.

All take the `looks` of the report's methods, and draw a panel for each dataset.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..results.metrics import METRICS
from ..results.seeds import OverSeeds, over_seeds
from ..results.tables import masks_by
from .marks import with_labels
from .names import short_names
from .style import Look, from_zero, label_methods, legend, legend_height, listed_height, looks, panels, save

_GOLDEN = 0.618
_COSTS = ("predict_ms", "peak_memory_mib")
_OF_VOLUMES = ("volume_dice", "volume_hd95_mm")
_SIZES = {"dice_small": "small\n< 0.5 %", "dice_medium": "medium\n0.5–2 %", "dice_large": "large\n> 2 %"}


def paper_figures(
    cases: pd.DataFrame,
    scores: pd.DataFrame,
    curves: pd.DataFrame,
    volumes: pd.DataFrame,
    ranks: pd.DataFrame,
    policy: str,
    folder: Path,
) -> list[Path]:
    """Draws every figure that there are data for.

    Args:
        cases: The cases of one run, or of several joined.
        scores: The scores of the same.
        curves: The curves of the same.
        volumes: The volumes of the same.
        ranks: The ranks of the same (columns `results.tables.RANKS`).
        policy: The policy whose masks DICE is computed on.
        folder: Where the figures go.

    Returns:
        The files.
    """
    short = short_names(scores["dataset"])
    cases, scores, curves, volumes, ranks = (
        with_labels(table, scores).assign(dataset=table["dataset"].map(short))
        for table in (cases, scores, curves, volumes, ranks)
    )
    known = looks([str(method) for method in scores["method"].unique()])
    scored = scores[(scores["error"] == "") & scores["value"].notna()]
    masks, maps = masks_by(scored, policy), scored[scored["policy"] == "none"]
    of_policy = masks_by(cases, policy)
    chosen = ranks[ranks["policy"] == policy]
    files = dice_figure(masks, known, folder)
    files += distribution_figure(of_policy[of_policy["dice"].notna()], known, folder)
    if masks["metric"].isin(_OF_VOLUMES).any():
        files += volume_figure(masks, masks_by(volumes, policy), known, folder)
    if masks["metric"].isin(list(_SIZES)).any():
        files += lesion_size_figure(masks, known, folder)
    measured = maps[maps["external"] == ""]  # what an author tells was measured on another machine
    if measured["metric"].isin(_COSTS).any():
        files += cost_figure(masks, measured, known, folder)
    test = curves[curves["split"] == "test"]
    if len(test):
        files += roc_figure(test, known, folder)
        files += precision_recall_figure(test, known, folder)
    if len(chosen):
        files += rank_figure(chosen, known, folder)
    return files


def dice_figure(scores: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """Mean DICE of each method with its 95 % interval, and of several seeds each one's as a tick."""
    dice = scores[scores["metric"] == "dice"]
    datasets, methods = _names(dice, known)
    highest = 0.0
    with panels(len(datasets), 1, _listed_height(datasets, methods), datasets, sharex=True) as (figure, axes):
        for axis, dataset in zip(axes, datasets, strict=True):
            rows = dice[dice["dataset"] == dataset]
            highest = max(highest, _draw_means(axis, rows, methods, known))
        axes[-1].set_xlim(from_zero(highest))
        axes[-1].set_xlabel("mean DICE of anomalous images", loc="right")
        return save(figure, folder, "dice")


def distribution_figure(cases: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """DICE of every anomalous image, a box with quartiles and median for each method."""
    datasets, methods = _names(cases, known)
    colours = {method: known[method].colour for method in methods}
    with panels(len(datasets), 1, _listed_height(datasets, methods), datasets, sharex=True) as (figure, axes):
        for axis, dataset in zip(axes, datasets, strict=True):
            data = cases[cases["dataset"] == dataset]
            for place, method in enumerate(methods):
                values = data.loc[data["method"] == method, "dice"]
                # Spread evenly, but without an order that the eye would see.
                spread = 0.5 * (np.arange(len(values)) * _GOLDEN % 1 - 0.5)
                axis.plot(values, place + spread, ".", color=known[method].colour, markersize=2, alpha=0.5)
            sns.boxplot(
                data,
                x="dice",
                y="method",
                hue="method",
                order=methods,
                hue_order=methods,
                palette=colours,
                ax=axis,
                width=0.7,
                fill=False,
                linewidth=0.8,
                showfliers=False,
                legend=False,
            )
            label_methods(axis, methods)
            axis.set(xlim=(-0.02, 1), xlabel="", ylabel="")
        axes[-1].set_xlabel("DICE of an anomalous image", loc="right")
        return save(figure, folder, "distributions")


def volume_figure(scores: pd.DataFrame, volumes: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """DICE and HD95 of each method's volumes: the mean with its 95 % interval, and each volume as a dot."""
    sized = scores[scores["metric"].isin(_OF_VOLUMES)]
    datasets, methods = _names(sized, known)
    measured = [metric for metric in _OF_VOLUMES if (sized["metric"] == metric).any()]
    titles = [title for dataset in datasets for title in (dataset, *[""] * (len(measured) - 1))]
    with panels(len(datasets), len(measured), _listed_height(datasets, methods), titles, sharey="row") as (
        figure,
        axes,
    ):
        for index, dataset in enumerate(datasets):
            own = axes[len(measured) * index : len(measured) * (index + 1)]
            for axis, metric in zip(own, measured, strict=True):
                rows = sized[(sized["dataset"] == dataset) & (sized["metric"] == metric)]
                of_each = volumes[(volumes["dataset"] == dataset) & volumes[metric].notna()]
                for place, method in enumerate(methods):
                    values = of_each.loc[of_each["method"] == method, metric]
                    axis.plot(values, [place] * len(values), ".", color=known[method].colour, markersize=3, alpha=0.4)
                highest = _draw_means(axis, rows, methods, known)
                axis.set_xlim(from_zero([highest, *of_each[metric]]))
                if dataset == datasets[-1]:
                    axis.set_xlabel(METRICS[metric].title, loc="right")
        return save(figure, folder, "volumes")


def roc_figure(curves: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """Receiver operating characteristic over all test pixels."""
    names = ("false_positive_rate", "true_positive_rate")
    return _curve_figure(curves, names, ("false-positive rate", "true-positive rate"), known, folder, "roc")


def precision_recall_figure(curves: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """Precision over recall, of all test pixels."""
    names = ("true_positive_rate", "precision")
    return _curve_figure(curves, names, ("recall", "precision"), known, folder, "precision_recall")


def cost_figure(masks: pd.DataFrame, maps: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """DICE over runtime and over memory, with the front of methods that none beats in both."""
    masks = masks[masks["method"].isin(maps.loc[maps["metric"].isin(_COSTS), "method"])]
    dice = masks[masks["metric"] == "dice"].groupby(["dataset", "method"], sort=False)["value"].mean()
    datasets, methods = _names(masks, known)
    titles = [title for dataset in datasets for title in (dataset, "")]
    height = 1.5 * len(datasets) + legend_height(methods)
    fronts = False
    with panels(len(datasets), 2, height, titles, sharey="row", sharex="col") as (figure, axes):
        for index, dataset in enumerate(datasets):
            for axis, metric in zip(axes[2 * index : 2 * index + 2], _COSTS, strict=True):
                rows = maps[(maps["dataset"] == dataset) & (maps["metric"] == metric)]
                cost = rows.groupby("method", sort=False)["value"].mean()
                both = pd.DataFrame({"cost": cost, "dice": dice.get(dataset)}).dropna()
                _draw_pareto(axis, both, known)
                fronts = fronts or len(pareto_front(both)) > 1
                if dataset == datasets[-1]:
                    axis.set_xlabel(METRICS[metric].title)
            axes[2 * index].set_ylabel("mean DICE")
            axes[2 * index].set_ylim(from_zero(dice.get(dataset)))  # shared by both panels
            axes[2 * index].set_xscale("log")
        front = Line2D([], [], color="0.6", linewidth=1, label="Pareto front")
        legend(figure, known, methods, lines=False, more=[front] * fronts)
        return save(figure, folder, "cost")


def pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other beats: none has a higher `dice` at a `cost` as low; by cost."""
    ordered = points.sort_values(["cost", "dice"], ascending=[True, False])
    before = ordered["dice"].cummax().shift(fill_value=-np.inf)
    return ordered[ordered["dice"] > before]


def lesion_size_figure(scores: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """DICE of images whose lesions are small, medium and large, with 95 % intervals."""
    sized = scores[scores["metric"].isin(list(_SIZES))]
    datasets, methods = _names(sized, known)
    height = 1.6 * len(datasets) + legend_height(methods)
    with panels(len(datasets), 1, height, datasets) as (figure, axes):
        for axis, dataset in zip(axes, datasets, strict=True):
            rows = sized[sized["dataset"] == dataset]
            counts = rows.groupby("metric")["n"].max()
            shown = [metric for metric in _SIZES if metric in counts]
            highest = 0.0
            for index, method in enumerate(methods):
                own, look = rows[rows["method"] == method], known[method]
                for size, metric in enumerate(shown):
                    score = over_seeds(own[own["metric"] == metric])
                    # Side by side, so that intervals do not hide each other.
                    place = size + 0.8 * ((index + 0.5) / len(methods) - 0.5)
                    style = _interval_style(score)
                    axis.plot([place, place], [score.low, score.high], style, color=look.colour, linewidth=0.8)
                    axis.plot([place], [score.value], look.marker, color=look.colour, markersize=3)
                    highest = max(highest, np.nanmax([0, score.value, score.high]))
            axis.set_xticks(range(len(shown)), [f"{_SIZES[metric]}, n = {counts[metric]}" for metric in shown])
            axis.set_xlim(-0.5, len(shown) - 0.5)
            axis.set_ylim(from_zero(highest))
            axis.grid(visible=False, axis="x")
            for edge in range(1, len(shown)):
                axis.axvline(edge - 0.5, color="0.8", linewidth=0.6)
            axis.set_ylabel("mean DICE")
        legend(figure, known, methods, lines=False)
        return save(figure, folder, "lesion_size")


def rank_figure(ranks: pd.DataFrame, known: dict[str, Look], folder: Path) -> list[Path]:
    """How often each method has each rank when patients are drawn again; a tick is its rank on all of them."""
    datasets = [str(name) for name in ranks["dataset"].unique()]
    counts = [int((ranks["dataset"] == dataset).sum()) for dataset in datasets]
    methods = ranks["method"].unique()
    height = sum(listed_height(methods, count) for count in counts) + 0.2
    with panels(len(datasets), 1, height, datasets, height_ratios=counts) as (figure, axes):
        for axis, dataset in zip(axes, datasets, strict=True):
            rows = ranks[ranks["dataset"] == dataset].sort_values("rank", kind="stable").reset_index(drop=True)
            for place, row in enumerate(rows.to_dict("records")):
                shares = np.asarray(row["rank_shares"], float)
                axis.scatter(
                    np.arange(1, len(shares) + 1),
                    [place] * len(shares),
                    s=60 * shares,
                    color=known[row["method"]].colour,
                    alpha=0.75,
                    linewidth=0,
                )
            axis.plot(rows["rank"], rows.index, "|", color="black", markersize=5)
            label_methods(axis, rows["method"].tolist())
            axis.set_xlim(0.5, len(rows) + 0.5)
            axis.set_xticks(range(1, len(rows) + 1, 1 if len(rows) <= 10 else 2))
        axes[-1].set_xlabel("rank (area: share of resamples of patients)", loc="right")
        return save(figure, folder, "ranks")


def _curve_figure(
    curves: pd.DataFrame,
    columns: tuple[str, str],
    labels: tuple[str, str],
    known: dict[str, Look],
    folder: Path,
    name: str,
) -> list[Path]:
    """A line for each method, of its first seed."""
    datasets, methods = _names(curves, known)
    across = min(2, len(datasets))
    down = -(-len(datasets) // across)
    height = (1.75 if across == 2 else 2.4) * down + legend_height(methods)
    with panels(down, across, height, datasets) as (figure, axes):
        for axis, dataset in zip(axes, datasets, strict=True):
            for method in methods:
                rows = curves[(curves["dataset"] == dataset) & (curves["method"] == method)]
                rows = rows[rows["seed"] == rows["seed"].min()].sort_values("threshold", ascending=False)
                look = known[method]
                axis.plot(rows[columns[0]], rows[columns[1]], look.dash, color=look.colour, linewidth=1)
            axis.set(xlim=(0, 1), ylim=(0, 1), xlabel=labels[0], ylabel=labels[1])
        legend(figure, known, methods, lines=True)
        return save(figure, folder, name)


def _draw_means(axis: Axes, rows: pd.DataFrame, methods: Sequence[str], known: dict[str, Look]) -> float:
    """A line for each method: its mean, its interval, and of several seeds each one's mean; returns the highest end."""
    highest = 0.0
    for place, method in enumerate(methods):
        own = rows[rows["method"] == method]
        look, score = known[method], over_seeds(own)
        axis.plot([score.low, score.high], [place, place], _interval_style(score), color=look.colour, linewidth=1.5)
        if score.seeds > 1:
            axis.plot(own["value"], [place] * len(own), "|", color=look.colour, markersize=5, alpha=0.6)
        axis.plot([score.value], [place], marker=look.marker, color=look.colour, markersize=4)
        highest = max(highest, np.nanmax([0, score.value, score.high]))
    label_methods(axis, methods)
    return highest


def _draw_pareto(axis: Axes, points: pd.DataFrame, known: dict[str, Look]) -> None:
    front = pareto_front(points)
    axis.step(front["cost"], front["dice"], where="post", color="0.6", linewidth=1, zorder=1)
    for method, cost, dice in zip(points.index, points["cost"], points["dice"], strict=True):
        look = known[method]
        axis.plot([cost], [dice], look.marker, color=look.colour, markersize=4)


def _interval_style(score: OverSeeds) -> str:
    return ":" if score.few_patients else "-"


def _names(rows: pd.DataFrame, known: dict[str, Look]) -> tuple[list[str], list[str]]:
    """The datasets of some rows, and their methods in the report's order."""
    there = set(rows["method"])
    return [str(name) for name in rows["dataset"].unique()], [method for method in known if method in there]


def _listed_height(datasets: Sequence[str], methods: Sequence[str]) -> float:
    return len(datasets) * listed_height(methods, len(methods)) + 0.2
