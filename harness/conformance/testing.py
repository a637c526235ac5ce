"""For a plugin's own tests: `assert_method_conforms(MyMethod)` fails with a sentence for each rule that is broken."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..api import Method, ThresholdPolicy
from .datasets import Source, check_dataset
from .methods import check_method
from .policies import check_policy


def assert_method_conforms(
    method: type[Method] | str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    weights: str = "embedded",
    device: str = "cpu",
) -> None:
    """Fails a test where `check_method`, which has the same arguments, finds a broken rule.

    Raises:
        AssertionError: A rule is broken; the text has a line for each.
    """
    __tracebackhide__ = True
    _assert_none(check_method(method, options=options, weights=weights, device=device))


def assert_dataset_conforms(dataset: Source) -> None:
    """Fails a test where `check_dataset` finds a broken rule.

    Raises:
        AssertionError: A rule is broken; the text has a line for each.
    """
    __tracebackhide__ = True
    _assert_none(check_dataset(dataset))


def assert_policy_conforms(policy: type[ThresholdPolicy] | str) -> None:
    """Fails a test where `check_policy` finds a broken rule.

    Raises:
        AssertionError: A rule is broken; the text has a line for each.
    """
    __tracebackhide__ = True
    _assert_none(check_policy(policy))


def _assert_none(problems: list[str]) -> None:
    __tracebackhide__ = True
    if problems:
        raise AssertionError("It breaks the contract.\n" + "\n".join(problems))
