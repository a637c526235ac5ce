"""`prompt=vote`: many boxes are read off the map, SAM answers each one, and the answers are averaged. Not the paper's.

A box around the map's centre of gravity is one guess among many, and the best of about fifty guesses would score far
higher. No label is needed to listen to all of them: an answer counts by how well it overlaps the map, and the averaged
logits are cut at 0, SAM's own border between inside and outside.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import find_objects, label, maximum_filter
from skimage.segmentation import watershed

from .prompts import EIGHT_NEIGHBOURS, Box, centroid_prompt, square

_GAMMAS = (1, 2, 3, 5, 8, 12)
_SCALES = (1.0, 1.5, 2.0, 2.5)
_LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the map's maximum
_REGIONS = 3  # the heaviest at each level
_PEAKS = 5  # the highest
_PEAK_LEVEL = 0.25
_PEAK_WIDTH = 25 / 256  # of the image: within it, a peak is the highest place
_PEAK_SCALES = (1.5, 2.5)
_HALF_WIDTHS = (12 / 256, 20 / 256, 32 / 256, 48 / 256, 72 / 256)  # of the image
_PEAK_HALF_WIDTHS = (16 / 256, 32 / 256)
_GAMMA = 5  # where a single sharpness is needed, the paper's
_VOTE_GAMMA = 3
_CLIP = 10.0  # logits; SAM's certainty beyond it says no more


def candidate_boxes(unit_map: np.ndarray) -> list[Box]:
    """Boxes around what stands out of a map, at several sharpnesses and sizes: about fifty.

    Args:
        unit_map: float32 (S, S), the map minus its floor, divided by its maximum.

    Returns:
        Different boxes (x0, y0, x1, y1) in pixels; none where the map has no weight.
    """
    if not unit_map.any():
        return []
    return list(dict.fromkeys(tuple(round(edge, 2) for edge in box) for box in _boxes(unit_map)))  # type: ignore[misc]


def _boxes(unit_map: np.ndarray) -> Iterator[Box]:
    size = len(unit_map)
    weights = unit_map**_GAMMA
    for gamma in _GAMMAS:
        for scale in _SCALES:
            yield _centroid_box(unit_map**gamma, scale)
    for level in _LEVELS:
        yield from _heaviest_regions(unit_map >= level, weights)
    peaks = _peaks(unit_map)
    markers = np.zeros(unit_map.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    basins = watershed(-unit_map, markers)
    for basin in range(1, len(peaks) + 1):
        for scale in _PEAK_SCALES:
            yield _centroid_box(np.where(basins == basin, weights, 0), scale)
    centre = centroid_prompt(weights)
    if centre is not None and centre.point is not None:
        yield from (square(centre.point, half * size, size) for half in _HALF_WIDTHS)
    for y, x in peaks[:2]:
        yield from (square((x, y), half * size, size) for half in _PEAK_HALF_WIDTHS)


def _centroid_box(weights: np.ndarray, scale: float) -> Box:
    prompt = centroid_prompt(weights, scale)
    assert prompt is not None
    assert prompt.box is not None
    return prompt.box


def _heaviest_regions(above: np.ndarray, weights: np.ndarray) -> Iterator[Box]:
    """The bounding boxes of the connected regions with the largest weight."""
    regions, _ = label(above, structure=EIGHT_NEIGHBOURS)  # type: ignore[misc]
    mass = np.bincount(regions.ravel(), weights.ravel())[1:]
    places = find_objects(regions)
    for index in np.argsort(-mass, kind="stable")[:_REGIONS]:
        rows, columns = places[index]
        yield columns.start, rows.start, columns.stop - 1, rows.stop - 1


def _peaks(unit_map: np.ndarray) -> np.ndarray:
    """Row and column of the highest local maxima, int (N, 2), the highest first."""
    width = max(3, round(_PEAK_WIDTH * len(unit_map)))
    found = np.argwhere((maximum_filter(unit_map, width) == unit_map) & (unit_map > _PEAK_LEVEL))
    return found[np.argsort(-unit_map[tuple(found.T)], kind="stable")[:_PEAKS]]


def vote(logits: np.ndarray, unit_map: np.ndarray) -> np.ndarray:
    """Averages answers, each weighted by its expected DICE with the map: 2 Σ m w³ / (Σ m + Σ w³).

    Args:
        logits: float32 (N, S, S), SAM's answers; the mask m of one is where it is above 0.
        unit_map: float32 (S, S), w.

    Returns:
        bool (S, S); empty where every answer is empty.
    """
    likely = unit_map**_VOTE_GAMMA
    masks = logits > 0
    overlap = np.tensordot(masks.astype(np.float32), likely, axes=2)
    area = masks.sum(axis=(1, 2))
    expected_dice = np.where(area > 0, 2 * overlap / (area + likely.sum()), 0)
    return np.tensordot(expected_dice, np.clip(logits, -_CLIP, _CLIP), axes=1) > 0
