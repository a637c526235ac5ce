"""The cost of choosing a threshold: DICE over thresholds, where each policy landed, and how it changes the ranking."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from rich.console import Group, RenderableType
from rich.text import Text
from scipy.stats import kendalltau

from ..results.extent import Extent
from ..results.files import slug
from ..results.seeds import over_seeds
from ..results.tables import by_chain, may_be_ranked
from .fitting import Column, FittedTable
from .marks import with_labels
from .names import left_out_notes, policy_title, short_names
from .promises import PromiseKept, missed_sentences, promise_notes, promise_table, promises
from .spread import FEW, FEW_NOTE
from .style import COLUMN, broken, legend_height, panels, put_heading, put_legend, save
from .tables import caption, data_notes, ordered_policies

COLUMNS = 3  # of panels in a figure
_PANEL = 2.3, 1.6  # inches
_MARKERS = "osD^vP*X<>hp"
_LEVEL = "-."  # of masks without one threshold
_CROSS_VALIDATED = "dice_cv", "dice_cv_std", "threshold_cv_std"
_FOLDS = Text(
    "cross-validated: DICE of each fold of validation patients at the threshold that was chosen without them, mean ± "
    "standard deviation over folds; behind a threshold, ± is how much it differs from fold to fold.",
    style="dim",
)
_REGRET = Text(
    "regret: DICE of oracle_dice, which chooses its threshold on the test set's own masks, minus the policy's. "
    "Below 0, a method's own mask beats every threshold of its map. The oracle is never ranked.",
    style="dim",
)


def threshold_table(scores: pd.DataFrame) -> pd.DataFrame:
    """DICE at each policy's threshold, a row for each dataset, method and policy; seeds are averaged.

    Args:
        scores: The scores of a run.

    Returns:
        Columns `dataset`, `method`, `policy`, `looks_at`, `oracle`, `threshold`, `dice_valid`, `dice_test`, `regret`
        (the oracle's DICE minus the policy's), `dice_cv`, `dice_cv_std` and `threshold_cv_std` (of policies that are
        cross-validated over validation patients: mean DICE, and the deviations over folds), `regret_low`, `regret_high`
        (the regret's 95 % interval over patients, and over seeds where there are several), `few_patients` (whether that
        is over few), `promised` (the rate of false positives that the policy promises of normal images), `realised`,
        `realised_low`, `realised_high` (that of the test set, with its interval), `promise` (`kept`, `missed` or
        `open`) and `rank` among methods under the same policy, 1 is best; an oracle has none, nor has a method that has
        seen anomalous images or the test set.
    """
    keys = ["dataset", "method", "policy"]
    scored = scores[
        (scores["error"] == "") & scores["metric"].isin(["dice", "dice_valid", "regret", *_CROSS_VALIDATED])
    ]
    scored = scored[scored["note"] == ""]
    found = scored.groupby(keys, sort=False).agg(
        looks_at=("looks_at", "first"), oracle=("oracle", "first"), threshold=("threshold", "mean")
    )
    named = {"dice_valid": "dice_valid", "dice": "dice_test", "regret": "regret"} | {
        one: one for one in _CROSS_VALIDATED
    }
    for metric, name in named.items():
        found[name] = scored[scored["metric"] == metric].groupby(keys)["value"].mean()
    regrets = {key: over_seeds(rows) for key, rows in scored[scored["metric"] == "regret"].groupby(keys)}
    found["regret_low"] = [regrets[key].low if key in regrets else np.nan for key in found.index]
    found["regret_high"] = [regrets[key].high if key in regrets else np.nan for key in found.index]
    found["few_patients"] = [key in regrets and regrets[key].few_patients for key in found.index]
    made = {(one.dataset, one.method, one.policy): one for one in promises(scores)}
    kept = [made.get(key) for key in found.index]
    found["promised"] = [one.promised if one else np.nan for one in kept]
    for column, part in (("realised", "value"), ("realised_low", "low"), ("realised_high", "high")):
        found[column] = [getattr(one.realised, part) if one else np.nan for one in kept]
    found["promise"] = [one.verdict if one else "" for one in kept]
    legal = found[~found["oracle"] & found.index.isin(may_be_ranked(scored).groupby(keys).groups)]
    found["rank"] = legal.groupby(["dataset", "policy"])["dice_test"].rank(ascending=False)
    return found.reset_index()


def threshold_report(
    table: pd.DataFrame,
    left_out: pd.DataFrame,
    measured: Mapping[str, Extent] | None = None,
    promised: Sequence[PromiseKept] = (),
) -> RenderableType:
    """Renders the policies of each method, and the ranking of methods under each policy.

    Args:
        table: By `threshold_table`.
        left_out: Rows of a run's scores whose note says why a policy is missing.
        measured: How much of each dataset was measured, by `results.extent.extents`.
        promised: What policies promise of normal images, by `reports.promises.promises`.
    """
    parts: list[RenderableType] = []
    names = short_names(table["dataset"])
    for name, rows in table.groupby("dataset", sort=False):
        dataset, short = str(name), names[str(name)]
        extent = (measured or {}).get(dataset)
        parts.append(_policy_table(short, rows, caption(dataset, short, extent)))
        parts += filter(None, [promise_table(dataset, short, promised)])
        parts.append(_rank_table(short, rows))
        parts += data_notes(extent)
    parts += [Text(note, style="dim") for note in left_out_notes(left_out)]
    parts += [Text(note, style="dim") for note in promise_notes(promised)]
    parts += [Text(sentence, style="red") for sentence in missed_sentences(promised)]
    if table["few_patients"].any():
        parts.append(Text(FEW_NOTE, style="dim"))
    if table["dice_cv"].notna().any():
        parts.append(_FOLDS)
    if table["regret"].notna().any():
        parts.append(_REGRET)
    return Group(*parts)


def threshold_figure(
    curves: pd.DataFrame, scores: pd.DataFrame, dataset: str, folder: Path, title: str | None = None
) -> Path:
    """Draws each method's DICE over thresholds, on test and on validation, with the point where each policy landed.

    DICE has one scale in all panels; thresholds are in units of each method's map.

    Args:
        curves: The curves of a run; where it has several seeds, the first is drawn.
        scores: The scores of the same run.
        dataset: The dataset that is drawn.
        folder: Where to write `thresholds-<dataset>.png` and `.pdf`.
        title: The figure's title, by default the dataset's name; the seed is added.

    Returns:
        The PNG's path.
    """
    curves, scores = with_labels(curves, scores), with_labels(scores, scores)
    scores = by_chain(scores)[""]  # the curves are of maps as methods make them
    curves, scores = (rows[rows["dataset"] == dataset] for rows in (curves, scores))
    first = curves.groupby("method")["seed"].min()  # which may differ: what is not random is run with one seed only
    curves, scores = (rows[rows["seed"] == rows["method"].map(first)] for rows in (curves, scores))
    table = threshold_table(scores)
    methods = list(dict.fromkeys(curves["method"]))
    policies = ordered_policies(table)
    colours = dict(zip(policies, sns.color_palette("colorblind", len(policies)), strict=True))
    markers = dict(zip(policies, cycle(_MARKERS), strict=False))
    columns = min(COLUMNS, len(methods))
    rows = -(-len(methods) // columns)
    points = table[np.isfinite(table["threshold"])]
    known: dict[str, dict[str, Any]] = {
        "test": {"color": "0.2"},
        "validation, its points hollow": {"color": "0.6", "linestyle": "--"},
    }
    for one in policies:
        if one in set(points["policy"]):
            known[one] = {"color": colours[one], "marker": markers[one], "markersize": 4, "linestyle": ""}
        else:
            known[f"{one}, on test"] = {"color": colours[one], "linestyle": _LEVEL}
    handles = [Line2D([], [], label=broken(name), **look) for name, look in known.items()]
    width = max(COLUMN, _PANEL[0] * columns)
    size = {"height": _PANEL[1] * rows + legend_height(list(known), width) + 0.5, "width": width}
    with panels(rows, columns, titles=methods, sharey=True, **size) as (figure, axes):
        for axis, method in zip(axes, methods, strict=True):
            _draw(axis, curves[curves["method"] == method], table[table["method"] == method], colours, markers)
        put_heading(figure, f"{title or dataset}, seed {curves['seed'].iloc[0]}")
        axes[0].set_ylim(0, None)  # once all are drawn: they share it
        for axis in axes[-columns:]:
            axis.set_xlabel("threshold, in its map's own units")
        figure.supylabel("mean DICE", fontsize=7)
        put_legend(figure, handles, list(known))
        _, png = save(figure, folder, f"thresholds-{slug(dataset)}")
    return png


def _draw(axis: Axes, curves: pd.DataFrame, policies: pd.DataFrame, colours: dict, markers: dict) -> None:
    for split, colour, style in (("valid", "0.6", "--"), ("test", "0.2", "-")):
        one = curves[curves["split"] == split]
        axis.plot(one["threshold"], one["dice"], color=colour, linestyle=style, linewidth=1)
    for row in policies.to_dict("records"):
        look = {"color": colours[row["policy"]], "marker": markers[row["policy"]], "markersize": 4, "linestyle": ""}
        if np.isfinite(row["threshold"]):
            axis.plot(row["threshold"], row["dice_valid"], **look, markerfacecolor="none")
            axis.plot(row["threshold"], row["dice_test"], **look)
        else:
            axis.axhline(row["dice_test"], color=colours[row["policy"]], linestyle=_LEVEL, linewidth=1)
    # Where nearly everything or nothing is predicted, there is nothing to see.
    seen = curves[(curves["false_positive_rate"] < 0.5) & (curves["true_positive_rate"] > 0.001)]
    marked = np.concatenate([seen["threshold"], policies.loc[np.isfinite(policies["threshold"]), "threshold"]])
    low, high = marked.min(), marked.max()
    axis.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))


def _policy_table(dataset: str, rows: pd.DataFrame, caption: str) -> FittedTable:
    columns = [Column("method", "label"), Column("policy", "label"), Column("looks at", "text", "dim")]
    folds = bool(rows["dice_cv"].notna().any())
    columns += map(
        Column, ("threshold", "DICE valid", *["cross-validated"] * folds, "DICE test", "regret", "95 % interval")
    )
    table = FittedTable(f"{dataset}: where each policy landed", columns, caption)
    for method, of_method in rows.groupby("method", sort=False):
        policies = ordered_policies(of_method)
        for row in of_method.set_index("policy").loc[policies].reset_index().to_dict("records"):
            last = row["policy"] == policies[-1]
            spread = f"{row['regret_low']:+.2f} to {row['regret_high']:+.2f}" if pd.notna(row["regret_low"]) else ""
            spread += FEW if row["few_patients"] else ""
            table.add_row(
                str(method) if row["policy"] == policies[0] else "",
                row["policy"],
                row["looks_at"],
                "per image"
                if "image" in row["looks_at"]
                else _with_spread(row, "threshold", "threshold_cv_std", ".4g"),
                _number(row["dice_valid"], "{:.3f}"),
                *[_with_spread(row, "dice_cv", "dice_cv_std", ".3f")] * folds,
                _number(row["dice_test"], "{:.3f}"),
                _number(row["regret"], "{:+.3f}"),
                spread,
                style="dim" if row["oracle"] else "",
                end_section=last,
            )
    return table


def policy_ranks(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The ranks of methods under each policy that all of them have: a ranking of some says nothing of the others.

    Args:
        rows: Those of one dataset, by `threshold_table`.

    Returns:
        A row for each method, a column for each policy; and the policy that others are held against, empty without any.
    """
    legal = by_chain(rows[~rows["oracle"]])[""]
    ranks = legal.pivot_table(index="method", columns="policy", values="rank", sort=False)[ordered_policies(legal)]
    ranks = ranks.dropna(axis="columns")
    return ranks, "valid_dice" if "valid_dice" in ranks else next(iter(ranks.columns), "")


def _rank_table(dataset: str, rows: pd.DataFrame) -> FittedTable:
    """Ranks under each policy that all methods have; at the bottom, agreement with the first of them."""
    ranks, reference = policy_ranks(rows)
    columns = [Column("method", "label"), *(Column(policy_title(policy)) for policy in ranks.columns)]
    table = FittedTable(f"{dataset}: how the ranking changes from policy to policy", columns, turned="policy")
    for method, row in ranks.iterrows():
        table.add_row(str(method), *(f"{rank:g}" for rank in row), end_section=method == ranks.index[-1])
    if len(ranks) > 2:
        taus: list[Any] = [kendalltau(ranks[reference], ranks[policy])[0] for policy in ranks.columns]
        table.add_row(f"Kendall's tau with {reference}", *(_number(tau, "{:.2f}") for tau in taus), style="dim")
    return table


def _with_spread(row: dict[Hashable, Any], name: str, spread: str, form: str) -> str:
    """A number, and the deviation over folds where the policy is cross-validated."""
    number = _number(row[name], f"{{:{form}}}")
    return f"{number} ± {row[spread]:.2g}" if pd.notna(row[spread]) else number


def _number(value: float, form: str) -> str:
    return form.format(value) if pd.notna(value) else "–"
