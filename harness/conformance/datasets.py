"""Does a dataset keep the contract? It is opened twice, and a part of its cases is read."""

import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..api import SPLITS, BenchError, BrokenDatasetError, Card, Case, Dataset, Sample
from ..config import default_data_root
from ..data.foreground import foreground_of, rule_of
from ..data.subset import Subset
from ..registry import check_names, open_dataset
from ..running.device import seed_everything
from .rules import Check, Rule, held, problems, told

_READ = 8  # cases of each split

Source = Dataset | Callable[..., Dataset] | str | Path


def check_dataset(dataset: Source) -> list[str]:
    """Holds a dataset to the contract of `harness.api`: opens it twice and reads up to eight cases of each split.

    `bench data verify` reads every case, and finds what is odd about images and masks.

    Args:
        dataset: A dataset; a factory, which is called with the data root; or what `--dataset` takes: a folder, a card
            or a registered name with its options.

    Returns:
        A sentence for each rule that is broken; empty where the dataset keeps the contract.

    Raises:
        UsageError: There is no dataset of that name.
        DataError: There is nothing at the path.

    Examples:
        >>> check_dataset("phantom_liver_ct:train=2,valid=2,test=2,size=64")
        []
    """
    return problems(dataset_checks(dataset))


def dataset_checks(dataset: Source) -> Iterator[Check]:
    """As `check_dataset`, with every rule that was checked, as soon as it is.

    Raises:
        UsageError: As for `check_dataset`.
        DataError: As for `check_dataset`.
    """
    root = default_data_root()
    if isinstance(dataset, str | Path):
        check_names([], [str(dataset)], root)
    rule = "it opens"
    try:
        opened, again = _open(dataset, root), _open(dataset, root)
    except BrokenDatasetError as error:
        yield from (Check(rule, problem) for problem in error.problems)
        return
    except Exception as error:  # a plugin may raise anything
        yield Check(rule, told(error))
        return
    if not isinstance(opened, Dataset):
        yield Check(rule, f"it is a {type(opened).__name__}, and no subclass of miasbench.harness.api.Dataset.")
        return
    yield Check(rule)
    yield from held(_RULES, _DatasetTrial(opened, again))


def _open(dataset: Any, root: Path) -> Any:
    if isinstance(dataset, str | Path):
        return open_dataset(str(dataset), root)
    return dataset(root) if callable(dataset) else dataset


class _DatasetTrial:
    """A dataset that was opened twice.

    Attributes:
        cases: Those of all splits.
        read: Some of them, with what was read.
    """

    def __init__(self, opened: Dataset, again: Dataset) -> None:
        self.opened, self.again = opened, again
        self.cases: list[Case] = []
        self.read: list[tuple[Case, Sample]] = []


def _identity(trial: _DatasetTrial) -> str:
    for name, kind in (("name", str), ("card", Card)):
        value = getattr(trial.opened, name, None)
        if not isinstance(value, kind) or not value:
            return f"its attribute {name} is {value!r}, it should be a {kind.__name__}."
    return ""


def _lists_cases(trial: _DatasetTrial) -> str:
    for split in SPLITS:
        cases = list(trial.opened.cases(split))
        wrong = [one for one in cases if not isinstance(one, Case)]
        if wrong:
            return f"cases({split!r}) has a {type(wrong[0]).__name__}, it should have miasbench.harness.api.Case only."
        if not cases and split != "valid":
            return f"cases({split!r}) is empty."
        trial.cases += cases
    return ""


def _same_cases(trial: _DatasetTrial) -> str:
    for dataset, when in ((trial.opened, "a second call"), (trial.again, "the dataset that is opened again")):
        for split in SPLITS:
            if list(dataset.cases(split)) != [case for case in trial.cases if case.split == split]:
                return f"cases({split!r}) of {when} has other cases, or the same in another order."
    return ""


def _splits(trial: _DatasetTrial) -> str:
    for split in SPLITS:
        for case in trial.opened.cases(split):
            if case.split != split:
                return f"the case {case.id} is among cases({split!r}), but says that its split is {case.split!r}."
    return ""


def _ids(trial: _DatasetTrial) -> str:
    seen: set[tuple[str, str]] = set()
    for case in trial.cases:
        if not all(isinstance(text, str) and text for text in (case.id, case.patient)):
            return f"id and patient should be text, but a case has {case.id!r} and {case.patient!r}."
        if (case.split, case.id) in seen:
            return f"two cases of the split {case.split} have the id {case.id}."
        seen.add((case.split, case.id))
    return ""


def _labels(trial: _DatasetTrial) -> str:
    for case in trial.cases:
        if case.label not in (0, 1):
            return f"the label of {case.id} ({case.split}) is {case.label!r}, it should be 0 or 1."
        if case.label and case.split == "train":
            return f"the case {case.id} is anomalous and in the training split, where only normal images may be."
        if not case.label and case.mask is not None:
            return f"the normal case {case.id} ({case.split}) names a mask; that of a normal case is None."
        if case.label and case.mask is None and trial.opened.card.annotation == "mask":
            return (
                f"the anomalous case {case.id} ({case.split}) names no mask; if only images are annotated, say so on "
                'the card: annotation="image".'
            )
    return ""


def _volumes(trial: _DatasetTrial) -> str:
    seen: set[tuple[str, str, int]] = set()
    for case in trial.cases:
        where = f"of the case {case.id} ({case.split})"
        if case.volume is None:
            if (case.position, case.spacing) != (None, None):
                return f"position and spacing {where} are of a volume, but its volume is None."
            continue
        if not (isinstance(case.volume, str) and case.volume) or not isinstance(case.position, int):
            return (
                f"volume and position {where} are {case.volume!r} and {case.position!r}, they should be text and int."
            )
        if (case.split, case.volume, case.position) in seen:
            return f"the volume {case.volume} ({case.split}) has two slices at the position {case.position}."
        seen.add((case.split, case.volume, case.position))
        sizes = case.spacing or (1.0, 1.0, 1.0)
        if len(sizes) != 3 or not all(isinstance(size, float | int) and 0 < size < np.inf for size in sizes):
            return f"spacing {where} is {case.spacing!r}, it should be None or three numbers of mm above 0."
    return ""


