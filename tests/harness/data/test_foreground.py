"""The foreground of an image: the body and what is in it, and never the air around."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes

from miasbench.datasets.folder import open_folder
from miasbench.datasets.histology import phantom_histology
from miasbench.datasets.phantom import phantom_brain_mri, phantom_liver_ct, phantom_retina_oct, write_bmad
from miasbench.harness import registry
from miasbench.harness.api import BrokenDatasetError, Case, DataError, Dataset, Sample, Split, UsageError, as_grey
from miasbench.harness.conformance.datasets import check_dataset
from miasbench.harness.data import foreground
from miasbench.harness.data.foreground import foregrounds, lesions_cut, otsu, whole
from miasbench.harness.data.subset import Subset
from miasbench.harness.data.verifying import verify_dataset
from miasbench.harness.registry import Entry
from miasbench.harness.running.planning import make_plan

from ...support.running import Wrapped, config, run


def disk(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def body(shape: tuple[int, int] = (128, 128), noise: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A dark body with a bright rim and a hole full of air, on air with a little noise; and the disk that it fills."""
    rng = np.random.default_rng(0)
    full = disk(shape, (64, 64), 40)
    image = rng.integers(0, noise, shape)
    image[full] = 60 + rng.integers(0, 20, np.count_nonzero(full))
    image[full & ~disk(shape, (64, 64), 37)] = 220
    image[disk(shape, (60, 70), 9)] = 0
    return image.astype(np.uint8), full


def phantom(**options: int) -> Dataset:
    return phantom_brain_mri(Path(), **{"train": 3, "valid": 2, "test": 4, "size": 64} | options)


class Counting(Wrapped):
    """Counts how often an image is read."""

    read = 0

    def load(self, case: Case) -> Sample:
        self.read += 1
        return super().load(case)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], None]:
    def add(name: str, rule: object) -> None:
        monkeypatch.setattr(foreground, "a_rule", rule, raising=False)
        target = "miasbench.harness.data.foreground:a_rule"
        monkeypatch.setitem(registry.FOREGROUNDS, name, Entry(target, "for a test", "a plugin 1.0"))

    return add


def test_otsu_finds_a_disk_and_fills_its_holes() -> None:
    image, full = body()
    found = otsu(image)
    assert np.count_nonzero(found ^ full) < 0.03 * np.count_nonzero(full), "a square closes the corners of a disk"
    assert not (full & ~found).any(), "nothing of the body is left out, the hole neither"
    np.testing.assert_array_equal(found, binary_fill_holes(found))


def test_otsu_keeps_dark_organs_beside_bright_bones() -> None:
    """Without the logarithm the threshold lies between the organs and the bones."""
    image, full = body()
    assert (full & ~(image > 140)).mean() > 0.1
    assert otsu(image)[full].all()


def test_otsu_closes_a_gap_in_the_outline() -> None:
    image, full = body()
    image[62:66, 20:64] = 0  # a channel of air from outside to the middle
    assert (full & ~otsu(image)).sum() <= 4, "the mouth of the channel, on the rim of the disk"


def test_otsu_keeps_two_large_bodies_and_drops_specks_and_the_table() -> None:
    shape = (128, 256)
    image, legs = np.zeros(shape, np.uint8), [disk(shape, (60, 60), 30), disk(shape, (60, 190), 25)]
    for leg in legs:
        image[leg] = 120
    image[110:112] = 200  # a thin line, as of a table
    image[10:15, 120:125] = 250
    found = otsu(image)
    assert all(found[leg].all() for leg in legs)
    assert not found[105:].any() and not found[5:20, 115:130].any()


@pytest.mark.parametrize("value", [0, 7, 255])
def test_an_image_of_one_grey_level_is_all_foreground(value: int) -> None:
    assert otsu(np.full((9, 12), value, np.uint8)).all()


def test_a_body_at_the_border_is_not_eroded() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[:, :60] = 90
    np.testing.assert_array_equal(otsu(image), image > 0)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 3)])
def test_tiny_images_have_a_foreground(size: tuple[int, int]) -> None:
    image = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size) * 20
    assert otsu(image).any() and whole(image).all()


@pytest.mark.parametrize("make", [phantom_brain_mri, phantom_liver_ct])
def test_phantoms_on_black_are_cut_out(make: Callable[..., Dataset]) -> None:
    dataset = make(Path(), train=3, valid=2, test=6, size=96)
    assert dataset.card.foreground == "otsu"
    found = foregrounds(dataset, "test", "otsu")
    assert found is not None and all(0.1 < one.mean() < 0.8 for one in found)
    for one, case in zip(found, dataset.cases("test"), strict=True):
        body = dataset.load(case).image > 0
        assert (one & body).sum() > 0.98 * body.sum() and (one & ~body).sum() < 0.05 * body.sum()


