"""How often a 95 % interval over patients holds the truth: `python -m benchmarks.coverage`, some minutes.

Each number is the share of simulated test sets, in %, whose interval holds what the score would be with endless
patients. docs/scores.md has the table.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from miasbench.harness.scoring.intervals import Interval, PatientCurves, auroc_interval, mean_interval
from miasbench.harness.scoring.ranking import rank_pixels

PATIENTS = (2, 3, 5, 8, 12, 24, 60)
ENDLESS = 20_000  # patients
SHARE = (0.0, 1.0)
DIFFERENCE = (-1.0, 1.0)
POOLED: tuple[str, ...] = ("pixel_auroc", "pixel_ap", "aupro", "best_f1")
Random = np.random.Generator
Levels = Callable[[Random, int], np.ndarray]


def normal(rng: Random, count: int) -> np.ndarray:
    return rng.normal(0.5, 0.1, count)


def skewed(rng: Random, count: int) -> np.ndarray:
    return rng.beta(0.5, 2, count)


def high(rng: Random, count: int) -> np.ndarray:
    return rng.beta(9, 1, count)


def half_zero(rng: Random, count: int) -> np.ndarray:
    return np.where(rng.random(count) < 0.5, 0, rng.beta(3, 2, count))


def difference(rng: Random, count: int) -> np.ndarray:
    """Of two methods, each of which misses three patients of ten."""
    found = rng.beta(3, 3, (2, count)) * (rng.random((2, count)) < 0.7)
    return found[0] - found[1]


MEANS: dict[str, tuple[Levels, tuple[float, float]]] = {
    "normal": (normal, SHARE),
    "skewed: beta(0.5, 2)": (skewed, SHARE),
    "high: beta(9, 1)": (high, SHARE),
    "half of the patients 0": (half_zero, SHARE),
    "difference of two methods": (difference, DIFFERENCE),
}


def mean(levels: Levels, bounds: tuple[float, float], most: int, rng: Random, count: int) -> tuple[float, Interval]:
    """A mean over images, of which each patient has 1 to `most` that are alike, and its interval."""
    index = np.repeat(np.arange(count), rng.integers(1, most + 1, count))
    alike = rng.uniform(0.7, 1.3, len(index)) if most > 1 else 1.0
    values = np.clip(levels(rng, count)[index] * alike, *bounds)
    return float(values.mean()), mean_interval(values, index.astype(str).tolist(), bounds)


def image_auroc(rng: Random, count: int, normal_only: int = 0) -> tuple[float, Interval]:
    """Image AUROC of patients with 2 to 6 images of both kinds, beside others with normal images only."""
    index = np.repeat(np.arange(count + normal_only), rng.integers(2, 7, count + normal_only))
    labels = (rng.random(len(index)) < 0.5) & (index < count)
    first = np.flatnonzero(np.diff(index, prepend=-1))
    labels[first], labels[first + 1] = index[first] < count, False
    shift = rng.normal(0, 0.7, (2, count + normal_only))
    scores = rng.normal(size=len(index)) + shift[0, index] + labels * (1.5 + shift[1, index])
    won = np.searchsorted(np.sort(scores[~labels]), scores[labels]).sum()
    return won / labels.sum() / (~labels).sum(), auroc_interval(scores, labels, index.astype(str).tolist())


def pooled(rng: Random, count: int) -> tuple[dict[str, float], dict[str, Interval]]:
    """Pixel metrics of patients with one image of 16 x 16 pixels each, all with a lesion."""
    rows = np.arange(16)
    radius, level = rng.uniform(2, 6, count), rng.normal(1.5, 0.7, count)
    truths = np.hypot(rows[:, None] - 7.5, rows - 7.5) < radius[:, None, None]
    maps = rng.normal(size=truths.shape) + level[:, None, None] * truths
    maps = np.round(maps, 2).astype(np.float32)
    whole = rank_pixels(list(maps), list(truths))
    values = whole.auroc, whole.average_precision, whole.aupro(), whole.best_f1()[1]
    exact = dict(zip(POOLED, map(float, values), strict=True))
    if count == ENDLESS:
        return exact, {}
    thresholds = np.append(np.quantile(maps, np.linspace(1, 0, 64)), -np.inf)
    ranked = [rank_pixels([one], [truth]) for one, truth in zip(maps, truths, strict=True)]
    counts = [one.at(thresholds) for one in ranked]
    overlap = np.array([one.regions * one.overlap_at(thresholds) for one in ranked])
    true, false = (np.array([of_patient[side] for of_patient in counts]) for side in (0, 1))
    return exact, PatientCurves(true, false, overlap, np.array([one.regions for one in ranked])).intervals(exact)


def coverage(draw: Callable[[Random, int], tuple[float, Interval]], repeats: int) -> list[str]:
    """The share of test sets whose interval holds the truth, in %, for each number of patients."""
    rng = np.random.default_rng(0)
    truth = np.mean([draw(rng, ENDLESS)[0] for _ in range(5)])
    shares = []
    for count in PATIENTS:
        found = [draw(rng, count)[1] for _ in range(repeats)]
        shares.append(np.mean([interval.low <= truth <= interval.high for interval in found]))
    return [f"{100 * share:.0f}" for share in shares]


def pooled_coverage(repeats: int) -> dict[str, list[str]]:
    """The same of every pooled pixel metric, of the same test sets."""
    rng = np.random.default_rng(0)
    truth = pooled(rng, ENDLESS)[0]
    shares: dict[str, list[str]] = {name: [] for name in POOLED}
    for count in PATIENTS:
        found = [pooled(rng, count)[1] for _ in range(repeats)]
        for name in POOLED:
            held = np.mean([one[name].low <= truth[name] <= one[name].high for one in found])
            shares[name].append(f"{100 * held:.0f}")
    return shares


def main(repeats: int = 2000) -> None:
    """Prints the table of docs/scores.md."""
    rows = {}
    for images, most in (("one image each", 1), ("1 to 12 images each", 12)):
        for name, (levels, bounds) in MEANS.items():
            rows[f"{name}, {images}"] = coverage(partial(mean, levels, bounds, most), repeats)
    rows["image AUROC"] = coverage(image_auroc, repeats)
    rows["image AUROC, 20 more patients without a lesion"] = coverage(
        lambda rng, count: image_auroc(rng, count, 20 * (count < ENDLESS)), repeats
    )
    rows |= pooled_coverage(repeats // 4)
    print(f"| patients | {' | '.join(map(str, PATIENTS))} |\n|---|{'---|' * len(PATIENTS)}")
    for name, shares in rows.items():
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
