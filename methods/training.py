"""One training loop for every trained method, on Lightning's trainer: it shows progress, stops early and resumes."""

import inspect
import logging
import math
import random
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from pydantic import Field
from torch.utils.data import DataLoader, Sampler

from ..harness.api import BenchError, Progress
from ..harness.cache import Cache, cache_key
from .batched import BatchedMethod
from .loading import Batches

# A training that is interrupted loses at most so much, and writing checkpoints never takes a large part of the time.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0


class TrainingError(BenchError):
    """A training that cannot go on; the text says what to change."""


@dataclass(frozen=True)
class Schedule:
    """How long a method is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step; all of them where there are fewer.
        steps: No more optimiser steps than this; 0 for no limit.
        patience: Epochs without a lower training loss after which training stops; 0 for never.
    """

    epochs: int
    batch_size: int
    steps: int = 0
    patience: int = 0


def train(
    module: LightningModule,
    data: Batches,
    schedule: Schedule,
    *,
    seed: int,
    device: str,
    progress: Progress,
    key: str,
    clip: float = 0.0,
) -> float:
    """Trains a module in place; it stays in training mode, on its device.

    Each epoch begins with random numbers that follow from the seed and the epoch's number alone. So a training that was
    interrupted, and is taken up again from the checkpoint of its last epoch, ends where an undisturbed one does.

    Args:
        module: Its `training_step` returns the loss. `trainer.datamodule` has `train_dataloader()`, `train_data` and
            `train_batch_size`.
        data: The training data.
        schedule: How long.
        seed: The seed of everything random in the training; the module's first weights are drawn before.
        device: A torch device.
        progress: Told about epochs, the mean loss of the epoch before, and steps.
        key: Names all that the training depends on besides `schedule`, `seed` and `module`, such as the images.
        clip: The largest norm that a gradient may have; 0 for any.

    Returns:
        The seconds that a checkpoint spared, less those that keeping checkpoints took.

    Raises:
        TrainingError: The loss is not a finite number.
    """
    batches = _Order(len(data), schedule.batch_size, seed)
    # A loader without a generator draws from the global one.
    loader = data.loader(batch_sampler=batches, generator=torch.Generator().manual_seed(0))
    total = min(schedule.epochs * len(batches), schedule.steps or math.inf)
    key = cache_key("training", key, repr(schedule), str(seed), torch.__version__, *_identity(module))
    epochs = _Epochs(replace(schedule, steps=int(total)), batches, progress, key)
    checkpoint = _readable_checkpoint(key, epochs.cache)
    with _quiet():
        # `_Epochs` counts steps: Lightning does not resume exactly where it has a limit of its own.
        trainer = Trainer(
            max_epochs=math.ceil(total / len(batches)),
            accelerator=torch.device(device).type,
            devices=[torch.device(device).index or 0] if torch.device(device).type == "cuda" else 1,
            callbacks=[epochs],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            gradient_clip_val=clip or None,
        )
        trainer.fit(module, datamodule=_Data(data, loader, batches.size), ckpt_path=checkpoint, weights_only=True)
    module.to(device)  # Lightning leaves it on the CPU
    epochs.cache.discard(key)
    return epochs.spared - epochs.keeping


@dataclass(kw_only=True)
class LoopedMethod(BatchedMethod):
    """A method that is fitted with `train`; a subclass says for how long in `published`.

    Attributes:
        batch_size: Images per step; by default as many as were published.
    """

    batch_size: Annotated[int, Field(ge=1)] | None = None

    published: ClassVar[Schedule]

    @property
    def schedule(self) -> Schedule:
        """The published schedule with what was asked for."""
        return replace(self.published, batch_size=self.batch_size or self.published.batch_size)

    def options(self) -> dict[str, Any]:
        schedule = self.schedule
        resolved = {"epochs": schedule.epochs, "batch_size": schedule.batch_size, "steps": schedule.steps}
        return super().options() | resolved

    def train(
        self,
        module: LightningModule,
        images: Sequence[np.ndarray],
        data: Batches,
        clip: float = 0.0,
    ) -> None:
        """Trains a module with the method's schedule, seed and device, resuming where an earlier run was interrupted.

        Args:
            module: See `train`.
            images: The normal images that the data are made of.
            data: The training data.
            clip: See `train`.
        """
        weights = (used.sha256 for used in self.weights_used())
        # A single epoch is never taken up again, so its images need no name.
        names = (cache_key(image.tobytes()) for image in images) if self.schedule.epochs > 1 else ()
        self.saved_seconds += train(
            module,
            data,
            self.schedule,
            seed=self.seed,
            device=self.device,
            progress=self.progress,
            key=cache_key(repr(self.options()), *weights, *names),
            clip=clip,
        )


