"""The memory bank against what the authors' released code computes, and against a search written out plainly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from miasbench.harness.api import UsageError
from miasbench.methods.mias_sam.memory_bank import MemoryBank, anomaly_map, patch_descriptors
from miasbench.methods.mias_sam.prompts import centroid_prompt

# What the released MIAS-SAM code makes of `features` below (float32, 1,024 patches an image): some rows of the bank,
# patch scores at every eighth patch, and maps at every 64th pixel.
BANK_ROWS = [  # rows 0, 8 * 97, 16 * 97, 24 * 97; columns 0, 256, 512, 768
    [0.0, 0.0, 0.0, 0.0],
    [-0.04908397, -0.56024706, -0.11664288, -0.532044],
    [0.11890416, 0.43146065, -0.01279761, -0.15244052],
    [0.14883038, 0.8000984, 0.41572586, -0.05536703],
]
PATCH_SCORES = [
    [
        [106.367386, 140.37617, 143.02438, 140.47516],
        [139.98311, 212.41568, 199.56413, 197.20175],
        [143.9234, 187.16112, 199.0111, 205.54503],
        [142.57141, 193.39568, 199.97313, 190.21361],
    ],
    [
        [106.836586, 140.65062, 144.28352, 127.94385],
        [136.37866, 197.11446, 209.59702, 194.059],
        [141.68738, 197.61243, 194.87349, 1933.9948],
        [136.1097, 199.06216, 198.73605, 200.97559],
    ],
]
MAPS = [
    [
        [112.0763, 140.37097, 146.54822, 144.40492],
        [143.96155, 202.49234, 200.37524, 197.97998],
        [145.75366, 193.40913, 195.36179, 197.32837],
        [144.37117, 191.07721, 201.83864, 190.4199],
    ],
    [
        [111.45341, 146.57193, 148.59601, 138.27753],
        [141.67601, 190.75932, 209.51303, 208.30922],
        [149.17934, 194.43938, 203.67384, 2101.9336],
        [144.22714, 195.1348, 195.94466, 199.22441],
    ],
]
IMAGE_SCORES = [225.65164, 2516.3416]
CENTROIDS = [[132.04521532, 128.85192993], [176.61224214, 108.85585434]]


def features(seed: int, count: int, bump: bool) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal((count, 256, 64, 64), dtype=np.float32)
    if bump:
        values[-1, :, 20:34, 36:52] += 1.5
    return torch.from_numpy(values)


def filled(descriptors: list[np.ndarray]) -> MemoryBank:
    bank = MemoryBank(len(descriptors))
    for rows in descriptors:
        bank.add(rows)
    return bank


def test_agrees_with_the_released_code() -> None:
    bank = filled([patch_descriptors(one[None], 5, 2, 1024)[0].numpy() for one in features(11, 3, bump=False)])
    assert bank.rows.shape == (3072, 1024)
    np.testing.assert_allclose(bank.rows[: 32 * 97 : 8 * 97, ::256], BANK_ROWS, rtol=1e-4, atol=1e-6)
    distances = np.stack(
        [
            bank.distances(patch_descriptors(one[None], 5, 2, 1024)[0].numpy(), neighbours=1)
            for one in features(12, 2, bump=True)
        ]
    )
    np.testing.assert_allclose(distances.reshape(2, 32, 32)[:, ::8, ::8], PATCH_SCORES, rtol=1e-4)
    np.testing.assert_allclose(distances.max(axis=1), IMAGE_SCORES, rtol=1e-4)
    maps = np.stack([anomaly_map(one, 256, sigma=4.0) for one in distances])
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps[:, ::64, ::64], MAPS, rtol=1e-4)
    normalised = (maps - maps.min()) / (maps.max() - maps.min())
    for one, expected in zip(normalised, CENTROIDS, strict=True):
        prompt = centroid_prompt(one**5)
        assert prompt is not None
        assert prompt.point == pytest.approx(expected, rel=1e-4)
        # The paper's scale does not move the centre of gravity; only the subtracted minimum does.
        unscaled = centroid_prompt((one * 1234.5) ** 5)
        assert unscaled is not None
        assert unscaled.point == pytest.approx(prompt.point, rel=1e-5)


@pytest.mark.parametrize(("patch_size", "stride", "size"), [(3, 2, 7), (5, 3, 16), (1, 1, 4), (3, 2, 36)])
def test_a_descriptor_averages_its_patch_in_order_of_channel_row_and_column(
    patch_size: int, stride: int, size: int
) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 9, 9)).astype(np.float32))
    margin = (patch_size - 1) // 2
    padded = F.pad(values, [margin] * 4)
    expected = []
    for image in padded:
        rows = []
        for top in range(0, padded.shape[2] - patch_size + 1, stride):
            for left in range(0, padded.shape[3] - patch_size + 1, stride):
                flat = image[:, top : top + patch_size, left : left + patch_size].flatten().tolist()
                starts = [index * len(flat) // size for index in range(size)]
                ends = [-(-(index + 1) * len(flat) // size) for index in range(size)]
                rows.append([np.mean(flat[start:end]) for start, end in zip(starts, ends, strict=True)])
        expected.append(rows)
    found = patch_descriptors(values, patch_size, stride, size).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("neighbours", [1, 3, 100])
@pytest.mark.parametrize("leave_out", [None, 0, 1, 2])
def test_the_search_is_exhaustive(neighbours: int, leave_out: int | None) -> None:
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(10, 6)).astype(np.float32) for _ in range(3)]
    bank = filled(images)
    queries = rng.normal(size=(10, 6)).astype(np.float32)
    kept = np.concatenate([rows for index, rows in enumerate(images) if index != leave_out])
    squared = ((queries[:, None] - kept[None]) ** 2).sum(axis=2)
    expected = np.sort(squared, axis=1)[:, :neighbours].mean(axis=1)
    np.testing.assert_allclose(bank.distances(queries, neighbours, leave_out), expected, rtol=1e-4, atol=1e-5)


def test_what_is_in_the_bank_is_at_no_distance_unless_it_is_left_out() -> None:
    rng = np.random.default_rng(2)
    images = [rng.normal(size=(8, 5)).astype(np.float32) for _ in range(2)]
    bank = filled(images)
    np.testing.assert_allclose(bank.distances(images[1], 1), 0, atol=1e-5)
    assert bank.distances(images[1], 1, leave_out=1).min() > 0.01


def test_a_bank_that_will_not_fit_into_memory_says_so_at_once() -> None:
    with pytest.raises(UsageError, match=r"of 1000000000 images needs 3[0-9.]+ GiB of memory"):
        MemoryBank(10**9).add(np.zeros((1, 10), np.float32))


def test_a_map_is_the_patch_scores_upsampled_and_smoothed() -> None:
    scores = np.random.default_rng(3).random(16).astype(np.float32)
    grid = torch.from_numpy(scores.reshape(1, 1, 4, 4))
    wide = F.interpolate(grid, (40, 40), mode="bilinear", align_corners=False)[0, 0].numpy()
    np.testing.assert_array_equal(anomaly_map(scores, 40, sigma=0), wide)
    np.testing.assert_allclose(anomaly_map(scores, 40, sigma=2.5), gaussian_filter(wide, 2.5), rtol=1e-6)
    np.testing.assert_allclose(anomaly_map(np.full(16, 7, np.float32), 40, sigma=4), 7, rtol=1e-6)
