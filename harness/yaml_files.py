"""The YAML that users write: cards and run files."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml
from yaml.reader import ReaderError

from .safe_files import open_text

Lines = Mapping[tuple[str, ...], int]
"""The line, from 1, of everything in a file, by the keys that lead there; an item of a list is named by its place."""

_MEANT = {
    r"but got '\['": 'within [ ], a name with options needs quotes, as in ["mias_sam[gamma=3]"]',
    r"mapping values are not allowed": "where a blank follows a colon, YAML reads a key and its value; leave out the "
    "blank, or put the text in quotes; a key of the same level stands as far to the right as those above it",
    r"but found ','": "several texts in quotes need [ ] around them",
    r"'\\t' that cannot start": "blanks should stand before a key, not tabs",
    r"that cannot start any token": "a text that begins so needs quotes",
    r"found '<stream end>'": "the file ends where a text is expected, such as behind a [ or { that is not closed",
    r"expected ',' or '\]'": "the [ that opens here is not closed by ]",
    r"expected ',' or '}'": "the { that opens here is not closed by }",
    r"unexpected end of stream": "the quote that opens here is not closed",
    r"undefined alias": "a text that begins with * needs quotes",
    r"expected alphabetic": "a text that begins with & or * needs quotes",
    r"unknown escape character": "in double quotes a backslash has a meaning of its own; take single quotes",
    r"found another document": "a file holds one document; take --- away",
    r"could not determine a constructor": "a text that begins with ! needs quotes",
    r"expected <block end>, but found '<scalar>'": "behind a text in quotes nothing else may stand in the line",
    r"expected <block end>": "keys of the same level stand equally far to the right, and a list has - before each item",
    r"could not find expected ':'": "each line is a key, a colon, a blank and a value, as in `name: my_data`",
}
"""What a user may have meant where YAML fails, by a part of what it says."""

_LONGEST = 2**18  # characters of a file: reading takes seconds for each 100,000
_MOST = 2**20  # characters with what aliases repeat: a few lines of them would hold billions
_OF_ENTRY = 20  # characters that an entry counts as, beside its text
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
    with open_text(path) as file:
        return _read(file, _Loader)[0]


def read_text_yaml(path: Path) -> tuple[Any, Lines]:
    """Reads a file of one YAML document, in which what a user wrote keeps its text.

    Returns:
        The content, and the line of everything in it.

    Raises:
        OSError: As `read_yaml`; likewise the other two.
    """
    with path.open(encoding="utf-8") as file:  # which a shell may have made a pipe of, as `<(…)` does
        return _read(file, _LoaderOfText)


def explain_yaml(error: yaml.YAMLError | UnicodeDecodeError, what: str = "key") -> str:
    """What is wrong with a file: line, column and key, and how to write it.

    The file is not opened again: it may be a pipe, or another one by now.

    Args:
        error: Raised by the two functions above.
        what: What its keys are called.

    Returns:
        The end of a sentence, as in `line 2, column 7, key maps: a text that begins so needs quotes`.
    """
    if isinstance(error, UnicodeDecodeError):
        return "it holds bytes that are not UTF-8. Save it as UTF-8"
    if isinstance(error, ReaderError):
        return f"it holds the character U+{int(error.character):04X}, which YAML has not got. Take it away"
    problem, mark = str(getattr(error, "problem", "")), getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    meant = next((told for pattern, told in _MEANT.items() if re.search(pattern, problem)), problem)
    if "opens here" in meant:
        mark = getattr(error, "context_mark", None) or mark
    before = str(mark.buffer).splitlines()[: mark.line + 1]
    key = next((match[1] for line in reversed(before) if (match := re.match(r"([\w-]+)\s*:", line))), "")
    return f"line {mark.line + 1}, column {mark.column + 1}{f', {what} {key}' if key else ''}: {meant}"


def _read(file: TextIO, kind: type[_Loader]) -> tuple[Any, Lines]:
    with _as_yaml_errors():
        text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise yaml.YAMLError(f"it has more than {_LONGEST:,} characters")
        loader = kind(text)  # in one piece, which errors keep for `explain_yaml`
        try:
            node = loader.get_single_node()
            if node is None:
                return None, {}
            if _length(node, {}) > _MOST:
                raise yaml.YAMLError(f"with what its aliases (*) repeat, it has more than {_MOST:,} characters")
            return loader.construct_document(node), dict(_lines(node))
        finally:
            loader.dispose()


def _length(node: yaml.Node, known: dict[int, int]) -> int:
    """How many characters an entry has, what aliases repeat as often as they do."""
    if isinstance(node, yaml.ScalarNode):
        return _OF_ENTRY + len(node.value)
    if id(node) not in known:
        known[id(node)] = _MOST  # the least that an entry in itself has, which has no end
        parts = [part for one in node.value for part in (one if isinstance(one, tuple) else (one,))]
        known[id(node)] = _OF_ENTRY + sum(_length(part, known) for part in parts)
    return known[id(node)]


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
