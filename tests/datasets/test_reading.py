"""How the files of a dataset become pixels, and what is said of it."""

import io
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from miasbench.datasets import facts, image_reader
from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.harness.api import SPLITS, BrokenDatasetError, DataError

from ..support.deep_images import png16, tiff16

Saver = Callable[[np.ndarray, Path], Any]
SIDE = 64


def disc(number: int) -> np.ndarray:
    """A lesion, bool (64, 64)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - 20 - 7 * (number % 4)) ** 2 + (x - 30 - number % 7) ** 2 < 9**2


def scan(number: int) -> np.ndarray:
    """An image, uint8 (64, 64), of values up to 240."""
    y, x = np.mgrid[:SIDE, :SIDE]
    grey = 90 + 40 * np.sin(x / (4 + number)) + 40 * np.cos(y / 7) + np.random.default_rng(number).normal(0, 4, x.shape)
    return (grey + 70 * disc(number)).clip(0, 240).astype(np.uint8)


def png(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path.with_suffix(".png"))


def white(mask: np.ndarray, path: Path) -> None:
    png(mask.astype(np.uint8) * 255, path)


def jpeg(mask: np.ndarray, path: Path, quality: int = 75) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path.with_suffix(".jpg"), quality=quality)


def made(root: Path, save_mask: Saver = white, save_image: Saver = png) -> Path:
    """A dataset of 3 training images, and 1 normal and 3 anomalous ones in each other split."""
    for split in SPLITS:
        for kind, count in (("good", 3 if split == "train" else 1), ("Ungood", 0 if split == "train" else 3)):
            for number in range(count):
                name = f"{split}{kind}{number}_0.png"
                offset = 10 * SPLITS.index(split) + 5 * (kind == "Ungood")
                for folder in ("img", "anomaly_mask") if kind == "Ungood" else ("img",):
                    (root / split / kind / folder).mkdir(parents=True, exist_ok=True)
                save_image(scan(offset + number), root / split / kind / "img" / name)
                if kind == "Ungood":
                    save_mask(disc(offset + number), root / split / kind / "anomaly_mask" / name)
    return root


def anomalous(dataset: FolderDataset) -> list[np.ndarray]:
    return [dataset.load(case).mask for split in SPLITS for case in dataset.cases(split) if case.label]


def truths() -> list[np.ndarray]:
    return [disc(number) for number in (15, 16, 17, 25, 26, 27)]


def carded(root: Path, text: str) -> FolderDataset:
    path = root.parent / "card.yaml"
    path.write_text(f"name: mine\nroot: {root.name}\n{text}\n")
    return open_folder(path)


def problems(dataset: FolderDataset) -> str:
    with pytest.raises(BrokenDatasetError) as raised:
        dataset.notes()
    return str(raised.value)


# Masks


def test_nothing_is_said_of_masks_in_black_and_white(tmp_path: Path) -> None:
    dataset = open_folder(made(tmp_path / "d"))
    assert dataset.notes() == ()
    for mask, truth in zip(anomalous(dataset), truths(), strict=True):
        np.testing.assert_array_equal(mask, truth)


def webp(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path.with_suffix(".webp"), quality=60)


def recoded(mask: np.ndarray, path: Path) -> None:
    kept = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(kept, "JPEG", quality=75)
    Image.open(kept).save(path)


def smooth(mask: np.ndarray, path: Path) -> None:
    png(gaussian_filter(mask * 255.0, 1).astype(np.uint8), path)


@pytest.mark.parametrize("save", [jpeg, partial(jpeg, quality=40), partial(jpeg, quality=98), webp, recoded, smooth])
def test_masks_saved_with_loss_are_cut_at_half(tmp_path: Path, save: Saver) -> None:
    dataset = open_folder(made(tmp_path / "d", save))
    for mask, truth in zip(anomalous(dataset), truths(), strict=True):
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    (note,) = dataset.notes()
    assert note.startswith("6 masks (such as ")
    assert "128 or above, of 255, is lesion" in note


def test_all_masks_are_cut_at_half_if_one_needs_it(tmp_path: Path) -> None:
    root = made(tmp_path / "d", recoded)
    few = root / "test/Ungood/anomaly_mask/testUngood0_0.png"
    noise = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE)) * (disc(3) & ~disc(25)) * 3  # of one level
    png(np.where(disc(25), 255, noise).astype(np.uint8), few)
    np.testing.assert_array_equal(anomalous(open_folder(root))[3], disc(25))


def labelled(mask: np.ndarray, path: Path) -> None:
    png(np.where(mask, 1 + np.arange(SIDE)[None] // 8 % 3, 0).astype(np.uint8), path)  # 1, 2 and 3


def bordered(mask: np.ndarray, path: Path) -> None:
    png(np.where(mask, np.where(np.roll(mask, 2, 0), 1, 255), 0).astype(np.uint8), path)


def thin(mask: np.ndarray, path: Path) -> None:
    png(np.where(mask & (np.arange(SIDE)[None] % 4 == 0), 1 + np.arange(SIDE)[:, None] % 2, 0).astype(np.uint8), path)


def deep_labels(mask: np.ndarray, path: Path) -> None:
    png(np.where(mask, 1 + np.arange(SIDE)[None] // 8 % 3, 0).astype(np.uint16), path)


def translucent(mask: np.ndarray, path: Path) -> None:
    alpha = gaussian_filter(mask * 255.0, 1).astype(np.uint8)
    Image.fromarray(np.dstack([np.full_like(alpha, 255), alpha])).save(path)


@pytest.mark.parametrize("other", [jpeg, recoded, smooth, translucent])
@pytest.mark.parametrize("save", [labelled, bordered, thin, deep_labels])
def test_labels_are_not_cut_at_half_because_another_mask_is(tmp_path: Path, save: Saver, other: Saver) -> None:
    root = made(tmp_path / "d", save)
    odd = root / "test/Ungood/anomaly_mask/testUngood1_0.png"
    odd.unlink()
    other(disc(26), odd)
    dataset = open_folder(root)
    text = problems(dataset)
    assert f"5 masks (such as {root / 'valid/Ungood/anomaly_mask/validUngood0_0.png'}) hold labels darker" in text
    assert f"1 mask ({odd.with_suffix('')}." in text
    assert "`lesion: [1]`" in text
    with pytest.raises(DataError, match="Save all masks as PNG with the same labels"):
        anomalous(dataset)


def test_a_smooth_mask_whose_labels_a_card_names_is_told(tmp_path: Path) -> None:
    root = made(tmp_path / "d", labelled)
    smooth(disc(26), root / "test/Ungood/anomaly_mask/testUngood1_0.png")
    _, note = carded(root, "lesion: [1]").notes()
    assert note.startswith(f"1 mask ({root / 'test/Ungood/anomaly_mask/testUngood1_0.png'}) has more grey levels")


@pytest.mark.parametrize("level", [1, 255])
def test_masks_of_one_label_are_read_beside_lossy_ones(tmp_path: Path, level: int) -> None:
    root = made(tmp_path / "d", lambda mask, path: png(mask.astype(np.uint8) * level, path))
    jpeg(disc(26), root / "test/Ungood/anomaly_mask/testUngood1_0.png")
    (root / "test/Ungood/anomaly_mask/testUngood1_0.png").unlink()
    for number, (mask, truth) in enumerate(zip(anomalous(open_folder(root)), truths(), strict=True)):
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > (0.97 if number == 4 else 0.999)


@pytest.mark.parametrize("others", [(128,), (85, 170), (64, 128, 191)])
@pytest.mark.parametrize("quality", [50, 90])
def test_a_lossy_mask_of_several_classes_is_refused(tmp_path: Path, quality: int, others: tuple[int, ...]) -> None:
    def save(mask: np.ndarray, path: Path) -> None:
        levels = np.where(mask, 255, 0)
        for step, other in enumerate(others, start=1):
            levels = np.where(np.roll(mask, 8 * step, 1) & ~mask, other, levels)
        Image.fromarray(levels.astype(np.uint8)).save(path.with_suffix(".jpg"), quality=quality)

    dataset = open_folder(made(tmp_path / "d", save))
    text = problems(dataset)
    assert "6 masks (such as " in text
    assert "Save masks as PNG" in text
    with pytest.raises(DataError, match="not black and white alone"):
        anomalous(dataset)


def test_numbered_lesions_are_not_cut_in_half_silently(tmp_path: Path) -> None:
    def save(mask: np.ndarray, path: Path) -> None:
        png((mask * (1 + np.arange(SIDE)[None] % 50)).astype(np.uint8), path)

    root = made(tmp_path / "d", save)
    assert "lesion: any" in problems(open_folder(root))
    dataset = carded(root, "lesion: any")
    for mask, truth in zip(anomalous(dataset), truths(), strict=True):
        np.testing.assert_array_equal(mask, truth)


def test_several_exact_levels_are_all_lesion_and_told(tmp_path: Path) -> None:
    def save(mask: np.ndarray, path: Path) -> None:
        png(np.where(mask, np.where(np.arange(SIDE)[None] > 36, 64, 191), 0).astype(np.uint8), path)

    root = made(tmp_path / "d", save)
    dataset = open_folder(root)
    (note,) = dataset.notes()
    assert "2 grey levels beside 0 (64 in 6, 191 in 6;" in note
    assert "lesion: [191]" in note
    for mask, truth in zip(anomalous(dataset), truths(), strict=True):
        np.testing.assert_array_equal(mask, truth)
    chosen = carded(root, "lesion: [191]")
    assert "Lesion is where masks are 191, as the card says; beside 0 they hold 64 in 6, 191 in 6." in chosen.notes()[0]
    assert chosen.card.lesion == (191,)
    for mask, truth in zip(anomalous(chosen), truths(), strict=True):
        np.testing.assert_array_equal(mask, truth & (np.arange(SIDE)[None] <= 36))
    assert chosen.fingerprint != dataset.fingerprint


def test_a_level_that_no_mask_holds_is_refused(tmp_path: Path) -> None:
    text = problems(carded(made(tmp_path / "d"), "lesion: [2]"))
    assert "The card says that 2 is lesion, but the masks hold 255" in text


def test_levels_cannot_be_chosen_from_lossy_masks(tmp_path: Path) -> None:
    dataset = carded(made(tmp_path / "d", jpeg), "lesion: [255]")
    with pytest.raises(DataError, match="Save masks as PNG"):
        anomalous(dataset)
    assert "Save masks as PNG" in problems(dataset)


def test_a_border_of_255_beside_small_labels_is_told(tmp_path: Path) -> None:
    def save(mask: np.ndarray, path: Path) -> None:
        border = mask & ~np.roll(mask, 2, 0)
        png(np.where(border, 255, mask).astype(np.uint8), path)

    (note,) = open_folder(made(tmp_path / "d", save)).notes()
    assert "255 beside small labels often marks a border" in note
    assert "lesion: [1]" in note


def test_one_mask_of_other_levels_is_told(tmp_path: Path) -> None:
    root = made(tmp_path / "d")
    odd = root / "test/Ungood/anomaly_mask/testUngood1_0.png"
    png(disc(26).astype(np.uint8), odd)
    (note,) = open_folder(root).notes()
    assert f"(1 in 1, 255 in 5; 1 in {odd})" in note


def test_masks_without_a_background_are_refused(tmp_path: Path) -> None:
    root = made(tmp_path / "d", lambda mask, path: png(mask.astype(np.uint8) + 1, path))
    text = problems(open_folder(root))
    assert "No mask has a pixel of 0" in text
    for mask, truth in zip(anomalous(carded(root, "lesion: [2]")), truths(), strict=True):
        np.testing.assert_array_equal(mask, truth)


@pytest.mark.parametrize(
    ("levels", "background", "lesion"), [((1, 255, 255), 1, 255), ((255, 1, 1), 255, 1), ((1, 255, 2), 1, 2)]
)
def test_the_background_of_masks_without_black_is_told(
    tmp_path: Path, levels: tuple[int, int, int], background: int, lesion: int
) -> None:
    def save(mask: np.ndarray, path: Path) -> None:
        outside, border, inside = levels
        png(np.where(mask, np.where(np.roll(mask, 2, 0), inside, border), outside).astype(np.uint8), path)

    text = problems(open_folder(made(tmp_path / "d", save)))
    assert f"{background}, with 94 % of the pixels, looks like their background" in text
    assert f"such as `lesion: [{lesion}]`" in text


def palette_gif(mask: np.ndarray, path: Path, colour: tuple[int, int, int] = (0, 128, 0)) -> None:
    """Pascal VOC's class 2, with a border of 255, which are saved as 1 and 2."""
    image = Image.fromarray(np.where(mask, np.where(np.roll(mask, 2, 0), 2, 255), 0).astype(np.uint8), "L")
    image.putpalette([0, 0, 0, 0, 0, 64, *colour, *[0] * 3 * 252, 224, 224, 192])
    image.save(path.with_suffix(".gif"))


