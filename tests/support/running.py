"""Small runs, and what tests of runs compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from upath import UPath

from miasbench.harness.api import Case, Dataset, Sample, Split
from miasbench.harness.config import RunConfig
from miasbench.harness.running.cells import Outcome
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import Executor, execute, inline
from miasbench.results.store import RunStore

TINY = "phantom_brain_mri:train=3,valid=4,test=6,size=64"
TINY_RUN = ("run", "--methods", "intensity", "--dataset", "phantom_brain_mri:train=2,valid=2,test=4,size=64")
TINY_RUN += ("--size", "64")
"""A command of which every test may have a run of its own: half a second."""
COSTS = ("fit_seconds", "predict_ms", "calibration_ms", "peak_memory_mib", "peak_gpu_memory_mib")


class Wrapped(Dataset):
    """All of another dataset, for tests that change a part of it."""

    def __init__(self, whole: Dataset) -> None:
        self.name, self.card = whole.name, whole.card
        self.whole = whole

    @property
    def fingerprint(self) -> str:
        return self.whole.fingerprint

    def cases(self, split: Split) -> Sequence[Case]:
        return self.whole.cases(split)

    def load(self, case: Case) -> Sample:
        return self.whole.load(case)


def config(results: Path | UPath | str, *methods: str, **options: Any) -> RunConfig:
    values: dict[str, Any] = {
        "methods": list(methods) or ["scripted"],
        "dataset": [TINY],
        "weights": "embedded",
        "size": 64,
        "results": results,
        "device": "cpu",
    }
    return RunConfig.model_validate(values | options)


def run(
    results: Path | UPath | str, *methods: str, force: bool = False, executor: Executor = inline, **options: Any
) -> tuple[RunStore, list[Outcome]]:
    plan = make_plan(config(results, *methods, **options))
    return plan.store, execute(plan, force=force, executor=executor)


def without_costs(store: RunStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores = store.scores()
    return store.cases().drop(columns="predict_ms"), scores[~scores["metric"].isin(COSTS)].reset_index(drop=True)


def assert_equal_runs(one: RunStore, other: RunStore) -> None:
    for mine, theirs in zip(without_costs(one), without_costs(other), strict=True):
        pd.testing.assert_frame_equal(mine, theirs)


def predictions(store: RunStore) -> dict[str, int]:
    return {
        str(path.relative_to(store.folder)): path.stat().st_mtime_ns for path in store.folder.glob("cells/*/*/*.npz")
    }
