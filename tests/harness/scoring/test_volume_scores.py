"""Scores of volumes, against MONAI, surface-distance and panoptica, and against their definitions."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import surface_distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from sklearn.metrics import average_precision_score

import miasbench
from miasbench.harness.analysis.doubts import scores_against_volumes
from miasbench.harness.api import Case, Prediction
from miasbench.harness.cli import main
from miasbench.harness.config import ScoreConfig
from miasbench.harness.data.frame import Truth, frame_spacing
from miasbench.harness.scoring.cell_scores import score_cell
from miasbench.harness.scoring.masks import Lesions, MaskScores
from miasbench.harness.scoring.scanning import SplitTruths
from miasbench.results.metrics import metrics_of
from miasbench.results.predictions import StoredPrediction
from miasbench.results.record import Measurements
from miasbench.results.tables import IDENTITY, VOLUMES, CellTables

SPACING = (3.0, 0.7, 0.9)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),  # MONAI's own
    pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning"),  # surface-distance's own
]


def boxes(*places: Sequence[int], shape: tuple[int, int, int] = (10, 30, 32)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for z, y, x, depth, height, width in places:
        mask[z : z + depth, y : y + height, x : x + width] = True
    return mask


TRUTH = boxes((1, 2, 3, 3, 6, 8), (5, 15, 4, 2, 4, 4), (8, 20, 20, 2, 5, 5), (4, 21, 22, 1, 2, 2))
PREDICTED = boxes(
    (2, 3, 3, 3, 6, 8), (5, 17, 5, 2, 4, 4), (0, 25, 25, 2, 3, 3), (7, 5, 20, 1, 3, 4), (6, 14, 24, 1, 1, 1)
)


def tensor(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask[None, None].astype(np.float32))


def monai(predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> list[float]:
    """DICE, HD95, ASSD and NSD."""
    pair, told = (tensor(predicted), tensor(truth)), {"include_background": True, "spacing": list(spacing)}
    found = (
        compute_dice(*pair, include_background=True),
        compute_hausdorff_distance(*pair, percentile=95, **told),
        compute_average_surface_distance(*pair, symmetric=True, **told),
        compute_surface_dice(*pair, class_thresholds=[tolerance], **told),
    )
    return [one.item() for one in found]


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 0.9])), rng.random(shape) < 0.3


class TestOneVolume:
    @given(volumes(), st.sampled_from([(1.0, 1.0, 1.0), SPACING, (0.5, 2.0, 0.5)]), st.sampled_from([0.4, 1.1, 3.2]))
    @settings(max_examples=150)
    def test_is_scored_as_by_monai(
        self, content: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float, float], tolerance: float
    ) -> None:
        predicted, truth = content
        scores = MaskScores(predicted, Lesions(truth, spacing), tolerance)
        found = [scores.overlap.dice, scores.hd95_mm, scores.assd_mm, scores.nsd]
        if not truth.any():
            assert np.isnan(found).all()
        elif not predicted.any():
            diagonal = float(np.linalg.norm(np.array(truth.shape) * spacing))
            assert found == [0, pytest.approx(diagonal), pytest.approx(diagonal), 0]
        else:
            assert found == pytest.approx(monai(predicted, truth, spacing, tolerance), abs=1e-4)

    def test_of_many_lesions_is_scored_as_by_monai(self) -> None:
        scores = MaskScores(PREDICTED, Lesions(TRUTH, SPACING), 1.0)
        found = [scores.overlap.dice, scores.hd95_mm, scores.assd_mm, scores.nsd]
        assert found == pytest.approx(monai(PREDICTED, TRUTH, SPACING, 1.0), abs=1e-5)

    def test_agrees_with_surface_distance_where_surfaces_mean_the_same(self) -> None:
        """That package weights surfaces by their area, cut through the voxels' corners: its means are others."""
        theirs = surface_distance.compute_surface_distances(TRUTH, PREDICTED, SPACING)
        scores = MaskScores(PREDICTED, Lesions(TRUTH, SPACING))
        assert scores.overlap.dice == pytest.approx(surface_distance.compute_dice_coefficient(TRUTH, PREDICTED))
        ours = MaskScores(PREDICTED, Lesions(TRUTH, SPACING)).distances(in_mm=True)
        farthest = max(ours.to_truth.max(), ours.to_predicted.max())
        assert farthest == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 100))
        one, moved = boxes((2, 5, 5, 4, 9, 9)), boxes((4, 5, 5, 4, 9, 9))
        theirs = surface_distance.compute_surface_distances(one, moved, SPACING)
        scores = MaskScores(moved, Lesions(one, SPACING), 6.0)
        assert scores.hd95_mm == surface_distance.compute_robust_hausdorff(theirs, 95) == 6
        assert scores.nsd == surface_distance.compute_surface_dice_at_tolerance(theirs, 6.0) == 1

    def test_agrees_with_panoptica(self) -> None:
        """Numbers of panoptica 2.1.7, which needs a pandas that cannot be installed beside ours.

        Its ASSD is the mean of the two directions' means, its HD95 a percentile of both together.
        """
        scores = MaskScores(PREDICTED, Lesions(TRUTH, SPACING))
        assert scores.overlap.dice == pytest.approx(0.42105263157894735, abs=1e-12)
        assert (scores.lesions, scores.lesions_hit, scores.false_lesions) == (4, 2, 3), "its tp + fn, tp and fp"
        ours = MaskScores(PREDICTED, Lesions(TRUTH, SPACING)).distances(in_mm=True)
        both = np.concatenate([ours.to_truth, ours.to_predicted])
        means = (ours.to_truth.mean(dtype=float) + ours.to_predicted.mean()) / 2
        assert means == pytest.approx(3.200363880923483, abs=1e-6)
        assert np.percentile(both, 95) == pytest.approx(10.966925729780495, abs=1e-6)

    def test_corners_join_lesions_in_all_three_directions(self) -> None:
        truth = boxes((1, 1, 1, 2, 2, 2), (3, 3, 3, 2, 2, 2), (8, 20, 20, 1, 1, 1))
        assert Lesions(truth).count == 2

    def test_without_a_spacing_has_no_millimetres(self) -> None:
        scores = MaskScores(PREDICTED, Lesions(TRUTH))
        assert np.isnan([scores.hd95_mm, scores.assd_mm, scores.nsd, scores.truth_ml, scores.predicted_ml]).all()
        assert np.isfinite([scores.overlap.dice, scores.hd95, scores.false_lesions]).all()

    def test_has_so_many_millilitres(self) -> None:
        scores = MaskScores(PREDICTED, Lesions(TRUTH, SPACING))
        assert scores.truth_ml == pytest.approx(TRUTH.sum() * 3 * 0.7 * 0.9 / 1000)
        assert scores.predicted_ml == pytest.approx(PREDICTED.sum() * 3 * 0.7 * 0.9 / 1000)


