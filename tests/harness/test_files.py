import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from miasbench.harness import files
from miasbench.harness.files import PLAIN, Lock, explain, path_text

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@pytest.mark.parametrize("number", sorted(errno.errorcode), ids=errno.errorcode.get)
def test_every_error_names_the_file_and_a_remedy(number: int) -> None:
    said = explain(OSError(number, os.strerror(number), "some/file"))
    assert said.startswith("some/file: ")
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said.split(". ")) >= 2, "what is wrong, and what to do"


def test_a_name_that_is_not_utf_8_is_told() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", os.fsdecode(b"caf\xe9"))
    assert explain(error) == "caf\\xe9: its disk is full. Free some space, and run the same command again."


def test_the_option_is_named_that_takes_the_path() -> None:
    assert explain(PermissionError(errno.EROFS, "", "x"), "--out").endswith("Make it so, or name another --out.")


def test_what_a_library_raises_has_words_of_its_own() -> None:
    assert explain(OSError("the hub\ncannot be reached")) == "the hub cannot be reached"


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"caf\xe9", "caf\\xe9"), ("café".encode(), "café"), (b"\xff\xfe", "\\xff\\xfe"), (b"a\\b", "a\\b")],
)
def test_any_name_becomes_text(name: bytes, text: str) -> None:
    assert path_text(os.fsdecode(name)) == path_text(Path(os.fsdecode(name))) == path_text(name) == text
    assert text.encode().decode() == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp932", "cp1252", "utf-8"])
def test_any_text_can_be_written_in_any_encoding(encoding: str) -> None:
    text = "mean · 0.5 ± 0.1 – 3 × 4 … † ‡ Läsion 空 \udce9"
    assert "\ufffd" not in text.encode(encoding, PLAIN).decode(encoding)
    assert "Läsion" in text.encode("cp1252", PLAIN).decode("cp1252")
    assert text.encode("ascii", PLAIN) == b"mean - 0.5 +- 0.1 - 3 x 4 ... + # L\\xe4sion \\u7a7a \\xe9"


class TestLock:
    @pytest.mark.skipif(sys.platform == "win32", reason="its locks are others")
    @pytest.mark.parametrize("number", NO_LOCKS, ids=errno.errorcode.get)
    def test_where_there_are_none_everybody_has_it(
        self, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        def fail(descriptor: int, operation: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", fail)
        one, other = Lock(tmp_path / "a" / ".lock"), Lock(tmp_path / "a" / ".lock")
        assert one.acquire()
        assert other.acquire(wait=False)
        assert (one.works, other.works) == (False, False)
        one.release()
        other.release()
        assert Lock(tmp_path / "a" / ".lock").acquire(wait=False), "nothing stays that others would wait for"

    @pytest.mark.skipif(sys.platform == "win32", reason="its locks are others")
    def test_one_that_fails_names_its_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import fcntl

        def fail(descriptor: int, operation: int) -> None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

        monkeypatch.setattr(fcntl, "flock", fail)
        with pytest.raises(OSError) as caught:  # the file is looked at
            Lock(tmp_path / ".lock").acquire()
        assert caught.value.filename == str(tmp_path / ".lock")

    def test_one_process_has_it_at_a_time(self, tmp_path: Path) -> None:
        one, other = Lock(tmp_path / ".lock"), Lock(tmp_path / ".lock")
        with one:
            assert one.works
            assert not other.acquire(wait=False)
        assert other.acquire(wait=False)
        other.release()

    def test_who_is_waited_for_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(files, "_PATIENCE", 0.2)
        hold = (
            "import sys, time; from miasbench.harness.files import Lock; from pathlib import Path\n"
            "lock = Lock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(1)"
        )
        with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path / ".lock")], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            assert Lock(tmp_path / ".lock").acquire()
        assert f"Waiting for {tmp_path / '.lock'}, which is held by" in caplog.text
        if sys.platform == "linux":
            assert f"by process {other.pid} (" in caplog.text

    def test_where_there_are_no_files_it_is_had(self) -> None:
        assert Lock(None).acquire(wait=False)
        assert not Lock(None).works
