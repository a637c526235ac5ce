"""Files of a results folder, on a disk or anywhere that fsspec reaches: their names, records and tables."""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

import pandas as pd
from upath import UPath

from ..harness.api import BenchError
from ..harness.files import PLAIN
from ..harness.paths import DEVICES
from ..harness.safe_files import open_plain, read_bytes, write_whole

_LONGEST = 80  # characters of a slug
_DIGITS = 10  # of its hash
_DEEPEST = 50  # levels of a record
_LONGEST_TEXT = 200_000  # characters in a record: what is shown is looked through for escapes and secrets
_LARGEST_RECORD = 2**25  # bytes, of more than 10,000 cells
_LARGEST_TABLE = 2**30  # bytes in memory, of what compresses better than tables do
_LARGEST_FILE = 2**33  # bytes of a table
_LONGEST_REASON = 300  # characters of what a library says of a damaged file
_GROWTH = 200  # times that a table may become larger in memory than its file is
_SAFE = re.compile(r"[a-z0-9_+=]([a-z0-9_.+=-]*[a-z0-9_+=-])?")
_HASHED = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}$")  # as another text's slug may end


class ResultsError(BenchError):
    """A results folder that cannot be written, or that holds no such run."""


def slug(text: str) -> str:
    """Makes a file name of any text: another one for every text, also where upper and lower case are the same.

    Text that can be a file name everywhere stays as it is: lower-case letters, digits and `_.+=-`, at most 80 of them.
    Any other text is cleaned, shortened, and ends in a hash of all of it. Room is left for what callers put around it.
    """
    if _SAFE.fullmatch(text) and len(text) <= _LONGEST and not (_HASHED.search(text) or DEVICES.search(text)):
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return DEVICES.sub(r"\1_\2", readable(text, _LONGEST - _DIGITS - 1)) + f"-{digest[:_DIGITS]}"


def hash_of(content: Any) -> str:
    """SHA-256 (hex) of content as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def readable(text: str, length: int) -> str:
    """By what a reader knows a text in a file name that is unique for other reasons; at most `length` characters."""
    return re.sub(r"[^A-Za-z0-9_.+=-]+", "_", text).strip("_.").lstrip("_.-")[:length] or "data"


def write_file(path: Path | UPath, content: bytes | str) -> None:
    """Writes a file so that a reader, now or after a crash, sees all of it or none; text in UTF-8.

    A link that stands in its place is replaced, and not followed.

    Raises:
        OSError: A file of this machine cannot be written; `filename` is its path.
        ResultsError: An object store does not take it.
    """
    if isinstance(path, Path):
        return write_whole(path, content)
    try:
        # An object store shows an object when all of it is there.
        path.write_bytes(content.encode(errors=PLAIN) if isinstance(content, str) else content)
    except Exception as error:  # the client of each kind of store has errors of its own
        raise ResultsError(
            f"{path} cannot be written: {error}. What is finished is kept; the same command goes on."
        ) from error


def write_json(path: Path | UPath, content: dict[str, Any]) -> None:
    """Writes a record, whole or not at all."""
    write_file(path, json_bytes(content))


def json_bytes(content: dict[str, Any]) -> bytes:
    """A record as the content of its file."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # In JSON, \udcNN is the byte of a path that is not UTF-8, which a reader gets back.
    return text.encode(errors="backslashreplace")


def read_json(path: Path | UPath) -> dict[str, Any] | None:
    """Reads a record; `None` when it is missing or damaged.

    Raises:
        OSError: It is a link, or cannot be read.
    """
    try:
        content = json.loads(read_bytes(path, most=_LARGEST_RECORD).decode())
    except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):  # neither JSON nor, perhaps, text
        return None
    return content if isinstance(content, dict) and _is_moderate(content, _DEEPEST) else None


def _is_moderate(content: Any, levels: int) -> bool:
    """Whether it is nested no deeper and has no text so long that what reads it would give up."""
    if isinstance(content, str):
        return len(content) <= _LONGEST_TEXT
    if not isinstance(content, dict | list):
        return True
    inside = [*content, *content.values()] if isinstance(content, dict) else content
    return levels > 0 and all(_is_moderate(one, levels - 1) for one in inside)


def to_parquet(table: pd.DataFrame) -> bytes:
    """A table as the content of a Parquet file, without its index."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def to_csv(table: pd.DataFrame) -> bytes:
    """A table as the content of a CSV file in UTF-8, without its index."""
    return table.to_csv(index=False).encode(errors=PLAIN)


def read_parquet(path: Path | UPath) -> pd.DataFrame:
    """Reads a table of a run or a cell.

    Raises:
        ResultsError: It is damaged; the text names the file.
        OSError: It is a link, or cannot be read.
    """
    from pyarrow import parquet

    with _opened(path) as (file, size):
        try:
            _require_sane_size(file, max(_LARGEST_TABLE, _GROWTH * size))
            # Threads of pyarrow that are left when Python ends can abort the process after its work is done, so there
            # are none (github.com/apache/arrow/issues/33975); pandas.read_parquet starts one in any case.
            table = parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)
            return table.to_pandas(use_threads=False, ignore_metadata=True)
        except Exception as error:  # damaged bytes make pyarrow raise several kinds
            why = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
            raise ResultsError(
                f"The table {path} cannot be read ({why}). bench score computes it again from the predictions."
            ) from error


@contextmanager
def _opened(path: Path | UPath) -> Iterator[tuple[BinaryIO, int]]:
    """A file, which is read as far as is needed, and its size."""
    if isinstance(path, Path):
        with open_plain(path, os.O_RDONLY) as file:
            yield file, os.fstat(file.fileno()).st_size
    else:
        content = path.read_bytes()
        yield io.BytesIO(content), len(content)


def checksum_of(path: Path | UPath) -> str:
    """The SHA-256 (hex) of a file of tables; of one that is larger than any is, none that fits.

    Raises:
        OSError: It is a link, or cannot be read.
    """
    with _opened(path) as (file, size):
        return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest() if size <= _LARGEST_FILE else ""


def _require_sane_size(content: Any, most: int) -> None:
    """Refuses a Parquet file that is small and becomes huge in memory, before it does.

    Numbers are counted by the file's metadata. Texts are read as they are stored, each different one once, and counted.

    Raises:
        ResultsError: It would become larger than `most` bytes.
    """
    import pyarrow.compute
    from pyarrow import parquet, types

    compute: Any = pyarrow.compute  # which makes its functions when it is imported

    file = parquet.ParquetFile(content, pre_buffer=False)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    values = sum(group.column(column).num_values for group in groups for column in range(group.num_columns))
    texts = [
        field.name for field in file.schema_arrow if types.is_string(field.type) or types.is_large_string(field.type)
    ]
    size = 8 * values
    if size <= most and texts:
        file = parquet.ParquetFile(content, pre_buffer=False, read_dictionary=texts)
        for column in file.read(columns=texts, use_threads=False).columns:
            for chunk in column.chunks:
                lengths = compute.binary_length(chunk.dictionary).take(chunk.indices)
                size += compute.sum(lengths).as_py() or 0
    if size > most:
        raise ResultsError(f"it would take {size / 2**30:,.1f} GiB of memory")