def _foregrounds(trial: _DatasetTrial) -> str:
    dataset = trial.opened
    for case, sample in trial.read:
        try:
            foreground = foreground_of(dataset, case, rule_of(dataset, "card"), sample.image)
        except BenchError as error:
            return str(error)
        lesion = np.count_nonzero(sample.mask)
        if 2 * lesion > sample.mask.size:  # what covers most of an image is more often its background
            continue
        cut = np.count_nonzero(sample.mask & ~foreground)
        if case.label and cut > lesion / 2:
            return (
                f"the foreground ({dataset.card.foreground}) leaves out {cut / lesion:.0%} of the lesion of {case.id} "
                f"({case.split}): choose another one on the card."
            )
    return ""


def _grids(trial: _DatasetTrial) -> str:
    for case, sample in trial.read:
        grid = trial.opened.grid(case.volume) if case.volume is not None else None
        if grid is None or case.position is None:
            continue
        where = f"of the volume {case.volume} ({case.split})"
        if grid.slice_shape != sample.mask.shape:
            return f"the grid {where} says that slices are {grid.slice_shape}, the case {case.id} {sample.mask.shape}."
        image = grid.to_image({case.position: sample.mask})
        back = grid.to_slices(np.asarray(image.dataobj), image.affine)
        if case.position not in back:
            return f"to_slices {where} gives no slice at {case.position}, where the case {case.id} is."
        if not np.array_equal(back[case.position] > 0, sample.mask):
            return f"the mask of the case {case.id} comes back from to_image and to_slices {where} as another one."
    return ""


def _reads(trial: _DatasetTrial) -> str:
    part = Subset(trial.opened, _READ)
    trial.read = [(case, trial.opened.load(case)) for split in SPLITS for case in part.cases(split)]
    return ""


def _types(trial: _DatasetTrial) -> str:
    for case, sample in trial.read:
        where = f"of the case {case.id} ({case.split})"
        try:
            image, mask = sample
        except (TypeError, ValueError):
            return f"load returned {type(sample).__name__} {where}, it should return miasbench.harness.api.Sample."
        channels = {"grey": (), "rgb": (3,)}[trial.opened.card.channels]
        for what, array, kind, last in (("image", image, np.uint8, channels), ("mask", mask, np.bool_, ())):
            if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim < 2 or array.shape[2:] != last:
                found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                shape = "(H, W, 3), as its card says channels='rgb'" if last else "(H, W)"
                also = ", or (H, W, 3) with channels='rgb' on its card" if what == "image" and not last else ""
                return f"the {what} {where} is {found}, it should be a numpy array of {kind.__name__} {shape}{also}."
        if image.shape[:2] != mask.shape:
            return f"the mask {where} is {mask.shape}, its image {image.shape[:2]}."
    return ""


def _masks(trial: _DatasetTrial) -> str:
    for case, sample in trial.read:
        if not case.label and np.any(sample[1]):
            return f"the mask of the normal case {case.id} ({case.split}) holds a lesion."
    lesions = [np.any(sample[1]) for case, sample in trial.read if case.label]
    if lesions and not any(lesions) and trial.opened.card.annotation == "mask":
        return f"no mask of the {len(lesions)} anomalous cases that were read holds a lesion."
    return ""


def _reads_again(trial: _DatasetTrial) -> str:
    seed_everything(1)
    for case, sample in trial.read:
        again = trial.again.load(case)
        if not all(np.array_equal(one, other) for one, other in zip(sample, again, strict=True)):
            return f"the case {case.id} ({case.split}) is another image or mask when it is read again."
    return ""


def _fingerprint(trial: _DatasetTrial) -> str:
    fingerprint = trial.opened.fingerprint
    if not isinstance(fingerprint, str) or not fingerprint or not set(fingerprint) <= set(string.hexdigits):
        return f"it is {fingerprint!r}, it should be a hash in hexadecimal digits."
    if trial.opened.fingerprint != fingerprint or trial.again.fingerprint != fingerprint:
        return "it differs when the dataset is asked, or opened, again: kept results would never be found."
    return ""


def _notes(trial: _DatasetTrial) -> str:
    notes = trial.opened.notes()
    fine = isinstance(notes, tuple) and all(isinstance(note, str) for note in notes)
    return "" if fine else f"notes() returned {type(notes).__name__}, it should return a tuple of text."


_RULES: tuple[Rule[_DatasetTrial], ...] = (
    Rule("it has a name and a card", _identity),
    Rule("it lists its cases", _lists_cases, needed=True),
    Rule("every case is in its split", _splits, needed=True),
    Rule("its cases stay the same", _same_cases),
    Rule("ids are unique", _ids),
    Rule("labels and masks go together", _labels),
    Rule("slices have a place in their volume", _volumes),
    Rule("its cases can be read", _reads, needed=True),
    Rule("images and masks have the shapes and types of the contract", _types, needed=True),
    Rule("lesions are where labels say", _masks),
    Rule("foregrounds fit their images and hold the lesions", _foregrounds),
    Rule("a slice goes onto its volume's grid and comes back", _grids),
    Rule("a second reading gives the same", _reads_again),
    Rule("its fingerprint stays the same", _fingerprint),
    Rule("its notes are text", _notes),
)
