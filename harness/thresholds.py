"""Threshold policies: how a map becomes a mask, and what may be looked at to decide it.

What a policy looks at is part of its type, so that none can look further. A pixel is anomalous where `map >=
threshold`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from skimage.filters import threshold_otsu

from .api import BenchError
from .metrics import mean_dice_curve, rank_pixels

Maps = Sequence[np.ndarray]


class PolicyUnavailableError(BenchError):
    """A policy that this dataset gives nothing to look at; the text says what is missing."""


@dataclass(frozen=True)
class ThresholdPolicy(ABC):
    """A way to choose a threshold.

    Attributes:
        name: As in the results.
        looks_at: What it may see.
    """

    name: ClassVar[str]
    looks_at: ClassVar[Literal["normals", "validation", "image", "oracle", "nothing"]]


class NormalsPolicy(ThresholdPolicy):
    """Looks at maps of normal images that the method was not fitted on: the normal part of the validation split."""

    looks_at = "normals"

    @abstractmethod
    def threshold(self, normal_maps: Maps) -> float:
        """The threshold for all test images."""


class ValidationPolicy(ThresholdPolicy):
    """Looks at maps and masks of the validation split."""

    looks_at = "validation"

    @abstractmethod
    def threshold(self, maps: Maps, truths: Maps) -> float:
        """The threshold for all test images."""


class ImagePolicy(ThresholdPolicy):
    """Looks at the map of the very image it decides on."""

    looks_at = "image"

    @abstractmethod
    def threshold(self, anomaly_map: np.ndarray) -> float:
        """The threshold for this image."""


class OraclePolicy(ThresholdPolicy):
    """Looks at the masks of the test split: an upper bound, never a result."""

    looks_at = "oracle"

    @abstractmethod
    def threshold(self, maps: Maps, truths: Maps) -> float:
        """The threshold for all test images."""


@dataclass(frozen=True)
class NormalQuantile(NormalsPolicy):
    """A quantile of all pixels of normal maps: a false-positive rate per pixel that is accepted."""

    name = "normal_quantile"
    quantile: float = 0.99

    def threshold(self, normal_maps: Maps) -> float:
        return float(np.quantile(_pixels(normal_maps), self.quantile, method="higher"))


@dataclass(frozen=True)
class NormalMeanStd(NormalsPolicy):
    """Mean plus some standard deviations of all pixels of normal maps."""

    name = "normal_mean_std"
    deviations: float = 3.0

    def threshold(self, normal_maps: Maps) -> float:
        pixels = _pixels(normal_maps)
        return float(pixels.mean(dtype=np.float64) + self.deviations * pixels.std(dtype=np.float64))


@dataclass(frozen=True)
class ValidDice(ValidationPolicy):
    """The threshold with the largest mean DICE over anomalous validation images; of several, the highest."""

    name = "valid_dice"

    def threshold(self, maps: Maps, truths: Maps) -> float:
        return _best_mean_dice(maps, truths, "validation")


@dataclass(frozen=True)
class ValidF1(ValidationPolicy):
    """The threshold with the largest F1 over all validation pixels pooled (anomalib's F1AdaptiveThreshold)."""

    name = "valid_f1"

    def threshold(self, maps: Maps, truths: Maps) -> float:
        if not any(truth.any() for truth in truths):
            raise PolicyUnavailableError("the validation split has no lesion")
        return rank_pixels(maps, truths).best_f1()[0]


@dataclass(frozen=True)
class Otsu(ImagePolicy):
    """Otsu's threshold of each map (IEEE Trans. SMC 1979), blind to whether the image is normal."""

    name = "otsu"

    def threshold(self, anomaly_map: np.ndarray) -> float:
        if anomaly_map.min() == anomaly_map.max():
            return float("inf")  # nothing stands out
        # Brought to 0 to 1, any finite range has room for the histogram's bins.
        low, high = np.float64(anomaly_map.min()), np.float64(anomaly_map.max())
        unit = (anomaly_map - low) / (high - low)
        # scikit-image's foreground lies strictly above its threshold: this is the lowest value of it.
        return float(anomaly_map[unit > threshold_otsu(unit)].min())


@dataclass(frozen=True)
class Fixed(ThresholdPolicy):
    """A threshold that the user gives, in the maps' own units."""

    name = "fixed"
    looks_at = "nothing"
    value: float


@dataclass(frozen=True)
class OracleDice(OraclePolicy):
    """The threshold with the largest mean DICE on the test set itself: what most papers report as DICE."""

    name = "oracle_dice"

    def threshold(self, maps: Maps, truths: Maps) -> float:
        return _best_mean_dice(maps, truths, "test")


def default_policies(fixed: float | None = None) -> tuple[ThresholdPolicy, ...]:
    """All policies, in the order of the tables; `fixed` only with a value."""
    chosen = (NormalQuantile(), NormalMeanStd(), ValidDice(), ValidF1(), Otsu())
    return (*chosen, *([Fixed(fixed)] if fixed is not None else []), OracleDice())


def _best_mean_dice(maps: Maps, truths: Maps, split: str) -> float:
    thresholds, dice = mean_dice_curve(maps, truths)
    if not len(thresholds):
        raise PolicyUnavailableError(f"the {split} split has no lesion")
    return float(thresholds[np.flatnonzero(dice >= dice.max() - 1e-12)[0]])  # the running sum rounds


def _pixels(normal_maps: Maps) -> np.ndarray:
    if not len(normal_maps):
        raise PolicyUnavailableError("the validation split has no normal image")
    return np.concatenate([anomaly_map.ravel() for anomaly_map in normal_maps])
