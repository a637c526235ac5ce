"""What is wrong with YAML that people write: where, and in plain words."""

import os
import threading
from pathlib import Path

import pytest
import yaml

from miasbench.harness.yaml_files import explain_yaml, read_text_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seen: [normal, text\nseed: 1", "line 1, column 7, key seen: the [ that opens here is not closed by ]"),
        ("seed: {a: 1\nb: 2", "line 1, column 7, key seed: the { that opens here is not closed by }"),
        ("url: 'https://a\nseed: 1", "line 1, column 6, key url: the quote that opens here is not closed"),
        ("url: *all", "line 1, column 6, key url: a text that begins with * needs quotes"),
        ("url: & b", "line 1, column 7, key url: a text that begins with & or * needs quotes"),
        ('path: "C:\\data"', "line 1, column 11, key path: in double quotes a backslash has a meaning of its own"),
        ("seed: 1\n---\nseed: 2", "line 2, column 1, key seed: a file holds one document; take --- away"),
        ("url: !x y", "line 1, column 6, key url: a text that begins with ! needs quotes"),
        ('url: "x" y', "line 1, column 10, key url: behind a text in quotes nothing else may stand in the line"),
        ("- a\nseed: 1", "line 2, column 1, key seed: keys of the same level stand equally far to the right"),
        ("seed: 1\n url: x", "line 2, column 5, key seed: where a blank follows a colon, YAML reads a key and its"),
        ("seed: 1\nseed: 2", "line 2, column 1, key seed: seed is given twice"),
        ("seed: 1\x1b", "it holds the character U+001B, which YAML has not got. Take it away"),
    ],
)
def test_a_mistake_has_line_column_and_key(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(yaml.YAMLError) as raised:
        read_yaml(path)
    assert explain_yaml(raised.value).startswith(told)


def test_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("url: café".encode("latin-1"))
    with pytest.raises(UnicodeDecodeError) as raised:
        read_yaml(path)
    assert explain_yaml(raised.value) == "it holds bytes that are not UTF-8. Save it as UTF-8"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # as `--config <(…)` makes it
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("size: 64\nmethods: [a",))
    writer.start()
    with pytest.raises(yaml.YAMLError) as raised:
        read_text_yaml(pipe)
    writer.join()
    pipe.unlink()
    assert explain_yaml(raised.value).startswith("line 2, column 10, key methods: the [ that opens here")
