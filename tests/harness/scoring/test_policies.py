from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from miasbench.harness.api import (
    BenchError,
    ImagePolicy,
    LabelledMaps,
    NormalsPolicy,
    OraclePolicy,
    PolicyUnavailableError,
    ValidationPolicy,
)
from miasbench.harness.scoring.dice_curve import dice_curve
from miasbench.harness.scoring.image_policies import Otsu
from miasbench.harness.scoring.policies import (
    Fixed,
    NormalMeanStd,
    NormalQuantile,
    OracleDice,
    ValidDice,
    ValidF1,
)
from miasbench.harness.scoring.ranking import rank_pixels

from ...support.maps import Images, images

POLICIES = (NormalQuantile(), NormalMeanStd(), ValidDice(), ValidF1(), Otsu(), Fixed(0.5), OracleDice())


class Labelled(LabelledMaps):
    def __init__(self, maps: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> None:
        self.maps, self.truths = maps, truths

    def best_dice(self) -> tuple[float, float]:
        return dice_curve(self.maps, self.truths).best()

    def dice_at(self, thresholds: np.ndarray) -> np.ndarray:
        return dice_curve(self.maps, self.truths).at(thresholds)

    def pixel_counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ranking = rank_pixels(self.maps, self.truths)
        return ranking.thresholds, ranking.true_positives, ranking.false_positives


def random_maps(seed: int, count: int = 3, shape: tuple[int, int] = (9, 7)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(count)]


@st.composite
def images_with_lesions(draw: st.DrawFn) -> Images:
    maps, truths = draw(images(most=(3, 50, 10_000), side=6, shares=(0.0, 0.3, 0.6)))
    truths[0][0, 0] = True
    return maps, truths


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


def mean_dice(threshold: float, maps: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    values = [dice(one >= threshold, truth) for one, truth in zip(maps, truths, strict=True) if truth.any()]
    return float(np.mean(values))


def pooled_f1(threshold: float, maps: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    pixels = np.concatenate([one.ravel() for one in maps])
    return dice(pixels >= threshold, np.concatenate([truth.ravel() for truth in truths]))


def candidates(maps: Sequence[np.ndarray]) -> list[float]:
    return sorted({float(value) for one in maps for value in one.ravel()}, reverse=True)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_normal_quantile_accepts_a_share_of_normal_pixels(quantile: float) -> None:
    maps = random_maps(1, shape=(30, 31))
    pixels = np.sort(np.concatenate([one.ravel() for one in maps]))
    threshold = NormalQuantile(quantile).threshold(maps)
    assert threshold == pixels[int(np.ceil(quantile * (len(pixels) - 1)))]
    assert (pixels < threshold).mean() == pytest.approx(quantile, abs=1 / len(pixels))


def test_normal_mean_std_is_of_all_pixels_together() -> None:
    maps = [*random_maps(2), 5 + random_maps(3, count=1, shape=(20, 20))[0]]
    pixels = np.concatenate([one.ravel() for one in maps]).astype(np.float64)
    for deviations in (0.0, 2.0, 3.0):
        expected = pixels.mean() + deviations * np.sqrt(((pixels - pixels.mean()) ** 2).mean())
        assert NormalMeanStd(deviations).threshold(maps) == pytest.approx(expected, rel=1e-6)


def test_defaults_of_normals_policies() -> None:
    maps = random_maps(4)
    assert NormalQuantile().threshold(maps) == NormalQuantile(0.99).threshold(maps)
    assert NormalMeanStd().threshold(maps) == NormalMeanStd(3.0).threshold(maps)


@given(images_with_lesions(), st.sampled_from([ValidDice(), OracleDice()]))
@settings(max_examples=100)
def test_dice_policies_take_the_best_of_every_threshold(content: Images, policy: ValidDice | OracleDice) -> None:
    maps, truths = content
    best = max(mean_dice(threshold, maps, truths) for threshold in candidates(maps))
    assert mean_dice(policy.threshold(Labelled(maps, truths)), maps, truths) == pytest.approx(best, abs=1e-12)


@given(images_with_lesions())
@settings(max_examples=100)
def test_valid_f1_takes_the_best_of_every_threshold(content: Images) -> None:
    maps, truths = content
    scores = {threshold: pooled_f1(threshold, maps, truths) for threshold in candidates(maps)}
    best = max(scores.values())
    expected = max(threshold for threshold, value in scores.items() if value >= best - 1e-12)
    assert ValidF1().threshold(Labelled(maps, truths)) == expected


def test_dice_policies_take_the_highest_of_several_thresholds() -> None:
    """The mean is 4/9 at the thresholds 1 and 0, exactly."""
    maps = [
        np.array([[0, 0, 5], [4, 1, 3]], np.float32),
        np.array([[5, 5, 3], [1, 3, 1]], np.float32),
        np.array([[1, 1, 2], [0, 0, 3]], np.float32),
    ]
    truths = [
        np.array([[0, 0, 0], [1, 1, 0]], bool),
        np.array([[0, 1, 0], [1, 1, 1]], bool),
        np.array([[0, 0, 1], [0, 1, 0]], bool),
    ]
    assert mean_dice(1, maps, truths) == pytest.approx(mean_dice(0, maps, truths), abs=1e-15)
    assert ValidDice().threshold(Labelled(maps, truths)) == 1


@pytest.mark.slow
def test_valid_f1_is_anomalibs_adaptive_threshold() -> None:
    torch = pytest.importorskip("torch")
    adaptive = pytest.importorskip("anomalib.metrics.threshold.f1_adaptive_threshold")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truths = [rng.random((16, 16)) < 0.15 for _ in range(4)]
        maps = [(0.7 * rng.random((16, 16)) + 0.3 * truth).astype(np.float32) for truth in truths]
        theirs = adaptive._F1AdaptiveThreshold()  # the public class takes the same, wrapped in a batch
        theirs.update(torch.tensor(np.stack(maps)), torch.tensor(np.stack(truths)).int())
        assert ValidF1().threshold(Labelled(maps, truths)) == float(theirs.compute())


def test_policies_over_validation_differ_where_images_weigh_differently() -> None:
    """A large lesion decides the pooled F1, both images count the same in the mean DICE."""
    large, small = np.zeros((10, 10), np.float32), np.zeros((10, 10), np.float32)
    large[:5] = 1
    small[:5] = 1
    small[9, 9] = 2
    truths = [large > 0, small > 1]
    assert ValidF1().threshold(Labelled([large, small], truths)) == 1
    assert ValidDice().threshold(Labelled([large[:1], small], [truths[0][:1], truths[1]])) == 1
    assert ValidDice().threshold(Labelled([large, small, small], [*truths, truths[1]])) == 2


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1e-3, 1.0, 1e4]), offset=st.sampled_from([0.0, 5.0]))
@settings(max_examples=60)
def test_otsu_is_that_of_scikit_image(seed: int, spread: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    anomaly_map = (offset + spread * (rng.random((12, 12)) + 2 * (rng.random((12, 12)) < 0.3))).astype(np.float32)
    wide = anomaly_map.astype(np.float64)  # in float32 scikit-image's bins round where the range is narrow
    np.testing.assert_array_equal(anomaly_map >= Otsu().threshold(anomaly_map), wide > threshold_otsu(wide))


def test_otsu_splits_two_values() -> None:
    anomaly_map = np.zeros((6, 6), np.float32)
    anomaly_map[1:3, 2:5] = 4
    np.testing.assert_array_equal(anomaly_map >= Otsu().threshold(anomaly_map), anomaly_map == 4)


def test_nothing_stands_out_of_a_constant_map() -> None:
    for value in (0.0, -2.5, 1e30):
        anomaly_map = np.full((5, 5), value, np.float32)
        assert not (anomaly_map >= Otsu().threshold(anomaly_map)).any()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "values",
    [
        (1.0, float(np.nextafter(np.float32(1), np.float32(2)))),
        (1000.0, 1000.01),
        (0.0, 1e-45),
        (-3e38, 3e38),
    ],
    ids=["one step of float32", "few steps of float32", "the smallest number", "all of float32"],
)
def test_otsu_of_any_finite_range(values: tuple[float, float]) -> None:
    anomaly_map = np.full((8, 8), values[0], np.float32)
    anomaly_map[2, 3] = values[1]
    threshold = Otsu().threshold(anomaly_map)
    assert not np.isnan(threshold)
    assert np.count_nonzero(anomaly_map >= threshold) in (0, 1)


