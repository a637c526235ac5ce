"""Methods for tests, loaded as a plugin's module would be."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from miasbench.harness.api import Diagnostic, Method, Prediction

hook: Callable[[int], None] = lambda count: None  # noqa: E731 - a test puts its own here


@dataclass(kw_only=True)
class Scripted(Method):
    """A seeded map, a mask without a threshold, and a hook that is called with the number of predictions so far."""

    pause: float = 0.0

    def fit(self, images: Sequence[np.ndarray]) -> None:
        self._mean = np.mean([image.mean() for image in images])
        self._noise = np.random.default_rng(self.seed).random(images[0].shape)
        self.count = 0

    def predict(self, image: np.ndarray) -> Prediction:
        time.sleep(self.pause)
        hook(self.count)
        self.count += 1
        anomaly_map = (image / 255 + self._noise).astype(np.float32)
        return Prediction(anomaly_map, float(anomaly_map.max()), anomaly_map > 1.2, "scripted")


@dataclass(kw_only=True)
class Trained(Scripted):
    """Says that it is trained in epochs."""

    epochs: int = 100
    batch_size: int | None = None


@dataclass(kw_only=True)
class Wrapping(Scripted):
    """Has a method inside."""

    inside: Method


@dataclass(kw_only=True)
class Telling(Scripted):
    """Reports two diagnostics, one of which could not be measured, under the name it is told."""

    name: str = "index_recall"

    def fit(self, images: Sequence[np.ndarray]) -> None:
        super().fit(images)
        self._recall = np.float32(0.5)

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return (
            Diagnostic(self.name, float(self._recall), "share of nearest rows found", "of 3 rows"),
            Diagnostic("index_error", float("nan"), "of the map"),
        )


@dataclass(kw_only=True)
class Controlled(Scripted):
    """Is to be seen beside two others, the second of which has a control of its own."""

    def controls(self) -> tuple[str, ...]:
        return ("intensity[ sigma=1 ]", "followed")


@dataclass(kw_only=True)
class Followed(Scripted):
    """Is to be seen beside one that fails."""

    def controls(self) -> tuple[str, ...]:
        return ("failing",)


@dataclass(kw_only=True)
class Failing(Method):
    """Raises when it is fitted."""

    def fit(self, images: Sequence[np.ndarray]) -> None:
        raise RuntimeError("out of [bold]cheese[/bold]")

    def predict(self, image: np.ndarray) -> Prediction:
        raise AssertionError("it was not fitted")


@dataclass(kw_only=True)
class Wrong(Method):
    """Breaks the contract in the way it is told."""

    how: str = "shape"

    def fit(self, images: Sequence[np.ndarray]) -> None:
        pass

    def predict(self, image: np.ndarray) -> Prediction:
        anomaly_map = image.astype(np.float32)
        match self.how:
            case "shape":
                return Prediction(anomaly_map[1:], 0.0)
            case "nan":
                return Prediction(np.where(anomaly_map == anomaly_map.max(), np.nan, anomaly_map), 0.0)
            case "score":
                return Prediction(anomaly_map, float("inf"))
            case "mask":
                return Prediction(anomaly_map, 0.0, anomaly_map)
            case "prompt":
                return Prediction(anomaly_map, 0.0, prompts=((1.0, 2.0, 3.0),))
            case _:
                raise ValueError(self.how)


@dataclass(kw_only=True)
class Cached(Scripted):
    """Finds in its cache what would have taken 1000 s to fit and 100 s to predict."""

    def fit(self, images: Sequence[np.ndarray]) -> None:
        super().fit(images)
        self.saved_seconds += 1000

    def predict(self, image: np.ndarray) -> Prediction:
        self.saved_seconds += 100
        return super().predict(image)


@dataclass(kw_only=True)
class InBatches(Method):
    """Predicts `batch` images at a time, and saves 120 seconds each time."""

    batches: ClassVar[bool] = True

    def fit(self, images: Sequence[np.ndarray]) -> None:
        pass

    def predict(self, image: np.ndarray) -> Prediction:
        return Prediction(image.astype(np.float32), float(image.mean()))

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        for start in range(0, len(images), self.batch):
            self.saved_seconds += 120
            yield from [self.predict(image) for image in images[start : start + self.batch]]


@dataclass(kw_only=True)
class Together(Method):
    """Transductive: subtracts the mean of all images of the split, and saves as many seconds a split as it is told."""

    short: bool = False
    saves: float = 0.0

    @property
    def transductive(self) -> bool:
        return True

    def fit(self, images: Sequence[np.ndarray]) -> None:
        pass

    def predict(self, image: np.ndarray) -> Prediction:
        raise AssertionError("a transductive method is asked for whole splits")

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        self.saved_seconds += self.saves
        mean = np.mean(np.stack(list(images)), axis=0)
        for image in images[: len(images) - self.short]:
            yield Prediction((image - mean).astype(np.float32), 0.0)