def test_a_border_that_was_renumbered_is_told_by_its_colour(tmp_path: Path) -> None:
    root = made(tmp_path / "d", palette_gif)
    (note,) = open_folder(root).notes()
    assert "(1 #008000 in 6, 2 #e0e0c0 in 6;" in note
    assert "2 has the colour of borders in Pascal VOC." in note
    assert "such as `lesion: [1]`" in note
    for mask, truth in zip(anomalous(carded(root, "lesion: [1]")), truths(), strict=True):
        np.testing.assert_array_equal(mask, truth & np.roll(truth, 2, 0))


def test_labels_are_not_chosen_from_palettes_of_different_numbers(tmp_path: Path) -> None:
    root = made(tmp_path / "d", palette_gif)
    palette_gif(disc(26), root / "test/Ungood/anomaly_mask/testUngood1_0.png", (128, 0, 0))
    text = problems(carded(root, "lesion: [1]"))
    assert "palettes are numbered in different ways: 1 is #008000 and #800000" in text


def test_inverted_masks_can_be_turned_by_a_card(tmp_path: Path) -> None:
    root = made(tmp_path / "d", lambda mask, path: white(~mask, path))
    dataset = carded(root, "lesion: [0]")
    dataset.notes()
    for mask, truth in zip(anomalous(dataset), truths(), strict=True):
        np.testing.assert_array_equal(mask, truth)


