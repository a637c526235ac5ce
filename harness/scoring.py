"""From the stored predictions of a cell to its rows in the tables.

The test set's maps are passed over twice and never held together: once for what needs no threshold, and, when the
policies have chosen, once for the masks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ..results.store import StoredPrediction
from ..results.tables import CASES, CONVENTIONS, COSTS, CURVES, SCORES, CellTables, table
from . import registry
from .api import (
    BenchError,
    Case,
    Dataset,
    ImagePolicy,
    LabelledMaps,
    NormalsPolicy,
    OraclePolicy,
    Prediction,
    Split,
    ThresholdPolicy,
    UsageError,
    ValidationPolicy,
)
from .config import ScoreConfig
from .frame import MaskEdges, Truth, frame_mask
from .masks import Lesions, MaskScores, Overlap, lesion_size
from .metrics import DiceCurve, DiceTally, PixelRanking, PixelTally, Ranking, rank_pixels
from .statistics import PatientCurves, bootstrap_auroc, bootstrap_mean
from .thresholds import Fixed

NAN = float("nan")
NO_POLICY = {"policy": "none", "looks_at": "nothing", "oracle": False, "threshold": NAN}
OWN = {"policy": "own", "looks_at": "nothing", "oracle": False, "threshold": NAN}

EXACT_PIXELS = 2**26
"""So many test pixels are ranked exactly by default; where there are more, up to `BINNED_VALUES` different values."""
BINNED_VALUES = 2**21
BOOTSTRAP_THRESHOLDS = 256
CURVE_THRESHOLDS = 512


class ScoringError(BenchError):
    """A stored prediction that cannot be scored; the text names the case."""


@dataclass(frozen=True)
class SplitTruths:
    """The cases of a split with their lesion masks in the run's frame."""

    cases: Sequence[Case]
    masks: Sequence[Truth]
    lesions: Sequence[Lesions]

    @property
    def patients(self) -> list[str]:
        return [case.patient for case in self.cases]

    @property
    def labels(self) -> np.ndarray:
        return np.array([case.label for case in self.cases], int)


Truths = Mapping[Split, SplitTruths]
Predictions = Mapping[Split, Sequence[StoredPrediction]]


def load_truths(dataset: Dataset, splits: Sequence[Split], size: int, edges: MaskEdges) -> Truths:
    """Reads every lesion mask of the given splits."""
    truths = {}
    for split in splits:
        cases = dataset.cases(split)
        masks = [frame_mask(dataset.load(case).mask, size, edges) for case in cases]
        truths[split] = SplitTruths(cases, masks, [Lesions(mask.overlap) for mask in masks])
    return truths


def score_cell(
    identity: dict[str, Any],
    truths: Truths,
    predictions: Predictions,
    config: ScoreConfig,
    measured: Mapping[str, Any],
) -> CellTables:
    """Computes every threshold policy and metric of a cell.

    Args:
        identity: The columns that name the cell.
        truths: Cases and masks of the validation and the test split.
        predictions: Of the same cases, in the same order.
        config: How to score.
        measured: While the method ran: `fit_seconds`, `predict_ms`, `peak_memory_mib`, `peak_gpu_memory_mib`, and
            `diagnostics`, a list of mappings with the attributes of `Diagnostic`.

    Returns:
        The tables of the cell. A policy that has nothing to look at, or that fails, has one row of `scores`, without a
        value, whose note says why.

    Raises:
        ScoringError: A map holds NaN or infinity.
    """
    test, stored = truths["test"], predictions["test"]
    limit = _limit(config, test)
    scanned: dict[Split, _Scanned] = {split: _pass_over(truths[split], predictions[split], limit) for split in truths}
    decisions, left_out = _decide(config, truths["valid"], scanned)
    masks: list[list[MaskScores]] = [[] for _ in decisions]
    patients = _PatientTally(test.patients, scanned["test"].ranking)
    for index, (truth, lesions) in enumerate(zip(test.masks, test.lesions, strict=True)):
        prediction = stored[index].prediction
        patients.add(index, rank_pixels([prediction.anomaly_map], [truth.ranking]))
        for decision, of_policy in zip(decisions, masks, strict=True):
            of_policy.append(MaskScores.of(decision.mask("test", index, prediction), lesions))
    rows = _map_scores(test, stored, scanned["test"], patients)
    rows += [_score(NO_POLICY, name, measured[name], 1) for name in COSTS if name in measured]
    rows += [_diagnostic(**diagnostic) for diagnostic in measured.get("diagnostics", ())]
    rows += left_out
    cases: list[dict[str, Any]] = []
    dice = {decision.columns["policy"]: _dice(one) for decision, one in zip(decisions, masks, strict=True)}
    for decision, of_policy in zip(decisions, masks, strict=True):
        rows += _mask_scores(decision, test, of_policy, dice.get("oracle_dice"))
        rows.append(_valid_dice(decision, truths["valid"], predictions["valid"], scanned["valid"]))
        cases += _case_rows(decision, test, stored, scanned["test"], of_policy)
    curves = [row for split, one in scanned.items() for row in _curve_rows(split, one, decisions)]
    return CellTables(
        table([identity | row for row in cases], CASES),
        table([identity | row | {"error": ""} for row in rows], SCORES),
        table([identity | row for row in curves], CURVES),
    )


