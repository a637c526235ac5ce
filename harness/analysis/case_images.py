"""The images behind a run's results, read again from where its datasets are."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ...results.record import ScoreRecord
from ...results.store import RunStore
from ..api import Dataset
from ..data.foreground import foregrounds, rule_of
from ..data.frame import frame_image, frame_mask, image_rectangle
from .recorded import NOWHERE_ELSE, recorded_config, recorded_datasets


class Framed(NamedTuple):
    """A case in a run's frame: `image` is uint8 (S, S) or RGB (S, S, 3), `mask` and `scored` are bool (S, S).

    `mask` is where the lesion is, and `scored` where scores were computed: not in the padding, unless that counted.
    """

    image: np.ndarray
    mask: np.ndarray
    scored: np.ndarray


class FramedImages:
    """The test images of a dataset with their lesion masks, in a run's frame.

    Args:
        dataset: The dataset.
        size: Width and height of the frame.
        scoring: How the run was scored.

    Attributes:
        dataset: The dataset.
        cases: By their ids, in the order of the dataset.
        rule: How the foreground is found.
    """

    def __init__(self, dataset: Dataset, size: int, scoring: ScoreRecord) -> None:
        self.dataset = dataset
        self.cases = {case.id: case for case in dataset.cases("test")}
        self._size = size
        self._scoring = scoring
        self.rule = rule_of(dataset, scoring.foreground)

    def __call__(self, case_id: str) -> Framed:
        """Reads a case.

        Raises:
            DataError: A file is missing or damaged.
        """
        image, mask = self.dataset.load(self.cases[case_id])
        truth = frame_mask(mask, self._size, self._scoring.mask_edges).overlap
        scored = np.full(truth.shape, self._scoring.padding == "count")
        scored[image_rectangle(mask.shape, self._size)] = True
        return Framed(frame_image(image, self._size), truth & scored, scored)

    def foregrounds(self) -> dict[str, np.ndarray]:
        """The foreground of each case in the run's frame, bool (S, S), by its id; none where it is all of the image.

        Raises:
            BenchError: There is no such rule any more, or it cannot find the foreground.
        """
        found = foregrounds(self.dataset, "test", self.rule)
        if found is None:
            return {}
        return {
            case: frame_mask(foreground, self._size).overlap for case, foreground in zip(self.cases, found, strict=True)
        }


def framed_images(
    store: RunStore, moved: Mapping[str, str] = NOWHERE_ELSE
) -> tuple[dict[str, FramedImages], dict[str, str]]:
    """Opens the datasets of a run to look at them.

    Args:
        store: The run.
        moved: Where datasets are now, by name.

    Returns:
        The images of each dataset, by its name; and, by name too, why those of the others cannot be had.

    Raises:
        UsageError: A dataset in `moved` is not the one of the run.
    """
    scoring, size = store.read().config.score, recorded_config(store).size
    opened, missing = recorded_datasets(store, moved)
    images = {name: FramedImages(dataset, size, scoring) for name, dataset in opened.items()}
    return images, {name: str(error) for name, error in missing.items()}
