"""Runs on a dataset in colour: who gets colour, and who is told to get grey."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from miasbench.datasets.phantom import write_bmad
from miasbench.harness.api import Method, Prediction, as_grey
from miasbench.harness.config import default_data_root
from miasbench.harness.data.frame import frame_image
from miasbench.harness.front.runs import open_run
from miasbench.harness.registry import open_dataset
from miasbench.harness.running.planning import make_plan

from ...support.running import config, run

HISTOLOGY = "phantom_histology:train=3,valid=4,test=4,size=64"

pytestmark = pytest.mark.usefixtures("plugins")


def seen_by(monkeypatch: pytest.MonkeyPatch, cls: type[Method]) -> list[np.ndarray]:
    """The images that a method of this class is given from now on."""
    seen: list[np.ndarray] = []
    fit, predict = cls.fit, cls.predict

    def noted_fit(self: Method, images: Sequence[np.ndarray]) -> None:
        seen.extend(images)
        fit(self, images)

    def noted_predict(self: Method, image: np.ndarray) -> Prediction:
        seen.append(image)
        return predict(self, image)

    monkeypatch.setattr(cls, "fit", noted_fit)
    monkeypatch.setattr(cls, "predict", noted_predict)
    return seen


def test_a_method_that_does_not_ask_for_colour_gets_grey_and_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from miasbench.methods.intensity import Intensity

    seen = seen_by(monkeypatch, Intensity)
    store, (outcome,) = run(tmp_path, "intensity", dataset=[HISTOLOGY], size=48)
    assert outcome.status == "finished"
    dataset = open_dataset(HISTOLOGY, default_data_root())
    first = as_grey(dataset.load(dataset.cases("train")[0]).image)
    np.testing.assert_array_equal(seen[0], frame_image(first, 48))
    assert {image.shape for image in seen} == {(48, 48)}
    record = store.read().datasets[HISTOLOGY]
    assert record.card.model_dump()["channels"] == "rgb"
    assert record.notes[-1] == "intensity takes no colour and gets these images in grey (luma of ITU-R BT.601)."


def test_a_method_that_takes_colour_gets_the_very_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from miasbench.methods.autoencoder import Autoencoder

    seen = seen_by(monkeypatch, Autoencoder)
    store, (outcome,) = run(tmp_path, "ae", dataset=[HISTOLOGY], size=64, epochs=1)
    assert outcome.status == "finished"
    dataset = open_dataset(HISTOLOGY, default_data_root())
    np.testing.assert_array_equal(seen[0], dataset.load(dataset.cases("train")[0]).image)
    assert {image.shape for image in seen} == {(64, 64, 3)}
    assert store.read().datasets[HISTOLOGY].notes == ()
    shown = next(iter(open_run(store.folder).predictions()))
    assert shown.image.shape == (64, 64, 3)


def test_a_grey_method_scores_the_same_however_the_card_says_to_read(tmp_path: Path) -> None:
    write_bmad(open_dataset(HISTOLOGY, default_data_root()), tmp_path / "set")
    (tmp_path / "set.yaml").write_text("name: set\nroot: set\nchannels: rgb\n")
    tables = []
    for dataset in ("set", "set.yaml"):
        store, _ = run(tmp_path / "results", "intensity", dataset=[str(tmp_path / dataset)])
        tables.append(store.cases()[["case", "policy", "image_score", "dice"]])
    assert tables[0].equals(tables[1])


def test_every_part_that_gets_grey_is_named(tmp_path: Path) -> None:
    methods = ("intensity", "sam_refine[base=intensity]", "sam_control", "ae")
    plan = make_plan(config(tmp_path, *methods, dataset=[HISTOLOGY], controls=False))
    assert plan.notes[HISTOLOGY] == (
        "intensity, intensity in sam_refine[base=intensity] take no colour and get these images in grey (luma of ITU-R "
        "BT.601).",
    )
