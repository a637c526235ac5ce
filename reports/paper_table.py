"""A table of a paper, as data; `latex.py` and `markdown.py` render it."""

from dataclasses import dataclass
from math import nan

import pandas as pd

from ..results.metrics import METRICS, Direction, Metric
from .spread import deviation, interval


@dataclass(frozen=True)
class PaperCell:
    """A number: its mean over seeds with their standard deviation, where there are several, and its 95 % interval."""

    value: float
    std: float = nan
    low: float = nan
    high: float = nan
    few: bool = False  # patients
    mark: str = ""  # best, second or nothing
    tied: bool = False  # with the best, by the statistics
    verdict: str = ""  # whether a promise came true: kept, missed or open

    def beside(self, digits: int) -> tuple[str, str, str]:
        """What stands beside the number: `± 0.071`, `0.33–0.52` and the verdict, or nothing of each."""
        return deviation(self.std, digits), interval(self.low, self.high, digits, few=self.few), self.verdict


@dataclass(frozen=True)
class PaperColumn:
    """One column of a table. Where neither a higher nor a lower value is better, methods are not ranked by it."""

    title: str
    digits: int = METRICS["dice"].digits
    better: Direction = METRICS["dice"].direction
    oracle: bool = False

    @classmethod
    def of(cls, metric: Metric) -> "PaperColumn":
        """The column of a metric."""
        return cls(metric.title, metric.digits, metric.direction)


@dataclass(frozen=True)
class PaperRow:
    """One row; `kind` is `method`, `apart` (which has seen more, or lacks cases), `oracle` or `published`."""

    label: str
    kind: str
    cells: tuple[PaperCell | None, ...]


@dataclass(frozen=True)
class PaperTable:
    """A table; `name` is its file's, `notes` stand below it."""

    name: str
    caption: str
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...]


def tidy(table: PaperTable) -> pd.DataFrame:
    """A paper's table with a row for each number."""
    return pd.DataFrame(
        [
            {
                "row": row.label,
                "kind": "oracle" if column.oracle else row.kind,
                "column": column.title,
                "value": cell.value,
                "std": cell.std,
                "ci_low": cell.low,
                "ci_high": cell.high,
                "mark": cell.mark,
                "tied_with_best": cell.tied,
                "verdict": cell.verdict,
            }
            for row in table.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
            if cell
        ]
    )
