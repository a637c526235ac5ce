"""Post-processing between map and mask: what it adds to the tables, and what it may look at."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_fill_holes, label, median_filter

import miasbench
from miasbench.harness.api import Case, Prediction, Split, UsageError
from miasbench.harness.cli import main
from miasbench.harness.config import make_score_config
from miasbench.harness.data.frame import Truth
from miasbench.harness.front.runs import Run
from miasbench.harness.scoring.cell_scores import score_cell
from miasbench.harness.scoring.masks import Lesions, Overlap
from miasbench.harness.scoring.post import check_chains
from miasbench.harness.scoring.post_choice import DECLARED
from miasbench.harness.scoring.scanning import SplitTruths
from miasbench.results.predictions import StoredPrediction
from miasbench.results.record import Measurements
from miasbench.results.store import RunStore
from miasbench.results.tables import IDENTITY

SIDE, COUNT = 24, 8
MEDIAN, HOLES = "median[size=3],min_area[px=6]", "fill_holes"
Bench = Callable[..., str]


def arrays(seed: int, count: int = COUNT) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps of noise over a lesion in every second image."""
    rng = np.random.default_rng(seed)
    truths = []
    for index in range(count):
        truth = np.zeros((SIDE, SIDE), bool)
        if index % 2:
            top, left = rng.integers(0, SIDE - 9, 2)
            truth[top : top + 8, left : left + 9] = True
        truths.append(truth)
    maps = [(rng.random(truth.shape) + 0.6 * truth).astype(np.float32) for truth in truths]
    return maps, truths


TEST, VALID = arrays(1), arrays(2)
OWN = [one > 0.7 for one in TEST[0]]


def score(*post: str, **more: Any) -> pd.DataFrame:
    given = {"valid_maps": VALID[0], "valid_truths": VALID[1], "masks": OWN} | more
    return miasbench.score(given.pop("maps", TEST[0]), given.pop("truths", TEST[1]), post=post, **given)


def value(scores: pd.DataFrame, policy: str, metric: str = "dice", column: str = "value") -> Any:
    (found,) = scores.loc[(scores["policy"] == policy) & (scores["metric"] == metric), column]
    return found


def mean_dice(masks: list[np.ndarray], truths: list[np.ndarray]) -> float:
    return float(np.nanmean([Overlap.of(mask, truth).dice for mask, truth in zip(masks, truths, strict=True)]))


def cleaned(mask: np.ndarray) -> np.ndarray:
    labels, count = cast("tuple[np.ndarray, int]", label(mask, np.ones((3, 3))))
    return np.isin(labels, [one for one in range(1, count + 1) if (labels == one).sum() >= 6])


def test_a_chain_adds_rows_and_leaves_the_others_as_they_are() -> None:
    plain, both = score(), score(MEDIAN, HOLES)
    pd.testing.assert_frame_equal(both[both["post"] == ""].reset_index(drop=True), plain)
    policies = plain.loc[(plain["metric"] == "dice") & plain["value"].notna(), "policy"].unique()
    for chain in (MEDIAN, HOLES):
        rows = both[both["post"] == chain]
        assert set(rows["policy"]) >= {f"{policy} + {chain}" for policy in policies}
        assert rows["convention"].str.contains(f"post-processing: {chain}", regex=False).all()


