"""miasbench: a benchmark harness for medical image anomaly segmentation.

Everything here is loaded when it is first used, so that `import miasbench` takes no time and loads no torch.
docs/python-api.md walks through it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miasbench.harness.api import (
        BenchError,
        Case,
        DataError,
        Dataset,
        Method,
        Prediction,
        Sample,
        ThresholdPolicy,
        UsageError,
        WeightsError,
    )
    from miasbench.harness.conformance.datasets import check_dataset
    from miasbench.harness.conformance.methods import check_method
    from miasbench.harness.conformance.policies import check_policy
    from miasbench.harness.data.frame import frame_image
    from miasbench.harness.front.importing import import_predictions
    from miasbench.harness.front.methods import make_method
    from miasbench.harness.front.runs import CasePrediction, Run, open_run, run
    from miasbench.harness.front.scores import score

_HOMES = {
    "harness.api": (
        "BenchError",
        "Case",
        "DataError",
        "Dataset",
        "Method",
        "Prediction",
        "Sample",
        "ThresholdPolicy",
        "UsageError",
        "WeightsError",
    ),
    "harness.conformance.datasets": ("check_dataset",),
    "harness.conformance.methods": ("check_method",),
    "harness.conformance.policies": ("check_policy",),
    "harness.data.frame": ("frame_image",),
    "harness.front.importing": ("import_predictions",),
    "harness.front.methods": ("make_method",),
    "harness.front.runs": ("CasePrediction", "Run", "open_run", "run"),
    "harness.front.scores": ("score",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BenchError",
    "Case",
    "CasePrediction",
    "DataError",
    "Dataset",
    "Method",
    "Prediction",
    "Run",
    "Sample",
    "ThresholdPolicy",
    "UsageError",
    "WeightsError",
    "check_dataset",
    "check_method",
    "check_policy",
    "frame_image",
    "import_predictions",
    "make_method",
    "open_run",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
