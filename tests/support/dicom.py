"""DICOM series as a scanner writes them: one file for each slice, in any order."""

import locale
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def write_series(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    tags: Mapping[str, str] | None = None,
    ending: str = ".dcm",
    without: Iterable[int] = (),
    shift: float = 0,
) -> list[Path]:
    """Writes integers (x, y, slice), whose affine leads to right, anterior and superior, and returns the files.

    Args:
        folder: It may hold another series already.
        voxels: The values.
        affine: float64 (4, 4) without shear.
        tags: Further tags, such as the patient's ID.
        ending: Of the files.
        without: Slices that are left out.
        shift: How far each slice lies aside of the last one, in mm, as with a tilted gantry.
    """
    folder.mkdir(parents=True, exist_ok=True)
    to_lps = _RAS_TO_LPS @ affine[:3, :3]
    spacing = np.linalg.norm(to_lps, axis=0)
    directions = to_lps / spacing
    before = len(list(folder.iterdir()))
    uid = f"1.2.826.0.1.3680043.2.1125.{before + 1}.{abs(hash(folder)) % 10**8}"
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    files: list[Path] = []
    before_writing = locale.setlocale(locale.LC_ALL)
    for index in sorted(set(range(voxels.shape[2])) - set(without)):
        image = sitk.GetImageFromArray(np.ascontiguousarray(voxels[:, :, index].T)[None])
        image.SetSpacing(spacing.tolist())
        corner = _RAS_TO_LPS @ (affine[:3, 3] + affine[:3, 2] * index) + directions[:, 0] * shift * index
        for tag, text in {
            "0008|0018": f"{uid}.{index + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0032": "\\".join(f"{each:.9g}" for each in corner),
            "0020|0037": "\\".join(f"{each:.9g}" for each in (*directions[:, 0], *directions[:, 1])),
            **(tags or {}),
        }.items():
            image.SetMetaData(tag, text)
        files.append(folder / f"{before}{(index * 7) % 97:03}{ending}")  # names in another order than places
        plain = files[-1].with_suffix(".dcm")
        writer.SetFileName(str(plain))
        writer.Execute(image)
        plain.rename(files[-1])
    locale.setlocale(locale.LC_ALL, before_writing)  # GDCM leaves another behind where it writes
    return files