def test_masks_of_normal_images_that_hold_a_lesion_are_told(tmp_path: Path) -> None:
    root = made(tmp_path / "d")
    (root / "test/good/label").mkdir()
    white(disc(1), root / "test/good/label/testgood0_0.png")
    (note,) = open_folder(root).notes()
    assert note.startswith("1 normal image (")
    assert "has a mask with a lesion" in note
    white(disc(1) & False, root / "test/good/label/testgood0_0.png")
    assert open_folder(root).notes() == ()


def test_a_damaged_mask_of_a_normal_image_stops_nothing(tmp_path: Path) -> None:
    root = made(tmp_path / "d")
    (root / "test/good/label").mkdir()
    (root / "test/good/label/testgood0_0.png").write_bytes(b"no image")
    assert open_folder(root).notes() == ()


def test_any_level_of_a_lossy_mask_is_lesion_if_the_card_says_so(tmp_path: Path) -> None:
    dataset = carded(made(tmp_path / "d", partial(jpeg, quality=40)), "lesion: any")
    assert "also where only the loss put it" in dataset.notes()[0]
    assert all(mask.sum() > truth.sum() for mask, truth in zip(anomalous(dataset), truths(), strict=True))


# Depth


def deep(bits: int) -> Saver:
    return lambda image, path: png(image.astype(np.uint16) << (bits - 8), path)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_as_many_bits_are_read_as_all_images_need(tmp_path: Path, bits: int) -> None:
    dataset = open_folder(made(tmp_path / "d", save_image=deep(bits)))
    for number, case in enumerate(dataset.cases("train")):
        expected = np.round((scan(number).astype(float) * 2 ** (bits - 8)) * 255 / (2**bits - 1))
        np.testing.assert_array_equal(dataset.load(case).image, expected)
    (note,) = dataset.notes()
    assert note.startswith("11 images (such as ")
    assert f"0 to {2**bits - 1:,} become 0 to 255 ({bits} bits, the fewest of" in note


