from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miasbench.harness.api import Card, Case, Dataset, Sample, Split
from miasbench.harness.data.subset import Subset


class Listed(Dataset):
    """A dataset of nothing but its cases."""

    name = "listed"
    card = Card("listed", "Listed", "none", "nowhere", "CC0-1.0", "nobody")

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = list(cases)

    @property
    def fingerprint(self) -> str:
        return "abc123"

    def cases(self, split: Split) -> Sequence[Case]:
        return [case for case in self._cases if case.split == split]

    def load(self, case: Case) -> Sample:
        return Sample(np.full((2, 2), int(case.id), np.uint8), np.zeros((2, 2), bool))


def listed(labels: Sequence[int], patients: Sequence[str] | None = None, split: Split = "test") -> Listed:
    patients = patients or [str(number) for number in range(len(labels))]
    return Listed(
        [
            Case(str(number), patient, split, label, f"{number}.png")
            for number, (label, patient) in enumerate(zip(labels, patients, strict=True))
        ]
    )


labels_and_patients = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcd")), max_size=40)


@given(content=labels_and_patients, limit=st.integers(1, 45))
@settings(max_examples=150)
def test_keeps_the_limit_the_proportion_and_both_classes(content: list[tuple[int, str]], limit: int) -> None:
    dataset = listed([label for label, _ in content], [patient for _, patient in content])
    whole, chosen = dataset.cases("test"), Subset(dataset, limit).cases("test")
    assert len(chosen) == min(limit, len(whole))
    assert list(chosen) == [case for case in whole if case in chosen], "in the order of the whole"
    if not whole:
        return
    anomalous = sum(case.label for case in whole)
    kept = sum(case.label for case in chosen)
    both = 0 < anomalous < len(whole)
    assert abs(kept - len(chosen) * anomalous / len(whole)) <= (1 if both else 0)
    if both and limit >= 2:
        assert {case.label for case in chosen} == {0, 1}


@given(content=labels_and_patients, limit=st.integers(1, 20))
@settings(max_examples=100)
def test_patients_are_spread(content: list[tuple[int, str]], limit: int) -> None:
    dataset = listed([label for label, _ in content], [patient for _, patient in content])
    chosen = Subset(dataset, limit).cases("test")
    for label in (0, 1):
        had = Counter(case.patient for case in dataset.cases("test") if case.label == label)
        got = Counter(case.patient for case in chosen if case.label == label)
        for patient, count in got.items():
            for other, available in had.items():
                assert got[other] >= min(available, count - 1), f"{patient} was taken before {other} had its turn"


def test_one_case_of_each_class_in_an_extreme_mixture() -> None:
    chosen = Subset(listed([1, *[0] * 99]), 5).cases("test")
    assert [case.label for case in chosen].count(1) == 1
    chosen = Subset(listed([0, *[1] * 99]), 5).cases("test")
    assert [case.label for case in chosen].count(0) == 1


def test_each_split_has_the_limit_of_its_own() -> None:
    cases = [*listed([0] * 9, split="train").cases("train"), *listed([0, 1] * 2, split="valid").cases("valid")]
    subset = Subset(Listed(cases), 3)
    assert [len(subset.cases(split)) for split in ("train", "valid", "test")] == [3, 3, 0]


def test_choice_does_not_change_from_call_to_call() -> None:
    subset = Subset(listed([0, 1] * 20), 7)
    assert subset.cases("test") == subset.cases("test")


def test_fingerprint_tells_limits_and_the_whole_apart() -> None:
    whole = listed([0, 1] * 5)
    prints = [whole.fingerprint, Subset(whole, 3).fingerprint, Subset(whole, 4).fingerprint]
    assert len(set(prints)) == 3
    assert Subset(whole, 3).fingerprint == prints[1]
    assert set(prints[1]) <= set("0123456789abcdef")


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_reads_from_the_whole(limit: int) -> None:
    whole = listed([0, 1] * 3)
    subset = Subset(whole, limit)
    assert (subset.name, subset.card) == (whole.name, whole.card)
    for case in subset.cases("test"):
        assert (subset.load(case).image == int(case.id)).all()
