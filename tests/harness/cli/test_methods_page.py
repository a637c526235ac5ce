from pathlib import Path

from miasbench.harness.cli.methods_page import COMMAND, methods_page
from miasbench.harness.registry import METHODS, Entry

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"


def test_the_page_in_docs_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == methods_page(METHODS), f"docs/methods.md is old; make it: {COMMAND}"


def test_a_section_tells_all_that_is_known() -> None:
    entry = Entry(
        "a:B",
        "Does it",
        paper="Someone, 2020",
        trained=True,
        needs="textures",
        weights={"published": "ResNet", "embedded": "small"},
        licence="MIT",
        options={"k": 3, "layers": "two"},
        schedule={"epochs": 1000, "batch_size": 4},
        input_size=224,
        source="the paper",
    )
    page = methods_page({"it": entry})
    assert "| [`it`](#it) | Does it | yes | published, embedded |" in page
    section = page.split("## it\n")[1]
    assert (
        section
        == """
Does it.

- Paper: Someone, 2020
- Trained: yes, 1,000 epochs in batches of 4
- Needs: textures
- `--weights published`: ResNet
- `--weights embedded`: small
- Licence: MIT
- Image width: 224 pixels
- Hyperparameters: the paper
- Options set: `k=3`, `layers=two`
"""
    )


def test_steps_stand_for_epochs() -> None:
    schedule = {"epochs": 1_000_000, "batch_size": 1, "steps": 70_000}
    page = methods_page({"it": Entry("a:B", "Does it", trained=True, schedule=schedule)})
    assert "- Trained: yes, 70,000 steps in batches of 1" in page
    assert "- Trained: no" in methods_page({"it": Entry("a:B", "Does it", schedule=schedule)})