@dataclass(frozen=True)
class _Scanned(LabelledMaps):
    """What the first pass over a split's predictions leaves: everything that needs no threshold."""

    maps: Sequence[np.ndarray]
    truths: Sequence[np.ndarray]
    ranking: PixelRanking
    dice: DiceCurve
    images: list[dict[str, float]]
    own_masks: bool

    def best_dice(self) -> tuple[float, float]:
        return self.dice.best()

    def dice_at(self, thresholds: np.ndarray) -> np.ndarray:
        return self.dice.at(thresholds)

    def pixel_counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.ranking.thresholds, self.ranking.true_positives, self.ranking.false_positives


def _limit(config: ScoreConfig, test: SplitTruths) -> int | None:
    """How many different values are told apart; `None` for all of them."""
    if config.pixels == "auto":
        return BINNED_VALUES if sum(mask.ranking.size for mask in test.masks) > EXACT_PIXELS else None
    return BINNED_VALUES if config.pixels == "binned" else None


def _pass_over(truths: SplitTruths, stored: Sequence[StoredPrediction], limit: int | None) -> _Scanned:
    pixels, dice, images, own = PixelTally(limit), DiceTally(limit), [], 0
    for index, (case, truth) in enumerate(zip(truths.cases, truths.masks, strict=True)):
        prediction = stored[index].prediction
        try:
            pixels.add(prediction.anomaly_map, truth.ranking)
        except ValueError as error:
            raise ScoringError(f"The stored prediction of the case {case.id} ({case.split}): {error}.") from error
        dice.add(prediction.anomaly_map, truth.overlap)
        images.append(_of_image(prediction.anomaly_map, truth))
        own += prediction.mask is not None
    overlaps = [truth.overlap for truth in truths.masks]
    own_masks = bool(own) and own == len(images)
    return _Scanned(_Maps(stored), overlaps, pixels.ranking(), dice.curve(), images, own_masks)


def _of_image(anomaly_map: np.ndarray, truth: Truth) -> dict[str, float]:
    """What an image's map is worth by itself; nothing can be told of a normal image."""
    if not truth.ranking.any():
        return dict.fromkeys(("pixel_auroc", "pixel_ap", "aupro", "best_dice"), NAN)
    ranking = rank_pixels([anomaly_map], [truth.ranking])
    overlap = ranking if truth.overlap is truth.ranking else rank_pixels([anomaly_map], [truth.overlap])
    scores = {"pixel_auroc": ranking.auroc, "pixel_ap": ranking.average_precision, "aupro": ranking.aupro()}
    return scores | {"best_dice": overlap.best_f1()[1]}


@dataclass(frozen=True)
class _Decision:
    """A policy that has chosen: the columns that name it, and the threshold of each image; none for own masks."""

    columns: dict[str, Any]
    thresholds: Mapping[Split, Sequence[float]] | None

    def threshold(self, split: Split, index: int) -> float:
        return NAN if self.thresholds is None else self.thresholds[split][index]

    def mask(self, split: Split, index: int, prediction: Prediction) -> np.ndarray:
        if self.thresholds is None:
            return cast(np.ndarray, prediction.mask)
        return prediction.anomaly_map >= self.thresholds[split][index]


