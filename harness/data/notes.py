"""What the user of a dataset should know before a score is believed: a run says it first, and keeps it."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..api import SPLITS, Case, Dataset, Progress
from .leaks import one_patient_note, shared_patients_note, visits_note
from .subset import Subset
from .survey import Survey, all_cases, look_alikes, survey

_MOST = 0.5  # of an image; a lesion that covers more is more often its background
_DARK = 64  # of 256; the highest grey level of images whose upper bits are empty
_FEW_LEVELS = 24  # of 256 grey levels; an image with no more has lost most of its bits


def notes_on(dataset: Dataset, progress: Progress = lambda *_: None) -> tuple[str, ...]:
    """The notes on a dataset: its own, and those on what is odd about its cases.

    Args:
        dataset: If it is of files, all of them are read, once.
        progress: Told about progress.
    """
    notes = [_counts(dataset), *dataset.notes()]
    notes += [note(dataset) for note in (one_patient_note, shared_patients_note, visits_note)]
    if dataset.of_files:
        found = survey(dataset, progress)[0]
        notes += pixel_notes(dataset, found)
        notes += [f"{note} bench data verify lists them." for note in look_alike_note(look_alikes(dataset, found))]
    return tuple(note.encode(errors="backslashreplace").decode() for note in notes if note)


def pixel_notes(dataset: Dataset, found: Survey) -> Iterator[str]:
    """What images and masks show that a score depends on."""
    cases = all_cases(dataset)
    seen = [cases[index] for index in found.index]
    if dataset.card.annotation == "mask":
        yield from _lesion_notes(seen, found.lesion, chosen=dataset.card.lesion is not None)
    if len(seen) and np.median(found.spread) < _FEW_LEVELS:
        dark = np.median(found.grey[:, 1]) < _DARK
        yield (
            f"Half of the images have 98 % of their pixels within {int(np.median(found.spread)) + 1} of 256 grey "
            f"levels, such as {seen[int(np.argsort(found.spread)[len(seen) // 2])].image}: most of what they showed is "
            "lost. Save them so that black is 0 and white 255"
            + (
                ", or if they have more than 8 bits, say on a card how many mean something: `bits: 12`."
                if dark
                else "."
            )
        )


def look_alike_note(pairs: Sequence[tuple[Case, Case]]) -> Iterator[str]:
    """What images of two splits that look the same mean; nothing where there are none."""
    if pairs:
        one, other = pairs[0]
        yield (
            f"{_count(len(pairs), 'image looks', 'images look')} the same as an image of another split, such as "
            f"{other.image} ({other.split}) and {one.image} ({one.split}). An image that was used for "
            "training or for a threshold tests nothing: remove one of each pair, or keep a patient in one split."
        )


def _lesion_notes(cases: Sequence[Case], lesion: np.ndarray, *, chosen: bool) -> Iterator[str]:
    label = np.array([case.label for case in cases], dtype=int)
    masked = np.array([case.mask != "" for case in cases], dtype=bool)  # a file that is missing is told elsewhere
    empty, full = masked & (label == 1) & (lesion == 0), lesion == 1
    large, ill = (lesion > _MOST) & ~full, (label == 0) & (lesion > 0)
    total = int(label.sum())

    def told(kind: np.ndarray, one: str, many: str, verb: str, verbs: str) -> str:
        shown = [cases[index].mask or cases[index].image for index in np.flatnonzero(kind)[:2]]
        count = int(kind.sum())
        return f"{_count(count, one, many)} (such as {' and '.join(shown)}) {verb if count == 1 else verbs}"

    if empty.any():
        yield (
            f"{told(empty, f'of {total:,} anomalous images', f'of {total:,} anomalous images', 'has', 'have')} a mask "
            "without a lesion. Its pixels count as normal, and it is left out of DICE. Mend the mask, or move the "
            "image to the normal ones."
        )
    if full.any():
        yield (
            f"{told(full, 'mask', 'masks', 'is', 'are')} lesion all over: a method that marks every pixel has a DICE "
            "of 1 there. Save masks with lesions in white and all else in black."
        )
    if large.any():
        inverted = 2 * np.count_nonzero((lesion > _MOST) & (label == 1)) > total
        yield (
            f"{told(large, 'mask', 'masks', 'covers', 'cover')} more than half of the image. "
            + (
                "They look inverted: "
                + (
                    "choose other grey levels with `lesion` on the card."
                    if chosen
                    else "save them the other way round, or as PNG with `lesion: [0]` on a card."
                )
                if inverted
                else "Are they inverted?"
            )
        )
    if ill.any():
        yield f"{told(ill, 'normal image', 'normal images', 'has', 'have')} a lesion in the mask, but the label normal."


def _count(count: int, one: str, many: str) -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {many}"


def _counts(dataset: Dataset) -> str:
    counts = {split: len(dataset.cases(split)) for split in SPLITS}
    expected = dataset.card.counts
    if not expected or counts == expected or isinstance(dataset, Subset):
        return ""
    return f"It has {counts} cases, but its card expects {expected}."
