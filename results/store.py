"""A run in its folder: predictions, tables and provenance, each file written whole or not at all.

The folder is on a disk, or anywhere that fsspec reaches, such as `s3://bucket/results`. It may have been received, so
that no link in it is followed, for reading, writing or deleting: what meets one raises an OSError.

<run>/run.json                              what was asked, versions, hardware, one entry per cell, the tables'
                                            checksums; sealed
<run>/cases.parquet, cases.csv              a row per cell, threshold policy and test case
<run>/scores.parquet, scores.csv            a row per cell, threshold policy and metric
<run>/volumes.parquet, volumes.csv          a row per cell, threshold policy and test volume
<run>/curves.parquet, curves.csv            a row per cell, split and threshold
<run>/comparisons.parquet, comparisons.csv  a row per dataset, threshold policy and pair of methods
<run>/ranks.parquet, ranks.csv              a row per dataset, threshold policy and method
<run>/cells/<cell>/cell.json                status, times, memory, environment; written last
<run>/cells/<cell>/<split>/<case>.npz       anomaly map, image score, mask, prompts, seconds, note; sealed
<run>/cells/<cell>/cases.parquet, scores.parquet, volumes.parquet, curves.parquet, error.txt
<run>/.lock, cells/<cell>/.lock             held by the process that writes there; of no meaning when it is gone

The seal of a prediction is explained in predictions.py. That of a record is the SHA-256 of its other entries as JSON,
keys sorted.
"""

import hashlib
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError
from upath import UPath

from ..harness.api import LazySequence
from ..harness.files import Lock
from ..harness.paths import expanded
from ..harness.safe_files import below, is_unfinished, plain_files, read_bytes
from .damage import known_columns
from .files import (
    ResultsError,
    checksum_of,
    hash_of,
    read_json,
    read_parquet,
    slug,
    to_csv,
    to_parquet,
    write_file,
    write_json,
)
from .predictions import StoredPrediction, decode, encode, is_sealed
from .record import CellRecord, RunRecord
from .tables import COLUMNS, VOLUMES, CellTables, table

_KEPT_PIXELS = 2**27  # of anomaly maps, half a gigabyte


