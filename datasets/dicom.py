"""DICOM series: which files of a folder make one, and the volume that they are."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..harness.api import BenchError, DataError
from .dicom_nesting import require_flat

DICOM_ENDINGS = (".dcm", ".ima")
SLICE_TOLERANCE = 0.02
"""How far a slice may be from its place in an even stack, in distances of slices."""

MOST_VOXELS = 2**29
"""Of a volume: more than any scan has."""

_WIDEST = 2**15 - 1  # pixels of a side, and slices: what NIfTI can hold
_PREAMBLE, _MAGIC = 128, b"DICM"
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes point to the left and to posterior
_UID, _PATIENT, _DESCRIPTION, _MODALITY = "0020|000e", "0010|0020", "0008|103e", "0008|0060"


class MissingSimpleItkError(BenchError):
    """The extra that reads DICOM is not installed."""


class Series(NamedTuple):
    """The files of one series in one folder.

    Attributes:
        files: They, sorted by name.
        patient: The patient's ID as the files have it, which may be empty.
        description: What the scanner calls the series.
    """

    files: tuple[Path, ...]
    patient: str
    description: str


class _Slice(NamedTuple):
    """What the header of a file says.

    Attributes:
        path: The file.
        size: Pixels along its axes, of which there are two or three.
        direction: Of its axes, one behind the other.
        spacing: The size of a pixel in mm.
        origin: Where its first pixel is, mm, in DICOM's axes.
        tags: What it says of the series, the patient and the scan.
    """

    path: Path
    size: tuple[int, ...]
    direction: tuple[float, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    tags: dict[str, str]

    @property
    def corner(self) -> np.ndarray:
        """Where its first pixel is, float64 (3,)."""
        return np.asarray(self.origin, dtype=np.float64)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending or, as many have none, by its first bytes."""
    if path.suffix.lower() in DICOM_ENDINGS:
        return True
    if path.suffix and not path.suffix[1:].isdecimal():  # some are named by a UID, whose parts are numbers
        return False
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False


def series_in(folder: Path) -> list[Series]:
    """The series of which files are in a folder, without the folders below it.

    Raises:
        MissingSimpleItkError: SimpleITK is not installed.
        DataError: A file that is DICOM by its name cannot be read, or holds no scan.
    """
    found: dict[str, list[_Slice]] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.is_file() and is_dicom(path):
            read = _read_header(path)
            found.setdefault(read.tags[_UID], []).append(read)
    return [
        Series(tuple(each.path for each in slices), slices[0].tags[_PATIENT], slices[0].tags[_DESCRIPTION])
        for slices in found.values()
    ]


def load_series(path: Path) -> Any:
    """The volume of which a file is a slice, as an image like those that `nibabel.load` returns.

    Its affine, (4, 4), leads to millimetres towards right, anterior and superior. Voxels are read when asked for: of
    CT in Hounsfield units, since the slope and the intercept of each slice are applied.

    Args:
        path: Any file of the series; the others lie beside it.

    Raises:
        MissingSimpleItkError: SimpleITK is not installed.
        DataError: A file cannot be read, or the slices do not make an even stack.
    """
    from nibabel import Nifti1Image

    first = _read_header(path)
    if first.size[2:] > (1,):  # all slices are in one file
        affine = _affine(first)
        is_placed = not np.array_equal(affine, _TO_RAS)  # ITK takes this where the file says nothing
        return _in_mm(Nifti1Image(_Voxels((path,), first.size), affine if is_placed else None))
    others = (_read_header(each) for each in sorted(path.parent.iterdir()) if each.is_file() and is_dicom(each))
    slices = _stacked([each for each in others if each.tags[_UID] == first.tags[_UID]])
    affine = _affine(first)
    if len(slices) > 1:
        affine[:3, 2] = (_TO_RAS[:3, :3] @ (slices[-1].corner - slices[0].corner)) / (len(slices) - 1)
    affine[:3, 3] = _TO_RAS[:3, :3] @ slices[0].corner
    shape = (*first.size[:2], len(slices))
    if math.prod(shape) > MOST_VOXELS:
        raise DataError(f"{path.parent} is refused: its series has {math.prod(shape):,} voxels, which no scan has.")
    return _in_mm(Nifti1Image(_Voxels(tuple(each.path for each in slices), shape), affine))


def _in_mm(image: Any) -> Any:
    """The image, whose header says that its lengths are in mm, as DICOM's are: what is exported has this header."""
    image.header.set_xyzt_units("mm")
    return image


