"""The tables of a paper: what stands in which row and column, what is best, second and tied.

An oracle's and a paper's rows stand apart and are never marked as best.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan

import pandas as pd

from ..results.extent import Extent
from ..results.metrics import METRICS, Metric, metrics_of
from ..results.seeds import over_seeds
from ..results.tables import HEADLINE, by_chain, masks_by, may_be_best, oracles_beside
from .marks import label, label_notes
from .names import policy_title, short_names
from .paper_table import PaperCell, PaperColumn, PaperRow, PaperTable
from .promises import PROMISE_DIGITS, promise_notes, promises
from .spread import DEVIATION_NOTE, FEW_NOTE, INTERVAL_NOTE
from .tables import ordered_policies


def paper_tables(
    scores: pd.DataFrame,
    ranks: pd.DataFrame,
    policy: str = HEADLINE,
    published: pd.DataFrame | None = None,
    measured: Mapping[str, Extent] | None = None,
    remarks: Sequence[str] = (),
) -> list[PaperTable]:
    """Makes the tables of a report: DICE of all datasets, and of each policies, promises, masks, and maps with cost.

    Args:
        scores: The scores of one run, or of several joined.
        ranks: The ranks of the same (columns `results.tables.RANKS`).
        policy: The policy whose masks the tables of DICE and of masks are about.
        published: The findings of `reports.published.compare_with_published`, which stand in rows of their own below
            the same dataset, and in a table of their own where only the anatomy is the same; `None` leaves them out.
        measured: How much of each dataset was measured, by `results.extent.extents`, for the captions.
        remarks: Notes of every table, such as that a run is unfinished.
    """
    quoted = published if published is not None else pd.DataFrame()
    elsewhere = quoted[quoted["published_dataset"] != quoted["dataset"]] if len(quoted) else quoted
    quoted = quoted[quoted["published_dataset"] == quoted["dataset"]] if len(quoted) else quoted
    short = short_names(scores["dataset"])
    tables = [_dice_table(scores, ranks, policy, quoted, short)]
    of_masks = [one for one in metrics_of("mask", level="image") if one.shown]
    of_masks.remove(METRICS["dice"])  # which has tables of its own
    of_volumes = [one for one in metrics_of("mask", level="volume") if one.shown]
    of_maps = [one for one in metrics_of("map", "image", "cost") if one.shown]
    for dataset, name in short.items():
        rows = scores[scores["dataset"] == dataset]
        of_dataset = quoted[quoted["dataset"] == dataset] if len(quoted) else quoted
        ranked = ranks[ranks["dataset"] == dataset]
        masks, maps = f"{name}: masks by {policy}", f"{name}: anomaly maps and cost"
        volumes, mean = f"{name}: volumes, masks by {policy}", "mean DICE of anomalous test"
        of_one = [
            *_policy_tables("dice", f"policies-{dataset}", f"{name}: {mean} images", rows, ranked),
            *_promise_tables(f"promises-{dataset}", name, rows),
            *_policy_tables("volume_dice", f"volume-policies-{dataset}", f"{name}: {mean} volumes", rows, ranked),
            _metric_table(f"masks-{dataset}", masks, rows, of_masks, policy, quoted[:0]),
            _metric_table(f"volumes-{dataset}", volumes, rows, of_volumes, policy, quoted[:0]),
            _metric_table(f"maps-{dataset}", maps, rows, of_maps, "none", of_dataset),
        ]
        tables += [_with_extent(table, {dataset: name}, measured or {}) for table in of_one]
    tables[0] = _with_extent(tables[0], short, measured or {})
    marked = [_marked(replace(table, notes=(*table.notes, *remarks))) for table in tables if table.columns]
    return [*marked, *([_published_table(elsewhere)] if len(elsewhere) else [])]


def _with_extent(table: PaperTable, short: Mapping[str, str], measured: Mapping[str, Extent]) -> PaperTable:
    """Says in the caption how much was measured, and in notes what datasets are called in full and what to know."""
    found = {name: measured[dataset] for dataset, name in short.items() if dataset in measured}
    sizes = [str(extent) if len(short) == 1 else f"{name}: {extent}" for name, extent in found.items()]
    full = [f"{name}: {dataset}." for dataset, name in short.items() if name != dataset]
    notes = [f"{name}: {note}" for name, extent in found.items() for note in extent.notes]
    return replace(table, caption=". ".join([table.caption, *sizes]), notes=(*table.notes, *full, *notes))


def _dice_table(
    scores: pd.DataFrame, ranks: pd.DataFrame, policy: str, published: pd.DataFrame, short: Mapping[str, str]
) -> PaperTable:
    """DICE under one policy, a column for each dataset."""
    datasets = list(short)
    dice = _scored(scores, ["dice"])
    legal, oracles = masks_by(dice, policy), oracles_beside(dice, policy)
    tied = _tied(ranks[ranks["policy"] == policy])
    rows = [
        _row(
            method,
            scores,
            tuple(_cell(own[own["dataset"] == dataset], tied=(dataset, method) in tied) for dataset in datasets),
        )
        for method in scores["method"].unique()
        for own in [legal[legal["method"] == method]]
    ]
    rows += [
        PaperRow(f"{method}, {name}", "oracle", tuple(_cell(own[own["dataset"] == dataset]) for dataset in datasets))
        for (method, name), own in oracles.groupby(["method", "policy"], sort=False)
    ]
    quoted, notes = _quoted(published, [(dataset, "dice") for dataset in datasets], legal)
    return PaperTable(
        "dice",
        f"Mean DICE of anomalous test images; masks by {policy}",
        tuple(map(PaperColumn, short.values())),
        (*rows, *quoted),
        (*_notes(scores, [*rows, *quoted], legal), *notes),
    )


def _policy_tables(
    metric: str, name: str, caption: str, scores: pd.DataFrame, ranks: pd.DataFrame
) -> Iterator[PaperTable]:
    """A table without post-processing, and one with each chain of it."""
    ranked = by_chain(ranks)
    for chain, rows in by_chain(scores).items():
        if not chain:
            yield _policy_table(metric, name, caption, rows, ranked[chain])
        elif (rows["metric"] == metric).any() and chain in ranked:
            told = f"{caption}, with post-processing {chain}"
            yield _policy_table(metric, f"{name}-{chain}", told, rows, ranked[chain])


def _policy_table(metric: str, name: str, caption: str, scores: pd.DataFrame, ranks: pd.DataFrame) -> PaperTable:
    """DICE of images or of volumes on one dataset, a column for each policy, the oracle's last."""
    dice = _scored(scores, [metric])
    tied = _tied(ranks, "policy") if metric == "dice" else set()  # which is what methods are ranked by
    policies = ordered_policies(dice)
    oracles = set(dice.loc[dice["oracle"], "policy"])
    rows = [
        _row(
            method,
            scores,
            tuple(_cell(own[own["policy"] == policy], tied=(policy, method) in tied) for policy in policies),
        )
        for method in scores["method"].unique()
        for own in [dice[dice["method"] == method]]
    ]
    columns = tuple(
        PaperColumn(policy_title(policy), oracle=policy in oracles, better="neither" if policy in oracles else "higher")
        for policy in policies
    )
    return PaperTable(
        name,
        f"{caption}, by threshold policy",
        columns,
        tuple(rows),
        tuple(_notes(scores, rows, oracle_columns=bool(oracles))),
    )


