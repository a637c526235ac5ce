"""The contracts that datasets, methods and threshold policies keep.

This is the ground floor: it imports no other room of the project and no torch, so that listing what exists stays fast
and so that a plugin needs nothing but this module.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, overload

import numpy as np

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)` during long work; a total of 0 means that nobody knows."""


Item = TypeVar("Item", covariant=True)


class LazySequence(Sequence[Item]):
    """A sequence whose items are read when they are asked for, each time anew. A slice of it is as lazy.

    Args:
        count: How many items there are.
        read: Reads the item at a position, 0 to `count - 1`.

    Examples:
        >>> squares = LazySequence(4, lambda position: position**2)
        >>> squares[-1], list(squares[1:3])
        (9, [1, 4])
    """

    def __init__(self, count: int, read: Callable[[int], Item]) -> None:
        self._positions = range(count)
        self._read = read

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "LazySequence[Item]": ...
    def __getitem__(self, index: int | slice) -> "Item | LazySequence[Item]":
        if isinstance(index, slice):
            positions = self._positions[index]
            return LazySequence(len(positions), lambda position: self._read(positions[position]))
        return self._read(self._positions[index])

    def many(self, positions: Sequence[int]) -> list[Item]:
        """The items at these positions, in their order; a run reads several images at once, by threads."""
        return [self[position] for position in positions]


class BenchError(Exception):
    """A problem that the user can mend; its text says what is wrong, where, and what to do."""


class UsageError(BenchError):
    """A wrong name, option or value."""


class DataError(BenchError):
    """A dataset that is missing or broken; the text names the folder or file."""


class BrokenDatasetError(DataError):
    """A dataset with several problems.

    Attributes:
        problems: Each with the file or folder it is about; the text may tell the first ones only.
        dataset: The part of the dataset that can be read all the same.
    """

    def __init__(self, text: str, problems: Sequence[str], dataset: "Dataset") -> None:
        super().__init__(text)
        self.problems = tuple(problems)
        self.dataset = dataset


class WeightsError(BenchError):
    """Model weights that are absent, or that are not the file they should be."""


class PolicyUnavailableError(BenchError):
    """A threshold policy that this dataset gives nothing to look at; the text says what is missing."""


@dataclass(frozen=True)
class Case:
    """One image of a dataset, and where it and its lesion mask are.

    Attributes:
        id: Unique within its split; for files the name without its ending.
        patient: Images of one patient are not independent: intervals resample patients.
        split: `train` holds normal images only; thresholds may be chosen on `valid`, nothing on `test`.
        label: 0 for a normal image, 1 for an anomalous one.
        image: Where the image is: a path, or any text that the dataset understands.
        mask: Where the lesion mask is; `None` for a normal image, whose mask is empty.
        volume: The volume, or the stack of chosen slices, that the image is a slice of; unique within its split.
        position: The slice's number in its volume. Those of neighbouring slices differ by 1.
        spacing: The distances in mm between two rows of the image, between two columns, and between two slices that
            are neighbours in the volume.
    """

    id: str
    patient: str
    split: Split
    label: int
    image: str
    mask: str | None = None
    volume: str | None = None
    position: int | None = None
    spacing: tuple[float, float, float] | None = None


