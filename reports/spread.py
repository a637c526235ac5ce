"""How far a number holds, as text: one rule for the terminal, LaTeX, Markdown, the page and the figures.

± is the standard deviation over seeds, where there are several. A range is the 95 % interval over patients and, where
there are several, over seeds together; a mark beside it says that there were few patients.
"""

from collections.abc import Iterator
from math import isfinite

import pandas as pd

from ..results.tables import FEW_PATIENTS

FEW = "‡"
DEVIATION_NOTE = "±: standard deviation over seeds."
INTERVAL_NOTE = "Ranges: 95 % intervals over patients, and over seeds where there are several."
FEW_NOTE = (
    f"{FEW}: an interval over fewer than {FEW_PATIENTS} patients, which contains the true mean less often than 95 %."
)


def deviation(std: float, digits: int) -> str:
    """Makes `± 0.071`, or nothing of NaN."""
    return f"± {std:.{digits}f}" if isfinite(std) else ""


def interval(low: float, high: float, digits: int, *, few: bool = False) -> str:
    """Makes `0.33–0.52` or `0.33–0.52‡`, with a digit less than the number itself, or nothing of NaN.

    Args:
        low: Its lower end.
        high: Its upper end.
        digits: Decimals of the number that it belongs to.
        few: Whether it is over few patients.
    """
    if not (isfinite(low) and isfinite(high)):
        return ""
    coarse = max(digits - 1, 0)
    return f"{low:.{coarse}f}–{high:.{coarse}f}{FEW if few else ''}"


def spread_notes(scores: pd.DataFrame) -> Iterator[str]:
    """Says what stands beside the numbers of these scores."""
    if len(scores["seed"].unique()) > 1:
        yield DEVIATION_NOTE
    if scores["ci_low"].notna().any():
        yield INTERVAL_NOTE
    if (scores["ci_low"].notna() & (scores["patients"] < FEW_PATIENTS)).any():
        yield FEW_NOTE
