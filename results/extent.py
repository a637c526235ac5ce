"""How much a run has measured: images and patients of each dataset, and how many of its cells have ended."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from .record import RunRecord
from .store import RunStore


@dataclass(frozen=True)
class Extent:
    """The images and patients that the scores of a dataset were computed on.

    Attributes:
        dataset: Its name, with all options.
        images: How many test images; 0 where nobody knows.
        anomalous: How many of them are anomalous; 0 where `patients` is.
        patients: How many patients these images are of; 0 where nobody knows, as without lesion masks.
        anomalous_patients: How many patients the anomalous images are of; DICE is averaged over these images.
        size: Width of the square in which images were seen and scored, in pixels.
        limit: At most so many cases of each split; 0 is all of them.
        seeds: In order.
        notes: Sentences on what can change the scores, such as images that were left out.
    """

    dataset: str
    images: int
    anomalous: int
    patients: int
    anomalous_patients: int
    size: int
    limit: int
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> str:
        """Images and patients in words; empty where nobody knows."""
        if not self.images:
            return ""
        images = _count(self.images, "test image")
        if not self.patients:
            return images
        kinds = f"{self.images - self.anomalous} normal, {self.anomalous} anomalous"
        return (
            f"{images} of {_count(self.patients, 'patient')} ({kinds} of {_count(self.anomalous_patients, 'patient')})"
        )

    def __str__(self) -> str:
        parts = [self.counts] if self.images else []
        parts.append(f"{self.size} x {self.size} pixels")
        if self.limit:
            parts.append(f"limit {self.limit}, a part of the dataset")
        parts.append(f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}")
        return "; ".join(parts)


def extents(records: Sequence[RunRecord], cases: pd.DataFrame, scores: pd.DataFrame) -> dict[str, Extent]:
    """Says of each dataset how much of it was measured.

    Args:
        records: The records of one run, or of several joined.
        cases: The cases of the same.
        scores: The scores of the same.

    Returns:
        By the dataset's name, in the order of `scores`.
    """
    found = {}
    for dataset, rows in scores.groupby("dataset", sort=False):
        name = str(dataset)
        images = cases[cases["dataset"] == name].drop_duplicates("case")
        anomalous = images[images["label"] == 1]
        having = [record for record in records if name in record.datasets]
        counts = having[0].datasets[name].counts if having else {}
        found[name] = Extent(
            dataset=name,
            images=len(images) or counts.get("test", 0),
            anomalous=len(anomalous),
            patients=images["patient"].nunique(),
            anomalous_patients=anomalous["patient"].nunique(),
            size=int(rows["size"].iloc[0]),
            limit=max((record.config.limit for record in having), default=0),
            seeds=tuple(sorted(int(seed) for seed in rows["seed"].unique())),
            notes=tuple(dict.fromkeys(note for record in having for note in record.datasets[name].notes)),
        )
    return found


def unfinished(runs: Sequence[RunStore]) -> list[str]:
    """A sentence for each run that has not come to its end: `liver_ct-1a2b3c4d is unfinished: 11 of 30 cells`."""
    states = {run.name: run.state() for run in runs}
    return [f"{name} is {state}" for name, state in states.items() if not state.done]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
