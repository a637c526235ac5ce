"""Threshold policies at work: each is handed what its type may see, and chooses."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

from .. import registry
from ..api import (
    BenchError,
    CalibratedPolicy,
    ForegroundPolicy,
    ImagePolicy,
    NormalsPolicy,
    OraclePolicy,
    PolicyUnavailableError,
    Prediction,
    Promise,
    Split,
    ThresholdPolicy,
    UsageError,
    ValidationPolicy,
)
from ..specs import Spec
from .histograms import HistogramPolicy
from .policies import Fixed, require_normal
from .scanning import Scanned
from .tally import rounded_up


class PolicyColumns(NamedTuple):
    """The columns that name a policy in the tables.

    Attributes:
        policy: Its name with its options; `own` for the method's own masks, `none` for a score without any mask.
        looks_at: What it may see, as on the policy.
        oracle: Whether it sees the masks of the test images.
        threshold: Its threshold where all images have the same one; otherwise NaN.
        post: The chain of post-processing behind it; empty without any.
    """

    policy: str
    looks_at: str = "nothing"
    oracle: bool = False
    threshold: float = float("nan")
    post: str = ""


TEST_SET_AND_IMAGE = "test set and image"
"""What a policy looks at that is calibrated on the maps of all test images."""
NO_POLICY = PolicyColumns("none")
OWN = PolicyColumns("own")


@dataclass(frozen=True)
class Decision:
    """A policy that has chosen.

    Attributes:
        columns: The columns that name it in the tables.
        thresholds: One for each image, float32 (N,): the smallest float32 that is not below the threshold chosen, so
            that the same pixels reach it in whatever type a map is compared. `None` for the method's own masks.
        convention: How exactly they were chosen.
        promise: What the policy says of normal images.
    """

    columns: PolicyColumns
    thresholds: Mapping[Split, np.ndarray] | None
    convention: str = ""
    promise: Promise | None = None

    def threshold(self, split: Split, index: int) -> float:
        """An image's threshold; NaN for an own mask."""
        return float("nan") if self.thresholds is None else float(self.thresholds[split][index])

    def mask(self, split: Split, index: int, prediction: Prediction) -> np.ndarray:
        """An image's mask, bool (H, W)."""
        if self.thresholds is None:
            return cast(np.ndarray, prediction.mask)
        return prediction.anomaly_map >= self.thresholds[split][index]

    def of_mask(self, split: Split, index: int) -> Hashable:
        """What an image's mask depends on: decisions for which it is equal make the same one."""
        return self.columns.post, self.threshold(split, index)  # NaN, of an own mask, is like no other


def decide(
    scanned: Mapping[Split, Scanned], asked: Iterable[Spec], fixed_threshold: float | None
) -> tuple[list[Decision], list[tuple[PolicyColumns, str]]]:
    """Lets policies choose, built in and from plugins.

    Args:
        scanned: The validation and the test split.
        asked: The policies; their texts name them in the tables.
        fixed_threshold: The threshold of the policy `fixed`; without it, the policy is left out.

    Returns:
        The decisions, oracles last; and, of the policies that could not choose, the columns that name each and why.
    """
    policies = registry.make_policies(asked)
    if fixed_threshold is not None:
        policies["fixed"] = Fixed(fixed_threshold)
    decided = [Decision(OWN, None)] if scanned["test"].own_masks else []
    left_out = []
    for name, policy in policies.items():
        columns = PolicyColumns(name)
        try:
            if isinstance(policy, UsageError):
                raise policy
            columns = PolicyColumns(name, _looks_at(policy), policy.looks_at == "oracle")
            _check_validation(policy, scanned["valid"])
            thresholds, convention = _choose(policy, scanned), _convention(policy, scanned)
            promise = policy.promise
        except PolicyUnavailableError as reason:
            left_out.append((columns, of_imported(str(reason), scanned["valid"])))
        except BenchError as reason:
            left_out.append((columns, str(reason)))
        except Exception as error:  # a plugin's policy may raise anything; the scores of the others are not lost
            left_out.append((columns, f"{type(error).__name__}: {error}"))
        else:
            common = (
                float("nan")
                if isinstance(policy, ImagePolicy | CalibratedPolicy) or not len(thresholds["test"])
                else float(thresholds["test"][0])
            )
            decided.append(Decision(columns._replace(threshold=common), thresholds, convention, promise))
    return sorted(decided, key=lambda one: one.columns.oracle), left_out


