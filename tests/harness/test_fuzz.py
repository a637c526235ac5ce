"""Whatever stands in a file that a user writes or that may be damaged: a message, never a traceback."""

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miasbench.datasets.folder import open_folder
from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.api import BenchError
from miasbench.harness.cli import main
from miasbench.harness.config import make_config, read_config
from miasbench.harness.running.planning import make_plan
from miasbench.results.store import RunStore

from ..support.running import TINY, run

CONFIG = {
    "methods": ["intensity[sigma=1]"],
    "dataset": [TINY],
    "weights": "embedded",
    "seeds": [0],
    "size": 64,
    "device": "cpu",
    "data_root": "data",
    "results": "results",
    "limit": 3,
    "maps": "float16",
    "controls": False,
    "set": {"intensity": {"sigma": 1}},
    "score": {"mask_edges": "paper", "fixed_threshold": 90, "pixels": "exact"},
}
CARD = {
    "name": "mine",
    "licence": "CC BY 4.0",
    "root": "slices",
    "counts": {"train": 3, "valid": 4, "test": 6},
    "patient": r"^(\d+)_",
    "splits": {
        "train": {"normal": "train/good/img"},
        "valid": {"normal": "valid/good/img"},
        "test": {"normal": "test/good/img", "anomalous": "test/Ungood/img", "masks": "test/Ungood/anomaly_mask"},
    },
}

words = st.sampled_from(
    ["", " ", "0", "-1", "1e999", "nan", "../..", "/", "\0", "*", "**", "[", "(", "{{1+1}}", "%s", "ä\u202e", "a" * 300]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=8), inner, max_size=3)
)
# The same examples every time: what fails in CI is to be what the change has broken.
fuzzed = settings(
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to everything in nested mappings and lists."""
    yield path
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield from places(value, (*path, key))


@st.composite
def damaged(draw: st.DrawFn, content: Any) -> Any:
    """The content with one thing in it removed, added or replaced."""
    content = copy.deepcopy(content)
    path = draw(st.sampled_from(list(places(content))))
    if not path:
        return draw(values)
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    what = draw(st.sampled_from(["remove", "replace", "replace", "add"]))
    if what == "remove":
        del holder[path[-1]]
    elif what == "add" and isinstance(holder, dict):
        holder[draw(words)] = draw(values)
    else:
        holder[path[-1]] = draw(values)
    return content


@fuzzed
@given(content=damaged(CONFIG).map(lambda content: yaml.safe_dump(content).encode()) | st.binary(max_size=40))
def test_run_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_bytes(content)
    with suppress(BenchError):
        options = read_config(tmp_path / "run.yaml")
        make_plan(make_config(options, "in run.yaml"))


@fuzzed
@given(content=damaged(CARD).map(lambda content: yaml.safe_dump(content).encode()) | st.binary(max_size=40))
def test_cards(tmp_path: Path, content: bytes) -> None:
    if not (tmp_path / "slices").exists():
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "slices")
    (tmp_path / "card.yaml").write_bytes(content)
    with suppress(BenchError):
        _ = open_folder(tmp_path / "card.yaml").fingerprint


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['touch harmed']", "!!python/name:os.system"])
def test_yaml_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.yaml").write_text(f"name: {text}\n")
    with pytest.raises(BenchError):
        read_config(tmp_path / "file.yaml")
    with pytest.raises(BenchError):
        open_folder(tmp_path / "file.yaml")
    assert not (tmp_path / "harmed").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    folder = tmp_path_factory.mktemp("finished")
    store, _ = run(folder, "intensity", "intensity[sigma=1]")
    bench("baseline", store.folder, "--out", folder / "baseline.json")
    return store


def bench(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code in (0, 1, 2, 3, 4)


@pytest.mark.slow
@fuzzed
@given(data=st.data())
def test_records_of_runs(finished: RunStore, data: st.DataObject) -> None:
    path = Path(finished.folder.path) / "run.json"
    kept = path.with_suffix(".kept")
    if not kept.exists():
        shutil.copy(path, kept)
    content = data.draw(
        damaged(json.loads(kept.read_text())).map(lambda it: json.dumps(it).encode()) | st.binary(max_size=40)
    )
    path.write_bytes(content)
    try:
        command = data.draw(st.sampled_from(["show", "score", "baseline", "stats", "compare", "list"]))
        match command:
            case "list":
                bench("list", "runs", "--results", finished.folder.parent)
            case "compare":
                bench("compare", finished.folder, finished.folder)
            case "baseline":
                bench("baseline", finished.folder, "--out", finished.folder.parent / "new.json")
            case _:
                bench(command, finished.folder)
    finally:
        shutil.copy(kept, path)


@pytest.mark.slow
@fuzzed
@given(data=st.data())
def test_baselines(finished: RunStore, data: st.DataObject) -> None:
    baseline = json.loads((finished.folder.parent / "baseline.json").read_text())
    content = data.draw(damaged(baseline).map(lambda it: json.dumps(it).encode()) | st.binary(max_size=40))
    path = Path(finished.folder.parent.path) / "damaged.json"
    path.write_bytes(content)
    bench("check", finished.folder, "--baseline", path)
