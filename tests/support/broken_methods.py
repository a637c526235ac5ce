"""Methods that break one rule of the contract each, in a module that other processes can import."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from miasbench.harness.api import Diagnostic, Method, Prediction


@dataclass(kw_only=True)
class Sound(Method):
    """Keeps the contract: brightness, compared with normal images, and some noise."""

    gain: float = 1.0

    def fit(self, images: Sequence[np.ndarray]) -> None:
        self._normal = np.mean(np.stack(list(images)), axis=0)
        self._noise = np.random.default_rng(self.seed).random(self._normal.shape)

    def predict(self, image: np.ndarray) -> Prediction:
        anomaly_map = (self.gain * (image - self._normal) + self._noise).astype(np.float32)
        return Prediction(anomaly_map, float(anomaly_map.max()), anomaly_map > 100, prompts=((3.0, 4.0),))


@dataclass(kw_only=True)
class Answering(Sound):
    """Changes its own sound prediction, by the keyword arguments of `Prediction`."""

    def predict(self, image: np.ndarray) -> Prediction:
        return Prediction(**vars(super().predict(image)) | self.changed(image))

    def changed(self, image: np.ndarray) -> dict[str, Any]:
        raise NotImplementedError


class Coloured(Sound):
    """Keeps the contract in grey and in colour."""

    colour = True

    def fit(self, images: Sequence[np.ndarray]) -> None:
        super().fit(images)
        self._noise = self._noise.mean(axis=-1, keepdims=True) if self._noise.ndim == 3 else self._noise

    def predict(self, image: np.ndarray) -> Prediction:
        found = (image - self._normal) + self._noise
        anomaly_map = (found.max(axis=-1) if image.ndim == 3 else found).astype(np.float32)
        return Prediction(anomaly_map, float(anomaly_map.max()))


class Flat(Sound):
    colour = True


class Tinted(Sound):
    colour = "yes"  # pyright: ignore[reportAssignmentType]


class Cropped(Answering):
    def changed(self, image: np.ndarray) -> dict[str, Any]:
        return {"anomaly_map": image[1:].astype(np.float32)}


class Doubled(Answering):
    def changed(self, image: np.ndarray) -> dict[str, Any]:
        return {"anomaly_map": image.astype(np.float64)}


class Undefined(Answering):
    def changed(self, image: np.ndarray) -> dict[str, Any]:
        return {"anomaly_map": np.where(image == image.max(), np.nan, image).astype(np.float32)}


class Endless(Answering):
    def changed(self, image: np.ndarray) -> dict[str, Any]:
        return {"image_score": float("inf")}


class Masked(Answering):
    def changed(self, image: np.ndarray) -> dict[str, Any]:
        return {"mask": (image > 100).astype(np.uint8)}


class Prompted(Answering):
    def changed(self, image: np.ndarray) -> dict[str, Any]:
        return {"prompts": ((1.0, 2.0, 3.0),)}


class Lost(Answering):
    def changed(self, image: np.ndarray) -> dict[str, Any]:
        return {"prompts": ((float("nan"), 2.0),)}


class Tuple(Sound):
    def predict(self, image: np.ndarray) -> Any:
        return image.astype(np.float32), 0.0


class Failing(Sound):
    def fit(self, images: Sequence[np.ndarray]) -> None:
        raise ValueError("out of cheese")


class Listing(Sound):
    """Takes the images for a list."""

    def fit(self, images: Sequence[np.ndarray]) -> None:
        super().fit(images.copy())  # type: ignore[attr-defined]


class Incomplete(Method):
    def fit(self, images: Sequence[np.ndarray]) -> None: ...


@dataclass(kw_only=True)
class Unmade(Sound):
    def __post_init__(self) -> None:
        raise RuntimeError("no licence")


class Unseeded(Sound):
    def fit(self, images: Sequence[np.ndarray]) -> None:
        super().fit(images)
        self._noise = np.random.default_rng().random(self._normal.shape)


class Drawing(Sound):
    """Draws from a global generator when it predicts."""

    def predict(self, image: np.ndarray) -> Prediction:
        self._noise = np.full_like(self._normal, self.draw())
        return super().predict(image)

    def draw(self) -> float:
        raise NotImplementedError


class DrawingNumpy(Drawing):
    def draw(self) -> float:
        return np.random.random()  # noqa: NPY002


class DrawingRandom(Drawing):
    def draw(self) -> float:
        return random.random()


class DrawingTorch(Drawing):
    def draw(self) -> float:
        import torch

        return float(torch.rand(1))


class Drifting(Sound):
    """Learns from the images that it predicts."""

    def predict(self, image: np.ndarray) -> Prediction:
        prediction = super().predict(image)
        self._normal = 0.9 * self._normal + 0.1 * image
        return prediction


class Certain(Sound):
    """Says that nothing in it is random."""

    @property
    def stochastic(self) -> bool:
        return False


@dataclass(kw_only=True)
class Remembering(Sound):
    """Adds the images of each fit to those of the fits before."""

    def __post_init__(self) -> None:
        self._bank: list[np.ndarray] = []

    def fit(self, images: Sequence[np.ndarray]) -> None:
        self._bank += list(images)
        super().fit(self._bank)


class Scribbling(Sound):
    def predict(self, image: np.ndarray) -> Prediction:
        prediction = super().predict(image)
        image[:] = 0
        return prediction


@dataclass(kw_only=True)
class Squaring(Sound):
    """Changes the option that it is given."""

    power: float = 3.0

    def __post_init__(self) -> None:
        self.power **= 2


@dataclass(kw_only=True)
class Unrecorded(Sound):
    """Has an option that no record can hold."""

    kernel: Any = field(default_factory=lambda: np.ones(3))


@dataclass(kw_only=True)
class Adapting(Sound):
    """Keeps what it learns in an option."""

    level: float = 0.0

    def fit(self, images: Sequence[np.ndarray]) -> None:
        super().fit(images)
        self.level = float(self._normal.mean())


@dataclass(kw_only=True)
class Shadowing(Sound):
    seed: int = 5


class Hiding(Sound):
    def options(self) -> dict[str, Any]:
        return {}


class Holding(Sound):
    """Holds what cannot go to another process."""

    def fit(self, images: Sequence[np.ndarray]) -> None:
        super().fit(images)
        self._threshold: Callable[[], float] = lambda: 0.0


class Short(Sound):
    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        return (self.predict(image) for image in images[1:])


class Backward(Sound):
    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        return (self.predict(images[-1 - index]) for index in range(len(images)))


class Batched(Sound):
    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        mean = np.mean(np.stack(list(images)))
        return (self.predict(image - mean) for image in images)


class Boasting(Sound):
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return (Diagnostic("dice", 1.0, "of itself"),)


class Repeating(Sound):
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return (Diagnostic("index_recall", 1.0, "of one"), Diagnostic("index_recall", 0.5, "of another"))


class Accompanied(Sound):
    def controls(self) -> tuple[str, ...]:
        return ("intensty",)


class Weighty(Sound):
    def weights_used(self) -> Any:
        return ["weights.pt"]


class Together(Method):
    """Keeps the contract, and is transductive."""

    @property
    def transductive(self) -> bool:
        return True

    @property
    def stochastic(self) -> bool:
        return False

    def fit(self, images: Sequence[np.ndarray]) -> None: ...

    def predict(self, image: np.ndarray) -> Prediction:
        raise AssertionError("it is asked for whole splits")

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        mean = np.mean(np.stack(list(images)), axis=0)
        return (Prediction((image - mean).astype(np.float32), 0.0) for image in images)


class Dropping(Together):
    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        return super().predict_many(images[1:])
