import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.image_files import inspect
from miasbench.datasets.images import PixelType, look_at, read_grey, read_pixels
from miasbench.datasets.masks import mask_pixels, read_mask
from miasbench.harness.api import DataError

from ..support.deep_images import png16, tiff16

Writer = Callable[..., Path]

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
def test_32_bits_alone_do_not_say_what_is_black(tmp_path: Path, dtype: type) -> None:
    path = saved(tmp_path / "x.tif", GREY.astype(dtype))
    with pytest.raises(DataError, match="which value is black is unknown"):
        read_grey(path)
    with pytest.raises(DataError, match=r"The mask .* has (signed )?pixels of 32 bits"):
        read_mask(path)


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


@pytest.mark.parametrize("outside", [(255, 255, 255, 0), (0, 0, 0, 0), (255, 0, 0, 0)])
def test_transparent_pixels_of_a_mask_are_background(tmp_path: Path, outside: tuple[int, ...]) -> None:
    pixels = np.full((4, 4, 4), outside, dtype=np.uint8)
    pixels[1:3, 1:3] = 255, 0, 0, 255
    mask = read_mask(saved(tmp_path / "x.png", pixels))
    np.testing.assert_array_equal(mask, np.pad(np.ones((2, 2), bool), 1))


def test_a_mask_that_is_transparent_all_over_has_no_lesion(tmp_path: Path) -> None:
    assert not read_mask(saved(tmp_path / "x.png", np.full((4, 4, 4), (255, 255, 255, 0), dtype=np.uint8))).any()


def test_half_transparent_lesions_are_lesions(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[1:3, 1:3] = 255, 0, 0, 60
    assert read_mask(saved(tmp_path / "x.png", pixels)).sum() == 4


def test_black_on_transparent_is_refused(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), (255, 255, 255, 0), dtype=np.uint8)
    pixels[1:3, 1:3] = 0, 0, 0, 255
    with pytest.raises(DataError, match=r"x\.png is transparent but for black pixels.*white lesions on black"):
        read_mask(saved(tmp_path / "x.png", pixels))


def palette_image(path: Path, indices: np.ndarray, *colours: tuple[int, int, int], **options: Any) -> Path:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([channel for colour in colours for channel in colour])
    image.save(path, **options)
    return path


INDICES = np.array([[0, 0, 1, 1], [0, 0, 0, 0]])


def test_a_palette_of_black_and_white_tells_lesion_by_its_colour(tmp_path: Path) -> None:
    black_first = palette_image(tmp_path / "x.png", INDICES, (0, 0, 0), (255, 255, 255))
    white_first = palette_image(tmp_path / "y.png", 1 - INDICES, (255, 255, 255), (0, 0, 0))
    for path in (black_first, white_first):
        np.testing.assert_array_equal(read_mask(path), INDICES > 0)


def test_levels_of_a_palette_of_labels_are_its_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2, 2], [0, 0, 0, 2]])
    path = palette_image(tmp_path / "x.png", indices, (0, 0, 0), (128, 0, 0), (0, 128, 0))
    np.testing.assert_array_equal(mask_pixels(path).levels, indices)


def test_a_transparent_colour_of_a_palette_is_background(tmp_path: Path) -> None:
    path = palette_image(tmp_path / "x.png", INDICES, (255, 255, 255), (255, 0, 0), transparency=0)
    np.testing.assert_array_equal(read_mask(path), INDICES > 0)


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_colours_without_a_background_are_refused(tmp_path: Path, mode: str) -> None:
    path = palette_image(tmp_path / "x.png", INDICES, (255, 255, 255), (255, 0, 0))
    Image.open(path).convert(mode).save(path)
    with pytest.raises(DataError, match=r"x\.png has no black background, only #ffffff, #ff0000, and which"):
        read_mask(path)


def test_one_colour_is_lesion_all_over(tmp_path: Path) -> None:
    assert read_mask(palette_image(tmp_path / "x.png", 0 * INDICES, (255, 0, 0))).all()


def test_a_mask_in_cmyk(tmp_path: Path) -> None:
    white = saved(tmp_path / "x.png", np.where(INDICES, 255, 0).astype(np.uint8))
    Image.open(white).convert("RGB").convert("CMYK").save(tmp_path / "x.tif")
    pixels = np.array(Image.open(tmp_path / "x.tif"))
    assert pixels.shape == (2, 4, 4)
    np.testing.assert_array_equal(read_mask(tmp_path / "x.tif"), INDICES > 0)


