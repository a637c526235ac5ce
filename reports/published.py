"""Published numbers beside the measured ones: quoted with their source, never merged, ranked or averaged with them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from ..results.record import ConfigRecord, RunRecord
from .fitting import Column, FittedTable
from .names import policy_title, short_names
from .tables import POLICY_ORDER

_FOOTNOTES = "abcdefghijklmnopqrstuvwxyz"
_PAPERS_SIZE = 256


def compare_with_published(record: RunRecord, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Puts each published number beside what a run measured of the same method, metric and anatomy.

    Args:
        record: The run's.
        scores: The run's.
        published: As `results.papers.published` reads them.

    Returns:
        A row for each pair, with `reasons`, a tuple of why the two cannot be compared; empty where they can.
    """
    # A number that a paper repeats from another paper counts as the other paper's.
    originals = published[published["copied_from"] == ""]
    sets = originals["dataset"].unique()
    known: dict[tuple[str, str, str], list[dict[Any, Any]]] = {}
    for quoted in originals.to_dict("records"):
        known.setdefault((quoted["dataset"], quoted["method"], quoted["metric"]), []).append(quoted)
    measured = scores[(scores["error"] == "") & scores["value"].notna()]
    rows = []
    for keys, own in measured.groupby(["dataset", "method", "metric", "policy"], sort=False):
        dataset, method, metric, policy = map(str, keys)  # type: ignore[arg-type]
        source_set = _published_set(dataset, sets)
        for quoted in known.get((source_set, method.partition("[")[0], metric), ()):
            if quoted["policy"] not in (policy, "") or (quoted["policy"] == "" and policy == "own"):
                continue
            rows.append(
                {
                    "dataset": dataset,
                    "published_dataset": source_set,
                    "method": method,
                    "metric": metric,
                    "policy": policy,
                    "measured": own["value"].mean(),
                    "measured_std": own["value"].std(),
                    "published": quoted["value"],
                    "published_std": quoted["std"],
                    "difference": own["value"].mean() - quoted["value"],
                    "source": quoted["source"],
                    "protocol": quoted["protocol"],
                    "reasons": tuple(dict.fromkeys(_reasons(record, own, quoted))),
                }
            )
    return pd.DataFrame(rows)


def published_tables(comparison: pd.DataFrame) -> RenderableType:
    """Renders what `compare_with_published` found: a table for each dataset, and why numbers cannot be compared.

    A published number stands beside a measured one of the same dataset only; what was published of others that show the
    same anatomy has a table of its own.
    """
    if comparison.empty:
        return Text("No published numbers are known of what this run measured.")
    parts: list[RenderableType] = []
    names = short_names(comparison["dataset"])
    same = comparison["dataset"] == comparison["published_dataset"]
    for dataset, rows in comparison[same].groupby("dataset", sort=False):
        rows = _in_order(rows)
        reasons = list(dict.fromkeys(reason for found in rows["reasons"] for reason in found))
        marks = {reason: _footnote(index) for index, reason in enumerate(reasons)}
        columns = [Column("method", "label"), Column("metric", "label")]
        columns += map(Column, ("measured", "published", "difference"))
        columns += [Column("source", "text"), Column("comparable", "text")]
        table = FittedTable(f"{dataset}: measured, beside what was published of {dataset}", columns)
        for row in rows.to_dict("records"):
            why = ", ".join(marks[reason] for reason in row["reasons"])
            table.add_row(
                row["method"],
                _metric(row["metric"], row["policy"]),
                _number(row["measured"], row["measured_std"]),
                _number(row["published"], row["published_std"]),
                f"{row['difference']:+.3f}",
                row["source"].partition(" ")[0],
                Text(f"not comparable: {why}" if why else "yes", style="" if why else "green"),
            )
        parts.append(table)
        parts += [Text(f"{mark}  {reason}", style="dim") for reason, mark in marks.items()]
        parts.append(Text())
    for (dataset, source_set), rows in comparison[~same].groupby(["dataset", "published_dataset"], sort=False):
        columns = [Column("method", "label"), Column("metric", "label"), Column("published"), Column("source", "text")]
        title = f"Published of {source_set}, whose images are not those of {names[str(dataset)]}: not comparable"
        table = FittedTable(title, columns)
        quoted = _in_order(rows).drop_duplicates(["method", "metric", "published", "source"])
        for row in quoted.to_dict("records"):
            number = _number(row["published"], row["published_std"])
            table.add_row(row["method"], row["metric"], number, row["source"].partition(" ")[0])
        parts += [table, Text()]
    quoted = comparison.drop_duplicates(["source", "protocol"])
    parts += [Text(f"{row.source}: {row.protocol}.", style="dim") for row in quoted.itertuples()]
    return Group(*parts)


