"""docs/metrics.md, made from the list of metrics."""

from collections.abc import Iterable, Iterator
from math import isfinite

from ...results.metrics import Level, Metric, MetricKind

COMMAND = "bench list metrics --markdown > docs/metrics.md"

_SECTIONS: dict[tuple[MetricKind, Level], str] = {
    ("mask", "image"): "Masks: one value for each threshold policy",
    ("mask", "volume"): "Masks of volumes: where the dataset says which volume an image is a slice of",
    ("map", "image"): "Anomaly maps: no threshold, all pixels of all test images",
    ("map", "volume"): "Anomaly maps of volumes",
    ("image", "image"): "Image scores",
    ("cost", "image"): "Cost",
}
_ADDING = """\
## Adding a metric

A metric is an entry and a function; tables, reports, `bench compare` and the gate read the list.

1. Give it an entry in `results/metrics.py`, with the facts that this page shows.
2. Give it a function of the same name in `harness/scoring/functions.py`. A function in `OF_MASK` takes a `MaskScores`,
   the mask and the truth of one image, and returns the image's value; the score is the mean over images, without NaN.
   `MaskScores` has `predicted` and `truth.mask`, bool (H, W), and in `overlap` the counts of their pixels. Where an
   image has no value, such as a normal one without a lesion, return NaN. A function in `OF_VOLUME` does the same for
   one volume, (D, H, W); its entry has `level="volume"`.
   A function in `OF_PIXELS` takes a `Counts`, the pixels counted at falling thresholds, and returns a share, 0 to 1.
   The thresholds are the last axis. There may be axes before it, of rankings without one patient, and the result has
   these: `counts.positives[..., None]` beside `counts.true`, and `.max(axis=-1)`, never `.max()`.
3. Write this page again with the command above. Where the entry says `per_case`, give the column a row in
   `docs/tables.md`, under *cases*. `pytest tests/results/test_metrics.py tests/test_tables_page.py
   tests/test_adding_a_metric.py` says what is forgotten, and what an entry may not say, such as `gated` of a metric
   that is no share, or of which less is better.
4. `bench score RUN` adds the metric to a run that was made before.

`tests/test_adding_a_metric.py` also adds one of each kind.
"""


def metrics_page(metrics: Iterable[Metric]) -> str:
    """Renders metrics as a page of Markdown: a table for each kind."""
    known = list(metrics)
    return "\n".join([*_overview(), *(line for section in _SECTIONS for line in _section(*section, known)), _ADDING])


def _overview() -> Iterator[str]:
    yield from (
        "# Metrics",
        "",
        f"Made from `results/metrics.py` by `{COMMAND}`. [scores.md](scores.md) explains the conventions in full.",
        "",
        "- *metric*: its name in the column `metric` of `scores`, in `bench compare` and in `--tolerance`. A name in "
        "bold is also a column of `cases`, with the value of each image, or of `volumes`, with that of each volume.",
        "- *title*: its heading in the tables of `bench run` and `bench report`; empty where these do not show it.",
        "- *better*: whether a higher or a lower value is better. Costs depend on the machine and are not ranked.",
        "- *range*: the smallest and the largest value; intervals stay inside.",
        "- *interval*: whether it has a 95 % interval over patients.",
        "- *paired*: whether `bench compare` takes the difference of two runs image by image.",
        "- *gate*: whether a baseline can hold it. The number is the score of a method that has collapsed, which gives "
        "one value to all pixels and images; or a value safely below that score.",
        "",
    )


def _section(kind: MetricKind, level: Level, metrics: Iterable[Metric]) -> Iterator[str]:
    yield from (
        f"## {_SECTIONS[kind, level]}",
        "",
        "| metric | title | better | range | interval | paired | gate | how it is computed |",
        "|---|---|---|---|---|---|---|---|",
    )
    for one in metrics:
        if (one.kind, one.level) == (kind, level):
            yield f"| {' | '.join(_cells(one))} |"
    yield ""


def _cells(metric: Metric) -> Iterator[str]:
    low, high = metric.range
    unit = f" {metric.unit}" if metric.unit else ""
    yield f"**`{metric.name}`**" if metric.per_case else f"`{metric.name}`"
    yield metric.title if metric.shown else ""
    yield "" if metric.direction == "neither" else metric.direction
    yield f"{low:g} to {high:g}{unit}" if isfinite(high) else f"{low:g} or more{unit}"
    yield "yes" if metric.interval else ""
    yield "yes" if metric.paired else ""
    yield f"{metric.collapsed:g}" if metric.gated else ""
    yield metric.convention + ("; an oracle: an upper bound, never a result" if metric.oracle else "")
