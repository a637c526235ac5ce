"""How slices lie in the volumes that they were cut from, so that what is made of slices can be put back."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ..harness.api import DataError, Split, VolumeGrid
from ..harness.safe_files import read_bytes, write_whole
from .dicom import MOST_VOXELS
from .nifti import GRID_TOLERANCE, Volume, load_nibabel, placing_differences, turn_onto, wrong_affine

GEOMETRY_FILE = "volumes.json"
"""The file beside a dataset's slices that keeps the geometry of their volumes."""

_LARGEST = 2**28  # bytes
_PLACING = (  # the fields of a NIfTI header that say where voxels lie
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)

_Row = tuple[float, float, float, float]
_Axis = tuple[Literal[0, 1, 2], Literal[1, -1]]


class VolumeGeometry(BaseModel, VolumeGrid):
    """The grid of a volume, and how it was cut.

    Attributes:
        source: The volume's file.
        split: The split of its patient.
        shape: Voxels along the three axes as they are stored.
        affine: From a voxel's indices to millimetres towards right, anterior and superior, four rows.
        zooms: The size of a voxel along the stored axes in mm, from the affine.
        placed: Whether the file says where voxels lie; if not, sizes and orientation are not to be trusted.
        header: The fields of the file's NIfTI header that say where voxels lie, as they are there.
        orientation: For each stored axis, the axis of the body that it runs along (0 to the right, 1 to anterior, 2 to
            superior), and -1 where it runs the other way.
        axis: The axis of the body across which slices were cut.
        positions: The slices that are in the dataset. A slice's position is its index along `axis` in the volume,
            turned to right, anterior, superior.
        constant: The slices that were left out because they have one grey value.
        lesion: The slices that were left out because they show a lesion and their patient is of the training split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    split: Split
    shape: tuple[int, int, int]
    affine: tuple[_Row, _Row, _Row, _Row]
    zooms: tuple[float, float, float]
    placed: bool
    header: dict[str, int | float | tuple[float, ...]]
    orientation: tuple[_Axis, _Axis, _Axis]
    axis: Literal[0, 1, 2]
    positions: tuple[int, ...]
    constant: tuple[int, ...]
    lesion: tuple[int, ...]

    @field_validator("shape")
    @classmethod
    def _fits(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1 or math.prod(shape) > MOST_VOXELS:
            raise ValueError(f"no volume has the shape {shape}")
        return shape

    @classmethod
    def of(cls, volume: Volume, axis: int, split: Split, written: Mapping[str, list[int]]) -> "VolumeGeometry":
        """The geometry of a volume that was cut, with the positions that were written and left out by their kind."""
        return cls(
            source=str(volume.path.resolve()),
            split=split,
            shape=volume.shape,
            affine=volume.affine.tolist(),
            zooms=volume.spacing.tolist(),
            placed=volume.is_placed,
            header={name: volume.header[name].tolist() for name in _PLACING},
            orientation=volume.to_body.astype(int).tolist(),
            axis=axis,  # type: ignore[arg-type]
            **{kind: tuple(written.get(kind, ())) for kind in ("positions", "constant", "lesion")},
        )

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """The distances in mm between two rows of a slice, two columns, and two slices; `None` where they are unknown.

        A slice is seen as in `Dataset.load`: its rows run along the later of the two other axes of the body.
        """
        if not self.placed:
            return None
        column, row, distance = self._of_slices(self.zooms)
        return row, column, distance

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        columns, rows, _ = self._of_slices(self.shape)
        return rows, columns

    def to_image(self, slices: Mapping[int, np.ndarray], empty: float = 0) -> Any:
        count = self._of_slices(self.shape)[2]
        wrong = sorted(set(slices) - set(range(count)))
        if wrong:
            raise DataError(f"{self.source} has the slices 0 to {count - 1}, and none at {wrong[0]}.")
        for position, pixels in slices.items():
            if pixels.shape != self.slice_shape:
                raise DataError(
                    f"Slice {position} of {self.source} has {self._size(self.slice_shape)} pixels (rows x columns), "
                    f"but {self._size(pixels.shape)} are to be put there. Bring them to the slice's own size first."
                )
        kind = np.result_type(*slices.values()) if slices else np.dtype(bool)
        body = [0, 0, 0]
        for (axis, _), size in zip(self.orientation, self.shape, strict=True):
            body[axis] = size
        voxels = np.full(body, empty, np.uint8 if kind.kind == "b" else kind)
        for position, pixels in slices.items():
            np.moveaxis(voxels, self.axis, 0)[position] = np.rot90(pixels, -1)
        return self._stored(voxels)

    def to_slices(self, voxels: np.ndarray, affine: np.ndarray | None = None) -> dict[int, np.ndarray]:
        if affine is not None and self.placed and voxels.ndim == 3:
            voxels = self._turned(voxels, affine)
        if voxels.ndim != len(self.shape):
            raise DataError(
                f"It has {voxels.ndim} dimensions, {self._size(voxels.shape)}, and not the "
                f"{len(self.shape)} of the volume {self.source}, {self._size(self.shape)}: one value for each voxel. "
                "Save the map or the mask alone, without channels or time."
            )
        if voxels.shape != self.shape:
            raise DataError(
                f"The volume {self.source} has {self._size(self.shape)} voxels, and what is to be cut like it has "
                f"{self._size(voxels.shape)}. Resample it onto the volume's grid first."
            )
        apply_orientation = load_nibabel().orientations.apply_orientation
        turned = np.moveaxis(apply_orientation(voxels, np.array(self.orientation)), self.axis, 0)
        return {position: np.rot90(turned[position]) for position in self.positions}

    def _turned(self, voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Voxels with their axes stored as the volume's; those of another shape stay as they are."""
        source = np.array(self.affine)
        if wrong := wrong_affine(affine):
            raise DataError(
                f"Its affine {wrong}, so where its voxels lie is unknown. Save it with the affine of {self.source}."
            )
        orientation, shape, apart = turn_onto(voxels.shape, affine, self.shape, source)
        if shape == self.shape and apart <= GRID_TOLERANCE:
            return load_nibabel().orientations.apply_orientation(voxels, orientation)
        if self.shape not in (shape, voxels.shape):
            return voxels
        raise DataError(
            f"It lies elsewhere than the volume {self.source}, by up to {apart:,.1f} voxels: "
            f"{placing_differences(affine, source)}. If its voxels are stored as the volume's, save it with the "
            "volume's affine; if not, resample it onto the volume's grid."
        )

    def _of_slices(self, stored: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        """What is told of the stored axes, in the order of a slice's columns, its rows, and the slices."""
        body = dict(zip((axis for axis, _ in self.orientation), stored, strict=True))
        column, row = sorted({0, 1, 2} - {self.axis})
        return body[column], body[row], body[self.axis]

    def _stored(self, voxels: np.ndarray) -> Any:
        """An image of voxels that are turned to right, anterior, superior."""
        nibabel = load_nibabel()
        turn = nibabel.orientations.ornt_transform(np.array([[axis, 1] for axis in range(3)]), self.orientation)
        stored = nibabel.orientations.apply_orientation(voxels, turn)
        header = nibabel.Nifti1Header()
        header.set_data_dtype(stored.dtype)
        header.set_data_shape(stored.shape)
        for name, value in self.header.items():
            header[name] = value
        return nibabel.Nifti1Image(np.ascontiguousarray(stored), header.get_best_affine(), header)

    @staticmethod
    def _size(shape: tuple[int, ...]) -> str:
        return " x ".join(map(str, shape))


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    volumes: dict[str, VolumeGeometry]


def write_geometry(folder: Path, volumes: Mapping[str, VolumeGeometry]) -> None:
    """Keeps the geometry of volumes, by their names, in the folder of their slices."""
    write_whole(folder / GEOMETRY_FILE, _Kept(volumes=dict(volumes)).model_dump_json(indent=1))


def read_geometry(folder: Path) -> dict[str, VolumeGeometry]:
    """The geometry of volumes, by their names; empty where none was kept, as by version 0.1.0.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / GEOMETRY_FILE
    if not path.exists():
        return {}
    try:
        return _Kept.model_validate_json(read_bytes(path, follow=True, most=_LARGEST)).volumes
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}, which says how slices lie in their volumes, cannot be read ({reason}). Remove the dataset, and "
            "make it again with bench data add."
        ) from error
