"""What the README promises, done as it says."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from miasbench.harness.config import find_config, make_config
from miasbench.harness.registry import METHODS, build_method, split_list

from .support.installing import bench_in, install

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(heading: str, language: str) -> list[str]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)


def test_the_two_commands_come_first() -> None:
    first = README.split("```")[1]
    assert README.index("make demo") < 60
    assert "make demo" in first
    assert "make test" in first


def test_the_run_file_is_one() -> None:
    config = make_config(yaml.safe_load(blocks("Running", "yaml")[0]), "in the README")
    assert config.seeds == [0, 1, 2]


def test_the_ablation_is_one() -> None:
    (code,) = blocks("Comparing variants", "bash")
    command = shlex.split(code)
    assert command[:2] == ["bench", "run"]
    variants = split_list(command[command.index("--methods") + 1])
    assert len(variants) == len(set(variants)) > 2
    method, option, value = re.split("[.=]", command[command.index("--set") + 1])
    for variant in variants:
        assert build_method(variant, {option: value}, weights="published", device="cpu", seed=0)
        assert variant.split("[")[0] == method


def test_other_maps_for_sam_are_methods() -> None:
    (code,) = blocks("Methods", "bash")
    command = shlex.split(code)
    for variant in split_list(command[command.index("--methods") + 1]):
        assert build_method(variant, {}, weights="published", device="cpu", seed=0).spec == variant


def test_methods_that_are_named_exist() -> None:
    section = README.split("\n## Methods\n")[1].split("Embedded weights")[0]
    (listed,) = re.findall(r"In short:\n\n(.*)", section, flags=re.DOTALL)
    names = set(re.findall(r"`([a-z_0-9]+)`", listed))
    assert {"mias_sam", "rd4ad", "ae"} <= names <= set(METHODS)


def test_the_papers_table_is_made_by_a_shipped_run_file() -> None:
    (code,) = blocks("The paper's table", "bash")
    run, show = (shlex.split(line) for line in code.splitlines())
    assert find_config(Path(run[run.index("--config") + 1])).suffix == ".yaml"
    assert show == ["bench", "show", "--published"]


@pytest.mark.slow
def test_the_example_of_a_method_runs_as_an_installed_plugin(tmp_path: Path) -> None:
    (code,) = blocks("Adding a method", "python")
    (project,) = blocks("Adding a method", "toml")
    assert len(code.splitlines()) < 25
    bench = bench_in(install({"bench_median": code}, project, tmp_path), tmp_path)
    assert re.search(r"^median +Plugin of bench-median 0\.1$", bench("list", "methods"), flags=re.MULTILINE)
    (example,) = (line for line in blocks("Adding a method", "bash")[0].splitlines() if line.startswith("bench run"))
    tiny = example.replace("phantom_liver_ct", "phantom_liver_ct:train=3,valid=4,test=4,size=64")
    shown = bench(*tiny.split()[1:], "--size", "64", "--weights", "embedded")
    assert re.search(r"│ median +│", shown)
    assert "FAILED" not in shown
    assert "median: every rule is kept." in bench("check-plugin", "median")


@pytest.mark.slow
def test_the_example_of_a_policy_is_applied_as_an_installed_plugin(tmp_path: Path) -> None:
    (code,) = blocks("Threshold policies", "python")
    (entry,) = blocks("Threshold policies", "toml")
    (project,) = blocks("Adding a method", "toml")
    project = project.split("[project.entry-points")[0].replace("median", "recall") + entry
    bench = bench_in(install({"bench_recall": code}, project, tmp_path), tmp_path)
    assert re.search(r"^valid_recall +Plugin of bench-recall 0\.1$", bench("list", "policies"), flags=re.MULTILINE)
    dataset = "phantom_liver_ct:train=3,valid=4,test=4,size=64"
    bench("run", "--methods", "intensity", "--dataset", dataset, "--size", "64", "--weights", "embedded")
    shown = bench("thresholds")
    assert re.search(r"│ valid_recall +│ validation +│ +[0-9.]+ │", shown)
    assert "valid_recall: every rule is kept." in bench("check-plugin", "valid_recall")
