"""How all figures of a report look: as wide as a column of a paper, and each method in one colour everywhere."""

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # figures are written to files; a display may be missing

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..results.files import write_file
from .fonts import drawable, set_fonts
from .names import broken_lines

COLUMN = 3.4  # inches, the width of a column of a paper
_LABEL = 36  # letters beside an axis, before a name is broken
_KEY = 22  # letters in a legend
_TITLE_LETTER = 0.09  # inches, as the two below
_HEADING_LETTER = 0.065  # likewise
_LINE = 0.125
_LEGEND_ROW = 0.13
_MARKERS = "osD^vP*X<>hp"
_DASHES = ("-", "--", ":", "-.")
_FONTS: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "axes.titlepad": 3,
    "axes.labelpad": 2,
    "pdf.fonttype": 42,  # letters stay letters, which journals ask for
}


@dataclass(frozen=True)
class Look:
    """A method's colour, marker and line; where colours run out, the others tell methods apart."""

    colour: tuple[float, float, float]
    marker: str
    dash: Any


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """Gives each method its look; made once for all figures of a report."""
    colours: Any = sns.color_palette("colorblind")
    return {
        method: Look(
            colours[index % len(colours)],
            _MARKERS[index % len(_MARKERS)],
            _DASHES[index // len(colours) % len(_DASHES)],
        )
        for index, method in enumerate(methods)
    }


@contextmanager
def panels(
    rows: int, columns: int, height: float, titles: Sequence[str], *, width: float = COLUMN, **share: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with its panels, as many as there are titles.

    Args:
        rows: How many rows of panels.
        columns: How many columns of panels.
        height: The figure's height, in inches, where titles have one line.
        titles: The panels' titles, which may be empty.
        width: The figure's width, in inches.
        share: Further arguments of `matplotlib.pyplot.subplots`.
    """
    titles = [broken(title, int(width / columns / _TITLE_LETTER)) for title in titles]
    more = [title.count("\n") for title in titles]
    height += _LINE * sum(max(more[first : first + columns]) for first in range(0, len(more), columns))
    with sns.axes_style("whitegrid"), plt.rc_context(_FONTS):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **share
        )
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03)  # type: ignore[union-attr]
        flat = list(axes.flat)
        for axis, title in zip(flat, titles, strict=False):
            axis.set_title(title)
        for axis in flat[len(titles) :]:
            axis.remove()
        for axis in flat[: len(titles)][-columns:]:
            axis.tick_params(labelbottom=True)  # also above a place that is empty now
        try:
            yield figure, flat[: len(titles)]
        finally:
            plt.close(figure)


def put_heading(figure: Figure, text: str) -> None:
    """Puts a title above all panels, in as many lines as it needs."""
    lines = textwrap.wrap(text, int(figure.get_figwidth() / _HEADING_LETTER))
    figure.suptitle("\n".join(map(plain, lines)), fontsize=8)


def plain(text: str) -> str:
    """Makes any text stand in a figure as it is: a dollar would begin a formula, and fonts lack some letters."""
    return drawable(text).replace("$", r"\$")


def broken(method: str, length: int = _KEY) -> str:
    """Breaks a name of more letters into lines, as `broken_lines`, which stand in a figure as they are."""
    return "\n".join(plain(line) for line in broken_lines(method, length))


def listed_height(methods: Iterable[str], count: int) -> float:
    """The height of a panel where so many of the methods stand below each other, in inches."""
    lines = max((broken(method, _LABEL).count("\n") + 1 for method in methods), default=1)
    return max(0.5, _LINE * (0.25 + 0.75 * lines) * count) + 0.3


def legend_height(methods: Sequence[str], width: float = COLUMN) -> float:
    """The height of a legend of methods below a figure of this width, in inches."""
    lines = [broken(method).count("\n") + 1 for method in methods]
    down = -(-len(methods) // _legend_columns(methods, width))  # it is filled column by column
    return _LEGEND_ROW * max(
        (sum(lines[first : first + down]) for first in range(0, len(lines), max(down, 1))), default=0
    )


def legend(
    figure: Figure, known: dict[str, Look], methods: Sequence[str], *, lines: bool, more: Sequence[Artist] = ()
) -> None:
    """Names the methods below a figure, by their lines or by their markers, and whatever more there is."""
    handles: list[Any] = [
        Line2D([], [], color=look.colour, linestyle=look.dash, label=broken(method))
        if lines
        else Line2D([], [], color=look.colour, marker=look.marker, markersize=4, linestyle="", label=broken(method))
        for method in methods
        for look in [known[method]]
    ]
    put_legend(figure, [*handles, *more], methods, handle_length=2.2 if lines else 1)


def put_legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], *, handle_length: float = 2.2) -> None:
    """Puts a legend below a figure, in as many columns as these names leave room for."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=_legend_columns(names, figure.get_figwidth()),
        frameon=False,
        fontsize=6.5,
        handlelength=handle_length,
        columnspacing=1,
        labelspacing=0.2,
        borderpad=0,
    )


def label_methods(axis: Axes, methods: Sequence[str]) -> None:
    """Puts methods along the vertical axis, the first at the top."""
    axis.set_yticks(
        np.arange(len(methods)), [broken(method, _LABEL) for method in methods], fontsize=6.5, linespacing=0.9
    )
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")


def from_zero(values: Any) -> tuple[float, float]:
    """The limits of an axis that begins at zero and ends above the highest of some values, NaN left out."""
    top = np.nanmax(values, initial=0)
    return 0, 1.08 * top if top else 1


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes a figure as PDF and as PNG, and returns both."""
    set_fonts(figure)
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    # Without a date the same figure is the same file.
    kinds: tuple[dict[str, Any], ...] = ({"metadata": {"CreationDate": None}}, {"dpi": 300})
    for path, options in zip(paths, kinds, strict=True):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix[1:], **options)
        write_file(path, drawn.getvalue())
    return paths


def _legend_columns(methods: Sequence[str], width: float) -> int:
    """As many as the longest line has room for: at this size a letter takes about 0.05 inches."""
    longest = max((len(line) for method in methods for line in broken(method).splitlines()), default=1)
    return max(1, min(int(3 * width / COLUMN), int(width / (0.05 * longest + 0.35))))