def test_constant_maps_have_a_threshold_under_every_policy() -> None:
    maps, truths = [np.full((4, 4), 0.5, np.float32)] * 2, [np.eye(4, dtype=bool)] * 2
    for policy in POLICIES:
        match policy:
            case NormalsPolicy():
                assert policy.threshold(maps) == pytest.approx(0.5)
            case ValidationPolicy() | OraclePolicy():
                assert policy.threshold(Labelled(maps, truths)) == 0.5
            case ImagePolicy():
                assert policy.threshold(maps[0]) == float("inf")
            case Fixed():
                assert policy.value == 0.5
            case _:
                pytest.fail(f"{policy} is of no known type")


@pytest.mark.parametrize("policy", [NormalQuantile(), NormalMeanStd()])
def test_normals_policies_need_a_normal_image(policy: NormalsPolicy) -> None:
    with pytest.raises(PolicyUnavailableError, match="the validation split has no normal image"):
        policy.threshold([])


@pytest.mark.parametrize(
    ("policy", "split"), [(ValidDice(), "validation"), (ValidF1(), "validation"), (OracleDice(), "test")]
)
@pytest.mark.parametrize("count", [0, 2])
def test_policies_over_masks_need_a_lesion(policy: ValidationPolicy | OraclePolicy, split: str, count: int) -> None:
    with pytest.raises(PolicyUnavailableError, match=f"the {split} split has no lesion"):
        policy.threshold(Labelled(random_maps(5, count), [np.zeros((9, 7), bool)] * count))