def _promise_tables(name: str, dataset: str, scores: pd.DataFrame) -> Iterator[PaperTable]:
    """False positives that policies promise of normal images, and those of the test set; no table without a promise."""
    made = promises(scores)
    if not made:
        return
    policies = {one.policy: f"{policy_title(one.policy)}, at most {one.promised:g}" for one in made}
    cells = {
        (one.method, one.policy): PaperCell(
            *(one.realised.value, one.realised.std, one.realised.low, one.realised.high),
            few=one.realised.few_patients,
            verdict=one.verdict,
        )
        for one in made
    }
    methods = dict.fromkeys(one.method for one in made)
    rows = [_row(method, scores, tuple(cells.get((method, one)) for one in policies)) for method in methods]
    columns = tuple(PaperColumn(title, PROMISE_DIGITS + 1, better="neither") for title in policies.values())
    caption = f"{dataset}: false positives in the foreground of normal test images, where a policy promises a rate"
    notes = [*promise_notes(made), INTERVAL_NOTE, *label_notes(scores)]
    notes += [FEW_NOTE] if any(cell.few for cell in cells.values()) else []
    yield PaperTable(name, caption, columns, tuple(rows), tuple(notes))


def _metric_table(
    name: str, caption: str, scores: pd.DataFrame, metrics: Sequence[Metric], policy: str, published: pd.DataFrame
) -> PaperTable:
    """One dataset, a column for each metric that was measured."""
    scored = _scored(scores, [one.name for one in metrics])
    measured = set(scored.loc[scored["value"].notna(), "metric"])
    shown = [one.name for one in metrics if one.name in measured]
    legal, oracles = masks_by(scored, policy), oracles_beside(scored, policy)
    rows = [
        _row(method, scores, tuple(_cell(own[own["metric"] == metric]) for metric in shown))
        for method in scores["method"].unique()
        for own in [legal[legal["method"] == method]]
    ]
    rows += [
        PaperRow(f"{method}, {of_policy}", "oracle", tuple(_cell(own[own["metric"] == metric]) for metric in shown))
        for (method, of_policy), own in oracles.groupby(["method", "policy"], sort=False)
    ]
    dataset = str(scores["dataset"].iloc[0])
    quoted, notes = _quoted(published, [(dataset, metric) for metric in shown], legal)
    columns = tuple(PaperColumn.of(METRICS[metric]) for metric in shown)
    return PaperTable(name, caption, columns, (*rows, *quoted), (*_notes(scores, [*rows, *quoted], legal), *notes))


