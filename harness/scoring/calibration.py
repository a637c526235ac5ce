"""How far image scores can be read as probabilities.

Scores have no bounds and no unit, so none is a probability as it stands. What can be asked is whether a map that was
fitted on the labels of the validation split alone turns them into probabilities that hold on the test split. The map is
Platt's, a logistic curve of two parameters (Platt 1999).
"""

from typing import cast

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

BINS = 10


def platt_map(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fits Platt's map by maximum likelihood, with his targets, which keep it finite where the labels can be parted.

    Args:
        scores: float (N,), finite.
        labels: bool (N,), with both values.

    Returns:
        Slope and intercept: the probability of being anomalous is `expit(slope * score + intercept)`.
    """
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    steps = (scores - middle) / spread
    positives = np.count_nonzero(labels)
    negatives = len(labels) - positives
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        logits = line[0] * steps + line[1]
        wrong = expit(logits) - targets
        slopes = np.array([wrong @ steps, wrong.sum()]) / len(wrong)
        return float((np.logaddexp(0, logits) - targets * logits).mean()), slopes

    slope, intercept = cast(np.ndarray, minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9}).x)
    return float(slope / spread), float(intercept - slope * middle / spread)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How far the share of anomalous images is from what was said (Naeini, Cooper and Hauskrecht, AAAI 2015).

    Args:
        probabilities: Of being anomalous, float (N,), 0 to 1. They are put into 10 bins of equal width.
        labels: bool (N,).

    Returns:
        The mean over images of the difference, without its sign, between both means of their bin; 0 to 1.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, weights=labels - probabilities)).sum() / len(labels))