def test_the_rule_is_one_for_all_images(tmp_path: Path) -> None:
    root = made(tmp_path / "d", save_image=deep(12))
    png(np.full((SIDE, SIDE), 16383, np.uint16), root / "train/good/img/bright_1.png")
    dataset = open_folder(root)
    dark = next(case for case in dataset.cases("test") if not case.label)
    np.testing.assert_array_equal(dataset.load(dark).image, np.round(scan(20) * 16.0 * 255 / 16383))


def test_a_card_says_how_many_bits_mean_something(tmp_path: Path) -> None:
    root = made(tmp_path / "d", save_image=deep(12))
    dataset = carded(root, "bits: 10")
    assert dataset.card.bits == 10
    image = dataset.load(dataset.cases("train")[0]).image
    np.testing.assert_array_equal(image, np.round((scan(0).astype(int) * 16).clip(max=1023) * 255 / 1023))
    assert "0 to 1,023 become 0 to 255 (10 bits, as the card says)" in dataset.notes()[0]
    assert dataset.fingerprint != open_folder(root).fingerprint


def test_images_of_8_and_16_bits_beside_each_other_are_told(tmp_path: Path) -> None:
    root = made(tmp_path / "d")
    deep(12)(scan(0), root / "train/good/img/traingood0_0.png")
    dataset = open_folder(root)
    (note,) = dataset.notes()
    assert note.startswith("1 image (")
    assert "10 images of 8 bits are taken as they are" in note


