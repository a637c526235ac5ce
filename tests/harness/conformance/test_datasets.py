"""A dataset that keeps the contract passes; one that breaks a rule is told which, in a sentence, and no other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.api import Case, DataError, Dataset, Sample, Split, UsageError, VolumeGrid
from miasbench.harness.conformance.datasets import check_dataset
from miasbench.harness.conformance.testing import assert_dataset_conforms

from ...support.running import Wrapped

NUMBERS = count()


def phantom() -> Dataset:
    return phantom_brain_mri(Path(), train=3, valid=2, test=4, size=64)


class Changed(Wrapped):
    """A phantom some of whose cases, or all of whose samples, are changed."""

    def __init__(
        self,
        case: Callable[[Case], Case] = lambda case: case,
        sample: Callable[[Sample], Any] = lambda sample: sample,
    ) -> None:
        super().__init__(phantom())
        self._case, self._sample = case, sample

    def cases(self, split: Split) -> Sequence[Case]:
        return [self._case(case) for case in self.whole.cases(split)]

    def load(self, case: Case) -> Sample:
        (own,) = (one for one in self.whole.cases(case.split) if one.id == case.id)
        return self._sample(self.whole.load(own))


class Slab(VolumeGrid):
    """A volume of one slice, at the position 1."""

    def __init__(
        self, back: Callable[[np.ndarray], np.ndarray] = lambda mask: mask, position: int = 1, rows: int = 64
    ) -> None:
        self._back, self._position, self._rows = back, position, rows

    @property
    def slice_shape(self) -> tuple[int, int]:
        return self._rows, 64

    def to_image(self, slices: Mapping[int, np.ndarray], empty: float = 0) -> Any:
        return nibabel.Nifti1Image(slices[1].astype(np.uint8)[..., None], np.eye(4))

    def to_slices(self, voxels: np.ndarray, affine: np.ndarray | None = None) -> dict[int, np.ndarray]:
        return {self._position: self._back(voxels[..., 0])}


class Gridded(Changed):
    """A phantom each image of which is the only slice of a volume."""

    def __init__(self, grid: VolumeGrid) -> None:
        super().__init__(case=lambda case: replace(case, volume=case.id, position=1))
        self._grid = grid

    def grid(self, volume: str) -> VolumeGrid:
        return self._grid


class Doubled(Changed):
    def cases(self, split: Split) -> Sequence[Case]:
        return [*self.whole.cases(split), self.whole.cases(split)[0]]


class Turning(Changed):
    def cases(self, split: Split) -> Sequence[Case]:
        return list(self.whole.cases(split))[:: (-1) ** next(NUMBERS)]


class Empty(Changed):
    def cases(self, split: Split) -> Sequence[Case]:
        return [] if split == "test" else self.whole.cases(split)


class Swapped(Changed):
    def cases(self, split: Split) -> Sequence[Case]:
        return self.whole.cases("test" if split == "valid" else split)


class Noted(Changed):
    def notes(self) -> Any:
        return "one note"


class Fickle(Changed):
    @property
    def fingerprint(self) -> str:
        return f"{next(NUMBERS):x}"


class Worded(Changed):
    @property
    def fingerprint(self) -> str:
        return "version two"


def test_a_dataset_a_factory_a_folder_and_a_name_are_checked(tmp_path: Path) -> None:
    write_bmad(phantom(), tmp_path / "set")
    assert_dataset_conforms(phantom())
    assert_dataset_conforms(lambda _data_root: phantom())
    assert_dataset_conforms(tmp_path / "set")
    assert_dataset_conforms("phantom_retina_oct:train=2,valid=2,test=2,size=64")
    assert_dataset_conforms("phantom_histology:train=2,valid=2,test=2,size=64")


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (Doubled(), "ids are unique: two cases of the split train have the id"),
        (Empty(), "it lists its cases: cases('test') is empty."),
        (Swapped(), "every case is in its split: the case 40000_60 is among cases('valid'), but says that its"),
        (Turning(), "its cases stay the same: cases('train') of "),
        (
            Changed(case=lambda case: replace(case, label=1, mask="m") if case.split == "train" else case),
            "labels and masks go together: the case 00000_60 is anomalous and in the training split",
        ),
        (
            Changed(case=lambda case: replace(case, mask=None)),
            "labels and masks go together: the anomalous case",
        ),
        (
            Changed(case=lambda case: replace(case, mask="there")),
            "labels and masks go together: the normal case 00000_60 (train) names a mask",
        ),
        (
            Changed(case=lambda case: replace(case, patient="")),
            "ids are unique: id and patient should be text",
        ),
        (
            Changed(case=lambda case: replace(case, volume="scan", position=1)),
            "slices have a place in their volume: the volume scan (train) has two slices at the position 1.",
        ),
        (
            Changed(case=lambda case: replace(case, position=1)),
            "slices have a place in their volume: position and spacing of the case 00000_60 (train) are of a volume",
        ),
        (
            Changed(case=lambda case: replace(case, volume="scan", position="7")),  # type: ignore[arg-type]
            "slices have a place in their volume: volume and position of the case 00000_60 (train) are 'scan' and '7'",
        ),
        (
            Changed(case=lambda case: replace(case, volume=case.id, position=1, spacing=(1, 1, 0))),
            "slices have a place in their volume: spacing of the case 00000_60 (train) is (1, 1, 0)",
        ),
        (
            Gridded(Slab(rows=65)),
            "the grid of the volume 00000_60 (train) says that slices are (65, 64), the case 00000_60 (64, 64).",
        ),
        (
            Gridded(Slab(position=2)),
            "to_slices of the volume 00000_60 (train) gives no slice at 1, where the case 00000_60 is.",
        ),
        (
            Gridded(Slab(back=lambda mask: np.roll(mask, 1, 0))),
            "comes back from to_image and to_slices of the volume",
        ),
        (
            Changed(sample=lambda sample: Sample(sample.image / 255, sample.mask)),
            "types of the contract: the image of the case 00000_60 (train) is float64 (64, 64), it should be a",
        ),
        (
            Changed(sample=lambda sample: Sample(np.stack([sample.image] * 3, -1), sample.mask)),
            "types of the contract: the image of the case 00000_60 (train) is uint8 (64, 64, 3)",
        ),
        (
            Changed(sample=lambda sample: Sample(sample.image, sample.mask * 255)),
            "types of the contract: the mask of the case 00000_60 (train) is int64 (64, 64)",
        ),
        (
            Changed(sample=lambda sample: Sample(sample.image, sample.mask[1:])),
            "types of the contract: the mask of the case 00000_60 (train) is (63, 64), its image (64, 64).",
        ),
        (
            Changed(sample=lambda sample: Sample(sample.image, ~sample.mask)),
            "lesions are where labels say: the mask of the normal case 00000_60 (train) holds a lesion.",
        ),
        (
            Changed(sample=lambda sample: Sample(sample.image, np.zeros_like(sample.mask))),
            "lesions are where labels say: no mask of the 3 anomalous cases that were read holds a lesion.",
        ),
        (
            Changed(sample=lambda sample: Sample(sample.image ^ np.uint8(next(NUMBERS) % 256), sample.mask)),
            "a second reading gives the same: the case 00000_60 (train) is another image or mask",
        ),
        (Changed(sample=lambda sample: 1 / 0), "its cases can be read: ZeroDivisionError: "),
        (Fickle(), "its fingerprint stays the same: it differs when the dataset is asked, or opened, again"),
        (Worded(), "its fingerprint stays the same: it is 'version two', it should be a hash"),
        (Noted(), "its notes are text: notes() returned str"),
        (lambda _data_root: 5, "it opens: it is a int"),
        (lambda _data_root: 1 / 0, "it opens: ZeroDivisionError: division by zero ("),
    ],
)
def test_a_broken_rule_is_named_and_no_other(dataset: Any, says: str) -> None:
    (problem,) = check_dataset(dataset)
    assert says in problem
    assert "\n" not in problem


def test_a_volume_that_comes_back_is_fine() -> None:
    assert check_dataset(Gridded(Slab())) == []


def test_a_folder_whose_files_are_broken_has_a_sentence_for_each(tmp_path: Path) -> None:
    write_bmad(phantom(), tmp_path / "set")
    lost = sorted((tmp_path / "set" / "test" / "Ungood" / "anomaly_mask").iterdir())[0]
    for path in (lost, *(tmp_path / "set" / "train").rglob("*.png")):
        path.unlink()
    train, mask = check_dataset(tmp_path / "set")
    assert train.startswith("it opens: The train split has no normal images")
    assert mask.startswith("it opens: ")
    assert lost.stem in mask


def test_what_is_not_there_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'phantom_brain_mri'"):
        check_dataset("phantom_brain_mr")
    with pytest.raises(DataError, match="There is no dataset at"):
        check_dataset(tmp_path / "nowhere")