def test_thresholds_are_chosen_on_the_maps_behind_the_chain() -> None:
    scores = score(MEDIAN)
    smooth, smooth_valid = ([median_filter(one, 3) for one in maps] for maps in (TEST[0], VALID[0]))
    expected = miasbench.score(smooth, TEST[1], valid_maps=smooth_valid, valid_truths=VALID[1])
    for policy in ("normal_quantile", "valid_dice", "oracle_dice"):
        threshold = value(scores, f"{policy} + {MEDIAN}", column="threshold")
        assert threshold == value(expected, policy, column="threshold")
        masks = [cleaned(one >= np.float32(threshold)) for one in smooth]
        assert value(scores, f"{policy} + {MEDIAN}") == pytest.approx(mean_dice(masks, TEST[1]))
    of_maps = expected.loc[expected["policy"] == "none", "metric"]
    behind = set(scores.loc[scores["policy"] == f"none + {MEDIAN}", "metric"])
    assert behind == {"pixel_auroc", "pixel_ap", "aupro", "best_f1", "aupimo", "sensitivity_at_fpr"} & set(of_maps)
    for metric in behind:
        assert value(scores, f"none + {MEDIAN}", metric) == value(expected, "none", metric), metric
    assert f"none + {HOLES}" not in set(score(HOLES)["policy"]), "it changes no map"


def test_a_methods_own_masks_are_changed_too() -> None:
    scores = score(MEDIAN, HOLES)
    assert value(scores, f"own + {MEDIAN}") == pytest.approx(mean_dice([cleaned(one) for one in OWN], TEST[1]))
    holes = [np.asarray(binary_fill_holes(one)) for one in OWN]
    assert value(scores, f"own + {HOLES}") == pytest.approx(mean_dice(holes, TEST[1]))


def test_a_mask_is_kept_away_from_the_border_of_the_foreground() -> None:
    body = np.zeros(TEST[1][0].shape, bool)
    body[4:-6, 5:-5] = True
    foregrounds = {"foregrounds": [body] * len(TEST[0]), "valid_foregrounds": [body] * len(VALID[0])}
    scores = score("erode_foreground[px=2]", **foregrounds)
    inside = np.zeros_like(body)
    inside[6:-8, 7:-7] = True
    kept = [one & inside for one in OWN]
    assert value(scores, "own + erode_foreground[px=2]") == pytest.approx(mean_dice(kept, TEST[1]))


def test_operations_follow_each_other_in_the_order_of_the_chain() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7], mask[3:6, 3:6] = True, False  # 16 pixels around a hole of 9
    truth = np.zeros((9, 9), bool)
    truth[2:7, 2:7] = True
    one, other = "fill_holes,min_area[px=20]", "min_area[px=20],fill_holes"
    maps = [np.zeros((9, 9), np.float32)]
    scores = miasbench.score(maps, [truth], masks=[mask], thresholds="otsu", post=[one, other])
    assert (value(scores, f"own + {one}"), value(scores, f"own + {other}")) == (1, 0)


def test_an_operation_that_changes_nothing_gives_the_same_scores() -> None:
    scores = score("min_area[px=0]")
    of_masks = scores[(scores["policy"] != "none") & (scores["note"] == "")]
    of_masks = of_masks[~of_masks["metric"].str.contains("_cv")]  # cross-validation is of the policy without a chain
    plain, behind = (of_masks[of_masks["post"] == chain] for chain in ("", "min_area[px=0]"))
    columns = ["metric", "value", "ci_low", "ci_high", "n", "threshold"]
    pd.testing.assert_frame_equal(plain[columns].reset_index(drop=True), behind[columns].reset_index(drop=True))


def test_policies_that_choose_for_each_image_see_the_changed_map() -> None:
    smooth = [median_filter(one, 3) for one in TEST[0]]
    expected = miasbench.score(smooth, TEST[1], thresholds="otsu,entropy")
    scores = score("median", thresholds="otsu,entropy")
    for policy in ("otsu", "entropy"):
        assert value(scores, f"{policy} + median") == value(expected, policy)


@pytest.mark.parametrize("post", [(MEDIAN, "valid"), ("valid",)])
def test_nothing_but_the_oracle_sees_a_test_mask(post: tuple[str, ...]) -> None:
    turned = [np.rot90(truth) for truth in TEST[1]]
    before, after = (
        rows[rows["metric"].isin(["dice_valid"]) & ~rows["oracle"]].reset_index(drop=True)
        for rows in (score(*post), score(*post, truths=turned))
    )
    pd.testing.assert_frame_equal(before, after)
    assert {"threshold", "post", "convention"} <= set(before), "so the choice is the same"


