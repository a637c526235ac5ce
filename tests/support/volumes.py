"""NIfTI volumes that are anisotropic and oblique, and the dataset that is made of them."""

from pathlib import Path

import nibabel
import numpy as np
from scipy.spatial.transform import Rotation

from miasbench.datasets.card import CardFile
from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.datasets.volume_files import pair_volumes
from miasbench.datasets.volumes import Slicing, slice_volumes

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (10, -5, 8), degrees=True).as_matrix() @ np.diag([-0.7, -0.65, 5])
OBLIQUE[:3, 3] = 40, 55, -20
"""Voxels of 0.7 x 0.65 x 5 mm, stored to the left, posterior and superior, and tilted against the body."""
SHAPE = (9, 11, 6)


def stored(voxels: np.ndarray, order: tuple[int, ...], flip: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels with their axes in another order and one of them backwards, and their affine."""
    orientation = np.array([[axis, -1 if axis == flip else 1] for axis in np.argsort(order)])
    turned = nibabel.orientations.apply_orientation(voxels, orientation)
    return turned, OBLIQUE @ nibabel.orientations.inv_ornt_aff(orientation, voxels.shape)


def write(
    root: Path,
    order: tuple[int, ...] = (0, 1, 2),
    flip: int | None = None,
    form: str = "sform",
    shape: tuple[int, int, int] = SHAPE,
) -> Path:
    """Ten patients, each with another lesion; `form` is what the header says of their place."""
    generator = np.random.default_rng(0)
    for patient in range(10):
        labels = np.zeros(shape, np.uint8)
        labels[2:6, 3:7, 1:3] = generator.random((4, 4, 2)) < 0.6
        labels[3, 3, 2] = 1
        for kind, voxels in (("images", generator.normal(0, 100, shape).astype(np.float32)), ("masks", labels)):
            turned, affine = stored(voxels, order, flip)
            image = nibabel.Nifti1Image(turned, affine)
            if form == "qform":
                image.set_qform(affine, 1)
            image.header["sform_code"] = 2 if form == "sform" else 0
            (root / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(turned, None, image.header), root / kind / f"p{patient}.nii.gz")
    return root


def sliced(root: Path, axis: int = 2) -> FolderDataset:
    made = slice_volumes(pair_volumes(root / "images", root / "masks"), root / f"out{axis}", Slicing(axis))
    CardFile(name="made", root=f"out{axis}", volumes=made).write(root / "made.yaml")
    return open_folder(root / "made.yaml")
