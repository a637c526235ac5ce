"""Several hundred hostile folders, by kind: runs, datasets, archives and predictions that somebody has made up.

`python tests/support/hostile.py FOLDER RUN` writes them all, from a run that is whole.
"""

import gzip
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow
from PIL import Image
from pyarrow import parquet

STEERS = "\x1b]52;c;cm0gLXJmIH4=\x07\x1b[2J\n::error file=a.py::[red]x[/red] <script>alert(1)</script> @everyone =1+1"
ADDRESS = "ftp://user:secret@127.0.0.1:9/x"
VALUES: dict[str, Any] = {
    "steering": STEERS,
    "address": ADDRESS,
    "reference": "reference::http://127.0.0.1:9/x.json",
    "absolute": "/etc",
    "upwards": "../../../..",
    "long": "x" * 100_000,
    "number": -(10**400),
    "nan": float("nan"),
    "nothing": None,
    "nested": json.loads("[" * 300 + "]" * 300),
    "list": [],
}


class Hostile(NamedTuple):
    """A hostile folder.

    Attributes:
        kind: What is wrong with it.
        name: Which one of its kind.
        make: Makes it, given a whole run or an empty folder, and a folder outside that is not to be touched.
    """

    kind: str
    name: str
    make: Callable[[Path, Path], None]


def runs(run: Path) -> Iterator[Hostile]:
    """Changes of a copy of this run."""
    others = tuple(sorted(f"cells/{cell.name}" for cell in (run / "cells").iterdir())[1:])
    inside = sorted(path for path in run.rglob("*") if not str(path.relative_to(run)).startswith(others))
    files = [str(path.relative_to(run)) for path in inside if path.is_file()]
    folders = [str(path.relative_to(run)) for path in inside if path.is_dir()]
    shown = [file for file in files if not file.endswith((".npz", ".csv"))]
    shown += [next(file for file in files if file.endswith(end)) for end in (".npz", ".csv")]
    for file in [*shown, ".lock", "figures/thresholds.csv"]:
        yield Hostile("link", file, lambda at, outside, file=file: link(at / file, outside / "mine.txt"))
        yield Hostile("circle", file, lambda at, _, file=file: link(at / file, at / file))
        yield Hostile("link to nowhere", file, lambda at, outside, file=file: link(at / file, outside / "new" / "x"))
        yield Hostile("pipe", file, lambda at, _, file=file: pipe(at / file))
        yield Hostile("device", file, lambda at, _, file=file: link(at / file, Path("/dev/zero")))
        yield Hostile("folder", file, lambda at, _, file=file: away(at / file).mkdir(parents=True))
    for folder in [*folders, "figures"]:
        yield Hostile("linked folder", folder, lambda at, outside, folder=folder: link(at / folder, outside))
    for file in shown:
        yield Hostile("holes", file, lambda at, _, file=file: os.truncate(at / file, 2**36))
        for how, content in (("empty", b""), ("noise", bytes(range(256)) * 99), ("zeros", bytes(9999))):
            yield Hostile(how, file, lambda at, _, file=file, content=content: put(at / file, content))
        yield Hostile("half", file, lambda at, _, file=file: put(at / file, half(at / file)))
    yield from _records(run)
    yield from _tables(run)


def _records(run: Path) -> Iterator[Hostile]:
    cell = next((run / "cells").iterdir()).name
    for file in ("run.json", f"cells/{cell}/cell.json"):
        content = json.loads((run / file).read_text())
        for place in _places(content):
            for what, value in VALUES.items():
                if len(place) == 1 or what == "steering":
                    yield Hostile(
                        f"record: {what}",
                        f"{file}: {'.'.join(map(str, place))}",
                        lambda at, _, file=file, place=place, value=value: _set(at / file, place, value),
                    )


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    if len(place) < 2 and isinstance(content, dict):
        for name, inside in content.items():
            yield from _places(inside, (*place, name))
    if len(place) == 1 and isinstance(content, list) and content and isinstance(content[0], dict):
        for name in content[0]:
            yield (*place, 0, name)


def _set(path: Path, place: tuple[Any, ...], value: Any) -> None:
    record = json.loads(path.read_text())
    record.pop("seal", None)
    inside = record
    for part in place[:-1]:
        inside = inside[part]
    inside[place[-1]] = value
    record.pop("tables", None)
    path.write_text(json.dumps(record))


def _tables(run: Path) -> Iterator[Hostile]:
    for table in ("cases", "scores", "curves", "comparisons", "ranks"):
        for column, kind in pd.read_parquet(run / f"{table}.parquet").dtypes.items():
            numeric = pd.api.types.is_numeric_dtype(kind)
            for value in (float("inf"),) if numeric else (STEERS, "/etc/passwd"):
                yield Hostile(
                    f"table: {table}",
                    f"{column} is {str(value)[:10]!r}",
                    lambda at, _, table=table, column=column, value=value: _fill(at, table, str(column), value),
                )
            yield Hostile(
                f"table: {table}",
                f"no {column}",
                lambda at, _, table=table, column=column: _fill(at, table, str(column), None),
            )
        yield Hostile("table: bomb", table, lambda at, _, table=table: _bomb(at / f"{table}.parquet"))


def _fill(run: Path, table: str, column: str, value: Any) -> None:
    _set(run / "run.json", ("tables",), {})
    path = run / f"{table}.parquet"
    rows = pd.read_parquet(path)
    (rows.drop(columns=column) if value is None else rows.assign(**{column: value})).to_parquet(path)


def _bomb(path: Path) -> None:
    rows = pd.read_parquet(path).head(1)
    table = pyarrow.Table.from_pandas(rows, preserve_index=False)
    parquet.write_table(table.take(pyarrow.array(np.zeros(5_000_000, dtype=np.int64))), path)
    _set(path.parent / "run.json", ("tables",), {})


