"""Runs that somebody else has made up: nothing outside of their folder is read, written, deleted or connected to."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from miasbench.harness.cli import main

from ...support.running import TINY_RUN

FORCED = (*TINY_RUN, "--name", "it", "--force", "--maps", "none")

Bench = Callable[..., tuple[int, str]]


@pytest.fixture
def received(measured: Path, tmp_path: Path) -> Path:
    shutil.copytree(measured, tmp_path / "results")
    return tmp_path / "results" / "it"


@pytest.fixture
def bench(received: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs a command on the received run; gives its exit code and what it said of errors."""

    def command(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--results", str(received.parent)])
        return int(end.value.code or 0), " ".join(capsys.readouterr().err.split())

    return command


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's, with files of the names that a cell has, which must stay as it is."""
    folder = tmp_path / "home" / "work"
    (folder / "test").mkdir(parents=True)
    for name in ("error.txt", "scores.parquet", "cases.parquet", ".left.tmp", "test/mine.npz", "test/.left.tmp"):
        (folder / name).write_text(f"mine: {name}")
    before = content_of(folder)
    yield folder
    assert content_of(folder) == before


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cell_of(run: Path) -> Path:
    return next((run / "cells").iterdir())


def give_way(path: Path, to: Path) -> None:
    """Puts a link in the place of a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(to, target_is_directory=to.is_dir())


@pytest.mark.parametrize("command", [FORCED, ("score", "it")], ids=["run", "score"])
@pytest.mark.parametrize("place", ["cells", "cell", "split"])
def test_a_folder_that_is_a_link_is_not_followed(
    command: tuple[str, ...], place: str, bench: Bench, received: Path, outside: Path
) -> None:
    cell = cell_of(received)
    if place == "cells":
        (outside.parent / cell.name).symlink_to(outside)
    give_way(
        {"cells": received / "cells", "cell": cell, "split": cell / "test"}[place],
        {"cells": outside.parent, "cell": outside, "split": outside / "test"}[place],
    )
    code, said = bench(*command)
    assert code == 2
    assert "it is a link where none is followed" in said


@pytest.mark.parametrize("name", ["cell.json", "error.txt", "scores.parquet", "test/{}"])
@pytest.mark.parametrize("command", [FORCED, ("score", "it")], ids=["run", "score"])
def test_a_file_that_is_a_link_is_not_written_through(
    command: tuple[str, ...], name: str, bench: Bench, received: Path, outside: Path
) -> None:
    cell = cell_of(received)
    give_way(cell / name.format(next((cell / "test").iterdir()).name), outside / "scores.parquet")
    assert bench(*command)[0] in (0, 2)


@pytest.mark.parametrize("name", ["figures", "figures/thresholds.csv", "figures/thresholds_phantom_brain_mri.png"])
def test_figures_are_not_drawn_through_links(name: str, bench: Bench, received: Path, outside: Path) -> None:
    (received / "figures").mkdir()
    give_way(received / name, outside if name == "figures" else outside / "error.txt")
    code, said = bench("thresholds", "it")
    assert code == (2 if name == "figures" else 0), said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["report.html", "tables", "figures", "tables/tables.md"])
def test_a_report_is_not_written_through_links(name: str, bench: Bench, received: Path, outside: Path) -> None:
    out = received / "report"
    (out / "tables").mkdir(parents=True)
    give_way(out / name, outside if "." not in name else outside / "error.txt")
    code, said = bench("report", "it", "--out", str(out))
    assert code == (0 if "." in name else 2), said


@pytest.mark.parametrize("name", ["", "maps", "maps/test", "files.csv"])
def test_predictions_are_not_exported_through_links(name: str, bench: Bench, received: Path, outside: Path) -> None:
    out = received.parent / "out"
    bench("export", "it", "--out", str(out))
    (folder,) = out.iterdir()
    give_way(folder / name if name else folder, outside if "." not in name else outside / "error.txt")
    code, said = bench("export", "it", "--out", str(out))
    assert code == (0 if "." in name else 2), said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", ["run.json", "scores.parquet", "cells/{}/cell.json", "cells/{}/scores.parquet"])
def test_nobody_waits_at_a_pipe(name: str, bench: Bench, received: Path) -> None:
    path = received / name.format(cell_of(received).name)
    path.unlink()
    os.mkfifo(path)
    said = [bench(command, "it") for command in ("show", "verify", "score")]
    assert any("it is a pipe or a device" in text for code, text in said if code == 2)


def change(run: Path, **options: Any) -> None:
    """Changes options in a run's record."""
    record = json.loads((run / "run.json").read_text())
    record["config"] |= options
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.usefixtures("unconnected", "undrawn")
@pytest.mark.parametrize(
    "options",
    [
        {"results": "ftp://127.0.0.1:9/x"},
        {"results": "reference::http://127.0.0.1:9/x.json"},
        {"executor": "ray", "address": "ray://127.0.0.1:9"},
    ],
    ids=str,
)
def test_no_address_of_a_record_is_looked_up(
    options: dict[str, Any], bench: Bench, received: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    change(received, **options)
    out = str(tmp_path / "out")
    commands = [
        *(("show",), ("score",), ("thresholds",), ("report", "--out", out)),
        *(("baseline", "--out", f"{out}.json"), ("export", "--out", f"{out}_of_it")),
    ]
    for command, *rest in commands:
        assert bench(command, "it", *rest) == (0, ""), command
    assert "its seal is broken" in bench("verify", "it")[1] or bench("verify", "it")[0] == 0
    grow = [*TINY_RUN, "--name", "it", "--methods", "intensity[sigma=1]"]
    assert bench(*grow)[0] == 0, "it grows"
    assert bench("list", "runs")[0] == 0


SAID = "\x1b]52;c;cm0gLXJmIH4=\x07\x1b[2J"
NAME = f"x{SAID}\n::error file=a.py::[red]broken[/red]\n::set-output name=a::b"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("column", ["method", "dataset", "case", "policy", "note", "error"])
def test_no_name_steers_the_terminal_or_ci(
    column: str, received: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in received.glob("*.parquet"):
        table = pd.read_parquet(path)
        if column in table:
            table[column] = f"{NAME}{column}" if column != "policy" else table[column].str.replace("otsu", NAME)
            table.to_parquet(path)
    record = json.loads((received / "run.json").read_text())
    del record["seal"]
    record["datasets"] = {NAME if column == "dataset" else name: one for name, one in record["datasets"].items()}
    for cell in record["cells"]:
        cell.update({column: NAME} if column in ("method", "dataset") else {})
    for one in record["datasets"].values():
        one["notes"] = [NAME]
    record["tables"] = {}
    (received / "run.json").write_text(json.dumps(record))
    for command in ("show", "stats", "thresholds", "report", "baseline", "check", "verify"):
        more = {"report": ("--out", "report"), "baseline": ("--out", "b.json")}
        given = [str(tmp_path / one) if not one.startswith("-") else one for one in more.get(command, ())]
        given += ["--baseline", str(tmp_path / "b.json")] if command == "check" else []
        with pytest.raises(SystemExit):
            main([command, str(received), *given])
        told = "".join(capsys.readouterr())
        assert not set(told) & {"\x1b", "\x07"}, command
        assert not re.search(r"^\s*::[a-z]", told, re.MULTILINE), (command, told)


def test_no_secret_of_the_command_line_is_kept(
    received: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "from-the-environment")
    address = ["--address", "ray://me:password@127.0.0.1:9?token=abcdef", "--executor", "inline"]
    failing = [*TINY_RUN, *address, "--methods", "intensity", "--name", "new", "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["bench", *failing, "from-the-environment"])
    with pytest.raises(SystemExit):
        main(failing)
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "new"), "--out", str(tmp_path / "new" / "report")])
    kept = [path for path in (tmp_path / "new").rglob("*") if path.suffix in (".json", ".html", ".csv", ".txt")]
    assert len(kept) > 10
    for path in kept:
        for secret in ("password", "abcdef", "from-the-environment"):
            assert secret not in path.read_text(), (path, secret)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["{outside}", "../../home/work", "..", ""])
