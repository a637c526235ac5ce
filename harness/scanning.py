"""The first pass over a split's stored predictions: all that needs no threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..results.store import StoredPrediction
from .api import BenchError, Case, Dataset, LabelledMaps, Split
from .frame import MaskEdges, Truth, frame_mask
from .masks import Lesions
from .metrics import DiceCurve, DiceTally, PixelRanking, PixelTally, rank_pixels


class ScoringError(BenchError):
    """A stored prediction that cannot be scored; the text names the case."""


@dataclass(frozen=True)
class SplitTruths:
    """The cases of a split with their lesion masks in the run's frame.

    `has_masks` is false where anomalous images have a label only; then the masks are empty, and mean nothing.
    """

    cases: Sequence[Case]
    masks: Sequence[Truth]
    lesions: Sequence[Lesions]
    has_masks: bool = True

    @property
    def patients(self) -> list[str]:
        return [case.patient for case in self.cases]

    @property
    def labels(self) -> np.ndarray:
        return np.array([case.label for case in self.cases], int)


Truths = Mapping[Split, SplitTruths]


def load_truths(dataset: Dataset, splits: Sequence[Split], size: int, edges: MaskEdges) -> Truths:
    """Reads every lesion mask of the given splits."""
    truths = {}
    for split in splits:
        cases = dataset.cases(split)
        masks = [frame_mask(dataset.load(case).mask, size, edges) for case in cases]
        for mask in masks:  # they are handed to policies of others, and are those of every cell
            mask.overlap.flags.writeable = mask.ranking.flags.writeable = False
        lesions = [Lesions(mask.overlap) for mask in masks]
        truths[split] = SplitTruths(cases, masks, lesions, dataset.card.annotation == "mask")
    return truths


@dataclass(frozen=True)
class Scanned(LabelledMaps):
    """What the pass over a split leaves.

    Attributes:
        cases: In their order.
        ranking: All pixels of all images, ranked together.
        dice: Mean DICE over the images with a lesion.
        images: What each image's map is worth by itself: `pixel_auroc`, `pixel_ap`, `aupro` and `best_dice`, NaN for a
            normal image.
        own_masks: Whether the method has made a mask of every image.
    """

    maps: Sequence[np.ndarray]
    truths: Sequence[np.ndarray]
    cases: Sequence[Case]
    ranking: PixelRanking
    dice: DiceCurve
    images: list[dict[str, float]]
    own_masks: bool

    def best_dice(self) -> tuple[float, float]:
        return self.dice.best()

    def dice_at(self, thresholds: np.ndarray) -> np.ndarray:
        return self.dice.at(thresholds)

    def pixel_counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.ranking.thresholds, self.ranking.true_positives, self.ranking.false_positives


def scan(truths: SplitTruths, stored: Sequence[StoredPrediction], limit: int | None) -> Scanned:
    """Passes over a split.

    Args:
        truths: Cases and masks.
        stored: Predictions of the same cases, in the same order.
        limit: How many different map values are told apart; `None` for all of them.

    Raises:
        ScoringError: A map holds NaN or infinity.
    """
    pixels, dice, images, own = PixelTally(limit), DiceTally(limit), [], 0
    for index, (case, truth) in enumerate(zip(truths.cases, truths.masks, strict=True)):
        prediction = stored[index].prediction
        try:
            pixels.add(prediction.anomaly_map, truth.ranking)
        except ValueError as error:
            raise ScoringError(f"The stored prediction of the case {case.id} ({case.split}): {error}.") from error
        dice.add(prediction.anomaly_map, truth.overlap)
        images.append(_of_image(prediction.anomaly_map, truth))
        own += prediction.mask is not None
    overlaps = [truth.overlap for truth in truths.masks]
    own_masks = bool(own) and own == len(images)
    return Scanned(Maps(stored), overlaps, truths.cases, pixels.ranking(), dice.curve(), images, own_masks)


def _of_image(anomaly_map: np.ndarray, truth: Truth) -> dict[str, float]:
    """What an image's map is worth by itself; nothing can be told of a normal image."""
    if not truth.ranking.any():
        return dict.fromkeys(("pixel_auroc", "pixel_ap", "aupro", "best_dice"), float("nan"))
    ranking = rank_pixels([anomaly_map], [truth.ranking])
    overlap = ranking if truth.overlap is truth.ranking else rank_pixels([anomaly_map], [truth.overlap])
    scores = {"pixel_auroc": ranking.auroc, "pixel_ap": ranking.average_precision, "aupro": ranking.aupro()}
    return scores | {"best_dice": overlap.best_f1()[1]}


class Maps(Sequence[np.ndarray]):
    """The anomaly maps of stored predictions, read when asked for; not to be written to, as others read them too."""

    def __init__(self, stored: Sequence[StoredPrediction]) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        anomaly_map = self._stored[index].prediction.anomaly_map.view()
        anomaly_map.flags.writeable = False
        return anomaly_map