def test_the_chain_that_is_best_on_validation_is_chosen() -> None:
    chains = [MEDIAN, HOLES, "largest"]
    own = {"masks": None, "thresholds": "valid_dice,normal_quantile,otsu"}
    scores = score(*chains, "valid", **own)
    for policy in ("valid_dice", "normal_quantile", "otsu"):
        rivals = {chain: value(scores, f"{policy} + {chain}", "dice_valid") for chain in chains}
        rivals[""] = value(scores, policy, "dice_valid")
        chosen = value(scores, f"{policy} + valid", column="post")
        assert rivals[chosen] == max(rivals.values())
        same = f"{policy} + {chosen}" if chosen else policy
        for metric in ("dice", "dice_valid", "false_lesions"):
            assert value(scores, f"{policy} + valid", metric) == value(scores, same, metric)
        assert f"{chosen or 'none'}, {max(rivals.values()):.4g}" in value(
            scores, f"{policy} + valid", column="convention"
        )
    assert {value(scores, f"{policy} + valid", column="post") for policy in ("valid_dice", "otsu")} != {""}


def test_without_other_chains_the_choice_is_among_the_declared_ones() -> None:
    scores = score("valid", masks=None, thresholds="valid_dice")
    every = score(*DECLARED, masks=None, thresholds="valid_dice")
    best = every.loc[every["metric"] == "dice_valid", "value"].max()
    assert value(scores, "valid_dice + valid", "dice_valid") == best
    assert set(scores.loc[scores["policy"] != "none", "policy"]) == {"valid_dice", "valid_dice + valid"}


def test_a_choice_without_validation_masks_is_left_out_and_says_so() -> None:
    scores = score("valid", valid_truths=[np.zeros_like(one) for one in VALID[1]], thresholds="otsu")
    notes = scores[scores["note"] != ""].set_index("policy")["note"]
    assert notes["otsu + valid"] == "left out: the validation split has no lesion"


