"""Whether a run's files are what the run wrote, and whether its numbers follow from each other.

From the record by way of predictions and cases to scores, ranks and the files that people read, each step is made again
in memory and held against what is on disk. Nothing is written.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ...results.damage import known_columns
from ...results.files import ResultsError
from ...results.record import Cell, CellRecord, RunRecord
from ...results.store import CellStore, RunStore
from ...results.tables import KEYS, concatenate
from ..analysis.doubts import alike, first, said, same, scores_against_cases, scores_against_volumes
from ..analysis.ranks import compare_methods
from ..analysis.recorded import NOWHERE_ELSE, recorded_config, recorded_datasets
from ..api import BenchError, Card, Dataset
from ..config import RunConfig, ScoreConfig
from ..safe_files import read_bytes
from ..scoring.scanning import Truths
from .cell_run import CellRun
from .cells import PREDICTED, CellProgress, CellTask, scored_by


@dataclass(frozen=True)
class Verification:
    """The findings of verifying a run.

    Attributes:
        problems: A sentence each: file, row, and both values.
        checked: The parts that were checked.
        unchecked: The parts that could not be checked, and why.
    """

    problems: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def verify_run(
    store: RunStore, moved: Mapping[str, str] = NOWHERE_ELSE, progress: CellProgress = lambda *_: None
) -> Verification:
    """Verifies a run as far as can be done with what is at hand; images are used where they are found.

    Args:
        store: The run.
        moved: Where datasets are now, by name; the others are looked for where the run found them.
        progress: Told about progress.

    Raises:
        ResultsError: There is no record that could be read.
        UsageError: A dataset in `moved` is not the one of the run.
    """
    record, found, truths = store.read(), Verification(), dict[str, Truths]()
    config = recorded_config(store)
    datasets, missing = recorded_datasets(store, moved)
    progress(store.name, "reading tables", 0, 0)
    _verify_record(store, record, config, found)
    tables = _verify_tables(store, record, found)
    ends = {cell.name: store.cell(cell.name).read() for cell in record.cells}
    cards = {cell.name: datasets[cell.dataset].card for cell in record.cells if cell.dataset in datasets}
    current = {name for name, end in ends.items() if end and _is_current(end, config.score, cards.get(name))}
    _verify_joined(store, tables, ends, found)
    if "cases" in tables and "scores" in tables:
        found.problems.extend(first(scores_against_cases(tables["scores"], tables["cases"])))
        found.checked.append("scores against cases")
    if "volumes" in tables and "scores" in tables:
        found.problems.extend(first(scores_against_volumes(tables["scores"], tables["volumes"])))
        found.checked.append("scores against volumes")
    _verify_comparisons(tables, ends, current, found)
    for cell in record.cells:
        progress(cell.name, "checking predictions", 0, 0)
        end = ends[cell.name]
        if end and _verify_predictions(store.cell(cell.name), cell, end, record, tables, found):
            what, name = f"scores of {cell.name} against its predictions", cell.dataset
            if name not in datasets:
                why = str(missing.get(name, "the record does not have it")).rstrip(".")
                found.unchecked.append(f"{what}: {why}; --dataset {name}=PATH says where it is")
            elif cell.name not in current:
                why = "other scoring code, or another foreground, made them; bench score makes them again"
                found.unchecked.append(f"{what}: {why}")
            else:
                task = CellTask(config, cell, store.folder, "")
                _verify_scores(task, datasets[name], end, truths, progress, found)
                found.checked.append(what)
        progress(cell.name, "finished", 1, 1)
    return found


def _is_current(end: CellRecord, score: ScoreConfig, card: Card | None) -> bool:
    """Whether a cell was scored as it would be now, as far as its dataset's card is there to be looked at."""
    return end.score == scored_by(score, card.foreground if card else end.score.get("card_foreground", ""))


def _verify_record(store: RunStore, record: RunRecord, config: RunConfig, found: Verification) -> None:
    """The record in itself: its seal, and that its entries agree."""
    sealed = store.is_sealed()
    if sealed is None:
        found.unchecked.append("run.json by its seal: an older version wrote it without one")
    elif sealed:
        found.checked.append("run.json by its seal")
    else:
        found.problems.append("run.json: it was changed after it was written: its seal is broken.")
    for cell in record.cells:
        name, key = cell.name, cell.key[:10]
        if not name.endswith(f"-{key}"):
            found.problems.append(
                f"run.json, cell {name}: its entry was changed: with these contents, its name would end in {key}."
            )
        dataset = record.datasets.get(cell.dataset)
        for what, inside, outside in (
            ("fingerprint", cell.fingerprint, dataset and dataset.fingerprint),
            ("size", cell.size, config.size),
        ):
            if inside != outside:
                found.problems.append(f"run.json, cell {name}: its {what} is {inside}, the run's {outside}.")
        end = store.cell(name).read()
        score = {
            key: value for key, value in (end.score if end else {}).items() if key not in ("code", "card_foreground")
        }
        if score and score != (asked := {key: config.score.model_dump().get(key) for key in score}):
            found.problems.append(f"run.json, score: it is {asked}, cells/{name}/cell.json has {score}.")
    found.checked.append("entries of run.json against each other")


