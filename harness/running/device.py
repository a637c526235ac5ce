"""The one place that knows about devices, clocks and memory.

torch is imported where it is needed: scoring stored predictions does without, and so without the seconds it takes.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Self

import numpy as np
import psutil

from ..api import UsageError
from ..registry import needs_methods

_MIB = 2**20
_REPEATS = 20
_LARGEST_BATCH = 32
_SHARE_OF_BATCHES = 0.5  # of the GPU's memory that is free


def resolve_device(name: str) -> str:
    """Turns `auto` into `cuda` or `cpu`.

    Raises:
        UsageError: `cuda` is asked for and there is none, or torch is not installed.
    """
    with needs_methods("Running a method"):
        import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here. Use --device cpu or auto.")
    return name


def synchronize(device: str) -> None:
    """Waits until the device has done what it was given, so that a clock read afterwards is right."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def images_at_once(device: str, predict_one: Callable[[], object]) -> int:
    """How many images a method may predict at a time, judged by the memory that a single one takes.

    On the CPU it is one. Batches would gain a tenth to a third there, and their sums are rounded otherwise, by up to
    5e-6 of a map's largest value: a run that was interrupted would differ from one that was not.
    """
    if device != "cuda":
        return 1
    import torch

    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    predict_one()
    taken = max(_MIB, torch.cuda.memory_reserved() - before)
    return int(np.clip(_SHARE_OF_BATCHES * torch.cuda.mem_get_info()[0] / taken, 1, _LARGEST_BATCH))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the machine or the device has no more memory to give."""
    import torch

    # torch's allocator of the CPU raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def seed_everything(seed: int) -> None:
    """Seeds Python, numpy and torch: libraries under the methods draw from all three."""
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - scikit-learn's random projection reads the global generator
    torch.manual_seed(seed)


def calibrate(device: str) -> float:
    """Milliseconds that a fixed piece of work takes here: in these, runtimes of different machines can be compared.

    It is what methods spend their time with: a convolution and a matrix product on the device, with all threads that
    methods have, and a Gaussian filter on one thread, because no method gets twice as quick with twice the threads. The
    quickest of several counts: whatever else the machine does can only make it slower. No random generator is touched.
    """
    import torch
    from scipy.ndimage import gaussian_filter

    anomaly_map = np.ones((256, 256), np.float32)
    images = torch.ones(1, 32, 64, 64, device=device)
    kernels = torch.ones(32, 32, 3, 3, device=device)
    matrix = torch.ones(512, 512, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(_REPEATS):
            start = time.perf_counter()
            torch.nn.functional.conv2d(images, kernels, padding=1)
            torch.mm(matrix, matrix)
            synchronize(device)
            gaussian_filter(anomaly_map, 2)
            times.append(time.perf_counter() - start)
    return 1000 * min(times)


class PeakMemory:
    """The largest resident memory of this process while a block runs, sampled every 20 ms, and CUDA's peak.

    Attributes:
        host_mib: Peak resident memory, MiB.
        device_mib: Peak memory that torch allocated on the GPU, MiB; NaN on the CPU.
    """

    def __init__(self, device: str) -> None:
        self.host_mib = 0.0
        self.device_mib = float("nan")
        self._cuda = device == "cuda"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    @property
    def measured(self) -> dict[str, float]:
        """Both peaks, by the names that they have in the tables."""
        return {"peak_memory_mib": self.host_mib, "peak_gpu_memory_mib": self.device_mib}

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._cuda:
            import torch

            self.device_mib = torch.cuda.max_memory_allocated() / _MIB

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.host_mib = max(self.host_mib, process.memory_info().rss / _MIB)
            if self._stop.wait(0.02):
                return
