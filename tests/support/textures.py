"""A normal texture, and a spot on it."""

import numpy as np

SIDE = 64


def textures(count: int) -> list[np.ndarray]:
    """Noise of one kind, uint8 (64, 64)."""
    noise = np.random.default_rng(0).normal(120, 8, (count, SIDE, SIDE))
    return list(noise.round().clip(0, 255).astype(np.uint8))


def spotted(grey: int) -> tuple[np.ndarray, np.ndarray]:
    """The same texture, another image of it, with a spot; and where the spot is, bool (64, 64)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    spot = (y - 36) ** 2 + (x - 26) ** 2 < 9**2
    texture = np.random.default_rng(1).normal(120, 8, (SIDE, SIDE)).round()
    return np.where(spot, grey, texture).astype(np.uint8), spot
