"""The YAML that users write: cards and run files."""

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Reads YAML in which no key is written twice, as the last one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value]
        twice = [key for key, _ in node.value if written.count(key.value) > 1]
        if twice:
            raise yaml.MarkedYAMLError(problem=f"{twice[-1].value} is given twice", problem_mark=twice[-1].start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Reads a file of one YAML document.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        yaml.YAMLError: It is not YAML, or gives a key twice; the text says in which line.
    """
    with path.open(encoding="utf-8") as file:
        return yaml.load(file, _Loader)