def _published_set(dataset: str, known: Any) -> str:
    """The published dataset of this name, or of the same anatomy; empty where there is none."""
    name = dataset.rstrip("/").rpartition("/")[2].lower()
    return next((one for one in known if one == name or one.partition("_")[0] in name), "")


def _reasons(record: RunRecord, own: pd.DataFrame, quoted: Mapping[Any, Any]) -> Iterator[str]:
    """Why what was measured cannot be held against a published number."""
    first = own.iloc[0]
    config = record.config
    if first["dataset"] != quoted["dataset"]:
        yield f"these are not BMAD's images of {quoted['dataset']}"
    elif config.limit:
        yield f"only a part of the dataset was run (--limit {config.limit})"
    else:
        dataset = record.datasets[first["dataset"]]
        expected = (dataset.card.counts or {}).get("test")
        tested = dataset.counts.get("test", expected)
        if tested != expected:
            yield f"{tested} test images, where BMAD has {expected}"
    for kind in ("embedded", "random"):
        if f"({kind})" in first["weights"]:
            yield f"{kind} weights, where the source has the paper's"
    if first["size"] != _PAPERS_SIZE:
        yield f"--size {first['size']}, not the {_PAPERS_SIZE} of the paper's protocol"
    edges, padding = config.score.mask_edges, config.score.padding
    if quoted["mask_edges"] and edges != quoted["mask_edges"]:
        yield f"--mask-edges {edges}, where the source has {quoted['mask_edges']}"
    if quoted["metric"] != "image_auroc" and quoted["padding"] not in ("", padding):
        if quoted["padding"] == "count":
            yield f"--padding {padding}, where the source counts the padding, which lifts its pixel scores"
        elif padding == "count":
            yield "--padding count, which lifts what was measured; the source has no padding"
    yield from _options(config, first, quoted)
    if first["oracle"]:
        yield "its threshold was chosen on the test set's own masks: an upper bound"
    if quoted["not_comparable"]:
        yield quoted["not_comparable"]


def _options(config: ConfigRecord, first: pd.Series, quoted: Mapping[Any, Any]) -> Iterator[str]:
    """Options that differ from the source's; where those are not known, any that were set."""
    options = json.loads(first["options"])
    if quoted["options"]:
        for item in quoted["options"].split(";"):
            name, _, value = item.partition("=")
            if str(options.get(name)) != value:
                yield f"{first['method']}: {name}={options.get(name)}, where the source has {value}"
        return
    name, _, variant = first["method"].partition("[")
    changed = [variant.removesuffix("]"), *(f"{key}={value}" for key, value in config.set.get(name, {}).items())]
    for key, value in (("epochs", config.epochs), ("batch_size", config.batch_size)):
        if value is not None and options.get(key) == value:
            changed.append(f"{key}={value}")
    if any(changed):
        yield f"{first['method']}: set was {', '.join(filter(None, changed))}"


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """By method as they were run, then by metric and policy."""
    places = {name: place for place, name in enumerate(["none", *POLICY_ORDER, "oracle_dice"])}
    methods = {name: place for place, name in enumerate(rows["method"].unique())}
    keys = [
        (methods[row.method], row.metric != "dice", row.metric, places.get(str(row.policy).partition("[")[0], 99))
        for row in rows.itertuples()
    ]
    order = sorted(range(len(rows)), key=lambda index: keys[index])
    return rows.iloc[order]


def _metric(metric: str, policy: str) -> str:
    return metric if policy == "none" else f"{metric}, {policy_title(policy)}"


def _number(value: float, std: float) -> str:
    return f"{value:.3f}" if pd.isna(std) else f"{value:.3f} ± {std:.3f}"


def _footnote(index: int) -> str:
    return _FOOTNOTES[index] if index < len(_FOOTNOTES) else str(index)
