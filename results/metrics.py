"""Every metric of the harness, once: what all tables, reports, gates and pages know of it.

A metric is its entry here and its function in `harness/scoring/functions.py`. Any other metric in the tables of a run
is a diagnostic, which a method reported of itself.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

MetricKind = Literal["mask", "map", "image", "cost"]
Direction = Literal["higher", "lower", "neither"]
Images = Literal["anomalous", "normal", "all"]
Edges = Literal["lesion", "normal"]
Level = Literal["image", "volume"]

_EDGES = {"nearest": "masks by nearest pixel centre", "paper": "masks resized bilinearly, grey edges are"}
_PADDING = {"exclude": "padding left out", "count": "padding counted"}
_SAME = "left out where all of each image is foreground"
_SILENCE = "mean over anomalous images; nothing predicted scores"
_SURFACES = "surface pixels have a 4-neighbour outside, as beyond the image's edge is"
_VOXELS = "surface voxels have a 6-neighbour outside, as beyond the volume's edge is"
_SILENT_VOLUME = "mean over anomalous volumes; nothing predicted scores"
_SLICES = "volumes of the slices that the dataset has; where one is missing between two, nothing is there"
_MATCHED = "8-connected lesions of all test images, normal ones too, matched where their IoU is above 0.5"
_PLATT = "by Platt's map of image scores, fitted on the validation split's labels"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The facts about a metric that tables, reports and the gate read.

    Attributes:
        name: In the column `metric` of `scores`.
        title: The heading of its column in tables for readers, with its unit.
        kind: The data that it is computed from: the masks of each threshold policy, the pixels of all anomaly maps,
            or the image scores; or it is a cost.
        convention: How it is computed, in a few words.
        direction: Whether the higher or the lower value is better; methods are never ranked by `neither`.
        unit: The unit of its values; empty where they are shares or counts.
        digits: Decimals in tables for readers.
        range: The smallest and the largest value that it can have; no interval goes beyond.
        level: Whether it scores each image by itself, or each volume, all its slices together.
        images: The images, or volumes, that the mean of a `mask` metric is over.
        edges: How the grey edges of masks count with `--mask-edges paper`.
        collapsed: Its value for a method that has collapsed: one that gives every pixel and every image the same
            score, and no masks. Where that depends on the data, a value safely below.
        interval: Whether it has a 95 % interval over patients.
        per_case: Whether `cases` has a column of its name, with its value for each image; `volumes`, for each volume.
        paired: Whether `bench compare` takes its difference image by image: it is a mean over images that are the same
            for every method.
        gated: Whether a baseline can hold it.
        shown: Whether it is a column of the tables that `bench run` and `bench report` make.
        headline: Whether `bench compare` shows it without `--all`.
        oracle: Whether it is chosen on the test set's own masks: an upper bound, never a result.
        tolerant: Whether surfaces that are no farther apart than a tolerance count as the same.
        foreground: Whether it is of the pixels of the foreground only.
    """

    name: str
    title: str
    kind: MetricKind
    convention: str
    direction: Direction = "higher"
    unit: str = ""
    digits: int = 3
    range: tuple[float, float] = (0.0, 1.0)
    level: Level = "image"
    images: Images = "all"
    edges: Edges = "lesion"
    collapsed: float = 0.0
    interval: bool = True
    per_case: bool = False
    paired: bool = False
    gated: bool = False
    shown: bool = False
    headline: bool = False
    oracle: bool = False
    tolerant: bool = False
    foreground: bool = False

    @property
    def needs_spacing(self) -> bool:
        """Whether it has values only where the spacing of pixels, in mm, is known."""
        return self.unit in ("mm", "ml") or self.tolerant

    def convention_of(self, mask_edges: str, padding: str, tolerance: float, foreground: str) -> str:
        """How it is computed, with what the way of scoring adds to it: the column `convention` of `scores`.

        Args:
            mask_edges: `nearest` or `paper`.
            padding: `exclude` or `count`.
            tolerance: In mm.
            foreground: How the foreground is found.
        """
        parts = [self.convention]
        if self.tolerant:
            parts.append(f"tolerance {tolerance:g} mm")
        if self.foreground:
            parts.append(f"foreground: {foreground}")
        if self.level == "volume":
            parts.append(_SLICES)
        if self.kind in ("mask", "map"):
            parts.append(pixels_scored(mask_edges, "exclude" if self.foreground else padding, self.edges))
        if self.kind == "mask" and self.interval:
            parts.append("interval over the patients that have a value")
        return "; ".join(parts)


