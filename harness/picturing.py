"""The images behind a run's results, read again from where its datasets are."""

from ..results.store import RunStore
from . import registry
from .api import BenchError, Dataset, Sample
from .config import RunConfig, make_config
from .frame import MaskEdges, frame_image, frame_mask
from .subset import Subset


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


def framed_images(store: RunStore) -> tuple[dict[str, FramedImages], dict[str, str]]:
    """Opens the datasets of a run to look at them.

    Returns:
        The images of each dataset, by its name; and, by name too, why those of the others cannot be had.
    """
    record = store.read()
    config = make_config(record["config"], f"in {store.folder / 'run.json'}")
    opened, missing = {}, {}
    for name, then in record["datasets"].items():
        try:
            dataset = _open(config, name)
            if dataset.fingerprint != then["fingerprint"]:
                raise BenchError(f"it has changed since {store.name} ran")
            opened[name] = FramedImages(dataset, config.size, config.score.mask_edges)
        except BenchError as error:
            missing[name] = str(error)
    return opened, missing


def _open(config: RunConfig, name: str) -> Dataset:
    for spec in dict.fromkeys(config.dataset):
        dataset = registry.open_dataset(spec, config.data_root)
        if dataset.name == name:
            return Subset(dataset, config.limit) if config.limit else dataset
    raise BenchError("it cannot be found again")
