"""Dealing patients out to the splits: what is of one patient stays together."""

import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, count

from ..harness.api import SPLITS, DataError, Split, UsageError
from .patterns import search

PATIENT = r"^(sub-[^_]+|BraTS-[A-Za-z]+-\d+(?=-\d+(?:_|$))|.+)"
"""A patient is what BIDS names one, `sub-<label>`, or what BraTS does since 2023, `BraTS-GLI-00001` before the visit's
number; elsewhere each volume is of a patient of its own."""

SHARES = (0.6, 0.1, 0.3)
"""The shares of train, valid and test, unless the user has others."""

TEST_ONLY = (0.0, 0.0, 1.0)
"""The shares that put all patients into the test split."""


@dataclass(frozen=True)
class SplitRule:
    """The rule that puts patients into splits.

    Attributes:
        patient: A regular expression with one group, searched in a volume's name without its ending.
        seed: The seed of the draw.
        shares: The shares of the patients for train, valid and test; they sum to 1. Some train, or all
            of them are for the test (`TEST_ONLY`).

    Raises:
        UsageError: The pattern has not one group, or the shares leave no patient to train or to test.
    """

    patient: str = PATIENT
    seed: int = 0
    shares: tuple[float, float, float] = SHARES

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.patient).groups
        except re.error as error:
            raise UsageError(f"The patient pattern {self.patient!r} is not a regular expression: {error}.") from error
        if groups != 1:
            raise UsageError(
                f"The patient pattern {self.patient!r} has {groups} groups, and should have one, which is the patient, "
                r"as in '^(p\d+)_'. A group (?:…) does not count."
            )
        train, valid, test = self.shares
        some = train > 0 and valid >= 0 and test > 0 and math.isclose(train + valid + test, 1, abs_tol=1e-6)
        if not some and self.shares != TEST_ONLY:
            raise UsageError(
                f"The shares {train:g} {valid:g} {test:g} should sum to 1, and those of train and test be above 0."
            )

    def patient_of(self, name: str) -> str:
        """The patient of a volume.

        Raises:
            DataError: The pattern does not fit the name.
        """
        match = search(re.compile(self.patient), name)
        if match is None or not match.group(1):
            raise DataError(f"The patient pattern {self.patient!r} finds no patient in the volume's name {name!r}.")
        return match.group(1)

    def deal(self, patients: Iterable[str]) -> dict[str, Split]:
        """The split of each patient; the same for the same patients and seed.

        Raises:
            DataError: Train or test gets no patient.
        """
        names = sorted(set(patients))
        sizes = self._sizes(len(names))
        drawn = iter(random.Random(self.seed).sample(names, len(names)))
        dealt: dict[str, Split] = {next(drawn): split for split in SPLITS for _ in range(sizes[split])}
        for split in ("train", "test"):
            if not sizes[split] and self.shares != TEST_ONLY:
                raise DataError(
                    f"Of {len(names)} patients none is left for the {split} split: with these shares it takes "
                    f"{self.patients_needed(split, len(names))}."
                )
        return dealt

    def patients_needed(self, split: Split, more_than: int) -> int | None:
        """The least number of patients, above one, that leaves any for a split; `None` where its share is 0."""
        if not self.shares[SPLITS.index(split)]:
            return None
        return next(number for number in count(more_than + 1) if self._sizes(number)[split])

    def _sizes(self, patients: int) -> dict[Split, int]:
        train, trained = (round(share * patients) for share in list(accumulate(self.shares))[:2])
        return {"train": train, "valid": trained - train, "test": patients - trained}
