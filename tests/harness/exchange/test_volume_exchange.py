"""Predictions of slices go out as NIfTI volumes that lie on their sources, and volumes come in as slices."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.processing import resample_from_to
from PIL import Image

import miasbench
from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.datasets.geometry import GEOMETRY_FILE
from miasbench.datasets.nifti import MissingNibabelError
from miasbench.harness.api import DataError, UsageError

from ...support.running import TINY
from ...support.volumes import sliced, write

SIDE = 32
"""The longer side of a slice: in a frame of this size nothing is resized, and there is padding on two sides."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes whose axes are stored in another order, one backwards, and of which slice 5 is constant; and slices."""
    root = write(tmp_path_factory.mktemp("volumes"), (2, 0, 1), 0, shape=(27, SIDE, 6))
    for file in (root / "images").iterdir():
        image = load(file)
        voxels = np.asanyarray(image.dataobj).copy()
        voxels[0] = -1000  # the body's axis from below is stored first, and backwards
        nibabel.save(nibabel.Nifti1Image(voxels, None, image.header), file)
    sliced(root)
    return root


@pytest.fixture(scope="module")
def made(root: Path) -> miasbench.Run:
    """A run whose maps and masks are known: maps count pixels, masks are the lesions themselves."""
    return taken_in(as_slices(root, root / "slices"), root, root / "results")


def load(path: Path) -> Any:
    return nibabel.load(path)


def dataset_of(root: Path) -> FolderDataset:
    return open_folder(root / "made.yaml")


