"""A method of an installed plugin, which the processes of cells can import, and which does harm when it is told."""

import errno
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miasbench.harness.api import Method, Prediction

HARM_AT = 3  # predictions of a cell, of which the first warms up


@dataclass(kw_only=True)
class Unruly(Method):
    """A seeded map; keeps a diary, a line for each fit and prediction, in the file that `UNRULY_DIARY` names."""

    harm: str = ""
    pause: float = 0.0

    def fit(self, images: Sequence[np.ndarray]) -> None:
        self._note("fit")
        self._noise = np.random.default_rng(self.seed).random(images[0].shape)
        self._count = 0

    def predict(self, image: np.ndarray) -> Prediction:
        time.sleep(self.pause)
        self._count += 1
        if self._count == HARM_AT:
            self._do_harm()
        self._note("predict")
        anomaly_map = (image / 255 + self._noise).astype(np.float32)
        return Prediction(anomaly_map, float(anomaly_map.max()), anomaly_map > 1.2)

    def _note(self, what: str) -> None:
        if "UNRULY_DIARY" in os.environ:
            gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
            with Path(os.environ["UNRULY_DIARY"]).open("a") as file:
                file.write(f"{self.spec} {what} {os.getpid()} {gpu} {time.monotonic()}\n")

    def _do_harm(self) -> None:
        match self.harm:
            case "":
                pass
            case "exit":
                os._exit(3)
            case "disk":
                os.fsync = _full
            case "cuda":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case "clock":
                real = time.time
                time.time = lambda: real() - 10 * 365 * 86400
                time.strftime = lambda form, *_: "1970-01-01T00:00:00+0000"
            case "once":
                marker = Path(os.environ["UNRULY_DIARY"]).with_suffix(".killed")
                if not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case name:
                os.kill(os.getpid(), signal.Signals[name])


def _full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
