"""The images behind a run's results, read again from where its datasets are."""

from collections.abc import Mapping

from ..results.store import RunStore
from .api import Dataset, Sample
from .config import make_config
from .frame import MaskEdges, frame_image, frame_mask
from .recorded import NOWHERE_ELSE, recorded_datasets


class FramedImages:
    """The test images of a dataset with their lesion masks, in a run's frame."""

    def __init__(self, dataset: Dataset, size: int, edges: MaskEdges) -> None:
        self._dataset = dataset
        self._cases = {case.id: case for case in dataset.cases("test")}
        self._size = size
        self._edges: MaskEdges = edges

    def __call__(self, case_id: str) -> Sample:
        """Reads a case: `image` is uint8 (S, S), `mask` bool (S, S).

        Raises:
            DataError: A file is missing or damaged.
        """
        image, mask = self._dataset.load(self._cases[case_id])
        return Sample(frame_image(image, self._size), frame_mask(mask, self._size, self._edges).overlap)


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
    config = make_config(store.read()["config"], f"in {store.folder / 'run.json'}")
    opened, missing = recorded_datasets(store, moved)
    images = {name: FramedImages(dataset, config.size, config.score.mask_edges) for name, dataset in opened.items()}
    return images, {name: str(error) for name, error in missing.items()}
