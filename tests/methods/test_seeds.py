"""Methods that say the seed changes nothing in them, held to it."""

import numpy as np
import pytest

from miasbench.harness.api import Method, Prediction
from miasbench.harness.registry import build_method
from miasbench.harness.running.device import seed_everything
from miasbench.methods.mias_sam import sam_method

from ..support.blur_sam import BlurSam

ONCE = (
    "intensity",
    "intensity[sigma=0]",
    "sam_control",
    "sam_control[prompt=intensity_box]",
    "sam_refine[base=intensity]",
    "sam_refine[base=intensity,normalisation=test_set]",
    "subspace",
)
SEVERAL = (
    "mias_sam",
    "patchcore",
    "ae",
    "vae",
    "ae_u",
    "dae",
    "fae",
    "dpmm",
    "anomalib:Padim",
    "sam_refine[base=patchcore]",
    "sam_refine[base=intensity,normalisation=train]",
)


def make(spec: str, seed: int) -> Method:
    return build_method(spec, {}, weights="embedded", device="cpu", seed=seed)


def predictions(spec: str, seed: int) -> list[Prediction]:
    seed_everything(seed)
    method = make(spec, seed)
    images = list(np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8))
    method.fit(images[:4])
    return list(method.predict_many(images[4:]))


@pytest.mark.parametrize("spec", ONCE)
def test_a_method_that_is_run_once_predicts_the_same_with_every_seed(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam_method, "load_sam", lambda *_, **__: BlurSam())
    assert not make(spec, 0).stochastic
    for one, other in zip(predictions(spec, 0), predictions(spec, 7), strict=True):
        assert one.anomaly_map.tobytes() == other.anomaly_map.tobytes()
        assert (one.image_score, one.note, one.prompts) == (other.image_score, other.note, other.prompts)
        masks = [b"" if mask is None else mask.tobytes() for mask in (one.mask, other.mask)]
        assert masks[0] == masks[1]


@pytest.mark.parametrize("spec", SEVERAL)
def test_a_method_with_anything_random_in_it_is_run_with_every_seed(spec: str) -> None:
    assert make(spec, 0).stochastic
