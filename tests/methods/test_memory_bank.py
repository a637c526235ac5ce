"""The memory bank against what the authors' released code computes, and against a search written out plainly."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from miasbench.harness.api import UsageError
from miasbench.methods.mias_sam.index import EXHAUSTIVE_ROWS, FACTORIES, choose_index
from miasbench.methods.mias_sam.memory_bank import MemoryBank, anomaly_map, patch_descriptors
from miasbench.methods.mias_sam.prompts import centroid_prompt
from miasbench.methods.weights import checksum

RELEASED = json.loads(Path(__file__).with_name("released_code.json").read_text())


def features(seed: int, count: int, bump: bool) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal((count, 256, 64, 64), dtype=np.float32)
    if bump:
        values[-1, :, 20:34, 36:52] += 1.5
    return torch.from_numpy(values)


def described(seed: int, count: int, bump: bool) -> list[np.ndarray]:
    return [patch_descriptors(one[None], 5, 2, 1024)[0].numpy() for one in features(seed, count, bump)]


def filled(images: list[np.ndarray], index: str = "exact", held_out: int = 0, **options: float) -> MemoryBank:
    bank = MemoryBank(len(images), index, held_out=held_out, **options)  # type: ignore[arg-type]
    for rows in images:
        bank.add(rows)
    bank.finish()
    return bank


def brute_force(queries: np.ndarray, rows: np.ndarray, neighbours: int) -> np.ndarray:
    squared = cdist(queries, rows, "sqeuclidean")
    return np.sort(squared, axis=1)[:, :neighbours].mean(axis=1)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """24 images of 256 patches of 96 numbers that vary in 12 directions, and a little in all."""
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(24, 256, 12)) @ rng.normal(size=(12, 96)) + 0.1 * rng.normal(size=(24, 256, 96))
    return list(wide.astype(np.float32))


def test_agrees_with_the_released_code() -> None:
    rows = described(11, 3, bump=False)
    sampled = np.concatenate(rows)[: 32 * 97 : 8 * 97, ::256]
    np.testing.assert_allclose(sampled, RELEASED["bank_rows"], rtol=1e-4, atol=1e-6)
    bank = filled(rows)
    assert len(bank) == 3072
    distances = np.stack([bank.distances(one) for one in described(12, 2, bump=True)])
    np.testing.assert_allclose(distances.reshape(2, 32, 32)[:, ::8, ::8], RELEASED["patch_scores"], rtol=1e-4)
    np.testing.assert_allclose(distances.max(axis=1), RELEASED["image_scores"], rtol=1e-4)
    maps = np.stack([anomaly_map(one, 256, sigma=4.0) for one in distances])
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps[:, ::64, ::64], RELEASED["maps"], rtol=1e-4)
    normalised = (maps - maps.min()) / (maps.max() - maps.min())
    np.testing.assert_allclose(normalised[:, ::64, ::64], RELEASED["normalised_maps"], rtol=1e-4, atol=1e-7)
    for one, expected in zip(normalised, RELEASED["centroids"], strict=True):
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
@pytest.mark.parametrize("held_out", [0, 1, 2])
def test_the_exact_search_is_exhaustive(neighbours: int, held_out: int) -> None:
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(10, 6)).astype(np.float32) for _ in range(4)]
    bank = filled(images, held_out=held_out, neighbours=neighbours)
    queries = rng.normal(size=(10, 6)).astype(np.float32)
    expected = brute_force(queries, np.concatenate(images), neighbours)
    np.testing.assert_allclose(bank.distances(queries), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("index", ["exact", "half", "IVF4,Flat"])
def test_held_out_images_are_held_against_the_others_and_then_added(
    images: list[np.ndarray], index: str, neighbours: int
) -> None:
    bank = filled(images[:8], index, held_out=2, neighbours=neighbours)
    held_out = bank.held_out
    assert held_out is not None
    others = np.concatenate(images[2:8])
    expected = np.stack([brute_force(rows, others, neighbours) for rows in images[:2]])
    np.testing.assert_allclose(held_out.exact, expected, rtol=1e-3)
    np.testing.assert_allclose(held_out.indexed, expected, rtol=0.02)
    assert held_out.recall > 0.95
    assert len(bank) == 8 * 256
    assert filled(images[:8], index, held_out=2).distances(images[0]).max() < 0.05, "it is in the bank by now"


@pytest.mark.parametrize(
    ("index", "recall", "error"),
    [
        ("exact", 1.0, 1e-6),
        ("half", 0.99, 1e-3),
        ("8bit", 0.9, 0.02),
        ("ivf", 0.8, 0.1),
        ("ivf_8bit", 0.8, 0.1),
        ("pca_ivf", 0.8, 0.1),
        ("pq", 0.1, 0.5),
        ("IVF8,Flat", 0.95, 0.02),
        ("HNSW16", 0.8, 0.1),
    ],
)
def test_what_an_index_loses_is_measured(images: list[np.ndarray], index: str, recall: float, error: float) -> None:
    if index == "pq":  # whose training takes a second for every few numbers
        images = [np.ascontiguousarray(rows[:, :16]) for rows in images]
    bank = filled(images, index, held_out=4)
    held_out = bank.held_out
    assert held_out is not None
    assert recall <= held_out.recall <= 1
    assert np.linalg.norm(held_out.indexed - held_out.exact) <= error * np.linalg.norm(held_out.exact)
    others = np.concatenate(images[4:])
    hits = np.isclose(held_out.indexed, [brute_force(rows, others, 1) for rows in images[:4]], rtol=1e-4)
    if index in ("exact", "ivf", "IVF8,Flat", "HNSW16"):  # their distances are exact where the row is the right one
        assert hits.mean() == pytest.approx(held_out.recall, abs=0.01)


def test_rows_that_come_after_training_are_as_good_as_those_before() -> None:
    """FAISS trains on the first 16,384 rows or more; of these 20 images, the last 4 only stream through."""
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(1024, 8)).astype(np.float32) for _ in range(20)]
    bank = filled(images, "IVF16,Flat", held_out=2, probes=16)
    assert len(bank) == 20 * 1024
    for image in (images[0], images[5], images[19]):
        assert bank.distances(image).max() < 1e-4
    queries = rng.normal(size=(64, 8)).astype(np.float32)
    np.testing.assert_allclose(bank.distances(queries), brute_force(queries, np.concatenate(images), 1), rtol=1e-3)
    assert bank.held_out is not None
    assert bank.held_out.recall == 1
    expected = brute_force(images[0][:64], np.concatenate(images[2:]), 1)
    np.testing.assert_allclose(bank.held_out.exact[0, :64], expected, rtol=1e-3)


def test_memory_that_was_reserved_and_is_not_needed_changes_nothing(images: list[np.ndarray]) -> None:
    roomy = MemoryBank(1000, "half")
    for rows in images[:4]:
        roomy.add(rows)
    roomy.finish()
    np.testing.assert_array_equal(roomy.distances(images[9]), filled(images[:4], "half").distances(images[9]))
    assert len(roomy) == 4 * 256


@pytest.mark.parametrize(("index", "row"), [("exact", 4 * 96), ("half", 2 * 96), ("8bit", 96), ("ivf_8bit", 96 + 8)])
def test_a_bank_knows_how_much_it_keeps(images: list[np.ndarray], index: str, row: int, tmp_path: Path) -> None:
    bank = filled(images, index)
    assert bank.nbytes == 24 * 256 * row
    bank.save(tmp_path / "bank")
    written = (tmp_path / "bank" / "bank.faiss").stat().st_size
    assert written == pytest.approx(bank.nbytes, rel=0.1), "which the cache is told beforehand"


def test_where_fewer_neighbours_are_found_their_mean_is_taken(images: list[np.ndarray]) -> None:
    bank = filled(images[:2], neighbours=400, held_out=1)
    assert bank.held_out is not None
    np.testing.assert_allclose(bank.held_out.exact[0], brute_force(images[0], images[1], 256), rtol=1e-3)
    few = filled(images[:2], "IVF8,Flat", neighbours=400, held_out=1, probes=1)
    assert few.held_out is not None
    assert few.held_out.indexed.max() < few.held_out.exact.max(), "of one list only"
    assert np.isfinite(few.distances(images[2])).all()


@pytest.mark.parametrize("index", ["ivf", "pca_ivf"])
def test_where_nothing_is_found_nothing_is_near(index: str) -> None:
    """Many rows that are the same, such as those of a black border, leave most lists empty."""
    rng = np.random.default_rng(0)
    low_rank = rng.normal(size=(40, 256, 6)) @ rng.normal(size=(6, 64)) + 0.1 * rng.normal(size=(40, 256, 64))
    images = low_rank.astype(np.float32)
    images[:, :200] = images[0, 0]
    anomalous = images[0, 0] + 3 * rng.normal(size=(256, 64)).astype(np.float32)
    expected = brute_force(anomalous, images.reshape(-1, 64)[::7], 1).min()  # about 300
    assert filled(list(images), index).distances(anomalous).min() > expected / 2


def test_fewer_probes_find_less(images: list[np.ndarray]) -> None:
    found = [filled(images, "IVF64,Flat", held_out=4, probes=probes).held_out for probes in (1, 4, 64)]
    recalls = [held_out.recall for held_out in found if held_out]
    assert recalls[0] < recalls[1] < recalls[2] == 1


def test_a_coreset_keeps_its_share_of_the_rows(images: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    images = images[:12]
    bank = filled(images, "coreset", held_out=2, coreset=0.05)
    assert len(bank) == int(12 * 256 * 0.05)
    rows = np.concatenate(images)
    distances = bank.distances(rows)
    assert (distances < 0.01).sum() >= len(bank), "rows of the bank, but for half precision"
    random = filled([rows[np.random.default_rng(0).permutation(len(rows))[: len(bank)]]])
    assert distances.max() < random.distances(rows).max(), "no row is as far from a coreset as from random rows"


def test_a_coreset_is_held_against_other_images_only(images: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    others = np.concatenate(images[2:6])
    expected = np.stack([brute_force(rows, others, 1) for rows in images[:2]])
    whole = filled(images[:6], "coreset", held_out=2, coreset=1.0).held_out
    assert whole is not None
    np.testing.assert_allclose(whole.exact, expected, rtol=1e-3)
    np.testing.assert_allclose(whole.indexed, expected, rtol=0.01)
    assert whole.recall > 0.99
    half = filled(images[:6], "coreset", held_out=2, coreset=0.5).held_out
    assert half is not None
    assert (half.indexed > 0.99 * expected).all(), "though rows of the same images are in the coreset"
    assert 0.1 < half.recall < 0.9


def test_auto_picks_by_size_and_says_why() -> None:
    small, large = (choose_index("auto", rows, 1024) for rows in (EXHAUSTIVE_ROWS, EXHAUSTIVE_ROWS + 1))
    assert (small.name, small.factory, small.exact) == ("exact", "Flat", True)
    assert small.reason == "32,768 rows are no more than 32,768"
    assert (large.name, large.exact) == ("pca_ivf", False)
    assert large.reason == "32,769 rows are more than 32,768"
    assert choose_index("auto", 7_680_000, 1024).factory == "PCA64,IVF4096,PQ64x4fs,Refine(SQ8)"
    assert choose_index("pca_ivf", 7_680_000, 16).factory == "PCA16,IVF4096,PQ16x4fs,Refine(SQ8)"
    assert choose_index("OPQ16,PQ16", 10, 1024).factory == "OPQ16,PQ16"


@pytest.mark.parametrize("index", ["exact", "pca_ivf", "coreset"])
def test_a_saved_bank_is_read_back(images: list[np.ndarray], index: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bank = filled(images, index, held_out=2, neighbours=2)
    bank.seconds = 12.5
    bank.save(tmp_path / "bank")
    again = MemoryBank.load(tmp_path / "bank")
    np.testing.assert_array_equal(again.distances(images[5]), bank.distances(images[5]))
    assert (again.choice, again.seconds, len(again)) == (bank.choice, 12.5, len(bank))
    assert bank.held_out is not None
    assert again.held_out is not None
    np.testing.assert_array_equal(again.held_out.exact, bank.held_out.exact)
    np.testing.assert_array_equal(again.held_out.indexed, bank.held_out.indexed)
    assert again.held_out.recall == bank.held_out.recall
    with np.load(tmp_path / "bank" / "bank.npz", allow_pickle=False) as arrays:
        assert all(array.dtype != object for array in arrays.values())
    filled(images[:2]).save(tmp_path / "none held out")
    assert MemoryBank.load(tmp_path / "none held out").held_out is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", ["bank.faiss", "bank.npz"])
def test_a_bank_is_read_from_its_own_files(name: str, images: list[np.ndarray], tmp_path: Path) -> None:
    filled(images[:2]).save(tmp_path / "bank")
    file = tmp_path / "bank" / name
    file.rename(tmp_path / name)
    file.symlink_to(tmp_path / name)
    with pytest.raises(OSError, match="symbolic link"):
        MemoryBank.load(tmp_path / "bank")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="a file of it is missing"):
        MemoryBank.load(tmp_path / "bank")


@pytest.mark.parametrize("damage", ["bank.faiss", "bank.npz"])
@pytest.mark.parametrize("how", ["cut", "gone", "empty", "nonsense", "one bit"])
def test_a_damaged_bank_is_not_read(images: list[np.ndarray], damage: str, how: str, tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    filled(images[:2]).save(folder)
    content = (folder / damage).read_bytes()
    match how:
        case "cut":
            (folder / damage).write_bytes(content[: len(content) // 2])
        case "empty":
            (folder / damage).write_bytes(b"")
        case "one bit":
            middle = len(content) // 2
            (folder / damage).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "nonsense":
            (folder / damage).write_bytes(b"nonsense" * (len(content) // 8))
        case _:
            (folder / damage).unlink()
    with pytest.raises(OSError):
        MemoryBank.load(folder)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("nonsense", "Known names: auto, exact"),
        ("PQ7", r"rows of 96 numbers .*multiple of the number of subquantizers"),
        ("IVF9999,Flat", "cannot train IVF9999,Flat on 4 images .*at least as large as number of clusters"),
        ("PCA200,Flat", r"cannot train PCA200,Flat on 4 images .*cannot output 200 dimensions from 96"),
    ],
)
def test_an_index_that_cannot_be_made_is_said(images: list[np.ndarray], index: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        filled(images[:4], index)
    assert f"mias_sam.index={index}" in str(error.value)


def test_an_index_that_needs_more_rows_is_said(images: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match=r"mias_sam\.index=pq: FAISS cannot train .* on 1 images .*256"):
        filled([images[0][:200]], "pq")
    with pytest.raises(UsageError, match=r"mias_sam\.index=pca_ivf: .*Use a simpler index, or exact"):
        filled([images[0][:8]], "pca_ivf")


def test_a_bank_that_will_not_fit_into_memory_says_so_at_once() -> None:
    with pytest.raises(
        UsageError, match=r"1,000,000,000 images .* index exact\) needs 3[0-9.]+ GiB of memory"
    ) as error:
        MemoryBank(10**9).add(np.zeros((1, 10), np.float32))
    assert "index=pca_ivf" in str(error.value)


def test_every_named_index_is_tested() -> None:
    assert set(FACTORIES) == {"exact", "half", "8bit", "ivf", "ivf_8bit", "pca_ivf", "pq", "coreset"}


def test_a_map_is_the_patch_scores_upsampled_and_smoothed() -> None:
    scores = np.random.default_rng(3).random(16).astype(np.float32)
    grid = torch.from_numpy(scores.reshape(1, 1, 4, 4))
    wide = F.interpolate(grid, (40, 40), mode="bilinear", align_corners=False)[0, 0].numpy()
    np.testing.assert_array_equal(anomaly_map(scores, 40, sigma=0), wide)
    np.testing.assert_allclose(anomaly_map(scores, 40, sigma=2.5), gaussian_filter(wide, 2.5), rtol=1e-6)
    np.testing.assert_allclose(anomaly_map(np.full(16, 7, np.float32), 40, sigma=4), 7, rtol=1e-6)


def test_goes_to_another_process(images: list[np.ndarray]) -> None:
    bank = filled(images[:3])
    sent = pickle.loads(pickle.dumps(bank))
    np.testing.assert_array_equal(sent.distances(images[3]), bank.distances(images[3]))


def test_a_bank_whose_rows_are_in_another_file_is_not_taken(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((400, 8), dtype=np.float32)
    filled([rows[:200], rows[200:]], "ivf").save(tmp_path / "bank")
    read = faiss.read_index(str(tmp_path / "bank" / "bank.faiss"))
    index: Any = faiss.downcast_index(read)  # the same one, which `read` owns
    elsewhere = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(tmp_path / "elsewhere"))
    elsewhere.merge_from_1(index.invlists)
    index.replace_invlists(elsewhere, False)
    faiss.write_index(index, str(tmp_path / "bank" / "bank.faiss"))
    with np.load(tmp_path / "bank" / "bank.npz") as kept:
        arrays = dict(kept)
    arrays["sha256"] = np.array(checksum(tmp_path / "bank" / "bank.faiss"))
    np.savez(tmp_path / "bank" / "bank.npz", **arrays)
    with pytest.raises(OSError, match="its rows are in another file"):
        MemoryBank.load(tmp_path / "bank")
