"""Whether the network may be used, and what libraries are told of it before they are imported."""

import os

OFFLINE = "MIASBENCH_OFFLINE"
SILENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""What turns off the reports that libraries send to their makers."""
_AT_HOME = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline"}


def is_offline() -> bool:
    """Whether the network is not to be used, by `$MIASBENCH_OFFLINE`."""
    return os.environ.get(OFFLINE, "0") not in ("", "0")


def tell_libraries() -> None:
    """Has libraries report nothing to anybody and, offline, look nothing up; what the user has set stays.

    It is called before they are imported: they look at these variables once.
    """
    for name, value in (SILENT | (_AT_HOME if is_offline() else {})).items():
        os.environ.setdefault(name, value)
