import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from miasbench.harness.registry import build_method


@pytest.mark.parametrize("sigma", [0.0, 2.0, 5.0])
def test_the_map_is_the_smoothed_grey_value(sigma: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    method = build_method("intensity", {"sigma": sigma}, weights="embedded", device="cpu", seed=0)
    method.fit([])
    prediction = method.predict(image)
    np.testing.assert_allclose(prediction.anomaly_map, gaussian_filter(image.astype(float), sigma), atol=1e-3)
    assert prediction.image_score == prediction.anomaly_map.max()
    assert prediction.mask is None


def test_bright_is_anomalous_whatever_the_smoothing_keeps() -> None:
    image = np.zeros((64, 64), np.uint8)
    image[20:30, 40:50] = 200
    prediction = build_method("intensity", {}, weights="published", device="cpu", seed=0).predict(image)
    y, x = np.unravel_index(prediction.anomaly_map.argmax(), (64, 64))
    assert 20 <= y < 30
    assert 40 <= x < 50
