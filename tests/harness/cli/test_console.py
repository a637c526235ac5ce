"""Progress in a log, and in a narrow terminal."""

import io
import re
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from miasbench.harness.cli import console as output
from miasbench.harness.cli.console import CellBars, SafeConsole, stage_status

CELL = "brain_flair_lgg · mias_sam[prompt=centroid_box] · seed 0"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was printed where there is no terminal, line by line."""
    out = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=out, width=140, markup=False, highlight=False))
    monkeypatch.setattr(output, "_live", False)
    return lambda: out.getvalue().splitlines()


def without_time(line: str) -> str:
    assert re.match(r"\d\d:\d\d:\d\d  ", line), line
    return line[10:]


def test_each_stage_is_a_line_with_the_time_and_a_count(log: Callable[[], list[str]]) -> None:
    with CellBars(3) as cells:
        cells.show("one", "fit", 0, 0)
        assert len(log()) == 1, "it comes at once"
        for done in range(1, 1001):
            cells.show("one", "predict test", done, 1000)
        cells.show("one", "finished", 1, 1)
        cells.show("two", "failed", 1, 1)
        cells.show("three", "fit", 0, 0)
    assert [without_time(line) for line in log()] == [
        "0 of 3  one: fit",
        "0 of 3  one: predict test",
        "1 of 3  one: finished",
        "2 of 3  two: failed",
        "2 of 3  three: fit",
    ]


def test_a_long_stage_is_a_line_now_and_then(log: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0
    monkeypatch.setattr(time, "monotonic", lambda: float(seconds))
    with CellBars(2) as cells:
        for seconds in range(100):
            cells.show("one", "predict test", seconds, 100)
    assert [without_time(line) for line in log()] == [
        "0 of 2  one: predict test",
        "0 of 2  one: predict test, 30 of 100",
        "0 of 2  one: predict test, 60 of 100",
        "0 of 2  one: predict test, 90 of 100",
    ]


def test_outside_of_cells_lines_come_at_once_or_when_it_takes_long(
    log: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0
    monkeypatch.setattr(time, "monotonic", lambda: float(seconds))
    with stage_status() as progress:
        for seconds in range(50):
            progress("unpacking a.zip", seconds, 50)
    with stage_status(at_once=True) as progress:
        progress("checking every file of the datasets", 0, 2)
    assert [without_time(line) for line in log()] == [
        "30 of 50  unpacking a.zip",
        "0 of 2  checking every file of the datasets",
    ]


@pytest.mark.parametrize("width", [50, 60, 80, 140])
def test_labels_are_cut_and_numbers_are_not(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, markup=False, highlight=False)
    monkeypatch.setattr(output, "console", console)
    monkeypatch.setattr(output, "_live", True)
    with CellBars(12) as cells:
        cells.show(CELL, "predict test", 1234, 5678)
    shown = out.getvalue()
    assert "1234/5678" in shown
    assert "0/12" in shown
    assert re.search(r"\d:\d\d:\d\d.* left", shown)
    assert ("predict test" in shown) == (width == 140)
    assert "brain_fl" in shown


@pytest.mark.parametrize("live", [True, False])
def test_a_name_is_no_markup_and_steers_nothing(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "[red]x[/red][link=http://a]y[/link]\x1b]52;c;cm0=\x07\x1b[2J\n::error::z"
    out = io.StringIO()
    console = SafeConsole(file=out, width=300, force_terminal=live)
    monkeypatch.setattr(output, "console", console)
    monkeypatch.setattr(output, "_live", live)
    with stage_status(at_once=True) as progress:
        progress(f"stage {name}", 1, 3)
        time.sleep(0.2 * live)  # it is drawn now and then
    with CellBars(1) as cells:
        cells.show(name, f"stage {name}", 1, 3)
    told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue().replace("\x1b[2J", "CLEARED"))
    assert "[red]x[/red][link=http://a]y[/link]" in told, "as it is written"
    assert not {"\x1b", "\x07"} & set(told)
    assert "CLEARED" not in told
    assert not re.search(r"^\s*::", told, re.MULTILINE)
