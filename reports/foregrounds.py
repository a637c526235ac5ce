"""What counts as the body: the foregrounds of some test images, drawn for a person to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..results.files import slug
from .galleries import GREEN, ORANGE, outline
from .style import COLUMN, panels, plain, save

SHOWN = 8
_COLUMNS = 4
_LETTERS = 20  # of a case's name
_SIDE = COLUMN / _COLUMNS + 0.15  # inches, with the title of a panel


@dataclass(frozen=True)
class Foreground:
    """A test image with its foreground, in the run's frame.

    Attributes:
        case: The image's name within the dataset.
        image: uint8 (S, S).
        truth: Where the lesion is, bool (S, S).
        foreground: bool (S, S).
    """

    case: str
    image: np.ndarray
    truth: np.ndarray
    foreground: np.ndarray


def spread(shares: Sequence[float]) -> list[int]:
    """Which images to look at: from the smallest share of foreground to the largest, evenly by rank.

    Args:
        shares: The share of each image that is foreground.

    Returns:
        Indices of at most `SHOWN` of them; where a rule fails, it is mostly at the ends.
    """
    order = np.argsort(shares, kind="stable")
    places = np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)
    return order[places].tolist()


def foreground_figure(dataset: str, title: str, shown: Sequence[Foreground], folder: Path) -> list[Path]:
    """Draws the outline of foregrounds in orange, and lesions in green.

    Args:
        dataset: For the files' names, `foreground-<dataset>.pdf` and `.png`.
        title: Of the figure.
        shown: The images, at least one.
        folder: Where the files go.
    """
    rows = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, len(shown))
    size = {"height": _SIDE * rows + 0.25, "width": max(COLUMN * columns / _COLUMNS, 2)}
    with panels(rows, columns, titles=[""] * len(shown), **size) as (figure, axes):
        for axis, one in zip(axes, shown, strict=True):
            axis.set_axis_off()
            axis.set_title(plain(f"{one.case[-_LETTERS:]}\n{one.foreground.mean():.0%} foreground"), fontsize=5)
            axis.imshow(one.image, cmap="gray", vmin=0, vmax=255)
            outline(axis, one.truth, GREEN)
            outline(axis, one.foreground, ORANGE, filled=False)
        figure.suptitle(plain(title), fontsize=7)
        return save(figure, folder, f"foreground-{slug(dataset)}")
