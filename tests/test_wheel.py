"""The wheel works where there is no checkout: nothing that it needs is left behind."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("harness", "methods", "datasets", "results", "reports")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:  # a copy, so that an old build folder cannot lend files that are gone
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_holds_every_file_of_the_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        f"miasbench/{path.relative_to(ROOT).as_posix()}".replace("miasbench/harness/package/", "miasbench/")
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected


def test_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # Dependencies come from the environment of the tests; its editable miasbench does not, as nested .pth are not read.
    inner = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    outer = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    (Path(inner) / "dependencies.pth").write_text("\n".join(sorted(outer)) + "\n")
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MIASBENCH_RESULTS")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr, "libraries' warnings are not for users"
        return done.stdout

    where = run(python, "-c", "import miasbench.harness.api as api; print(api.__file__)")
    assert Path(where.strip()).is_relative_to(inner)
    bench = environment / "bin" / "bench"
    assert "mias_sam" in run(bench, "list", "methods")
    out = run(
        bench, "run", "--methods", "intensity,patchcore", "--weights", "embedded", "--size", "128",
        "--executor", "local", "--dataset", "phantom_retina_oct:train=3,valid=4,test=4,size=128",
    )  # fmt: skip
    assert "mean DICE of anomalous images" in out
    assert (tmp_path / "bench-results").is_dir()
    missing = subprocess.run([bench, "run", "-m", "intensity", "-d", "liver_ct"], cwd=tmp_path, env=clean, check=False)
    assert missing.returncode == 2, "its card came along"