class TestOneImage:
    @given(st.integers(0, 100), st.sampled_from([(0.5, 0.5), (0.4, 1.5)]))
    @settings(max_examples=30)
    def test_in_mm_is_scored_as_by_monai(self, seed: int, spacing: tuple[float, float]) -> None:
        rng = np.random.default_rng(seed)
        predicted, truth = rng.random((2, 12, 14)) < 0.3
        scores = MaskScores(predicted, Lesions(truth, spacing), 1.0)
        assert [scores.hd95_mm, scores.assd_mm, scores.nsd] == pytest.approx(
            monai(predicted, truth, spacing, 1.0)[1:], abs=1e-4
        )

    def test_in_the_frame_has_the_frames_spacing(self) -> None:
        assert frame_spacing((0.5, 0.25, 3.0), (200, 100), 50) == (2.0, 1.0)


def make_split(
    split: str, names: Sequence[str], seed: int, spacing: tuple[float, float, float] | None = SPACING
) -> tuple[SplitTruths, list[StoredPrediction]]:
    """Volumes of 6 slices, out of order, the fourth of which the dataset lacks; `n…` is normal, a patient has two."""
    rng = np.random.default_rng(seed)
    cases, masks, lesions, stored = [], [], [], []
    of_case = (spacing[1], spacing[2], spacing[0]) if spacing else None
    for number, (name, position) in enumerate(product(names, (5, 0, 2, 1, 4))):
        mask = np.zeros((16, 16), bool)
        if not name.startswith("n") and position in (1, 2, 4):
            top, left = rng.integers(0, 8, 2)
            mask[top : top + 6, left : left + 7] = True
        anomaly_map = (rng.random(mask.shape) + 0.6 * mask).astype(np.float32)
        label = int(mask.any())
        place = {"volume": name, "position": 7 + position, "spacing": of_case}
        cases.append(Case(f"{split}{number}", f"p{len(name)}", split, label, "", **place))  # type: ignore[arg-type]
        masks.append(Truth(mask, mask))
        lesions.append(Lesions(mask, spacing and spacing[1:]))
        stored.append(StoredPrediction(Prediction(anomaly_map, float(anomaly_map.max()), anomaly_map > 0.9), 0.0))
    whole = [np.s_[:, :]] * len(cases)
    return SplitTruths(cases, masks, lesions, whole, [""] * len(cases)), stored