class CellStore:
    """The folder of one cell: one method, fully configured, on one dataset with one seed."""

    def __init__(self, folder: UPath) -> None:
        self.folder = folder

    def _file(self, *names: str) -> UPath:
        """The path of a file or folder of the cell."""
        return below(self.folder, *names)

    def lock(self) -> Lock:
        """The right to write here."""
        return _lock(self.folder)

    def read(self) -> CellRecord | None:
        """The cell's record, or `None` when it has not come to its end, or the record is damaged."""
        content = read_json(self._file("cell.json"))
        try:
            return None if content is None else CellRecord.model_validate(content)
        except ValidationError:
            return None

    def write(self, record: CellRecord) -> None:
        """Ends the cell: everything else is on disk by now."""
        write_json(self._file("cell.json"), record.content())

    def reopen(self) -> None:
        """Takes back the end, good or bad, before anything in the cell is changed, and what a killed process left."""
        self.sweep()
        for name in ("cell.json", "error.txt"):
            (self.folder / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes the files that a killed process was writing."""
        for path in plain_files(self.folder):
            if is_unfinished(path):
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forgets the cell's record and its predictions."""
        self.reopen()
        self.drop_predictions()

    def copy_from(self, other: "CellStore") -> None:
        """Takes everything of a finished cell in another folder of this machine, its record last.

        Files are linked where the file system can: no file of a cell is ever changed, but replaced.

        Raises:
            OSError: It cannot be read or written.
        """
        for path in sorted(plain_files(other.folder), key=lambda path: path.name == "cell.json"):
            if not path.name.startswith("."):
                target = self._file(*path.relative_to(str(other.folder)).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.hardlink_to(path)
                except OSError:  # there is one already, or the file system has no links
                    write_file(target, read_bytes(path))

    def write_error(self, text: str) -> None:
        """Keeps the traceback of a cell that failed."""
        write_file(self._file("error.txt"), text)

    def intact(self, split: str, case_ids: Iterable[str]) -> set[str]:
        """The cases whose predictions are there and have an unbroken seal."""
        folder = self._file(split)
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        paths = {case_id: self._places(split, case_id) for case_id in case_ids}
        return {
            case_id
            for case_id, of_case in paths.items()
            for path in [path for path in of_case if path.name in there][:1]
            if is_sealed(read_bytes(path)) is True
        }

    def seals(self, split: str) -> dict[str, bool | None]:
        """The predictions of a split by the names of their files: whether each seal is whole, `None` without one."""
        return {path.name: is_sealed(read_bytes(path)) for path in sorted(self._file(split).glob("*.npz"))}

    def count(self, split: str) -> int:
        """How many predictions of a split are there, whole or not."""
        return sum(1 for _ in self._file(split).glob("*.npz"))

    def write_prediction(self, split: str, case_id: str, stored: StoredPrediction, dtype: str) -> None:
        """Keeps a prediction.

        Args:
            split: `valid` or `test`.
            case_id: The case's id.
            stored: The prediction to keep.
            dtype: `float32` or `float16`, as `encode` takes it.
        """
        write_file(self._places(split, case_id)[0], encode(case_id, stored, dtype))

    def read_prediction(self, split: str, case_id: str) -> StoredPrediction:
        """Reads a prediction back.

        Raises:
            ResultsError: It is not there or is damaged; the text names the file.
        """
        path, old = self._places(split, case_id)
        try:
            try:
                content = read_bytes(path)
            except FileNotFoundError:
                if not old.exists():
                    raise
                path, content = old, read_bytes(old)
            return decode(case_id, content)
        except Exception as error:  # damaged bytes make zipfile, zlib and numpy raise half a dozen kinds
            raise ResultsError(
                f"The prediction {path} cannot be read ({error}). Run the same command again: it is made anew."
            ) from error

    def drop_predictions(self) -> None:
        """Deletes anomaly maps and masks; scores stay."""
        for split in ("valid", "test"):
            for path in plain_files(self._file(split)):
                if path.suffix == ".npz":
                    path.unlink(missing_ok=True)

    def predictions(self, split: str, case_ids: Sequence[str]) -> Sequence[StoredPrediction]:
        """The predictions of a split, in the order of the given cases.

        They are read when asked for: a test set's maps need not fit into memory. Small ones are kept once read.
        """
        ids, kept, pixels = tuple(case_ids), dict[int, StoredPrediction](), 0

        def read(position: int) -> StoredPrediction:
            nonlocal pixels
            if position in kept:
                return kept[position]
            stored = self.read_prediction(split, ids[position])
            pixels += stored.prediction.anomaly_map.size
            if pixels <= _KEPT_PIXELS:
                kept[position] = stored
            return stored

        return LazySequence(len(ids), read)

    def write_tables(self, tables: CellTables) -> None:
        for name, content in tables._asdict().items():
            write_file(self._file(f"{name}.parquet"), to_parquet(content))

    def read_tables(self) -> CellTables:
        """The cell's tables; one that an older version did not write yet is empty.

        Raises:
            ResultsError: One is damaged.
        """
        files = {name: self._file(f"{name}.parquet") for name in COLUMNS}
        return CellTables(
            *(
                _known(read_parquet(file), name, file) if file.exists() else table([], COLUMNS[name])
                for name, file in files.items()
            )
        )

    def _places(self, split: str, case_id: str) -> tuple[UPath, UPath]:
        """Where a prediction is written, and where version 0.1.0 wrote it, which is still read."""
        old = urllib.parse.quote(case_id, safe=" ", errors="surrogatepass")
        if len(old) > 200:
            old = hashlib.sha256(case_id.encode(errors="surrogatepass")).hexdigest()
        return self._file(split, f"{slug(case_id)}.npz"), self._file(split, f"{old}.npz")


@dataclass(frozen=True)
class RunState:
    """How far a run has come.

    Attributes:
        ended: Cells that have come to their end, good or bad.
        planned: All its cells.
        running: Whether a process is working on it; without file locks, as in an object store, nobody can tell.
    """

    ended: int
    planned: int
    running: bool

    @property
    def done(self) -> bool:
        return self.ended == self.planned

    def __str__(self) -> str:
        if self.done:
            return "done"
        return f"{'running' if self.running else 'unfinished'}: {self.ended} of {self.planned} cells"


class RunStore:
    """The folder of one run."""

    def __init__(self, folder: Path | UPath) -> None:
        self.folder = _shared(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    def cell(self, name: str) -> CellStore:
        """The folder of a cell.

        Raises:
            OSError: It is a link.
            ResultsError: The name, which a table may have from anywhere, is that of no folder in this run.
        """
        if not name or name == ".." or Path(name).name != name:
            raise ResultsError(f"{name!r} is no cell of {self.folder}: no folder has this name.")
        return CellStore(self._file("cells", name))

    def _file(self, *names: str) -> UPath:
        """The path of a file or folder of the run."""
        return below(self.folder, *names)

    def lock(self) -> Lock:
        """The right to write the run's record and tables."""
        return _lock(self.folder)

    def read(self) -> RunRecord:
        """The run's record.

        Raises:
            ResultsError: There is no run in this folder, or its record is damaged.
        """
        record = read_json(self._file("run.json"))
        if record is None:
            raise ResultsError(f"There is no run in {self.folder}: run.json is missing or damaged.")
        try:
            return RunRecord.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "all of it"
            raise ResultsError(
                f"The record {self.folder / 'run.json'} is damaged ({place}: {first['msg']}). The same bench run "
                "command writes it again."
            ) from error

    def write(self, record: RunRecord) -> None:
        """Writes the run's record, sealed; the checksums of the tables that are there stay in it."""
        checksums = self._checksums()
        self._write_sealed(record.content() | ({"tables": checksums} if checksums else {}))

    def state(self) -> RunState:
        """How far the run has come.

        The record says `running` until the last cell has ended, also when a process was killed before; whether one is
        still there, the locks say that it holds: that of its cell, and, between two cells, that of the run.

        Raises:
            ResultsError: There is no run in this folder, or its record is damaged.
        """
        record = self.read()
        names = [cell.name for cell in record.cells]
        if record.status == "done":
            return RunState(len(names), len(names), running=False)
        ended = sum(self.cell(name).read() is not None for name in names)
        locks = (*(self.cell(name).folder / ".lock" for name in names), self.folder / ".lock")
        return RunState(ended, len(names), any(map(_is_held, locks)))

    def write_tables(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Writes tables of the run, in Parquet and in CSV, and their checksums into its record, where it has one."""
        record, checksums = read_json(self._file("run.json")), self._checksums()
        for name, rows in tables.items():
            for file, content in {f"{name}.parquet": to_parquet(rows), f"{name}.csv": to_csv(rows)}.items():
                write_file(self._file(file), content)
                checksums[file] = hashlib.sha256(content).hexdigest()
        if record:
            self._write_sealed(record | {"tables": checksums})

    def is_sealed(self) -> bool | None:
        """Whether the record is as it was written; `None` where an older version wrote it."""
        self.read()
        content = read_json(self._file("run.json")) or {}
        return content.pop("seal") == hash_of(content) if "seal" in content else None

    def changed_tables(self, files: Iterable[str] = ()) -> list[str]:
        """Those files of tables that are gone, or not what was written.

        Args:
            files: Which to look at, such as `scores.parquet`; by default all whose checksum is in the record.
        """
        checksums = self.read().tables
        return [file for file in files or checksums if file in checksums and self._checksum(file) != checksums[file]]

    def _checksums(self) -> dict[str, str]:
        """Those in the record; none where they are damaged, so that tables can be written again."""
        checksums = (read_json(self._file("run.json")) or {}).get("tables")
        return checksums if isinstance(checksums, dict) else {}

    def _checksum(self, file: str) -> str:
        path = self._file(file)
        return checksum_of(path) if path.exists() else ""

    def _write_sealed(self, record: dict[str, Any]) -> None:
        record = {name: value for name, value in record.items() if name != "seal"}
        write_json(self._file("run.json"), record | {"seal": hash_of(record)})

    def cases(self) -> pd.DataFrame:
        """A row per cell, threshold policy and test case."""
        return self._known("cases")

    def scores(self) -> pd.DataFrame:
        """A row per cell, threshold policy and metric."""
        return self._known("scores")

    def curves(self) -> pd.DataFrame:
        """A row per cell, split and threshold."""
        return self._known("curves")

    def volumes(self) -> pd.DataFrame:
        """A row per cell, threshold policy and test volume; none in a run of an older version."""
        if not self._file("volumes.parquet").exists():
            return table([], VOLUMES)
        return self._known("volumes")

    def comparisons(self) -> pd.DataFrame:
        """A row per dataset, threshold policy and pair of methods."""
        return self._known("comparisons")

    def ranks(self) -> pd.DataFrame:
        """A row per dataset, threshold policy and method."""
        return self._known("ranks")

    def _known(self, name: str) -> pd.DataFrame:
        """A table with the columns that it has by now.

        Raises:
            ResultsError: It is missing, or damaged in its columns, types or values.
        """
        return _known(self.table(name), name, self._file(f"{name}.parquet"))

    def table(self, name: str) -> pd.DataFrame:
        """A table as it is on disk.

        Raises:
            ResultsError: It is missing or damaged.
        """
        path = self._file(f"{name}.parquet")
        if not path.exists():
            state = self.state()
            if state.done:
                remedy = f"bench score {self.folder} makes it again from the predictions"
            else:
                remedy = f"the run is {state}. The same command goes on where it stopped"
            raise ResultsError(f"The run {self.folder} has no table {path.name}: {remedy}.")
        return read_parquet(path)


def _known(rows: pd.DataFrame, name: str, path: UPath) -> pd.DataFrame:
    try:
        return known_columns(rows, name)
    except ValueError as error:
        raise ResultsError(
            f"The table {path} is damaged: {error}. bench score makes it again from the predictions."
        ) from error


def find_runs(results: Path | UPath) -> list[RunStore]:
    """The runs in a results folder, newest first."""
    found = [(path.stat().st_mtime, RunStore(path.parent)) for path in _shared(results).glob("*/run.json")]
    return [run for _, run in sorted(found, key=lambda pair: (-pair[0], pair[1].name))]


def find_run(name: str, results: Path | UPath) -> RunStore:
    """Finds a run by its path, its name, the beginning of its name, or `latest`.

    Raises:
        ResultsError: No run, or more than one, answers to the name.
    """
    named = RunStore(UPath(expanded(name)))
    if (named.folder / "run.json").exists():
        return named
    runs = find_runs(results)
    if not runs:
        raise ResultsError(
            f"There are no runs in {results.resolve()}. Start one with bench run, or name another --results."
        )
    if name == "latest":
        return runs[0]
    matching = [run for run in runs if run.name == name] or [run for run in runs if run.name.startswith(name)]
    if len(matching) != 1:
        names = ", ".join(run.name for run in matching or runs)
        raise ResultsError(
            f"{len(matching)} runs in {results} have names that begin with {name!r}: {names}. Give more of the name."
            if matching
            else f"No run in {results} has the name {name!r}, or a name that begins so. There: {names}."
        )
    return matching[0]


def _shared(folder: Path | UPath) -> UPath:
    """A folder that other machines write to as well: what an object store once listed there is not remembered.

    An address of this machine, `file://…`, is the path itself, below which no link is followed.
    """
    path = UPath(folder)
    path = UPath(path.path) if path.protocol in ("file", "local") else path
    path.fs.dircache.use_listings_cache = False
    return path


def _is_held(path: UPath) -> bool:
    """Whether a process holds a lock; nothing is made where there is none."""
    if not isinstance(path, Path) or not path.exists():
        return False
    with suppress(OSError):  # of a folder that this process may only read
        lock = Lock(path)
        if not lock.acquire(wait=False):
            return True
        lock.release()
    return False


def _lock(folder: UPath) -> Lock:
    return Lock(folder / ".lock" if isinstance(folder, Path) else None)
