"""How many validation images a policy needs: DICE on test over the number of images that it chose on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from ..results.files import slug
from .fitting import Column, FittedTable
from .names import short_names
from .style import Look, legend, legend_height, looks, panels, plain, save

_PANEL = 1.55  # inches
_COLUMNS = 2  # of panels
_BESIDE = 1.035  # of a policy's points from those of the next, as a factor: else bars hide each other
_NOTE = Text(
    "DICE on test: the mean over draws of so many validation images, and in brackets the 10th and 90th percentiles of "
    "the draws. Where a draw holds no lesion, or no normal image, a policy may have nothing to choose by: such draws "
    "are left out, and their number stands behind a cross.",
    style="dim",
)


def sizes_report(sizes: pd.DataFrame) -> RenderableType:
    """Renders a table for each dataset: a row for each method and policy, a column for each number of images.

    Args:
        sizes: By `validation_sizes` of the analysis.
    """
    names = short_names(sizes["dataset"])
    parts: list[RenderableType] = []
    for dataset, rows in sizes.groupby("dataset", sort=False):
        parts.append(_table(names[str(dataset)], rows))
    return Group(*parts, _NOTE)


def sizes_figure(sizes: pd.DataFrame, dataset: str, folder: Path, title: str = "") -> Path:
    """Draws DICE on test over the number of validation images, a panel for each method and a line for each policy.

    Points are means over draws; bars reach from the 10th to the 90th percentile of the draws.

    Args:
        sizes: By `validation_sizes` of the analysis.
        dataset: The dataset that is drawn.
        folder: Where to write `validation_sizes-<dataset>.png` and `.pdf`.
        title: The figure's title, by default the dataset's name.

    Returns:
        The PNG's path.
    """
    rows = sizes[sizes["dataset"] == dataset]
    methods, policies = list(rows["method"].unique()), list(rows["policy"].unique())
    known = looks(policies)
    columns = min(_COLUMNS, len(methods))
    count = -(-len(methods) // columns)
    height = _PANEL * count + legend_height(policies) + 0.4
    with panels(count, columns, height, methods, sharex=True, sharey=True) as (figure, axes):
        for axis, method in zip(axes, methods, strict=True):
            _draw(axis, rows[rows["method"] == method], policies, known)
        ticks = sorted(rows["images"].unique())
        axes[0].set_xscale("log")
        axes[0].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[0].minorticks_off()
        axes[0].set_ylim(0, None)
        figure.suptitle(plain(title or dataset), fontsize=8)
        for axis in axes[-columns:]:
            axis.set_xlabel("validation images")
        figure.supylabel("DICE on test: mean, 10 % to 90 % of draws", fontsize=7)
        legend(figure, known, policies, lines=False)
        _, png = save(figure, folder, f"validation_sizes-{slug(dataset)}")
    return png


def _draw(axis: Any, rows: pd.DataFrame, policies: Sequence[str], known: Mapping[str, Look]) -> None:
    for place, policy in enumerate(policies):
        one = rows[(rows["policy"] == policy) & rows["dice_mean"].notna()]
        look = known[policy]
        beside = _BESIDE ** (place - (len(policies) - 1) / 2)
        reach = [one["dice_mean"] - one["dice_low"], one["dice_high"] - one["dice_mean"]]
        axis.errorbar(
            one["images"] * beside,
            one["dice_mean"],
            np.clip(reach, 0, None),
            color=look.colour,
            marker=look.marker,
            linestyle=look.dash,
            markersize=3,
            linewidth=0.9,
            elinewidth=0.6,
        )


def _table(dataset: str, rows: pd.DataFrame) -> FittedTable:
    whole = int(rows["of_images"].max())
    counts = sorted(rows["images"].unique())
    columns = [Column("method", "label"), Column("policy", "label")]
    columns += [Column(f"all {whole}" if count == whole else str(count)) for count in counts]
    table = FittedTable(f"{dataset}: DICE on test by the number of validation images", columns)
    for method, of_method in rows.groupby("method", sort=False):
        policies = list(of_method["policy"].unique())
        for policy in policies:
            by_count = of_method[of_method["policy"] == policy].set_index("images")
            cells = [_cell(by_count.loc[count].to_dict()) if count in by_count.index else "" for count in counts]
            named = str(method) if policy == policies[0] else "", policy
            table.add_row(*named, *cells, end_section=policy == policies[-1])
    return table


def _cell(row: Mapping[Any, Any]) -> str:
    lost = int(row["draws"] - row["chose"])
    mark = f" ×{lost}" if lost else ""
    if not row["chose"]:
        return f"–{mark}"
    if row["draws"] == 1:
        return f"{row['dice_mean']:.3f}"
    return f"{row['dice_mean']:.3f}{mark}\n({row['dice_low']:.2f}–{row['dice_high']:.2f})"
