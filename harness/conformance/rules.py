"""Rules of the contract, and whether something keeps each of them."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..api import BenchError

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check:
    """A rule that was checked.

    Attributes:
        rule: The rule, as a sentence.
        problem: A sentence that says how it is not; empty where the rule is kept.
    """

    rule: str
    problem: str = ""


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """A rule of the contract.

    Attributes:
        text: The rule, as a sentence.
        problem: Looks whether it is. Returns a sentence that says how it is not, an empty text where it is, and `None`
            where the rule does not apply or cannot be judged. An exception breaks the rule too.
        needed: Whether nothing else can be checked where this rule is broken.
    """

    text: str
    problem: Callable[[Subject], str | None]
    needed: bool = False


def held(rules: Iterable[Rule[Subject]], subject: Subject) -> Iterator[Check]:
    """Holds a subject to rules, one after the other, and tells of each as soon as it is checked."""
    for rule in rules:
        try:
            problem = rule.problem(subject)
        except Exception as error:  # a plugin may raise anything
            problem = told(error)
        if problem is not None:
            yield Check(rule.text, problem)
        if problem and rule.needed:
            return


def problems(checks: Iterable[Check]) -> list[str]:
    """The broken rules: each in a sentence that begins with the rule."""
    return [f"{check.rule}: {check.problem}" for check in checks if check.problem]


def told(error: Exception) -> str:
    """An exception as a sentence, with the line of code that raised it."""
    if isinstance(error, BenchError):
        return str(error)
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"
