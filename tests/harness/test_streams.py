"""Whatever standard output is, writing to it comes about, and what was begun is done to its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAYS = """
import sys
from pathlib import Path
import click
from rich.console import Console
from rich.table import Table
from miasbench.harness.streams import open_streams
open_streams()
table = Table("a ± b")
table.add_row("brain · 0.5 – 0.7 空 \\udce9")
for _ in range(int(sys.argv[2])):
    click.echo("click · … \\udce9")
    print("print · … \\udce9")
    Console().print(table)
    click.echo("told · …", err=True)
Path(sys.argv[1]).touch()
"""


def say(
    end: Path, times: int = 1, shell: str = "", variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    script = end.with_name("says.py")
    script.write_text(SAYS, encoding="utf-8")
    command = [sys.executable, str(script), str(end), str(times)]
    if shell:
        command = ["sh", "-c", f'"$@" {shell}', "sh", *command]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | (variables or {}))


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp932"},
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"PYTHONIOENCODING": "utf-8"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_what_an_encoding_lacks_is_written_in_plain_characters(tmp_path: Path, variables: dict[str, str]) -> None:
    done = say(tmp_path / "end", variables=variables)
    assert done.returncode == 0, done.stderr
    encoding = variables["PYTHONIOENCODING"].partition(":")[0] or "ascii"
    for text in (done.stdout.decode(encoding), done.stderr.decode(encoding)):
        assert "\ufffd" not in text
    assert b"\\xe9" in done.stdout
    if encoding == "ascii":
        assert done.stdout.splitlines()[0] == b"click - ... \\xe9"
        assert b"| brain - 0.5 - 0.7 \\u7a7a \\xe9" in done.stdout
        assert done.stderr == b"told - ...\n"


def test_a_reader_that_goes_away_stops_nothing(tmp_path: Path) -> None:
    for shell in ("| head -1", "2>&1 | head -1", "| true"):
        end = tmp_path / shell.replace("|", "p").replace(" ", "")
        done = say(end, 2000, shell)
        assert end.exists(), done.stderr
        assert b"Traceback" not in done.stderr
        assert b"Broken" not in done.stderr


@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/null 2> /dev/null"])
def test_streams_that_are_closed_from_the_start_are_no_trouble(tmp_path: Path, shell: str) -> None:
    done = say(tmp_path / "end", 3, shell)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "end").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_behind_the_output_is_said() -> None:
    code = "from miasbench.harness.cli import main; main(['list', 'methods'])"
    done = subprocess.run(
        ["sh", "-c", '"$@" > /dev/full', "sh", sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "Error: standard output: its disk is full. Free some space, and run the same command again.\n"
    )
