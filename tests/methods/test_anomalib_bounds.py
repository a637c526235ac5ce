"""The parts of anomalib that miasbench replaces or calls: a version that moves one fails here, by its name."""

import importlib
import importlib.metadata
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODELS = "anomalib.models.image"
# What is replaced or called, and the parameters that this relies on.
CALLED = {
    f"{MODELS}.cfa.torch_model:get_feature_extractor": ("backbone", "return_nodes"),
    f"{MODELS}.cfa.torch_model:Descriptor": ("gamma_d", "backbone"),
    f"{MODELS}.cfa.torch_model:CoordConv2d": ("in_channels", "out_channels", "kernel_size"),
    f"{MODELS}.reverse_distillation.torch_model:get_bottleneck_layer": ("backbone",),
    f"{MODELS}.reverse_distillation.torch_model:get_decoder": ("name",),
    f"{MODELS}.patchcore.torch_model:PatchcoreModel": ("layers", "backbone", "pre_trained", "num_neighbors"),
    "anomalib.models.components:KCenterGreedy": ("embedding", "sampling_ratio"),
    "anomalib.models.components:TimmFeatureExtractor": ("backbone", "layers", "pre_trained"),
    "anomalib.utils.path:get_pretrained_weights_dir": (),
    "anomalib.utils.path:get_datasets_dir": (),
}
# What is downloaded, in place of anomalib's own download.
DOWNLOADS = (
    f"{MODELS}.draem.lightning_model:DTD_DOWNLOAD_INFO",
    f"{MODELS}.glass.lightning_model:DTD_DOWNLOAD_INFO",
    f"{MODELS}.dsr.lightning_model:WEIGHTS_DOWNLOAD_INFO",
    f"{MODELS}.efficient_ad.lightning_model:WEIGHTS_DOWNLOAD_INFO",
    f"{MODELS}.efficient_ad.lightning_model:IMAGENETTE_DOWNLOAD_INFO",
)


def found(name: str) -> Any:
    module, _, attribute = name.partition(":")
    value = getattr(importlib.import_module(module), attribute, None)
    assert value is not None, f"anomalib {importlib.metadata.version('anomalib')} has no {name}"
    return value


def test_the_installed_anomalib_is_one_that_is_declared() -> None:
    (declared,) = [
        one for one in map(Requirement, PROJECT["optional-dependencies"]["methods"]) if one.name == "anomalib"
    ]
    assert {clause.operator for clause in declared.specifier} == {">=", "<"}
    assert importlib.metadata.version("anomalib") in declared.specifier


@pytest.mark.parametrize("name", CALLED)
def test_what_is_replaced_or_called_takes_the_same_arguments(name: str) -> None:
    parameters = inspect.signature(found(name)).parameters
    assert set(CALLED[name]) <= set(parameters), f"{name} takes {', '.join(parameters)}"


@pytest.mark.parametrize("name", ["reset_distances", "update_distances", "sample_coreset"])
def test_what_is_overridden_in_the_coreset_is_there(name: str) -> None:
    assert callable(getattr(found("anomalib.models.components:KCenterGreedy"), name))


@pytest.mark.parametrize("name", DOWNLOADS)
def test_what_is_downloaded_has_an_address_and_a_checksum(name: str) -> None:
    info = found(name)
    assert info.url.startswith("https://")
    assert len(info.hashsum) == 64