def as_slices(root: Path, folder: Path) -> Path:
    """Predictions of each slice: its lesion as a mask, and a seventh of its grey values as a map."""
    dataset = dataset_of(root)
    for split in ("valid", "test"):
        for kind in ("maps", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for case in dataset.cases(split):
            image, mask = dataset.load(case)
            np.save(folder / "maps" / split / f"{case.id}.npy", image.astype(np.float32) / 7)
            Image.fromarray(mask).save(folder / "masks" / split / f"{case.id}.png")
    return folder


def taken_in(folder: Path, root: Path, results: Path, **options: Any) -> miasbench.Run:
    options = {"method": "theirs", "size": SIDE, "higher_is": "anomalous", "seen": ["normal"]} | options
    return miasbench.import_predictions(folder, root / "made.yaml", results=results, quiet=True, **options)


def volumes_of(root: Path) -> list[str]:
    return sorted({str(case.volume) for case in dataset_of(root).cases("test")})


def test_volumes_have_the_geometry_of_their_sources(made: miasbench.Run, root: Path, tmp_path: Path) -> None:
    folder = made.export(tmp_path, ["volumes"])[0] / "volumes"
    names = {f"{volume}_{kind}.nii.gz" for volume in volumes_of(root) for kind in ("mask", "map")}
    assert {path.name for path in folder.iterdir()} == names
    for volume in volumes_of(root):
        mask, anomaly_map = (load(folder / f"{volume}_{kind}.nii.gz") for kind in ("mask", "map"))
        source, lesion = (load(root / kind / f"{volume}.nii.gz") for kind in ("images", "masks"))
        for image, dtype in ((mask, np.uint8), (anomaly_map, np.float32)):
            assert image.get_data_dtype() == dtype
            assert np.array_equal(image.affine, source.affine)
            assert image.header.get_zooms() == source.header.get_zooms()
        assert np.array_equal(np.asanyarray(mask.dataobj), np.asanyarray(lesion.dataobj)), "voxel by voxel"
        canonical = nibabel.as_closest_canonical(lesion)  # type: ignore[attr-defined]
        moved = resample_from_to(mask, canonical, order=0)
        assert np.array_equal(np.asanyarray(moved.dataobj), np.asanyarray(canonical.dataobj))


def test_an_independent_reader_shows_them_on_top_of_their_sources(
    made: miasbench.Run, root: Path, tmp_path: Path
) -> None:
    """Resampled by ITK onto the source, a mask is the lesion, and a map is brighter where the source is brighter."""
    sitk = pytest.importorskip("SimpleITK")
    folder = made.export(tmp_path, ["volumes"])[0] / "volumes"
    for volume in volumes_of(root):
        source, lesion, mask, anomaly_map = (
            sitk.ReadImage(str(path))
            for path in (
                *(root / kind / f"{volume}.nii.gz" for kind in ("images", "masks")),
                *(folder / f"{volume}_{kind}.nii.gz" for kind in ("mask", "map")),
            )
        )
        assert mask.GetDirection() == anomaly_map.GetDirection() == source.GetDirection()
        on_source = [
            sitk.Resample(one, source, sitk.Transform(), sitk.sitkNearestNeighbor) for one in (mask, anomaly_map)
        ]
        masks, maps = map(sitk.GetArrayFromImage, on_source)
        assert np.array_equal(masks, sitk.GetArrayFromImage(lesion))
        voxels = sitk.GetArrayFromImage(source)
        predicted = voxels > -1000  # the constant slice has no prediction
        order = np.argsort(voxels[predicted])
        assert (np.diff(maps[predicted][order]) >= 0).all()
        assert np.ptp(maps[predicted]) > 30


def test_predictions_of_another_size_are_brought_to_the_pixels_of_the_slices(
    made: miasbench.Run, root: Path, tmp_path: Path
) -> None:
    larger = taken_in(root / "slices", root, tmp_path / "results", size=2 * SIDE)
    one, two = (run.export(tmp_path / f"size{number}", ["volumes"])[0] for number, run in enumerate((made, larger)))
    for volume in volumes_of(root):
        masks, maps = (
            [np.asanyarray(load(folder / "volumes" / f"{volume}_{kind}.nii.gz").dataobj) for folder in (one, two)]
            for kind in ("mask", "map")
        )
        assert np.array_equal(*masks)
        assert np.corrcoef(maps[0][1:].ravel(), maps[1][1:].ravel())[0, 1] > 0.7, "noise, but for interpolation"


def test_slices_without_a_prediction_are_empty(made: miasbench.Run, root: Path, tmp_path: Path) -> None:
    folder = made.export(tmp_path, ["volumes"])[0] / "volumes"
    for volume in volumes_of(root):
        mask, anomaly_map = (load(folder / f"{volume}_{kind}.nii.gz") for kind in ("mask", "map"))
        voxels = np.asanyarray(anomaly_map.dataobj)
        assert np.unique(np.asanyarray(mask.dataobj)[0]).tolist() == [0]
        assert np.unique(voxels[0]).tolist() == [voxels[1:].min()]
        assert b"without a prediction" in bytes(anomaly_map.header["descrip"])


def test_masks_without_maps_become_volumes_of_masks_alone(root: Path, tmp_path: Path) -> None:
    theirs = Path(shutil.copytree(root / "slices", tmp_path / "theirs"))
    shutil.rmtree(theirs / "maps")
    run = taken_in(theirs, root, tmp_path / "results")
    folder = run.export(tmp_path / "out", ["volumes", "images"])[0]
    assert {path.name for path in (folder / "volumes").iterdir()} == {f"{one}_mask.nii.gz" for one in volumes_of(root)}
    assert not (folder / "original" / "maps").exists(), "a map of zeros would be no prediction"


def test_images_that_are_no_slices_are_no_volumes(tmp_path: Path) -> None:
    run = miasbench.run("intensity", TINY, size=64, results=tmp_path / "results", quiet=True, device="cpu")
    with pytest.raises(UsageError, match=r"is a slice of no volume that its card knows of.* or take --as images"):
        run.export(tmp_path / "out", ["images", "volumes"])
    assert not (tmp_path / "out").exists()


def test_slices_of_which_no_geometry_was_kept_say_so(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    (copy / "out2" / GEOMETRY_FILE).unlink()
    run = taken_in(copy / "slices", copy, copy / "results")
    with pytest.raises(UsageError, match=r"affine of the volume p\d were not kept .* with bench data add"):
        run.export(tmp_path / "out", ["volumes"])


def test_without_nibabel_it_says_what_to_install(
    made: miasbench.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingNibabelError, match=r"pip install 'miasbench\[nifti\]'"):
        made.export(tmp_path, ["volumes"])


@pytest.fixture
def theirs(made: miasbench.Run, tmp_path: Path) -> Path:
    """Predictions as another program makes them of volumes: an export of the test split, under the names of volumes."""
    folder = made.export(tmp_path / "out", ["volumes"])[0] / "volumes"
    for path in folder.iterdir():
        volume, kind = path.name.removesuffix(".nii.gz").split("_")
        place = tmp_path / "theirs" / f"{kind}s" / "test" / f"{volume}.nii.gz"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return tmp_path / "theirs"


def first(folder: Path, kind: str = "maps") -> Path:
    return sorted((folder / kind / "test").iterdir())[0]


def same_predictions(one: miasbench.Run, other: miasbench.Run) -> None:
    for mine, theirs in zip(one.predictions(), other.predictions(), strict=True):
        assert mine.case == theirs.case
        np.testing.assert_array_equal(mine.anomaly_map, theirs.anomaly_map)
        np.testing.assert_array_equal(mine.mask, theirs.mask)


def test_volumes_that_went_out_come_in_as_they_were(
    made: miasbench.Run, theirs: Path, root: Path, tmp_path: Path
) -> None:
    same_predictions(taken_in(theirs, root, tmp_path / "results"), made)


def test_an_export_is_imported_where_it_is_by_the_pattern_of_its_names(
    made: miasbench.Run, root: Path, tmp_path: Path
) -> None:
    folder = made.export(tmp_path / "out", ["volumes"])[0] / "volumes"
    (folder / "predictions.yaml").write_text("maps: '{case}_map'\nmasks: '{case}_mask'\n")
    same_predictions(taken_in(folder, root, tmp_path / "results"), made)


def test_volumes_whose_axes_are_stored_in_another_order_are_turned(
    made: miasbench.Run, theirs: Path, root: Path, tmp_path: Path
) -> None:
    """As `bench data add` does with masks: where voxels lie is what counts."""
    for path in theirs.rglob("*.nii.gz"):
        canonical = nibabel.as_closest_canonical(load(path))  # type: ignore[attr-defined]
        assert canonical.shape != load(path).shape
        voxels = np.asanyarray(canonical.dataobj)[..., None]  # a fourth axis of length 1, as some programs add
        nibabel.save(nibabel.Nifti1Image(voxels, canonical.affine), path)
    same_predictions(taken_in(theirs, root, tmp_path / "results"), made)


def test_a_table_names_a_volume_once(made: miasbench.Run, theirs: Path, root: Path, tmp_path: Path) -> None:
    for path in list(theirs.rglob("*.nii.gz")):
        path.rename(theirs / f"{path.parts[-3]}-{path.name}")
    rows = [f"test,{one},maps-{one}.nii.gz,masks-{one}.nii.gz" for one in volumes_of(root)]
    (theirs / "files.csv").write_text("\n".join(["split,case,map,mask", *rows]))
    same_predictions(taken_in(theirs, root, tmp_path / "results"), made)


def shifted(path: Path) -> None:
    image = load(path)
    affine = image.affine.copy()
    affine[:3, 3] += 10
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), affine), path)


