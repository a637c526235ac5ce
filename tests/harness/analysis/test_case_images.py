import shutil
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from miasbench.datasets.folder import open_folder
from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.analysis.case_images import framed_images
from miasbench.harness.config import RunConfig, ScoreConfig
from miasbench.harness.data.frame import frame_image, frame_mask
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.runner import execute
from miasbench.harness.specs import Spec
from miasbench.results.store import RunStore


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=96), folder)
    return folder


@pytest.fixture
def store(tmp_path: Path, data: Path) -> RunStore:
    plan = make_plan(
        RunConfig(methods=[Spec("intensity")], dataset=[str(data)], size=64, results=UPath(tmp_path) / "results")
    )
    execute(plan)
    return plan.store


def test_images_are_in_the_frame_of_the_run(store: RunStore, data: Path) -> None:
    images, missing = framed_images(store)
    assert missing == {}
    dataset = open_folder(data)
    for case in dataset.cases("test"):
        image, mask, scored = images[dataset.name](case.id)
        raw = dataset.load(case)
        assert scored.all(), "a square image has no padding"
        np.testing.assert_array_equal(image, frame_image(raw.image, 64))
        np.testing.assert_array_equal(mask, frame_mask(raw.mask, 64).overlap)


@pytest.mark.parametrize(("padding", "rows"), [("exclude", slice(16, 48)), ("count", slice(0, 64))])
def test_padding_is_told_from_what_was_scored(tmp_path: Path, padding: str, rows: slice) -> None:
    score = ScoreConfig(padding=padding)  # pyright: ignore[reportArgumentType]
    oct_scans = "phantom_retina_oct:train=3,valid=2,test=2,size=64"
    plan = make_plan(
        RunConfig(methods=[Spec("intensity")], dataset=[oct_scans], size=64, results=UPath(tmp_path), score=score)
    )
    execute(plan)
    (images,) = framed_images(plan.store)[0].values()
    (dataset,) = plan.datasets.values()
    expected = np.zeros((64, 64), bool)
    expected[rows] = True
    for case in dataset.cases("test"):
        np.testing.assert_array_equal(images(case.id).scored, expected)


def test_data_that_are_gone_or_changed_are_said(store: RunStore, data: Path) -> None:
    sorted((data / "test" / "good").rglob("*.png"))[0].unlink()
    images, missing = framed_images(store)
    assert images == {}
    assert [why.partition(" since")[0][-12:] for why in missing.values()] == [" has changed"]
    shutil.rmtree(data)
    images, missing = framed_images(store)
    assert images == {}
    assert str(data) in next(iter(missing.values()))
