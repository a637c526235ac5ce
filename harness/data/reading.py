"""Images as a method asks for them, several of them read at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from ..api import LazySequence

_AHEAD = 4  # images per thread that are read before they are asked for


class ParallelImages(LazySequence[np.ndarray]):
    """Images that are read by several threads: those that `many` asks for, and, one after the other, those that follow.

    Nothing is read while the method works: on a CPU it would take the method's time.

    Args:
        count: How many images there are.
        read: Reads the image at a position; several threads may call it at once.
        threads: How many do.
    """

    def __init__(self, count: int, read: Callable[[int], np.ndarray], threads: int) -> None:
        super().__init__(count, self._next)
        self._read_one = read
        self._pool = ThreadPoolExecutor(threads)
        self._block = _AHEAD * threads
        self._ahead: dict[int, Future[np.ndarray]] = {}
        self._due = 0

    def many(self, positions: Sequence[int]) -> list[np.ndarray]:
        return [one.result() for one in self._start([self._positions[position] for position in positions])]

    def _next(self, position: int) -> np.ndarray:
        """Reads one image, and those behind it where images are asked for in their order."""
        if position not in self._ahead:
            end = position + self._block if position == self._due else position + 1
            block = self._positions[position:end]
            self._ahead = dict(zip(block, self._start(block), strict=True))
            wait(self._ahead.values())
        self._due = position + 1
        return self._ahead.pop(position).result()  # an image that cannot be read stops nobody before it is asked for

    def _start(self, positions: Sequence[int]) -> list[Future[np.ndarray]]:
        return [self._pool.submit(self._read_one, position) for position in positions]
