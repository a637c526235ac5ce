"""Threshold policies with a budget of false positives on normal images, counted in the foreground.

`normal_fpr` and `normal_image_fpr` keep to their budget on the normal validation images themselves. `conformal` and
`conformal_risk` promise it, in expectation, for images of patients who are exchangeable with those that they saw: no
promise of theirs holds where the test set comes from elsewhere.

A pixel is positive where `map >= threshold`, so that each takes the next float32 above a value that must stay negative:
the lowest threshold that keeps to the budget.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..api import ForegroundPolicy, NormalImage, PolicyUnavailableError, Promise
from .policies import require_normal

Rate = Annotated[float, Field(ge=0, lt=1)]
Unit = Literal["patient", "image"]

_ROUNDING = 1e-9  # of sums of weights


@dataclass(frozen=True)
class NormalFpr(ForegroundPolicy):
    """The lowest threshold that at most a share of the foreground pixels of normal images reaches.

    Attributes:
        rate: The share, 0 or more and below 1; such as 0.00267 (three standard deviations), 0.01, 0.05 or 0.1.
    """

    name = "normal_fpr"
    rate: Rate = 0.01

    @property
    def convention(self) -> str:
        return f"threshold: the lowest that at most {self.rate:g} of the foreground pixels of normal images reach"

    @property
    def promise(self) -> Promise:
        return Promise("normal_fpr", self.rate)

    def threshold(self, images: Sequence[NormalImage]) -> float:
        return _exceeded_by(_pixels(images), self.rate)


@dataclass(frozen=True)
class NormalImageFpr(ForegroundPolicy):
    """The lowest threshold at which at most a share of the normal images has any positive foreground pixel.

    Attributes:
        rate: The share, 0 or more and below 1.
    """

    name = "normal_image_fpr"
    rate: Rate = 0.05

    @property
    def convention(self) -> str:
        return f"threshold: the lowest that at most {self.rate:g} of the normal images reach with a foreground pixel"

    @property
    def promise(self) -> Promise:
        return Promise("normal_image_fpr", self.rate)

    def threshold(self, images: Sequence[NormalImage]) -> float:
        return _exceeded_by(_maxima(images), self.rate)


@dataclass(frozen=True)
class _Conformal(ForegroundPolicy):
    """What both conformal policies share: units that are exchangeable, and the budget that they leave.

    Slices of one patient are not exchangeable with those of another, so that the unit is the patient: each patient
    counts the same, and within a patient each image (hierarchical conformal prediction: Lee, Barber and Willett,
    arXiv 2306.06342). Where each patient has one image, that is the usual procedure over images.

    Attributes:
        alpha: The promised risk, above 0 and below 1.
        unit: `patient`; or `image`, as if all images were exchangeable, which those of one patient are not.
    """

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1
    unit: Unit = "patient"

    def seen(self, images: Sequence[NormalImage]) -> str:
        units = len(self._units(images))
        return f"{super().seen(images)}; the smallest alpha that {units} {self.unit}s allow is {1 / (units + 1):.3g}"

    def _units(self, images: Sequence[NormalImage]) -> Counter[str]:
        """How many images each unit has."""
        return Counter(one.patient if self.unit == "patient" else str(index) for index, one in enumerate(images))

    def _weights(self, images: Sequence[NormalImage]) -> np.ndarray:
        """The weight of each image, float64 (N,): each unit weighs the same, and all together 1."""
        units = self._units(images)
        shares = [len(units) * (units[one.patient] if self.unit == "patient" else 1) for one in images]
        return 1 / np.array(shares, float)

    def _budget(self, images: Sequence[NormalImage]) -> float:
        """The risk on the units that were seen at which that of a new one is at most alpha.

        For n units, losses of at most 1 and the mean loss R of the units: n / (n + 1) R + 1 / (n + 1) <= alpha
        (Angelopoulos et al., Conformal Risk Control, ICLR 2024, equation 4).

        Raises:
            PolicyUnavailableError: No threshold keeps to it, because there are too few.
        """
        require_normal(images)
        units = len(self._units(images))
        budget = (Fraction(str(self.alpha)) * (units + 1) - 1) / units
        if budget < 0:
            counted = f"1 {self.unit}" if units == 1 else f"{units} {self.unit}s"
            raise PolicyUnavailableError(
                f"alpha={self.alpha:g} cannot be promised with normal validation images of {counted}: the smallest "
                f"alpha that they allow is {1 / (units + 1):.3g}"
            )
        return float(budget)


@dataclass(frozen=True)
class Conformal(_Conformal):
    """Split conformal: a new normal image has any positive foreground pixel with a probability of at most alpha.

    Of n patients with one image each, it is the ceil((n + 1)(1 - alpha))-th smallest of the images' highest values that
    must stay negative (Vovk et al., Algorithmic Learning in a Random World, 2005).
    """

    name = "conformal"

    @property
    def convention(self) -> str:
        return (
            f"threshold: split conformal over {self.unit}s: a normal image of one exchangeable with them has any "
            f"positive foreground pixel with probability {self.alpha:g} at most"
        )

    @property
    def promise(self) -> Promise:
        return Promise("normal_image_fpr", self.alpha)

    def threshold(self, images: Sequence[NormalImage]) -> float:
        return _outweighed_by(_maxima(images), self._weights(images), self._budget(images))


@dataclass(frozen=True)
class ConformalRisk(_Conformal):
    """Conformal risk control: of a new normal image, alpha of the foreground is positive at most, in expectation."""

    name = "conformal_risk"

    @property
    def convention(self) -> str:
        return (
            f"threshold: conformal risk control over {self.unit}s: of a normal image of one exchangeable with them, "
            f"{self.alpha:g} of the foreground is positive at most, in expectation"
        )

    @property
    def promise(self) -> Promise:
        return Promise("normal_fp_area_foreground", self.alpha)

    def threshold(self, images: Sequence[NormalImage]) -> float:
        budget, weights = self._budget(images), self._weights(images)
        sizes = np.array([len(one.values) for one in images])
        return _outweighed_by(_pixels(images), np.repeat(weights / np.maximum(sizes, 1), sizes), budget)


def _require_foreground(images: Sequence[NormalImage]) -> None:
    require_normal(images)
    if not any(len(one.values) for one in images):
        raise PolicyUnavailableError("no normal validation image has a foreground")


def _pixels(images: Sequence[NormalImage]) -> np.ndarray:
    """The values of all images, float32 (N,)."""
    _require_foreground(images)
    return np.concatenate([one.values for one in images])


def _maxima(images: Sequence[NormalImage]) -> np.ndarray:
    """The highest value of each image, float32 (N,)."""
    _require_foreground(images)
    return np.array([one.values.max(initial=-np.inf) for one in images], np.float32)


def _exceeded_by(values: np.ndarray, rate: float) -> float:
    """The lowest float32 that at most a share of the values reaches."""
    # As a decimal: 0.29 of 100 are 29, where the binary fraction next to it would give 28.
    allowed = int(Fraction(str(rate)) * len(values))
    place = len(values) - 1 - allowed
    return _next(np.partition(values, place)[place])


def _outweighed_by(values: np.ndarray, weights: np.ndarray, budget: float) -> float:
    """The lowest float32 that values of at most this weight reach."""
    # Only the highest can be needed: so many of the lightest already weigh more than the budget.
    count = min(len(values), int((budget + _ROUNDING) / weights.min()) + 2)
    highest = np.argpartition(values, -count)[-count:]
    order = highest[np.argsort(values[highest])[::-1]]
    allowed = int(np.searchsorted(np.cumsum(weights[order]), budget + _ROUNDING, "right"))
    return _next(values[order[min(allowed, count - 1)]])


def _next(value: np.ndarray) -> float:
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))
