"""What a result carries so that it can be trusted later."""

import shlex

import pytest

from miasbench.harness.running.provenance import command_line


def test_a_command_can_be_given_to_a_shell_as_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["run", "--methods", "mias_sam[prompt=centroid]", "--dataset", "my data/liver's", "--set", "a.b=$x;y"]
    monkeypatch.setattr("sys.argv", ["/env/bin/bench", *given])
    assert shlex.split(command_line()) == ["bench", *given]
