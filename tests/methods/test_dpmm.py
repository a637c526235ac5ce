from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.mixture import BayesianGaussianMixture
from torch.nn import functional

from miasbench.methods.backbones import BACKBONES
from miasbench.methods.dpmm import Dpmm
from miasbench.methods.features import PatchFeatures
from miasbench.methods.subspace import Moments

from ..support.textures import spotted, textures


def fitted(images: Sequence[np.ndarray], seed: int = 0, **options: Any) -> Dpmm:
    values: dict[str, Any] = {"components": 4, "dimension": 6} | options
    method = Dpmm(**values)
    method.weights, method.seed = "embedded", seed
    method.fit(images)
    return method


@pytest.mark.parametrize("score", ["similarity", "likelihood"])
@pytest.mark.parametrize("grey", [30, 220])
def test_a_spot_on_a_normal_texture_stands_out(score: str, grey: int) -> None:
    image, spot = spotted(grey)
    found = fitted(textures(6), score=score).predict(image)
    assert found.anomaly_map.shape == image.shape
    assert found.anomaly_map.dtype == np.float32
    assert roc_auc_score(spot.ravel(), found.anomaly_map.ravel()) > 0.9
    assert found.image_score == found.anomaly_map.max()


def test_the_likelihood_is_scikit_learns() -> None:
    train, (image, _) = textures(4), spotted(220)
    extractor = PatchFeatures(BACKBONES["embedded"]).eval()
    normal, shown = (functional.normalize(extractor.of(some, "cpu"), dim=-1).flatten(0, 2) for some in (train, [image]))
    moments = Moments(extractor.channels, "cpu")
    moments.add(normal)
    subspace = moments.subspace(dimensions=6)
    mixture = BayesianGaussianMixture(n_components=1, covariance_type="diag", random_state=0)
    mixture.fit(subspace.coordinates(normal).double().numpy())  # one component: the order of patches does not matter
    expected = -mixture.score_samples(subspace.coordinates(shown).double().numpy()).reshape(8, 8)
    found = fitted(train, components=1, score="likelihood", sigma=0).predict(image).anomaly_map
    corners = np.ix_([0, -1], [0, -1])  # which bilinear enlarging leaves as they are
    np.testing.assert_allclose(found[corners], expected[corners], rtol=1e-3)


def test_the_similarity_is_that_to_the_mean_where_there_is_one_component() -> None:
    train, (image, _) = textures(4), spotted(220)
    extractor = PatchFeatures(BACKBONES["embedded"]).eval()
    centre = functional.normalize(extractor.of(train, "cpu"), dim=-1).flatten(0, 2).mean(dim=0)
    cosine = torch.cosine_similarity(extractor.of([image], "cpu")[0], centre, dim=-1)
    found = fitted(train, components=1, sigma=0).predict(image).anomaly_map
    np.testing.assert_allclose(found[0, [0, -1]], 1 - cosine[0, [0, -1]], rtol=1e-2)


def test_the_seed_decides() -> None:
    train, (image, _) = textures(4), spotted(220)
    one, same, other = (fitted(train, seed, sample=60).predict(image).anomaly_map for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_constant_images_are_taken() -> None:
    found = fitted([np.full((64, 64), 90, np.uint8)] * 2).predict(np.zeros((64, 64), np.uint8))
    assert np.isfinite(found.anomaly_map).all()
