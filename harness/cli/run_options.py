"""The options of a run as the command line and the docs show them, made from the models in `config.py`."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..config import Shown
from .options import LocalPath, ResultsFolder, complete_dataset, complete_methods, complete_policies, complete_run

_REPEATED = ("dataset", "set", "post")
_SHORT: Mapping[str, tuple[str, ...]] = {"methods": ("-m",), "dataset": ("-d",)}
_TYPES: Mapping[str, click.ParamType] = {"data_root": LocalPath(), "results": ResultsFolder()}
_COMPLETIONS: Mapping[str, Callable[..., Any]] = {
    "methods": complete_methods,
    "dataset": complete_dataset,
    "thresholds": complete_policies,
    "name": complete_run,
}


@dataclass(frozen=True)
class RunOption:
    """An option of a run.

    Attributes:
        name: As in a run file and in Python.
        description: What it means.
        choices: The values that it can have, where these are few.
        value: What stands for its value otherwise; empty for a switch.
        default: What it is where it is not given; empty where there is nothing to say.
    """

    name: str
    description: str
    choices: tuple[str, ...]
    value: str
    default: str

    @property
    def flag(self) -> str:
        """As on the command line."""
        flag = self.name.replace("_", "-")
        return f"--{flag}" if self.choices or self.value else f"--{flag}/--no-{flag}"


def run_options(model: type[BaseModel]) -> Iterator[RunOption]:
    """The options of a model, and of those inside it in their places."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from run_options(field.annotation)
        else:
            yield _option(name, field)


def with_options(
    model: type[BaseModel], default: str = "", only: Collection[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command the options of a model; each reaches it as text, or as `None` where it is not given.

    Args:
        model: Such as `RunConfig`.
        default: What help says of what is not given, where it is not the model's own default.
        only: The options that it has, where it has not all of them.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([one for one in run_options(model) if one.name in only or not only]):
            told = default or option.default
            command = click.option(
                option.flag,
                *_SHORT.get(option.name, ()),
                type=click.Choice(option.choices) if option.choices else _TYPES.get(option.name),
                default=None,
                multiple=option.name in _REPEATED,
                metavar=option.value or None,
                shell_complete=_COMPLETIONS.get(option.name),
                help=option.description.replace("`", "") + (f"  [default: {told}]" if told else ""),
            )(command)
        return command

    return decorate


def _option(name: str, field: FieldInfo) -> RunOption:
    shown = next((one for one in field.metadata if isinstance(one, Shown)), Shown())
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    default = shown.default or str("" if field.is_required() or field.default in (None, {}) else field.default).lower()
    return RunOption(name, field.description or "", choices, shown.value, default)
