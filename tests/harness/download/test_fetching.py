"""Downloads from a server that is slow, breaks off, lies and changes its mind."""

import contextlib
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from miasbench.harness.download import fetching
from miasbench.harness.download.fetching import FetchError, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB
OTHER = CONTENT[::-1]


class Server(http.server.ThreadingHTTPServer):
    """Answers each request as the next word of `script` says; the last word is said again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = ["whole"]
        self.content = CONTENT
        self.asked: list[str] = []
        self.logins: list[bool] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        word = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        asked = self.headers.get("Range", "")
        server.asked.append(asked)
        server.logins.append("Authorization" in self.headers)
        if word.isdecimal():
            self.send_error(int(word))
            return
        if word == "drop":  # before a word is said
            self.connection.close()
            return
        tag = f'"{hashlib.sha256(server.content).hexdigest()[:8]}"'
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        if self.headers.get("If-Range") != tag or word == "ignore":
            start = 0
        body = server.content[start:]
        if word.startswith("to "):
            self.send_response(302)
            self.send_header("Location", word.removeprefix("to "))
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if word == "endless":
            self._endless()
            return
        length = str(len(body) + (2**50 if word == "huge" else 0))
        self.send_header("Content-Length", {"many": "many", "minus": "-5"}.get(word, length))
        if word == "bomb":
            self.send_header("Content-Encoding", "gzip")
        if word != "untagged":
            self.send_header("ETag", tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        if word == "drip":
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                time.sleep(0.02)
        elif word == "slow":
            for at in range(0, len(body), 2**17):
                self.wfile.write(body[at : at + 2**17])
                time.sleep(0.05)
        else:
            self.wfile.write(body[: len(body) // 2] if word in ("cut", "untagged", "change") else body)
        if word == "change":
            server.content = OTHER

    def _endless(self) -> None:
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(2**16))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    monkeypatch.delenv("MIASBENCH_OFFLINE", raising=False)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def clean(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("script", [["whole"], ["slow"], ["drop", "whole"], ["503", "whole"], ["429", "whole"]])
def test_the_file_comes(tmp_path: Path, server: Server, script: list[str]) -> None:
    server.script, told = script, []
    fetch(server.url, tmp_path / "new" / "file.bin", sha256(CONTENT), lambda *step: told.append(step))
    assert (tmp_path / "new" / "file.bin").read_bytes() == CONTENT
    assert clean(tmp_path / "new") == ["file.bin"]
    assert told[-1] == ("downloading file.bin", len(CONTENT), len(CONTENT))


def test_what_is_there_is_not_asked_for(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert (tmp_path / "file.bin").read_bytes() == b"mine"
    assert not server.asked


def test_a_connection_that_breaks_goes_on_where_it_broke(tmp_path: Path, server: Server) -> None:
    server.script = ["cut"] * 4 + ["whole"]
    fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked[:3] == ["", f"bytes={2**19}-", f"bytes={2**19 + 2**18}-"]


def test_the_next_command_goes_on_where_this_one_gave_up(tmp_path: Path, server: Server) -> None:
    server.script = ["cut", "drop"]
    with pytest.raises(FetchError, match="524,288 bytes are kept, and the same command goes on from there"):
        fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    server.script, server.asked = ["whole"], []
    fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert server.asked == [f"bytes={2**19}-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert clean(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("script", [["cut", "ignore"], ["untagged", "whole"]])
def test_a_server_that_sends_no_parts_is_asked_for_all(tmp_path: Path, server: Server, script: list[str]) -> None:
    server.script = script
    fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_that_only_ever_sends_the_first_half_is_given_up(tmp_path: Path, server: Server) -> None:
    server.script = ["untagged"]
    with pytest.raises(FetchError, match=r"\(the connection broke off\). 524,288 bytes are kept"):
        fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert len(server.asked) < 10


def test_a_file_that_changes_between_two_parts_is_begun_again(tmp_path: Path, server: Server) -> None:
    server.script = ["change", "whole"]
    fetch(server.url, tmp_path / "file.bin", sha256(OTHER))
    assert (tmp_path / "file.bin").read_bytes() == OTHER


def test_a_file_that_has_changed_for_good_is_refused_and_removed(tmp_path: Path, server: Server) -> None:
    server.content = OTHER
    with pytest.raises(FetchError, match="is another file than expected"):
        fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert "file.bin" not in clean(tmp_path)
    assert "file.bin.part" not in clean(tmp_path)


@pytest.mark.parametrize("word", ["many", "minus"])
def test_a_length_that_is_no_number_is_none(tmp_path: Path, server: Server, word: str) -> None:
    server.script = [word]
    fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_without_a_checksum_what_comes_is_taken(tmp_path: Path, server: Server) -> None:
    fetch(server.url, tmp_path / "file.bin", "")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(("word", "says"), [("404", "answers 404 Not Found"), ("403", "answers 403"), ("500", "500")])
def test_what_is_refused_is_not_asked_for_for_long(tmp_path: Path, server: Server, word: str, says: str) -> None:
    server.script = [word]
    with pytest.raises(FetchError, match=says) as caught:
        fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert server.url in str(caught.value)
    assert len(server.asked) <= 2
    assert clean(tmp_path) == []


def test_no_server(tmp_path: Path, server: Server) -> None:
    with pytest.raises(FetchError, match=r"127.0.0.1:9/file cannot be downloaded \(ConnectionError\)"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file.bin", "")


def test_what_the_disk_does_not_hold_is_not_begun(tmp_path: Path, server: Server) -> None:
    server.script = ["huge"]
    with pytest.raises(FetchError, match=r"file.bin.part needs 1,125,\d+.\d+ GB more, and the disk of .* has"):
        fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert clean(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FetchError, match="cannot be written to"):
        fetch(server.url, tmp_path / "file" / "file.bin", "")


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_nothing_is_attempted(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, value: str, offline: bool
) -> None:
    monkeypatch.setenv("MIASBENCH_OFFLINE", value)
    if not offline:
        fetch(server.url, tmp_path / "file.bin", "")
        return
    with pytest.raises(FetchError) as caught:
        fetch(server.url, tmp_path / "file.bin", "")
    path = tmp_path / "file.bin"
    assert str(caught.value) == (
        f"{path} is not there, and it is not downloaded, because MIASBENCH_OFFLINE is set. It is {server.url}."
    )
    assert not server.asked


def test_two_that_want_one_file_download_it_once(tmp_path: Path, server: Server) -> None:
    server.script = ["slow"]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(fetch, server.url, tmp_path / "file.bin", sha256(CONTENT)) for _ in range(2)]
    for one in both:
        one.result()
    assert len(server.asked) == 1
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("script", [["whole"], ["cut", "whole"]])
def test_a_link_in_place_of_a_part_is_not_followed(tmp_path: Path, server: Server, script: list[str]) -> None:
    server.script = script
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "file.bin.part").symlink_to(tmp_path / "mine")
    with pytest.raises(FetchError, match="it is a link where none is followed"):
        fetch(server.url, tmp_path / "weights" / "file.bin", sha256(CONTENT))
    assert not server.asked
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_part_that_is_also_another_file_is_not_written(tmp_path: Path, server: Server) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "file.bin.part").hardlink_to(tmp_path / "mine")
    with pytest.raises(FetchError, match="a file of several names"):
        fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("linked", [False, True])
def test_nothing_but_the_version_of_a_file_is_sent_to_the_server(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    (tmp_path / "secret").write_text("password")
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:100])
    tag = tmp_path / "file.bin.part.tag"
    if linked:
        tag.symlink_to(tmp_path / "secret")
    else:
        tag.write_text("password")
    sent: list[str] = []
    get = requests.get
    monkeypatch.setattr(
        requests, "get", lambda *given, **more: (sent.append(str(more["headers"])), get(*given, **more))[1]
    )
    if linked:
        with pytest.raises(FetchError, match="it is a link where none is followed"):
            fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    else:
        fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
    assert "password" not in "".join(sent)
    assert (tmp_path / "secret").read_text() == "password"


class TestHostileServers:
    """What a server sends that nobody has asked for: a sentence, soon, and no file."""

    @pytest.fixture(autouse=True)
    def _little(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetching, "_LARGEST", 2**20)
        monkeypatch.setattr(fetching, "_SPAN", 0.2)

    @pytest.mark.parametrize(
        ("word", "says"),
        [
            ("endless", "it is larger than 1,048,576 bytes"),
            ("drip", "the server sends [0-9]+ bytes in"),
            ("bomb", "the server compresses it"),
            ("to file:///etc/passwd", "InvalidSchema"),
            ("to ftp://127.0.0.1:9/x", "InvalidSchema"),
            ("to /again", "TooManyRedirects"),
            ("huge", "needs .* GB more"),
        ],
    )
    def test_is_refused(self, tmp_path: Path, server: Server, word: str, says: str) -> None:
        server.script, begin = [word], time.monotonic()
        with pytest.raises(FetchError, match=says):
            fetch(server.url, tmp_path / "file.bin", sha256(CONTENT))
        assert time.monotonic() - begin < 10
        assert "file.bin" not in clean(tmp_path)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2**20

    def test_a_protected_address_is_not_left_for_an_open_one(self) -> None:
        answer = requests.Response()
        answer.url = "http://127.0.0.1/file.bin"
        with pytest.raises(FetchError, match="an address that is not https"):
            fetching._require_plain("https://127.0.0.1/file.bin", answer)

    def test_no_login_goes_to_another_host(
        self, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine localhost login me password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        server.script = [f"to http://127.0.0.1:{server.server_port}/there", "whole"]
        fetch(server.url.replace("127.0.0.1", "localhost"), tmp_path / "new" / "file.bin", sha256(CONTENT))
        assert server.logins == [True, False]