def test_no_cell_of_a_table_leads_out_of_the_run(
    name: str, bench: Bench, received: Path, outside: Path, tmp_path: Path
) -> None:
    shutil.copytree(cell_of(received) / "test", outside / "test", dirs_exist_ok=True)
    table = pd.read_parquet(received / "cases.parquet")
    table["cell"] = name.format(outside=outside)
    table.to_parquet(received / "cases.parquet")
    code, said = bench("report", "it", "--out", str(tmp_path / "report"))
    assert (code, said) == (0, "")
    assert not [*(tmp_path / "report").rglob("gallery*")], "nor are its maps drawn"
    shutil.rmtree(outside / "test")
    (outside / "test").mkdir()
    for name in ("mine.npz", ".left.tmp"):
        (outside / "test" / name).write_text(f"mine: test/{name}")


@pytest.mark.parametrize("depth", [100, 500, 100_000])
def test_one_bad_run_does_not_hide_the_others(
    depth: int, bench: Bench, received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(received, received.parent / "other")
    record = (received / "run.json").read_text()
    nested = f'"environment": {{"x": {"[" * depth}{"]" * depth},'
    (received / "run.json").write_text(record.replace('"environment": {', nested))
    with pytest.raises(SystemExit) as end:
        main(["list", "runs", "--results", str(received.parent)])
    assert not end.value.code
    told = capsys.readouterr().out
    assert "other  20" in told
    assert "it  There is no run in" in told
    assert bench("show", "it")[0] == 2


def test_a_lock_that_is_a_link_is_a_sentence(bench: Bench, received: Path, outside: Path) -> None:
    give_way(received / ".lock", outside / "error.txt")
    for command in (TINY_RUN, ("score",)):
        code, said = bench(*command, *(["--name", "it"] if command == TINY_RUN else ["it"]))
        assert code == 2
        assert "it is a link where none is followed" in said
