"""Any anomalib model that makes a pixel map, as a method.

`miasbench.methods.anomalib:NAME` is a preset of `methods/cards.yaml` such as `padim`, or the name of one of anomalib's
model classes such as `Padim`, which then has anomalib's own defaults.
"""

from .adapter import AnomalibMethod as _AnomalibMethod
from .adapter import method_class_of as _method_class_of


# Whatever else had a name here, such as the class that all are made from, would be taken for a model's.
def __getattr__(name: str) -> type[_AnomalibMethod]:
    if name.startswith("_"):  # what Python itself asks a module for
        raise AttributeError(name)
    return _method_class_of(name)
