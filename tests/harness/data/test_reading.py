import threading
import time

import numpy as np
import pytest

from miasbench.harness.data.reading import ParallelImages


def image(position: int) -> np.ndarray:
    return np.full((2, 2), position, np.uint8)


def test_images_are_the_same_in_any_order_of_asking() -> None:
    images = ParallelImages(11, image, 3)
    assert [one[0, 0] for one in images] == [*range(11)]
    assert [images[position][0, 0] for position in (7, 0, 1, 10, 9, -1)] == [7, 0, 1, 10, 9, 10]
    assert [one[0, 0] for one in images.many([5, 2, 8])] == [5, 2, 8]
    assert [one[0, 0] for one in images[8:2:-3]] == [8, 5]


def test_each_image_is_read_once_on_the_way_through() -> None:
    reads: list[int] = []
    list(ParallelImages(30, lambda position: reads.append(position) or image(position), 2))
    assert sorted(reads) == [*range(30)]


def test_several_are_read_at_once() -> None:
    meet = threading.Barrier(2, timeout=10)  # which only two readers pass

    def read(position: int) -> np.ndarray:
        meet.wait()
        return image(position)

    images = ParallelImages(4, read, 2)
    assert [one[0, 0] for one in images.many([3, 0])] == [3, 0]
    assert [one[0, 0] for one in images] == [*range(4)]


def test_nothing_is_read_while_nobody_waits() -> None:
    reads: list[int] = []
    images = ParallelImages(100, lambda position: reads.append(position) or image(position), 2)
    images[0]
    seen = len(reads)
    time.sleep(0.05)
    assert len(reads) == seen < 100


def test_an_image_that_cannot_be_read_stops_nobody_before_it_is_asked_for() -> None:
    def read(position: int) -> np.ndarray:
        if position == 2:
            raise ValueError("damaged")
        return image(position)

    images = ParallelImages(4, read, 2)
    assert [images[position][0, 0] for position in (0, 1)] == [0, 1]
    with pytest.raises(ValueError, match="damaged"):
        images[2]
    assert images[3][0, 0] == 3
