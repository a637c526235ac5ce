"""One grammar for methods, threshold policies, datasets and `--set`: `name` or `name[option=value,…]`.

A dataset may also be written `name:option=value,…`, and an option that is set for a method `name.option=value`.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from .api import UsageError
from .paths import expanded, is_there

_BLANKS = re.compile(r"(?<!\s)\s++(?=[\[\],=])|(?<=[\[\],=])\s+")  # beside what separates
_DATASET = re.compile(  # in a list: quoted, a name with its options in brackets, or bare
    r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s,/\[\]]+\[[^\[\]]*\]|(?:\\,|[^,])*))\s*(?:,|$)"""
)


@dataclass(frozen=True)
class Spec:
    """A name, with the options that make it a variant.

    Its text, `name` or `name[option=value,…]`, names the variant of a method or a policy in tables, plots and folders.

    Attributes:
        name: Without brackets and commas.
        options: Each option with the text of its value, in the order given.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}[{self._listed()}]" if self.options else self.name

    def with_colon(self) -> str:
        """The text that names a dataset in tables and folders, `name` or `name:option=value,…`."""
        return f"{self.name}:{self._listed()}" if self.options else self.name

    def _listed(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.options)


def parse_method(text: str) -> Spec:
    """Reads `name` or `name[option=value,…]`, where a value may have brackets of its own; blanks do not count.

    Raises:
        UsageError: It is of another form, or an option is given twice. Whether the names are known is not looked at.
    """
    return _parse(text, "method")


def parse_policy(text: str) -> Spec:
    """Reads a threshold policy, as `parse_method` reads a method.

    Raises:
        UsageError: As for `parse_method`.
    """
    return _parse(text, "policy")


def parse_chain(text: str) -> tuple[Spec, ...]:
    """Reads operations of post-processing, `name[option=value,…],name`, in their order.

    Raises:
        UsageError: As for `parse_method`; or there is none.
    """
    specs = tuple(_parse(part, "operation") for part in split_list(text))
    if not specs:
        raise UsageError("There is no operation. Name one or more, as in median[size=5],fill_holes.")
    return specs


def chain_text(specs: Iterable[Spec]) -> str:
    """The text of a chain in its one spelling."""
    return ",".join(map(str, specs))


def parse_dataset(text: str) -> Spec:
    """Reads `name`, `name[option=value,…]` or `name:option=value,…`.

    Raises:
        UsageError: As for `parse_method`.
    """
    name, colon, options = _without_blanks(text).partition(":")
    if not colon or "[" in name:
        return _parse(text, "dataset")
    return Spec(name, _options(options, f"in --dataset {text}"))


def parse_setting(text: str) -> Spec:
    """Reads what is set for a method: `name.option=value`, whose value may be any text, or `name[option=value,…]`.

    Raises:
        UsageError: It is of another form.
    """
    key, equals, value = text.partition("=")
    if "[" in key:
        return parse_method(text)
    name, dot, option = (part.strip() for part in key.partition("."))
    if not (equals and dot and name and option):
        raise UsageError(f"{text!r} should look like mias_sam.gamma=5.")
    return Spec(name, ((option, value),))


def dataset_name(text: str) -> str:
    """The name that the text of a dataset begins with, before its options."""
    return re.split(r"[:\[]", text, maxsplit=1)[0].strip()


def split_list(text: str) -> list[str]:
    """Splits at the commas that stand outside of brackets, and drops blanks around the parts and empty parts.

    Raises:
        UsageError: A bracket has no counterpart.
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if depth < 0:
            break
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise UsageError(
            f"A bracket has no counterpart in {text!r}. Options look like name[option=value,option=value]."
        )
    return [part.strip() for part in parts if part.strip()]


def split_datasets(text: str) -> list[str]:
    r"""Splits `a,b:x=1,y=2,c[z=3,w=4]` into `a`, `b:x=1,y=2` and `c[z=3,w=4]`.

    What exists as a path is one dataset, commas or not. In a list, quotes around a path keep its commas, and so does a
    backslash before each: `"./x, y",./b` or `./x\, y,./b`.
    """
    if is_there(expanded(text)):
        return [text]
    specs: list[str] = []
    for double, single, bare in _DATASET.findall(text):
        part = double or single or bare.replace(r"\,", ",").strip()
        if bare and specs and re.match(r"\w+\s*=", part) and re.match(r"[^/]+:", specs[-1]):
            specs[-1] += f",{part}"
        elif part:
            specs.append(part)
    return specs


def option_types(cls: type) -> dict[str, Any]:
    """The options of a method or a policy, which are its fields, with their annotations."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in _fields(cls)}


def check_options(owner: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options with their annotated types; text is converted, as it comes from a command line.

    Raises:
        UsageError: An option is unknown or its value does not fit.
    """
    checked = {}
    for key, value in options.items():
        if key not in known:
            raise UsageError(f"{owner} has no option {key!r}. {suggest(key, known)}")
        adapter = TypeAdapter(known[key])
        try:
            try:
                checked[key] = adapter.validate_python(value)
            except ValidationError:
                checked[key] = adapter.validate_python(str(value))  # YAML reads `mask: 0` as a number
        except ValidationError as error:
            raise UsageError(f"{owner}.{key}={value}: {error.errors()[0]['msg']}.") from error
    return checked


def check_complete(spec: Spec, cls: type, given: Mapping[str, Any]) -> None:
    """Looks whether every option without a default is given.

    Raises:
        UsageError: One is missing.
    """
    for field in _fields(cls):
        if field.init and field.default is field.default_factory is MISSING and field.name not in given:
            raise UsageError(f"{spec} needs the option {field.name}: {spec.name}[{field.name}=…].")


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence for an unknown name: the nearest known one, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return (f"Did you mean {near[0]!r}? " if near else "") + (
        f"Known: {', '.join(names)}." if names else "It has none."
    )


def _parse(text: str, kind: str) -> Spec:
    match = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", _without_blanks(text))
    if not match:
        raise UsageError(
            f"The {kind} {text!r} is not of the form name or name[option=value,option=value]: a bracket or the name "
            "is missing, or something follows the brackets."
        )
    if "," in match[1]:
        raise UsageError(f"{text!r} should be one {kind} and is several: write each as an item of its own.")
    where = f"in --dataset {text}" if kind == "dataset" else f"in the {kind} {text}"
    return Spec(match[1], _options(match[2] or "", where))


def _without_blanks(text: str) -> str:
    return _BLANKS.sub("", text.strip())


def _options(text: str, where: str) -> tuple[tuple[str, str], ...]:
    """Reads `option=value,option=value`."""
    options: dict[str, str] = {}
    for item in split_list(text):
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"{item!r} {where} is not of the form option=value.")
        if key in options:
            raise UsageError(f"The option {key} is given twice {where}.")
        options[key] = value
    return tuple(options.items())


def _fields(cls: type) -> tuple[Field[Any], ...]:
    return fields(cls) if is_dataclass(cls) else ()