def pixels_scored(mask_edges: str, padding: str, edges: str) -> str:
    """Which pixels are scored, and against which masks, in words.

    Args:
        mask_edges: `nearest` or `paper`.
        padding: `exclude` or `count`.
        edges: How grey edges count.
    """
    resized = f"{_EDGES[mask_edges]} {edges}" if mask_edges == "paper" else _EDGES[mask_edges]
    return f"{resized}; {_PADDING[padding]}"


def metrics_of(*kinds: MetricKind, level: Level | None = None) -> list[Metric]:
    """The metrics of some kinds, and of one level or of both, in the order to show them."""
    return [one for one in METRICS.values() if one.kind in kinds and level in (None, one.level)]


_ALL = (
    Metric(
        name="dice",
        title="DICE",
        kind="mask",
        convention=f"{_SILENCE} 0; normal images are left out",
        images="anomalous",
        per_case=True,
        paired=True,
        gated=True,
        shown=True,
        headline=True,
    ),
    Metric(
        name="iou",
        title="IoU",
        kind="mask",
        convention=f"{_SILENCE} 0; normal images are left out",
        images="anomalous",
        per_case=True,
        paired=True,
        gated=True,
        shown=True,
    ),
    Metric(
        name="boundary_iou",
        title="boundary IoU",
        kind="mask",
        convention="IoU of both masks' inner borders, which are 2 % of the image's diagonal wide (Cheng et al. 2021); "
        f"{_SILENCE} 0",
        images="anomalous",
        per_case=True,
        paired=True,
        gated=True,
    ),
    Metric(
        name="precision",
        title="precision",
        kind="mask",
        convention="mean over anomalous images on which something is predicted",
        images="anomalous",
        per_case=True,
        gated=True,
        shown=True,
    ),
    Metric(
        name="recall",
        title="recall",
        kind="mask",
        convention=f"{_SILENCE} 0; normal images are left out",
        images="anomalous",
        per_case=True,
        paired=True,
        gated=True,
        shown=True,
    ),
    Metric(
        name="hd95_px",
        title="HD95 px",
        kind="mask",
        convention=f"the larger of the two directions' 95th percentiles of surface distances, pixels; {_SURFACES}; "
        f"{_SILENCE} the image's diagonal",
        direction="lower",
        unit="pixels",
        digits=1,
        range=(0.0, inf),
        images="anomalous",
        per_case=True,
        paired=True,
        shown=True,
    ),
    Metric(
        name="assd_px",
        title="ASSD px",
        kind="mask",
        convention=f"mean surface distance, both surfaces pooled, pixels; {_SURFACES}; {_SILENCE} the image's diagonal",
        direction="lower",
        unit="pixels",
        digits=1,
        range=(0.0, inf),
        images="anomalous",
        per_case=True,
        paired=True,
        shown=True,
    ),
    Metric(
        name="hd95_mm",
        title="HD95 mm",
        kind="mask",
        convention=f"the larger of the two directions' 95th percentiles of surface distances, mm; {_SURFACES}; "
        f"{_SILENCE} the image's diagonal",
        direction="lower",
        unit="mm",
        digits=1,
        range=(0.0, inf),
        images="anomalous",
        per_case=True,
        paired=True,
        shown=True,
    ),
    Metric(
        name="assd_mm",
        title="ASSD mm",
        kind="mask",
        convention=f"mean surface distance, both surfaces pooled, mm; {_SURFACES}; {_SILENCE} the image's diagonal",
        direction="lower",
        unit="mm",
        digits=2,
        range=(0.0, inf),
        images="anomalous",
        per_case=True,
        paired=True,
        shown=True,
    ),
    Metric(
        name="lesion_recall",
        title="lesion recall",
        kind="mask",
        convention="share of all 8-connected lesions that one predicted pixel or more touches",
        images="anomalous",
        gated=True,
        shown=True,
    ),
    Metric(
        name="false_lesions",
        title="false lesions",
        kind="mask",
        convention="8-connected predicted components without a lesion pixel, per image, normal ones too",
        direction="lower",
        digits=2,
        range=(0.0, inf),
        shown=True,
    ),
    Metric(
        name="lesion_f1",
        title="lesion F1",
        kind="mask",
        convention=f"2 TP / (2 TP + FP + FN) over {_MATCHED}",
        gated=True,
    ),
    Metric(
        name="panoptic_quality",
        title="panoptic quality",
        kind="mask",
        convention=f"summed IoU of the matches / (TP + FP / 2 + FN / 2) over {_MATCHED} (Kirillov et al. 2019)",
        gated=True,
    ),
    Metric(
        name="normal_fp_area",
        title="normal FP area",
        kind="mask",
        convention="mean predicted share of the image over normal images",
        direction="lower",
        images="normal",
    ),
    Metric(
        name="normal_fpr",
        title="normal FPR",
        kind="mask",
        convention="share of the foreground pixels of all normal images that are predicted",
        direction="lower",
        images="normal",
        foreground=True,
    ),
    Metric(
        name="normal_fp_area_foreground",
        title="normal FP area, body",
        kind="mask",
        convention="mean predicted share of the foreground over normal images",
        direction="lower",
        images="normal",
        foreground=True,
    ),
    Metric(
        name="normal_image_fpr",
        title="normal image FPR",
        kind="mask",
        convention="share of the normal images on which a foreground pixel is predicted; interval of Korn and Graubard",
        direction="lower",
        images="normal",
        foreground=True,
    ),
    Metric(
        name="dice_small",
        title="DICE small",
        kind="mask",
        convention="DICE where lesions cover less than 0.5 % of the image",
        images="anomalous",
        gated=True,
    ),
    Metric(
        name="dice_medium",
        title="DICE medium",
        kind="mask",
        convention="DICE where lesions cover 0.5 to 2 % of the image",
        images="anomalous",
        gated=True,
    ),
    Metric(
        name="dice_large",
        title="DICE large",
        kind="mask",
        convention="DICE where lesions cover more than 2 % of the image",
        images="anomalous",
        gated=True,
    ),
    Metric(
        name="dice_pooled",
        title="pooled DICE",
        kind="mask",
        convention="all pixels of all test images as one",
        interval=False,
        gated=True,
    ),
    Metric(
        name="dice_valid",
        title="DICE valid",
        kind="mask",
        convention="DICE of the validation split's anomalous images, with the same threshold",
        images="anomalous",
        interval=False,
    ),
    Metric(
        name="dice_cv",
        title="DICE cross-validated",
        kind="mask",
        convention="of valid_dice: DICE of the validation split's anomalous images, or volumes, each at the threshold "
        "chosen without the patients of its fold; five folds, or as many as there are patients with a lesion",
        images="anomalous",
        interval=False,
    ),
    Metric(
        name="dice_cv_std",
        title="DICE CV SD",
        kind="mask",
        convention="standard deviation over these folds of a fold's mean DICE",
        direction="lower",
        images="anomalous",
        interval=False,
    ),
    Metric(
        name="threshold_cv_std",
        title="threshold CV SD",
        kind="mask",
        convention="standard deviation over these folds of the threshold chosen without each, in the map's own units",
        direction="lower",
        range=(0.0, inf),
        images="anomalous",
        interval=False,
    ),
    Metric(
        name="regret",
        title="regret",
        kind="mask",
        convention="oracle_dice's DICE minus this policy's, on test: what not knowing the masks has cost",
        direction="lower",
        range=(-1.0, 1.0),
        images="anomalous",
    ),
    Metric(
        name="volume_dice",
        title="volume DICE",
        kind="mask",
        convention=f"{_SILENT_VOLUME} 0; all slices of a volume as one, those without a lesion too",
        level="volume",
        images="anomalous",
        per_case=True,
        gated=True,
        shown=True,
    ),
    Metric(
        name="volume_hd95_mm",
        title="volume HD95 mm",
        kind="mask",
        convention=f"the larger of the two directions' 95th percentiles of surface distances, mm; {_VOXELS}; "
        f"{_SILENT_VOLUME} the volume's diagonal",
        direction="lower",
        unit="mm",
        digits=1,
        range=(0.0, inf),
        level="volume",
        images="anomalous",
        per_case=True,
        shown=True,
    ),
    Metric(
        name="volume_assd_mm",
        title="volume ASSD mm",
        kind="mask",
        convention=f"mean surface distance, both surfaces pooled, mm; {_VOXELS}; {_SILENT_VOLUME} the volume's "
        "diagonal",
        direction="lower",
        unit="mm",
        digits=2,
        range=(0.0, inf),
        level="volume",
        images="anomalous",
        per_case=True,
        shown=True,
    ),
    Metric(
        name="volume_nsd",
        title="volume NSD",
        kind="mask",
        convention=f"share of both surfaces' voxels that are no farther than the tolerance from the other surface; "
        f"{_VOXELS}; {_SILENT_VOLUME} 0",
        level="volume",
        images="anomalous",
        per_case=True,
        gated=True,
        shown=True,
        tolerant=True,
    ),
    Metric(
        name="volume_lesion_recall",
        title="3-D lesion recall",
        kind="mask",
        convention="share of all 26-connected lesions that one predicted voxel or more touches",
        level="volume",
        images="anomalous",
        gated=True,
        shown=True,
    ),
    Metric(
        name="volume_false_lesions",
        title="3-D false lesions",
        kind="mask",
        convention="26-connected predicted components without a lesion voxel, per volume, normal ones too",
        direction="lower",
        digits=2,
        range=(0.0, inf),
        level="volume",
        per_case=True,
        shown=True,
    ),
    Metric(
        name="volume_error_ml",
        title="volume error ml",
        kind="mask",
        convention="mean difference, without its sign, between the predicted and the true lesion volume, over all "
        "volumes",
        direction="lower",
        unit="ml",
        digits=2,
        range=(0.0, inf),
        level="volume",
        per_case=True,
        shown=True,
    ),
    Metric(
        name="pixel_auroc",
        title="pixel AUROC",
        kind="map",
        convention="all pixels of all test images",
        edges="normal",
        collapsed=0.5,
        gated=True,
        shown=True,
        headline=True,
    ),
    Metric(
        name="pixel_ap",
        title="pixel AP",
        kind="map",
        convention="all pixels of all test images, steps without interpolation",
        edges="normal",
        # The share of lesion pixels, in truth, which is seldom known.
        collapsed=0.0,
        gated=True,
        shown=True,
    ),
    Metric(
        name="aupro",
        title="AUPRO",
        kind="map",
        convention="8-connected lesions, false-positive rate up to 0.3, divided by 0.3",
        edges="normal",
        collapsed=0.15,
        gated=True,
        shown=True,
    ),
    Metric(
        name="aupimo",
        title="AUPIMO",
        kind="map",
        convention="an image's recall, averaged over the log of normal test images' mean false-positive rate, 1e-5 to "
        "1e-4; mean over anomalous images; interval with the normal images held",
        edges="normal",
        images="anomalous",
        per_case=True,
        gated=True,
    ),
    Metric(
        name="pixel_auroc_foreground",
        title="AUROC, body",
        kind="map",
        convention=f"pixels of the foreground of all test images; {_SAME}",
        edges="normal",
        collapsed=0.5,
        shown=True,
        foreground=True,
    ),
    Metric(
        name="pixel_ap_foreground",
        title="AP, body",
        kind="map",
        convention=f"pixels of the foreground of all test images, steps without interpolation; {_SAME}",
        edges="normal",
        foreground=True,
    ),
    Metric(
        name="aupro_foreground",
        title="AUPRO, body",
        kind="map",
        convention=f"pixels of the foreground, 8-connected parts of lesions in it, false-positive rate up to 0.3, "
        f"divided by 0.3; {_SAME}",
        edges="normal",
        collapsed=0.15,
        foreground=True,
    ),
    Metric(
        name="sensitivity_at_fpr",
        title="sensitivity at 1 % FPR",
        kind="map",
        convention="share of all lesion pixels above the lowest threshold at which no more than 1 % of the foreground "
        "pixels of normal test images are; interval with that threshold held",
        edges="normal",
        images="anomalous",
        gated=True,
        foreground=True,
    ),
    Metric(
        name="volume_ap",
        title="volume AP",
        kind="map",
        convention="average precision of each volume's voxels, without interpolation; mean over anomalous volumes",
        edges="normal",
        level="volume",
        images="anomalous",
        per_case=True,
        gated=True,
        shown=True,
    ),
    Metric(
        name="best_f1",
        title="best F1",
        kind="map",
        convention="the highest DICE of all pixels of all test images as one, at any threshold",
        oracle=True,
    ),
    Metric(
        name="image_auroc",
        title="image AUROC",
        kind="image",
        convention="image scores of all test images",
        collapsed=0.5,
        gated=True,
        shown=True,
        headline=True,
    ),
    Metric(
        name="image_brier",
        title="image Brier",
        kind="image",
        convention=f"mean squared difference between label and probability, {_PLATT}",
        direction="lower",
    ),
    Metric(
        name="image_ece",
        title="image ECE",
        kind="image",
        convention=f"expected calibration error, 10 bins of equal width; probability {_PLATT}",
        direction="lower",
        interval=False,
    ),
    Metric(
        name="fit_seconds",
        title="fit s",
        kind="cost",
        convention="without the time for reading images; with the time that a cache saved",
        direction="neither",
        unit="seconds",
        digits=1,
        range=(0.0, inf),
        interval=False,
        shown=True,
    ),
    Metric(
        name="predict_ms",
        title="ms/image",
        kind="cost",
        convention="median over test images after a warm-up, mean if transductive; of a batch, its time over its "
        "images; reading and scoring left out; with the time that a cache saved",
        direction="neither",
        unit="milliseconds",
        digits=0,
        range=(0.0, inf),
        interval=False,
        shown=True,
        headline=True,
    ),
    Metric(
        name="calibration_ms",
        title="calibration ms",
        kind="cost",
        convention="a fixed convolution, matrix product and Gaussian filter on this machine: the quickest of many",
        direction="neither",
        unit="milliseconds",
        digits=1,
        range=(0.0, inf),
        interval=False,
    ),
    Metric(
        name="peak_memory_mib",
        title="peak MiB",
        kind="cost",
        convention="largest resident memory of the process while the cell ran",
        direction="neither",
        unit="MiB",
        digits=0,
        range=(0.0, inf),
        interval=False,
        shown=True,
    ),
    Metric(
        name="peak_gpu_memory_mib",
        title="peak GPU MiB",
        kind="cost",
        convention="largest memory that torch allocated on the GPU",
        direction="neither",
        unit="MiB",
        digits=0,
        range=(0.0, inf),
        interval=False,
    ),
)

METRICS = {one.name: one for one in _ALL}
"""Every metric by its name, in the order to show them."""
