"""DICOM series in folders of patients, and their masks in a folder beside."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..harness.api import DataError, UsageError
from .dicom import Series, is_dicom, series_in
from .volume_files import VolumePairs, count_passed_over, files_below, is_volume, volume_ending
from .volume_patterns import Located, name_volumes, pair_located


class _Placed(NamedTuple):
    """A series, and the folders that lead to it."""

    series: Series
    folders: tuple[str, ...]

    @property
    def patient(self) -> str:
        return self.folders[0]

    @property
    def kind(self) -> str:
        return self.series.description or "(without a description)"


def has_series(folder: Path) -> bool:
    """Whether files of DICOM are somewhere below a folder."""
    return folder.is_dir() and any(is_dicom(path) for path in files_below(folder))


def pair_series(images: Path, masks: Path, channel: str | None = None) -> VolumePairs:
    """Pairs DICOM series with their masks.

    The folder of a patient holds its series, each in the same folder or in one of its own. A mask is a NIfTI volume or
    a DICOM series of labels. It belongs to the series whose folders it is named after: `p1_ct.nii.gz`, or the series
    `p1/ct`, is the mask of the series in `p1/ct`; `p1.nii.gz` that of the only series below `p1`. A series may have no
    mask.

    Args:
        images: The folder around the patients' folders.
        masks: The folder of the masks.
        channel: The description of the series that are taken; it may be left out where each patient's have one only.

    Raises:
        MissingSimpleItkError: SimpleITK is not installed.
        UsageError: A patient has several kinds of series, and none is chosen, or there is none of that kind.
        DataError: A file cannot be read, two series cannot be told apart, or masks do not pair.
    """
    placed = _of_channel(images, list(_series_below(images)), channel)
    volumes = _located(placed)
    labels = [*_located(list(_series_below(masks))), *_nifti_masks(masks)]
    if not labels:
        raise DataError(f"{masks} holds no masks: neither NIfTI volumes (.nii, .nii.gz) nor DICOM series.")
    truths = pair_located(volumes, labels)
    names, patient = name_volumes(volumes)
    used = {path for each in placed for path in each.series.files} | {each.path for each in labels}
    beside = [path for path in (*files_below(images), *files_below(masks)) if not is_dicom(path)]
    return VolumePairs(
        images=str(images.resolve()),
        masks=str(masks.resolve()),
        pairs={name: (each.path, truths.get(each.path)) for name, each in sorted(names.items())},
        patient=patient,
        passed_over=count_passed_over(used, beside),
    )


def _series_below(folder: Path) -> Iterator[_Placed]:
    for place in sorted({path.parent for path in files_below(folder) if is_dicom(path)}):
        folders = place.relative_to(folder).parts or (folder.name,)
        kinds = [_Placed(series, folders) for series in series_in(place)]
        for each in kinds:
            if [other.kind for other in kinds].count(each.kind) > 1:
                raise DataError(
                    f"{place} holds several DICOM series that are called {each.kind}, such as those of "
                    f"{each.series.files[0].name}. Put the files of each into a folder of their own."
                )
        yield from kinds


def _of_channel(root: Path, placed: Sequence[_Placed], channel: str | None) -> list[_Placed]:
    """The series of one description."""
    kinds = sorted({each.kind for each in placed})
    if channel is not None:
        chosen = [each for each in placed if each.kind.lower() == channel.lower()]
        if not chosen:
            raise UsageError(f"{root} has no DICOM series called {channel!r}. --channel can be {', '.join(kinds)}.")
        return chosen
    of_patient: dict[str, set[str]] = {}
    for each in placed:
        of_patient.setdefault(each.patient, set()).add(each.kind)
    several = next((patient for patient, its in sorted(of_patient.items()) if len(its) > 1), None)
    if several is not None:
        its = sorted(of_patient[several])
        raise UsageError(
            f"{root / several} has DICOM series of several kinds: {', '.join(its)}. Slices are made of one: say with "
            f"--channel which, such as --channel '{its[0]}'."
        )
    return list(placed)


def _located(placed: Sequence[_Placed]) -> list[Located]:
    """Each series under the folder of its patient.

    Folders that the files say to be of one patient become one, so that a patient is never in two splits. The ID itself
    is left where it is: it may be a person's name. Anonymous data has often the same ID for all patients; then folders
    tell them.
    """
    ids = {each.series.patient for each in placed}
    first: dict[str, str] = {}
    found = []
    for each in placed:
        told = each.series.patient and len(ids - {""}) > 1
        patient = first.setdefault(each.series.patient, each.patient) if told else each.patient
        rest = each.folders if patient != each.patient else each.folders[1:]
        keys = ("_".join(each.folders),), (each.patient,)
        found.append(Located(each.series.files[0], patient, rest, keys))
    return found


def _nifti_masks(folder: Path) -> Iterator[Located]:
    for path in files_below(folder):
        if is_volume(path):
            stem = path.relative_to(folder).as_posix().replace("/", "_")[: -len(volume_ending(path))]
            yield Located(path, stem, (), ((stem,), (stem,)))