class Sample(NamedTuple):
    """The pixels of a case.

    Attributes:
        image: uint8 (H, W), or RGB, (H, W, 3), where the dataset's card says so.
        mask: bool (H, W), true where there is a lesion.
    """

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Card:
    """The facts about a dataset that a reader needs: where it comes from, its licence, how it is cited.

    Attributes:
        annotation: `mask`, or `image` where anomalous images have a label only: then no mask and no pixel is scored.
        lesion: The values that mean lesion in mask files, where the card says so; `any` is every one above 0.
        bits: How many bits of images of more than 8 mean something, where the card says so.
        volumes: How slices were made of volumes: window, labels, spacing, who is in which split, and what was left out.
        stack: Whether a volume is a stack of slices that somebody chose, and not all slices of a scan.
        intensity: The values that become black and white, where the card says so.
        percentiles: The percentiles of the training images' pixels that do, where the card says so.
        foreground: Which pixels of an image are of the body: `all`; `otsu`, or another rule by its name, see
            `registry.FOREGROUNDS`; or `masks`, where `Dataset.foreground` has them.
        channels: Whether images are grey or RGB, all of them.
    """

    name: str
    title: str
    modality: str
    origin: str
    licence: str
    citation: str
    counts: dict[str, int] | None = None
    annotation: Literal["mask", "image"] = "mask"
    lesion: tuple[int, ...] | Literal["any"] | None = None
    bits: int | None = None
    volumes: dict[str, Any] | None = None
    stack: bool = False
    intensity: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    foreground: str = "all"
    channels: Literal["grey", "rgb"] = "grey"


class VolumeGrid(ABC):
    """The voxels of a volume that was cut into slices: where in it each slice lies.

    Attributes:
        slice_shape: Rows and columns of a slice, as `Dataset.load` returns it.
    """

    @property
    @abstractmethod
    def slice_shape(self) -> tuple[int, int]: ...

    @abstractmethod
    def to_image(self, slices: Mapping[int, np.ndarray], empty: float = 0) -> Any:
        """Puts slices back onto the volume's grid.

        Args:
            slices: By their position in the volume, (H, W) each, in the slice's own pixels: masks, bool, which become
                uint8, or maps of any numbers.
            empty: The value of the slices that are not given, such as those that were left out of the dataset.

        Returns:
            A `nibabel.Nifti1Image` with the shape and the placement (affine, forms and their codes) of the source.

        Raises:
            DataError: A slice has another size, or the volume has no such position.
        """

    @abstractmethod
    def to_slices(self, voxels: np.ndarray, affine: np.ndarray | None = None) -> dict[int, np.ndarray]:
        """Cuts voxels on the volume's grid as the volume was cut.

        Args:
            voxels: The shape of the volume, its axes stored in the volume's order, or in that which the affine says.
            affine: Where the voxels lie, (4, 4), from their indices to mm towards right, anterior and superior. `None`
                takes them for stored as the volume's are. It is not looked at where the volume's own file says nothing
                of the place of its voxels.

        Returns:
            Slices (H, W) by their position: those of the dataset, without those that were left out.

        Raises:
            DataError: The shape is another one, or the voxels lie elsewhere; the text has both.
        """