def test_what_all_files_hold_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "d", save_image=deep(12))
    expected = open_folder(root).notes()
    seen: list[Path] = []
    real = facts.look_at
    monkeypatch.setattr(facts, "look_at", lambda path, dtype: (seen.append(path), real(path, dtype))[1])
    again = open_folder(root)
    again.load(again.cases("train")[0])
    assert again.notes() == expected
    assert not seen
    deep(16)(scan(0), root / "train/good/img/traingood0_0.png")
    assert f"{int(scan(0).max()) * 256:,}" in open_folder(root).notes()[0], "a changed file is looked at again"


def test_nothing_is_looked_for_where_images_have_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "look_at", lambda *_: pytest.fail("it was"))
    dataset = open_folder(made(tmp_path / "d"))
    for split in SPLITS:
        for case in dataset.cases(split):
            dataset.load(case)


# Ranges that a card states


def hounsfield(image: np.ndarray, path: Path) -> None:
    """A CT of -1,000 to 920 Hounsfield units, as a TIFF with a sign."""
    Image.fromarray(image.astype(np.int32) * 8 - 1000).save(path.with_suffix(".tif"))


def unit(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image.astype(np.float32) / 240).save(path.with_suffix(".tif"))


@pytest.mark.parametrize(
    ("save", "kind", "low", "high"),
    [(hounsfield, "signed pixels of 32 bits", -1000, 920), (unit, "pixels of 32 bits in floating point", 0, 1)],
)
def test_images_whose_range_is_unknown_are_refused_with_what_to_write(
    tmp_path: Path, save: Saver, kind: str, low: float, high: float
) -> None:
    root = made(tmp_path / "d", save_image=save)
    problem = problems(open_folder(root))
    found = re.search(rf"11 images \(such as .*\) have {kind}, with values from (\S+) to (\S+), and which", problem)
    assert found is not None
    assert low <= float(found[1].replace(",", "")) < float(found[2].replace(",", "")) <= high
    with pytest.raises(DataError, match="which of them are black and white is unknown"):
        (refused := open_folder(root)).load(refused.cases("train")[0])
    name, line = re.findall("`(.+?)`", problem)
    assert f"a file card.yaml in {root} with" in problem
    (root / "card.yaml").write_text(f"{name}\n{line}\n")
    dataset = open_folder(root)
    (note,) = dataset.notes()
    assert note.startswith("In all images, ")
    image = dataset.load(dataset.cases("train")[0]).image
    assert np.corrcoef(image.ravel(), scan(0).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("save", [png, deep(8), hounsfield])
def test_a_card_says_which_values_are_black_and_white(tmp_path: Path, save: Saver) -> None:
    stored = 8 * scan(0).astype(float) - 1000 if save is hounsfield else scan(0).astype(float)
    low, high = (-160, 240) if save is hounsfield else (100, 180)
    dataset = carded(made(tmp_path / "d", save_image=save), f"intensity: [{low}, {high}]")
    image = dataset.load(dataset.cases("train")[0]).image
    np.testing.assert_array_equal(image, np.round((stored.clip(low, high) - low) / ((high - low) / 255)))
    assert dataset.card.intensity == (low, high)
    (note,) = dataset.notes()
    assert note.startswith(f"In all images, {low} and what is below become black, {high} and what is above white")
    assert dataset.fingerprint != carded(tmp_path / "d", f"intensity: [{low}, {high + 1}]").fingerprint


@pytest.mark.parametrize("save", [png, deep(12), hounsfield])
def test_percentiles_are_those_of_all_training_images_together(
    tmp_path: Path, save: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "d", save_image=save)
    train = [image_reader.read_pixels(path) for path in sorted((root / "train/good/img").iterdir())]
    low, high = np.percentile(np.stack(train), [1, 99])
    dataset = carded(root, "percentiles: [1, 99]")
    for pixels, case in zip(train, dataset.cases("train"), strict=True):
        expected = np.round((pixels.clip(low, high) - low) / ((high - low) / 255))
        np.testing.assert_array_equal(dataset.load(case).image, expected)
    (note,) = dataset.notes()
    assert "the percentiles 1 and 99 of the pixels of all 3 training images" in note
    first = dataset.load(dataset.cases("test")[0]).image
    monkeypatch.setattr(image_reader.ImageReader, "_sample", lambda self: pytest.fail("it was kept"))
    again = carded(root, "percentiles: [1, 99]")
    np.testing.assert_array_equal(again.load(again.cases("test")[0]).image, first)


def test_percentiles_that_are_one_value_are_refused(tmp_path: Path) -> None:
    def save(image: np.ndarray, path: Path) -> None:
        png(np.where(image > 235, image, 0).astype(np.uint8), path)

    problem = problems(carded(made(tmp_path / "d", save_image=save), "percentiles: [1, 50]"))
    assert "The percentiles 1 and 50 of the training images' pixels are both 0" in problem


def test_a_range_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    problem = problems(carded(made(tmp_path / "d", save_image=hounsfield), "intensity: [3000, 4000]"))
    assert "shows nothing of the images: their values are -992 to 920" in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("intensity: [5, 5]", "intensity: 5 becomes black and 5 white"),
        ("percentiles: [1, 101]", "percentiles should be two numbers from 0 to 100"),
        ("intensity: [0, 1]\nbits: 12", "bits and intensity both say which values are black and white"),
        ("intensity: [0, .inf]", "intensity should be two numbers, black and white"),
    ],
)
def test_a_wrong_range_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        carded(made(tmp_path / "d"), text)