@dataclass(kw_only=True)
class TrainedMethod(LoopedMethod):
    """A method that is trained by gradients.

    Attributes:
        epochs: Passes over the training images; by default as many as were published.
        patience: Epochs without a lower training loss after which training stops; 0 for never.
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=0)] = 0

    @property
    def schedule(self) -> Schedule:
        """The published schedule with what was asked for; a limit of steps holds only where no epochs were."""
        schedule = replace(super().schedule, patience=self.patience)
        return replace(schedule, epochs=self.epochs, steps=0) if self.epochs else schedule


def seed_from(*seeds: int) -> None:
    """Seeds Python's, numpy's and torch's global generators with a number that follows from all the seeds."""
    number = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - libraries draw from numpy's global generator
    torch.manual_seed(number)


class _Order(Sampler[list[int]]):
    """Positions of shuffled images, batch by batch, in an order that follows from the seed and the epoch.

    A single image is left out where it would be a batch of its own among larger ones: BatchNorm cannot train on it.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.epoch = 0
        self.seed = seed
        self._count = count
        self.size = min(batch_size, count)

    def __len__(self) -> int:
        lone = self.size > 1 and self._count % self.size == 1
        return math.ceil(self._count / self.size) - lone

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self._count)
        for batch in range(len(self)):
            yield order[batch * self.size : (batch + 1) * self.size].tolist()


class _Data(LightningDataModule):
    """The attributes that modules expect at `trainer.datamodule`."""

    def __init__(self, data: Batches, loader: DataLoader[Any], train_batch_size: int) -> None:
        super().__init__()
        self.train_data = data
        self.train_batch_size = train_batch_size
        self._loader = loader

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader


class _Epochs(Checkpoint):
    """Seeds epochs, tells about progress, keeps checkpoints and stops the training.

    Lightning calls checkpoint callbacks last, when the module itself has ended its epoch.

    Attributes:
        cache: Where checkpoints are kept.
        spared: Seconds of training that the checkpoint stands for, from which this training was taken up.
        keeping: Seconds that writing checkpoints took.
    """

    def __init__(self, schedule: Schedule, batches: _Order, progress: Progress, key: str) -> None:
        self.cache = Cache.from_environment()
        self.spared = 0.0
        self.keeping = 0.0
        self._schedule = schedule
        self._batches = batches
        self._progress = progress
        self._key = key
        self._steps = 0
        self._losses: list[float] = []
        self._last = math.nan
        self._best = math.inf
        self._waited = 0
        self._start = self._kept = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        seconds = self.spared + time.perf_counter() - self._start - self.keeping
        return {
            "steps": self._steps,
            "last": self._last,
            "best": self._best,
            "waited": self._waited,
            "seconds": seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps, self._last = state_dict["steps"], state_dict["last"]
        self._best, self._waited = state_dict["best"], state_dict["waited"]
        self.spared = state_dict["seconds"]
        self._start = self._kept = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches.epoch = trainer.current_epoch
        self._losses = []
        seed_from(self._batches.seed, trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = float(outputs["loss"] if isinstance(outputs, dict) else outputs)
        epoch = trainer.current_epoch + 1
        if not math.isfinite(loss):
            raise TrainingError(
                f"The training loss became {loss} in epoch {epoch}, step {batch_idx + 1}. A larger batch size or "
                "another seed may help; fewer epochs end the training before that."
            )
        self._losses.append(loss)
        self._steps += 1
        if self._steps >= self._schedule.steps:
            trainer.should_stop = True
        # One text for a whole epoch: where there is no terminal, each text is a line of its own.
        text = f"epoch {epoch}/{trainer.max_epochs}" + (f", loss was {self._last:.4g}" if epoch > 1 else "")
        self._progress(text, self._steps, self._schedule.steps)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = self._last = float(np.mean(self._losses))
        self._waited = 0 if loss < self._best else self._waited + 1
        self._best = min(loss, self._best)
        if self._schedule.patience and self._waited >= self._schedule.patience:
            trainer.should_stop = True
        if not trainer.should_stop and time.perf_counter() - self._kept > _SECONDS_BETWEEN_CHECKPOINTS:
            self._keep(trainer, pl_module)

    def _keep(self, trainer: Trainer, module: LightningModule) -> None:
        start = time.perf_counter()
        size = sum(value.nbytes for value in module.state_dict().values() if isinstance(value, torch.Tensor))
        # Adam keeps two numbers for each parameter.
        self.cache.store(self._key, 3 * size, trainer.save_checkpoint)
        self._kept = time.perf_counter()
        self.keeping += self._kept - start


def _identity(module: LightningModule) -> tuple[str | bytes, ...]:
    """The key of a module's checkpoints. It depends on its tensors' names and shapes, and the code that trains them."""
    tensors = [(name, tuple(value.shape)) for name, value in module.state_dict().items() if hasattr(value, "shape")]
    sources = {inspect.getfile(type(module)), __file__}
    return repr(tensors), *(Path(source).read_bytes() for source in sorted(sources))


def _readable_checkpoint(key: str, cache: Cache) -> Path | None:
    path = cache.find(key)
    if path is None:
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file may raise anything
        cache.discard(key)
        return None
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Lightning's advice from the terminal, and its way of ending the program at Ctrl-C from the caller."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SystemExit as end:
        raise KeyboardInterrupt from end
    finally:
        logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)