def test_a_jpeg_mask_is_cut_at_half(tmp_path: Path) -> None:
    truth = np.hypot(*(np.mgrid[:64, :64] - 30)) < 9
    path = saved(tmp_path / "x.jpg", truth.astype(np.uint8) * 255)
    assert len(np.unique(np.asarray(Image.open(path)))) > 16
    np.testing.assert_array_equal(read_mask(path), truth)


@pytest.mark.parametrize("ending", ["webp", "gif", "pgm", "ppm", "jp2", "WEBP"])
def test_other_endings_are_read(tmp_path: Path, ending: str) -> None:
    options: dict[str, Any] = {"lossless": True} if ending.lower() == "webp" else {}
    image = Image.fromarray(GREY)
    (image.convert("RGB") if ending == "ppm" else image).save(tmp_path / f"x.{ending}", **options)
    np.testing.assert_array_equal(read_grey(tmp_path / f"x.{ending}"), GREY)
    assert inspect(tmp_path / f"x.{ending}")[1] == (6, 8)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2"])
def test_16_bits_are_read_from_every_format_that_has_them(tmp_path: Path, ending: str) -> None:
    path = saved(tmp_path / f"x.{ending}", GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_grey(path), GREY)
    assert look_at(path).values[-1] == int(GREY.max()) * 257


@pytest.mark.parametrize(("bits", "value", "grey"), [(12, 4095, 255), (12, 2048, 128), (12, 5000, 255), (8, 200, 200)])
def test_so_many_bits_are_brought_to_8(tmp_path: Path, bits: int, value: int, grey: int) -> None:
    path = saved(tmp_path / "x.png", np.full((2, 2), value, dtype=np.uint16))
    assert (read_grey(path, bits) == grey).all()


def tiff(path: Path, pixels: np.ndarray, sample_format: int) -> Path:
    """An uncompressed TIFF of any type of pixel."""
    tags = {256: pixels.shape[1], 257: pixels.shape[0], 258: pixels.itemsize * 8, 259: 1, 262: 1, 277: 1}
    tags |= {278: pixels.shape[0], 279: pixels.nbytes, 339: sample_format}
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    header = b"II*\0" + struct.pack("<IH", 8, len(tags))
    path.write_bytes(header + entries + struct.pack("<I", 0) + pixels.tobytes())
    return path


@pytest.mark.parametrize(
    ("dtype", "sample_format", "said"),
    [
        (np.int8, 2, "signed pixels of 8 bits"),
        (np.int16, 2, "signed pixels of 16 bits"),
        (np.int32, 2, "signed pixels of 32 bits"),
        (np.uint32, 1, "pixels of 32 bits"),
        (np.float32, 3, "pixels of 32 bits in floating point"),
    ],
)
def test_pixels_of_every_type_are_read_as_they_are(tmp_path: Path, dtype: type, sample_format: int, said: str) -> None:
    pixels = np.arange(-100, 500).clip(np.iinfo(np.int8).min, 120).reshape(20, 30)
    pixels = pixels.astype(dtype) if sample_format != 1 else np.abs(pixels).astype(dtype) + 2**31
    path = tiff(tmp_path / "x.tif", pixels, sample_format)
    np.testing.assert_array_equal(read_pixels(path), pixels)
    traits = look_at(path)
    assert (traits.kind, traits.extent) == (said, (pixels.min(), pixels.max()))
    assert inspect(path)[1] == (20, 30)
    with pytest.raises(DataError, match=f"{said}, and which value is black is unknown. Save it with 8 or 16 bits"):
        read_mask(path)


def test_floating_point_of_64_bits_is_named(tmp_path: Path) -> None:
    path = tiff(tmp_path / "x.tif", np.ones((20, 30)), 3)
    for read in (read_grey, read_mask, inspect):
        with pytest.raises(DataError, match="a TIFF of a kind that cannot be read, such as floating point of 64 bits"):
            read(path)


def test_pixels_that_are_no_number_are_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "x.tif", np.full((20, 30), np.nan, np.float32), 3)
    for read in (read_pixels, look_at):
        with pytest.raises(DataError, match="holds NaN or infinity"):
            read(path)


DEEP = np.random.default_rng(0).integers(0, 2**16, (5, 7, 4)).astype(np.uint16)


