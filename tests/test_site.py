"""The site is complete: every page is in its navigation, and every public name on its page of Python."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import miasbench
from miasbench.harness import api

ROOT = Path(__file__).parents[1]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
REFERENCE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def pages(nav: Any) -> Iterator[str]:
    for entry in nav:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from pages(target)


def test_the_navigation_names_every_page_once() -> None:
    named = list(pages(SITE["nav"]))
    assert len(named) == len(set(named))
    assert set(named) == {page.name for page in (ROOT / "docs").glob("*.md")} | {"CHANGELOG.md", "CONTRIBUTING.md"}


def test_every_name_of_the_reference_exists() -> None:
    for name in re.findall(r"^::: (\S+)$", REFERENCE, flags=re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute) is not None


def test_the_reference_has_every_public_name() -> None:
    shown = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", REFERENCE, flags=re.MULTILINE)}
    contracts = {
        name for name, value in vars(api).items() if isinstance(value, type) and value.__module__ == api.__name__
    }
    assert {*miasbench.__all__, *(name for name in contracts if name[0] != "_")} <= shown


def test_pages_load_nothing_from_other_servers() -> None:
    assert SITE["theme"]["font"] is False
    assert "repo_url" not in SITE, "every page would ask that server for its stars"
    assert not [page.name for page in (ROOT / "docs").glob("*.md") if "```mermaid" in page.read_text(encoding="utf-8")]
