"""The foreground of an image: the pixels that are of the body, and not the air around it.

A dataset's card says what it is: masks that come with the data, or a rule. It is found once for each image, in the
image's own pixels, and kept in the cache. What a frame pads an image with is never foreground.
"""

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes, binary_opening, maximum_filter, minimum_filter
from scipy.ndimage import label as connected_components
from skimage.filters import threshold_otsu

from ..api import SPLITS, BenchError, Case, DataError, Dataset, LazySequence, Progress, Split, as_grey
from ..cache import Cache, cache_key
from ..code_version import code_version
from ..registry import BUILT_IN, FOREGROUND_MASKS, foreground_entry, foreground_rule

ALL = "all"

_GAP = 0.03  # of the longer side: openings of the body's outline up to twice as wide are closed
_SMALLEST = 0.1  # of the largest component; what is smaller is the table, or noise


def whole(image: np.ndarray) -> np.ndarray:
    """All of the image: for OCT, histology, and what was cropped to the body."""
    return np.ones(image.shape, bool)


def otsu(image: np.ndarray) -> np.ndarray:
    """The body on dark air, for MRI and CT: Otsu's threshold (IEEE Trans. SMC 1979) of the logarithm of grey levels.

    The logarithm keeps dark tissue with bright tissue: without it, Otsu's threshold parts bones from organs. Specks and
    lines of up to two pixels go, openings in the outline are closed, components of at least a tenth of the largest one
    stay, and their holes are filled.

    Args:
        image: uint8 (H, W).

    Returns:
        bool (H, W); all of an image of one grey level.
    """
    grey = np.log1p(image.astype(np.float32))
    if grey.min() == grey.max():
        return whole(image)
    bright = grey > threshold_otsu(grey)
    opened = binary_opening(bright, np.ones((3, 3)))
    solid = binary_dilation(opened, np.ones((3, 3))) & bright if opened.any() else bright
    closed = _closed(solid, round(_GAP * max(image.shape)))
    labels, _ = cast("tuple[np.ndarray, int]", connected_components(closed, np.ones((3, 3))))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return cast(np.ndarray, binary_fill_holes((sizes >= max(1, _SMALLEST * sizes.max()))[labels]))


def rule_of(dataset: Dataset, asked: str) -> str:
    """The rule of a dataset's foreground: the one that is asked for, or its card's where that is `card`."""
    return dataset.card.foreground if asked == "card" else asked


def check_rule(rule: str) -> None:
    """Refuses a rule that there is none of.

    Args:
        rule: By `rule_of`.

    Raises:
        UsageError: The name is unknown, or the plugin behind it is broken.
    """
    if rule != FOREGROUND_MASKS:
        foreground_rule(rule)


class PackedMask:
    """A mask, bool (H, W), in an eighth of its memory."""

    def __init__(self, shape: tuple[int, int], bits: np.ndarray) -> None:
        self.shape, self.bits = shape, bits

    @classmethod
    def of(cls, mask: np.ndarray) -> "PackedMask":
        """Packs a mask."""
        height, width = mask.shape
        return cls((height, width), np.packbits(mask))

    def unpacked(self) -> np.ndarray:
        """The mask."""
        return np.unpackbits(self.bits, count=self.shape[0] * self.shape[1]).view(bool).reshape(self.shape)


def foregrounds(
    dataset: Dataset, split: Split, rule: str, progress: Progress = lambda *_: None
) -> Sequence[np.ndarray] | None:
    """The foregrounds of a split's cases, in their order, in the images' own pixels, bool (H, W) each.

    The first time every image is read; what was found is kept in the cache.

    Args:
        dataset: Its fingerprint is asked for.
        split: Which of its cases.
        rule: By `rule_of`.
        progress: Told how many cases are read.

    Returns:
        `None` where the foreground is all of every image.

    Raises:
        UsageError: There is no such rule, or the plugin behind it is broken.
        DataError: An image or a mask cannot be read, or a rule fails.
    """
    if rule == ALL:
        return None
    cases = dataset.cases(split)
    cache, key = Cache.from_environment(), _key(dataset, split, rule)
    packed = _kept(cache, key, len(cases)) if key else None
    if packed is None:
        packed = []
        for done, case in enumerate(cases, start=1):
            progress(f"finding the foreground of {dataset.name}", done, len(cases))
            packed.append(PackedMask.of(foreground_of(dataset, case, rule, dataset.load(case).image)))
        if key:
            _keep(cache, key, packed)
    return LazySequence(len(packed), lambda position: packed[position].unpacked())


