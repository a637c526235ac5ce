"""A small, stratified part of a dataset, for a quick look."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ..api import Case, Dataset, Sample, Split, VolumeGrid


class Subset(Dataset):
    """At most `limit` cases of each split.

    Normal and anomalous cases keep their proportion, at least one of each stays, and patients are spread: the choice
    walks over the patients, taking one image of each in turn.

    Args:
        dataset: The whole.
        limit: Cases per split, 1 or more.

    Attributes:
        whole: The whole.
    """

    def __init__(self, dataset: Dataset, limit: int) -> None:
        self.whole = dataset
        self._limit = limit
        self.name = dataset.name
        self.card = dataset.card
        self.of_files = dataset.of_files
        self.guesses_patients = dataset.guesses_patients

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.whole.fingerprint} limit={self._limit}".encode()).hexdigest()

    def cases(self, split: Split) -> Sequence[Case]:
        cases = self.whole.cases(split)
        if len(cases) <= self._limit:
            return cases
        anomalous = [case for case in cases if case.label]
        normal = [case for case in cases if not case.label]
        count = round(self._limit * len(anomalous) / len(cases))
        if anomalous and normal:
            count = min(max(count, 1), max(self._limit - 1, 1))
        chosen = {id(case) for case in [*_spread(anomalous, count), *_spread(normal, self._limit - count)]}
        return [case for case in cases if id(case) in chosen]

    def load(self, case: Case) -> Sample:
        return self.whole.load(case)

    def foreground(self, case: Case) -> np.ndarray | None:
        return self.whole.foreground(case)

    def grid(self, volume: str) -> VolumeGrid | None:
        return self.whole.grid(volume)

    def notes(self) -> tuple[str, ...]:
        """Those on the whole."""
        return self.whole.notes()


def whole_of(dataset: Dataset) -> Dataset:
    """The dataset that a subset is of; any other one itself."""
    return dataset.whole if isinstance(dataset, Subset) else dataset


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    seen: dict[str, int] = {}
    turns = []
    for case in cases:
        turns.append(seen.get(case.patient, 0))
        seen[case.patient] = turns[-1] + 1
    order = sorted(range(len(cases)), key=lambda index: turns[index])
    return [cases[index] for index in order[:count]]
