"""NIfTI volumes and DICOM series: their voxels, their labels, and where in the body they lie."""

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..harness.api import BenchError, DataError
from .dicom import MOST_VOXELS, is_dicom, load_series

LABEL_TOLERANCE = 0.01
"""How far a label may be from a whole number; scaled and float labels are rounded within it, and refused beyond."""
GRID_TOLERANCE = 0.1
"""How far a voxel of a mask may be from its volume's, in voxels of the volume."""

_MOST_HEADER = 2**24  # bytes before the voxels
_ENDS = {"L": "left", "R": "right", "P": "posterior", "A": "anterior", "I": "inferior", "S": "superior"}
_SHOWN = 5  # values of a wrong label volume


class MissingNibabelError(BenchError):
    """The extra that reads and writes volumes is not installed."""


def load_nibabel() -> Any:
    """The module `nibabel`, which an extra brings.

    Raises:
        MissingNibabelError: It is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise MissingNibabelError("NIfTI volumes need nibabel: pip install 'miasbench[nifti]'.") from error
    return nibabel


class Volume:
    """A volume of which the header has been read; its voxels are read when asked for.

    Attributes:
        path: Its file; of a DICOM series, any of its files.
        shape: Voxels along its three axes, as they are stored. Further axes of length 1 are dropped.
        affine: float64 (4, 4), from a voxel's indices to millimetres towards right, anterior and superior: the sform,
            or the qform where there is no sform.

    Raises:
        MissingNibabelError: nibabel is not installed.
        MissingSimpleItkError: It is DICOM, and SimpleITK is not installed.
        DataError: The file cannot be read or is not of three dimensions.
    """

    def __init__(self, path: Path) -> None:
        nibabel = load_nibabel()
        if path.is_symlink() and not path.exists():
            raise DataError(
                f"{path} is a link to {path.readlink()}, which is not there. Fetch it (datalad get), or copy it."
            )
        if not path.is_file():
            raise DataError(f"{path} is no file, and no volume.")
        self.path = path
        try:
            self._image: Any = load_series(path) if is_dicom(path) else nibabel.load(path)
            self.affine = np.asarray(self._image.affine, dtype=np.float64)
        except BenchError:
            raise
        except Exception as error:  # damaged bytes make it raise half a dozen kinds
            raise _unreadable(path, error) from error
        shape = tuple(self._image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise DataError(
                f"{path} has the shape {_product(shape)}, and should have three dimensions. {_advice(shape)}"
            )
        self.shape: tuple[int, int, int] = shape
        require_sane_volume(path, self._image)
        if self._image.get_data_dtype().kind not in "biuf":
            raise DataError(f"{path} holds {self._image.get_data_dtype()} values. Save one number for each voxel.")

    @property
    def header(self) -> Any:
        """The header of the file, of `nibabel.Nifti1Header` or alike."""
        return self._image.header

    @property
    def spacing(self) -> np.ndarray:
        """The size of a voxel along the stored axes in millimetres, float64 (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @cached_property
    def to_body(self) -> np.ndarray:
        """The orientation, (3, 2) as nibabel has them, that turns the stored axes to right, anterior, superior.

        Raises:
            DataError: The affine does not tell directions.
        """
        from nibabel.orientations import io_orientation

        self._check_affine()
        return io_orientation(self.affine)

    @property
    def forms_disagree(self) -> bool:
        """Whether the header has an sform and a qform that put voxels in different places."""
        header = self._image.header
        try:
            (sform, is_sform), (qform, is_qform) = header.get_sform(coded=True), header.get_qform(coded=True)
            return bool(is_sform and is_qform and _apart(np.linalg.inv(sform) @ qform, self.shape) > GRID_TOLERANCE)
        except (AttributeError, ValueError, np.linalg.LinAlgError):  # another format than NIfTI; a broken form
            return False

    @property
    def is_placed(self) -> bool:
        """Whether the header says where voxels lie: it has an sform or a qform, and that is not the identity."""
        header = self._image.header
        coded = [header.get(form, 1) for form in ("sform_code", "qform_code")]  # other formats than NIfTI have none
        return any(coded) and not np.array_equal(self.affine, np.eye(4))

    def voxels(self) -> np.ndarray:
        """The values, float32, as they are stored.

        Raises:
            DataError: They cannot be read, or some are not finite.
        """
        values = self._read(np.float32)
        self._check_finite(values, "Give them a number, such as that of the background: numpy.nan_to_num.")
        return values

    def labels(self) -> tuple[np.ndarray, float]:
        """The labels, whole numbers as integers or float64, as they are stored, and how far they had to be rounded.

        Raises:
            DataError: They cannot be read, or some are not within `LABEL_TOLERANCE` of a whole number.
        """
        values = self._read(None)
        if values.dtype.kind in "biu":  # neither scaled nor of floats
            return values, 0.0
        values = values.astype(np.float64)
        self._check_finite(values, "Label them: 0 is the background.")
        whole = np.rint(values)
        off = np.abs(values - whole)
        wrong = off > LABEL_TOLERANCE
        if wrong.any():
            odd = np.unique(values[wrong])
            shown = ", ".join(f"{value:.4g}" for value in odd[:: max(1, len(odd) // _SHOWN)][:_SHOWN])
            advice = (
                "If it is a map of probabilities, threshold it first, such as at 0.5."
                if values.min() >= -LABEL_TOLERANCE and values.max() <= 1 + LABEL_TOLERANCE
                else "If it was resampled, resample its labels again, with nearest neighbour."
            )
            raise DataError(
                f"The mask {self.path} should hold labels, but {wrong.sum():,} of its voxels are more than "
                f"{LABEL_TOLERANCE} from a whole number, such as {shown}. {advice}"
            )
        return whole, float(off.max())

    def orientation_in(self, other: "Volume") -> np.ndarray:
        """The orientation, (3, 2), that turns this mask's stored axes to those of its volume.

        Headers may store the same grid in another order of axes. What matters is that, so turned, every voxel lies on
        one of the volume's.

        Raises:
            DataError: It has another shape, or lies elsewhere by more than `GRID_TOLERANCE`.
        """
        self._check_affine(" If its voxels are stored as its volume's, --trust image takes the volume's affine for it.")
        orientation, turned, apart = turn_onto(self.shape, self.affine, other.shape, other.affine)
        if turned == other.shape and apart <= GRID_TOLERANCE:
            return orientation
        if self.shape != other.shape and turned != other.shape:
            raise self._other_shape(other)
        raise DataError(
            f"The mask {self.path} lies elsewhere than its volume {other.path}, by up to {apart:,.1f} voxels: "
            f"{placing_differences(self.affine, other.affine)} (affines, row by row: {_rows(self.affine)}, the "
            f"volume's {_rows(other.affine)}). {self._advice(other)}"
        )

    def same_order(self, other: "Volume") -> np.ndarray:
        """The orientation that changes nothing, for a mask whose affine is not trusted.

        Raises:
            DataError: It has another shape than its volume.
        """
        if self.shape != other.shape:
            raise self._other_shape(other)
        return np.array([[axis, 1] for axis in range(3)])

    def _read(self, dtype: Any) -> np.ndarray:
        try:
            return np.asanyarray(self._image.dataobj, dtype=dtype).reshape(self.shape)
        except DataError:
            raise
        except Exception as error:  # damaged bytes make it raise half a dozen kinds
            raise _unreadable(self.path, error) from error

    def _check_finite(self, values: np.ndarray, advice: str) -> None:
        finite = np.isfinite(values)
        if not finite.all():
            wrong, nan = int((~finite).sum()), int(np.isnan(values).sum())
            raise DataError(
                f"{self.path} has {wrong:,} voxels without a finite value ({nan:,} NaN, {wrong - nan:,} infinite). "
                f"{advice}"
            )

    def _check_affine(self, otherwise: str = "") -> None:
        wrong = wrong_affine(self.affine)
        if not wrong:
            return
        raise DataError(
            f"The affine of {self.path} {wrong}, so where its voxels lie is unknown. Save it with that of the scan it "
            f"was made from: nibabel.save(nibabel.Nifti1Image(values, affine), path).{otherwise}"
        )

    def _other_shape(self, other: "Volume") -> DataError:
        order = " Its axes seem to be stored in another order." if sorted(self.shape) == sorted(other.shape) else ""
        return DataError(
            f"The mask {self.path} has the shape {_product(self.shape)}, its volume {other.path} "
            f"{_product(other.shape)}.{order} Bring it onto the volume's grid: "
            "nibabel.processing.resample_from_to(mask, volume, order=0)."
        )

    def _advice(self, other: "Volume") -> str:
        said = []
        if np.array_equal(self.affine, np.eye(4)):
            said.append("The mask's affine is the identity, as after its header was lost.")
        said += [
            f"The sform and the qform of {volume.path} disagree, and the sform is taken."
            for volume in (self, other)
            if volume.forms_disagree
        ]
        if self.shape == other.shape:
            said.append(
                "If the mask's voxels are stored as the volume's, --trust image takes the volume's affine for it."
            )
        said.append("If not, resample it: nibabel.processing.resample_from_to(mask, volume, order=0).")
        return " ".join(said)


def require_sane_volume(path: Path, image: Any) -> None:
    """Refuses a volume by its header: a file of a megabyte can announce, or make a reader skip, any number of them.

    Args:
        path: Its file, for the message.
        image: As nibabel has loaded it.

    Raises:
        DataError: It is larger than any scan.
    """
    voxels, offset = math.prod(map(int, image.shape)), getattr(image.dataobj, "offset", 0)
    if voxels > MOST_VOXELS or offset > _MOST_HEADER:
        raise DataError(
            f"{path} is refused: its header announces {voxels:,} voxels behind {offset:,} bytes. No scan has more than "
            f"{MOST_VOXELS:,} behind {_MOST_HEADER:,}; cut a larger one into several."
        )


def wrong_affine(affine: np.ndarray) -> str:
    """Why an affine, (4, 4), does not say where voxels lie, as the end of a sentence; empty where it does."""
    turn = affine[:3, :3]
    if not np.isfinite(affine).all():
        return "holds NaN or infinite numbers"
    if not turn.any():
        return "is all zero"
    if np.linalg.matrix_rank(turn) < 3:
        return "is singular: not every axis has a direction and a length of its own"
    return ""


def turn_onto(
    shape: tuple[int, ...], affine: np.ndarray, other_shape: tuple[int, ...], other_affine: np.ndarray
) -> tuple[np.ndarray, tuple[int, ...], float]:
    """How the stored axes of one grid are to be turned to those of another.

    Args:
        shape: Voxels along the three axes.
        affine: From indices to mm, (4, 4); one that `wrong_affine` takes.
        other_shape: Those of the other grid.
        other_affine: Likewise.

    Returns:
        The orientation, (3, 2) as nibabel has them, the shape once turned, and how far the voxel furthest from its
        place in the other grid then is, in voxels of that.
    """
    from nibabel.orientations import inv_ornt_aff, io_orientation

    to_other = np.linalg.inv(other_affine) @ affine
    orientation = io_orientation(to_other)
    turned = tuple(shape[axis] for axis in np.argsort(orientation[:, 0]))
    return orientation, turned, _apart(to_other @ inv_ornt_aff(orientation, shape), turned)


def placing_differences(affine: np.ndarray, other: np.ndarray) -> str:
    """In words, in what the affine of voxels differs from that of their volume."""
    said = []
    for what, words in (
        ("axes point", _directions),
        ("voxels are", lambda one: f"{_product(np.linalg.norm(one[:3, :3], axis=0).round(3))} mm"),
        ("first voxel is at", lambda one: f"({', '.join(f'{each:g}' for each in one[:3, 3].round(2))}) mm"),
    ):
        mine, others = words(affine), words(other)
        if mine != others:
            said.append(f"its {what} {mine}, the volume's {others}")
    return "; ".join(said) or "its axes are tilted against the volume's"


def _rows(affine: np.ndarray) -> str:
    return "; ".join(" ".join(f"{number:g}" for number in row) for row in affine[:3].round(3))


def _directions(affine: np.ndarray) -> str:
    from nibabel.orientations import aff2axcodes

    return ", ".join(_ENDS[end] for end in aff2axcodes(affine))


def _apart(to_other: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far the voxel furthest from its place is, in voxels along one axis, if `to_other` should change nothing."""
    corners = np.stack(np.meshgrid(*((0, size - 1) for size in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    return float(np.abs(corners @ (to_other[:3, :3] - np.eye(3)).T + to_other[:3, 3]).max())


def _product(numbers: Any) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _advice(shape: tuple[int, ...]) -> str:
    if any(size < 1 for size in shape):
        return "It is empty."
    if len(shape) < 3:
        return "Save single pictures as PNG, in a layout that bench data add understands."
    return (
        "Pick one channel or point in time, and save it as a volume. Where the channels of a mask are one class each, "
        "give each class a number in one volume."
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(f"{path} cannot be read as a NIfTI volume ({reason}). Copy it again from its source.")
