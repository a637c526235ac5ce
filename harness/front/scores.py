"""The metrics of the tables for arrays, without a run."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any, Literal

import numpy as np
import pandas as pd

from ...results.metrics import metrics_of
from ...results.predictions import StoredPrediction
from ...results.record import Measurements
from ...results.tables import IDENTITY
from ..api import Case, Prediction, Split, UsageError
from ..config import make_score_config
from ..data.frame import Truth
from ..registry import check_policies
from ..scoring.cell_scores import score_cell
from ..scoring.masks import Lesions
from ..scoring.post import check_chains
from ..scoring.scanning import SplitTruths

_WHOLE = np.s_[:, :]
_KINDS: dict[Split, str] = {"valid": "Validation", "test": "Test"}
_WHERE: dict[Split, str] = {"valid": "of the validation images", "test": "of the test images"}


def score(
    maps: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    *,
    patients: Sequence[str] | None = None,
    image_scores: Sequence[float] | None = None,
    masks: Sequence[np.ndarray] | None = None,
    foregrounds: Sequence[np.ndarray] | None = None,
    valid_maps: Sequence[np.ndarray] = (),
    valid_truths: Sequence[np.ndarray] = (),
    valid_patients: Sequence[str] | None = None,
    valid_foregrounds: Sequence[np.ndarray] | None = None,
    thresholds: str | Sequence[str] = "all",
    fixed_threshold: float | None = None,
    post: str | Sequence[str] = (),
    pixels: Literal["auto", "exact", "binned"] = "auto",
) -> pd.DataFrame:
    """Scores anomaly maps as a run does, with the same code and so with the same numbers.

    An image is anomalous if its truth has a lesion.

    Args:
        maps: Anomaly maps of the test images, each float (H, W), higher is more anomalous; sizes may differ. They are
            compared as float32, as a run does.
        truths: Where the lesions are, each bool (H, W), of the same sizes; an image without one is normal.
        patients: Patient of each test image; intervals take images of one patient together. By default each image is of
            another patient.
        image_scores: Score of each test image, higher is more anomalous; without them there is no image AUROC. Their
            calibration needs scores of validation images too, and is not computed here.
        masks: Segmentations of the test images that the method made itself, each bool (H, W); scored as policy `own`.
        foregrounds: The pixels of the test images that are of the body, each bool (H, W); by default all of them.
        valid_maps: Anomaly maps of validation images, on which policies choose thresholds. Without them the policies
            that need them are left out, and their rows say so.
        valid_truths: Lesion masks of the validation images.
        valid_patients: Patient of each validation image, for policies that count patients; by default each image is of
            another patient.
        valid_foregrounds: The foregrounds of the validation images.
        thresholds: Threshold policies, each `name` or `name[option=value,…]`; a text may hold several, with commas.
            `all` is every one with its defaults.
        fixed_threshold: Also score the masks at this threshold, as policy `fixed`.
        post: Chain of post-processing, such as `median[size=5],fill_holes`, or several, each a text of its own. Masks
            are scored with each of them and without.
        pixels: Whether map values are rounded where there are many; see `bench score --help`.

    Returns:
        A row for each threshold policy and metric: `policy`, `looks_at`, `oracle`, `threshold`, `metric`, `value`,
        `ci_low`, `ci_high`, `n`, `patients`, `convention` and `note`, as docs/scores.md explains them.

    Raises:
        UsageError: There are no maps; numbers, sizes or types of the arrays do not fit; a map or an image score is NaN
            or infinite; a patient has no name; or an option is wrong.

    Examples:
        >>> scores = miasbench.score(maps, truths, patients=patients, valid_maps=..., valid_truths=...)
        >>> scores[scores["metric"] == "dice"][["policy", "value", "ci_low", "ci_high"]]
    """
    options = {
        "thresholds": thresholds,
        "fixed_threshold": fixed_threshold,
        "post": post if isinstance(post, str) else list(post),
        "pixels": pixels,
    }
    config = make_score_config(options, "in score()")
    check_policies(config.thresholds)
    check_chains(config.post)
    maps, truths = _listed("maps", maps), _listed("truths", truths)
    if not maps:
        raise UsageError("There are no maps to score: `maps` is empty.")
    valid_maps, valid_truths = _listed("valid_maps", valid_maps), _listed("valid_truths", valid_truths)
    patients = None if patients is None else _listed("patients", patients)
    valid_patients = None if valid_patients is None else _listed("valid_patients", valid_patients)
    image_scores = None if image_scores is None else _listed("image_scores", image_scores)
    masks = None if masks is None else _listed("masks", masks)
    splits: dict[Split, SplitTruths] = {
        "valid": _truths("valid", valid_maps, valid_truths, valid_patients, valid_foregrounds),
        "test": _truths("test", maps, truths, patients, foregrounds),
    }
    predictions: dict[Split, Sequence[StoredPrediction]] = {
        "valid": _predictions("valid", valid_maps, None, None),
        "test": _predictions("test", maps, image_scores, masks),
    }
    identity = dict.fromkeys(IDENTITY, "") | {"seed": 0, "size": 0, "transductive": False}
    scores = score_cell(identity, splits, predictions, config, Measurements()).scores
    # Validation images have no scores here, from which the others of image scores would be calibrated.
    without = {one.name for one in metrics_of("image") if image_scores is None or one.name != "image_auroc"}
    kept = scores[~scores["metric"].isin(without)]
    return kept.drop(columns=[*IDENTITY, "error"]).reset_index(drop=True)


def _truths(
    split: Split,
    maps: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    patients: Sequence[str] | None,
    foregrounds: Sequence[np.ndarray] | None,
) -> SplitTruths:
    """Cases of one split, numbered in order."""
    where = _WHERE[split]
    if len(truths) != len(maps):
        raise UsageError(f"There are {len(maps)} maps and {len(truths)} truths {where}: each map needs its truth.")
    if patients is not None and len(patients) != len(maps):
        raise UsageError(f"There are {len(maps)} maps and {len(patients)} patients {where}: name the patient of each.")
    cases, framed = [], []
    for index, (anomaly_map, truth) in enumerate(zip(maps, truths, strict=True)):
        mask = np.asarray(truth)
        if mask.dtype != bool or mask.shape != np.shape(anomaly_map) or mask.ndim != 2:
            raise UsageError(
                f"Truth {index} {where} is {mask.dtype} {mask.shape} and its map {np.shape(anomaly_map)}: both should "
                "be (H, W), and the truth bool, such as `labels > 0`."
            )
        patient = str(index) if patients is None else _patient(patients[index], f"{_KINDS[split]} image {index}")
        cases.append(Case(f"{index:06d}", patient, split, int(mask.any()), "", "" if mask.any() else None))
        framed.append(Truth(mask, mask))
    lesions = [Lesions(truth.overlap) for truth in framed]
    inside = None if foregrounds is None else _foregrounds(split, maps, foregrounds)
    rule = "all" if inside is None else "as given"
    whole, notes = [_WHOLE] * len(cases), [""] * len(cases)
    return SplitTruths(cases, framed, lesions, whole, notes, foregrounds=inside, foreground=rule)


def _foregrounds(split: Split, maps: Sequence[np.ndarray], given: Sequence[np.ndarray]) -> list[np.ndarray]:
    foregrounds, where = _listed("foregrounds", given), _WHERE[split]
    if len(foregrounds) != len(maps):
        raise UsageError(f"There are {len(maps)} maps and {len(foregrounds)} foregrounds {where}: each map needs one.")
    inside = [np.asarray(one) for one in foregrounds]
    for index, (one, anomaly_map) in enumerate(zip(inside, maps, strict=True)):
        if one.dtype != bool or one.shape != np.shape(anomaly_map):
            raise UsageError(
                f"Foreground {index} {where} is {one.dtype} {one.shape}, it should be bool {np.shape(anomaly_map)}, as "
                "its map."
            )
    return inside


def _predictions(
    split: Split,
    maps: Sequence[np.ndarray],
    image_scores: Sequence[float] | None,
    masks: Sequence[np.ndarray] | None,
) -> list[StoredPrediction]:
    for name, given in (("image scores", image_scores), ("masks", masks)):
        if given is not None and len(given) != len(maps):
            raise UsageError(f"There are {len(maps)} maps and {len(given)} {name} {_WHERE[split]}.")
    stored = []
    for index, values in enumerate(maps):
        given_map = np.asarray(values)
        if given_map.dtype.kind not in "biuf":
            raise UsageError(f"Map {index} {_WHERE[split]} is {given_map.dtype}: it should hold real numbers.")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which is refused below
            anomaly_map = given_map.astype(np.float32)
        if not np.isfinite(anomaly_map).all():
            raise UsageError(
                f"Map {index} {_WHERE[split]} holds NaN, infinity or a number too large for float32, which cannot be "
                "ranked."
            )
        mask = None if masks is None else np.asarray(masks[index])
        if mask is not None and (mask.dtype != bool or mask.shape != anomaly_map.shape):
            raise UsageError(
                f"Mask {index} is {mask.dtype} {mask.shape}, it should be bool {anomaly_map.shape}, as its map."
            )
        image_score = 0.0 if image_scores is None else _image_score(image_scores[index], index)
        stored.append(StoredPrediction(Prediction(anomaly_map, image_score, mask), float("nan")))
    return stored


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"`{name}` should be a sequence, with one item for each image; it is {given!r}.")
    return list(given)


def _patient(given: Any, image: str) -> str:
    # What pandas has for an empty field is NaN: as a name it would make one patient of many.
    if given is None or given != given or not str(given).strip():
        raise UsageError(f"{image} has no patient: it is {given!r}. Leave `patients` out if none is known.")
    return str(given)


def _image_score(given: Any, index: int) -> float:
    try:
        number = float(given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Image score {index} is {given!r}: it should be a number.") from error
    if not isfinite(number):
        raise UsageError(f"Image score {index} is {number}, which cannot be ranked.")
    return number
