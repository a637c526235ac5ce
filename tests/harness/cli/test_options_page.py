from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from miasbench.harness.cli import run_command, score_command
from miasbench.harness.cli.options_page import COMMAND, options_page
from miasbench.harness.cli.run_options import RunOption, run_options
from miasbench.harness.config import RunConfig, ScoreConfig, make_config

PAGE = Path(__file__).parents[3] / "docs" / "run-options.md"
OPTIONS = list(run_options(RunConfig))


def help_of(command: click.Command) -> str:
    return " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())


def test_the_page_in_docs_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page(OPTIONS), f"docs/run-options.md is old; make it: {COMMAND}"


def test_every_option_has_a_description_that_is_a_sentence() -> None:
    fields = {*RunConfig.model_fields, *ScoreConfig.model_fields} - {"score"}
    assert [one.name for one in OPTIONS if one.name in fields] == [one.name for one in OPTIONS]
    assert {one.name for one in OPTIONS} == fields
    for one in OPTIONS:
        assert one.description.endswith("."), one.name
        assert one.description[0].isupper(), one.name


@pytest.mark.parametrize("option", OPTIONS, ids=lambda one: one.name)
def test_help_and_page_say_the_same_of_an_option(option: RunOption) -> None:
    told = help_of(run_command.command)
    assert option.description.replace("`", "") in told
    assert option.flag.partition("/")[0] in told
    assert f"[default: {option.default}]" in told or not option.default
    assert f"| `{option.name}` |" in options_page([option])
    assert option.description in options_page([option])


def test_scoring_again_has_the_same_options_and_keeps_what_is_not_given() -> None:
    told = help_of(score_command.command)
    for one in run_options(ScoreConfig):
        assert f"{one.description.replace('`', '')} [default: as in the run]" in told


def test_a_default_that_is_told_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIASBENCH_EXECUTOR", raising=False)
    given = {"methods": "intensity", "dataset": "./a"}
    plain = make_config(given, "here")
    for one in OPTIONS:
        if one.default and not {" ", "$"} & set(one.default):
            assert make_config(given | {one.name: one.default}, "here") == plain, one.name


def test_a_row_tells_choices_values_and_switches() -> None:
    page = options_page(
        [
            RunOption("far", "How far.", ("near", "far"), "", "near"),
            RunOption("deep", "How deep.", (), "N", ""),
            RunOption("fast", "Whether fast.", (), "", "true"),
        ]
    )
    assert "| `far` | `near` · `far` | near | How far. |" in page
    assert "| `deep` | `N` |  | How deep. |" in page
    assert "| `fast` | `true` · `false` | true | Whether fast. |" in page