class _Voxels:
    """The voxels of some files, read when numpy asks for them, float32 (x, y, slice)."""

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, files: tuple[Path, ...], shape: tuple[int, ...]) -> None:
        self._files = files
        self.shape = shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        sitk = _load_simpleitk()
        values = np.empty(self.shape, dtype=np.float32)
        if len(self._files) == 1:
            values[...] = sitk.GetArrayFromImage(_read(self._files[0])).T.reshape(self.shape)
        else:
            for index, path in enumerate(self._files):
                values[..., index] = sitk.GetArrayFromImage(_read(path)).T.reshape(self.shape[:2])
        return values.astype(dtype or np.float32, copy=False)


def _stacked(slices: Sequence[_Slice]) -> list[_Slice]:
    """The slices of one series in the order of their places.

    Raises:
        DataError: They differ in size or direction, two are in one place, one is missing, or the stack is tilted.
    """
    first = slices[0]
    for each in slices:
        for what, its, other in (("size", each.size, first.size), ("direction", each.direction, first.direction)):
            if not np.allclose(its, other, atol=1e-3):
                raise DataError(
                    f"{first.path} and {each.path} are of one DICOM series and differ in their {what}: it is no stack "
                    "of slices, as a localizer. Take it out, or put the files of each stack into a folder of their own."
                )
    if len(slices) == 1:
        return list(slices)
    normal = np.asarray(first.direction).reshape(3, 3)[:, 2]
    ordered = sorted(slices, key=lambda one: float(one.corner @ normal))
    corners = np.stack([each.corner for each in ordered])
    gaps = np.diff(corners @ normal)
    usual = float(np.median(gaps))
    twice = int(np.argmin(gaps))
    if gaps[twice] <= SLICE_TOLERANCE * usual or usual <= 0:
        raise DataError(
            f"{ordered[twice].path} and {ordered[twice + 1].path} are slices of one DICOM series in one place, as of "
            "two points in time or two echoes. Put the files of each into a folder of their own."
        )
    odd = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[odd] - usual) > SLICE_TOLERANCE * usual:
        raise DataError(
            f"From {ordered[odd].path} to {ordered[odd + 1].path}, the next slice of the DICOM series, it is "
            f"{gaps[odd]:.3g} mm, and {usual:.3g} mm between others: a slice is missing, or slices are not even. Fetch "
            "the whole series again, or resample it to even slices."
        )
    aside = np.linalg.norm((corners[-1] - corners[0]) - (corners[-1] - corners[0]) @ normal * normal)
    if aside > SLICE_TOLERANCE * usual * (len(ordered) - 1):
        raise DataError(
            f"The slices of {first.path.parent} are shifted against each other by {aside:.3g} mm in all, as by a "
            "tilted gantry. dcm2niix makes an upright NIfTI volume of them."
        )
    return ordered


def _affine(one: _Slice) -> np.ndarray:
    """The affine of a file's own grid, from indices to millimetres towards right, anterior and superior."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(one.direction).reshape(3, 3) * np.asarray(one.spacing)
    affine[:3, 3] = one.corner
    return _TO_RAS @ affine


def _read_header(path: Path) -> _Slice:
    try:
        state = path.stat()
    except OSError as error:
        raise _unreadable(path) from error
    return _header_of(path, (state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=2**16)
def _header_of(path: Path, state: tuple[int, ...]) -> _Slice:
    """Reads the header of a file in that state: a series is looked at several times before its slices are written."""
    reader = _reader(path)
    require_flat(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path) from error
    tags = (_UID, _PATIENT, _DESCRIPTION, _MODALITY)
    told = {tag: reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else "" for tag in tags}
    if told[_MODALITY] == "SEG":
        raise DataError(
            f"{path} is a DICOM segmentation (SEG), which is not read: make NIfTI of it (segimage2itkimage, of dcmqi, "
            "does)."
        )
    if (pixels := math.prod(reader.GetSize())) > MOST_VOXELS or max(reader.GetSize()) > _WIDEST:
        raise DataError(f"{path} is refused: its header announces {pixels:,} pixels, which no scan has.")
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{path} holds {reader.GetNumberOfComponents()} values for each pixel. Scans have one.")
    return _Slice(path, reader.GetSize(), reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin(), told)


def _read(path: Path) -> Any:
    try:
        return _reader(path).Execute()
    except RuntimeError as error:
        raise _unreadable(path) from error


def _reader(path: Path) -> Any:
    sitk = _load_simpleitk()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK writes to the terminal what is raised as well
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _load_simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingSimpleItkError("DICOM series need SimpleITK: pip install 'miasbench[dicom]'.") from error
    return SimpleITK


def _unreadable(path: Path) -> DataError:
    return DataError(
        f"{path} cannot be read as a DICOM image. Copy it again from its source; take it out if it holds none, as a "
        "report or a structure set (RTSTRUCT)."
    )
