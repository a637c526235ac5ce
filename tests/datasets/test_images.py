import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.images import inspect, read_grey, read_mask
from miasbench.harness.api import DataError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def saved(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "PNG", "bmp", "tif", "tiff"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_an_image_is_read_as_grey(tmp_path: Path, ending: str, mode: str) -> None:
    path = saved(tmp_path / f"x.{ending}", GREY, mode)
    image = read_grey(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY)
    assert inspect(path)[1] == (6, 8)


def test_a_jpeg_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", np.full((6, 8), 77, dtype=np.uint8))
    assert (read_grey(path) == 77).all()
    assert inspect(path)[1] == (6, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.new("L", image.size, 0))
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "x.png"), GREY)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_are_scaled_alike_for_every_image(tmp_path: Path, ending: str) -> None:
    path = saved(tmp_path / f"x.{ending}", GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_grey(path), GREY)
    dark = saved(tmp_path / f"dark.{ending}", np.full((2, 2), 514, dtype=np.uint16))
    assert (read_grey(dark) == 2).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_refused_before_a_run(tmp_path: Path, dtype: type) -> None:
    path = saved(tmp_path / "x.tif", GREY.astype(dtype))
    for read in (read_grey, read_mask, inspect):
        with pytest.raises(DataError, match="32 bits"):
            read(path)


def test_every_grey_level_of_a_mask_is_lesion(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 2], [128, 254, 255]], dtype=np.uint8)
    mask = read_mask(saved(tmp_path / "x.png", levels))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, levels > 0)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "P", "LA"])
def test_masks_of_every_mode(tmp_path: Path, mode: str) -> None:
    levels = np.array([[0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "x.png", levels, mode)), levels > 0)


def test_a_mask_of_palette_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image.putpalette([0, 0, 0, 0, 0, 1, 255, 0, 0])  # a blue so dark that its luminance is 0
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), [[False, True, True]])


def test_a_mask_of_16_bits(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "x.png", levels)), levels > 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif"])
def test_a_truncated_file_is_found_wherever_it_is_cut(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    whole = saved(tmp_path / f"whole.{ending}", noise).read_bytes()
    for size in (0, 1, 10, len(whole) // 3, len(whole) // 2, len(whole) - 20):
        path = tmp_path / f"cut{size}.{ending}"
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=f"cut{size}"):
            inspect(path)


def test_a_changed_byte_of_a_png_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", GREY)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        inspect(path)


@pytest.mark.parametrize("name", ["text.png", "gif.png", "webp.png", "eps.png"])
def test_no_other_decoder_sees_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name in ("gif.png", "webp.png"):
        Image.fromarray(GREY).save(path, format=name.partition(".")[0])
    else:
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" if name == "eps.png" else b"hello")
    for read in (read_grey, read_mask, inspect):
        with pytest.raises(DataError, match=rf"{name} is not a PNG, JPEG, BMP or TIFF image"):
            read(path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("absent.png", "No such file"), ("folder.png", "directory")):
        with pytest.raises(DataError, match=rf"{name} cannot be read: .*{reason}"):
            read_grey(tmp_path / name)


def test_cmyk_is_read_as_grey(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 3), (0, 0, 0, 0)).save(tmp_path / "white.tif")
    Image.new("CMYK", (4, 3), (0, 0, 0, 255)).save(tmp_path / "black.tif")
    assert (read_grey(tmp_path / "white.tif") == 255).all()
    assert (read_grey(tmp_path / "black.tif") == 0).all()


def test_the_orientation_in_exif_is_ignored_because_a_mask_has_none(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees when it is shown
    Image.fromarray(GREY).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_grey(tmp_path / "x.png"), GREY)
    assert inspect(tmp_path / "x.png")[1] == GREY.shape


def test_a_single_pixel(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", np.array([[7]], dtype=np.uint8))
    assert read_grey(path).tolist() == [[7]]
    assert read_mask(path).tolist() == [[True]]
    assert inspect(path)[1] == (1, 1)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_several_pictures_in_one_file_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"moving.{ending}"
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    for read in (read_grey, read_mask, inspect):
        with pytest.raises(DataError, match=r"holds 2 pictures.*Save one"):
            read(path)


@pytest.mark.parametrize("side", [8193, 20_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "huge.png"
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    written = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    for read in (read_grey, read_mask, inspect):
        with pytest.raises(DataError, match=r"huge\.png has more than 67,108,864 pixels, which is the limit"):
            read(path)
