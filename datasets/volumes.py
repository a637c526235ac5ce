"""NIfTI volumes as slices in BMAD's layout: patients are dealt out to the splits, and never shared by two."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..harness.api import SPLITS, DataError, Dataset, Progress, Split, UsageError
from ..harness.safe_files import write_folder
from .card import SlicedVolumes, SplitCounts
from .geometry import VolumeGeometry, write_geometry
from .nifti import Volume
from .splitting import TEST_ONLY, SplitRule
from .volume_files import VolumePairs

_AXES = ("sagittal", "coronal", "axial")
_PERCENTILES = 0.5, 99.5
_LABELS_KEPT = 50  # instance labels may be thousands


@dataclass(frozen=True)
class Slicing:
    """How a volume becomes slices.

    Attributes:
        axis: The axis of the volume, turned to RAS+, along which slices are cut: 0 makes sagittal slices, 1
            coronal ones, 2 axial ones.
        window: The values that become 0 and 255, such as (-160, 240) in Hounsfield units; by default the 0.5 % and the
            99.5 % quantile of the volume's voxels above its minimum.
        lesion: The labels in a mask volume that mean a lesion; by default all above 0.
        trust_image: Takes the volume's affine for its mask, whatever the mask's own header says.

    Raises:
        UsageError: The window's first value is not below its second.
    """

    axis: int = 2
    window: tuple[float, float] | None = None
    lesion: tuple[int, ...] = ()
    trust_image: bool = False

    def __post_init__(self) -> None:
        if self.window and not (math.isfinite(sum(self.window)) and self.window[0] < self.window[1]):
            raise UsageError(
                f"The window {self.window[0]:g} {self.window[1]:g} should be two numbers, the lower one first."
            )


@dataclass
class _Survey:
    """Facts from the headers of all volumes and their masks, known before a slice is written."""

    labels: Counter[int] = field(default_factory=Counter)
    rounding: float = 0.0
    spacings: list[np.ndarray] = field(default_factory=list)
    forms_disagree: int = 0
    unplaced: int = 0


def slice_volumes(
    volumes: VolumePairs,
    folder: Path,
    slicing: Slicing | None = None,
    progress: Progress = lambda *_: None,
    rule: SplitRule | None = None,
) -> SlicedVolumes:
    """Writes the slices of volumes as PNG files.

    Of the patients that train, slices without lesion are taken; of the others all. A slice of one grey value only is
    left out.

    Args:
        volumes: The volumes; one without a mask is normal.
        folder: Where the splits go; it must not be there yet.
        slicing: How.
        progress: Told how many volumes are read.
        rule: It says which volumes are of one patient, and which patient goes to which split.

    Returns:
        What was done, for the card.

    Raises:
        MissingNibabelError: nibabel is not installed.
        DataError: A volume or a mask cannot be used, they differ in shape or place, no mask holds a lesion, or a split
            would have nothing to learn from or to find.
    """
    slicing, rule = slicing or Slicing(), rule or SplitRule(volumes.patient)
    if folder.exists():
        raise DataError(f"{folder} is there already. Remove it, or choose another name.")
    pairs = volumes.pairs
    patients = {name: rule.patient_of(name) for name in pairs}
    dealt = rule.deal(patients.values())
    survey = _survey(pairs, slicing, progress)
    _check_lesion(survey.labels, slicing.lesion, volumes.masks)
    geometry: dict[str, VolumeGeometry] = {}
    with write_folder(folder) as inside:
        for done, (name, (path, mask)) in enumerate(pairs.items(), start=1):
            progress("slicing volumes", done, len(pairs))
            split = dealt[patients[name]]
            volume = Volume(path)
            written = _write(inside / split, name, _slices(volume, mask, slicing), split == "train")
            geometry[name] = VolumeGeometry.of(volume, slicing.axis, split, written)
        labels = f"Labels found: {_listed(survey.labels)}."
        of_splits = _counts(dealt.values())
        for needed, why in (
            ("train/good", f"no normal slices to learn from: every slice of {of_splits.train} patients shows a lesion"),
            (
                "test/Ungood",
                f"no lesions to find: {of_splits.test} patients have none, and without one there is no DICE. Another "
                "seed deals them out otherwise",
            ),
        ):
            if not (inside / needed).is_dir() and getattr(of_splits, needed.split("/")[0]):
                raise DataError(
                    f"{len(pairs)} volumes in {volumes.images}, dealt out by patient, leave {why}. {labels}"
                )
        write_geometry(inside, geometry)
    spacings = np.round(survey.spacings, 4)
    return SlicedVolumes(
        images=volumes.images,
        masks=volumes.masks,
        axis=_AXES[slicing.axis],
        window=slicing.window,
        window_percentiles=None if slicing.window else _PERCENTILES,
        lesion=slicing.lesion or "positive",
        labels=dict(sorted(survey.labels.items())[:_LABELS_KEPT]),
        label_rounding=survey.rounding,
        trust="image" if slicing.trust_image else "header",
        forms_disagree=survey.forms_disagree,
        unplaced=survey.unplaced,
        smallest_voxel_mm=tuple(spacings.min(axis=0).tolist()),
        largest_voxel_mm=tuple(spacings.max(axis=0).tolist()),
        seed=rule.seed,
        shares=rule.shares,
        patients=of_splits,
        volumes=_counts(dealt[patient] for patient in patients.values()),
        without_mask=sum(mask is None for _, mask in pairs.values()),
        lesion_slices_left_out=sum(len(each.lesion) for each in geometry.values()),
        constant_slices_left_out=sum(len(each.constant) for each in geometry.values()),
        passed_over=dict(volumes.passed_over),
    )


def describe_volumes(made: SlicedVolumes, dataset: Dataset) -> Iterator[str]:
    """The lines that tell a user what to check in a dataset made of volumes."""
    groups, volumes = ({split: getattr(counts, split) for split in SPLITS} for counts in (made.patients, made.volumes))
    patients = sorted({case.patient for split in SPLITS if volumes[split] for case in dataset.cases(split)})
    yield (
        f"{sum(volumes.values())} volumes of {sum(groups.values())} patients ({_some(patients)}): "
        + (
            "all of them are for the test."
            if made.shares == TEST_ONLY
            else f"{groups['train']} patients train, {groups['valid']} validate, {groups['test']} test; "
            f"seed {made.seed}, shares {' '.join(f'{share:g}' for share in made.shares)}."
        )
    )
    yield f"Volumes: {made.images}. Masks: {made.masks}."
    sizes = dict.fromkeys(
        " x ".join(f"{size:g}" for size in sizes) for sizes in (made.smallest_voxel_mm, made.largest_voxel_mm)
    )
    grey = (
        "black is {:g} and white {:g}".format(*made.window)
        if made.window
        else (
            "black is the {:g} and white the {:g} percentile of each volume's voxels above its minimum".format(
                *made.window_percentiles or ()
            )
        )
    )
    yield f"Slices are {made.axis}, their voxels {' to '.join(sizes)} mm; {grey}."
    lesion = "any above 0" if made.lesion == "positive" else ", ".join(map(str, made.lesion))
    rounded = f", rounded by up to {made.label_rounding:.2g}" if made.label_rounding else ""
    yield f"Labels found: {_listed(made.labels)}{rounded}; a lesion is {lesion}."
    left_out = [
        f"{count} {'slice' if count == 1 else 'slices'} {why}"
        for count, why in (
            (made.lesion_slices_left_out, "with a lesion, of training patients"),
            (made.constant_slices_left_out, "of one grey value"),
        )
        if count
    ]
    if left_out:
        yield f"Left out: {'; '.join(left_out)}."
    if made.patients.valid and len({case.label for case in dataset.cases("valid")}) < 2:
        lacks = "normal slices" if dataset.cases("valid")[0].label else "lesions"
        yield f"Note: The validation split has no {lacks}, from which some thresholds are chosen. Another seed may do."
    ill = {case.patient for case in dataset.cases("test") if case.label}
    if len(ill) == 1:
        yield (
            f"Note: The lesions of the test split are of one patient, {ill.pop()}: DICE has no interval, and methods "
            "cannot be told apart. Another --seed, or --shares with more for the test, may do."
        )
    begins = {patient: re.split(r"[-_. ]", patient)[0] for patient in patients}
    counted = Counter(begins.values())
    alike = [patient for patient in patients if 1 < counted[begins[patient]] < len(patients)]
    if alike and len(patients) == sum(volumes.values()):
        yield (
            "Note: Each volume is taken for a patient of its own. If those whose names begin alike are of one, such as "
            f"{alike[0]} and {alike[1]}, say so with --patient."
        )
    yield from (f"Note: {note}" for note in made.notes())


def _survey(pairs: Mapping[str, tuple[Path, Path | None]], slicing: Slicing, progress: Progress) -> _Survey:
    """Reads headers and masks, so that what is wrong with them is said before the long work."""
    survey, wrong = _Survey(), []
    for done, (name, (path, mask)) in enumerate(pairs.items(), start=1):
        progress("reading masks", done, len(pairs))
        try:
            volume = Volume(path)
            survey.spacings.append(volume.spacing[np.argsort(volume.to_body[:, 0])])
            survey.forms_disagree += volume.forms_disagree
            survey.unplaced += not volume.is_placed
            if mask:
                labelled = Volume(mask)
                _turn(labelled, volume, slicing)
                labels, rounding = labelled.labels()
                survey.labels.update(map(int, np.unique(labels)))
                survey.rounding = max(survey.rounding, rounding)
        except DataError as error:
            wrong.append((name, error))
    if wrong:
        others = [name for name, _ in wrong[1:]]
        more = f" {len(others)} more cannot be used either: {_some(others)}." if others else ""
        raise DataError(f"{wrong[0][1]}{more}") from wrong[0][1]
    return survey


def _check_lesion(labels: Mapping[int, int], lesion: tuple[int, ...], masks: str) -> None:
    """Refuses masks without any label that means a lesion, and labels that no mask has."""
    found = f"Labels found: {_listed(labels)}."
    lost = sorted(set(lesion) - set(labels))
    if lost:
        raise DataError(f"No mask volume in {masks} holds the label {', '.join(map(str, lost))} of --lesion. {found}")
    if not lesion and min(labels) < 0:
        raise DataError(f"Mask volumes in {masks} hold labels below 0. Say with --lesion which mean a lesion. {found}")
    if not lesion and max(labels) <= 0:
        raise DataError(f"No mask volume in {masks} holds a label above 0, so there is no lesion. {found}")


def _slices(volume: Volume, mask: Path | None, slicing: Slicing) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The number, the image, uint8 (H, W), and the mask, bool (H, W), of each slice."""
    from nibabel.orientations import apply_orientation

    grey = _grey(volume, slicing.window)
    lesion = np.zeros(grey.shape, dtype=bool)
    if mask:
        labelled = Volume(mask)
        labels, _ = labelled.labels()
        lesion = np.isin(labels, slicing.lesion) if slicing.lesion else labels > 0
        lesion = apply_orientation(lesion, _turn(labelled, volume, slicing))
    grey, lesion = (apply_orientation(whole, volume.to_body) for whole in (grey, lesion))
    for index in range(grey.shape[slicing.axis]):
        image, truth = (np.rot90(whole.take(index, slicing.axis)) for whole in (grey, lesion))
        yield index, image, truth


