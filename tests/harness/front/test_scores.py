"""Scores of plain arrays are those of a run, to the last digit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import miasbench
from miasbench import UsageError
from miasbench.harness.data.foreground import foregrounds as foregrounds_of
from miasbench.harness.running.planning import open_datasets

from ...support.running import config, run


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("method", ["intensity", "scripted"])
def test_they_are_those_of_a_run(tmp_path: Path, method: str) -> None:
    store, _ = run(tmp_path, method)
    (dataset,) = open_datasets(config(tmp_path)).values()
    cell = store.cell(store.read().cells[0].name)
    given = {}
    for split in ("valid", "test"):
        cases = dataset.cases(split)
        stored = [cell.read_prediction(split, case.id).prediction for case in cases]
        given[split] = (stored, [dataset.load(case).mask for case in cases], [case.patient for case in cases])
    (valid, valid_truths, valid_patients), (test, truths, patients) = given["valid"], given["test"]
    masks = [one.mask for one in test]
    foregrounds = {split: foregrounds_of(dataset, split, "otsu") for split in ("valid", "test")}
    found = miasbench.score(
        [one.anomaly_map for one in test],
        truths,
        patients=patients,
        image_scores=[one.image_score for one in test],
        masks=None if masks[0] is None else masks,
        foregrounds=foregrounds["test"],
        valid_maps=[one.anomaly_map for one in valid],
        valid_truths=valid_truths,
        valid_patients=valid_patients,
        valid_foregrounds=foregrounds["valid"],
    )
    found["convention"] = found["convention"].str.replace("foreground: as given", "foreground: otsu")
    expected = store.scores()
    expected = expected[expected["metric"].isin(found["metric"]) & (expected["metric"] != "dice_valid")]
    found = found[found["metric"] != "dice_valid"]  # of own masks, which the validation images have none of here
    assert {"pixel_auroc", "pixel_auroc_foreground", "image_auroc", "dice", "aupro", "hd95_px"} <= set(found["metric"])
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected[list(found)].reset_index(drop=True))


def test_without_validation_images_policies_say_what_they_lack() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((4, 8, 8))
    truths = np.zeros((4, 8, 8), bool)
    truths[:2, 2:5, 2:5] = True
    scores = miasbench.score(list(maps), list(truths)).set_index(["policy", "metric"])
    assert pd.isna(scores["value"][("valid_dice", "dice")])
    assert "left out" in str(scores["note"][("valid_dice", "dice")])
    assert scores["patients"][("none", "pixel_auroc")] > 1
    assert "image_auroc" not in scores.index.get_level_values("metric")


def test_several_policies_of_one_kind_stand_beside_each_other() -> None:
    maps, truths = list(np.random.default_rng(1).random((4, 8, 8))), [np.eye(8, dtype=bool)] * 4
    normal = {"valid_maps": maps[:2], "valid_truths": [np.zeros((8, 8), bool)] * 2}
    asked = ["normal_quantile[q=0.5]", "normal_quantile[q=0.9]", "fixed[value=0.5]", "fixed[value=0.6]"]
    scores = miasbench.score(maps, truths, thresholds=asked, **normal)
    rows = scores[scores["metric"] == "dice"].set_index("policy")
    assert list(rows.index) == asked
    pixels = np.sort(np.asarray(maps[:2], np.float32).ravel())
    assert rows["threshold"].tolist() == [pixels[64], pixels[115], 0.5, np.float32(0.6)]
    assert "0.5 quantile" in rows["convention"][asked[0]]
    assert "0.9 quantile" in rows["convention"][asked[1]]
    text = miasbench.score(maps, truths, thresholds=", ".join(asked), **normal)
    pd.testing.assert_frame_equal(text, scores)


def test_a_foreground_that_does_not_fit_is_told() -> None:
    with pytest.raises(UsageError, match="2 maps and 1 foregrounds of the test images"):
        miasbench.score([MAP, MAP], [TRUTH, TRUTH], foregrounds=[TRUTH])
    with pytest.raises(UsageError, match=r"Foreground 0 of the validation images is uint8 \(4, 4\), it should be bool"):
        normal = {"valid_maps": [MAP], "valid_truths": [TRUTH]}
        miasbench.score([MAP], [TRUTH], **normal, valid_foregrounds=[TRUTH.astype(np.uint8)])


MAP, TRUTH = np.zeros((4, 4), np.float32), np.eye(4, dtype=bool)


def test_arrays_may_come_one_by_one() -> None:
    maps, truths = list(np.random.default_rng(2).random((4, 4, 4))), [TRUTH] * 4
    one_by_one: dict[str, Any] = {"maps": iter(maps), "truths": iter(truths), "patients": iter("aabb")}
    expected = miasbench.score(maps, truths, patients=list("aabb"))
    pd.testing.assert_frame_equal(miasbench.score(**one_by_one), expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([MAP, MAP], [TRUTH]), "There are 2 maps and 1 truths of the test images"),
        (([MAP], [TRUTH.astype(int)]), r"Truth 0 of the test images is int64 \(4, 4\).*labels > 0"),
        (([MAP], [TRUTH[:3]]), r"Truth 0 of the test images is bool \(3, 4\) and its map \(4, 4\)"),
        (([MAP], [TRUTH], {"patients": ["a", "b"]}), "There are 1 maps and 2 patients"),
        (([MAP], [TRUTH], {"image_scores": [1, 2]}), "There are 1 maps and 2 image scores"),
        (([MAP], [TRUTH], {"masks": [MAP]}), r"Mask 0 is float32 \(4, 4\), it should be bool"),
        (([MAP], [TRUTH], {"valid_maps": [MAP]}), "There are 1 maps and 0 truths of the validation images"),
        (([MAP * np.nan], [TRUTH]), "Map 0 of the test images holds NaN"),
        (([], []), "There are no maps to score"),
        ((None, None), "`maps` should be a sequence, with one item for each image; it is None"),
        (([MAP], [TRUTH], {"valid_maps": None}), "`valid_maps` should be a sequence"),
        (([MAP + 1j], [TRUTH]), "Map 0 of the test images is complex64: it should hold real numbers"),
        (([MAP.astype(float) + 1e300], [TRUTH]), "a number too large for float32"),
        (([MAP], [TRUTH], {"image_scores": [np.nan]}), "Image score 0 is nan, which cannot be ranked"),
        (([MAP], [TRUTH], {"image_scores": ["high"]}), "Image score 0 is 'high': it should be a number"),
        (([MAP], [TRUTH], {"image_scores": np.zeros((1, 2))}), "Image score 0 is .*: it should be a number"),
        (([MAP, MAP], [TRUTH, TRUTH], {"patients": ["a", np.nan]}), "Test image 1 has no patient: it is nan"),
        (([MAP], [TRUTH], {"patients": [None]}), "Test image 0 has no patient: it is None"),
        (([MAP], [TRUTH], {"thresholds": "otsoo"}), "There is no policy 'otsoo'. Did you mean 'otsu'?"),
        (([MAP], [TRUTH], {"thresholds": "otsu["}), r"^Option thresholds in score\(\): A bracket has no counterpart"),
        (([MAP], [TRUTH], {"fixed_threshold": np.inf}), r"^Option fixed_threshold in score\(\): "),
    ],
)
def test_arrays_that_do_not_fit_are_named(arguments: tuple, said: str) -> None:
    maps, truths, *options = arguments
    with pytest.raises(miasbench.BenchError, match=said):
        miasbench.score(maps, truths, **(options[0] if options else {}))
