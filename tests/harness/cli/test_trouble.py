"""Every command meets every error that a file system has, and says one sentence about it."""

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.cli import cli, main

ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.EBUSY,
    errno.ETXTBSY,
)

pytestmark = pytest.mark.usefixtures("undrawn")

# Every command, so that a new one cannot be forgotten, with arguments that make it write all that it can.
WRITING = {
    "run": "--methods intensity --dataset ./set --size 64 --results new --controls",
    "score": "latest",
    "thresholds": "latest",
    "report": "latest --out paper",
    "compare": "one two --csv new.csv",
    "baseline": "latest --out new.json",
    "check": "latest --baseline baseline.json --markdown gate.md --junit gate.xml",
    "import": "exported --dataset ./set --size 64 --method theirs --results new",
    "export": "latest --out new --as predictions --as images --as coco --as overlays",
    "data get": "liver_ct --accept-licence",
    "data add": "new ./set",
    "data init": "./set",
    "data verify": "./set --out findings.csv",
    "data phantom": "phantom_brain_mri:train=3,valid=4,test=6,size=64 --out phantoms",
    "weights get": "sam_vit_b",
}
READING = {
    "show": "latest --published",
    "stats": "latest",
    "verify": "latest",
    "list runs": "",
    "list methods": "",
    "list datasets": "",
    "list policies": "",
    "list metrics": "",
    "list operations": "",
    "list options": "",
    "weights list": "",
    "weights verify": "",
    "check-plugin": "otsu",
}


def commands(group: click.Command, *names: str) -> Iterator[str]:
    if not isinstance(group, click.Group):
        yield " ".join(names)
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, *names, name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, two runs of it, a baseline, and predictions as another program may have made them."""
    folder = tmp_path_factory.mktemp("finished")
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), folder / "set")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, sigma in (("one", 1), ("two", 2)):
            methods = f"intensity,intensity[sigma={sigma}]"
            assert code(f"run --methods {methods} --dataset ./set --size 64 --results bench-results-{name}") == 0
            next((folder / f"bench-results-{name}").iterdir()).rename(folder / name)
        (folder / "bench-results").mkdir()
        shutil.copytree(folder / "one", folder / "bench-results" / "one")
        assert code("baseline latest --out baseline.json") == 0
        assert code("export latest --method intensity --out out") == 0
        next((folder / "out").iterdir()).rename(folder / "exported")
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, in which commands run and keep everything."""
    here = tmp_path / "here"
    shutil.copytree(finished, here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("MIASBENCH_DATA", str(here / "data"))
    monkeypatch.setenv("MIASBENCH_WEIGHTS", str(here / "weights"))
    monkeypatch.delenv("MIASBENCH_OFFLINE", raising=False)
    return here


def code(arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments.split())
    assert isinstance(end.value.code, int)
    return end.value.code


def break_writing(patch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Lets everything that makes or changes a file in a folder fail."""

    def fails(function: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            path = arguments[0]
            inside = isinstance(path, str | os.PathLike) and Path(path).absolute().is_relative_to(folder)
            if inside and writes(*arguments[1:], **options):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return function(*arguments, **options)

        return call

    def opens(mode: str = "r", *_: Any, **__: Any) -> bool:
        return bool(set(mode) & set("wax+"))

    def opens_low(flags: int, *_: Any, **__: Any) -> bool:
        return bool(flags & (os.O_WRONLY | os.O_RDWR))

    opened = fails(io.open, opens)
    patch.setattr(io, "open", opened)
    patch.setattr(builtins, "open", opened)
    patch.setattr(os, "open", fails(os.open, opens_low))
    for name in ("mkdir", "replace", "rename", "symlink"):
        patch.setattr(os, name, fails(getattr(os, name), lambda *_, **__: True))


def assert_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    (line,) = (line for line in err.splitlines() if line)
    assert line.startswith("Error: ")
    assert any("/" in word or Path(word.strip(":")).suffix for word in line.split()), "it names a file"


def test_no_command_is_forgotten() -> None:
    assert {*commands(cli)} == {*WRITING, *READING}


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, *(pytest.param(number, marks=pytest.mark.slow) for number in ERRORS if number != errno.EACCES)],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("command", WRITING)
def test_what_cannot_be_written_is_one_sentence(
    command: str, number: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        break_writing(patch, folder, number)
        assert code(f"{command} {WRITING[command]}") == 2
    assert_one_sentence(capsys)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", [name for name in WRITING if not name.endswith(("get", "phantom"))])
def test_a_full_disk_is_one_sentence_that_names_the_file(
    command: str, folder: Path, full_disk: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    full_disk()  # whose error names no file
    assert code(f"{command} {WRITING[command]}") == 2
    assert_one_sentence(capsys)
    assert not [*folder.rglob("*.tmp")]


@pytest.mark.parametrize("command", READING)
def test_what_only_reads_needs_no_right_to_write(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        break_writing(patch, folder, errno.EROFS)
        assert code(f"{command} {READING[command]}") == 0
    assert capsys.readouterr().err == ""
