"""The built-in threshold policies: how a map becomes a mask, and what may be looked at to decide it.

Those that choose for each image by itself are in `image_policies.py`.
What a policy looks at is its type in `api.py`, so that none can look further. Third parties add theirs through the
entry-point group `miasbench.policies`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..api import (
    LabelledMaps,
    NormalsPolicy,
    OraclePolicy,
    PolicyUnavailableError,
    ThresholdPolicy,
    ValidationPolicy,
)


@dataclass(frozen=True)
class NormalQuantile(NormalsPolicy):
    """A quantile of all pixels of normal maps: it accepts a false-positive rate per pixel.

    Between two pixels it is the higher one.

    Attributes:
        q: Which quantile, 0 to 1.
    """

    name = "normal_quantile"
    q: Annotated[float, Field(ge=0, le=1)] = 0.99

    @property
    def convention(self) -> str:
        return f"threshold: {self.q:.12g} quantile of normal validation pixels, the next higher of them"

    def threshold(self, normal_maps: Sequence[np.ndarray]) -> float:
        return float(np.quantile(_pixels(normal_maps), self.q, method="higher"))


@dataclass(frozen=True)
class NormalMeanStd(NormalsPolicy):
    """Mean plus some standard deviations of all pixels of normal maps.

    Attributes:
        deviations: How many, any finite number.
    """

    name = "normal_mean_std"
    deviations: Annotated[float, Field(allow_inf_nan=False)] = 3.0

    @property
    def convention(self) -> str:
        deviations = f"{self.deviations:.12g} standard deviations (divided by n)"
        return f"threshold: mean + {deviations} of normal validation pixels"

    def threshold(self, normal_maps: Sequence[np.ndarray]) -> float:
        pixels = _pixels(normal_maps)
        return float(pixels.mean(dtype=np.float64) + self.deviations * pixels.std(dtype=np.float64))


@dataclass(frozen=True)
class ValidDice(ValidationPolicy):
    """The threshold with the largest mean DICE over anomalous validation images; of several, the highest.

    Attributes:
        level: Whether DICE is that of each image, or of each volume, all its slices together.
    """

    name = "valid_dice"
    level: Literal["image", "volume"] = "image"

    @property
    def convention(self) -> str:
        return f"threshold: the highest of those with the largest mean DICE over anomalous validation {self.level}s"

    def threshold(self, labelled: LabelledMaps) -> float:
        return _best_mean_dice(labelled, self.level, "validation")


@dataclass(frozen=True)
class ValidF1(ValidationPolicy):
    """The threshold with the largest F1 over all validation pixels pooled (anomalib's F1AdaptiveThreshold)."""

    name = "valid_f1"

    @property
    def convention(self) -> str:
        return "threshold: the highest of those with the largest F1 of all validation pixels pooled"

    def threshold(self, labelled: LabelledMaps) -> float:
        values, true, false = labelled.pixel_counts()
        if not len(values):
            raise PolicyUnavailableError("the validation split has no lesion")
        return float(values[(2 * true / (true + false + true[-1])).argmax()])


@dataclass(frozen=True)
class Fixed(ThresholdPolicy):
    """A threshold that the user gives.

    Attributes:
        value: Finite, in the maps' own units.
    """

    name = "fixed"
    looks_at = "nothing"
    value: Annotated[float, Field(allow_inf_nan=False)]

    @property
    def convention(self) -> str:
        return "threshold: as given"


@dataclass(frozen=True)
class OracleDice(OraclePolicy):
    """The threshold with the largest mean DICE on the test set itself: what most papers report as DICE.

    Attributes:
        level: Whether DICE is that of each image, or of each volume, all its slices together.
    """

    name = "oracle_dice"
    level: Literal["image", "volume"] = "image"

    @property
    def convention(self) -> str:
        return f"threshold: the highest of those with the largest mean DICE over anomalous test {self.level}s"

    def threshold(self, labelled: LabelledMaps) -> float:
        return _best_mean_dice(labelled, self.level, "test")


def _best_mean_dice(labelled: LabelledMaps, level: str, split: str) -> float:
    threshold, _ = (labelled.volumes if level == "volume" else labelled).best_dice()
    if np.isnan(threshold):
        raise PolicyUnavailableError(f"the {split} split has no lesion")
    return threshold


def require_normal(images: Sequence[Any]) -> None:
    """Says why a policy that looks at normal validation images cannot choose, where there is none.

    Raises:
        PolicyUnavailableError: There is none.
    """
    if not len(images):
        raise PolicyUnavailableError("the validation split has no normal image")


def _pixels(normal_maps: Sequence[np.ndarray]) -> np.ndarray:
    require_normal(normal_maps)
    return np.concatenate([anomaly_map.ravel() for anomaly_map in normal_maps])