def row_of(scores: pd.DataFrame, policy: str, metric: str) -> dict[str, Any]:
    (row,) = scores[(scores["policy"] == policy) & (scores["metric"] == metric)].to_dict("records")
    return {str(name): value for name, value in row.items()}


NAMES = ("a", "bb", "cc", "ddd", "n")


def scored(
    truths: SplitTruths, stored: list[StoredPrediction], lacking: Sequence[str] = (), **options: Any
) -> CellTables:
    valid, of_valid = make_split("valid", ("v", "w", "n"), 5)
    identity = dict.fromkeys(IDENTITY, "") | {"seed": 0, "size": 16, "transductive": False}
    splits, predictions = {"valid": valid, "test": truths}, {"valid": of_valid, "test": stored}
    return score_cell(identity, splits, predictions, ScoreConfig(**options), Measurements(), lacking)  # type: ignore[arg-type]


def whole(truths: SplitTruths, slices: Sequence[np.ndarray], name: str) -> np.ndarray:
    """A volume by its definition: its slices at their positions, and nothing where there is none."""
    volume = np.zeros((6, 16, 16), bool)
    for case, one in zip(truths.cases, slices, strict=True):
        if case.volume == name:
            volume[(case.position or 0) - 7] = one
    return volume


class TestACell:
    def test_has_a_row_for_each_volume_and_policy(self) -> None:
        truths, stored = make_split("test", NAMES, 1)
        tables = scored(truths, stored, fixed_threshold=0.8)
        volumes = tables.volumes
        assert list(volumes) == list(VOLUMES)
        policies = tables.cases["policy"].unique()
        assert sorted(zip(volumes["policy"], volumes["volume"], strict=True)) == sorted(product(policies, NAMES))
        assert set(volumes["slices"]) == {5}
        masks = [one.overlap for one in truths.masks]
        for policy, made in (
            ("own", [one.prediction.anomaly_map > 0.9 for one in stored]),
            ("fixed", [one.prediction.anomaly_map >= np.float32(0.8) for one in stored]),
        ):
            for row in volumes[volumes["policy"] == policy].to_dict("records"):
                truth, predicted = whole(truths, masks, row["volume"]), whole(truths, made, row["volume"])
                expected = MaskScores(predicted, Lesions(truth, SPACING))
                found = [row["volume_dice"], row["volume_hd95_mm"], row["volume_assd_mm"], row["volume_nsd"]]
                if truth.any():
                    assert found == pytest.approx(monai(predicted, truth, SPACING, 1.0), abs=1e-4)
                else:
                    assert np.isnan(found).all()
                assert row["volume_false_lesions"] == expected.false_lesions
                assert (row["lesions"], row["lesions_hit"]) == (expected.lesions, expected.lesions_hit)
                assert row["volume_error_ml"] == pytest.approx(abs(row["predicted_ml"] - row["truth_ml"]))
                assert row["label"] == truth.any()

    def test_has_scores_that_follow_from_the_volumes(self) -> None:
        truths, stored = make_split("test", NAMES, 2)
        tables = scored(truths, stored)
        scores, volumes = tables.scores, tables.volumes
        assert not list(scores_against_volumes(scores, volumes))
        assert list(scores_against_volumes(scores, volumes.assign(volume_dice=0.5)))
        own = volumes[volumes["policy"] == "own"].set_index("volume")
        row = row_of(scores, "own", "volume_dice")
        assert row["value"] == pytest.approx(own["volume_dice"].mean())
        assert (row["n"], row["patients"], row["level"]) == (4, 3, "volume")
        assert row["ci_low"] < row["value"] < row["ci_high"]
        recall = row_of(scores, "own", "volume_lesion_recall")["value"]
        assert recall == pytest.approx(own["lesions_hit"].sum() / own["lesions"].sum())
        precisions = []
        for name in "a", "bb", "cc", "ddd":
            places = [index for index, case in enumerate(truths.cases) if case.volume == name]
            labels = np.concatenate([truths.masks[index].overlap.ravel() for index in places])
            values = np.concatenate([stored[index].prediction.anomaly_map.ravel() for index in places])
            precisions.append(average_precision_score(labels, values))
        row = row_of(scores, "none", "volume_ap")
        assert row["value"] == pytest.approx(np.mean(precisions))
        assert own.loc["bb", "volume_ap"] == pytest.approx(precisions[1])

    def test_without_maps_has_masks_only(self) -> None:
        tables = scored(*make_split("test", NAMES, 1), lacking=["maps"])
        assert set(tables.volumes["policy"]) == {"own"}
        assert tables.volumes["volume_ap"].isna().all()
        assert tables.volumes["volume_dice"].notna().any()
        row = row_of(tables.scores, "none", "volume_ap")
        assert (row["n"], row["note"]) == (0, "left out: there are no anomaly maps")

    def test_says_how_volumes_were_scored(self) -> None:
        scores = scored(*make_split("test", NAMES, 1), surface_tolerance=2.5).scores
        told = scores.set_index(["policy", "metric"])["convention"]
        assert "tolerance 2.5 mm" in told["own", "volume_nsd"]
        of_volumes = scores.loc[scores["level"] == "volume", "convention"]
        assert of_volumes.str.contains("where one is missing between two, nothing is there").all()

    def test_nsd_grows_with_the_tolerance(self) -> None:
        split = make_split("test", NAMES, 1)
        values = [
            scored(*split, surface_tolerance=tolerance).scores.set_index(["policy", "metric"])["value"]
            for tolerance in (0.5, 2.0, 50.0)
        ]
        nsd = [one["own", "volume_nsd"] for one in values]
        assert nsd[0] < nsd[1] < nsd[2] == 1

    def test_without_spacing_has_no_rows_in_mm(self) -> None:
        scores = scored(*make_split("test", NAMES, 1, spacing=None)).scores
        in_mm = {one.name for one in metrics_of("mask") if one.unit in ("mm", "ml")} | {"volume_nsd"}
        assert not in_mm & set(scores["metric"])
        assert {"volume_dice", "volume_ap", "volume_lesion_recall"} <= set(scores["metric"])

    def test_without_volumes_has_none(self) -> None:
        truths, stored = make_split("test", NAMES, 1)
        cases = [replace(case, volume=None, position=None) for case in truths.cases]
        tables = scored(replace(truths, cases=cases), stored)
        assert tables.volumes.empty
        assert set(tables.scores["level"]) == {"image"}

    def test_leaves_out_volumes_that_cannot_be_put_together_and_says_so(self) -> None:
        truths, stored = make_split("test", NAMES, 1)
        cases = list(truths.cases)
        cases[0] = replace(cases[0], position=20210304)
        small = np.zeros((8, 16), bool)
        masks = [*truths.masks[:5], Truth(small, small), *truths.masks[6:]]
        stored[5] = StoredPrediction(Prediction(np.zeros((8, 16), np.float32), 0.0, small), 0.0)
        lesions = [Lesions(one.overlap, SPACING[1:]) for one in masks]
        tables = scored(replace(truths, cases=cases, masks=masks, lesions=lesions), stored)
        assert set(tables.volumes["volume"]) == {"cc", "ddd", "n"}
        (note,) = tables.scores.loc[tables.scores["level"] == "volume", "note"].unique()
        assert note == (
            "volumes left out: the positions of a go from 7 to 20210304, too far for a volume, the slices of bb differ "
            "in size"
        )


