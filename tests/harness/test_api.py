"""What plugins are promised, beside the conformance suite."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miasbench.harness.api import Method, Prediction


@dataclass(kw_only=True)
class WrittenForVersion01(Method):
    """Says how far it is as plugins did before `report` was called `progress`, and hands it on."""

    inner: Method

    def fit(self, images: Sequence[np.ndarray]) -> None:
        self.inner.report = self.report
        self.report("fitting", 1, 2)

    def predict(self, image: np.ndarray) -> Prediction:
        return Prediction(image.astype(np.float32), 0.0)


def test_a_plugin_may_still_call_progress_by_its_old_name_report() -> None:
    told: list[tuple[str, int, int]] = []
    inner = WrittenForVersion01(inner=None)  # type: ignore[arg-type]
    method = WrittenForVersion01(inner=inner)
    method.progress = lambda *step: told.append(step)
    method.fit([])
    inner.progress("fitting inside", 0, 0)
    assert told == [("fitting", 1, 2), ("fitting inside", 0, 0)]
