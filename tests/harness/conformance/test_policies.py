"""A threshold policy that keeps the contract passes; one that breaks a rule is told which, in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from miasbench.harness.api import ImagePolicy, NormalsPolicy, UsageError
from miasbench.harness.conformance.policies import check_policy
from miasbench.harness.conformance.testing import assert_policy_conforms
from miasbench.harness.registry import POLICIES


@dataclass(frozen=True)
class Half(ImagePolicy):
    """Keeps the contract."""

    name = "half"
    share: float = 0.5

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return self.share * float(anomaly_map.max())


class Undefined(Half):
    def threshold(self, anomaly_map: np.ndarray) -> float:
        return float("nan")


class Writing(Half):
    def threshold(self, anomaly_map: np.ndarray) -> float:
        anomaly_map -= 1
        return 0.0


class Drawing(NormalsPolicy):
    name = "drawing"

    def threshold(self, normal_maps: Sequence[np.ndarray]) -> float:
        return np.random.random()  # noqa: NPY002


class Wordless(Half):
    @property
    def convention(self) -> Any:
        return None


@pytest.mark.parametrize("name", POLICIES)
def test_built_in_policies_keep_the_contract(name: str) -> None:
    assert check_policy(name) == []


def test_a_class_that_is_not_registered_can_be_checked() -> None:
    assert_policy_conforms(Half)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (int, "it is a class of policies: it is not a subclass of NormalsPolicy, "),
        (NormalsPolicy, "it is a class of policies: it does not define threshold."),
        (Undefined, "it chooses a threshold: it chose NaN; where it has nothing to look at, it should raise"),
        (Writing, "it chooses a threshold: ValueError: output array is read-only ("),
        (Drawing, "it chooses the same again: it chooses other thresholds when it is asked again."),
        (Wordless, "its convention is text: it is NoneType, it should be text."),
    ],
)
def test_a_broken_rule_is_named_and_no_other(policy: Any, says: str) -> None:
    (problem,) = check_policy(policy)
    assert problem.startswith(says)


def test_a_policy_is_checked_with_its_options() -> None:
    assert check_policy("normal_quantile[q=0.5]") == []
    with pytest.raises(UsageError, match=r"normal_quantile\[q=2\]\.q=2: Input should be less"):
        check_policy("normal_quantile[q=2]")


def test_a_name_that_there_is_none_of_is_one_message() -> None:
    with pytest.raises(UsageError, match="Did you mean 'otsu'"):
        check_policy("ots")
