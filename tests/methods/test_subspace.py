from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from miasbench.methods.backbones import BACKBONES
from miasbench.methods.features import PatchFeatures
from miasbench.methods.subspace import Moments, SubspaceAD

from ..support.textures import spotted, textures


def fitted(images: Sequence[np.ndarray], **options: float) -> SubspaceAD:
    method = SubspaceAD(**options)
    method.weights = "embedded"
    method.fit(images)
    return method


@pytest.mark.parametrize("grey", [30, 220])
def test_a_spot_on_a_normal_texture_stands_out(grey: int) -> None:
    image, spot = spotted(grey)
    found = fitted(textures(6)).predict(image)
    assert found.anomaly_map.shape == image.shape
    assert found.anomaly_map.dtype == np.float32
    assert roc_auc_score(spot.ravel(), found.anomaly_map.ravel()) > 0.95
    assert found.image_score > fitted(textures(6)).predict(textures(7)[6]).image_score


def test_the_subspace_is_scikit_learns() -> None:
    features = np.random.default_rng(0).normal(size=(500, 12)) @ np.random.default_rng(1).normal(size=(12, 12)) + 5
    moments = Moments(12, "cpu")
    for batch in np.array_split(features, 7):
        moments.add(torch.from_numpy(batch))
    for explained in (0.5, 0.9, 0.99):
        ours, theirs = moments.subspace(explained=explained), PCA(explained, svd_solver="full").fit(features)
        assert len(ours.axes) == theirs.n_components_
        residuals = features - theirs.inverse_transform(theirs.transform(features))
        distances = ours.distances(torch.from_numpy(features).float())
        np.testing.assert_allclose(distances, np.linalg.norm(residuals, axis=1), rtol=1e-4, atol=1e-4)


def test_the_map_is_the_residual_of_scikit_learns_subspace() -> None:
    train, (image, _) = textures(4), spotted(220)
    extractor = PatchFeatures(BACKBONES["embedded"]).eval()
    theirs = PCA(0.9, svd_solver="full").fit(extractor.of(train, "cpu").flatten(0, 2).double().numpy())
    features = extractor.of([image], "cpu")[0].flatten(0, 1).double().numpy()
    residual = np.linalg.norm(features - theirs.inverse_transform(theirs.transform(features)), axis=1)
    found = fitted(train, explained=0.9, sigma=0).predict(image).anomaly_map
    corners = np.ix_([0, -1], [0, -1])  # which bilinear enlarging leaves as they are
    np.testing.assert_allclose(found[corners], residual.reshape(8, 8)[corners], rtol=1e-3)


def test_where_nothing_varies_the_distance_is_that_from_the_mean() -> None:
    moments = Moments(3, "cpu")
    moments.add(torch.tensor([[1.0, 2.0, 3.0]] * 4))
    subspace = moments.subspace(explained=0.9)
    assert subspace.axes.shape == (0, 3)
    assert subspace.distances(torch.tensor([1.0, 2.0, 7.0])).item() == 4


def test_a_single_image_and_a_constant_one_are_taken() -> None:
    found = fitted([np.full((64, 64), 90, np.uint8)]).predict(np.zeros((64, 64), np.uint8))
    assert np.isfinite(found.anomaly_map).all()


def test_the_image_score_is_the_mean_of_the_highest_hundredth() -> None:
    found = fitted(textures(3)).predict(spotted(220)[0])
    assert found.image_score == pytest.approx(np.sort(found.anomaly_map.ravel())[-41:].mean())
