import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def slices() -> list[np.ndarray]:
    """Grey discs on black, each with a texture of its own."""
    rows, columns = np.mgrid[:64, :64]
    disc = np.hypot(rows - 32, columns - 32) < 26
    noise = np.random.default_rng(0).integers(60, 110, size=(4, 64, 64))
    return [np.where(disc, texture, 0).astype(np.uint8) for texture in noise]


@pytest.fixture(scope="session")
def lesion(slices: list[np.ndarray]) -> np.ndarray:
    """The first slice with a bright spot."""
    image = slices[0].copy()
    image[36:46, 22:32] = 230
    return image


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder on this machine and returns its address."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that this test alone fills."""
    monkeypatch.setenv("MIASBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A Hugging Face cache without a hub behind it: returns where the weights of a repository go."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MIASBENCH_WEIGHTS", str(tmp_path / "weights"))

    def cached(repository: str) -> Path:
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("a" * 40)
        path = folder / "snapshots" / ("a" * 40) / "model.safetensors"
        path.parent.mkdir(parents=True)
        return path

    return cached
