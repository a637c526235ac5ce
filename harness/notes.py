"""What the user of a dataset should know before a score is believed: a run says it first, and keeps it."""

from .api import SPLITS, Dataset
from .leaks import shared_patients_note
from .subset import Subset


def notes_on(dataset: Dataset) -> tuple[str, ...]:
    """The notes on a dataset: its own, and those on what is odd about its cases."""
    notes = [_counts(dataset), *dataset.notes(), shared_patients_note(dataset)]
    return tuple(filter(None, notes))


def _counts(dataset: Dataset) -> str:
    counts = {split: len(dataset.cases(split)) for split in SPLITS}
    expected = dataset.card.counts
    if not expected or counts == expected or isinstance(dataset, Subset):
        return ""
    return f"It has {counts} cases, but its card expects {expected}."
