"""The first pass over a split's stored predictions: all that needs no threshold."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...results.predictions import StoredPrediction
from ..api import BenchError, Case, Dataset, LabelledMaps, LazySequence, NormalImage, PolicyUnavailableError, Split
from ..config import ScoreConfig
from ..data.foreground import ALL, PackedMask, foregrounds, rule_of
from ..data.frame import Rectangle, Truth, frame_mask, frame_spacing, image_rectangle
from .dice_curve import DiceCurve, DiceTally, dice_curve
from .histograms import MapHistogram
from .masks import Lesions
from .ranking import PixelRanking, PixelTally, rank_image, rank_pixels
from .volumes import VolumeSlices, group_slices

IMAGES_OF: Mapping[Split, str] = {"train": "training image", "valid": "validation image", "test": "test image"}
"""How an image of a split is called in sentences."""


class ScoringError(BenchError):
    """A stored prediction that cannot be scored; the text names the case."""


@dataclass(frozen=True)
class SplitTruths:
    """The cases of a split with their lesion masks, where they are scored.

    Attributes:
        cases: In their order.
        masks: The lesion mask of each case, (H, W): the image's own rectangle in the run's frame, or the whole frame
            where padding counts.
        lesions: The lesions of each mask.
        rectangles: Where in the frame that is.
        notes: Why an anomalous case has no lesion, empty where it has one.
        has_masks: False where anomalous images have a label only; then the masks are empty, and mean nothing.
        stacks: Whether volumes are stacks of slices that somebody chose, and not whole scans.
        foregrounds: The foreground of each case, bool (H, W), likewise; `None` where it is all that is scored.
        foreground: The rule that found them.
        not_imported: How many cases of the split predictions from elsewhere do not have.
    """

    cases: Sequence[Case]
    masks: Sequence[Truth]
    lesions: Sequence[Lesions]
    rectangles: Sequence[Rectangle]
    notes: Sequence[str]
    has_masks: bool = True
    stacks: bool = False
    foregrounds: Sequence[np.ndarray] | None = None
    foreground: str = ALL
    not_imported: int = 0

    @property
    def ids(self) -> list[str]:
        return [case.id for case in self.cases]

    @property
    def patients(self) -> list[str]:
        return [case.patient for case in self.cases]

    @property
    def labels(self) -> np.ndarray:
        return np.array([case.label for case in self.cases], int)

    def of(self, ids: Collection[str]) -> "SplitTruths":
        """The part of it that is of these cases."""
        kept = [index for index, case in enumerate(self.cases) if case.id in ids]
        return replace(
            self,
            cases=[self.cases[index] for index in kept],
            masks=[self.masks[index] for index in kept],
            lesions=[self.lesions[index] for index in kept],
            rectangles=[self.rectangles[index] for index in kept],
            notes=[self.notes[index] for index in kept],
            foregrounds=None if self.foregrounds is None else [self.foregrounds[index] for index in kept],
        )

    @property
    def volumes(self) -> list[VolumeSlices]:
        """The volumes that cases are slices of; none where that is not known."""
        return self._volumes[0]

    @property
    def volumes_left_out(self) -> list[str]:
        """Why other volumes cannot be scored, a sentence each."""
        return self._volumes[1]

    @cached_property
    def _volumes(self) -> tuple[list[VolumeSlices], list[str]]:
        shapes = [truth.overlap.shape for truth in self.masks]
        return group_slices(self.cases, shapes, [lesions.spacing for lesions in self.lesions])


Truths = Mapping[Split, SplitTruths]
Predictions = Mapping[Split, Sequence[StoredPrediction]]


def load_truths(dataset: Dataset, splits: Sequence[Split], size: int, score: ScoreConfig) -> Truths:
    """Reads every lesion mask of the given splits."""
    return {split: _load_split(dataset, split, size, score) for split in splits}


def _load_split(dataset: Dataset, split: Split, size: int, score: ScoreConfig) -> SplitTruths:
    cases, masks, lesions, rectangles, notes, sizes = dataset.cases(split), [], [], [], [], []
    has_masks = dataset.card.annotation == "mask"
    for case in cases:
        mask = dataset.load(case).mask
        rectangle = np.s_[:, :] if score.padding == "count" else image_rectangle(mask.shape, size)
        truth = frame_mask(mask, size, score.mask_edges).within(rectangle)
        # They are handed to policies of others, and are those of every cell.
        truth.overlap.flags.writeable = truth.ranking.flags.writeable = False
        masks.append(truth)
        lesions.append(Lesions(truth.overlap, frame_spacing(case.spacing, mask.shape, size) if case.spacing else None))
        rectangles.append(rectangle)
        sizes.append(mask.shape)
        notes.append(_without_lesion(mask, truth) if case.label and has_masks else "")
    rule = rule_of(dataset, score.foreground)
    inside = _framed_foregrounds(foregrounds(dataset, split, rule), sizes, rectangles, size) if has_masks else None
    return SplitTruths(cases, masks, lesions, rectangles, notes, has_masks, dataset.card.stack, inside, rule)


def _framed_foregrounds(
    found: Sequence[np.ndarray] | None, sizes: Sequence[tuple[int, int]], rectangles: Sequence[Rectangle], size: int
) -> Sequence[np.ndarray] | None:
    """The foregrounds where cases are scored; `None` where all of every one is foreground.

    Args:
        found: In the images' own pixels; `None` for all of them.
        sizes: Height and width of the images.
        rectangles: Where they are scored.
        size: Of the frame.
    """
    packed, full = [], True
    for index, (shape, rectangle) in enumerate(zip(sizes, rectangles, strict=True)):
        inside = np.zeros((size, size), bool)
        inside[image_rectangle(shape, size)] = True  # never the padding
        if found is not None:
            inside &= frame_mask(found[index], size).overlap
        packed.append(PackedMask.of(inside[rectangle]))
        full = full and bool(inside[rectangle].all())
    return None if full else LazySequence(len(packed), lambda position: packed[position].unpacked())


def _without_lesion(mask: np.ndarray, truth: Truth) -> str:
    """Why an anomalous image has no lesion in the frame; empty where it has one."""
    if truth.overlap.any():
        return ""
    why = "the lesion vanishes at this size" if mask.any() else "its mask holds no lesion"
    return f"{why}: left out of DICE"


@dataclass(frozen=True)
class Scanned(LabelledMaps):
    """The result of one pass over a split.

    Attributes:
        cases: In their order.
        ranking: All pixels of all images, ranked together: the curves behind AUROC, average precision and AUPRO.
        pooled: The same pixels, against the truth that masks are compared with: DICE and F1 of all pixels pooled. It is
            `ranking` itself where there is one truth.
        dice: Mean DICE over the images with a lesion.
        images: The scores of each image's map by itself: `pixel_auroc`, `pixel_ap`, `aupro` and `best_dice`, NaN for a
            normal image.
        histograms: Of each image's map.
        own_masks: Whether the method has made a mask of every image.
        slices: The volumes that the cases are slices of.
        limit: How many different map values are told apart; `None` for all of them.
        foregrounds: The foreground of each image, bool (H, W); `None` where it is all of it.
        inside: The pixels of all foregrounds ranked together, likewise.
        not_imported: How many cases of the split predictions from elsewhere do not have.
        slices_left_out: Why volumes are not among `slices`, a sentence each.
    """

    maps: Sequence[np.ndarray]
    truths: Sequence[np.ndarray]
    cases: Sequence[Case]
    ranking: PixelRanking
    pooled: PixelRanking
    dice: DiceCurve
    images: list[dict[str, float]]
    histograms: list[MapHistogram]
    own_masks: bool
    slices: Sequence[VolumeSlices]
    limit: int | None
    foregrounds: Sequence[np.ndarray] | None = None
    inside: PixelRanking | None = None
    not_imported: int = 0
    slices_left_out: Sequence[str] = ()

    @cached_property
    def normal_images(self) -> list[NormalImage]:
        """The foreground pixels of the normal images."""
        return [
            NormalImage(one.ravel() if self.foregrounds is None else one[self.foregrounds[index]], case.patient)
            for index, (one, case) in enumerate(zip(self.maps, self.cases, strict=True))
            if not case.label
        ]

    @property
    def volumes(self) -> LabelledMaps:
        if self.slices or not self.cases:
            return self._volumes
        raise PolicyUnavailableError(
            "; ".join(self.slices_left_out)
            or f"the dataset does not say of any {IMAGES_OF[self.cases[0].split]} which volume it is a slice of"
        )

    @cached_property
    def _volumes(self) -> LabelledMaps:
        return _OfVolumes(self)

    @property
    def graded(self) -> bool:
        """Whether there are two truths."""
        return self.pooled is not self.ranking

    def best_dice(self) -> tuple[float, float]:
        return self.dice.best()

    def dice_at(self, thresholds: np.ndarray) -> np.ndarray:
        return self.dice.at(thresholds)

    def pixel_counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.pooled.thresholds, self.pooled.true_positives, self.pooled.false_positives


class _OfVolumes(LabelledMaps):
    """The slices of each volume as one image, (D, H, W)."""

    def __init__(self, scanned: Scanned) -> None:
        volumes = scanned.slices

        def whole(slices: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            return LazySequence(
                len(volumes), lambda number: np.stack([slices[index] for index in volumes[number].indices])
            )

        self.maps = whole(scanned.maps)
        self.truths = whole(scanned.truths)
        self._scanned = scanned

    @cached_property
    def _dice(self) -> DiceCurve:
        return dice_curve(self.maps, self.truths, self._scanned.limit)

    def best_dice(self) -> tuple[float, float]:
        return self._dice.best()

    def dice_at(self, thresholds: np.ndarray) -> np.ndarray:
        return self._dice.at(thresholds)

    def pixel_counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scanned = self._scanned
        slices = [index for volume in scanned.slices for index in volume.indices]
        ranking = rank_pixels([scanned.maps[index] for index in slices], [scanned.truths[index] for index in slices])
        return ranking.thresholds, ranking.true_positives, ranking.false_positives


def scan(truths: SplitTruths, stored: Sequence[StoredPrediction], limit: int | None) -> Scanned:
    """Passes over a split.

    Args:
        truths: Cases and masks.
        stored: Predictions of the same cases, in the same order.
        limit: How many different map values are told apart; `None` for all of them.

    Raises:
        ScoringError: A map holds NaN or infinity.
    """
    graded = any(truth.graded for truth in truths.masks)
    pixels, dice, images, histograms, own = PixelTally(limit, 1 + graded), DiceTally(limit), [], [], 0
    for index, (case, truth) in enumerate(zip(truths.cases, truths.masks, strict=True)):
        prediction = stored[index].prediction
        try:
            foreground = None if truths.foregrounds is None else truths.foregrounds[index]
            pixels.add(prediction.anomaly_map, truth.ranking, *[truth.overlap] * graded, foreground=foreground)
        except ValueError as error:
            raise ScoringError(f"The stored prediction of the case {case.id} ({case.split}): {error}.") from error
        rising = np.sort(prediction.anomaly_map, axis=None)
        histograms.append(MapHistogram.of(rising))
        dice.add(prediction.anomaly_map, truth.overlap, rising)
        images.append(_of_image(prediction.anomaly_map, truth, rising))
        own += prediction.mask is not None
    overlaps = [truth.overlap for truth in truths.masks]
    rankings = pixels.rankings()
    own_masks = bool(own) and own == len(images)
    return Scanned(
        _maps(stored),
        overlaps,
        truths.cases,
        rankings[0],
        rankings[-1],
        dice.curve(),
        images,
        histograms,
        own_masks,
        truths.volumes,
        limit,
        truths.foregrounds,
        pixels.foreground_ranking(),
        truths.not_imported,
        truths.volumes_left_out,
    )


def _of_image(anomaly_map: np.ndarray, truth: Truth, rising: np.ndarray) -> dict[str, float]:
    """The scores of one image's map by itself, given its values sorted too; NaN for an image without a lesion."""
    if not truth.overlap.any():
        return dict.fromkeys(("pixel_auroc", "pixel_ap", "aupro", "best_dice"), float("nan"))
    overlap = rank_image(anomaly_map, truth.overlap, rising)
    ranking = rank_image(anomaly_map, truth.ranking, rising) if truth.graded else overlap
    scores = {"pixel_auroc": ranking.auroc, "pixel_ap": ranking.average_precision, "aupro": ranking.aupro()}
    return scores | {"best_dice": overlap.best_f1()[1]}


def where_scored(stored: Sequence[StoredPrediction], rectangles: Sequence[Rectangle]) -> Sequence[StoredPrediction]:
    """Stored predictions where they are scored, read when asked for: what they say of padding is cut off."""

    def read(position: int) -> StoredPrediction:
        one, rectangle = stored[position], rectangles[position]
        anomaly_map, mask = one.prediction.anomaly_map[rectangle], one.prediction.mask
        if anomaly_map.shape == one.prediction.anomaly_map.shape:
            return one
        cut = replace(one.prediction, anomaly_map=anomaly_map, mask=None if mask is None else mask[rectangle])
        return replace(one, prediction=cut)

    return LazySequence(len(stored), read)


def _maps(stored: Sequence[StoredPrediction]) -> Sequence[np.ndarray]:
    """The anomaly maps of stored predictions, read when asked for; not to be written to, as others read them too."""

    def read(position: int) -> np.ndarray:
        anomaly_map = stored[position].prediction.anomaly_map.view()
        anomaly_map.flags.writeable = False
        return anomaly_map

    return LazySequence(len(stored), read)
