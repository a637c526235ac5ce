"""How far a threshold depends on the patients that it was chosen on: cross-validation over validation patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import registry
from ..api import LabelledMaps
from ..specs import parse_policy
from .dice_curve import DiceCurve, dice_curve
from .policies import ValidDice
from .scanning import Scanned

FOLDS = 5


@dataclass(frozen=True)
class FoldSpread:
    """What the same choice gives where each fold of patients is left out of it once.

    Attributes:
        thresholds: Chosen without each fold.
        dice: Mean DICE of each fold's anomalous images at the threshold that was chosen without it.
        images: Anomalous images of each fold.
    """

    thresholds: np.ndarray
    dice: np.ndarray
    images: np.ndarray

    @property
    def mean_dice(self) -> float:
        """Mean DICE over all these images, each at the threshold that its patient had no part in."""
        return float((self.dice * self.images).sum() / self.images.sum()) if len(self.images) else float("nan")


def over_folds(labelled: LabelledMaps, patients: Sequence[str], limit: int | None) -> FoldSpread:
    """Cross-validates the threshold of the largest mean DICE.

    Args:
        labelled: Maps and masks, of images or of volumes.
        patients: The patient of each; those with a lesion are dealt to five folds, or to one each where they are fewer.
        limit: How many different map values are told apart; `None` for all of them.

    Returns:
        Without any fold where fewer than two patients have a lesion.
    """
    anomalous = [index for index, truth in enumerate(labelled.truths) if truth.any()]
    names = sorted({patients[index] for index in anomalous})
    folds = min(FOLDS, len(names)) if len(names) > 1 else 0
    fold = np.array([names.index(patients[index]) % folds for index in anomalous if folds], int)

    def curve(kept: np.ndarray) -> DiceCurve:
        chosen = [anomalous[place] for place in np.flatnonzero(kept)]
        maps, truths = ([split[index] for index in chosen] for split in (labelled.maps, labelled.truths))
        return dice_curve(maps, truths, limit)

    numbers = np.arange(folds)
    thresholds = np.array([curve(fold != one).best()[0] for one in numbers])
    dice = np.array([curve(fold == one).at(np.array([at]))[0] for one, at in zip(numbers, thresholds, strict=True)])
    return FoldSpread(thresholds, dice, np.bincount(fold, minlength=folds))


def folds_of(policy: str, valid: Scanned) -> FoldSpread | None:
    """Cross-validates a policy by its name in the tables; `None` for all but `valid_dice` with its options.

    Args:
        policy: The policy, without post-processing.
        valid: The validation split.
    """
    spec = parse_policy(policy)
    made = registry.make_policy(spec) if spec.name == ValidDice.name else None
    if not isinstance(made, ValidDice):
        return None
    if made.level == "volume":
        return over_folds(valid.volumes, [one.patient for one in valid.slices], valid.limit)
    return over_folds(valid, [case.patient for case in valid.cases], valid.limit)
