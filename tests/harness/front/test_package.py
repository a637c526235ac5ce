"""`import miasbench` is the front door: light, and with everything behind it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import miasbench
from miasbench.harness.running.planning import open_datasets

from ...support.running import config, run


def test_importing_it_loads_nothing_slow() -> None:
    code = "import sys, miasbench; print({'torch', 'numpy', 'pandas', 'click'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("name", miasbench.__all__)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(miasbench, name).__doc__
    assert name in dir(miasbench)


def test_its_version_is_that_of_the_package() -> None:
    assert miasbench.__version__.startswith("0.")


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        _ = miasbench.runn  # pyright: ignore[reportAttributeAccessIssue]


def test_a_method_without_a_run_predicts_what_it_does_in_one(tmp_path: Path) -> None:
    spec = "ae[epochs=1]"
    store, _ = run(tmp_path, spec, seeds=[3])
    (dataset,) = open_datasets(config(tmp_path)).values()
    method = miasbench.make_method(spec, weights="embedded", device="cpu", seed=3)
    method.fit([miasbench.frame_image(dataset.load(case).image, 64) for case in dataset.cases("train")])
    case = dataset.cases("test")[0]
    expected = store.cell(store.read().cells[0].name).read_prediction("test", case.id).prediction
    found = method.predict(miasbench.frame_image(dataset.load(case).image, 64))
    np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


def test_a_method_that_there_is_none_of() -> None:
    with pytest.raises(miasbench.UsageError, match="Did you mean 'mias_sam'"):
        miasbench.make_method("mias_san")


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (None, {}, "A method is given by its name, .* and not by None"),
        ("intensity", {"device": "gpu"}, "device='gpu': it should be auto, cpu or cuda"),
        ("intensity", {"weights": "mine"}, "weights='mine': it should be published or embedded"),
        ("intensity", {"seed": -1}, "seed=-1: it should be a whole number from 0"),
        ("intensity", {"seed": 0.5}, "seed=0.5: it should be a whole number from 0"),
    ],
)
def test_arguments_of_a_method_that_cannot_be(spec: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(miasbench.UsageError, match=said):
        miasbench.make_method(spec, **options)