def of_imported(reason: str, valid: Scanned) -> str:
    """Adds to why a policy cannot choose how few validation images it was shown, where an import has not all."""
    if not valid.not_imported or not valid.cases:
        return reason
    there = len(valid.cases)
    return f"{reason}, among the {there} of {there + valid.not_imported} validation images that were imported"


def _check_validation(policy: ThresholdPolicy, valid: Scanned) -> None:
    """Says what is missing where a policy looks at the validation split and there is nothing to see.

    Raises:
        PolicyUnavailableError: There is no image of that split.
    """
    normals = isinstance(policy, CalibratedPolicy) and policy.reference == "normals"
    if not valid.cases and (normals or policy.looks_at in ("normals", "validation")):
        raise PolicyUnavailableError(
            "the imported predictions have no map of a validation image"
            if valid.not_imported
            else "the dataset has no validation image"
        )


def _choose(policy: ThresholdPolicy, scanned: Mapping[Split, Scanned]) -> Mapping[Split, np.ndarray]:
    """Hands a policy what its type may see, and no more, and takes a threshold for each image."""
    match policy:
        case HistogramPolicy():
            thresholds: dict[Split, list[float]] = {
                split: [policy.of_histogram(histogram) for histogram in one.histograms]
                for split, one in scanned.items()
            }
        case ImagePolicy():
            thresholds = _for_each(policy, scanned)
        case CalibratedPolicy():
            thresholds = _for_each(policy.calibrate(_reference(policy, scanned)), scanned)
        case NormalsPolicy():
            thresholds = _for_all(policy.threshold(_normal_maps(scanned["valid"])), scanned)
        case ForegroundPolicy():
            thresholds = _for_all(policy.threshold(scanned["valid"].normal_images), scanned)
        case ValidationPolicy():
            thresholds = _for_all(policy.threshold(scanned["valid"]), scanned)
        case OraclePolicy():
            thresholds = _for_all(policy.threshold(scanned["test"]), scanned)
        case Fixed():
            thresholds = _for_all(policy.value, scanned)
        case _:
            raise TypeError(f"{type(policy).__name__} does not say by its type what it looks at")
    if np.isnan(np.concatenate(list(thresholds.values()))).any():
        raise ValueError("it chose NaN as a threshold")
    return {split: rounded_up(np.array(chosen, float)) for split, chosen in thresholds.items()}


def _convention(policy: ThresholdPolicy, scanned: Mapping[Split, Scanned]) -> str:
    """How a policy has chosen, and, of one that looks at the foreground, what it saw."""
    if isinstance(policy, ForegroundPolicy):
        return "; ".join([str(policy.convention), str(policy.seen(scanned["valid"].normal_images))])
    return str(policy.convention)


def _looks_at(policy: ThresholdPolicy) -> str:
    if isinstance(policy, CalibratedPolicy) and policy.reference == "test_set":
        return TEST_SET_AND_IMAGE
    return policy.looks_at


def _reference(policy: CalibratedPolicy, scanned: Mapping[Split, Scanned]) -> Sequence[np.ndarray]:
    if policy.reference == "test_set":
        return scanned["test"].maps
    normal = _normal_maps(scanned["valid"])
    require_normal(normal)
    return normal


def _normal_maps(valid: Scanned) -> list[np.ndarray]:
    return [one for one, case in zip(valid.maps, valid.cases, strict=True) if not case.label]


def _for_each(policy: ImagePolicy, scanned: Mapping[Split, Scanned]) -> dict[Split, list[float]]:
    return {split: [float(policy.threshold(one)) for one in of_split.maps] for split, of_split in scanned.items()}


def _for_all(threshold: float, scanned: Mapping[Split, Scanned]) -> dict[Split, list[float]]:
    return {split: [float(threshold)] * len(one.images) for split, one in scanned.items()}