def test_no_lesion_of_a_brain_is_cut() -> None:
    cut = lesions_cut(phantom(test=12), "otsu")
    assert (cut.lesions, cut.shares, cut.outside) == (7, [], 0)


def test_the_foreground_of_oct_is_all_of_the_image() -> None:
    dataset = phantom_retina_oct(Path(), train=3, valid=2, test=4, size=64)
    assert dataset.card.foreground == "all"
    assert foregrounds(dataset, "test", "all") is None


def test_foregrounds_are_found_once_and_kept() -> None:
    dataset = Counting(phantom())
    first = foregrounds(dataset, "test", "otsu")
    assert first is not None and dataset.read == 4
    again = foregrounds(dataset, "test", "otsu")
    assert again is not None and dataset.read == 4
    for one, other, case in zip(first, again, dataset.cases("test"), strict=True):
        np.testing.assert_array_equal(one, otsu(dataset.whole.load(case).image))
        np.testing.assert_array_equal(one, other)


def test_another_split_or_dataset_has_foregrounds_of_its_own() -> None:
    kept = foregrounds(phantom(), "test", "otsu")
    others: list[tuple[Dataset, Split]]
    others = [(phantom(), "valid"), (phantom(seed=1), "test"), (Subset(phantom(), 2), "test")]
    for dataset, split in others:
        other = Counting(dataset)
        found = foregrounds(other, split, "otsu")
        assert found is not None and kept is not None and other.read == len(found)


def test_a_plugins_rule_finds_the_foreground(register: Callable[[str, object], None]) -> None:
    register("bright", lambda image: image > 100)
    dataset = phantom()
    found = foregrounds(dataset, "test", "bright")
    assert found is not None
    np.testing.assert_array_equal(found[0], dataset.load(dataset.cases("test")[0]).image > 100)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (lambda image: image, "uint8 (64, 64); it should be bool (64, 64)"),
        (lambda image: image[1:] > 0, "bool (63, 64); it should be bool (64, 64)"),
        (lambda image: None, "NoneType"),
        (lambda image: image.nothing, "AttributeError"),
    ],
)
def test_what_is_wrong_with_a_plugins_rule_is_said(
    register: Callable[[str, object], None], rule: object, problem: str
) -> None:
    register("odd", rule)
    with pytest.raises(DataError, match=r"The foreground of .* by odd") as error:
        foregrounds(phantom(), "test", "odd")
    assert problem in str(error.value)


def test_an_unknown_rule_is_suggested() -> None:
    with pytest.raises(UsageError, match=r"There is no foreground 'otsi'\. Did you mean 'otsu'\?"):
        foregrounds(phantom(), "test", "otsi")