def _decide(
    config: ScoreConfig, valid: SplitTruths, scanned: Mapping[Split, _Scanned]
) -> tuple[list[_Decision], list[dict[str, Any]]]:
    """Lets every policy choose; those that cannot come back as rows of `scores` that say why. Oracles come last."""
    policies = registry.make_policies()
    if config.fixed_threshold is not None:
        policies["fixed"] = Fixed(config.fixed_threshold)
    decided = [_Decision(OWN, None)] if scanned["test"].own_masks else []
    left_out = []
    for name, policy in policies.items():
        columns = NO_POLICY | {"policy": name}
        try:
            if isinstance(policy, UsageError):
                raise policy
            columns |= {"looks_at": policy.looks_at, "oracle": policy.looks_at == "oracle"}
            thresholds = _choose(policy, valid, scanned)
        except BenchError as reason:
            left_out.append(_score(columns, "dice", NAN, 0) | {"note": f"left out: {reason}"})
        except Exception as error:  # a plugin's policy may raise anything; the scores of the others are not lost
            left_out.append(_score(columns, "dice", NAN, 0) | {"note": f"left out: {type(error).__name__}: {error}"})
        else:
            common = NAN if isinstance(policy, ImagePolicy) or not len(thresholds["test"]) else thresholds["test"][0]
            decided.append(_Decision(columns | {"threshold": common}, thresholds))
    return sorted(decided, key=lambda one: one.columns["oracle"]), left_out


def _choose(
    policy: ThresholdPolicy, valid: SplitTruths, scanned: Mapping[Split, _Scanned]
) -> Mapping[Split, Sequence[float]]:
    """Hands a policy what its type may see, and no more, and takes a threshold for each image."""
    match policy:
        case ImagePolicy():
            thresholds: dict[Split, list[float]] = {
                split: [float(policy.threshold(one)) for one in of_split.maps] for split, of_split in scanned.items()
            }
        case NormalsPolicy():
            normal = [one for one, case in zip(scanned["valid"].maps, valid.cases, strict=True) if not case.label]
            thresholds = _for_all(policy.threshold(normal), scanned)
        case ValidationPolicy():
            thresholds = _for_all(policy.threshold(scanned["valid"]), scanned)
        case OraclePolicy():
            thresholds = _for_all(policy.threshold(scanned["test"]), scanned)
        case Fixed():
            thresholds = _for_all(policy.value, scanned)
        case _:
            raise TypeError(f"{type(policy).__name__} does not say by its type what it looks at")
    if np.isnan(np.concatenate(list(thresholds.values()))).any():
        raise ValueError("it chose NaN as a threshold")
    return thresholds


def _for_all(threshold: float, scanned: Mapping[Split, _Scanned]) -> dict[Split, list[float]]:
    return {split: [float(threshold)] * len(one.images) for split, one in scanned.items()}


class _Maps(Sequence[np.ndarray]):
    """The anomaly maps of stored predictions, read when asked for."""

    def __init__(self, stored: Sequence[StoredPrediction]) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return self._stored[index].prediction.anomaly_map