class TestPoliciesOfVolumes:
    def test_choose_the_threshold_with_the_largest_mean_dice_of_volumes(self) -> None:
        truths, stored = make_split("test", NAMES, 8)
        asked = ["valid_dice[level=volume]", "oracle_dice[level=volume]", "oracle_dice"]
        tables = scored(truths, stored, thresholds=asked)
        valid, of_valid = make_split("valid", ("v", "w", "n"), 5)
        chosen = tables.cases.drop_duplicates("policy").set_index("policy")["threshold"]
        for policy, split, predictions in (
            ("valid_dice[level=volume]", valid, of_valid),
            ("oracle_dice[level=volume]", truths, stored),
        ):
            maps = [one.prediction.anomaly_map for one in predictions]
            masks = [one.overlap for one in split.masks]
            names = sorted({str(case.volume) for case in split.cases} - {"n"})

            def mean_dice(threshold: float) -> float:
                made = [one >= threshold for one in maps]  # noqa: B023
                pairs = [(whole(split, made, name), whole(split, masks, name)) for name in names]  # noqa: B023
                return float(np.mean([2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs]))

            values = np.unique(np.concatenate([one.ravel() for one in maps]))
            best = max(values.tolist(), key=lambda threshold: (round(mean_dice(threshold), 12), threshold))
            assert chosen[policy] == best
        assert chosen["oracle_dice"] != chosen["oracle_dice[level=volume]"]
        by_volumes = row_of(tables.scores, "oracle_dice[level=volume]", "volume_dice")["value"]
        assert by_volumes > row_of(tables.scores, "oracle_dice", "volume_dice")["value"]
        told = row_of(tables.scores, "valid_dice[level=volume]", "dice")["convention"]
        assert "the largest mean DICE over anomalous validation volumes" in told

    def test_are_left_out_where_no_volume_is_known(self) -> None:
        truths, stored = make_split("test", NAMES, 1)
        cases = [replace(case, volume=None, position=None) for case in truths.cases]
        scores = scored(replace(truths, cases=cases), stored, thresholds=["oracle_dice[level=volume]"]).scores
        (note,) = scores.loc[scores["policy"] == "oracle_dice[level=volume]", "note"]
        assert note == "left out: the dataset does not say of any test image which volume it is a slice of"


