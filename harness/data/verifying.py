"""What is wrong with a dataset, all of it, and where. Nothing is changed."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from ..api import BenchError, BrokenDatasetError, Case, Dataset, Progress, Split
from .foreground import lesions_cut, rule_of
from .leaks import one_patient_note, shared_patients, visits_note
from .notes import look_alike_note, pixel_notes
from .survey import Survey, all_cases, look_alikes, survey


@dataclass(frozen=True)
class DatasetFinding:
    """Something about a dataset that its user should know.

    Attributes:
        kind: `files` (missing, unreadable, unpaired, not of their mask's size), `notes` (the dataset's own), `counts`,
            `values`, `foreground` (it cuts lesions), `sizes`, `duplicates` or `patients`.
        text: What, and where.
        wrong: Whether scores are not to be believed before it is mended; otherwise it is only worth a look.
    """

    kind: str
    text: str
    wrong: bool


def verify_dataset(
    open_it: Callable[[], Dataset], progress: Progress = lambda *_: None
) -> tuple[Dataset, tuple[DatasetFinding, ...]]:
    """Reads every image and mask of a dataset.

    Args:
        open_it: Opens the dataset; it may find it broken.
        progress: Told how many cases are read.

    Returns:
        The dataset, as far as it can be opened, and what was found.

    Raises:
        DataError: There is no dataset to look at.
    """
    findings: list[DatasetFinding] = []
    try:
        dataset = open_it()
    except BrokenDatasetError as error:
        dataset = error.dataset
        findings += [DatasetFinding("files", problem, wrong=True) for problem in error.problems]
    try:
        findings += [DatasetFinding("notes", note, wrong=False) for note in dataset.notes()]
    except BrokenDatasetError as error:
        findings += [DatasetFinding("files", problem, wrong=True) for problem in error.problems]
    findings += _counts(dataset)
    found, problems = survey(dataset, progress)
    findings += [DatasetFinding("files", problem, wrong=True) for problem in problems]
    findings += _pixels(dataset, found)
    findings += _foregrounds(dataset, progress)
    for splits, patients in shared_patients(dataset).items():
        names = ", ".join(patients)
        findings.append(DatasetFinding("patients", f"In {splits}, as far as names tell: {names}", wrong=False))
    notes = (one_patient_note(dataset), visits_note(dataset))
    findings += [DatasetFinding("patients", note, wrong=False) for note in notes if note]
    return dataset, tuple(dict.fromkeys(findings))


def _counts(dataset: Dataset) -> Iterator[DatasetFinding]:
    for split, expected in (dataset.card.counts or {}).items():
        found = len(dataset.cases(cast(Split, split)))
        if found != expected:
            yield DatasetFinding(
                "counts", f"The {split} split has {found:,} cases, its card expects {expected:,}.", wrong=True
            )


def _foregrounds(dataset: Dataset, progress: Progress) -> Iterator[DatasetFinding]:
    """Whether lesions reach out of the foreground."""
    try:
        cut = lesions_cut(dataset, rule_of(dataset, "card"), progress)
    except BenchError as error:
        yield DatasetFinding("foreground", str(error), wrong=True)
    else:
        if cut.shares:
            yield DatasetFinding("foreground", str(cut), wrong=False)


def _pixels(dataset: Dataset, found: Survey) -> Iterator[DatasetFinding]:
    """What the pixels of every case show."""
    cases = all_cases(dataset)
    same: dict[str, list[Case]] = defaultdict(list)
    shapes: dict[tuple[int, int], list[Case]] = defaultdict(list)
    for index, shape, (low, high), lesion, digest in zip(
        found.index, found.shape.tolist(), found.grey, found.lesion, found.digest.tolist(), strict=True
    ):
        case = cases[index]
        same[digest].append(case)
        shapes[tuple(shape)].append(case)
        if low == high:
            yield DatasetFinding("values", f"{case.image} has one grey value only, {low}.", wrong=False)
        if case.label and case.mask and lesion == 0:
            yield DatasetFinding(
                "values", f"{case.mask} shows no lesion, but its image counts as anomalous.", wrong=True
            )
        if lesion == 1:
            yield DatasetFinding("values", f"{case.mask} is lesion all over.", wrong=True)
    yield from (DatasetFinding("notes", note, wrong=False) for note in pixel_notes(dataset, found))
    for twins in same.values():
        if len(twins) > 1:
            where = ", ".join(case.image for case in twins)
            yield DatasetFinding(
                "duplicates", f"The same image: {where}", wrong=len({case.split for case in twins}) > 1
            )
    digests = dict(zip([cases[index].image for index in found.index], found.digest.tolist(), strict=True))
    pairs = look_alikes(dataset, found)
    yield from (DatasetFinding("notes", note, wrong=False) for note in look_alike_note(pairs))
    for one, other in pairs:
        if digests[one.image] != digests[other.image]:
            where = f"{one.image} ({one.split}), {other.image} ({other.split})"
            yield DatasetFinding("duplicates", f"They look the same: {where}", wrong=False)
    if len(shapes) > 1:
        usual = max(shapes, key=lambda shape: len(shapes[shape]))
        for shape, odd in shapes.items():
            if shape != usual:
                yield DatasetFinding(
                    "sizes",
                    f"{len(odd):,} images have {shape[1]} x {shape[0]} pixels instead of {usual[1]} x {usual[0]}, such "
                    f"as {odd[0].image}.",
                    wrong=False,
                )