def _verify_tables(store: RunStore, record: RunRecord, found: Verification) -> dict[str, pd.DataFrame]:
    """Checksums, and that each CSV file says what the Parquet file does; returns the tables that can be read."""
    checksums = record.tables
    if checksums:
        found.problems.extend(
            f"{file}: it is gone or was changed after it was written: its checksum is not that in run.json."
            for file in store.changed_tables()
        )
        found.checked.append(f"{len(checksums)} files of tables by their checksums")
    else:
        found.unchecked.append("tables by their checksums: an older version wrote run.json without them")
    tables = {}
    for name in KEYS:
        if name == "volumes" and "volumes.parquet" not in checksums and not (store.folder / "volumes.parquet").exists():
            found.unchecked.append("volumes.parquet: an older version wrote none")
            continue
        try:
            table = store.table(name)
        except ResultsError as error:
            found.problems.append(str(error))
            continue
        try:
            tables[name] = known_columns(table, name)
        except ValueError as error:
            found.problems.append(f"{name}.parquet: {error}.")
            continue
        path = store.folder / f"{name}.csv"
        if path.exists():
            found.problems.extend(first(_csv_against(name, read_bytes(path), table)))
        else:
            found.problems.append(f"{name}.csv: it is gone.")
    found.checked.append("CSV against Parquet")
    return tables


def _csv_against(name: str, content: bytes, table: pd.DataFrame) -> Iterator[str]:
    def read(text: bytes) -> pd.DataFrame:
        return pd.read_csv(io.BytesIO(text), dtype=str, keep_default_na=False)

    lists = {str(column): table[column].map(_listed) for column in table if table[column].dtype == object}
    try:
        found, expected = read(content), read(table.assign(**lists).to_csv(index=False).encode())
    except (ValueError, pd.errors.ParserError) as error:
        yield f"{name}.csv: it cannot be read ({error})."
        return
    if list(found) != list(expected) or len(found) != len(expected):
        yield (
            f"{name}.csv: it has {len(found)} rows of {len(found.columns)} columns, {name}.parquet {len(expected)} of "
            f"{len(expected.columns)}."
        )
        return
    for row, column in np.argwhere((found != expected).to_numpy()):
        one, other = str(found.iloc[row, column]), str(expected.iloc[row, column])
        if not _same_number(one, other):
            title = found.columns[column]
            yield f"{name}.csv, line {row + 2}, {title}: it has {one!r}, {name}.parquet {other!r}."


def _verify_joined(
    store: RunStore,
    tables: Mapping[str, pd.DataFrame],
    ends: Mapping[str, CellRecord | None],
    found: Verification,
) -> None:
    """The run's tables against those of its cells."""
    ended = [name for name, end in ends.items() if end is not None]
    open_cells = [name for name, end in ends.items() if end is None]
    if not ended:
        found.unchecked.append("tables against those of the cells: no cell is there that has come to its end")
        return
    found.unchecked.extend(f"{name}: it is not finished, or its folder is not there" for name in open_cells)
    of_cells = []
    for name in ended:
        try:
            of_cells.append(store.cell(name).read_tables())
        except ResultsError as error:
            found.problems.append(str(error))
            return
    for name, expected in concatenate(of_cells)._asdict().items():
        if name in tables:
            there = tables[name][~tables[name]["cell"].isin(open_cells)]
            found.problems.extend(first(_differences(name, there, expected, "the cell's own table")))
    found.checked.append("tables against those of the cells")


def _verify_comparisons(
    tables: Mapping[str, pd.DataFrame],
    ends: Mapping[str, CellRecord | None],
    current: set[str],
    found: Verification,
) -> None:
    if not {"cases", "comparisons", "ranks"} <= set(tables):
        return
    if any(end and end.status == "finished" and name not in current for name, end in ends.items()):
        found.unchecked.append("ranks and comparisons against cases: another version of the code made them")
        return
    for name, expected in compare_methods(tables["cases"])._asdict().items():
        found.problems.extend(first(_differences(name, tables[name], expected, "the cases give")))
    found.checked.append("ranks and comparisons against cases")


