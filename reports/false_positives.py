"""DICE over the realised false-positive rate: one axis on which the thresholds of all methods can be compared."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from ..results.files import slug
from ..results.tables import by_chain
from .marks import with_labels
from .style import Look, legend, legend_height, looks, panels, put_heading, save
from .tables import ordered_policies

COLUMNS = 2  # of panels
_PANEL = 1.5  # inches
_SMALLEST = 1e-5  # a rate that is drawn; what is below stands at the left edge
_ORACLE = Look((0.0, 0.0, 0.0), "*", "-")
_AXIS = "false-positive rate: foreground\nof normal test images"


def rate_figure(
    curves: pd.DataFrame, scores: pd.DataFrame, dataset: str, folder: Path, title: str | None = None
) -> Path | None:
    """Draws each method's DICE over the share of false-positive pixels, and the point where each policy landed.

    The rate is the metric `normal_fpr`: the share of the foreground pixels of normal test images that are predicted.
    Its axis is logarithmic, and all panels have the same. A policy that chooses for each image, or a mask that the
    method makes itself, lies beside the curve: where below it, one threshold for all images would have been better.

    Args:
        curves: The curves of a run; where it has several seeds, the first is drawn.
        scores: The scores of the same run; a policy has one look on all datasets. Post-processing is left out.
        dataset: The dataset that is drawn.
        folder: Where to write `false_positives-<dataset>.png` and `.pdf`.
        title: The figure's title, by default the dataset's name; the seed is added.

    Returns:
        The PNG's path; `None` where the rate is not known, as without a normal test image, or in what an older version
        scored.
    """
    curves, scores = with_labels(curves, scores), with_labels(scores, scores)
    scores = by_chain(scores)[""]  # the curves are of maps as methods make them
    rows = curves[(curves["dataset"] == dataset) & (curves["split"] == "test") & curves["normal_fpr"].notna()]
    if rows.empty:
        return None
    first = rows.groupby("method")["seed"].min()
    rows = rows[rows["seed"] == rows["method"].map(first)]
    known = _looks(_points(scores))
    points = _points(scores[(scores["dataset"] == dataset) & (scores["seed"] == scores["method"].map(first))])
    methods, policies = list(dict.fromkeys(rows["method"])), ordered_policies(points)
    columns = min(COLUMNS, len(methods))
    count = -(-len(methods) // columns)
    height = _PANEL * count + legend_height(policies) + 0.5
    with panels(count, columns, height, methods, sharex=True, sharey=True) as (figure, axes):
        for axis, method in zip(axes, methods, strict=True):
            _draw(axis, rows[rows["method"] == method], points[points["method"] == method], known)
        axes[0].set_xscale("log")
        axes[0].set_xlim(_SMALLEST, 1)
        axes[0].set_ylim(0, None)
        for axis in axes[-columns:]:
            axis.set_xlabel(_AXIS)
        put_heading(figure, f"{title or dataset}, seed {rows['seed'].iloc[0]}")
        figure.supylabel("mean DICE on test", fontsize=7)
        legend(figure, known, policies, lines=False)
        _, png = save(figure, folder, f"false_positives-{slug(dataset)}")
    return png


def _points(scores: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and policy, with its `dice` and its `normal_fpr` on the test set."""
    metrics, keys = ["dice", "normal_fpr"], ["method", "policy", "oracle"]
    kept = scores[scores["metric"].isin(metrics) & scores["value"].notna()]
    points = kept.pivot_table(index=keys, columns="metric", values="value", sort=False)
    return points.reindex(columns=metrics).dropna().reset_index()


def _looks(points: pd.DataFrame) -> dict[str, Look]:
    """Oracles are black stars, apart from policies."""
    oracles = set(points.loc[points["oracle"], "policy"])
    return looks([one for one in ordered_policies(points) if one not in oracles]) | dict.fromkeys(oracles, _ORACLE)


def _draw(axis: Axes, curve: pd.DataFrame, points: pd.DataFrame, known: Mapping[str, Look]) -> None:
    seen = curve[curve["normal_fpr"] > 0]
    axis.plot(seen["normal_fpr"], seen["dice"], color="0.4", linewidth=0.9, zorder=1)
    for row in points.to_dict("records"):
        look = known[row["policy"]]
        axis.plot(
            max(row["normal_fpr"], _SMALLEST),
            row["dice"],
            color=look.colour,
            marker=look.marker,
            markersize=4,
            linestyle="",
            clip_on=False,
            zorder=2,
        )