class _PatientTally:
    """Adds up each patient's part of the pooled pixel curves, for their bootstrap."""

    def __init__(self, patients: Sequence[str], ranking: PixelRanking) -> None:
        names, self._index = np.unique(patients, return_inverse=True)
        self._thresholds = np.append(_spread(ranking, BOOTSTRAP_THRESHOLDS), -np.inf)
        shape = (len(names), len(self._thresholds))
        self._curves = PatientCurves(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(len(names)))

    def add(self, index: int, ranking: PixelRanking) -> None:
        """Adds an image, ranked by itself."""
        patient = self._index[index]
        true, false = ranking.at(self._thresholds)
        self._curves.true[patient] += true
        self._curves.false[patient] += false
        self._curves.overlap[patient] += ranking.regions * ranking.overlap_at(self._thresholds)
        self._curves.regions[patient] += ranking.regions

    def intervals(self, exact: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        return self._curves.intervals(exact)


def _spread(ranking: PixelRanking, count: int) -> np.ndarray:
    """So many thresholds at most, falling: half of them even steps in recall, half in the false-positive rate's log."""
    if not ranking.positives:
        return np.empty(0, np.float32)
    recall = np.searchsorted(ranking.true_positives, np.linspace(1, ranking.positives, count // 2))
    rates = np.searchsorted(ranking.false_positives, np.geomspace(1, max(ranking.negatives, 1), count // 2))
    chosen = np.unique(np.concatenate([recall, rates]))
    return ranking.thresholds[chosen[chosen < len(ranking.thresholds)]]


def _map_scores(
    test: SplitTruths, stored: Sequence[StoredPrediction], scanned: _Scanned, patients: _PatientTally
) -> list[dict[str, Any]]:
    """Scores that need no threshold; the best F1 is an oracle's."""
    ranking, bounds = scanned.ranking, scanned.ranking.error_bounds()
    values = {
        "pixel_auroc": (ranking.auroc, bounds.auroc),
        "pixel_ap": (ranking.average_precision, bounds.average_precision),
        "aupro": (ranking.aupro(), bounds.aupro),
        "best_f1": (ranking.best_f1()[1], bounds.best_f1),
    }
    intervals = patients.intervals({name: value for name, (value, _) in values.items()})
    rows = []
    for name, (value, bound) in values.items():
        row = _score(NO_POLICY, name, value, len(stored), intervals[name])
        rows.append(row | ({"note": f"binned: exact to {bound:.1e}"} if ranking.binned else {}))
    rows[-1] |= {"looks_at": "oracle", "oracle": True}
    scores, labels = np.array([one.prediction.image_score for one in stored]), test.labels == 1
    interval = bootstrap_auroc(scores, labels, test.patients)
    return [*rows, _score(NO_POLICY, "image_auroc", Ranking(scores, labels).auroc, len(stored), interval)]


def _mask_scores(
    decision: _Decision, test: SplitTruths, masks: Sequence[MaskScores], oracle: np.ndarray | None
) -> list[dict[str, Any]]:
    """A policy's scores, with intervals over patients.

    Args:
        decision: Of the policy.
        test: Cases and masks.
        masks: What was measured of the masks of the test images.
        oracle: Their DICE by `oracle_dice`, where there is one.
    """
    overlaps = [one.overlap for one in masks]
    dice, anomalous = _dice(masks), np.array([overlap.truth > 0 for overlap in overlaps], bool)
    sizes = np.array([lesion_size(overlap.truth, overlap.pixels) for overlap in overlaps])
    of_anomalous = {
        "iou": [overlap.iou for overlap in overlaps],
        "precision": [overlap.precision for overlap in overlaps],
        "recall": [overlap.recall for overlap in overlaps],
        "hd95_px": [one.hd95 for one in masks],
        "assd_px": [one.assd for one in masks],
    }
    values: dict[str, np.ndarray] = {"dice": dice}
    if oracle is not None and not decision.columns["oracle"]:
        values["regret"] = oracle - dice
    values |= {name: np.where(anomalous, value, NAN) for name, value in of_anomalous.items()}
    values["false_lesions"] = np.array([one.false_lesions for one in masks], float)
    values["normal_fp_area"] = np.where(test.labels == 0, [overlap.predicted_share for overlap in overlaps], NAN)
    values |= {f"dice_{size}": np.where(sizes == size, dice, NAN) for size in ("small", "medium", "large")}
    rows = [_mean(decision.columns, name, value, test.patients) for name, value in values.items()]
    # Each lesion counts the same: a case's share of hits, once for each of its lesions.
    lesions = np.array([one.lesions for one in masks], int)
    hits = np.repeat([one.lesions_hit / one.lesions if one.lesions else NAN for one in masks], lesions)
    rows.append(_mean(decision.columns, "lesion_recall", hits, np.repeat(test.patients, lesions).tolist()))
    rows.append(_score(decision.columns, "dice_pooled", Overlap.pooled(overlaps).dice, len(overlaps)))
    return rows


def _valid_dice(
    decision: _Decision, valid: SplitTruths, stored: Sequence[StoredPrediction], scanned: _Scanned
) -> dict[str, Any]:
    """The policy's DICE on the validation split."""
    anomalous = [index for index, truth in enumerate(valid.masks) if truth.overlap.any()]
    if not len(anomalous):
        return _score(decision.columns, "dice_valid", NAN, 0)
    if not np.isnan(decision.columns["threshold"]):
        dice = scanned.dice.at(decision.columns["threshold"])
        return _score(decision.columns, "dice_valid", float(dice), len(anomalous))
    masks = [decision.mask("valid", index, stored[index].prediction) for index in anomalous]
    dice = [Overlap.of(mask, valid.masks[index].overlap).dice for mask, index in zip(masks, anomalous, strict=True)]
    return _score(decision.columns, "dice_valid", float(np.mean(dice)), len(anomalous))


def _dice(masks: Sequence[MaskScores]) -> np.ndarray:
    return np.array([one.overlap.dice for one in masks], float)


def _mean(columns: dict[str, Any], metric: str, values: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    """A mean over what is not NaN, with its interval over patients."""
    kept = values[~np.isnan(values)]
    mean = float(kept.mean()) if len(kept) else NAN
    return _score(columns, metric, mean, len(kept), bootstrap_mean(values, patients))


def _score(
    columns: dict[str, Any], metric: str, value: float, n: int, interval: tuple[float, float] = (NAN, NAN)
) -> dict[str, Any]:
    return columns | {
        "metric": metric,
        "value": value,
        "ci_low": interval[0],
        "ci_high": interval[1],
        "n": n,
        "convention": CONVENTIONS.get(metric, ""),
        "note": "",
    }


def _diagnostic(metric: str, value: float, convention: str, note: str) -> dict[str, Any]:
    return _score(NO_POLICY, metric, value, 1) | {"convention": convention, "note": note}


def _case_rows(
    decision: _Decision,
    test: SplitTruths,
    stored: Sequence[StoredPrediction],
    scanned: _Scanned,
    masks: Sequence[MaskScores],
) -> Iterator[dict[str, Any]]:
    """A row for each test case."""
    for index, (case, one) in enumerate(zip(test.cases, masks, strict=True)):
        overlap, prediction = one.overlap, stored[index].prediction
        note = prediction.note
        if case.label and not overlap.truth:
            note = "; ".join(filter(None, [note, "the lesion vanishes at this size: left out of DICE"]))
        yield (
            decision.columns
            | scanned.images[index]
            | {
                "threshold": decision.threshold("test", index),
                "case": case.id,
                "patient": case.patient,
                "label": case.label,
                "dice": overlap.dice,
                "iou": overlap.iou,
                "precision": overlap.precision,
                "recall": overlap.recall,
                "hd95_px": one.hd95,
                "assd_px": one.assd,
                "lesion_size": lesion_size(overlap.truth, overlap.pixels),
                "lesions": one.lesions,
                "lesions_hit": one.lesions_hit,
                "false_lesions": one.false_lesions,
                "intersection_px": overlap.intersection,
                "predicted_px": overlap.predicted,
                "truth_px": overlap.truth,
                "image_px": overlap.pixels,
                "image_score": prediction.image_score,
                "predict_ms": 1000 * stored[index].seconds,
                "note": note,
            }
        )


def _curve_rows(split: Split, scanned: _Scanned, decisions: Sequence[_Decision]) -> list[dict[str, Any]]:
    """The split's curves at thresholds that show their course, and at those that policies have chosen."""
    ranking = scanned.ranking
    if not ranking.positives:
        return []
    chosen = [decision.columns["threshold"] for decision in decisions]
    best = scanned.dice.best()[0]
    marks = np.array([one for one in [*chosen, best] if np.isfinite(one)])
    thresholds = np.unique(np.concatenate([_spread(ranking, CURVE_THRESHOLDS).astype(float), marks]))[::-1]
    true, false = ranking.at(thresholds)
    columns = {
        "threshold": thresholds,
        "dice": scanned.dice.at(thresholds),
        "dice_pooled": 2 * true / (true + false + ranking.positives),
        "true_positive_rate": true / ranking.positives,
        "false_positive_rate": false / max(ranking.negatives, 1),
        "precision": np.divide(true, true + false, out=np.full(len(true), NAN), where=true + false > 0),
        "region_overlap": ranking.overlap_at(thresholds),
    }
    return [
        {"split": split} | dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
