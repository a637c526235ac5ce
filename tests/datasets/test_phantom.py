from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from miasbench.datasets.folder import open_folder
from miasbench.datasets.histology import phantom_histology
from miasbench.datasets.phantom import (
    PHANTOMS,
    phantom_brain_mri,
    phantom_liver_ct,
    phantom_retina_oct,
    write_bmad,
)
from miasbench.harness.api import SPLITS, DataError, Dataset, as_grey

Opener = Callable[..., Dataset]
OPENERS: dict[str, Opener] = {
    "phantom_brain_mri": phantom_brain_mri,
    "phantom_liver_ct": phantom_liver_ct,
    "phantom_retina_oct": phantom_retina_oct,
    "phantom_histology": phantom_histology,
}
every_phantom = pytest.mark.parametrize("name", PHANTOMS)


def make(name: str, train: int = 4, valid: int = 4, test: int = 8, **options: int) -> Dataset:
    return OPENERS[name](Path(), train=train, valid=valid, test=test, **options)


@every_phantom
def test_images_have_the_contracts_types_and_the_modalitys_shape(name: str) -> None:
    for size in (64, 256):
        dataset = make(name, size=size)
        case = dataset.cases("test")[-1]
        image, mask = dataset.load(case)
        assert mask.shape == ((size // 2, size) if "retina" in name else (size, size))
        assert image.shape == (*mask.shape, 3) if dataset.card.channels == "rgb" else mask.shape
        assert (image.dtype, mask.dtype) == (np.uint8, bool)


@every_phantom
def test_splits_labels_and_patients(name: str) -> None:
    dataset = make(name, train=7, valid=5, test=9)
    assert {split: len(dataset.cases(split)) for split in SPLITS} == {"train": 7, "valid": 5, "test": 9}
    assert dataset.card.counts == {"train": 7, "valid": 5, "test": 9}
    assert [sum(case.label for case in dataset.cases(split)) for split in SPLITS] == [0, 2, 4]
    patients = [{case.patient for case in dataset.cases(split)} for split in SPLITS]
    assert not (patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2])
    for split in SPLITS:
        ids = [case.id for case in dataset.cases(split)]
        assert len(set(ids)) == len(ids)
        for case in dataset.cases(split):
            assert dataset.load(case).mask.any() == bool(case.label)


@every_phantom
def test_the_seed_decides_everything(name: str) -> None:
    one, same, other = make(name), make(name), make(name, seed=1)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    for split in SPLITS:
        for case in one.cases(split):
            for a, b in zip(one.load(case), same.load(case), strict=True):
                np.testing.assert_array_equal(a, b)
            assert (one.load(case).image != other.load(case).image).any()


@every_phantom
def test_more_cases_change_none_of_the_others(name: str) -> None:
    few, many = make(name, train=3), make(name, train=9)
    assert few.fingerprint != many.fingerprint
    assert list(many.cases("train")[:3]) == list(few.cases("train"))
    np.testing.assert_array_equal(
        few.load(few.cases("train")[2]).image, many.load(many.cases("train")[2]).image, strict=True
    )


@every_phantom
def test_lesions_are_neither_invisible_nor_found_by_brightness_alone(name: str) -> None:
    dataset = make(name, test=40)
    maps, masks, contrasts = [], [], []
    for case in dataset.cases("test"):
        image, mask = dataset.load(case)
        image = as_grey(image)
        smooth = gaussian_filter(image.astype(float), 2)
        maps.append(smooth.ravel())
        masks.append(mask.ravel())
        if case.label:
            near = gaussian_filter(mask.astype(float), 6) > 0.05
            contrasts.append(abs(image[mask].mean() - image[near & ~mask & (image > 0)].mean()))
            assert 24 / 256**2 <= mask.mean() < 0.25
    assert np.percentile(contrasts, 10) < 0.5 * np.percentile(contrasts, 90), "some are faint"
    auroc = roc_auc_score(np.concatenate(masks), np.concatenate(maps))
    assert auroc < 0.95, "intensity alone must not win"


def test_lesions_of_tissue_are_seen_by_their_colour() -> None:
    dataset = make("phantom_histology", test=20, size=128)
    samples = [dataset.load(case) for case in dataset.cases("test")]
    masks = np.stack([sample.mask for sample in samples]).ravel()
    red = np.stack([gaussian_filter(sample.image[..., 0].astype(float), 3) for sample in samples]).ravel()
    grey = np.stack([gaussian_filter(as_grey(sample.image).astype(float), 3) for sample in samples]).ravel()
    assert roc_auc_score(masks, -red) > 0.9
    assert abs(roc_auc_score(masks, grey) - 0.5) < 0.2


@every_phantom
def test_written_out_and_read_back_nothing_changes(name: str, tmp_path: Path) -> None:
    dataset = make(name, size=64)
    told: list[tuple[int, int]] = []
    write_bmad(dataset, tmp_path / name, lambda done, total: told.append((done, total)))
    assert told == [(done, 16) for done in range(1, 17)]
    (tmp_path / "card.yaml").write_text(f"name: {name}\nroot: {name}\nchannels: auto\n")
    read = open_folder(tmp_path / "card.yaml")
    assert read.card.channels == dataset.card.channels
    for split in SPLITS:
        originals = {case.id: case for case in dataset.cases(split)}
        assert {case.id for case in read.cases(split)} == set(originals)
        for case in read.cases(split):
            original = originals[case.id]
            assert (case.patient, case.label) == (original.patient, original.label)
            for a, b in zip(read.load(case), dataset.load(original), strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists already"):
        write_bmad(make("phantom_brain_mri", size=64), tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bmad(make("phantom_brain_mri", size=64), tmp_path / "out", stop)
    assert list(tmp_path.iterdir()) == []