def _grey(volume: Volume, window: tuple[float, float] | None) -> np.ndarray:
    """The voxels as uint8, stored as they were."""
    values = volume.voxels()
    least, most = float(values.min()), float(values.max())
    if least == most:
        raise DataError(f"{volume.path} has one value in all voxels, {least:g}. Export it again, or take it out.")
    if window and (most <= window[0] or least >= window[1]):
        raise DataError(
            f"The window {window[0]:g} {window[1]:g} shows nothing of {volume.path}, whose values are {least:g} to "
            f"{most:g}."
        )
    low, high = window or np.percentile(values[values > least], _PERCENTILES)
    if low == high:  # nearly all voxels above the minimum are alike
        low, high = least, most
    return ((values - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)


def _turn(mask: Volume, volume: Volume, slicing: Slicing) -> np.ndarray:
    return mask.same_order(volume) if slicing.trust_image else mask.orientation_in(volume)


def _write(
    folder: Path, name: str, slices: Iterator[tuple[int, np.ndarray, np.ndarray]], normal_only: bool
) -> dict[str, list[int]]:
    """Writes a volume's slices, and returns the positions that were written, and those left out, by why."""
    positions: dict[str, list[int]] = {"positions": [], "constant": [], "lesion": []}
    for index, image, mask in slices:
        if image.min() == image.max():
            positions["constant"].append(index)
        elif normal_only and mask.any():
            positions["lesion"].append(index)
        else:
            positions["positions"].append(index)
            kind = "Ungood" if mask.any() else "good"
            _save(folder / kind / "img", f"{name}_{index:03}.png", image)
            if mask.any():
                _save(folder / kind / "anomaly_mask", f"{name}_{index:03}.png", mask.astype(np.uint8) * 255)
    return positions


def _save(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name)


def _counts(splits: Iterable[Split]) -> SplitCounts:
    counted = Counter(splits)
    return SplitCounts(**{split: counted[split] for split in SPLITS})


def _listed(labels: Mapping[int, int]) -> str:
    """Labels with the number of volumes that hold them, in words."""
    return _some([f"{label} (in {number})" for label, number in sorted(labels.items())], 20)


def _some(names: Sequence[str], shown: int = 5) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
