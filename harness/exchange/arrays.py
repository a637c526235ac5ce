"""The numbers in the files of predictions: maps and masks of one image, or of all slices of a volume."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..api import DataError, UsageError, VolumeGrid

NIFTI = (".nii.gz", ".nii")
LOSSY = (".jpg", ".jpeg", ".webp")
"""Formats whose compression changes values."""
ENDINGS = (".npy", ".npz", ".png", ".tif", ".tiff", *NIFTI)
_ARRAY_NAMES = ("anomaly_map", "map", "mask")
_MOST_PIXELS = 2**26
_MOST_VOXELS = 2**29  # of 512 x 512 x 2,048
_KEPT = 0.99  # of the different values of a map
_FEW = 4  # values of a mask that are named
_DEEP = ("L", "1", "F", "I;16", "I;16B", "I;16L", "I")
_NPY = b"\x93NUMPY"
_LARGEST = 2**29  # bytes: 8,192 x 8,192 of eight
_VOLUMES = 2  # kept in memory: the maps and the masks of one volume

_Arrays = Mapping[int, np.ndarray]
"""What one file holds, by the position in the volume; of one image, by 0."""


class ArrayFile(NamedTuple):
    """Where the map or the mask of a case is.

    Attributes:
        path: The file.
        grid: The grid of the volume, where the file holds all of it and the case is a slice; `None` where the file
            holds the case alone.
        position: The position of the case in the volume, or 0.
    """

    path: Path
    grid: VolumeGrid | None = None
    position: int = 0

    def __str__(self) -> str:
        return str(self.path) if self.grid is None else f"Slice {self.position} of {self.path}"


class ArrayReader:
    """Reads maps and masks of cases. A volume is read once for cases that follow each other."""

    def __init__(self) -> None:
        self._volumes: dict[tuple[Path, Callable], _Arrays] = {}

    def anomaly_map(self, file: ArrayFile) -> np.ndarray:
        """Reads an anomaly map as float32 (H, W), its values as they are.

        Raises:
            DataError: It is damaged, in colour, or has more than two dimensions longer than 1; or a volume is not on
                the grid of its source.
            UsageError: nibabel is not installed.
        """
        return self._array(file, _as_maps)

    def own_mask(self, file: ArrayFile) -> np.ndarray:
        """Reads a mask as bool (H, W): all that is not 0 is anomalous.

        Raises:
            DataError: As `anomaly_map`; or it has more than two values, as a map has. Those of a volume are counted
                over all slices of the dataset.
            UsageError: nibabel is not installed.
        """
        return self._array(file, _as_masks)

    def _array(self, file: ArrayFile, made: Callable[[Path, _Arrays], _Arrays]) -> np.ndarray:
        path, grid, position = file
        if grid is None:
            return made(path, {0: _read(path)})[0]
        key = path, made
        if key not in self._volumes:
            arrays = made(path, _cut(path, grid))
            if len(self._volumes) == _VOLUMES:
                del self._volumes[next(iter(self._volumes))]
            self._volumes[key] = arrays
        return self._volumes[key][position]


def _as_maps(path: Path, arrays: _Arrays) -> _Arrays:
    return {position: _as_map(path, array) for position, array in arrays.items()}


def _as_map(path: Path, array: np.ndarray) -> np.ndarray:
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise DataError(f"{path} holds {array.dtype} and not numbers. Save the map as float32.")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    lost = (
        array.dtype.itemsize > 2
        and array.dtype != np.float32
        and len(np.unique(values)) < _KEPT * len(np.unique(array))
    )
    if lost or (np.isfinite(array).all() and not np.isfinite(values).all()):
        raise DataError(
            f"{path} holds {array.dtype} values that float32, in which maps are compared, does not tell apart. "
            "Subtract what all have in common, or take the logarithm of what is near 0 or 1."
        )
    return values


def _as_masks(path: Path, arrays: _Arrays) -> _Arrays:
    values = np.unique(np.concatenate([np.unique(array) for array in arrays.values()]))
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        several = f"{len(values)} values ({', '.join(map(str, values))})"
        what = several if len(values) <= _FEW else f"more than {_FEW} values"
        raise DataError(
            f"The mask {path} has {what}: a mask has 0 and one other. Save 1 for what is anomalous and 0 for the rest; "
            "values in between are those of a map."
        )
    return {position: array != 0 for position, array in arrays.items()}


def _cut(path: Path, grid: VolumeGrid) -> _Arrays:
    """The slices of a volume, as its source was cut into the dataset."""
    image = _readable(path, _nifti)
    voxels = _readable(path, lambda _: np.asarray(image.dataobj))
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    try:
        return grid.to_slices(voxels, image.affine)
    except DataError as error:
        raise DataError(f"{path} cannot be cut as its source was. {error}") from error


def _read(path: Path) -> np.ndarray:
    array = _readable(path, _decoded)
    flat = array.reshape([length for length in array.shape if length != 1] or [1])
    if flat.ndim == 1 and array.ndim >= 2:  # an image of one row or column
        flat = array.reshape(array.shape[:2])
    if not flat.size:
        raise DataError(f"{path} holds no value. Write it again.")
    if flat.ndim != 2:
        more = " A volume of all slices has the name of the volume." if path.name.lower().endswith(NIFTI) else ""
        raise DataError(
            f"{path} has {array.ndim} dimensions, {' x '.join(map(str, array.shape)) or 'one number'}. Expected are "
            f"two, height x width: one value for each pixel of the image.{more}"
        )
    return flat


def _readable(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except (DataError, UsageError):
        raise
    except Exception as error:  # damaged bytes make the readers raise half a dozen kinds, MemoryError among them
        raise DataError(f"{path} cannot be read ({error}). Write it again.") from error


def _decoded(path: Path) -> np.ndarray:
    name = path.name.lower()
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise DataError(f"{path} is no file, or one of more than {_LARGEST:,} bytes, which no map has.")
    if name.endswith(".npy"):
        with path.open("rb") as file:
            if file.read(len(_NPY)) != _NPY:  # numpy's own words tell to load it as pickle, which runs programs
                raise DataError(f"{path} is no .npy file. Write it with numpy.save.")
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # mapped, no header can announce more
    if name.endswith(".npz"):
        with np.load(path, allow_pickle=False) as arrays:
            known = [one for one in _ARRAY_NAMES if one in arrays.files]
            if len(arrays.files) != 1 and not known:
                raise DataError(
                    f"{path} holds the arrays {', '.join(arrays.files)}: keep one, or name it `anomaly_map`."
                )
            chosen = known[0] if known else arrays.files[0]
            if arrays.zip.getinfo(f"{chosen}.npy").file_size > _LARGEST:
                raise DataError(f"The array {chosen} of {path} has more than {_LARGEST:,} bytes, which no map has.")
            return arrays[chosen]
    if name.endswith(NIFTI):
        return np.asarray(_nifti(path).dataobj)
    with Image.open(path, formats=("PNG", "TIFF")) as image:  # others run programs, as that of PostScript does
        if image.width * image.height > _MOST_PIXELS:
            raise DataError(f"{path} has {image.width:,} x {image.height:,} pixels, which no map has.")
        if image.mode not in _DEEP:
            raise DataError(f"{path} is in colour ({image.mode}). Save the values, in grey of 8 or 16 bits.")
        return np.asarray(image)


def _nifti(path: Path) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise UsageError(f"{path} needs nibabel to be read: pip install 'miasbench[nifti]'.") from error
    image: Any = nibabel.load(path)  # type: ignore[attr-defined]
    if math.prod(map(int, image.shape)) > _MOST_VOXELS or getattr(image.dataobj, "offset", 0) > _LARGEST:
        raise DataError(f"{path} announces the shape {image.shape}, which no scan has.")
    return image
