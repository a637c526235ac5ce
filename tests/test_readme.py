"""What README and docs promise, done as they say."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from miasbench.harness.config import find_config, make_config
from miasbench.harness.registry import METHODS, build_method
from miasbench.harness.specs import split_list

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str, heading: str = "") -> list[str]:
    """The code on a page of docs, below one of its headings or above them all."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = (text.split(f"\n## {heading}\n")[1] if heading else text).split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)


def test_the_two_commands_come_first() -> None:
    first = README.split("```")[1]
    assert README.index("make demo") < 60
    assert "make demo" in first
    assert "make test" in first


def anchors(page: Path) -> set[str]:
    """What a link to a part of a page may name."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, part = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not part or part in anchors(target), link


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} == set(
        re.findall(r"\((\w[\w-]*\.md)\)", index)
    )


def test_the_run_file_is_one() -> None:
    config = make_config(yaml.safe_load(blocks("running.md", "yaml", "A run file")[0]), "in the README")
    assert config.seeds == [0, 1, 2]


def test_the_ablation_is_one() -> None:
    (code,) = blocks("running.md", "bash", "Comparing variants")
    command = shlex.split(code)
    assert command[:2] == ["bench", "run"]
    variants = split_list(command[command.index("--methods") + 1])
    assert len(variants) == len(set(variants)) > 2
    method, option, value = re.split("[.=]", command[command.index("--set") + 1])
    for variant in variants:
        assert build_method(variant, {option: value}, weights="published", device="cpu", seed=0)
        assert variant.split("[")[0] == method


def test_other_maps_for_sam_are_methods() -> None:
    (code,) = blocks("mias_sam.md", "bash", "Controls: what the map contributes")
    command = shlex.split(code)
    for variant in split_list(command[command.index("--methods") + 1]):
        assert build_method(variant, {}, weights="published", device="cpu", seed=0).spec == variant


def test_methods_that_are_named_exist() -> None:
    section = (ROOT / "docs" / "mias_sam.md").read_text(encoding="utf-8").split("Embedded weights")[0]
    (listed,) = re.findall(r"In short:\n\n(.*)", section, flags=re.DOTALL)
    names = set(re.findall(r"`([a-z_0-9]+)`", listed))
    assert {"mias_sam", "rd4ad", "ae"} <= names <= set(METHODS)


def test_the_papers_table_is_made_by_a_shipped_run_file() -> None:
    (code,) = blocks("running.md", "bash", "The paper's table")
    run, show = (shlex.split(line) for line in code.splitlines())
    assert find_config(Path(run[run.index("--config") + 1])).suffix == ".yaml"
    assert show == ["bench", "show", "--published"]