def without_header(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(load(path).dataobj), np.eye(4)), path)


def resampled(path: Path) -> None:
    image = load(path)
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj)[:, ::2], image.affine), path)


def of_two_channels(path: Path) -> None:
    image = load(path)
    voxels = np.asanyarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Image(np.stack([voxels, voxels], -1), image.affine), path)


def holding_nan(path: Path) -> None:
    image = load(path)
    voxels = np.asanyarray(image.dataobj).copy()
    voxels[1, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), path)


def full_of_nan(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full(load(path).shape, np.nan, np.float32), load(path).affine), path)


def twice(path: Path) -> None:
    nibabel.save(load(path), path.with_name(path.name.removesuffix(".gz")))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (shifted, ("lies elsewhere than the volume", "its first voxel is at", "the volume's (")),
        (without_header, ("lies elsewhere than the volume", "voxels are 1 x 1 x 1 mm, the volume's 5 x 0.7 x 0.65 mm")),
        (resampled, ("has 6 x 27 x 32 voxels", "6 x 14 x 32", "Resample it onto the volume's grid")),
        (
            of_two_channels,
            ("has 4 dimensions, 6 x 27 x 32 x 2, and not the 3 of the volume", ", 6 x 27 x 32: one value"),
        ),
        (holding_nan, ("Slice 4 of ", "holds NaN or infinity, which")),
        (full_of_nan, ("holds NaN or infinity in ", " of its slices, which cannot")),
        (twice, ("Both ", ".nii.gz and ", " belong to the volume ", "remove one")),
        (lambda path: path.write_bytes(b"no volume"), ("cannot be read", "Write it again")),
    ],
)
def test_a_volume_that_is_not_on_the_grid_of_its_source_is_refused(
    theirs: Path, root: Path, tmp_path: Path, change: Callable[[Path], None], told: tuple[str, ...]
) -> None:
    path = first(theirs)
    change(path)
    with pytest.raises(DataError) as raised:
        taken_in(theirs, root, tmp_path / "results")
    assert "they have 1 problem:" in str(raised.value), "one for all slices of the volume"
    assert path.name in str(raised.value)
    assert all(text in str(raised.value) for text in told)