# Colour, EXIF


def test_images_in_colour_are_told_and_grey_ones_of_three_channels_are_not(tmp_path: Path) -> None:
    root = made(tmp_path / "d", save_image=lambda image, path: Image.fromarray(image).convert("RGB").save(path))
    assert open_folder(root).notes() == ()
    tinted(scan(0), root / "train/good/img/traingood0_0.png")
    (note,) = open_folder(root).notes()
    assert note.startswith(
        f"1 image ({root}/train/good/img/traingood0_0.png) is in colour and read as grey (luma of ITU-R BT.601). "
        f"Colour is lost. To keep it, say so on a card, a file card.yaml in {root} with the lines `name: d` and, for "
        "example, `channels: rgb`."
    )
    (note,) = carded(root, "").notes()
    assert note.endswith("Colour is lost. To keep it, say so on the card, such as `channels: rgb`.")
    (note,) = carded(root, "channels: grey").notes()
    assert note.endswith("read as grey (luma of ITU-R BT.601), as the card says (channels: grey).")


def tinted(image: np.ndarray, path: Path) -> None:
    Image.fromarray(np.stack([image, image // 2, image // 3], axis=2)).save(path)


def test_a_dataset_is_grey_unless_its_card_says_otherwise(tmp_path: Path) -> None:
    root = made(tmp_path / "d", save_image=tinted)
    coloured = np.stack([scan(0), scan(0) // 2, scan(0) // 3], axis=2)
    for dataset in (open_folder(root), carded(root, ""), carded(root, "channels: grey")):
        image = dataset.load(dataset.cases("train")[0]).image
        np.testing.assert_array_equal(image, np.asarray(Image.fromarray(coloured).convert("L")))
        assert dataset.card.channels == "grey"
        assert dataset.fingerprint == open_folder(root).fingerprint
    for line in ("channels: rgb", "channels: auto"):
        dataset = carded(root, line)
        sample = dataset.load(next(case for case in dataset.cases("test") if case.label))
        assert sample.mask.shape == sample.image.shape[:2]
        np.testing.assert_array_equal(dataset.load(dataset.cases("train")[0]).image, coloured)
        assert dataset.card.channels == "rgb"
        assert dataset.fingerprint != open_folder(root).fingerprint
        assert dataset.notes() == (f"Images are read in colour (RGB), as the card says ({line}).",)


@pytest.mark.parametrize("other", [png, deep(12)])
def test_grey_images_of_a_dataset_in_colour_have_three_equal_channels(tmp_path: Path, other: Saver) -> None:
    root = made(tmp_path / "d", save_image=other)
    grey = open_folder(root)
    expected = [grey.load(case).image for case in grey.cases("train")]
    tinted(scan(20), root / "test/good/img/testgood0_0.png")
    dataset = carded(root, "channels: auto")
    for image, case in zip(expected, dataset.cases("train"), strict=True):
        np.testing.assert_array_equal(dataset.load(case).image, np.repeat(image[..., None], 3, axis=2))
    assert any(note.endswith("; 10 of 11 are grey, with three equal channels.") for note in dataset.notes())


def test_auto_is_grey_where_no_image_is_in_colour(tmp_path: Path) -> None:
    root = made(tmp_path / "d", save_image=lambda image, path: Image.fromarray(image).convert("RGB").save(path))
    dataset = carded(root, "channels: auto")
    assert dataset.load(dataset.cases("train")[0]).image.ndim == 2
    assert dataset.fingerprint == open_folder(root).fingerprint


def test_a_range_is_of_all_channels(tmp_path: Path) -> None:
    root = made(tmp_path / "d", save_image=tinted)
    pixels = np.stack([np.stack([scan(n), scan(n) // 2, scan(n) // 3], axis=2) for n in range(3)]).astype(float)
    low, high = np.percentile(pixels, [5, 90])
    dataset = carded(root, "channels: rgb\npercentiles: [5, 90]")
    expected = np.round((pixels[0].clip(low, high) - low) / ((high - low) / 255))
    np.testing.assert_array_equal(dataset.load(dataset.cases("train")[0]).image, expected)


def test_images_that_exif_turns_are_told(tmp_path: Path) -> None:
    root = made(tmp_path / "d")
    exif = Image.Exif()
    exif[0x0112] = 3
    path = root / "test/good/img/testgood0_0.png"
    Image.open(path).save(path, exif=exif)
    mask = root / "test/Ungood/anomaly_mask/testUngood0_0.png"
    Image.open(mask).save(mask, exif=exif)
    assert open_folder(root).notes()[0].startswith(f"2 files (such as {path}) are to be turned")
    white(disc(25), mask)
    (note,) = open_folder(root).notes()
    assert note.startswith(f"1 file ({path}) is to be turned or mirrored when shown, as EXIF says")


def unsigned(offset: int) -> Saver:
    """A CT of -1,000 to 920 Hounsfield units, which an offset makes positive."""
    return lambda image, path: png((image.astype(np.int32) * 8 - 1000 + offset).astype(np.uint16), path)


@pytest.mark.parametrize("corners", [False, True])
def test_an_offset_that_takes_the_grey_levels_is_told(tmp_path: Path, corners: bool) -> None:
    def save(image: np.ndarray, path: Path) -> None:
        pixels = (image.astype(np.int32) * 8 - 1000 + 33_000).astype(np.uint16)
        pixels[:4, :4] *= not corners
        png(pixels, path)

    (note,) = open_folder(made(tmp_path / "d", save_image=save)).notes()
    assert re.search(r"All values but 0 are above 32,0\d\d, an offset such as that of Hounsfield units", note)
    assert "leaves 8 of 256 grey levels: to say which values are black and white, say so on a card" in note
    lowest, highest = re.search(r"`intensity: \[(\d+), (\d+)\]`", note).groups()  # type: ignore[union-attr]
    dataset = carded(tmp_path / "d", f"intensity: [{lowest}, {highest}]")
    assert np.unique(dataset.load(dataset.cases("train")[0]).image).size > 150


@pytest.mark.parametrize("said", ["", "intensity: [0, 500]"])
def test_negative_numbers_that_lost_their_sign_are_told_and_got_back(tmp_path: Path, said: str) -> None:
    root = made(tmp_path / "d", save_image=unsigned(0))
    _, note = (carded(root, said) if said else open_folder(root)).notes()
    assert note.startswith("11 images (such as ")
    assert "negative numbers have that were saved without their sign" in note
    assert "`dtype: int16`" in note
    dataset = carded(root, "dtype: int16\nintensity: [-500, 500]")
    (note,) = dataset.notes()
    assert note.startswith("In all images, -500 and what is below become black, 500 and what is above white")
    stored = 8 * scan(0).astype(float) - 1000
    expected = np.round((stored.clip(-500, 500) + 500) / (1000 / 255))
    np.testing.assert_array_equal(dataset.load(dataset.cases("train")[0]).image, expected)


def test_a_sign_alone_does_not_say_what_is_black(tmp_path: Path) -> None:
    problem = problems(carded(made(tmp_path / "d", save_image=unsigned(0)), "dtype: int16"))
    assert re.search(r"have signed pixels of 16 bits, with values from -\d{3} to \d{3}, and which of them", problem)
    assert re.search(r"say so on the card, such as `intensity: \[-\d{3}, \d{3}\]`", problem)


def test_a_stated_type_is_held_against_all_files(tmp_path: Path) -> None:
    root = made(tmp_path / "d", save_image=deep(12))
    plain = carded(root, "bits: 12").fingerprint
    stated = carded(root, "bits: 12\ndtype: uint16")
    assert stated.notes() == carded(root, "bits: 12").notes()
    assert stated.fingerprint != plain
    png(scan(0), root / "train/good/img/traingood0_0.png")
    problem = problems(carded(root, "dtype: uint16"))
    assert "traingood0_0.png is grey with values of uint8, and the card says `dtype: uint16`." in problem
    with pytest.raises(DataError, match="dtype should be the type of the images' values, one of uint8, int8, uint16"):
        carded(root, "dtype: uint12")


# Colour of 16 bits


def stained(write: Callable[[Path, np.ndarray], Path], ending: str) -> Saver:
    """Colour of 12 bits in 16."""

    def save(image: np.ndarray, path: Path) -> None:
        pixels = image.astype(np.uint16)[..., None] * np.array([16, 12, 10], dtype=np.uint16)
        write(path.with_suffix(ending), pixels)

    return save


@pytest.mark.parametrize("save", [stained(png16, ".png"), stained(tiff16, ".tif")])
@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_colour_of_16_bits_is_scaled_as_grey_is(tmp_path: Path, save: Saver, channels: str) -> None:
    root = made(tmp_path / "d", save_image=save)
    notes = carded(root, f"channels: {channels}").notes()
    assert notes[0].startswith("11 images (such as ")
    assert "16 bits in each channel of colour, with values up to " in notes[0]
    (line,) = re.findall("`(intensity: .+?)`", notes[0])
    dataset = carded(root, f"channels: {channels}\n{line}")
    assert "upper 8" not in " ".join(dataset.notes())
    high = float(line.rpartition(", ")[2].rstrip("]"))
    stored = scan(0).astype(float)[..., None] * [16, 12, 10]
    image = dataset.load(dataset.cases("train")[0]).image
    if channels == "grey":
        stored = np.floor(stored @ [19595, 38470, 7471] / 2**16 + 0.5)
    np.testing.assert_array_equal(image, np.round(stored.clip(0, high) * 255 / high))
    assert np.unique(image).size > 100
    percentiles = carded(root, f"channels: {channels}\npercentiles: [0, 100]")
    assert max(percentiles.load(case).image.max() for case in percentiles.cases("train")) == 255
    outside = problems(carded(root, "intensity: [5000, 6000]"))
    assert "shows nothing of the images: their values are 0 to " in outside


@pytest.mark.parametrize("bits", [12, 16])
def test_positive_numbers_near_0_have_no_offset_and_no_lost_sign(tmp_path: Path, bits: int) -> None:
    (note,) = carded(made(tmp_path / "d", save_image=unsigned(1024)), f"bits: {bits}").notes()
    assert f"({bits} bits, as the card says)" in note
    assert "offset" not in note
