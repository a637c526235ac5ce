"""`bench check-plugin`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ..api import UsageError
from ..config import default_data_root
from ..registry import ANOMALIB, dataset_path, datasets, methods, policies, registered
from ..specs import dataset_name, suggest
from . import OK, REGRESSION
from .options import complete_plugin

if TYPE_CHECKING:
    from ..conformance.rules import Check


@click.command(
    epilog="""\b
Examples:
  bench check-plugin median
  bench check-plugin 'ae[epochs=1]'
  bench check-plugin valid_recall
  bench check-plugin phantom_brain_mri:size=128
  bench check-plugin ./my_data

\b
Exit codes:
  0  every rule of the contract is kept
  1  a rule is broken
  2  there is no such plugin, the method has no such option, or weights are missing
""",
)
@click.argument("name", shell_complete=complete_plugin)
@click.option(
    "--weights",
    type=click.Choice(["published", "embedded"]),
    default="embedded",
    show_default=True,
    help="Which pretrained weights, where a method has a choice.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where a method computes.",
)
def command(name: str, weights: str, device: str) -> int:
    """Check that a plugin keeps the contract: one line for each rule.

    NAME is a method, a dataset or a threshold policy, with or without options; a dataset may also be a folder or a
    card. A method is fitted and predicts on small generated images, a policy chooses thresholds on them, and up to
    eight cases of each split of a dataset are read. The rules are in docs/plugins.md.
    """
    from .console import console

    broken = 0
    for kind in _kinds(name):
        console.print(f"The {kind} {name}", style="bold", soft_wrap=True)
        for check in _checks(kind, name, weights, device):
            broken += bool(check.problem)
            if check.problem:
                console.print(f"  broken  {check.rule}: {check.problem}", style="red", soft_wrap=True)
            else:
                console.print(f"  ok      {check.rule}", soft_wrap=True)
    rules = f"{broken} {'rule is' if broken == 1 else 'rules are'} broken" if broken else "every rule is kept"
    console.print(f"{name}: {rules}.", soft_wrap=True)
    return REGRESSION if broken else OK


def _kinds(name: str) -> list[str]:
    """What there is of that name; a plugin may call a method and a policy the same."""
    root, before = default_data_root(), name.partition("[")[0].strip()
    found = {
        "method": before in methods() or name.startswith(ANOMALIB),
        "policy": before in policies(),
        "dataset": dataset_name(name) in datasets() | registered(root) or dataset_path(name, root) is not None,
    }
    if not any(found.values()):
        known = [*methods(), *policies(), *datasets(), *registered(root)]
        raise UsageError(
            f"There is no method, policy or dataset {name!r}. {suggest(before, known)} A folder is named by its path, "
            "such as ./NAME."
        )
    return [kind for kind, there in found.items() if there]


def _checks(kind: str, name: str, weights: str, device: str) -> "Iterable[Check]":
    """Holds what is called so to the rules of its kind, and tells of each as soon as it is checked."""
    if kind == "method":
        from ..conformance.methods import method_checks
        from ..running.device import resolve_device

        return method_checks(name, options={}, weights=weights, device=resolve_device(device))
    if kind == "policy":
        from ..conformance.policies import policy_checks

        return policy_checks(name)
    from ..conformance.datasets import dataset_checks

    return dataset_checks(name)