TILTED = np.array([[-0.68, 0.12, 0.3, 40], [-0.1, -0.66, 1.1, 55], [0.11, -0.15, 2.86, -20], [0, 0, 0, 1]])
"""An oblique affine, stored to the left, posterior and superior."""


def test_from_nifti_volumes_to_a_table_that_agrees_with_monai(tmp_path: Path) -> None:
    """Oblique patients with voxels of three different sizes, at the slices' own size."""
    rng, size, labels = np.random.default_rng(0), 32, {}
    for patient in range(10):
        volume, mask = rng.normal(100, 10, (size, size, 8)).astype(np.float32), np.zeros((size, size, 8), np.uint8)
        mask[5 : 12 + patient % 3, 6:14, 2:6] = 1
        volume[mask > 0] += 40
        for kind, voxels in (("images", volume), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(voxels, TILTED), tmp_path / kind / f"p{patient}.nii.gz")
        labels[f"p{patient}"] = mask.astype(bool)
    folders = [str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--data-root", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        main(["data", "add", "tilted", *folders])
    assert not end.value.code
    run = miasbench.run(
        methods="intensity[sigma=0.5]",
        dataset="tilted",
        data_root=str(tmp_path),
        size=size,
        results=str(tmp_path / "results"),
        quiet=True,
        fixed_threshold=0.75,
        surface_tolerance=1.5,
    )
    spacing = tuple(np.linalg.norm(TILTED[:3, :3], axis=0).tolist())
    rows = run.volumes[run.volumes["policy"] == "fixed"]
    assert len(rows) == 3
    for row in rows.to_dict("records"):
        truth = labels[row["volume"]]
        predicted = np.zeros_like(truth)
        for case in run.predictions(method="intensity[sigma=0.5]"):
            if case.volume == row["volume"]:
                predicted[..., case.position] = turned_back(case.anomaly_map >= np.float32(0.75))
        found = [row["volume_dice"], row["volume_hd95_mm"], row["volume_assd_mm"], row["volume_nsd"]]
        assert found == pytest.approx(monai(predicted, truth, spacing, 1.5), abs=1e-3)
        assert row["truth_ml"] == pytest.approx(truth.sum() * np.prod(spacing) / 1000)
    assert isinstance(run.volumes, pd.DataFrame)


def turned_back(mask: np.ndarray) -> np.ndarray:
    """From a slice as it is seen, anterior above, to the volume's stored axes, left and posterior first."""
    return np.rot90(mask, -1)[::-1, ::-1]
