from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule

from miasbench.harness.api import BenchError
from miasbench.methods import training
from miasbench.methods.loading import Batches
from miasbench.methods.training import Schedule, train

from ..support.kept import cache_entries


class Network(LightningModule):
    """Has all that a checkpoint must carry: BatchNorm, dropout, momentum and a schedule of the learning rate."""

    def __init__(self, poison: int = 0, rate: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.layers: Any = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 4)
        )
        self.batches: list[int] = []
        self.poison = poison
        self.rate = rate

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.batches.append(len(batch))
        loss = (self.layers(batch) - batch).pow(2).mean() + float(np.random.random()) * self.layers[0].weight.sum()  # noqa: NPY002
        return loss * float("nan") if len(self.batches) == self.poison else loss

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.Adam(self.layers.parameters(), lr=self.rate)
        return [optimiser], [torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.7)]


class ByHand(Network):
    """Steps two optimisers itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        optimisers: Any = self.optimizers()
        for optimiser in optimisers:
            optimiser.zero_grad()
        self.manual_backward(loss)
        for optimiser in optimisers:
            optimiser.step()
        return loss.detach()

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.layers[index].parameters(), lr=0.1) for index in (0, 3)]


class Rows(Batches):
    """Some rows of numbers."""

    def __init__(self) -> None:
        self._rows = torch.from_numpy(np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, positions: Sequence[int]) -> torch.Tensor:
        return self._rows[list(positions)]


DATA = Rows()


def trained(module: Network, schedule: Schedule, **options: Any) -> tuple[Network, float]:
    defaults = {"seed": 0, "device": "cpu", "progress": lambda *_: None, "key": "test"}
    return module, train(module, DATA, schedule, **(defaults | options))


def assert_equal(one: Network, other: Network) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def stop_at(epoch: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, _done: int, _total: int) -> None:
        if stage.startswith(f"epoch {epoch}/"):
            raise RuntimeError("interrupted")

    return progress


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> Path:
    """Keeps a checkpoint after each epoch."""
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    return cache_folder


def test_the_seed_decides_the_weights() -> None:
    schedule = Schedule(epochs=3, batch_size=4)
    one, other, third = (trained(Network(), schedule, seed=seed)[0] for seed in (0, 0, 1))
    assert_equal(one, other)
    assert not torch.equal(one.layers[0].weight, third.layers[0].weight)


def test_what_was_drawn_before_does_not_matter() -> None:
    one = trained(Network(), Schedule(epochs=2, batch_size=4))[0]
    other = Network()
    torch.rand(5)
    assert_equal(one, trained(other, Schedule(epochs=2, batch_size=4))[0])


@pytest.mark.parametrize("kind", [Network, ByHand])
@pytest.mark.parametrize("epoch", [2, 4])
def test_an_interrupted_training_ends_where_an_undisturbed_one_does(
    eager: Path, kind: type[Network], epoch: int
) -> None:
    schedule = Schedule(epochs=5, batch_size=4, patience=4)
    undisturbed, spared = trained(kind(), schedule)
    assert spared < 0, "keeping checkpoints took time"
    with pytest.raises(RuntimeError, match="interrupted"):
        trained(kind(), schedule, progress=stop_at(epoch))
    assert len(cache_entries(eager)) == 1
    resumed, spared = trained(kind(), schedule)
    assert len(resumed.batches) == (6 - epoch) * 3
    assert_equal(undisturbed, resumed)
    assert not cache_entries(eager), "a finished training leaves no checkpoint"


def test_a_checkpoint_of_another_seed_or_key_is_not_taken_up(eager: Path) -> None:
    schedule = Schedule(epochs=3, batch_size=4)
    with pytest.raises(RuntimeError, match="interrupted"):
        trained(Network(), schedule, progress=stop_at(3))
    for changed in ({"seed": 1}, {"key": "other"}):
        assert len(trained(Network(), schedule, **changed)[0].batches) == 9


def test_a_damaged_checkpoint_is_thrown_away(eager: Path) -> None:
    schedule = Schedule(epochs=3, batch_size=4)
    with pytest.raises(RuntimeError, match="interrupted"):
        trained(Network(), schedule, progress=stop_at(3))
    (path,) = cache_entries(eager)
    path.write_bytes(path.read_bytes()[:1000])
    assert len(trained(Network(), schedule)[0].batches) == 9


def test_a_loss_that_is_not_a_number_stops_and_says_so() -> None:
    with pytest.raises(BenchError, match=r"became nan in epoch 2, step 1.*batch size"):
        trained(Network(poison=4), Schedule(epochs=5, batch_size=4))


def test_patience_ends_a_training_that_does_not_improve() -> None:
    module = trained(Network(rate=0.0), Schedule(epochs=50, batch_size=11, patience=3))[0]
    assert 4 <= len(module.batches) < 50


@pytest.mark.parametrize("kind", [Network, ByHand])
def test_steps_are_a_limit(kind: type[Network]) -> None:
    told: list[tuple[str, int, int]] = []
    schedule = Schedule(epochs=100, batch_size=4, steps=4)
    module = trained(kind(), schedule, progress=lambda *step: told.append(step))[0]
    assert module.batches == [4, 4, 3, 4]
    assert [step[1:] for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1][0].startswith("epoch 2/2, loss ")


@pytest.mark.parametrize(("size", "batches"), [(5, [5, 5]), (10, [10]), (4, [4, 4, 3]), (1, [1] * 11), (50, [11])])
def test_a_single_image_is_no_batch_among_larger_ones(size: int, batches: list[int]) -> None:
    module = Network()
    if size == 1:
        module.layers[1] = torch.nn.Identity()
    assert trained(module, Schedule(epochs=1, batch_size=size))[0].batches == batches


def test_the_working_folder_stays_empty(eager: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    trained(Network(), Schedule(epochs=2, batch_size=4))
    assert not list(Path.cwd().iterdir())


def test_ctrl_c_stays_what_it_is() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(Network(), Schedule(epochs=1, batch_size=4), progress=interrupt)
