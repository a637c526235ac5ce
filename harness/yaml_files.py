"""The YAML that users write: cards and run files."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

Lines = Mapping[tuple[str, ...], int]
"""The line, from 1, of everything in a file, by the keys that lead there; an item of a list is named by its place."""

_DEPTH = 3  # keys of which a path in `Lines` is made at most


class _Loader(yaml.SafeLoader):
    """Reads YAML in which no key is written twice, as the last one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value]
        twice = [key for key, _ in node.value if written.count(key.value) > 1]
        if twice:
            raise yaml.MarkedYAMLError(problem=f"{twice[-1].value} is given twice", problem_mark=twice[-1].start_mark)
        return super().construct_mapping(node, deep)


class _LoaderOfText(_Loader):
    """Leaves `yes`, `0100` or `1.10` the text that they are; a number is one only where it has the very same text."""


def _number(construct: Callable[[Any, yaml.ScalarNode], Any]) -> Callable[[Any, yaml.ScalarNode], Any]:
    def read(loader: Any, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        try:
            number = construct(loader, node)
        except ValueError:
            return text
        return number if str(number) == text else text

    return read


_LoaderOfText.add_constructor("tag:yaml.org,2002:int", _number(yaml.SafeLoader.construct_yaml_int))
_LoaderOfText.add_constructor("tag:yaml.org,2002:float", _number(yaml.SafeLoader.construct_yaml_float))
for _kind in ("bool", "timestamp"):
    _LoaderOfText.add_constructor(f"tag:yaml.org,2002:{_kind}", yaml.SafeLoader.construct_scalar)


def read_yaml(path: Path) -> Any:
    """Reads a file of one YAML document.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        yaml.YAMLError: It is not YAML, or gives a key twice; the text says in which line.
    """
    with path.open(encoding="utf-8") as file, _as_yaml_errors():
        return yaml.load(file, _Loader)


def read_text_yaml(path: Path) -> tuple[Any, Lines]:
    """Reads a file of one YAML document, in which what a user wrote keeps its text.

    Returns:
        The content, and the line of everything in it.

    Raises:
        OSError: As `read_yaml`; likewise the other two.
    """
    with path.open(encoding="utf-8") as file, _as_yaml_errors():
        loader = _LoaderOfText(file)
        try:
            node = loader.get_single_node()
            return (None, {}) if node is None else (loader.construct_document(node), dict(_lines(node)))
        finally:
            loader.dispose()


@contextmanager
def _as_yaml_errors() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # such as of the date 2026-13-45, and of a thousand brackets
        raise yaml.YAMLError(str(error)) from error


def _lines(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        inside = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inside = [(str(place), value, value) for place, value in enumerate(node.value)]
    else:
        return
    for name, start, value in inside:
        yield (*path, name), start.start_mark.line + 1
        if len(path) + 1 < _DEPTH:
            yield from _lines(value, (*path, name))
