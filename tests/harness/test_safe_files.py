import errno
import os
from pathlib import Path

import pytest
from upath import UPath

from miasbench.harness.files import explain
from miasbench.harness.safe_files import (
    below,
    open_plain,
    plain_files,
    read_bytes,
    write_folder,
    write_named,
    write_whole,
)


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with a file, beside one of another user, to which it has a link of each kind."""
    (tmp_path / "theirs" / "inner").mkdir(parents=True)
    (tmp_path / "theirs" / "inner" / "secret").write_text("secret")
    (tmp_path / "ours" / "plain").mkdir(parents=True)
    (tmp_path / "ours" / "plain" / "file").write_text("ours")
    (tmp_path / "ours" / "folder").symlink_to(tmp_path / "theirs", target_is_directory=True)
    (tmp_path / "ours" / "file").symlink_to(tmp_path / "theirs" / "inner" / "secret")
    (tmp_path / "ours" / "nothing").symlink_to("nowhere")
    (tmp_path / "ours" / "circle").symlink_to("circle")
    return tmp_path / "ours"


class TestBelow:
    @pytest.mark.parametrize("folder", [Path, UPath])
    def test_what_is_there_or_will_be_is_found(self, folder: type[Path], linked: Path) -> None:
        assert below(folder(linked), "plain", "file").read_text() == "ours"
        assert below(folder(linked), "new", "file") == linked / "new" / "file"
        assert isinstance(below(folder(linked), "new"), folder)

    @pytest.mark.parametrize(
        "names", [("folder",), ("folder", "inner", "secret"), ("file",), ("nothing",), ("circle",)]
    )
    def test_a_link_is_refused_wherever_it_leads_and_said(self, names: tuple[str, ...], linked: Path) -> None:
        with pytest.raises(OSError, match="symbolic links") as caught:
            below(linked, *names)
        assert explain(caught.value).startswith(f"{linked / names[0]}: it is a link where none is followed")

    @pytest.mark.parametrize("name", ["", ".", "..", "/etc", "a/b", "../x", "a\0b"])
    def test_what_is_not_the_name_of_one_file_is_refused(self, name: str, linked: Path) -> None:
        with pytest.raises(OSError, match="no name of a file"):
            below(linked, name)

    def test_the_folder_that_the_user_names_may_be_a_link(self, linked: Path) -> None:
        assert below(linked / "folder", "inner", "secret").read_text() == "secret"

    def test_an_object_store_has_no_links(self) -> None:
        assert str(below(UPath("memory://runs/one"), "cells", "a")) == "memory://runs/one/cells/a"


class TestReading:
    @pytest.mark.parametrize("name", ["file", "nothing", "circle"])
    def test_a_link_is_not_followed(self, name: str, linked: Path) -> None:
        with pytest.raises(OSError, match="symbolic links"):
            read_bytes(linked / name)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
    def test_nobody_is_waited_for_at_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError) as caught:  # which error is looked at
            read_bytes(tmp_path / "pipe")
        assert caught.value.errno == errno.ESPIPE
        assert "it is a pipe or a device" in explain(caught.value)

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there are no devices here")
    def test_a_device_without_an_end_is_not_read(self) -> None:
        with pytest.raises(OSError, match="a pipe or a device"):
            read_bytes(Path("/dev/zero"))

    def test_files_are_found_without_links_and_what_they_lead_to(self, linked: Path) -> None:
        assert [*plain_files(linked)] == [linked / "plain" / "file"]
        assert [*plain_files(linked / "nowhere")] == []


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND])
class TestOpening:
    def test_a_file_is_written(self, flags: int, linked: Path) -> None:
        with open_plain(linked / "plain" / "file", os.O_WRONLY | os.O_CREAT | flags) as file:
            file.write(b"!")
        assert (linked / "plain" / "file").read_text() == ("!" if flags == os.O_TRUNC else "ours!")

    def test_what_a_link_leads_to_is_not(self, flags: int, linked: Path) -> None:
        with (
            pytest.raises(OSError, match="symbolic links"),
            open_plain(linked / "file", os.O_WRONLY | os.O_CREAT | flags),
        ):
            pass
        assert (linked / "file").read_text() == "secret"

    def test_nor_is_a_file_that_has_another_name(self, flags: int, linked: Path) -> None:
        (linked / "name").hardlink_to((linked / "file").resolve())
        with pytest.raises(OSError, match="Too many links"), open_plain(linked / "name", os.O_WRONLY | flags):
            pass
        assert (linked / "file").read_text() == "secret"


class TestWriting:
    def test_a_device_that_the_user_named_is_written_and_not_replaced(self) -> None:
        write_named(Path(os.devnull), "x")
        assert Path(os.devnull).is_char_device()

    def test_a_link_that_the_user_named_stays_one(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("there")
        write_named(tmp_path / "link", "x")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there").read_text() == "x"

    def test_any_other_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "there").write_text("mine")
        (tmp_path / "link").symlink_to("there")
        write_whole(tmp_path / "link", "x")
        assert not (tmp_path / "link").is_symlink()
        assert ((tmp_path / "link").read_text(), (tmp_path / "there").read_text()) == ("x", "mine")

    def test_a_file_of_two_names_keeps_the_content_of_the_other(self, tmp_path: Path) -> None:
        (tmp_path / "there").write_text("mine")
        (tmp_path / "name").hardlink_to(tmp_path / "there")
        write_whole(tmp_path / "name", "x")
        assert (tmp_path / "there").read_text() == "mine"

    def test_a_name_may_be_as_long_as_the_file_system_takes(self, tmp_path: Path) -> None:
        write_whole(tmp_path / ("ä" * 127), "x")
        assert [path.name for path in tmp_path.iterdir()] == ["ä" * 127]

    def test_a_folder_is_there_whole_or_not_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(OSError) as caught, write_folder(tmp_path / "new") as folder:
            folder.mkdir()
            (folder / "half").touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        assert caught.value.filename == str(tmp_path / "new")
        assert not [*tmp_path.iterdir()]
        with write_folder(tmp_path / "new") as folder:
            folder.mkdir()
            (folder / "whole").touch()
        assert [path.name for path in tmp_path.rglob("*")] == ["new", "whole"]
