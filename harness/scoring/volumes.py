"""Volumes of a split: which cases are their slices, and how slices are put together.

Where a slice lies between two others, and the dataset lacks it, the volume is empty: `bench data add` leaves out slices
of one grey value, and stacks of chosen slices lack many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..api import Case

_MOST = 4096
"""Positions that a volume can span. Where it is more, numbers in file names were no positions, such as dates."""


@dataclass(frozen=True)
class VolumeSlices:
    """A volume, by its slices in a split.

    Attributes:
        name: Unique within the split.
        patient: That of its first slice.
        indices: The places of its slices in the split, in the order of their positions.
        positions: Their positions, rising.
        spacing: The distances in mm between two slices, two rows and two columns, in the run's frame; `None` where
            they are not known.
    """

    name: str
    patient: str
    indices: tuple[int, ...]
    positions: tuple[int, ...]
    spacing: tuple[float, float, float] | None

    def put_together(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """The masks of its slices, bool (H, W) each and in their order, as one of the volume, bool (D, H, W)."""
        first, last = self.positions[0], self.positions[-1]
        volume = np.zeros((last - first + 1, *masks[0].shape), bool)
        volume[np.array(self.positions) - first] = masks
        return volume


def group_slices(
    cases: Sequence[Case], shapes: Sequence[tuple[int, int]], spacings: Sequence[tuple[float, ...] | None]
) -> tuple[list[VolumeSlices], list[str]]:
    """Groups the slices of a split by their volumes.

    Args:
        cases: Its cases.
        shapes: The size of each case's mask where it is scored.
        spacings: Of each case, the distances in mm between two rows and two columns there.

    Returns:
        The volumes, by their names; and a sentence for each that cannot be put together.
    """
    members: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        if case.volume is not None and case.position is not None:
            members.setdefault(case.volume, []).append(index)
    volumes, left_out = [], []
    for name, unordered in sorted(members.items()):
        indices = sorted(unordered, key=lambda index: cases[index].position or 0)
        positions = [cases[index].position or 0 for index in indices]
        if len({shapes[index] for index in indices}) > 1:
            left_out.append(f"the slices of {name} differ in size")
        elif positions[-1] - positions[0] >= _MOST:
            left_out.append(f"the positions of {name} go from {positions[0]} to {positions[-1]}, too far for a volume")
        else:
            first = cases[indices[0]]
            in_plane = spacings[indices[0]]
            spacing = (first.spacing[2], in_plane[0], in_plane[1]) if first.spacing and in_plane else None
            volumes.append(VolumeSlices(name, first.patient, tuple(indices), tuple(positions), spacing))
    return volumes, left_out
