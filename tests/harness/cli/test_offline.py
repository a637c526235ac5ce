"""With MIASBENCH_OFFLINE=1 no command looks a host up or connects to one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from huggingface_hub import constants

from miasbench.harness.cli import cli, main
from miasbench.harness.network import SILENT, tell_libraries

DATASET = "phantom_brain_mri:train=2,valid=2,test=4,size=64"
RUN = f"run --dataset {DATASET} --size 64 --executor inline --methods"


class Ends(NamedTuple):
    """What is given to a command, and the code that it ends with."""

    arguments: str
    code: int = 0


CASES = {
    "run": [
        *(Ends(name, 2) for name in ("padim", "dinomaly", "anomalib:Fastflow", "csflow", "efficient_ad", "mias_sam")),
        *(Ends("intensity"), Ends("intensity --config {config}", 2)),
    ],
    "score": [Ends("{run}")],
    "show": [Ends("{run} --published")],
    "thresholds": [Ends("{run}")],
    "stats": [Ends("{run}")],
    "report": [Ends("{run} --out {new}")],
    "compare": [Ends("{run} {other}")],
    "baseline": [Ends("{run} --out {new}.json")],
    "check": [Ends("{run} --baseline {baseline}")],
    "verify": [Ends("{run}")],
    "list methods": [Ends(""), Ends("--markdown")],
    "list datasets": [Ends("")],
    "list policies": [Ends("")],
    "list operations": [Ends("")],
    "list options": [Ends("")],
    "list metrics": [Ends("")],
    "list runs": [Ends("")],
    "import": [
        Ends("{predictions} --size 64 --dataset " + DATASET),
        Ends("{predictions} --check --dataset " + DATASET),
    ],
    "export": [Ends("{run} --out {new}")],
    "data get": [Ends("liver_ct --accept-licence", 2)],
    "data add": [Ends("new {folder}"), Ends("new {archive}"), Ends("new https://127.0.0.1:9/a.zip", 2)],
    "data init": [Ends("{folder} --out {new}.yaml")],
    "data verify": [Ends("{folder}"), Ends(DATASET)],
    "data phantom": [Ends(f"{DATASET} --out {{new}}")],
    "weights get": [Ends("padim", 2), Ends("mias_sam", 2)],
    "weights list": [Ends("")],
    "weights verify": [Ends("")],
    "check-plugin": [Ends("intensity"), Ends("phantom_brain_mri"), Ends("otsu")],
}


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    """All commands, with those of groups."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def test_every_command_is_tried() -> None:
    assert set(CASES) == set(commands(cli))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What commands are given: runs, a baseline, exported predictions, a dataset, its archive, a run file."""
    root = tmp_path_factory.mktemp("made")
    at = {name: root / name for name in ("run", "other", "baseline", "export", "config")} | {"archive": root / "a.zip"}
    for arguments in (
        f"{RUN} intensity,intensity[sigma=2] --results {root} --name run",
        f"{RUN} intensity,intensity[sigma=3] --results {root} --name other",
        f"baseline {at['run']} --out {at['baseline']}",
        f"data phantom {DATASET} --out {root / 'phantoms'}",
        f"export {at['run']} --method intensity --out {at['export']}",
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments.split())
        assert not end.value.code, arguments
    (at["folder"],) = (root / "phantoms").iterdir()
    (at["predictions"],) = at["export"].iterdir()
    shutil.make_archive(str(at["archive"].with_suffix("")), "zip", at["folder"])
    at["config"].write_text(f"dataset: ['{DATASET}']\nexecutor: ray\naddress: ray://127.0.0.1:9\n")
    return at


@pytest.mark.usefixtures("unconnected", "undrawn")
@pytest.mark.parametrize(
    ("command", "ends"), [(command, ends) for command, several in CASES.items() for ends in several], ids=str
)
def test_nothing_is_asked_for(
    command: str, ends: Ends, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MIASBENCH_DATA", "MIASBENCH_WEIGHTS", "MIASBENCH_RESULTS", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    begin = RUN if command == "run" else command
    arguments = ends.arguments.format(**made, new=tmp_path / "new").split()
    with pytest.raises(SystemExit) as end:
        main([*begin.split(), *arguments])
    assert end.value.code == ends.code


def test_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SILENT, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.setenv("MIASBENCH_OFFLINE", "0")
    tell_libraries()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["DO_NOT_TRACK"] == "0", "what the user has said stays"
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    tell_libraries()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
