"""What is wrong with a dataset, all of it, and where. Nothing is changed."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from .api import SPLITS, BrokenDatasetError, Case, DataError, Dataset, Split, StageReport
from .leaks import shared_patients


@dataclass(frozen=True)
class Finding:
    """Something about a dataset that its user should know.

    Attributes:
        kind: `files` (missing, unreadable, unpaired, not of their mask's size), `notes` (the dataset's own), `counts`,
            `values`, `sizes`, `duplicates` or `patients`.
        text: What, and where.
        wrong: Whether scores are not to be believed before it is mended; otherwise it is only worth a look.
    """

    kind: str
    text: str
    wrong: bool


def verify(
    open_it: Callable[[], Dataset], report: StageReport = lambda *_: None
) -> tuple[Dataset, tuple[Finding, ...]]:
    """Reads every image and mask of a dataset.

    Args:
        open_it: Opens the dataset; it may find it broken.
        report: Told how many cases are read.

    Returns:
        The dataset, as far as it can be opened, and what was found.

    Raises:
        DataError: There is no dataset to look at.
    """
    findings: list[Finding] = []
    try:
        dataset = open_it()
    except BrokenDatasetError as error:
        dataset = error.dataset
        findings += [Finding("files", problem, wrong=True) for problem in error.problems]
    findings += [Finding("notes", note, wrong=False) for note in dataset.notes()]
    findings += _counts(dataset)
    findings += _pixels(dataset, report)
    for splits, patients in shared_patients(dataset).items():
        names = ", ".join(patients)
        findings.append(Finding("patients", f"In {splits}, as far as names tell: {names}", wrong=False))
    return dataset, tuple(findings)


def _counts(dataset: Dataset) -> Iterator[Finding]:
    for split, expected in (dataset.card.counts or {}).items():
        found = len(dataset.cases(cast(Split, split)))
        if found != expected:
            yield Finding(
                "counts", f"The {split} split has {found:,} cases, its card expects {expected:,}.", wrong=True
            )


def _pixels(dataset: Dataset, report: StageReport) -> Iterator[Finding]:
    """What reading every case shows."""
    cases = [case for split in SPLITS for case in dataset.cases(split)]
    same: dict[bytes, list[Case]] = defaultdict(list)
    shapes: dict[tuple[int, ...], list[Case]] = defaultdict(list)
    for done, case in enumerate(cases, start=1):
        report("reading images and masks", done, len(cases))
        try:
            image, mask = dataset.load(case)
        except DataError as error:
            yield Finding("files", str(error), wrong=True)
            continue
        same[hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()].append(case)
        shapes[image.shape].append(case)
        if image.min() == image.max():
            yield Finding("values", f"{case.image} has one grey value only, {image.min()}.", wrong=False)
        if case.label and dataset.card.annotation == "mask" and not mask.any():
            yield Finding("values", f"{case.mask} shows no lesion, but its image counts as anomalous.", wrong=True)
        if mask.all():
            yield Finding("values", f"{case.mask} is lesion all over.", wrong=True)
    for twins in same.values():
        if len(twins) > 1:
            where = ", ".join(case.image for case in twins)
            yield Finding("duplicates", f"The same image: {where}", wrong=len({case.split for case in twins}) > 1)
    if len(shapes) > 1:
        usual = max(shapes, key=lambda shape: len(shapes[shape]))
        for shape, odd in shapes.items():
            if shape != usual:
                yield Finding(
                    "sizes",
                    f"{len(odd):,} images have {shape[1]} x {shape[0]} pixels instead of {usual[1]} x {usual[0]}, such "
                    f"as {odd[0].image}.",
                    wrong=False,
                )