class Dataset(ABC):
    """Images with lesion masks in three splits.

    Attributes:
        name: Short, used in tables.
        card: Origin, licence and citation.
        of_files: Whether images and masks are files that people made: then a run looks at all of them once, for what
            is odd about them and concerns a number; and several threads may call `load` at the same time.
        guesses_patients: Whether patients are read off the names of files by rule of thumb, because nobody said who
            they are. Then a low number, as in `train/good/000.png`, is not taken for a patient's.
    """

    name: str
    card: Card
    of_files: bool = False
    guesses_patients: bool = False

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash (hex) that changes when any image, mask, label or split changes."""

    @abstractmethod
    def cases(self, split: Split) -> Sequence[Case]:
        """The cases of a split, in an order that does not change from call to call."""

    @abstractmethod
    def load(self, case: Case) -> Sample:
        """Reads one case.

        Raises:
            DataError: A file is missing, damaged, or its mask has another size.
        """

    def grid(self, volume: str) -> VolumeGrid | None:
        """The grid of a volume, by `Case.volume`; `None` where it is not known, as for images that never were one."""
        return None

    def foreground(self, case: Case) -> np.ndarray | None:
        """The pixels of a case that are of the body, bool (H, W), where masks of it come with the data.

        It is asked for where the card's `foreground` is `masks`.

        Raises:
            DataError: The mask is missing, damaged, or has another size than the image.
        """
        return None

    def notes(self) -> tuple[str, ...]:
        """Facts about these images that can change a score, one or two sentences each, for the user to read.

        Examples are files that are not used, and how images of 16 bits become 8. A run prints the notes and keeps them;
        `bench data verify` prints them too.
        """
        return ()


@dataclass(frozen=True)
class Prediction:
    """A method's prediction for one image.

    Attributes:
        anomaly_map: float32 (S, S), the height and width of the image; higher is more anomalous; any finite range.
        image_score: Higher is more anomalous.
        mask: bool (S, S), where the method makes a segmentation without a threshold; otherwise `None`.
        note: A remark on this image in the results, such as why a mask is empty.
        prompts: Points (x, y) and boxes (x0, y0, x1, y1), in pixels of the image, that the mask was made from.
            They are drawn where the mask is shown.
    """

    anomaly_map: np.ndarray
    image_score: float
    mask: np.ndarray | None = None
    note: str = ""
    prompts: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Weights:
    """A file of model weights that a method uses.

    Attributes:
        name: Such as `sam_vit_b`.
        kind: `published` (the paper's), `embedded` (small, from a Python package) or `random`.
        sha256: Checksum of the file, 64 hexadecimal digits; for random weights, the name of their generator.
    """

    name: str
    kind: Literal["published", "embedded", "random"]
    sha256: str


@dataclass(frozen=True)
class Diagnostic:
    """A value that a method measured about itself while it was fitted, such as the recall of an approximate index.

    Attributes:
        metric: A name that no metric of the harness has, such as `index_recall`.
        value: NaN where it could not be measured.
        convention: How exactly it was measured, in a few words.
        note: A detail, such as the index that was used.
    """

    metric: str
    value: float
    convention: str
    note: str = ""


def as_grey(image: np.ndarray) -> np.ndarray:
    """Turns an RGB image to grey, by the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B.

    Args:
        image: uint8 or uint16 (H, W, 3); one that is grey already, (H, W), is returned as it is.

    Returns:
        (H, W) of the same type; of uint8, the very values that Pillow's `convert("L")` gives.
    """
    if image.ndim == 2:
        return image
    weighted = image.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)  # of 65,536, as Pillow has them
    return ((weighted + 2**15) >> 16).astype(image.dtype)


class Method(ABC):
    """A way to find anomalies, fitted on normal images only.

    A subclass is a keyword-only dataclass: its fields are the method's options, and their annotations and defaults are
    what `--set NAME.OPTION=VALUE` checks. A constructor does no work that takes time; `weights_used` fetches and
    verifies.

    A field that is annotated `Method` takes another method, given by its spec as in `sam_refine[base=patchcore]`, which
    has the same weights, device and seed. Hand `progress` on to it, take over its `saved_seconds`, and add its
    `weights_used`; a method is `stochastic` if the one inside it is.

    Attributes:
        spec: The text that asked for it, `name` or `name[option=value,…]`.
        weights: `published` or `embedded`: which set of pretrained weights to use, where a method has a choice.
        device: A torch device such as `cpu` or `cuda`; decided by the runner.
        seed: Seed of everything random in the method.
        progress: Called as `progress(stage, done, total)` during long work, to move the progress bar.
        saved_seconds: A counter. A method that keeps work on disk raises it by the seconds that a hit spared, as
            measured when the work was done, and lowers it by those that keeping took. The runner adds it to the times
            it reports, which are what the method costs.
        uses_weights: The sets of weights the method knows; empty when it uses none.
        lacks_weights: Why it does not know the other one, as the end of a sentence that begins with its name.
        colour: Whether it takes RGB images. Then it gets those of an RGB dataset as uint8 (S, S, 3), and those of
            others as (S, S). A method that does not say so always gets (S, S), made by `as_grey`.
        batches: Whether `predict_many` predicts `batch` images at a time, so that the first of them takes the time of
            all. The runner then divides that time among them.
        batch: How many images that is, decided by the runner: what fits on a GPU, and a single one on the CPU.
    """

    spec: str = ""
    weights: str = "published"
    device: str = "cpu"
    seed: int = 0
    progress: Progress = staticmethod(lambda stage, done, total: None)
    saved_seconds: float = 0.0
    uses_weights: ClassVar[tuple[str, ...]] = ()
    lacks_weights: ClassVar[str] = ""
    colour: ClassVar[bool] = False
    batches: ClassVar[bool] = False
    batch: int = 1

    @property
    def report(self) -> Progress:
        """Deprecated: the name of `progress` in version 0.1.0. It works in 0.2, and 0.3 does without it."""
        return self.progress

    @report.setter
    def report(self, progress: Progress) -> None:
        self.progress = progress

    @property
    def transductive(self) -> bool:
        """Whether a prediction depends on other test images.

        Then `predict_many` gets a whole split at once, and every row of the results is marked.
        """
        return False

    @property
    def stochastic(self) -> bool:
        """Whether predictions depend on the seed.

        Where they do not, in any digit, a run with several seeds runs the method once, with the first of them.
        """
        return True

    def controls(self) -> tuple[str, ...]:
        """Methods that belong beside this one, each `name` or `name[option=value,…]`.

        They show what its scores owe to a part of it: how far, for example, SAM's decoder comes without an anomaly map.
        A run adds them behind the methods that were asked for.
        """
        return ()

    def weights_used(self) -> tuple[Weights, ...]:
        """The weight files this method will load, fetched where needed and verified.

        Raises:
            WeightsError: A file cannot be fetched, or is not what it should be.
        """
        return ()

    @abstractmethod
    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Learns from normal images, each uint8 (S, S), read from disk each time they are asked for.

        Of an RGB dataset, they are (S, S, 3) if the method's class says `colour = True`. Every image a method sees has
        been padded with zeros to a square and resized to the run's size, 256 by default.
        """

    @abstractmethod
    def predict(self, image: np.ndarray) -> Prediction:
        """Says where an image, uint8 as those in `fit`, is anomalous."""

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        """Predicts images in order; override it where batches help or where the whole split is needed."""
        return (self.predict(image) for image in images)

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Values that the method measured about itself; called once, after `fit`."""
        return ()

    def options(self) -> dict[str, Any]:
        """The method's full configuration: every option with its value, and that of a method inside it likewise."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} if is_dataclass(self) else {}
        return {
            name: {"method": value.spec, **value.options()} if isinstance(value, Method) else value
            for name, value in values.items()
        }


class LabelledMaps(ABC):
    """Anomaly maps of a split with their lesion masks, and the curves that follow from them, computed once for all.

    Attributes:
        maps: float32 (H, W) each, the image's own rectangle in the frame, without padding; their shapes differ where
            those of the images do. In the order of the cases, read when asked for.
        truths: bool (H, W) each.
    """

    maps: Sequence[np.ndarray]
    truths: Sequence[np.ndarray]

    @property
    def volumes(self) -> "LabelledMaps":
        """The same split, where an image is a volume: maps and truths (D, H, W), the slices of each one on the other.

        Raises:
            PolicyUnavailableError: Nobody knows which volumes the images are slices of.
        """
        raise PolicyUnavailableError("the dataset does not say which volume an image is a slice of")

    @abstractmethod
    def best_dice(self) -> tuple[float, float]:
        """The highest threshold of the largest mean DICE over images with a lesion, and that DICE; NaN without any."""

    @abstractmethod
    def dice_at(self, thresholds: np.ndarray) -> np.ndarray:
        """Mean DICE over images with a lesion at any thresholds, float64 of the same shape."""

    @abstractmethod
    def pixel_counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values of lesion pixels, falling, and how many lesion and normal pixels of all images reach each."""


class NormalImage(NamedTuple):
    """What a `ForegroundPolicy` sees of a normal image.

    Attributes:
        values: The anomaly map in the foreground, float32 (N,).
        patient: Whose image it is: images of one patient are not independent.
    """

    values: np.ndarray
    patient: str


class Promise(NamedTuple):
    """What a threshold policy says of normal images that it has not seen: a metric is at most a rate.

    Attributes:
        metric: A metric of the masks of normal images, such as `normal_fpr`.
        rate: 0 to 1.
    """

    metric: str
    rate: float


@dataclass(frozen=True)
class ThresholdPolicy(ABC):
    """A way to choose a threshold; a pixel is anomalous where `map >= threshold`.

    Thresholds are rounded up to the next float32, once, so that the comparison means the same everywhere.

    A policy derives from one of the six types below, which say what it may look at: it is handed that and nothing
    else. It is a frozen dataclass whose fields have defaults. They are its options, as in `normal_quantile[q=0.95]`.

    Attributes:
        name: Its name in the results where it was given no options.
        looks_at: The data that it may see.
    """

    name: ClassVar[str]
    looks_at: ClassVar[Literal["normals", "validation", "image", "normals and image", "oracle", "nothing"]]

    @property
    def convention(self) -> str:
        """How exactly it chooses, in a few words, for every row of the results."""
        return ""

    @property
    def promise(self) -> Promise | None:
        """What it promises of normal images; scores hold it against those of the test set."""
        return None


class NormalsPolicy(ThresholdPolicy):
    """Looks at maps of normal images that the method was not fitted on: the normal part of the validation split."""

    looks_at = "normals"

    @abstractmethod
    def threshold(self, normal_maps: Sequence[np.ndarray]) -> float:
        """The threshold for all test images, given maps, float32 (H, W), that are read when asked for.

        Raises:
            PolicyUnavailableError: There is no normal image.
        """


class ForegroundPolicy(ThresholdPolicy):
    """Looks at the foreground of maps of normal images that the method was not fitted on, and whose each one is.

    They are those of the validation split.
    """

    looks_at = "normals"

    @abstractmethod
    def threshold(self, images: Sequence[NormalImage]) -> float:
        """The threshold for all test images, given the foreground pixels of normal ones.

        Raises:
            PolicyUnavailableError: There is no normal image, or there are too few.
        """

    def seen(self, images: Sequence[NormalImage]) -> str:
        """What the threshold stands on, in a few words, behind the convention in every row of the results."""
        patients = len({one.patient for one in images})
        pixels = sum(len(one.values) for one in images)
        return f"saw {len(images)} normal validation images of {patients} patients, {pixels:,} foreground pixels"


class ValidationPolicy(ThresholdPolicy):
    """Looks at maps and masks of the validation split."""

    looks_at = "validation"

    @abstractmethod
    def threshold(self, labelled: LabelledMaps) -> float:
        """The threshold for all test images.

        Raises:
            PolicyUnavailableError: There is no lesion.
        """


class ImagePolicy(ThresholdPolicy):
    """Looks at the map of the very image it decides on."""

    looks_at = "image"

    @abstractmethod
    def threshold(self, anomaly_map: np.ndarray) -> float:
        """The threshold for this image, given its map, float32 (H, W)."""


class CalibratedPolicy(ThresholdPolicy):
    """Looks at the map of the very image it decides on, and before that at maps of others; at no masks."""

    looks_at = "normals and image"

    @property
    def reference(self) -> Literal["normals", "test_set"]:
        """Whose maps `calibrate` is given: those of normal validation images, or all of the test set.

        With the test set a mask depends on other test images: the policy is transductive, and its rows say so.
        """
        return "normals"

    @abstractmethod
    def calibrate(self, maps: Sequence[np.ndarray]) -> ImagePolicy:
        """The policy for each image, given one map or more, float32 (H, W) each, that are read when asked for."""


class OraclePolicy(ThresholdPolicy):
    """Looks at the masks of the test split: an upper bound, never a result."""

    looks_at = "oracle"

    @abstractmethod
    def threshold(self, labelled: LabelledMaps) -> float:
        """The threshold for all test images.

        Raises:
            PolicyUnavailableError: There is no lesion.
        """