@pytest.mark.parametrize("post", [("min_area[px=10000]", "valid"), ("fill_holes",)])
def test_a_promise_is_of_the_masks_without_a_chain(post: tuple[str, ...]) -> None:
    scores = score(*post, masks=None, thresholds="normal_fpr")
    promised = scores[scores["promised"].notna()]
    assert promised["policy"].tolist() == ["normal_fpr"]
    assert set(scores.loc[scores["policy"] == "normal_fpr + valid", "post"]) <= {""}, "no chain is better"


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        ("min_area[mm2=4]", "min_area needs the distances between pixels in mm, and the dataset does not say them"),
        ("largest[of=volume]", "largest needs to know which volume each image is a slice of"),
        ("min_volume[ml=1]", "min_volume needs to know which volume"),
    ],
)
def test_a_chain_that_the_data_do_not_allow_is_one_row_that_says_so(chain: str, says: str) -> None:
    scores = score(chain)
    rows = scores[scores["policy"].str.contains(" + ", regex=False)]
    assert rows["policy"].tolist() == [f"none + {chain}"]
    assert rows["note"].item().startswith(f"left out: {says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("medain", "There is no operation 'medain' for --post. Did you mean 'median'?"),
        ("median[width=3]", "median[width=3] has no option 'width'. Known: size."),
        ("median[size=0]", "median[size=0].size=0: Input should be greater than or equal to 1."),
        ("median[size=1001]", "median[size=1001].size=1001: Input should be less than or equal to 99."),
        ("gaussian[sigma=1e9]", "gaussian[sigma=1e9].sigma=1e9: Input should be less than or equal to 99."),
        ("min_area", "min_area: give the smallest area either in pixels or in mm², as in min_area[px=20]."),
        ("min_area[px=3,mm2=2]", "give the smallest area either in pixels or in mm²"),
        ("min_volume", "min_volume needs the option ml: min_volume[ml=…]."),
        ("valid,median", "--post valid,median: valid chooses a chain, so it must stand alone, as in --post valid."),
        ("fill_holes,median", "median changes the map, before the threshold, so it must stand before fill_holes"),
        ("largest[of=patient]", "largest[of=patient].of=patient: Input should be 'image' or 'volume'."),
    ],
)
def test_a_wrong_chain_is_one_message(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        check_chains(make_score_config({"post": text}, "here").post)
    assert says in str(error.value)


def test_a_list_holds_several_chains_and_none_is_no_chain() -> None:
    config = make_score_config({"post": ["median[ size = 5 ], fill_holes", "none", "largest", "largest"]}, "here")
    assert config.model_dump(mode="json")["post"] == ["median[size=5],fill_holes", "largest"]
    assert make_score_config({"post": "none"}, "here").post == []


def volumes(split: Split) -> tuple[SplitTruths, list[StoredPrediction]]:
    """A volume of three slices 5 mm apart: a column through all of them is predicted, and two pixels of one slice."""
    predicted = np.zeros((3, 8, 8), bool)
    predicted[:, 2, 2] = predicted[1, 6, 5:7] = True
    truth = np.zeros((3, 8, 8), bool)
    truth[:, 2, 2] = True
    spacing = (1.0, 1.0, 5.0)
    cases = [Case(f"{split}{z}", "p", split, 1, "", "", "v", z, spacing) for z in range(3)]
    lesions = [Lesions(one, (1.0, 1.0)) for one in truth]
    truths = SplitTruths(cases, [Truth(one, one) for one in truth], lesions, [np.s_[:, :]] * 3, [""] * 3)
    maps = [StoredPrediction(Prediction(one.astype(np.float32), 1.0, one), 0.0) for one in predicted]
    return truths, maps


@pytest.mark.parametrize(
    ("chain", "pixels"),
    [
        ("largest", [1, 2, 1]),
        ("largest[of=volume]", [1, 1, 1]),
        ("min_volume[ml=0.015]", [1, 1, 1]),
        ("min_volume[ml=0.016]", [0, 0, 0]),
        ("min_area[mm2=2]", [0, 2, 0]),
        ("min_area[mm2=2],largest[of=volume]", [0, 2, 0]),
    ],
)
def test_components_of_volumes_are_in_three_dimensions(chain: str, pixels: list[int]) -> None:
    (valid, valid_maps), (test, maps) = volumes("valid"), volumes("test")
    truths: dict[Split, SplitTruths] = {"valid": valid, "test": test}
    predictions: dict[Split, list[StoredPrediction]] = {"valid": valid_maps, "test": maps}
    config = make_score_config({"post": chain, "thresholds": "valid_dice"}, "here")
    identity = dict.fromkeys(IDENTITY, "") | {"seed": 0, "size": 8, "transductive": False}
    tables = score_cell(identity, truths, predictions, config, Measurements())
    for policy in ("own", "valid_dice"):
        of_policy = tables.cases[tables.cases["policy"] == f"{policy} + {chain}"]
        assert of_policy["predicted_px"].tolist() == pixels
        whole = tables.volumes[tables.volumes["policy"] == f"{policy} + {chain}"]
        assert whole["predicted_ml"].item() == pytest.approx(0.005 * sum(pixels))


def test_policies_that_agree_on_one_slice_only_keep_their_masks_behind_a_chain_of_volumes() -> None:
    """What is left of a slice depends on the thresholds of the others."""
    chain = "largest[of=volume]"
    truths, stored = volumes("test")
    maps = [np.zeros((8, 8), np.float32) for _ in stored]
    maps[0][0, 0] = 5  # where both put their threshold
    maps[1][4:, 4:] = 3  # which is as high as Otsu's there
    told = [replace(one, prediction=Prediction(content, 1.0)) for one, content in zip(stored, maps, strict=True)]
    config = make_score_config({"post": chain, "thresholds": "otsu", "fixed_threshold": 5}, "here")
    identity = dict.fromkeys(IDENTITY, "") | {"seed": 0, "size": 8, "transductive": False}
    split: dict[Split, SplitTruths] = {"valid": truths, "test": truths}
    cases = score_cell(identity, split, {"valid": told, "test": told}, config, Measurements()).cases
    pixels = {policy: rows["predicted_px"].tolist() for policy, rows in cases.groupby("policy")}
    assert pixels[f"fixed + {chain}"] == [1, 0, 0]
    assert pixels[f"otsu + {chain}"] == [0, 16, 0]


def test_a_chain_of_volumes_says_of_which_images_the_volume_is_not_known() -> None:
    (valid, valid_maps), (test, maps) = volumes("valid"), volumes("test")
    cases = [replace(test.cases[0], volume=None, position=None, spacing=None), *test.cases[1:]]
    truths: dict[Split, SplitTruths] = {"valid": valid, "test": replace(test, cases=cases)}
    identity = dict.fromkeys(IDENTITY, "") | {"seed": 0, "size": 8, "transductive": False}
    config = make_score_config({"post": "largest[of=volume]", "thresholds": "valid_dice"}, "here")
    tables = score_cell(identity, truths, {"valid": valid_maps, "test": maps}, config, Measurements())
    (note,) = tables.scores.loc[tables.scores["policy"] == "none + largest[of=volume]", "note"]
    assert note == (
        "left out: largest needs to know which volume each image is a slice of, and the dataset does not say it of 1 "
        "of 3 test images, such as test0"
    )


DATASET = "phantom_brain_mri:train=3,valid=4,test=6,size=64"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        said = capsys.readouterr()
        assert end.value.code == 0, said.err
        return said.out

    return run


@pytest.mark.usefixtures("undrawn")
def test_a_finished_run_is_scored_with_post_processing_and_no_method_runs_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = "intensity,intensity[sigma=3]"
    bench("run", "-m", methods, "-d", DATASET, "--size", "64", "--executor", "inline", "--name", "it")
    store = RunStore(tmp_path / "bench-results" / "it")
    before = {name: getattr(store, name)() for name in ("scores", "cases", "ranks")}
    monkeypatch.setattr("miasbench.methods.intensity.Intensity.predict", None)
    monkeypatch.setattr("miasbench.methods.intensity.Intensity.fit", None)
    printed = bench("score", "it", "--post", MEDIAN, "--post", HOLES)
    assert f"by threshold policy, with post-processing: {MEDIAN}" in " ".join(printed.split())
    assert store.read().config.score.post == [MEDIAN, HOLES]
    for name, rows in before.items():
        now = getattr(store, name)()
        pd.testing.assert_frame_equal(now[now["policy"].isin(rows["policy"])].reset_index(drop=True), rows)
        assert f"valid_dice + {MEDIAN}" in set(now["policy"])
    assert f"own or valid_dice + {HOLES}" in set(store.ranks()["policy"])

    cases = store.cases()
    for policy in (f"valid_dice + {MEDIAN}", f"otsu + {HOLES}"):
        rows = cases[(cases["policy"] == policy) & (cases["method"] == "intensity")].set_index("case")
        for one in Run(store).predictions("intensity", policy=policy):
            assert one.mask is not None
            assert one.mask.sum() == rows.loc[one.case, "predicted_px"], "what is shown is what was scored"
    folder = Run(store).export("out", ["images"], method="intensity", policy=f"valid_dice + {MEDIAN}")[0]
    assert any((folder / "images").rglob("*.png")) or any(folder.rglob("*.png"))
    bench("report", "it", "--out", "paper", "--policy", f"own or valid_dice + {MEDIAN}")
    assert f"valid_dice + {MEDIAN}" in Path("paper/report.html").read_text(encoding="utf-8")
    bench("verify", "it")
    bench("score", "it", "--post", "none")
    pd.testing.assert_frame_equal(store.scores(), before["scores"])
