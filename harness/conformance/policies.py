"""Does a threshold policy keep the contract? It chooses thresholds for maps of a small phantom."""

from collections.abc import Iterator

import numpy as np

from ...results.predictions import StoredPrediction
from ..api import (
    CalibratedPolicy,
    ForegroundPolicy,
    ImagePolicy,
    NormalsPolicy,
    OraclePolicy,
    Prediction,
    Split,
    ThresholdPolicy,
    UsageError,
    ValidationPolicy,
)
from ..config import ScoreConfig, default_data_root
from ..contract import policy_problem
from ..data.frame import frame_image
from ..registry import find_policy, make_policy, open_dataset, policy_class
from ..running.device import seed_everything
from ..scoring.scanning import Scanned, load_truths, scan, where_scored
from ..specs import parse_policy
from .rules import Check, Rule, held, problems

_SIZE = 64
_PHANTOM = f"phantom_retina_oct:train=2,valid=54,test=4,size={_SIZE}"  # 9 normal patients; maps half as high as wide


def check_policy(policy: type[ThresholdPolicy] | str) -> list[str]:
    """Holds a threshold policy to the contract of `harness.api`: lets it choose thresholds on a small phantom.

    Args:
        policy: A class, or the spec of a registered policy: `name` or `name[option=value,…]`.

    Returns:
        A sentence for each rule that is broken; empty where the policy keeps the contract.

    Raises:
        UsageError: There is no such policy, or it has no such option.

    Examples:
        >>> check_policy("valid_dice")
        []
    """
    return problems(policy_checks(policy))


def policy_checks(policy: type[ThresholdPolicy] | str) -> Iterator[Check]:
    """As `check_policy`, with every rule that was checked, as soon as it is.

    Raises:
        UsageError: As for `check_policy`.
    """
    rule = "it is a class of policies"
    if isinstance(policy, str):
        spec = parse_policy(policy)
        find_policy(spec.name)
        made, problem = None, ""
        try:
            policy_class(spec.name)
        except UsageError as error:
            problem = str(error)
        else:
            made = make_policy(spec)
    else:
        problem = policy_problem(getattr(policy, "name", ""), policy)
        made = None if problem else policy()
    yield Check(rule, problem)
    if isinstance(made, ThresholdPolicy):
        yield from held(_RULES, _PolicyTrial(made))


class _PolicyTrial:
    """A policy, and maps to choose thresholds for."""

    def __init__(self, policy: ThresholdPolicy) -> None:
        self.policy = policy
        dataset = open_dataset(_PHANTOM, default_data_root())
        truths = load_truths(dataset, ("valid", "test"), _SIZE, ScoreConfig())
        self._scanned: dict[Split, Scanned] = {}
        for split, of_split in truths.items():
            images = [frame_image(dataset.load(case).image, _SIZE) for case in of_split.cases]
            maps = [Prediction(image.astype(np.float32), float(image.max())) for image in images]
            stored = where_scored([StoredPrediction(one, 0.0) for one in maps], of_split.rectangles)
            self._scanned[split] = scan(of_split, stored, None)

    @property
    def _normal(self) -> list[np.ndarray]:
        valid = self._scanned["valid"]
        return [one for one, case in zip(valid.maps, valid.cases, strict=True) if not case.label]

    def choose(self) -> list[float]:
        """What the policy chooses, given what its type may see."""
        valid, test = self._scanned["valid"], self._scanned["test"]
        match self.policy:
            case ImagePolicy():
                return [self.policy.threshold(one) for one in test.maps]
            case CalibratedPolicy():
                policy = self.policy.calibrate(test.maps if self.policy.reference == "test_set" else self._normal)
                return [policy.threshold(one) for one in test.maps]
            case NormalsPolicy():
                return [self.policy.threshold(self._normal)]
            case ForegroundPolicy():
                return [self.policy.threshold(valid.normal_images)]
            case ValidationPolicy():
                return [self.policy.threshold(valid)]
            case OraclePolicy():
                return [self.policy.threshold(test)]
        raise TypeError(f"{type(self.policy).__name__} does not say by its type what it looks at")


def _chooses(trial: _PolicyTrial) -> str:
    for threshold in trial.choose():
        if np.isnan(float(threshold)):
            return "it chose NaN; where it has nothing to look at, it should raise PolicyUnavailableError."
    return ""


def _chooses_again(trial: _PolicyTrial) -> str:
    chosen = []
    for seed in (1, 2):
        seed_everything(seed)
        chosen.append([float(threshold) for threshold in trial.choose()])
    return "" if chosen[0] == chosen[1] else "it chooses other thresholds when it is asked again."


def _convention(trial: _PolicyTrial) -> str:
    convention = trial.policy.convention
    return "" if isinstance(convention, str) else f"it is {type(convention).__name__}, it should be text."


_RULES: tuple[Rule[_PolicyTrial], ...] = (
    Rule("it chooses a threshold", _chooses, needed=True),
    Rule("it chooses the same again", _chooses_again),
    Rule("its convention is text", _convention),
)
