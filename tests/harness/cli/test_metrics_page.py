from pathlib import Path

from miasbench.harness.cli.metrics_page import COMMAND, metrics_page
from miasbench.results.metrics import METRICS, Metric

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_page_in_docs_is_up_to_date() -> None:
    page = metrics_page(METRICS.values())
    assert PAGE.read_text(encoding="utf-8") == page, f"docs/metrics.md is old; make it: {COMMAND}"


def test_a_row_tells_all_that_is_known() -> None:
    one = Metric(
        name="far_px",
        title="far px",
        kind="mask",
        convention="how far",
        direction="lower",
        unit="pixels",
        range=(0.0, float("inf")),
        per_case=True,
        paired=True,
        shown=True,
    )
    other = Metric(name="best", title="best", kind="map", convention="how good", collapsed=0.5, gated=True, oracle=True)
    page = metrics_page([one, other])
    assert "| **`far_px`** | far px | lower | 0 or more pixels | yes | yes |  | how far |" in page
    assert (
        "| `best` |  | higher | 0 to 1 | yes |  | 0.5 | how good; an oracle: an upper bound, never a result |"
    ) in page
    assert page.index("## Masks") < page.index("far_px") < page.index("## Anomaly maps") < page.index("`best`")
