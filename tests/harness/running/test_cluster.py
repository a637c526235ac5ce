"""Cells on a Ray cluster, and runs in an object store: the same tables as on this machine's disk."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import ray
from moto.server import ThreadedMotoServer
from ray.cluster_utils import Cluster
from s3fs import S3FileSystem
from upath import UPath

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.api import UsageError
from miasbench.harness.config import results_folder
from miasbench.harness.running.cluster import cluster
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.rescoring import rescore
from miasbench.harness.running.runner import execute
from miasbench.results.files import ResultsError
from miasbench.results.record import CellRecord
from miasbench.results.store import RunStore, find_run, find_runs

from ...support.running import assert_equal_runs, config, predictions, run

pytestmark = pytest.mark.soak

METHODS = ("unruly[pause=0.2]", "unruly[pause=0.25]")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters of tests ask for none, whatever the user of this machine has."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.fixture
def two_nodes(unruly: Path) -> Iterator[Cluster]:
    """Two machines, as far as Ray can tell, with a core each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


def fits(diary: Path) -> list[str]:
    return sorted(line.split()[0] for line in diary.read_text().splitlines() if " fit " in line)


@pytest.mark.parametrize("shard_cases", [0, 3])
def test_a_machine_that_is_lost_in_the_middle_changes_nothing(
    tmp_path: Path, two_nodes: Cluster, unruly: Path, shard_cases: int
) -> None:
    other = two_nodes.add_node(num_cpus=1)
    two_nodes.wait_for_nodes()
    options: dict[str, Any] = {"address": two_nodes.address, "cell_memory": 0.1, "shard_cases": shard_cases}
    plan = make_plan(config(tmp_path / "cluster", *METHODS, **options))

    def lose() -> None:
        deadline = time.monotonic() + 120
        while not all(list(plan.store.cell(cell.name).folder.glob("*/*.npz")) for cell in plan.cells):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        two_nodes.remove_node(other, allow_graceful=False)

    killer = threading.Thread(target=lose)
    killer.start()
    outcomes = execute(plan, executor=cluster)
    killer.join()
    assert [(outcome.status, outcome.error) for outcome in outcomes] == [("finished", "")] * 2
    if not shard_cases:
        assert len(fits(unruly)) == 3, "one of the two cells was begun again"
    for cell in plan.cells:
        record = plan.store.cell(cell.name).read()
        assert record is not None and record.environment["cells_at_once"] == 1, "each machine has one core"
    undisturbed, _ = run(tmp_path / "here", *METHODS)
    assert_equal_runs(plan.store, undisturbed)
    assert not list(tmp_path.rglob("*.tmp"))
    before = predictions(plan.store)
    assert [outcome.status for outcome in execute(plan)] == ["kept", "kept"]
    assert predictions(plan.store) == before


def test_what_fails_there_is_a_row_and_what_differs_there_is_named(tmp_path: Path, two_nodes: Cluster) -> None:
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "data")
    options: dict[str, Any] = {"address": two_nodes.address, "cell_memory": 0.1, "dataset": [str(tmp_path / "data")]}
    methods = ("unruly[harm=cuda]", "unruly[harm=exit]", "intensity")
    plan = make_plan(config(tmp_path / "cluster", *methods, **options))
    outcomes = execute(plan, executor=cluster)
    assert [outcome.status for outcome in outcomes] == ["failed", "failed", "finished"]
    assert "CUDA error" in outcomes[0].error
    assert "The cluster lost the cell, 4 times" in outcomes[1].error
    first, second, *_ = sorted((tmp_path / "data" / "train" / "good" / "img").iterdir())
    content = first.read_bytes()
    for shard_cases in (0, 2):
        plan = make_plan(config(tmp_path / "changed", "intensity", **options, shard_cases=shard_cases))
        first.write_bytes(second.read_bytes())
        (outcome,) = execute(plan, executor=cluster, force=True)
        assert outcome.status == "failed"
        assert f"{socket.gethostname()} has other images of the dataset" in outcome.error
        first.write_bytes(content)


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    plan = make_plan(config(tmp_path, "intensity", address="127.0.0.1:9"))
    with pytest.raises(UsageError, match=r"The Ray cluster 127\.0\.0\.1:9 cannot be reached"):
        execute(plan, executor=cluster)


def test_the_token_of_a_cluster_is_brought_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE")
    plan = make_plan(config(tmp_path / "results", "intensity", address="127.0.0.1:9"))
    for token, mode in ((False, None), (True, "token")):
        if token:
            (tmp_path / ".ray").mkdir()
            (tmp_path / ".ray" / "auth_token").write_text("a" * 64)
        with pytest.raises(UsageError, match=r"has this machine the cluster's token"):
            execute(plan, executor=cluster)
        assert os.environ.get("RAY_AUTH_MODE") == mode


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'miasbench\[ray\]'"):
        execute(make_plan(config(tmp_path, "intensity")), executor=cluster)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3-compatible object store on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bench")
    S3FileSystem.clear_instance_cache()  # it knows the store of another test
    yield "s3://bench/results"
    server.stop()


def test_what_others_write_to_an_object_store_is_seen(bucket: str) -> None:
    store = RunStore(UPath(bucket) / "run").cell("cell")
    client = boto3.client("s3")
    for count in (1, 2):
        client.put_object(Bucket="bench", Key=f"results/run/cells/cell/test/{count}.npz", Body=b"")
        assert store.count("test") == count
    assert store.read() is None
    client.put_object(Bucket="bench", Key="results/run/cells/cell/cell.json", Body=b'{"status": "finished"}')
    assert store.read() == CellRecord(status="finished")


def test_an_object_store_that_is_not_there_is_a_message(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResultsError, match=r"s3://none/.* cannot be written: The specified bucket does not exist"):
        run("s3://none/results", "intensity")
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match=r"The results folder s3://bench/results cannot be reached: .*127\.0\.0\.1:9"):
        results_folder(bucket)


def test_a_run_in_an_object_store(tmp_path: Path, bucket: str, two_nodes: Cluster) -> None:
    options: dict[str, Any] = {"address": two_nodes.address, "cell_memory": 0.1}
    plan = make_plan(config(bucket, "unruly", "intensity", **options))
    assert [outcome.status for outcome in execute(plan, executor=cluster)] == ["finished", "finished"]
    here, _ = run(tmp_path / "here", "unruly", "intensity")
    assert_equal_runs(plan.store, here)
    assert [outcome.status for outcome in execute(plan)] == ["kept", "kept"]
    assert find_run("latest", plan.config.results).name == plan.store.name
    assert [store.name for store in find_runs(plan.config.results)] == [plan.store.name]
    rescore(plan.store)
    assert_equal_runs(plan.store, here)
    damaged = next(iter(plan.store.folder.glob("cells/*unruly*/test/*.npz")))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert sorted(outcome.status for outcome in execute(plan)) == ["finished", "kept"]
    assert_equal_runs(RunStore(plan.store.folder), here)