def test_unavailable_is_a_problem_of_the_user() -> None:
    assert issubclass(PolicyUnavailableError, BenchError)


def test_what_each_policy_looks_at_is_its_type() -> None:
    looks_at = {
        NormalsPolicy: "normals",
        ValidationPolicy: "validation",
        ImagePolicy: "image",
        OraclePolicy: "oracle",
        Fixed: "nothing",
    }
    for policy in POLICIES:
        kinds = [kind for kind in looks_at if isinstance(policy, kind)]
        assert [looks_at[kind] for kind in kinds] == [policy.looks_at], policy.name
    assert {policy.name: policy.looks_at for policy in POLICIES} == {
        "normal_quantile": "normals",
        "normal_mean_std": "normals",
        "valid_dice": "validation",
        "valid_f1": "validation",
        "otsu": "image",
        "fixed": "nothing",
        "oracle_dice": "oracle",
    }


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (NormalQuantile(), "threshold: 0.99 quantile of normal"),
        (NormalQuantile(0.9999999), "threshold: 0.9999999 quantile of normal"),
        (NormalMeanStd(), "threshold: mean + 3 standard deviations"),
        (NormalMeanStd(2.5), "threshold: mean + 2.5 standard deviations"),
    ],
)
def test_the_convention_tells_the_options(policy: NormalQuantile | NormalMeanStd, says: str) -> None:
    assert policy.convention.startswith(says)


def test_policies_are_values() -> None:
    assert NormalQuantile(0.9) == NormalQuantile(0.9) != NormalQuantile(0.8)
    with pytest.raises(AttributeError):
        NormalQuantile().q = 0.5  # pyright: ignore[reportAttributeAccessIssue]
