"""What plugins are promised, beside the conformance suite."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from miasbench.harness.api import LazySequence, Method, Prediction, as_grey


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


def test_a_lazy_sequence_reads_only_what_is_asked_for() -> None:
    read = []
    items = LazySequence(5, lambda position: read.append(position) or 10 * position)
    some = items[1:4][::-1]
    assert (len(items), len(some), read) == (5, 3, [])
    assert (some[0], some[-1], items[-1], list(items[3:])) == (30, 10, 40, [30, 40])
    assert read == [3, 1, 4, 3, 4]
    assert list(items) == [0, 10, 20, 30, 40]
    for outside in (5, -6):
        with pytest.raises(IndexError):
            items[outside]


def test_grey_is_the_luma_that_pillow_makes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3)).astype(np.uint8)
    grey = as_grey(image)
    assert grey.dtype == np.uint8
    np.testing.assert_array_equal(grey, np.asarray(Image.fromarray(image).convert("L")))
    assert as_grey(grey) is grey
