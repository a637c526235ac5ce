"""Banks as large as BMAD's, grown from the descriptors of a few real images.

Rows of independent noise would be equally far from everything, and copies would be found at once: a search is as hard
as it really is only where rows lie as real ones do. So each new row starts at a real one, x, moves a part `a` of the
way towards one of its neighbours in other images, y, and makes up for the spread that this loses with the difference
of another pair of neighbours at that place, u - v:

    x + a (y - x) + b (u - v),  b = sqrt(a (1 - a))

If pairs of neighbours differ alike, the covariance of the rows stays what it was for every `a`, and a new row is about
as far from x and y as they are from each other. What is drawn is drawn once for a cell of patches, so that an image
keeps its likeness between patches.
"""

from collections.abc import Iterator

import numpy as np

NEIGHBOURS = 8
CELL = 4  # patches


class GrownRows:
    """An endless supply of images' descriptors that look like real ones.

    Args:
        real: float32 (n, P, D), the descriptors of n real images, their patches row by row in a square; n is more than
            `NEIGHBOURS`. It may be a memory map: it is read, never copied.
        seed: Of everything that is drawn.
    """

    def __init__(self, real: np.ndarray, seed: int = 0) -> None:
        self._images, self._patches, width = real.shape
        self._side = round(self._patches**0.5)
        self._rows = real.reshape(-1, width)
        self._seed = seed
        self._neighbours = self._find_neighbours()

    def image(self, number: int) -> np.ndarray:
        """The descriptors of the grown image of that number, float32 (P, D): always the same for the same seed."""
        rng = np.random.default_rng([self._seed, number])
        patch = np.arange(self._patches)
        part = self._per_cell(rng.random(self._cells, dtype=np.float32))
        x = rng.integers(self._images)
        u = self._per_cell(rng.integers(self._images, size=self._cells))
        rank_y, rank_v = (self._per_cell(rng.integers(NEIGHBOURS, size=self._cells)) for _ in range(2))
        rows = self._rows[self._neighbours[x, patch, rank_y]]
        start = self._rows[x * self._patches : (x + 1) * self._patches]
        rows -= start
        rows *= part[:, None]
        rows += start
        spread = self._rows[u * self._patches + patch]
        spread -= self._rows[self._neighbours[u, patch, rank_v]]
        spread *= np.sqrt(part * (1 - part))[:, None]
        rows += spread
        return rows

    def images(self, count: int) -> Iterator[np.ndarray]:
        """The first `count` grown images, one after the other."""
        return (self.image(number) for number in range(count))

    @property
    def _cells(self) -> int:
        return (-(-self._side // CELL)) ** 2

    def _per_cell(self, values: np.ndarray) -> np.ndarray:
        """One value per cell, as one per patch."""
        side = round(len(values) ** 0.5)
        wide = values.reshape(side, side).repeat(CELL, axis=0).repeat(CELL, axis=1)
        return wide[: self._side, : self._side].ravel()

    def _find_neighbours(self) -> np.ndarray:
        """For each real row the nearest ones of other images, at its place or next to it: int32 (n, P, NEIGHBOURS)."""
        found = np.empty((self._images, self._patches, NEIGHBOURS), np.int32)
        first_rows = np.arange(self._images) * self._patches
        lengths = np.einsum("nd,nd->n", self._rows, self._rows)
        for patch in range(self._patches):
            y, x = divmod(patch, self._side)
            ys, xs = (np.arange(max(at - 1, 0), min(at + 2, self._side)) for at in (y, x))
            places = (ys[:, None] * self._side + xs).ravel()
            candidates = (first_rows[:, None] + places).ravel()
            products = self._rows[first_rows + patch] @ self._rows[candidates].T
            squared = lengths[candidates] - 2 * products  # less what a row of it has in common
            squared.reshape(self._images, self._images, -1)[np.diag_indices(self._images)] = np.inf
            found[:, patch] = candidates[np.argpartition(squared, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]]
        return found