def _scored(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    return scores[(scores["error"] == "") & scores["metric"].isin(metrics)]


def _tied(ranks: pd.DataFrame, column: str = "dataset") -> set[tuple[str, str]]:
    """Pairs of a dataset, or of a policy, and a method that is tied with the best one there."""
    tied = ranks[ranks["tied_with_best"]]
    return set(zip(tied[column], tied["method"], strict=True))


def _label(method: str, scores: pd.DataFrame) -> str:
    return label(method, scores[scores["method"] == method])


def _row(method: str, scores: pd.DataFrame, cells: tuple[PaperCell | None, ...]) -> PaperRow:
    own = scores[scores["method"] == method]
    return PaperRow(label(method, own), "method" if may_be_best(own) else "apart", cells)


def _cell(rows: pd.DataFrame, *, tied: bool = False) -> PaperCell | None:
    score = over_seeds(rows)
    if not score.seeds:
        return None
    return PaperCell(score.value, score.std, score.low, score.high, few=score.few_patients, tied=tied)


def _quoted(
    published: pd.DataFrame, wanted: Sequence[tuple[str, str]], measured: pd.DataFrame
) -> tuple[list[PaperRow], list[str]]:
    """A row for each source and method of what stands beside measured numbers, and a note for each source.

    Args:
        published: The findings of `reports.published.compare_with_published` on the same datasets, or nothing.
        wanted: Each column's dataset and metric.
        measured: The scores that the table shows.
    """
    if published.empty:  # without columns, that is, where nothing is known
        return [], []
    published = published.merge(measured[["dataset", "method", "policy", "metric"]].drop_duplicates())
    notes = []
    for source, quotes in published.groupby("source", sort=False):
        comparable = (quotes["reasons"].str.len() == 0).sum()
        share = f"{comparable} of {len(quotes)}" if comparable else "None"
        notes.append(f"Published, not measured here: {source}. {share} can be compared; published.csv says why.")
    return _published_rows(published, wanted), notes


def _published_table(published: pd.DataFrame) -> PaperTable:
    """Published numbers on other images of the same anatomy, a column for each dataset and metric."""
    keys = published.drop_duplicates(["published_dataset", "metric"])
    wanted = [(str(row.published_dataset), str(row.metric)) for row in keys.itertuples()]
    columns = tuple(
        replace(PaperColumn.of(METRICS[metric]), title=f"{dataset}: {METRICS[metric].title}")
        for dataset, metric in wanted
    )
    notes = [f"Published: {source}." for source in published["source"].unique()]
    notes.append("Of other images than those measured here: the numbers cannot be held against those of other tables.")
    caption = "Published of the same anatomy, not measured here"
    return PaperTable("published-elsewhere", caption, columns, tuple(_published_rows(published, wanted)), tuple(notes))


def _published_rows(published: pd.DataFrame, wanted: Sequence[tuple[str, str]]) -> list[PaperRow]:
    """A row for each method and source.

    Args:
        published: The findings of `reports.published.compare_with_published`.
        wanted: Each column's published dataset and metric.
    """
    rows = []
    named = published.assign(name=[method.partition("[")[0] for method in published["method"]])
    for (method, source), quotes in named.groupby(["name", "source"], sort=False):
        numbers = {
            (row["published_dataset"], row["metric"]): PaperCell(row["published"], std=row["published_std"])
            for row in quotes.to_dict("records")
        }
        cells = tuple(numbers.get(key) for key in wanted)
        if any(cells):
            rows.append(PaperRow(f"{method}, published in {str(source).partition(' ')[0]}", "published", cells))
    return rows


def _notes(
    scores: pd.DataFrame, rows: Sequence[PaperRow], chosen: pd.DataFrame | None = None, *, oracle_columns: bool = False
) -> Iterator[str]:
    """The notes below a table; `chosen` are the scores of its methods' masks, where it is of one policy."""
    cells = [cell for row in rows for cell in row.cells if cell]
    if chosen is not None and set(chosen["policy"]) == {"own", "valid_dice"}:
        own = chosen.loc[chosen["policy"] == "own", "method"].unique()
        yield f"Masks of their own: {', '.join(own)}; all others: valid_dice."
    yield "Bold: best; underlined: second."
    if any(cell.tied for cell in cells):
        yield "†: not separable from the best (Wilcoxon on patients, Holm)."
    if any(isfinite(cell.std) for cell in cells):
        yield DEVIATION_NOTE
    if any(isfinite(cell.low) for cell in cells):
        yield INTERVAL_NOTE
    if any(cell.few for cell in cells):
        yield FEW_NOTE
    if oracle_columns or any(row.kind == "oracle" for row in rows):
        yield "Grey: threshold chosen on the test set's own masks, an upper bound, not a result."
    yield from label_notes(scores)
    kinds = sorted(set(scores.loc[scores["error"] == "", "weights"]) - {"none"})
    if kinds:
        yield f"Weights: {'; '.join(kinds)}."
    for row in scores[scores["error"] != ""].drop_duplicates(["dataset", "method", "seed"]).itertuples():
        yield f"Failed: {row.dataset}, {row.method}, seed {row.seed}."


def _marked(table: PaperTable) -> PaperTable:
    """Marks the best and the second of each column, as printed, and leaves ties to what is not the best."""
    columns = []
    for index, column in enumerate(table.columns):
        ranked = [row.cells[index] if row.kind == "method" else None for row in table.rows]
        printed = [round(cell.value, column.digits) if cell else nan for cell in ranked]
        order = sorted({value for value in printed if isfinite(value)}, reverse=column.better == "higher")
        compared = column.better != "neither" and len(order) > 1
        marks = dict(zip(order, ("best", "second"), strict=False)) if compared else {}
        columns.append([marks.get(value, "") for value in printed])
    rows = []
    for row, marks in zip(table.rows, zip(*columns, strict=True), strict=True):
        cells = (
            replace(cell, mark=mark, tied=cell.tied and mark != "best") if cell else None
            for cell, mark in zip(row.cells, marks, strict=True)
        )
        rows.append(replace(row, cells=tuple(cells)))
    return replace(table, rows=tuple(rows))
