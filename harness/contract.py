"""What of the contract can be told from one class, one prediction or one list of diagnostics.

Each function returns how the contract is broken, as the end of a sentence, or an empty text where it is kept.
"""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .api import (
    CalibratedPolicy,
    Diagnostic,
    ForegroundPolicy,
    ImagePolicy,
    Method,
    NormalsPolicy,
    OraclePolicy,
    Prediction,
    ValidationPolicy,
)


def method_problem(method: Any) -> str:
    """Whether it is a complete class of methods; an object of it is not made."""
    if not inspect.isclass(method) or not issubclass(method, Method):
        return "it is not a subclass of miasbench.harness.api.Method."
    missing = sorted(method.__abstractmethods__)
    if missing:
        return f"it does not define {', '.join(missing)}."
    for name in ("fit", "predict", "predict_many"):
        signature = inspect.signature(getattr(method, name))
        try:
            signature.bind(None, None)
        except TypeError:
            return f"{name}{signature} should take self and one argument."
    if not isinstance(method.colour, bool):
        return f"its attribute `colour` is {method.colour!r}; it should be True or False: whether it takes RGB images."
    return ""


def policy_problem(name: str, policy: Any) -> str:
    """Whether it is a complete class of threshold policies, called as its plugin is; an object of it is not made."""
    kinds = (NormalsPolicy, ForegroundPolicy, ValidationPolicy, ImagePolicy, CalibratedPolicy, OraclePolicy)
    if not inspect.isclass(policy) or not issubclass(policy, kinds):
        return f"it is not a subclass of {', '.join(kind.__name__ for kind in kinds)} of miasbench.harness.api."
    if policy.__abstractmethods__:
        return f"it does not define {', '.join(sorted(policy.__abstractmethods__))}."
    if getattr(policy, "name", None) != name:
        return f"its attribute `name` should be {name!r}, as the plugin is called."
    called = "calibrate" if issubclass(policy, CalibratedPolicy) else "threshold"
    signature = inspect.signature(getattr(policy, called))
    try:
        signature.bind(None, None)
    except TypeError:
        return f"{called}{signature} should take self and one argument."
    try:
        inspect.signature(policy).bind()
    except TypeError:
        return "its fields need defaults: it is made without arguments."
    return ""


def prediction_problem(prediction: Prediction, size: int) -> str:
    """Whether a prediction can be kept and scored.

    Args:
        prediction: Its map may be of any type that becomes float32.
        size: Width and height of the image.
    """
    shape = (size, size)
    anomaly_map = np.asarray(prediction.anomaly_map, dtype=np.float32)
    if anomaly_map.shape != shape:
        return f"the anomaly map is {anomaly_map.shape}, the image {shape}."
    if not np.isfinite(anomaly_map).all() or not np.isfinite(prediction.image_score):
        return "the anomaly map or the image score holds NaN or infinity."
    mask = prediction.mask
    if mask is not None and (mask.shape != shape or mask.dtype != bool):
        return f"the mask is {mask.dtype} {mask.shape}, it should be bool {shape}."
    if any(len(prompt) not in (2, 4) or not np.isfinite(prompt).all() for prompt in prediction.prompts):
        return "a prompt is neither a point (x, y) nor a box (x0, y0, x1, y1)."
    return ""


def diagnostics_problem(diagnostics: Sequence[Diagnostic], metrics: Iterable[str]) -> str:
    """Whether each diagnostic has a name of its own.

    Args:
        diagnostics: The diagnostics of one method.
        metrics: The names of the harness's metrics.
    """
    taken = {*metrics, "none"}  # `none` is the metric of a failed cell
    for diagnostic in diagnostics:
        if diagnostic.metric in taken:
            return (
                f"reports a diagnostic {diagnostic.metric!r}, but a metric of the harness or another diagnostic has "
                "that name. Give it one of its own."
            )
        taken.add(diagnostic.metric)
    return ""
