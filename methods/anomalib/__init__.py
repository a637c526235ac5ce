"""Any anomalib model that makes a pixel map, as a method.

`miasbench.methods.anomalib:NAME` is a preset of `methods/cards.yaml` such as `padim`, or the name of one of anomalib's
model classes such as `Padim`, which then has anomalib's own defaults.
"""

from typing import Any

from .adapter import AnomalibMethod, method_class_of

__all__ = ["AnomalibMethod"]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):  # what Python itself asks a module for
        raise AttributeError(name)
    return method_class_of(name)