@dataclass(frozen=True)
class LesionsCut:
    """How much of the lesions the foreground leaves out; its text says it in a sentence.

    Attributes:
        rule: The foreground's.
        lesions: Anomalous cases that have a lesion.
        shares: The share of the lesion pixels that is outside, of each of those cases where it is not 0, with where the
            image is.
        outside: The share of the lesion pixels of all cases that is outside.
    """

    rule: str
    lesions: int
    shares: list[tuple[float, str]]
    outside: float

    def __str__(self) -> str:
        if not self.shares:
            return f"The foreground ({self.rule}) holds all lesions."
        worst, image = max(self.shares)
        images = "1 image" if len(self.shares) == 1 else f"{len(self.shares):,} images"
        return (
            f"The foreground ({self.rule}) leaves out a part of the lesion in {images} of {self.lesions:,}, "
            f"{self.outside:.2%} of all lesion pixels; most in {image}, {worst:.2%}. Scores over the foreground do not "
            "see that part."
        )


def lesions_cut(dataset: Dataset, rule: str, progress: Progress = lambda *_: None) -> LesionsCut:
    """Holds every lesion mask against the foreground of its image; cases that cannot be read are left out.

    Args:
        dataset: All cases with a lesion are read, where the foreground is not all of the image.
        rule: By `rule_of`.
        progress: Told how many cases are read.

    Raises:
        UsageError: There is no such rule.
        DataError: The foreground of an image cannot be found.
    """
    cases = [case for split in SPLITS for case in dataset.cases(split) if case.mask and rule != ALL]
    shares, lesions, pixels, outside = [], 0, 0, 0
    for done, case in enumerate(cases, start=1):
        progress(f"finding the foreground of {dataset.name}", done, len(cases))
        try:
            image, mask = dataset.load(case)
        except DataError:  # which is told of elsewhere
            continue
        cut = np.count_nonzero(mask & ~foreground_of(dataset, case, rule, image))
        lesion = np.count_nonzero(mask)
        lesions, pixels, outside = lesions + bool(lesion), pixels + lesion, outside + cut
        if cut:
            shares.append((cut / lesion, case.image))
    return LesionsCut(rule, lesions, shares, outside / pixels if pixels else 0.0)


def foreground_of(dataset: Dataset, case: Case, rule: str, image: np.ndarray) -> np.ndarray:
    """The foreground of one case, bool (H, W), found anew.

    Args:
        dataset: It is asked for the mask, where the rule is that masks come with it.
        case: The case.
        rule: By `rule_of`.
        image: The image of the case.

    Raises:
        UsageError: There is no such rule, or the plugin behind it is broken.
        DataError: The mask cannot be read, or the rule fails.
    """
    where = f"The foreground of {case.image} by {rule}"
    if rule == FOREGROUND_MASKS:
        found = dataset.foreground(case)
        if found is None:
            raise DataError(f"{where} was asked for, but {dataset.name} brings no masks of it: name another rule.")
    else:
        function = foreground_rule(rule)
        try:
            found = function(as_grey(image))
        except Exception as error:  # a plugin may raise anything
            raise DataError(f"{where} cannot be found: {type(error).__name__}: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype != bool or found.shape != image.shape[:2]:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise DataError(f"{where} is {what}; it should be bool {image.shape[:2]}, as the image.")
    return found


def _key(dataset: Dataset, split: Split, rule: str) -> str:
    """The cache's key; empty where the dataset is broken, or where a plugin's code may change unseen."""
    if rule != FOREGROUND_MASKS and foreground_entry(rule).distribution != BUILT_IN:
        return ""
    with suppress(BenchError):
        code = code_version((), dataset.name).encode() + Path(__file__).read_bytes()
        ids = (case.id for case in dataset.cases(split))
        return cache_key("foregrounds", rule, code, dataset.fingerprint, split, *ids)
    return ""


def _kept(cache: Cache, key: str, count: int) -> list[PackedMask] | None:
    path = cache.find(key)
    if path is None:
        return None
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path, allow_pickle=False) as arrays:
        shapes = [(int(height), int(width)) for height, width in arrays["shapes"]]
        ends = np.cumsum([0, *((height * width + 7) // 8 for height, width in shapes)])
        bits = arrays["bits"]
        if len(shapes) == count and ends[-1] == len(bits):
            return [
                PackedMask(shape, bits[start:end]) for shape, start, end in zip(shapes, ends, ends[1:], strict=False)
            ]
    return None


def _keep(cache: Cache, key: str, packed: Sequence[PackedMask]) -> None:
    shapes = np.array([one.shape for one in packed], int).reshape(-1, 2)
    bits = np.concatenate([np.empty(0, np.uint8), *(one.bits for one in packed)])

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, shapes=shapes, bits=bits)

    cache.store(key, bits.nbytes, write)


def _closed(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask with its gaps closed by a square; beyond the image is nothing."""
    side = 2 * radius + 1
    grown = maximum_filter(np.pad(mask, radius), side)
    middle = slice(radius, -radius or None)
    return minimum_filter(grown, side, mode="nearest")[middle, middle]
