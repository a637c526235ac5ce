"""Scores of volumes: the masks and maps of a volume's slices as one mask and one map, one volume after the other."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...results.predictions import StoredPrediction
from .decisions import Decision
from .functions import OF_VOLUME
from .masks import Lesions, MaskScores
from .ranking import rank_pixels
from .scanning import SplitTruths
from .volumes import VolumeSlices


@dataclass(frozen=True)
class MeasuredVolume:
    """The measurements of one volume.

    Attributes:
        slices: The volume.
        label: 1 where a slice is anomalous.
        average_precision: Of its voxels, 0 to 1; NaN without a lesion.
        masks: For each policy's mask, its metrics by their names, and the counts that `volumes` has of it.
    """

    slices: VolumeSlices
    label: int
    average_precision: float
    masks: list[dict[str, float]]

    def rows(self, decisions: Sequence[Decision]) -> Iterator[dict[str, Any]]:
        """Its rows in the table `volumes`, one for each policy, without the columns that name the cell."""
        volume = {
            "volume": self.slices.name,
            "patient": self.slices.patient,
            "label": self.label,
            "slices": len(self.slices.indices),
            "volume_ap": self.average_precision,
        }
        for decision, measured in zip(decisions, self.masks, strict=True):
            yield decision.columns._asdict() | volume | measured


def measure_volumes(
    truths: SplitTruths, stored: Sequence[StoredPrediction], decisions: Sequence[Decision], tolerance: float
) -> list[MeasuredVolume]:
    """Measures the volumes of the test split.

    Args:
        truths: Its cases and masks.
        stored: Predictions of the same cases, in the same order, where they are scored.
        decisions: The policies' thresholds.
        tolerance: In mm, for NSD.

    Returns:
        The volumes, in their order. Numbers in mm and ml are NaN where the spacing is not known.
    """
    return [_measure(volume, truths, stored, decisions, tolerance) for volume in truths.volumes]


def _measure(
    volume: VolumeSlices,
    truths: SplitTruths,
    stored: Sequence[StoredPrediction],
    decisions: Sequence[Decision],
    tolerance: float,
) -> MeasuredVolume:
    predictions = [stored[index].prediction for index in volume.indices]
    masks = [truths.masks[index] for index in volume.indices]
    lesions = Lesions(volume.put_together([one.overlap for one in masks]), volume.spacing)
    ranking = rank_pixels([one.anomaly_map for one in predictions], [one.ranking for one in masks])
    measured = []
    known: dict[Hashable, dict[str, float]] = {}
    for decision in decisions:
        key = tuple(decision.of_mask("test", index) for index in volume.indices)
        if key not in known:
            indexed = zip(volume.indices, predictions, strict=True)
            predicted = [decision.mask("test", index, one) for index, one in indexed]
            known[key] = _numbers(MaskScores(volume.put_together(predicted), lesions, tolerance))
        measured.append(known[key])
    return MeasuredVolume(
        volume,
        max(truths.cases[index].label for index in volume.indices),
        ranking.average_precision if lesions.mask.any() else float("nan"),
        measured,
    )


def _numbers(scores: MaskScores) -> dict[str, float]:
    return {
        **{name: function(scores) for name, function in OF_VOLUME.items()},
        "lesions": scores.lesions,
        "lesions_hit": scores.lesions_hit,
        "truth_ml": scores.truth_ml,
        "predicted_ml": scores.predicted_ml,
    }
