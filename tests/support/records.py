"""The least that a run's record holds, and a way to change what a record says."""

from collections.abc import Callable
from typing import Any

from miasbench.results.record import RunRecord
from miasbench.results.store import RunStore

RECORD: dict[str, Any] = {
    "status": "running",
    "created": "2026-01-01T00:00:00+0000",
    "config": {"methods": ["a"], "score": {"mask_edges": "nearest"}},
    "environment": {},
    "datasets": {},
    "cells": [],
}


def record(**changes: Any) -> RunRecord:
    """The least record, with other entries."""
    return RunRecord.model_validate(RECORD | changes)


def rewrite(store: RunStore, change: Callable[[dict[str, Any]], object]) -> None:
    """Writes a run's record again, sealed, after a change to what it holds."""
    content = store.read().content()
    change(content)
    store.write(RunRecord.model_validate(content))
