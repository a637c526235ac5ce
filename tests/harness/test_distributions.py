"""The source of plugins: in every way of installing them, a change is seen though the version is the same."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from miasbench.harness.analysis.gate import check, make_baseline, measure
from miasbench.harness.code_version import code_version, scoring_version
from miasbench.harness.distributions import git_commit, plugin_records, with_source
from miasbench.harness.running.cells import Outcome
from miasbench.harness.running.provenance import environment
from miasbench.results.baseline import DEFAULT_TOLERANCES
from miasbench.results.store import RunStore

from ..support import running

METHOD = """
from .core import SIGN
from miasbench.harness.api import Method, Prediction

class Toy(Method):
    def fit(self, images):
        pass

    def predict(self, image):
        return Prediction((SIGN * image).astype("float32"), float(image.max()))
"""
POLICY = """
from dataclasses import dataclass
from miasbench.harness.api import ImagePolicy

@dataclass(frozen=True)
class Half(ImagePolicy):
    name = "toy_half"

    def threshold(self, anomaly_map):
        return float(anomaly_map.max()) / 2
"""
DATASET = """
from miasbench.datasets.phantom import phantom_brain_mri

def toy_data(root):
    return phantom_brain_mri(root, train=3, valid=4, test=6, size=64)
"""
POINTS = """[miasbench.methods]
toy = toy_plugin.methods.toy:Toy
[miasbench.policies]
toy_half = toy_plugin.policies:Half
[miasbench.datasets]
toy_data = toy_plugin.data:toy_data
"""
Install = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a plugin in the way it is told, and returns the folder of its package."""

    def do(how: str) -> Path:
        site, project = tmp_path / "site", tmp_path / "project"
        root = site if how == "wheel" else project / "src"
        package = root / "toy_plugin"
        (package / "methods").mkdir(parents=True)
        (package / "methods" / "__init__.py").touch()
        (package / "__init__.py").touch()
        (package / "methods" / "toy.py").write_text(METHOD)
        (package / "methods" / "core.py").write_text("SIGN = 1.0\n")
        (package / "policies.py").write_text(POLICY)
        (package / "data.py").write_text(DATASET)
        (package / "methods" / "settings.yaml").write_text("sign: 1\n")
        (package / "weights.bin").write_bytes(bytes(2**20))
        (root / "toy_shared.py").write_text("SHARED = 1\n")
        info = site / "toy_plugin-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(POINTS)
        listed = [file.relative_to(site) for file in site.rglob("*") if file.is_file()]
        if how == "pth":
            (site / "_toy_plugin.pth").write_text(f"{root}\n")
            listed.append(Path("_toy_plugin.pth"))
        elif how == "finder":
            (site / "__editable___toy_plugin_finder.py").write_text("")
            (site / "__editable__.toy_plugin.pth").write_text("import __editable___toy_plugin_finder\n")
            (info / "top_level.txt").write_text("toy_plugin\ntoy_shared\n")
            listed += [Path("__editable__.toy_plugin.pth"), Path("__editable___toy_plugin_finder.py")]
        if how != "wheel":
            (info / "direct_url.json").write_text(json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}}))
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in listed))
        monkeypatch.syspath_prepend(site)
        monkeypatch.syspath_prepend(root)  # what Python does with a .pth file when it starts
        assert any(point.name == "toy" for point in entry_points(group="miasbench.methods"))
        return package

    yield do
    forget()


