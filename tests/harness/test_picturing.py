import shutil
from pathlib import Path

import numpy as np
import pytest

from miasbench.datasets.folder import open_folder
from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.config import RunConfig
from miasbench.harness.frame import frame_image, frame_mask
from miasbench.harness.picturing import framed_images
from miasbench.harness.planning import make_plan
from miasbench.harness.runner import execute
from miasbench.results.store import RunStore


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=96), folder)
    return folder


@pytest.fixture
def store(tmp_path: Path, data: Path) -> RunStore:
    plan = make_plan(RunConfig(methods=["intensity"], dataset=[str(data)], size=64, results=tmp_path / "results"))
    execute(plan)
    return plan.store


def test_images_are_in_the_frame_of_the_run(store: RunStore, data: Path) -> None:
    images, missing = framed_images(store)
    assert missing == {}
    dataset = open_folder(data)
    for case in dataset.cases("test"):
        image, mask = images[dataset.name](case.id)
        raw = dataset.load(case)
        np.testing.assert_array_equal(image, frame_image(raw.image, 64))
        np.testing.assert_array_equal(mask, frame_mask(raw.mask, 64).overlap)


def test_data_that_are_gone_or_changed_are_said(store: RunStore, data: Path) -> None:
    sorted((data / "test" / "good").rglob("*.png"))[0].unlink()
    images, missing = framed_images(store)
    assert images == {}
    assert [why.partition(" since")[0] for why in missing.values()] == ["it has changed"]
    shutil.rmtree(data)
    images, missing = framed_images(store)
    assert images == {}
    assert str(data) in next(iter(missing.values()))
