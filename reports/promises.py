"""What threshold policies promise of normal images, beside what came true on those of the test set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from rich.text import Text

from ..results.metrics import METRICS
from ..results.seeds import OverSeeds, over_seeds
from .fitting import Column, FittedTable
from .marks import label
from .names import policy_title
from .spread import deviation, interval

Verdict = Literal["kept", "missed", "open"]

NOTES: dict[Verdict, str] = {
    "missed": "missed: the whole interval lies above the promise. It was made of normal validation images, and the "
    "normal test images are unlike them, as after a change of hospital; or those that it was made of were few.",
    "kept": "kept: the whole interval lies at or below the promise.",
    "open": "open: the promise lies within the interval, or there is none: too few images to tell.",
}
PROMISE_DIGITS = 3


@dataclass(frozen=True)
class PromiseKept:
    """A promise of a policy, for one method on one dataset.

    Attributes:
        label: The method's name with its marks.
        metric: What is promised to be at most `promised`.
        realised: The same on the normal test images, over seeds.
        verdict: Whether it came true.
    """

    dataset: str
    method: str
    policy: str
    metric: str
    label: str
    promised: float
    realised: OverSeeds

    @property
    def verdict(self) -> Verdict:
        if self.realised.low > self.promised:
            return "missed"
        return "kept" if self.realised.high <= self.promised else "open"

    @property
    def text(self) -> str:
        """The rate with its interval and the verdict."""
        realised = self.realised
        ends = interval(realised.low, realised.high, PROMISE_DIGITS + 1, few=realised.few_patients)
        parts = [
            f"{realised.value:.{PROMISE_DIGITS}f}",
            deviation(realised.std, PROMISE_DIGITS),
            f"({ends})" if ends else "",
        ]
        return " ".join([*filter(None, parts), self.verdict])


def promises(scores: pd.DataFrame) -> list[PromiseKept]:
    """Every promise of the scores of a run or of several joined, in their order; none where nothing was measured."""
    made = scores[(scores["error"] == "") & scores["promised"].notna() & scores["value"].notna()]
    keys = ["dataset", "method", "policy", "metric"]
    return [
        PromiseKept(
            dataset, method, policy, metric, label(method, rows), float(rows["promised"].iloc[0]), over_seeds(rows)
        )
        for key, rows in made.groupby(keys, sort=False)
        for dataset, method, policy, metric in [map(str, key)]
    ]


def promise_table(dataset: str, short: str, promised: Sequence[PromiseKept]) -> FittedTable | None:
    """A row for each method, a column for each policy that promises something; `None` where none does.

    Args:
        dataset: Its name.
        short: As titles have it.
        promised: By `promises`.
    """
    made = [one for one in promised if one.dataset == dataset]
    if not made:
        return None
    columns = {one.policy: f"{policy_title(one.policy)} at most {one.promised:g}" for one in made}
    table = FittedTable(
        f"{short}: false positives in the foreground of normal test images, where a policy promises a rate",
        [Column("method", "label"), *map(Column, columns.values())],
        turned="policy",
    )
    by_cell = {(one.label, one.policy): one for one in made}
    for name in dict.fromkeys(one.label for one in made):
        cells = [by_cell.get((name, policy)) for policy in columns]
        table.add_row(name, *(_cell(one) for one in cells))
    return table


def promise_notes(promised: Sequence[PromiseKept]) -> Iterator[str]:
    """What the rates are of, and what the verdicts mean, in sentences."""
    for metric in dict.fromkeys(one.metric for one in promised):
        policies = ", ".join(dict.fromkeys(one.policy for one in promised if one.metric == metric))
        yield f"{policies}: {METRICS[metric].convention}."
    yield from (NOTES[verdict] for verdict in NOTES if any(one.verdict == verdict for one in promised))


def missed_sentences(promised: Sequence[PromiseKept]) -> Iterator[str]:
    """A sentence for each promise that does not hold on the test set."""
    for one in promised:
        if one.verdict == "missed":
            ends = interval(one.realised.low, one.realised.high, PROMISE_DIGITS + 1)
            yield (
                f"{one.policy} missed its promise with {one.label} on {one.dataset}: a {METRICS[one.metric].title} of "
                f"{one.promised:g} at most was promised, and it is {one.realised.value:.{PROMISE_DIGITS}f} ({ends}) on "
                "the normal test images."
            )


def _cell(one: PromiseKept | None) -> Text:
    if one is None:
        return Text("–")
    number, _, rest = one.text.partition(" ")
    text = Text(number)
    return text.append(f"\n{rest}", style="red" if one.verdict == "missed" else "dim")
