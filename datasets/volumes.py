"""NIfTI volumes as slices in BMAD's layout: patients are dealt out to the splits, and never shared by two."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..harness.api import BenchError, DataError, Split, StageReport
from ..harness.files import write_folder

_ENDINGS = (".nii", ".nii.gz")
_SHARES: tuple[tuple[Split, float], ...] = (("train", 0.6), ("valid", 0.1), ("test", 0.3))
_PERCENTILES = 0.5, 99.5


class MissingNibabelError(BenchError):
    """The extra that reads volumes is not installed."""


@dataclass(frozen=True)
class Slicing:
    """How a volume becomes slices.

    Attributes:
        axis: Of the volume turned to RAS+: 0 makes sagittal slices, 1 coronal ones, 2 axial ones.
        window: The values that become 0 and 255, such as (-160, 240) in Hounsfield units; by default the 0.5 % and the
            99.5 % quantile of the volume's voxels above its minimum.
        lesion: The labels in a mask volume that mean a lesion; by default all above 0.
    """

    axis: int = 2
    window: tuple[float, float] | None = None
    lesion: tuple[int, ...] = ()


def has_volumes(folder: Path) -> bool:
    """Whether a folder holds NIfTI volumes."""
    return folder.is_dir() and bool(_volumes(folder))


def slice_volumes(
    images: Path, masks: Path, folder: Path, slicing: Slicing, report: StageReport = lambda *_: None
) -> None:
    """Writes the slices of volumes as PNG files.

    Each volume is a patient. Of the patients, drawn with a fixed seed, 60 % train, 10 % are for validation, 30 % for
    the test. Of those that train, slices without lesion are taken; of the others all. A slice of one grey value only is
    left out.

    Args:
        images: A folder of volumes, `.nii` or `.nii.gz`.
        masks: A folder of mask volumes of the same names; a volume that has none there is normal.
        folder: Where the splits go; it must not be there yet.
        slicing: How.
        report: Told how many volumes are sliced.

    Raises:
        MissingNibabelError: nibabel is not installed.
        DataError: A volume cannot be read, is not of three dimensions, its mask has another shape, or a split would
            have nothing to learn from or to find.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already. Remove it, or choose another name.")
    volumes, labels = _volumes(images), _volumes(masks)
    lost = sorted(set(labels) - set(volumes))
    if lost:
        raise DataError(f"The mask {labels[lost[0]]} has no volume of its name in {images}.")
    with write_folder(folder) as inside:
        for done, (name, split) in enumerate(_deal(sorted(volumes)), start=1):
            report("slicing volumes", done, len(volumes))
            _write(inside / split, name, _slices(volumes[name], labels.get(name), slicing), split == "train")
        for needed, what in (("train/good", "normal slices to learn from"), ("test/Ungood", "lesions to find")):
            if not (inside / needed).is_dir():
                raise DataError(f"{len(volumes)} volumes in {images}, dealt out by patient, leave no {what}.")


def _volumes(folder: Path) -> dict[str, Path]:
    return {
        path.name[: -len(ending)]: path
        for path in sorted(folder.iterdir())
        for ending in _ENDINGS
        if path.name.endswith(ending) and not path.name.startswith(".")
    }


def _deal(names: Sequence[str]) -> Iterator[tuple[str, Split]]:
    """Each patient with its split."""
    drawn = random.Random(0).sample(names, len(names))
    begin, share = 0, 0.0
    for split, part in _SHARES:
        share += part
        end = round(share * len(names)) if split != "test" else len(names)
        for name in drawn[begin:end]:
            yield name, split
        begin = end


def _slices(path: Path, mask: Path | None, slicing: Slicing) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The number, the image, uint8 (H, W), and the mask, bool (H, W), of each slice."""
    volume = _read(path)
    labels = _read(mask) if mask else np.zeros(volume.shape)
    if labels.shape != volume.shape:
        raise DataError(f"The mask {mask} has the shape {labels.shape}, its volume {path} {volume.shape}.")
    lesion = np.isin(labels, slicing.lesion) if slicing.lesion else labels > 0
    above = volume[volume > volume.min()]
    low, high = slicing.window or (np.percentile(above, _PERCENTILES) if above.size else (0.0, 1.0))
    grey = ((volume - low) / max(high - low, 1e-12) * 255).clip(0, 255).round().astype(np.uint8)
    for index in range(volume.shape[slicing.axis]):
        image, truth = (np.rot90(whole.take(index, slicing.axis)) for whole in (grey, lesion))
        yield index, image, truth


def _read(path: Path) -> np.ndarray:
    """A volume turned to RAS+, float32 (X, Y, Z)."""
    try:
        import nibabel
    except ImportError as error:
        raise MissingNibabelError("NIfTI volumes are read by nibabel: pip install 'miasbench[nifti]'.") from error
    try:
        image: Any = nibabel.as_closest_canonical(nibabel.load(path))
        volume = np.asarray(image.dataobj, dtype=np.float32)
    except Exception as error:  # damaged bytes make it raise half a dozen kinds
        raise DataError(f"{path} cannot be read ({error}). Copy it again from its source.") from error
    if volume.ndim != 3 or not volume.size or not np.isfinite(volume).all():
        raise DataError(f"{path} should have three dimensions and finite values, but its shape is {volume.shape}.")
    return volume


def _write(folder: Path, name: str, slices: Iterator[tuple[int, np.ndarray, np.ndarray]], normal_only: bool) -> None:
    for index, image, mask in slices:
        if image.min() == image.max() or (normal_only and mask.any()):
            continue
        kind = "Ungood" if mask.any() else "good"
        _save(folder / kind / "img", f"{name}_{index:03}.png", image)
        if mask.any():
            _save(folder / kind / "anomaly_mask", f"{name}_{index:03}.png", mask.astype(np.uint8) * 255)


def _save(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name)
