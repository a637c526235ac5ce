"""Galleries: image, ground truth, anomaly map with its prompt, and mask, of cases that a rule has chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..results.files import ResultsError, slug
from ..results.predictions import StoredPrediction, mask_by
from ..results.store import RunStore
from .marks import label
from .names import short_names
from .style import COLUMN, broken, plain, save

_COLUMNS = ("image", "ground truth", "anomaly map", "mask")
_RULES = ("best", "median", "worst")
GREEN, ORANGE, _PROMPT = "#009e73", "#e69f00", "white"  # told apart by the colour-blind, and by where they are

Read = Callable[[str], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Reads a case by its id: its image, uint8 (S, S) or RGB (S, S, 3), and, bool (S, S) each, its lesion mask and where it
was scored."""

MaskBy = Callable[[StoredPrediction, Mapping[Any, Any]], tuple[np.ndarray, tuple[tuple[float, ...], ...]]]
"""Makes a case's mask by the policy of its row in the table `cases`, as `results.predictions.mask_by`."""


@dataclass(frozen=True)
class Picture:
    """A case, and what a method makes of it.

    Attributes:
        title: The text beside it.
        image: uint8 (S, S), or RGB (S, S, 3).
        truth: bool (S, S).
        anomaly_map: float32 (S, S).
        mask: bool (S, S).
        prompts: Points (x, y) and boxes (x0, y0, x1, y1), in pixels.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    anomaly_map: np.ndarray
    mask: np.ndarray
    prompts: tuple[tuple[float, ...], ...] = ()


def chosen_cases(cases: pd.DataFrame) -> dict[str, pd.Series]:
    """The anomalous cases of the highest, the middle and the lowest DICE, equal ones by their ids.

    Args:
        cases: Rows of the table `cases`: one method, seed and policy.

    Returns:
        A row each, by `best`, `median` and `worst`; of an even number, the better of the two in the middle.
    """
    ordered = cases[cases["dice"].notna()].sort_values(["dice", "case"], ascending=[False, True])
    if ordered.empty:
        return {}
    places = (0, (len(ordered) - 1) // 2, len(ordered) - 1)
    return {rule: ordered.iloc[place] for rule, place in zip(_RULES, places, strict=True)}


def galleries(
    cases: pd.DataFrame,
    runs: Mapping[str, RunStore],
    images: Mapping[tuple[str, str], Read],
    folder: Path,
    masks: Mapping[tuple[str, str], MaskBy] = MappingProxyType({}),
) -> tuple[list[Path], list[str]]:
    """Draws a gallery for each dataset and method: the best, the median and the worst case of the first seed.

    Args:
        cases: The cases of joined runs under one policy that is no oracle, with the column `run`.
        runs: By name.
        images: Functions that read a case's image and lesion mask, by the names of run and dataset.
        folder: Where the figures go.
        masks: Functions that make masks, by the names of run and dataset; by default `mask_by`.

    Returns:
        The files, and why there is none of some method.
    """
    files, missing = [], []
    short = short_names(cases["dataset"])
    for (dataset, method), rows in cases.groupby(["dataset", "method"], sort=False):
        of_seed = rows[rows["seed"] == rows["seed"].iloc[0]]
        chosen = chosen_cases(of_seed)
        read = images.get((of_seed["run"].iloc[0], str(dataset)))
        if not chosen or read is None:
            continue
        store, made = runs[of_seed["run"].iloc[0]], masks.get((of_seed["run"].iloc[0], str(dataset)), mask_by)
        try:
            pictures = [
                picture(f"{rule}\nDICE\n{row['dice']:.2f}", row.to_dict(), store, read, made)
                for rule, row in chosen.items()
            ]
        except ResultsError:
            missing.append(f"{method} on {dataset}: its anomaly maps were not kept, or are damaged")
            continue
        name = f"gallery_{slug(str(dataset))}@{slug(str(method))}"  # a slug holds no @: no two pairs make one name
        of_what = f"{short[str(dataset)]} · masks: {of_seed['policy'].iloc[0]} · seed {of_seed['seed'].iloc[0]}"
        files += _draw(f"{label(str(method), rows)} · {of_what}", pictures, folder, name)
    return files, missing


def picture(title: str, row: Mapping[Any, Any], store: RunStore, read: Read, masks: MaskBy = mask_by) -> Picture:
    """A picture of a case with a method's map and mask.

    Args:
        title: The picture's title.
        row: A row of the table `cases`.
        store: The run that it is from.
        read: Reads the case.
        masks: Makes the mask.

    Raises:
        ResultsError: The prediction was not kept, or is damaged.
    """
    stored = store.cell(row["cell"]).read_prediction("test", row["case"])
    mask, prompts = masks(stored, row)
    image, truth, scored = read(row["case"])
    return Picture(title, image, truth, stored.prediction.anomaly_map, mask & scored, prompts)


def _draw(title: str, pictures: list[Picture], folder: Path, name: str) -> list[Path]:
    """A row for each picture; the map's colours have the same range in all rows, so that they can be compared."""
    low = min(float(one.anomaly_map.min()) for one in pictures)
    high = max(float(one.anomaly_map.max()) for one in pictures)
    title = broken(title, 60)
    head = 0.24 + 0.12 * title.count("\n")
    side, left, gap = (COLUMN - 0.4) / 4, 0.4, 0.03
    height = head + side * len(pictures)
    figure = plt.figure(figsize=(COLUMN, height))
    try:
        figure.text(left / COLUMN, 1 - 0.02 / height, title, fontsize=7, va="top")
        for row, one in enumerate(pictures):
            bottom = height - head - side * (row + 1)
            axes: list[Axes] = [
                figure.add_axes(
                    ((left + column * side) / COLUMN, bottom / height, (side - gap) / COLUMN, (side - gap) / height)
                )
                for column in range(4)
            ]
            for axis in axes:
                axis.set_axis_off()
                axis.imshow(one.image, cmap="gray", vmin=0, vmax=255)
            outline(axes[1], one.truth, GREEN)
            axes[2].imshow(one.anomaly_map, cmap="magma", vmin=low, vmax=high)
            _draw_prompts(axes[2], one)
            outline(axes[3], one.mask, ORANGE)
            middle = (bottom + (side - gap) / 2) / height
            figure.text((left - 0.05) / COLUMN, middle, plain(one.title), fontsize=6.5, ha="right", va="center")
            if row == 0:
                for axis, label in zip(axes, _COLUMNS, strict=True):
                    axis.set_title(label, fontsize=6.5, pad=1.5)
        return save(figure, folder, name)
    finally:
        plt.close(figure)


def outline(axis: Axes, mask: np.ndarray, colour: str, *, filled: bool = True) -> None:
    """Draws the edge of a mask, bool (S, S), on an image, and lightly fills it."""
    if mask.any():  # an edge of zeros, so that what touches the border is closed
        edged = np.pad(mask, 1)
        places = np.arange(-1, len(mask) + 1)
        if filled:
            axis.contourf(places, places, edged, levels=[0.5, 1.5], colors=[colour], alpha=0.35)
        axis.contour(places, places, edged, levels=[0.5], colors=[colour], linewidths=0.7)
        axis.set(xlim=(-0.5, len(mask) - 0.5), ylim=(len(mask) - 0.5, -0.5))


def _draw_prompts(axis: Axes, shown: Picture) -> None:
    for prompt in shown.prompts:
        if len(prompt) == 2:
            axis.plot(*prompt, "+", color=_PROMPT, markersize=5, markeredgewidth=1)
        else:
            x0, y0, x1, y1 = prompt
            axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=_PROMPT, linewidth=0.8))
    size = len(shown.image)
    axis.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