def forget() -> None:
    """Has the plugin imported anew, as a new process would."""
    for name in [name for name in sys.modules if name.startswith("toy_plugin")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("how", ["wheel", "pth", "finder"])
@pytest.mark.parametrize(
    "changed",
    [
        *("toy_plugin/methods/core.py", "toy_plugin/new.py", "toy_shared.py"),
        *("toy_plugin/methods/settings.yaml", "toy_plugin/weights.bin"),
    ],
)
def test_any_file_that_a_distribution_installs_is_in_its_hash(install: Install, how: str, changed: str) -> None:
    package = install(how)
    (before,) = with_source(["toy-plugin 1.0"])
    assert before.startswith("toy-plugin 1.0+")
    assert with_source(["toy-plugin 1.0", "other 2.0", "toy-plugin 1.0"]) == [before, "other 2.0"]
    file = package.parent / changed
    file.write_text("SIGN = -1.0\n")
    if how == "wheel" and changed == "toy_shared.py":
        file.write_text("SHARED = 2\n")
    assert with_source(["toy-plugin 1.0"]) != [before]


@pytest.mark.parametrize("how", ["wheel", "pth", "finder"])
def test_what_python_and_tools_leave_behind_is_in_no_hash(install: Install, tmp_path: Path, how: str) -> None:
    package = install(how)
    before = with_source(["toy-plugin 1.0"])
    (package / "__pycache__").mkdir()
    for left in (package / "__pycache__" / "core.cpython-311.pyc", package / "core.pyc", package / ".DS_Store"):
        left.write_bytes(b"x")
    (tmp_path / "site" / "toy_plugin-1.0.dist-info" / "INSTALLER").write_text("uv\n")
    if how == "finder":
        (tmp_path / "site" / "__editable___toy_plugin_finder.py").write_text("MAPPING = {'toy_plugin': '/elsewhere'}\n")
    assert with_source(["toy-plugin 1.0"]) == before


def test_methods_datasets_and_policies_are_of_the_code_that_uses_them(install: Install) -> None:
    package = install("pth")

    def versions() -> tuple[str, ...]:
        return code_version(["toy"]), code_version(["intensity"], "toy_data"), scoring_version()

    before, built_in = versions(), code_version(["intensity"], "phantom_brain_mri:train=3")
    (package / "methods" / "core.py").write_text("SIGN = -1.0\n")
    assert all(old != new for old, new in zip(before, versions(), strict=True))
    assert code_version(["intensity"], "phantom_brain_mri:train=3") == built_in, "no plugin is in it"


def test_another_place_is_no_other_code(install: Install, tmp_path: Path) -> None:
    package = install("pth")
    before = with_source(["toy-plugin 1.0"])
    moved = tmp_path / "moved"
    package.parent.rename(moved)
    (tmp_path / "site" / "_toy_plugin.pth").write_text(f"{moved}\n")
    sys.path[sys.path.index(str(package.parent))] = str(moved)
    assert with_source(["toy-plugin 1.0"]) == before


def test_cells_of_a_changed_plugin_are_run_again_and_judged(install: Install, tmp_path: Path) -> None:
    def run() -> tuple[RunStore, list[Outcome]]:
        forget()
        return running.run(tmp_path / "results", "toy")

    package = install("pth")
    before, _ = run()
    baseline = make_baseline(before, DEFAULT_TOLERANCES)
    assert [outcome.status for outcome in run()[1]] == ["kept"]
    (package / "methods" / "core.py").write_text("SIGN = -1.0\n")
    after, outcomes = run()
    assert [outcome.status for outcome in outcomes] == ["finished"], outcomes
    found = {one.what: one for one in check(baseline, measure(after, baseline.tolerance))}
    assert found["code"].kind == "code changed"
    assert "toy-plugin 1.0+" in found["code"].text
    assert found["pixel_auroc"].kind == "regression"


def test_the_commit_of_a_plugins_repository_is_recorded(install: Install) -> None:
    package = install("pth")
    project = package.parents[1]
    assert plugin_records()["toy-plugin"]["git_commit"] is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(project)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    recorded = environment("cpu", "bench run")["plugins"]["toy-plugin"]
    assert (recorded["version"], recorded["git_commit"]) == ("1.0", head)
    (package / "policies.py").write_text(f"{POLICY}\n# changed\n")
    assert plugin_records()["toy-plugin"]["git_commit"] == f"{head}-dirty"
    assert git_commit(project / "unknown.py") is None


def test_the_commit_that_pip_installed_from_is_recorded(install: Install, tmp_path: Path) -> None:
    install("wheel")
    direct = {"url": "https://example.org/toy.git", "vcs_info": {"vcs": "git", "commit_id": "c" * 40}}
    (tmp_path / "site" / "toy_plugin-1.0.dist-info" / "direct_url.json").write_text(json.dumps(direct))
    assert plugin_records()["toy-plugin"]["git_commit"] == "c" * 40