def test_labels_of_several_kinds_are_no_mask_even_in_different_slices(theirs: Path, root: Path, tmp_path: Path) -> None:
    path = first(theirs, "masks")
    labels = np.zeros(load(path).shape, np.uint8)
    labels[1, 2, 2], labels[2, 2, 2] = 1, 2
    nibabel.save(nibabel.Nifti1Image(labels, load(path).affine), path)
    with pytest.raises(DataError, match=r"has 3 values \(0, 1, 2\)"):
        taken_in(theirs, root, tmp_path / "results")


def test_volumes_of_a_dataset_that_knows_no_grid_are_told(theirs: Path, root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    (copy / "out2" / GEOMETRY_FILE).unlink()
    with pytest.raises(DataError, match=r"how that was cut into slices is not known.* Give a file for each slice"):
        taken_in(theirs, copy, tmp_path / "results")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("test,{0},a.npy,\ntest,{1},a.npy,", "line 3: a.npy is the map of line 2 already"),
        ("test,{0},a.npy,\ntest,{0},b.npy,", "line 3: {0} (test) is in line 2 already"),
        ("test,{0},c.npy,", "names c.npy, which is not in the folder"),
    ],
)
def test_a_table_that_names_something_twice_is_refused(root: Path, tmp_path: Path, rows: str, told: str) -> None:
    cases = [case.id for case in dataset_of(root).cases("test")]
    (tmp_path / "theirs").mkdir()
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / "theirs" / name, np.zeros((SIDE, 27), np.float32))
    (tmp_path / "theirs" / "files.csv").write_text("split,case,map,mask\n" + rows.format(*cases))
    with pytest.raises(DataError) as raised:
        taken_in(tmp_path / "theirs", root, tmp_path / "results")
    assert told.format(*cases) in str(raised.value)


def test_predictions_in_nifti_without_nibabel_say_what_to_install(
    theirs: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UsageError, match=r"pip install 'miasbench\[nifti\]'"):
        taken_in(theirs, root, tmp_path / "results")