CARD = "name: x\n{}\nsplits:\n  train: {{normal: good}}\n  test: {{anomalous: bad, masks: masks}}\n"


def datasets() -> Iterator[Hostile]:
    """Folders with a card, in a folder that is not there yet."""
    names = [f"{place}/{'a' * 40}_1.png" for place in ("good", "bad", "masks")]
    for file in names:
        yield Hostile("pipe", file, lambda at, _, file=file: _card(at, lambda: pipe(at / file)))
        yield Hostile("device", file, lambda at, _, file=file: _card(at, lambda: link(at / file, Path("/dev/zero"))))
        yield Hostile("circle", file, lambda at, _, file=file: _card(at, lambda: link(at / file, at / file)))
        yield Hostile("link", file, lambda at, to, file=file: _card(at, lambda: link(at / file, to / "mine.txt")))
        yield Hostile("holes", file, lambda at, _, file=file: _card(at, lambda: os.truncate(at / file, 2**36)))
        for what, content in _pictures().items():
            yield Hostile(f"image: {what}", file, lambda at, _, f=file, c=content: _card(at, lambda: put(at / f, c)))
    for what, line in {
        "pattern": "patient: '(a+)+$x'",
        "patterns": "patient: '((a|aa)+)+b'",
        "not a pattern": "patient: '('",
        "root": "root: /",
        "up": "root: ../../../../../../..",
        "name": f"title: {json.dumps(STEERS)}",
        "nested": f"title: {'[' * 500}{']' * 500}",
        "laughs": "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9) if n else 'x'}]" for n in range(12)),
        "tag": "title: !!python/object/apply:os.system ['touch OUTSIDE/harm']",
        "endless": "title: &x [*x]",
    }.items():
        yield Hostile(
            f"card: {what}", what, lambda at, to, line=line: _card(at, lambda: None, line.replace("OUTSIDE", str(to)))
        )


def _card(at: Path, harm: Callable[[], Any], line: str = "") -> None:
    for number in range(3):
        for place, value in (("good", 40), ("bad", 80), ("masks", 255)):
            pixels = np.full((32, 32), value, np.uint8)
            pixels[: 16 + number] = 0
            (at / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(at / place / f"{'a' * 40}_{number}.png")
    (at / "card.yaml").write_text(CARD.format(line))
    harm()


def _pictures() -> dict[str, bytes]:
    def saved(kind: str, image: Image.Image, **options: Any) -> bytes:
        content = io.BytesIO()
        image.save(content, kind, **options)
        return content.getvalue()

    small, large = Image.new("L", (32, 32)), Image.new("1", (12_000, 12_000))
    png = bytearray(saved("PNG", small))
    png[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    return {
        "large": saved("PNG", large),
        "large tiff": saved("TIFF", large, compression="tiff_adobe_deflate"),
        "announced": bytes(png),
        "many": saved("TIFF", small, save_all=True, append_images=[small] * 500),
        "gif": saved("GIF", small, save_all=True, append_images=[small] * 500),
        "text": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(r) file\n",
        "half": saved("PNG", small)[:60],
    }


def archives() -> Iterator[Hostile]:
    """Archives, in a folder that is not there yet, as `a.tar.gz` or `a.zip`."""
    for name in (
        "../up.png",
        "OUTSIDE/harm.png",
        "a/../../up.png",
        "C:/harm.png",
        "a\\..\\..\\up.png",
        "x" * 300,
        STEERS,
    ):
        yield Hostile(
            "archive: name", name[:20], lambda at, to, name=name: _zip(at, {name.replace("OUTSIDE", str(to)): b"x"})
        )
        yield Hostile(
            "archive: name",
            f"tar {name[:20]}",
            lambda at, to, name=name: _tar(at, _member(name.replace("OUTSIDE", str(to)), b"x")),
        )
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE):
        yield Hostile("archive: kind", str(kind), lambda at, _, kind=kind: _tar(at, _member("train/a.png", b"", kind)))
    yield Hostile("archive: many", "zip", lambda at, _: _zip(at, {f"{n}.png": b"" for n in range(20_000)}))
    yield Hostile("archive: bomb", "zip", lambda at, _: _zip(at, {"train/a.png": bytes(2**28)}))
    yield Hostile("archive: bomb", "name", lambda at, _: _long_name(at))


def _zip(at: Path, files: dict[str, bytes]) -> None:
    at.mkdir(parents=True)
    with zipfile.ZipFile(at / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
    return info, content


def _tar(at: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    at.mkdir(parents=True)
    with tarfile.open(at / "a.tar.gz", "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))


def _long_name(at: Path) -> None:
    at.mkdir(parents=True)
    info = tarfile.TarInfo("name")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with gzip.open(at / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(2**10):
            file.write(bytes(2**20))


def away(path: Path) -> Path:
    """Removes a file or folder, and makes the folder that it was in."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def link(path: Path, to: Path) -> None:
    away(path).symlink_to(to)


def pipe(path: Path) -> None:
    os.mkfifo(away(path))


def put(path: Path, content: bytes) -> None:
    away(path).write_bytes(content)


def half(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) // 2]


if __name__ == "__main__":
    target, whole = Path(sys.argv[1]), Path(sys.argv[2])
    (target / "outside").mkdir(parents=True)
    of_runs = [*runs(whole)]
    for number, hostile in enumerate([*of_runs, *datasets(), *archives()]):
        if number < len(of_runs):
            shutil.copytree(whole, target / f"{number:04}")
        hostile.make(target / f"{number:04}", target / "outside")
