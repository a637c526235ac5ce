"""What is odd about predictions from elsewhere, found before anything is scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..api import DataError, Dataset, Progress
from .arrays import ArrayFile, ArrayReader
from .folder import PREDICTED, Found
from .manifest import Manifest
from .problems import Problems

_SHOWN = 10
_ENOUGH = 5  # maps, below which what all have in common says little
_MOST = 0.9
_FEW_VALUES = 2
_HALF = 0.5  # of an image, and of all masks: lesions seldom cover more
Geometry = Literal["image", "frame"]


@dataclass(frozen=True)
class MapFindings:
    """What was found in the arrays: what cannot be scored, what a reader should know, and what they cover."""

    problems: list[str]
    notes: list[str]
    geometry: Geometry


class _Seen(NamedTuple):
    """What is kept of one map."""

    low: float
    high: float
    values: int


class _Shapes(NamedTuple):
    """Rows and columns of a map or a mask, and of its image."""

    array: tuple[int, ...]
    image: tuple[int, ...]
    file: ArrayFile


def refuse(folder: Path, problems: Sequence[str]) -> None:
    """Refuses a folder with problems.

    Raises:
        DataError: There are problems; the text tells the first of them.
    """
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        shown = "".join(f"\n- {problem}" for problem in problems[:_SHOWN])
        more = f"\nand {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else ""
        raise DataError(f"The predictions in {folder} cannot be used; they have {count}:{shown}{more}")


def check_maps(dataset: Dataset, found: Found, manifest: Manifest, progress: Progress) -> MapFindings:
    """Reads every map and mask once.

    Args:
        dataset: The dataset that was predicted.
        found: Its files.
        manifest: What the folder says of itself.
        progress: Told about progress.
    """
    problems = Problems()
    seen: list[_Seen] = []
    marked: list[float] = []
    broken_slices: dict[Path, list[ArrayFile]] = {}
    shapes: list[_Shapes] = []
    reader, broken = ArrayReader(), set[Path]()
    total = sum(len(found.cases[split]) for split in PREDICTED)
    for split in PREDICTED:
        for case in [case for case in dataset.cases(split) if case.id in found.cases[split]]:
            progress("checking predictions", len(seen), total)
            files = found.cases[split][case.id]
            image = dataset.load(case).image.shape[:2] if files.files else (0, 0)
            for file, read in ((files.map, reader.anomaly_map), (files.mask, reader.own_mask)):
                if file is None or file.path in broken:
                    continue
                try:
                    array = read(file)
                except DataError as error:
                    # Sentences that differ in nothing but the file have one cause.
                    problems.add(str(error).replace(str(file.path), ""), str(error))
                    broken.add(file.path)  # the next slices of a volume need not say it again
                    continue
                shapes.append(_Shapes(array.shape, image, file))
                if file is not files.map:
                    marked.append(float(array.mean()))
                    continue
                if np.isfinite(array).all():
                    seen.append(_seen(array))
                else:
                    broken_slices.setdefault(file.path, []).append(file)
    for path, slices in broken_slices.items():
        several = f" in {len(slices)} of its slices" if len(slices) > 1 else ""
        problems.add(
            "finite",
            f"{slices[0] if not several else path} holds NaN or infinity{several}, which cannot be ranked. Give such "
            "pixels a number: where nothing was predicted, the least anomalous one.",
        )
    geometry = manifest.geometry or _geometry(shapes, problems)
    others = [one for one in shapes if one.array != one.image] if geometry == "image" else []
    if others and 2 * len(others) < len(shapes):
        for one in others:
            problems.add(
                one.file,
                f"{one.file} has {_size(one.array)} values and its image {_size(one.image)} pixels, while most files "
                "have the size of their image: it seems to be of another one.",
            )
    for shape, image, file in shapes:
        if geometry == "frame" and shape[0] != shape[1]:
            problems.add("square", f"{file} has {_size(shape)} values: with `geometry: frame` it must be a square.")
        if geometry == "image" and shape == image[::-1] != image:
            problems.add("turned", f"{file} has {_size(shape)} values, its image turned: transpose the array.")
    notes = list(_notes(seen, manifest))
    large = sum(share > _HALF for share in marked)
    if large > _HALF * len(marked):
        notes.append(
            f"{large} of {len(marked)} masks mark more than half of their image, as if inverted: what is not 0 counts "
            "as anomalous."
        )
    if others:
        notes.append(
            f"{len(others)} of {len(shapes)} maps and masks have another size than their image: stretched to it."
        )
    return MapFindings(problems.sentences(), notes, geometry)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _seen(anomaly_map: np.ndarray) -> _Seen:
    few = len(np.unique(anomaly_map.ravel()[:: max(1, anomaly_map.size // 4096)]))
    values = few if few > _FEW_VALUES else len(np.unique(anomaly_map))
    return _Seen(float(anomaly_map.min()), float(anomaly_map.max()), values)


def _geometry(shapes: Sequence[_Shapes], problems: Problems) -> Geometry:
    """What maps and masks cover, where their sizes leave one answer only."""
    if all(one.array == one.image for one in shapes):
        return "image"
    if all(shape[0] == shape[1] for one in shapes for shape in (one.array, one.image)):
        return "frame"  # of square images, which no padding changes, both are the same
    shape, image, file = next(one for one in shapes if one.array != one.image)
    problems.add(
        "geometry",
        f"{file} has {_size(shape)} values and its image {_size(image)} pixels (height x width). If maps cover the "
        "image, and are to be stretched to it, say `geometry: image` in predictions.yaml; if they cover the square "
        "that the image was padded to, `geometry: frame`.",
    )
    return "image"


def _notes(seen: Sequence[_Seen], manifest: Manifest) -> Iterator[str]:
    """What maps have in common that a score may suffer from."""
    if not seen:
        return
    constant = sum(one.low == one.high for one in seen)
    if constant:
        yield f"{constant} of {len(seen)} maps {'is' if constant == 1 else 'are'} constant: one value everywhere."
    varied = [one for one in seen if one.low < one.high]
    if len(varied) < _ENOUGH:
        return
    cut = sum(one.values <= _FEW_VALUES for one in varied)
    if cut >= _MOST * len(varied):
        yield f"{cut} of {len(seen)} maps have two values only, as if thresholded already: give them as masks."
        return
    ranges = {(one.low, one.high) for one in varied}
    if len(ranges) == 1:
        low, high = ranges.pop()
        yield (
            f"all maps go from {low:g} to {high:g} exactly, as if each was rescaled by itself: then one threshold for "
            "all images means little, and pixel AUROC mixes what cannot be compared."
        )
