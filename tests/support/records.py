"""The least that a run's record holds."""

from typing import Any

RECORD: dict[str, Any] = {
    "status": "running",
    "created": "2026-01-01T00:00:00+0000",
    "config": {"methods": ["a"], "score": {"mask_edges": "nearest"}},
    "environment": {},
    "datasets": {},
    "cells": [],
}
