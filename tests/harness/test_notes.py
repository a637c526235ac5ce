"""What a run says of its datasets first, and keeps."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from miasbench.datasets.phantom import phantom_brain_mri
from miasbench.harness import registry
from miasbench.harness.api import Case, Dataset, Sample, Split
from miasbench.harness.planning import make_plan
from miasbench.harness.runner import execute
from miasbench.harness.subset import Subset

from .running import config


class Noted(Dataset):
    """A dataset with something to say."""

    def __init__(self) -> None:
        self.whole = phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64)
        self.name, self.card = "noted", self.whole.card

    @property
    def fingerprint(self) -> str:
        return self.whole.fingerprint

    def cases(self, split: Split) -> Sequence[Case]:
        return self.whole.cases(split)

    def load(self, case: Case) -> Sample:
        return self.whole.load(case)

    def notes(self) -> tuple[str, ...]:
        return ("2 files are passed over.",)


@pytest.mark.parametrize("limit", [0, 2])
def test_a_run_keeps_the_notes_of_its_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(registry, "open_dataset", lambda spec, root: Noted())
    plan = make_plan(config(tmp_path, "intensity", limit=limit))
    assert plan.notes == {"noted": ("2 files are passed over.",)}
    execute(plan)
    assert plan.store.read()["datasets"]["noted"]["notes"] == ["2 files are passed over."]


def test_a_part_of_a_dataset_has_the_notes_of_the_whole() -> None:
    assert Subset(Noted(), 2).notes() == Noted().notes()


def test_a_dataset_has_no_notes_unless_it_says_some() -> None:
    assert phantom_brain_mri(Path()).notes() == ()
