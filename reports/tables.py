"""The tables of a run as a person reads them: one for masks, one for maps and cost, per dataset."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from ..results.extent import Extent
from ..results.metrics import METRICS, Metric, metrics_of
from ..results.seeds import OverSeeds, over_seeds
from ..results.tables import HEADLINE, by_chain, headline, masks_by, without_post
from .fitting import Column, FittedTable
from .marks import label, label_notes
from .names import left_out_notes, policy_title, short_names
from .promises import promise_notes, promise_table, promises
from .spread import deviation, interval, spread_notes

POLICY_ORDER = (
    *("own", "normal_quantile", "normal_mean_std", "normal_fpr", "normal_image_fpr", "conformal", "conformal_risk"),
    *("valid_dice", "valid_f1", "otsu", "triangle", "entropy", "mebin", "fixed"),
)


def ordered_policies(table: pd.DataFrame) -> list[str]:
    """The policies of a table in the order to show them: built-in ones, those of plugins, and oracles last.

    Variants of one policy stand in the order of the table.

    Args:
        table: With the columns `policy` and `oracle`.
    """
    known = {name: place for place, name in enumerate(POLICY_ORDER)}
    oracles = dict(zip(table["policy"], table["oracle"], strict=True))
    base = {policy: without_post(policy)[0].partition("[")[0] for policy in oracles}
    return sorted(oracles, key=lambda one: (oracles[one], known.get(base[one], len(known)), base[one]))


def default_policy(masks: pd.DataFrame) -> tuple[str, str]:
    """Whose masks to report where nobody has said it: each method's own, or those of `valid_dice`.

    Where no method has either, as without a validation image with a lesion, it is the first policy in the order of the
    tables among those that most methods have. No score is looked at: the choice would be one on the test set.

    Args:
        masks: Rows of the table `scores` or `cases` that have masks, of policies that are no oracles; at least one.

    Returns:
        The policy, and a sentence on why it is another one than `HEADLINE`, or an empty text.
    """
    if not masks_by(masks, HEADLINE).empty:
        return HEADLINE, ""
    plain = by_chain(masks)[""]
    having = plain[["dataset", "method", "policy"]].drop_duplicates()["policy"].value_counts()
    chosen = next(one for one in ordered_policies(plain) if having[one] == having.max())
    return chosen, (
        f"Masks are those of {chosen}: no method has a mask of its own or of valid_dice, which needs validation images "
        "with a lesion. --policy takes others."
    )


def run_tables(scores: pd.DataFrame, measured: Mapping[str, Extent] | None = None) -> RenderableType:
    """Renders the `scores` of a run: DICE by threshold policy, then maps and cost; failed cells below.

    Below a number stands its 95 % interval; several seeds show as mean ± standard deviation. What methods measured of
    themselves, and what concerns the data, stands below the tables of a dataset.

    Args:
        scores: The scores of a run.
        measured: How much of each dataset was measured, by `results.extent.extents`.
    """
    parts: list[RenderableType] = []
    names = short_names(scores["dataset"])
    for name, rows in scores[scores["error"] == ""].groupby("dataset", sort=False):
        dataset = str(name)
        extent = (measured or {}).get(dataset)
        chains = by_chain(rows)
        plain = chains.pop("")
        if (plain["metric"] == "dice").any():
            title = f"{names[dataset]}: mean DICE of anomalous images, by threshold policy"
            parts.append(_dice_table("dice", title, plain, caption(dataset, names[dataset], extent)))
        else:
            parts.append(Text(f"{names[dataset]}: labels of images only, so neither masks nor pixels are scored"))
            parts.append(Text(caption(dataset, names[dataset], extent), style="dim"))
        promised = promises(rows)
        parts += filter(None, [promise_table(dataset, names[dataset], promised)])
        parts += [Text(note, style="dim") for note in promise_notes(promised)]
        parts += _tables_of_volumes(plain)
        parts.append(_metric_table("anomaly maps and cost", plain, metrics_of("map", "image", "cost")))
        for chain, behind in chains.items():
            parts += _tables_behind(chain, behind)
        diagnostic = ~rows["metric"].isin(list(METRICS))
        noted = rows[rows["metric"].isin([one.name for one in METRICS.values() if one.shown]) & (rows["note"] != "")]
        on_volumes = noted["level"] == "volume"
        parts += [Text(note, style="dim") for note in left_out_notes(noted[~on_volumes])]
        parts += [Text(f"Volumes: {note}.", style="dim") for note in noted.loc[on_volumes, "note"].unique()]
        parts += [
            Text(f"{method}: {_diagnostics(own)}", style="dim")
            for method, own in rows[diagnostic].groupby("method", sort=False)
        ]
        parts += data_notes(extent)
        parts.append(Text())
    failed = scores[scores["error"] != ""]
    for row in failed.itertuples():
        parts.append(Text(f"FAILED {row.dataset} · {row.method} · seed {row.seed}: {row.error}", style="red"))
    weights = sorted(set(scores.loc[scores["error"] == "", "weights"]) - {"none"})
    if weights:
        parts.append(Text(f"Weights: {'; '.join(weights)}.", style="dim"))
    plain = by_chain(scores)[""]
    for policy in plain.loc[plain["oracle"] & (plain["policy"] != "none"), "policy"].unique():
        text = f"{policy} chooses its threshold on the test set's own masks: an upper bound, not a result."
        parts.append(Text(text, style="dim"))
    for policy in plain.loc[plain["looks_at"].str.startswith("test set"), "policy"].unique():
        parts.append(
            Text(f"{policy} is transductive: a threshold depends on the maps of other test images.", style="dim")
        )
    parts += [Text(note, style="dim") for note in spread_notes(scores)]
    parts += [Text(note, style="dim") for note in label_notes(scores)]
    return Group(*parts)


def _tables_of_volumes(rows: pd.DataFrame, where: str = "") -> Iterator[RenderableType]:
    if (rows["metric"] == "volume_dice").any():
        yield _dice_table("volume_dice", f"mean DICE of anomalous volumes, by threshold policy{where}", rows)
    of_volumes = headline(rows[rows["level"] == "volume"])
    if len(of_volumes):
        yield _metric_table(f"volumes, masks by {HEADLINE}{where}", of_volumes, metrics_of("mask", level="volume"))


def _tables_behind(chain: str, rows: pd.DataFrame) -> Iterator[RenderableType]:
    """The same tables with a chain of post-processing."""
    where = f", with post-processing: {chain}"
    if (rows["metric"] == "dice").any() and rows["value"].notna().any():
        yield _dice_table("dice", f"mean DICE of anomalous images, by threshold policy{where}", rows)
    yield from _tables_of_volumes(rows, where)
    if rows["metric"].isin([one.name for one in metrics_of("map")]).any():
        yield _metric_table(f"anomaly maps{where}", rows, metrics_of("map"))


def caption(dataset: str, short: str, extent: Extent | None) -> str:
    """The lines below a dataset's first title: its whole name, if that is longer, and how much was measured.

    Args:
        dataset: Its name.
        short: As titles have it.
        extent: How much was measured; `None` where that is not known.
    """
    return "\n".join(filter(None, (dataset if dataset != short else "", f"{extent}." if extent else "")))


def data_notes(extent: Extent | None) -> list[RenderableType]:
    """The notes on the numbers of a dataset, below its tables."""
    return [Text(f"{extent.dataset}: {note}", style="dim") for note in extent.notes] if extent else []


def _dice_table(metric: str, title: str, rows: pd.DataFrame, caption: str = "") -> FittedTable:
    dice = rows[(rows["metric"] == metric) & rows["value"].notna()]  # notes say which policies could not choose
    policies = ordered_policies(dice)
    columns = [Column("method", "label")]
    oracles = set(dice.loc[dice["oracle"], "policy"])
    columns += [Column(policy_title(one), style="dim" if one in oracles else "") for one in policies]
    table = FittedTable(title, columns, caption, turned="policy")
    for method, own in rows.groupby("method", sort=False):
        by_policy = {policy: dice[(dice["method"] == method) & (dice["policy"] == policy)] for policy in policies}
        cells = [_cell(over_seeds(by_policy[policy]), METRICS[metric].digits) for policy in policies]
        table.add_row(label(str(method), own), *cells)
    return table


def _metric_table(title: str, rows: pd.DataFrame, metrics: Sequence[Metric]) -> FittedTable:
    """A column for each metric that is shown and was measured."""
    measured = set(rows["metric"])
    shown = [one for one in metrics if one.shown and one.name in measured]
    table = FittedTable(title, [Column("method", "label"), *(Column(one.title) for one in shown)])
    for method, own in rows.groupby("method", sort=False):
        cells = [_cell(over_seeds(own[own["metric"] == one.name]), one.digits) for one in shown]
        table.add_row(label(str(method), own), *cells)
    return table


def _diagnostics(rows: pd.DataFrame) -> str:
    """The diagnostics of one method, in one line: `index_recall 0.993, bank_rows 124,928 (an index of 8 bits)`."""
    values = ", ".join(
        f"{metric} {_number(over_seeds(own), 3 if own['value'].abs().max() < 100 else 0, ',')}"
        for metric, own in rows.groupby("metric", sort=False)
    )
    notes = "; ".join(note for note in rows["note"].unique() if note)
    return f"{values} ({notes})" if notes else values


def _cell(score: OverSeeds, digits: int) -> Text:
    """A number with, below it, its interval."""
    text = Text(_number(score, digits))
    below = interval(score.low, score.high, digits, few=score.few_patients)
    return text.append(f"\n{below}", style="dim") if below else text


def _number(score: OverSeeds, digits: int, thousands: str = "") -> str:
    if not score.seeds:
        return "–"
    return f"{score.value:{thousands}.{digits}f} {deviation(score.std, digits)}".rstrip()
