"""The textbook agrees with the released code, whose numbers tests/methods/released_code.json explains."""

import json
from pathlib import Path

import faiss
import numpy as np
import torch

from .textbook import anomaly_map, centroid, descriptors, distances, normalised

RELEASED = json.loads((Path(__file__).parents[1] / "tests/methods/released_code.json").read_text())


def features(seed: int, count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 256, 64, 64), dtype=np.float32))


def assert_agrees(found: np.ndarray, name: str) -> None:
    np.testing.assert_allclose(found, RELEASED[name], rtol=1e-4, atol=1e-7, err_msg=name)  # atol: some are exactly 0


def test_agrees_with_the_released_code() -> None:
    train, test = features(11, 3), features(12, 2)
    test[-1, :, 20:34, 36:52] += 1.5
    rows = np.concatenate([descriptors(one[None]) for one in train])
    bank = faiss.IndexFlatL2(1024)
    bank.add(rows)
    scores = np.stack([distances(bank, descriptors(one[None])) for one in test])
    maps = np.stack([anomaly_map(one, 256) for one in scores])

    assert_agrees(rows[: 32 * 97 : 8 * 97, ::256], "bank_rows")
    assert_agrees(scores.reshape(2, 32, 32)[:, ::8, ::8], "patch_scores")
    assert_agrees(scores.max(axis=1), "image_scores")
    assert_agrees(maps[:, ::64, ::64], "maps")
    assert_agrees(normalised(maps)[:, ::64, ::64], "normalised_maps")
    assert_agrees(np.array([centroid(one) for one in normalised(maps)]), "centroids")
