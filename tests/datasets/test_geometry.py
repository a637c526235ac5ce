"""What is made of slices can be put back onto the grid of their volume."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.datasets.geometry import GEOMETRY_FILE, VolumeGeometry, read_geometry
from miasbench.harness.api import SPLITS, DataError
from miasbench.harness.data.subset import Subset

from ..support.volumes import OBLIQUE, sliced, write

ORDERS = [((0, 1, 2), None), ((2, 0, 1), 0), ((1, 2, 0), 2), ((0, 2, 1), 1)]


def masks_of(dataset: FolderDataset, volume: str) -> dict[int, np.ndarray]:
    cases = [case for split in SPLITS for case in dataset.cases(split) if case.volume == volume]
    return {case.position: dataset.load(case).mask for case in cases if case.position is not None}


def grid_of(dataset: FolderDataset, volume: str) -> VolumeGeometry:
    grid = dataset.grid(volume)
    assert isinstance(grid, VolumeGeometry)
    return grid


def load(path: Path) -> Any:
    return nibabel.load(path)


def volumes_of(root: Path, split: str, axis: int = 2) -> list[str]:
    return [name for name, geometry in read_geometry(root / f"out{axis}").items() if geometry.split == split]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("order", "flip"), ORDERS)
def test_masks_go_back_onto_the_sources_grid_voxel_by_voxel(
    tmp_path: Path, order: tuple[int, ...], flip: int | None, axis: int
) -> None:
    dataset = sliced(write(tmp_path, order, flip), axis)
    for volume in volumes_of(tmp_path, "test", axis):
        image = grid_of(dataset, volume).to_image(masks_of(dataset, volume))
        source = load(tmp_path / "masks" / f"{volume}.nii.gz")
        assert np.array_equal(np.asanyarray(image.dataobj), np.asanyarray(source.dataobj))
        assert np.array_equal(image.affine, source.affine)


@pytest.mark.parametrize("form", ["sform", "qform", "none"])
def test_an_independent_reader_sees_them_in_the_same_place(tmp_path: Path, form: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    dataset = sliced(write(tmp_path, (2, 0, 1), 0, form))
    for volume in volumes_of(tmp_path, "test"):
        grid_of(dataset, volume).to_image(masks_of(dataset, volume)).to_filename(tmp_path / "back.nii.gz")
        back, image, source = (
            sitk.ReadImage(str(tmp_path / place))
            for place in ("back.nii.gz", f"images/{volume}.nii.gz", f"masks/{volume}.nii.gz")
        )
        assert back.GetSpacing() == source.GetSpacing()
        assert back.GetOrigin() == source.GetOrigin()
        assert back.GetDirection() == source.GetDirection()
        moved = sitk.Resample(back, image, sitk.Transform(), sitk.sitkNearestNeighbor)
        assert np.array_equal(sitk.GetArrayFromImage(moved), sitk.GetArrayFromImage(source))


@pytest.mark.parametrize("form", ["sform", "qform", "none"])
def test_the_header_says_of_the_place_what_the_sources_says(tmp_path: Path, form: str) -> None:
    dataset = sliced(write(tmp_path, form=form))
    image = grid_of(dataset, "p0").to_image({})
    source = load(tmp_path / "images" / "p0.nii.gz").header
    for name in ("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_z"):
        assert np.array_equal(image.header[name], source[name]), name
    assert (grid_of(dataset, "p0").spacing is None) == (form == "none"), "without a form, sizes are not to be trusted"


def test_slices_that_were_left_out_come_back_empty(tmp_path: Path) -> None:
    root = write(tmp_path)
    for file in (root / "images").iterdir():
        image = load(file)
        voxels = np.asanyarray(image.dataobj).copy()
        voxels[..., 5] = -1000
        nibabel.save(nibabel.Nifti1Image(voxels, None, image.header), file)
    dataset = sliced(root)
    volume = volumes_of(tmp_path, "train")[0]
    geometry = grid_of(dataset, volume)
    assert geometry.positions == (0, 3, 4)
    assert geometry.lesion == (1, 2)
    assert geometry.constant == (5,)
    assert geometry.positions == tuple(masks_of(dataset, volume))
    ones = dict.fromkeys(geometry.positions, np.ones(geometry.slice_shape, np.float32))
    voxels = np.asanyarray(geometry.to_image(ones, empty=-3).dataobj)
    assert [np.unique(voxels[..., index]).tolist() for index in range(6)] == [[1], [-3], [-3], [1], [1], [-3]]
    assert not np.asanyarray(geometry.to_image({}).dataobj).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_voxels_are_cut_as_the_volume_was(tmp_path: Path, axis: int) -> None:
    dataset = sliced(write(tmp_path, (1, 2, 0), 2), axis)
    volume = volumes_of(tmp_path, "test", axis)[0]
    cut = grid_of(dataset, volume).to_slices(np.asanyarray(load(tmp_path / "masks" / f"{volume}.nii.gz").dataobj))
    expected = masks_of(dataset, volume)
    assert cut.keys() == expected.keys()
    assert all(np.array_equal(cut[position], mask) for position, mask in expected.items())


@pytest.mark.parametrize(("axis", "order"), [(0, (2, 1, 0)), (1, (2, 0, 1)), (2, (1, 0, 2))])
@pytest.mark.parametrize(("stored_as", "flip"), ORDERS)
def test_cases_know_the_spacing_of_rows_columns_and_slices(
    tmp_path: Path, axis: int, order: tuple[int, ...], stored_as: tuple[int, ...], flip: int | None
) -> None:
    """Sagittal slices have rows to superior and columns to anterior, coronal and axial ones columns to the right."""
    case = sliced(write(tmp_path, stored_as, flip), axis).cases("test")[0]
    expected = np.linalg.norm(OBLIQUE[:3, :3], axis=0)[list(order)]
    assert case.spacing is not None
    np.testing.assert_allclose(case.spacing, expected, rtol=1e-5)


def test_what_does_not_belong_on_the_grid_is_refused(tmp_path: Path) -> None:
    geometry = grid_of(sliced(write(tmp_path)), "p1")
    for slices, said in (
        ({6: np.zeros((11, 9))}, "has the slices 0 to 5, and none at 6"),
        ({-1: np.zeros((11, 9))}, "none at -1"),
        ({0: np.zeros((9, 11))}, "has 11 x 9 pixels (rows x columns), but 9 x 11 are to be put there"),
    ):
        with pytest.raises(DataError) as error:
            geometry.to_image(slices)
        assert f"{tmp_path}/images/p1.nii.gz" in str(error.value)
        assert said in str(error.value)
    with pytest.raises(DataError, match="Resample it onto the volume's grid first"):
        geometry.to_slices(np.zeros((6, 11, 9)))


def test_a_part_of_a_dataset_has_the_grids_of_the_whole(tmp_path: Path) -> None:
    dataset = sliced(write(tmp_path))
    assert Subset(dataset, 2).grid("p1") == dataset.grid("p1")
    assert dataset.grid("p99") is None


def test_slices_of_version_0_1_0_know_their_volume_but_no_grid(tmp_path: Path) -> None:
    fingerprint = sliced(write(tmp_path)).fingerprint
    (tmp_path / "out2" / GEOMETRY_FILE).unlink()
    dataset = open_folder(tmp_path / "made.yaml")
    case = dataset.cases("test")[0]
    assert case.volume in {f"p{number}" for number in range(10)}
    assert (case.position, case.spacing) == (int(case.id[-3:]), None)
    assert dataset.grid(str(case.volume)) is None
    assert dataset.fingerprint == fingerprint


def test_a_damaged_geometry_is_named(tmp_path: Path) -> None:
    sliced(write(tmp_path))
    (tmp_path / "out2" / GEOMETRY_FILE).write_text('{"volumes": {"p0": {"axis": 7}}}')
    with pytest.raises(DataError, match=r"volumes\.json, which says how slices lie in their volumes, cannot be read"):
        open_folder(tmp_path / "made.yaml")


@pytest.mark.parametrize("shape", [(100_000, 100_000, 100_000), (0, 4, 4), (-1, -4, 4)])
def test_a_geometry_that_announces_more_than_a_scan_has_is_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    sliced(write(tmp_path))
    path = tmp_path / "out2" / GEOMETRY_FILE
    content = json.loads(path.read_text())
    next(iter(content["volumes"].values()))["shape"] = shape
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no volume has the shape"):
        open_folder(tmp_path / "made.yaml")