@pytest.mark.parametrize(
    "write",
    [
        png16,
        tiff16,
        partial(tiff16, order=">"),
        partial(tiff16, deflate=True),
        partial(tiff16, order=">", deflate=True),
    ],
)
def test_colour_of_16_bits_is_read_as_it_is_where_all_bits_are_asked_for(tmp_path: Path, write: Writer) -> None:
    pixels = DEEP[..., :3]
    path = write(tmp_path / f"x.{'png' if write is png16 else 'tif'}", pixels)
    read = read_pixels(path, colour=True, all_bits=True)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)
    luma = (pixels @ np.array([19595, 38470, 7471]) + 2**15) >> 16
    np.testing.assert_array_equal(read_pixels(path, all_bits=True), luma)
    np.testing.assert_array_equal(read_pixels(path, colour=True), pixels >> 8)
    traits = look_at(path)
    assert (traits.cut, traits.coloured, traits.extent) == (True, True, (pixels.min(), pixels.max()))
    assert not look_at(saved(tmp_path / "y.png", GREY, "RGB")).cut


@pytest.mark.parametrize(("channels", "expected"), [(2, DEEP[..., 0]), (4, DEEP[..., :3])])
def test_transparency_of_16_bits_is_dropped(tmp_path: Path, channels: int, expected: np.ndarray) -> None:
    path = png16(tmp_path / "x.png", DEEP[..., :channels])
    np.testing.assert_array_equal(read_pixels(path, colour=True, all_bits=True), expected)


def test_channels_of_16_bits_that_lie_one_after_the_other_are_refused(tmp_path: Path) -> None:
    path = tiff16(tmp_path / "x.tif", DEEP[..., :3], apart=True)
    for read in (read_pixels, look_at, read_mask, inspect):
        with pytest.raises(DataError, match="holds its channels of 16 bits one after the other, which cannot be read"):
            read(path)
    packed = tiff16(tmp_path / "y.tif", DEEP[..., :3], apart=True, deflate=True)
    np.testing.assert_array_equal(read_pixels(packed, colour=True), DEEP[..., :3] >> 8)
    with pytest.raises(DataError, match="holds its channels of 16 bits one after the other"):
        read_pixels(packed, colour=True, all_bits=True)


# The type of values that somebody states


def test_a_stated_type_gives_values_their_sign(tmp_path: Path) -> None:
    values = np.array([[-1000, -1], [0, 3071]], dtype=np.int16)
    path = saved(tmp_path / "x.png", values.view(np.uint16))
    np.testing.assert_array_equal(read_pixels(path, dtype="int16"), values)
    assert read_pixels(path, dtype="int16").dtype == np.int16
    traits = look_at(path, "int16")
    assert (traits.kind, traits.extent) == ("signed pixels of 16 bits", (-1000, 3071))
    signed = tiff(tmp_path / "x.tif", values, 2)
    np.testing.assert_array_equal(read_pixels(signed, dtype="uint16"), values.view(np.uint16))
    assert look_at(signed, "uint16").values.tolist() == [0, 3071, 64536, 65535]
    small = saved(tmp_path / "y.png", GREY)
    np.testing.assert_array_equal(read_pixels(small, dtype="int8"), GREY.view(np.int8))
    assert look_at(small, "int8").kind == "signed pixels of 8 bits"


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [("uint8", "uint16"), ("uint16", "uint8"), ("uint16", "int32"), ("float32", "int32"), ("uint32", "float32")],
)
def test_files_of_another_type_than_is_stated_are_refused(tmp_path: Path, stored: str, dtype: PixelType) -> None:
    path = tiff(tmp_path / "x.tif", GREY.astype(stored), {"f": 3, "u": 1, "i": 2}[np.dtype(stored).kind])
    assert read_pixels(path, dtype=cast(PixelType, stored)).dtype == stored
    for read in (partial(read_pixels, dtype=dtype), partial(look_at, dtype=dtype)):
        with pytest.raises(
            DataError, match=f"x.tif is grey with values of {stored}, and the card says `dtype: {dtype}`"
        ):
            read(path)


def test_colour_has_no_other_sign(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", GREY, "RGB")
    assert read_pixels(path, colour=True, dtype="uint8").dtype == np.uint8
    with pytest.raises(DataError, match=r"x.png is in colour with values of uint8, and the card says `dtype: int8`"):
        read_pixels(path, colour=True, dtype="int8")
    deep = png16(tmp_path / "y.png", DEEP[..., :3])
    assert read_pixels(deep, colour=True, all_bits=True, dtype="uint16").dtype == np.uint16


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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_hurts_no_pixel(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08no such thing")
    assert not look_at(tmp_path / "x.png").turned
    np.testing.assert_array_equal(read_grey(tmp_path / "x.png"), GREY)


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


def test_colours_of_several_classes_have_levels_of_their_own(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[0], pixels[1] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert mask_pixels(tmp_path / "x.png").counts == {0: 8, 76: 4, 150: 4}