def test_masks_are_asked_of_a_dataset_that_has_some() -> None:
    with pytest.raises(DataError, match="brings no masks of it: name another rule"):
        foregrounds(phantom(), "test", "masks")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset whose foregrounds lie in a folder beside that of the images."""
    write_bmad(phantom(), tmp_path / "data")
    for image in (tmp_path / "data").glob("*/*/img/*.png"):
        beside = image.parent.parent / "brain" / image.name
        beside.parent.mkdir(exist_ok=True)
        pixels = np.zeros((64, 64), np.uint8)
        pixels[:, :40] = 255
        Image.fromarray(pixels).save(beside)
    return tmp_path / "data"


def card(folder: Path, text: str) -> Path:
    path = folder.parent / "card.yaml"
    path.write_text(f"name: mine\nroot: data\n{text}\n", encoding="utf-8")
    return path


def test_masks_of_the_foreground_come_with_the_data(folder: Path) -> None:
    dataset = open_folder(card(folder, "foreground: ../brain/{name}.png"))
    assert dataset.card.foreground == "masks"
    found = foregrounds(dataset, "test", "masks")
    assert found is not None and len(found) == 4
    assert all(one[:, :40].all() and not one[:, 40:].any() for one in found)
    assert not any("brain" in note for note in dataset.notes()), "they are not among files that are passed over"


def test_the_fingerprint_knows_masks_of_the_foreground(folder: Path) -> None:
    plain = open_folder(card(folder, "")).fingerprint
    assert open_folder(card(folder, "foreground: otsu")).fingerprint == plain, "a rule concerns scores only"
    with_masks = open_folder(card(folder, "foreground: ../brain/{name}.png")).fingerprint
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(next((folder / "test" / "good" / "brain").iterdir()))
    changed = open_folder(card(folder, "foreground: ../brain/{name}.png")).fingerprint
    assert len({plain, with_masks, changed}) == 3


def test_a_missing_mask_of_the_foreground_is_named(folder: Path) -> None:
    gone = next((folder / "test" / "good" / "brain").iterdir())
    gone.unlink()
    with pytest.raises(BrokenDatasetError, match=rf"the card says that it is .*{gone.name}"):
        open_folder(card(folder, "foreground: ../brain/{name}.png"))


def test_a_foreground_of_another_size_is_refused(folder: Path) -> None:
    for path in (folder / "test" / "good" / "brain").iterdir():
        Image.fromarray(np.zeros((10, 20), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"has 20 x 10 pixels, its image .* 64 x 64"):
        foregrounds(open_folder(card(folder, "foreground: ../brain/{name}.png")), "test", "masks")


def test_a_pattern_without_a_name_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"foreground: '../brain' is no rule; a pattern of files has \{name\}"):
        open_folder(card(folder, "foreground: ../brain"))


def test_verify_says_where_the_foreground_cuts_lesions(folder: Path) -> None:
    path = card(folder, "foreground: ../brain/{name}.png")
    dataset, findings = verify_dataset(lambda: open_folder(path))
    (found,) = [one for one in findings if one.kind == "foreground"]
    lesions = {case.image: dataset.load(case).mask for split in ("valid", "test") for case in dataset.cases(split)}
    shares = {image: mask[:, 40:].sum() / mask.sum() for image, mask in lesions.items() if mask.any()}
    cut = [share for share in shares.values() if share]
    pixels = sum(mask.sum() for mask in lesions.values())
    outside = sum(mask[:, 40:].sum() for mask in lesions.values()) / pixels
    worst = max(shares, key=lambda image: shares[image])
    assert cut and not found.wrong
    images = f"{len(cut)} image{'s' * (len(cut) > 1)} of {len(shares)}"
    assert f"a part of the lesion in {images}, {outside:.2%} of all lesion pixels" in found.text
    assert f"most in {worst}, {shares[worst]:.2%}" in found.text


def test_verify_has_nothing_to_say_where_lesions_are_inside(folder: Path) -> None:
    for text in ("", "foreground: otsu"):
        _, findings = verify_dataset(lambda text=text: open_folder(card(folder, text)))
        assert not [one for one in findings if one.kind == "foreground"]


def test_verify_names_an_unknown_rule(folder: Path) -> None:
    _, findings = verify_dataset(lambda: open_folder(card(folder, "foreground: otsi")))
    (found,) = [one for one in findings if one.kind == "foreground"]
    assert found.wrong and "There is no foreground 'otsi'" in found.text


def test_check_dataset_holds_foregrounds_to_the_lesions(folder: Path, register: Callable[[str, object], None]) -> None:
    register("nothing", lambda image: image < 0)
    assert check_dataset(card(folder, "foreground: otsu")) == []
    (problem,) = check_dataset(card(folder, "foreground: nothing"))
    assert "leaves out 100% of the lesion" in problem
    (problem,) = check_dataset(card(folder, "foreground: otsi"))
    assert "There is no foreground 'otsi'" in problem


def test_a_rule_gets_an_image_in_colour_as_grey() -> None:
    dataset = phantom_histology(Path(), train=2, valid=2, test=2, size=64)
    case = dataset.cases("test")[1]
    image = dataset.load(case).image
    np.testing.assert_array_equal(foreground.foreground_of(dataset, case, "otsu", image), otsu(as_grey(image)))
    assert foreground.foreground_of(dataset, case, "all", image).shape == (64, 64)


def test_a_run_refuses_an_unknown_rule_before_it_predicts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no foreground 'otsi'\. Did you mean 'otsu'\?"):
        make_plan(config(tmp_path, "intensity", score={"foreground": "otsi"}))


def test_another_rule_on_the_card_scores_again_and_predicts_nothing_again(folder: Path, tmp_path: Path) -> None:
    def scored(rule: str) -> tuple[float, str]:
        path = card(folder, f"foreground: {rule}")
        store, (outcome,) = run(tmp_path / "results", "intensity", dataset=[str(path)])
        rows = store.scores().set_index(["policy", "metric"])
        return float(str(rows["value"]["normal_quantile", "normal_fpr"])), outcome.status

    first, second, third = scored("otsu"), scored("all"), scored("all")
    assert [first[1], second[1], third[1]] == ["finished", "kept", "kept"]
    assert first[0] > 2 * second[0] > 0, "of the body, and of all of the image"
    assert second == third
