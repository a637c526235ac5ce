"""NIfTI volumes become a dataset."""

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.folder import open_folder
from miasbench.datasets.volumes import MissingNibabelError, Slicing, has_volumes, slice_volumes
from miasbench.harness.api import SPLITS, DataError

SHAPE = (12, 10, 6)


def save(path: Path, volume: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Ten patients, each with a lesion in the two highest axial slices, labelled 2 in an organ labelled 1."""
    generator = np.random.default_rng(0)
    for patient in range(10):
        volume = generator.normal(0, 100, SHAPE).astype(np.float32)
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:9, 2:9] = 1
        labels[3:6, 4:7, 4:] = 2
        volume[labels == 2] = 500
        save(tmp_path / "images" / f"p{patient}.nii.gz", volume)
        save(tmp_path / "masks" / f"p{patient}.nii.gz", labels)
    return tmp_path


def slice_them(volumes: Path, **how: object) -> Path:
    slice_volumes(volumes / "images", volumes / "masks", volumes / "out", Slicing(**how))  # type: ignore[arg-type]
    return volumes / "out"


def test_patients_are_dealt_out_and_lesions_found(volumes: Path) -> None:
    assert has_volumes(volumes / "images")
    dataset = open_folder(slice_them(volumes, lesion=(2,)))
    assert {split: len(dataset.cases(split)) for split in SPLITS} == {"train": 6 * 4, "valid": 6, "test": 3 * 6}
    patients = [{case.patient for case in dataset.cases(split)} for split in SPLITS]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 10
    case = next(case for case in dataset.cases("test") if case.label)
    image, mask = dataset.load(case)
    assert image.shape == (10, 12)
    assert mask.sum() == 9
    assert (image[mask] == 255).all(), "image and mask are turned alike"
    assert dataset.fingerprint


def test_labels_of_organs_are_lesions_unless_it_is_said(volumes: Path) -> None:
    with pytest.raises(DataError, match="leave no normal slices to learn from"):
        slice_them(volumes)
    assert not (volumes / "out").exists()


def test_axes_are_those_of_the_body_however_the_file_is_turned(volumes: Path) -> None:
    turn = np.array([[0, -1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])  # of stored axes to those of the body
    for file in volumes.rglob("*.nii.gz"):
        volume = np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
        stored = np.ascontiguousarray(volume[::-1].transpose(2, 0, 1))
        save(volumes / "turned" / file.relative_to(volumes), stored, turn)
    for axis, shape in ((0, (6, 10)), (1, (6, 12)), (2, (10, 12))):
        slices = []
        for folder in (volumes, volumes / "turned"):
            out = volumes / f"out-{folder.name}-{axis}"
            slice_volumes(folder / "images", folder / "masks", out, Slicing(axis, lesion=(2,)))
            files = sorted(out.rglob("*.png"))
            slices.append({str(file.relative_to(out)): np.asarray(Image.open(file)).tolist() for file in files})
        assert slices[0] == slices[1]
        assert np.shape(next(iter(slices[0].values()))) == shape


def test_a_window_maps_its_ends_to_black_and_white(volumes: Path) -> None:
    out = slice_them(volumes, lesion=(2,), window=(-50, 50))
    pixels = np.concatenate([np.asarray(Image.open(file)).ravel() for file in out.rglob("good/img/*.png")])
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert 0.2 < (pixels == 0).mean() < 0.4, "a normal deviate of 100 lies below -50 in 31 of 100 voxels"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "images" / "p1.nii.gz").write_bytes(b"no volume"), "p1.nii.gz cannot be read"),
        (lambda folder: save(folder / "images" / "p1.nii.gz", np.zeros((2, 2, 2, 2), np.float32)), "three dimensions"),
        (lambda folder: save(folder / "masks" / "p1.nii.gz", np.zeros((3, 3, 3), np.float32)), "has the shape"),
        (lambda folder: (folder / "images" / "p1.nii.gz").unlink(), "has no volume of its name"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(volumes: Path, damage: object, says: str) -> None:
    damage(volumes)  # type: ignore[operator]
    with pytest.raises(DataError, match=says):
        slice_them(volumes, lesion=(2,))
    assert sorted(path.name for path in volumes.iterdir()) == ["images", "masks"]


def test_without_nibabel_it_says_what_to_install(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingNibabelError, match=r"pip install 'miasbench\[nifti\]'"):
        slice_them(volumes, lesion=(2,))