def _verify_predictions(
    cell: CellStore,
    entry: Cell,
    end: CellRecord,
    record: RunRecord,
    tables: Mapping[str, pd.DataFrame],
    found: Verification,
) -> bool:
    """Seals, counts, and what a prediction shares with its row of the cases; returns whether it can be scored."""
    name = entry.name
    if end.status != "finished":
        return False
    if not end.finished_whole:
        found.unchecked.append(f"predictions of {name}: they were not kept (--maps none)")
        return False
    whole = True
    counts = record.datasets[entry.dataset].counts if entry.dataset in record.datasets else {}
    if entry.external:
        counts = entry.options["cases"]
    for split in PREDICTED:
        seals = cell.seals(split)
        broken = [file for file, sealed in seals.items() if sealed is False]
        found.problems.extend(first(f"cells/{name}/{split}/{file}: its seal is broken." for file in broken))
        if counts and len(seals) != counts[split]:
            found.problems.append(
                f"cells/{name}/{split}: {len(seals)} predictions are there, run.json has {counts[split]} cases."
            )
        if None in seals.values():
            found.unchecked.append(f"predictions of {name} ({split}) by their seals: an older version set none")
        whole = whole and not broken and len(seals) == counts.get(split, len(seals))
    if "cases" in tables and whole:
        rows = tables["cases"][tables["cases"]["cell"] == name].drop_duplicates("case")
        found.problems.extend(first(_case_against_prediction(cell, row) for row in rows.to_dict("records")))
    found.checked.append(f"predictions of {name} by their seals")
    return whole


def _case_against_prediction(cell: CellStore, row: Mapping[Any, Any]) -> str:
    try:
        stored = cell.read_prediction("test", row["case"])
    except ResultsError as error:
        return str(error)
    for column, value in (
        ("image_score", stored.prediction.image_score),
        ("predict_ms", 1000 * stored.seconds),
    ):
        if not same(row[column], value):
            return (
                f"cases.parquet, {row['cell']} · {row['case']}, {column}: it is {said(row[column])}, the prediction "
                f"has {said(value)}."
            )
    return ""


def _verify_scores(
    task: CellTask,
    dataset: Dataset,
    end: CellRecord,
    truths: dict[str, Truths],
    progress: CellProgress,
    found: Verification,
) -> None:
    """Scores the predictions of a cell again, in memory."""
    name = task.cell.name
    try:
        expected = CellRun(task, dataset, truths, lambda _, *stage: progress(name, *stage)).tables(end)
        there = task.store.read_tables()
    except BenchError as error:
        found.problems.append(f"cells/{name}: {error}")
        return
    for table, content in there._asdict().items():
        differences = _differences(table, content, getattr(expected, table), "the predictions give")
        found.problems.extend(first(f"cells/{name}/{one}" for one in differences))


def _differences(name: str, found: pd.DataFrame, expected: pd.DataFrame, source: str) -> Iterator[str]:
    """How a table differs from what it should be, a sentence for each value."""
    file, keys = f"{name}.parquet", KEYS[name]
    one, other = (_indexed(table, keys) for table in (found, expected))
    for where in other.index.difference(one.index):
        yield f"{file}: the row {_row(where)} is missing, which {source.removesuffix(' give')} have."
    for where in one.index.difference(other.index):
        yield f"{file}: the row {_row(where)} is one too many."
    shared = one.index.intersection(other.index)
    one, other = one.loc[shared], other.loc[shared]
    for column in [column for column in one if column in other]:
        for place in np.flatnonzero(~alike(one[column], other[column])).tolist():
            value, wanted = said(one[column].iloc[place]), said(other[column].iloc[place])
            yield f"{file}, {_row(shared[place])}, {column}: it is {value}, {source} {wanted}."


def _indexed(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Rows by their key; the same key again gets a number."""
    again = table.groupby(list(keys), sort=False, dropna=False).cumcount()
    return table.assign(again=again).set_index([*keys, "again"]).sort_index()


def _row(where: Iterable[Any]) -> str:
    *keys, again = where
    return " · ".join(map(str, keys)) + (f" (number {again + 1})" if again else "")


def _listed(value: Any) -> Any:
    """A list of numbers as it was before Parquet made an array of it, and `None` of NaN."""
    return value.astype(float).tolist() if isinstance(value, np.ndarray) else value


def _same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False
