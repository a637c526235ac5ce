import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from miasbench.harness.scoring.calibration import expected_calibration_error, platt_map


class AsItIs(ClassifierMixin, BaseEstimator):
    """Its decision is the score itself."""

    classes_ = np.array([0, 1])

    def fit(self, *_: object) -> "AsItIs":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, scores: np.ndarray) -> np.ndarray:
        return scores[:, 0] > 0

    def decision_function(self, scores: np.ndarray) -> np.ndarray:
        return scores[:, 0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_platts_map_is_scikit_learns(scale: float) -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(60) < 0.4
    scores = scale * (rng.standard_normal(60) + labels + 5)
    slope, intercept = platt_map(scores, labels)
    theirs = CalibratedClassifierCV(FrozenEstimator(AsItIs()), method="sigmoid")
    theirs.fit(scores[:, None], labels.astype(int))
    expected = theirs.predict_proba(scores[:, None])[:, 1]
    np.testing.assert_allclose(expit(slope * scores + intercept), expected, atol=1e-4)


def test_labels_that_can_be_parted_and_scores_that_are_alike_leave_it_finite() -> None:
    labels = np.repeat([False, True], 5)
    slope, intercept = platt_map(np.arange(10.0), labels)
    said = expit(slope * np.arange(10) + intercept)
    assert (said[:5] < 0.5).all()
    assert (said[5:] > 0.5).all()
    slope, intercept = platt_map(np.full(10, 7.0), labels)
    assert expit(slope * 7 + intercept) == pytest.approx(0.5)


def test_the_error_is_the_gap_between_what_is_said_and_what_is() -> None:
    probabilities = np.array([0.05, 0.05, 0.85, 0.85, 1.0])
    labels = np.array([False, True, True, True, True])
    # Bins: two images say 0.05 where half are anomalous, two say 0.85 where all are, one says 1 and is.
    assert expected_calibration_error(probabilities, labels) == pytest.approx(2 / 5 * 0.45 + 2 / 5 * 0.15)
    rng = np.random.default_rng(2)
    said = rng.random(200_000)
    assert expected_calibration_error(said, rng.random(200_000) < said) < 0.01
    assert expected_calibration_error(said, rng.random(200_000) < said**2) > 0.1
