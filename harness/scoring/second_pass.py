"""The second pass over the test split's stored predictions: the masks of all policies, and each patient's part."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from ...results.predictions import StoredPrediction
from ..api import Prediction
from .budgets import Budgets
from .decisions import Decision
from .mask_rows import measured_mask
from .masks import Lesions, MaskScores
from .normal_rates import foreground_counts
from .patient_tally import PatientTally
from .ranking import PixelRanking, PixelTally, rank_pixels
from .scanning import Scanned, SplitTruths


class Told(NamedTuple):
    """What a stored prediction says beside its map and mask."""

    image_score: float
    seconds: float
    note: str


@dataclass(frozen=True)
class SecondPass:
    """What the pass has measured.

    Attributes:
        ranked: Each patient's part of the curves of all pixels.
        pooled: Likewise, against the truth that masks are compared with; `ranked` itself where there is one truth.
        inside: Likewise, of the pixels of all foregrounds; `None` where they are all of the images.
        budgets: The pixels that budgets of false positives are spent on.
        masks: For each decision, the numbers of each image's mask.
        told: What each prediction says.
    """

    ranked: PatientTally
    pooled: PatientTally
    inside: PatientTally | None
    budgets: Budgets
    masks: list[list[dict[str, Any]]]
    told: list[Told]


def measure_test(
    test: SplitTruths, stored: Sequence[StoredPrediction], scanned: Scanned, decisions: Sequence[Decision] = ()
) -> SecondPass:
    """Passes over the test split.

    Args:
        test: Its cases and masks.
        stored: Predictions of the same cases, in the same order, where they are scored.
        scanned: The first pass over them.
        decisions: The policies' thresholds.
    """
    ranked = PatientTally(test.patients, scanned.ranking)
    pooled = PatientTally(test.patients, scanned.pooled) if scanned.graded else ranked
    inside = None if scanned.inside is None else PatientTally(test.patients, scanned.inside)
    budgets = Budgets([truth.ranking.size for truth, label in zip(test.masks, test.labels, strict=True) if not label])
    masks: list[list[dict[str, Any]]] = [[] for _ in decisions]
    told = []
    for index, (case, truth, lesions) in enumerate(zip(test.cases, test.masks, test.lesions, strict=True)):
        one = stored[index]
        anomaly_map = one.prediction.anomaly_map
        foreground = None if test.foregrounds is None else test.foregrounds[index]
        budgets.add(anomaly_map, truth.ranking, case.label, foreground)
        pixels = PixelTally()
        pixels.add(anomaly_map, truth.ranking, foreground=foreground)
        ranked.add(index, pixels.ranking())
        if inside is not None:
            inside.add(index, cast(PixelRanking, pixels.foreground_ranking()))
        if pooled is not ranked:
            pooled.add(index, rank_pixels([anomaly_map], [truth.overlap]))
        measured = _measured_masks(decisions, index, one.prediction, lesions, foreground)
        for of_policy, numbers in zip(masks, measured, strict=True):
            of_policy.append(numbers)
        told.append(Told(one.prediction.image_score, one.seconds, one.prediction.note))
    return SecondPass(ranked, pooled, inside, budgets, masks, told)


def _measured_masks(
    decisions: Sequence[Decision],
    index: int,
    prediction: Prediction,
    lesions: Lesions,
    foreground: np.ndarray | None,
) -> Iterator[dict[str, Any]]:
    """The numbers of an image's mask by each policy; masks that are the same are measured once."""
    known: dict[Hashable, dict[str, Any]] = {}
    for decision in decisions:
        key = decision.of_mask("test", index)
        if key not in known:
            mask = decision.mask("test", index, prediction)
            known[key] = measured_mask(MaskScores(mask, lesions)) | foreground_counts(mask, foreground)
        yield known[key]
