import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy.ndimage import binary_erosion
from skimage.measure import label as label_regions
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from miasbench.harness.scoring.masks import Lesions, MaskScores, Overlap, lesion_size

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


@st.composite
def masks(draw: st.DrawFn, count: int = 2, largest: int = 24) -> list[np.ndarray]:
    """Masks of one size: empty, one pixel, noise, blobs and rectangles that may touch the border, or the full image."""
    shape = (draw(st.integers(1, largest)), draw(st.integers(1, largest)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = []
    for _ in range(count):
        mask = np.zeros(shape, bool)
        kind = draw(st.sampled_from(["empty", "pixel", "sparse", "dense", "rectangles", "full"]))
        if kind in ("sparse", "dense"):
            mask = rng.random(shape) < {"sparse": 0.05, "dense": 0.7}[kind]
        for _ in range({"pixel": 1, "rectangles": 3}.get(kind, 0)):
            top, left = rng.integers(0, shape)
            height, width = (1, 1) if kind == "pixel" else rng.integers(1, 9, 2)
            mask[top : top + height, left : left + width] = True
        made.append(mask | (kind == "full"))
    return made


def monai(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    one, other = (torch.from_numpy(mask)[None, None] for mask in (predicted, truth))
    return (
        float(compute_hausdorff_distance(one, other, include_background=True, percentile=95)),
        float(compute_average_surface_distance(one, other, include_background=True, symmetric=True)),
    )


def plain_distances(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Every pair of surface pixels."""
    one, other = (np.argwhere(mask & ~np.asarray(binary_erosion(mask), dtype=bool)) for mask in (predicted, truth))
    pairs = np.hypot(*(one[:, None] - other[None]).transpose(2, 0, 1))
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    hd95 = max(np.quantile(there, 0.95), np.quantile(back, 0.95))
    return float(hd95), float(np.concatenate([there, back]).mean())


def plain_regions(mask: np.ndarray) -> list[np.ndarray]:
    labels = np.asarray(label_regions(mask, connectivity=2))
    return [labels == region for region in range(1, labels.max(initial=0) + 1)]


def lesion(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    """A mask of boxes: top, left, height, width."""
    mask = np.zeros(shape, bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


class TestOverlap:
    @given(masks())
    @settings(max_examples=100)
    def test_is_what_scikit_learn_computes(self, content: list[np.ndarray]) -> None:
        predicted, truth = content
        overlap = Overlap.of(predicted, truth)
        assert overlap == Overlap((predicted & truth).sum(), predicted.sum(), truth.sum(), truth.size)
        assert overlap.predicted_share == pytest.approx(predicted.mean())
        for value, plain, defined in (
            (overlap.dice, f1_score, truth.any()),
            (overlap.iou, jaccard_score, truth.any()),
            (overlap.precision, precision_score, predicted.any()),
            (overlap.recall, recall_score, truth.any()),
        ):
            if defined:
                assert 0 <= value <= 1
                expected = plain(truth.ravel(), predicted.ravel(), zero_division=0)  # pyright: ignore[reportArgumentType]
                assert value == pytest.approx(expected)
            else:
                assert np.isnan(value)
        if truth.any():
            assert overlap.iou == pytest.approx(overlap.dice / (2 - overlap.dice))
            assert overlap.iou <= overlap.dice

    def test_conventions_for_empty_masks(self) -> None:
        empty, some = np.zeros((4, 5), bool), lesion((1, 1, 1, 2), shape=(4, 5))
        for predicted in (empty, some):
            normal = Overlap.of(predicted, empty)
            assert np.isnan([normal.dice, normal.iou, normal.recall]).all()
        assert Overlap.of(some, empty).precision == 0
        assert Overlap.of(some, empty).predicted_share == 0.1
        silent = Overlap.of(empty, some)
        assert (silent.dice, silent.iou, silent.recall) == (0, 0, 0)
        assert np.isnan([silent.precision, Overlap.of(empty, empty).precision]).all()
        perfect = Overlap.of(some, some)
        assert (perfect.dice, perfect.iou, perfect.precision, perfect.recall) == (1, 1, 1, 1)

    def test_counts_of_images_add_up(self) -> None:
        empty, some = np.zeros((4, 5), bool), lesion((1, 1, 1, 2), shape=(4, 5))
        pooled = Overlap.pooled([Overlap.of(some, some), Overlap.of(some, empty)])
        assert pooled == Overlap(2, 4, 2, 40)
        assert pooled.precision == 0.5
        assert Overlap.pooled([]) == Overlap(0, 0, 0, 0)
        assert np.isnan([Overlap.pooled([]).dice, Overlap.pooled([]).predicted_share]).all()


def hd95_and_assd(predicted: np.ndarray, truth: Lesions) -> tuple[float, float]:
    distances = MaskScores(predicted, truth).distances()
    return distances.hd95, distances.assd


class TestSurfaceDistances:
    @given(masks())
    @settings(max_examples=200)
    def test_are_those_of_monai_and_of_all_pairs(self, content: list[np.ndarray]) -> None:
        predicted, truth = content
        distances = hd95_and_assd(predicted, Lesions(truth))
        if not truth.any():
            assert np.isnan(distances).all()
        elif not predicted.any():
            assert distances == (np.hypot(*truth.shape),) * 2
        else:
            assert distances == pytest.approx(monai(predicted, truth), abs=1e-4)
            assert distances == pytest.approx(plain_distances(predicted, truth), abs=1e-4)
            assert all(0 <= distance < np.hypot(*truth.shape) for distance in distances)

    @pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
    @pytest.mark.parametrize("box", [(100, 120, 9, 30), (0, 0, 40, 256), (250, 3, 6, 1)])
    def test_of_noisy_masks_of_full_size(self, share: float, box: tuple[int, int, int, int]) -> None:
        predicted = np.random.default_rng(0).random((256, 256)) < share
        truth = lesion(box, (30, 200, 8, 8), shape=(256, 256))
        assert hd95_and_assd(predicted, Lesions(truth)) == pytest.approx(monai(predicted, truth), abs=1e-4)

    @given(masks())
    @settings(max_examples=100)
    def test_are_the_same_both_ways(self, content: list[np.ndarray]) -> None:
        one, other = content
        if one.any() and other.any():
            there, back = hd95_and_assd(one, Lesions(other)), hd95_and_assd(other, Lesions(one))
            assert there == pytest.approx(back, abs=1e-4)

    @given(masks(largest=12), st.integers(0, 9), st.integers(0, 9))
    @settings(max_examples=100)
    def test_do_not_depend_on_the_place(self, content: list[np.ndarray], down: int, right: int) -> None:
        predicted, truth = (np.pad(mask, 1) for mask in content)
        if predicted.any() and truth.any():
            around = ((down, 9 - down), (right, 9 - right))
            moved = hd95_and_assd(np.pad(predicted, around), Lesions(np.pad(truth, around)))
            assert moved == pytest.approx(hd95_and_assd(predicted, Lesions(truth)), abs=1e-4)

    def test_of_a_moved_lesion_is_by_how_much(self) -> None:
        dot = lesion((20, 20, 1, 1))
        assert hd95_and_assd(lesion((23, 24, 1, 1)), Lesions(dot)) == (5, 5)
        assert hd95_and_assd(dot, Lesions(dot)) == (0, 0)

    def test_the_images_edge_is_a_surface(self) -> None:
        full, middle = np.ones((9, 9), bool), lesion((4, 4, 1, 1), shape=(9, 9))
        hd95, assd = hd95_and_assd(middle, Lesions(full))
        assert hd95 == pytest.approx(np.hypot(4, 4), abs=0.7)
        assert assd > 4

    def test_silence_is_worse_than_any_guess(self) -> None:
        truth = Lesions(lesion((0, 0, 1, 1)))
        farthest = hd95_and_assd(lesion((39, 49, 1, 1)), truth)
        assert hd95_and_assd(np.zeros((40, 50), bool), truth) > farthest


class TestLesions:
    @given(masks())
    @settings(max_examples=100)
    def test_are_counted_one_by_one(self, content: list[np.ndarray]) -> None:
        predicted, truth = content
        scores = MaskScores(predicted, Lesions(truth))
        lesions, found = plain_regions(truth), plain_regions(predicted)
        assert scores.lesions == len(lesions)
        assert scores.lesions_hit == sum((region & predicted).any() for region in lesions)
        assert scores.false_lesions == sum(not (region & truth).any() for region in found)

    def test_corners_join_and_one_pixel_hits(self) -> None:
        truth = Lesions(lesion((2, 2, 3, 3), (5, 5, 2, 2), (20, 20, 4, 4)))
        assert truth.count == 2
        scores = MaskScores(lesion((6, 6, 1, 5), (30, 30, 2, 2), (0, 40, 3, 3)), truth)
        assert (scores.lesions, scores.lesions_hit, scores.false_lesions) == (2, 1, 2)

    def test_one_component_may_hit_several(self) -> None:
        truth = Lesions(lesion((2, 2, 3, 3), (20, 20, 4, 4)))
        scores = MaskScores(np.ones((40, 50), bool), truth)
        assert (scores.lesions, scores.lesions_hit, scores.false_lesions) == (2, 2, 0)

    def test_on_a_normal_image_every_component_is_false(self) -> None:
        normal = Lesions(np.zeros((40, 50), bool))
        scores = MaskScores(lesion((2, 2, 3, 3), (20, 20, 4, 4)), normal)
        assert (scores.lesions, scores.lesions_hit, scores.false_lesions) == (0, 0, 2)
        assert MaskScores(normal.mask, normal).false_lesions == 0

    def test_nothing_predicted_hits_nothing(self) -> None:
        truth = Lesions(lesion((2, 2, 3, 3)))
        scores = MaskScores(np.zeros((40, 50), bool), truth)
        assert (scores.lesions, scores.lesions_hit, scores.false_lesions) == (1, 0, 0)

    def test_scores_are_those_of_each_by_itself(self) -> None:
        predicted, truth = lesion((1, 2, 9, 9)), lesion((4, 3, 8, 8))
        scores = MaskScores(predicted, Lesions(truth))
        assert scores.overlap == Overlap.of(predicted, truth)
        assert (scores.hd95, scores.assd) == hd95_and_assd(predicted, Lesions(truth))


@pytest.mark.parametrize(
    ("truth_px", "size"),
    [(0, "none"), (1, "small"), (49, "small"), (50, "medium"), (200, "medium"), (201, "large"), (10_000, "large")],
)
def test_size_classes_are_shares_of_the_image(truth_px: int, size: str) -> None:
    assert lesion_size(truth_px, 10_000) == size
