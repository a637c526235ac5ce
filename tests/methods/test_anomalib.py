import dataclasses
import functools
import gc
import hashlib
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
import timm
import torch
import torchvision
from anomalib.data.utils import DownloadInfo
from anomalib.models.components.backbone.resnet_decoder import DecoderBottleneck, ResNetDecoder
from anomalib.models.image.csflow import torch_model as csflow
from anomalib.models.image.draem import torch_model as draem
from anomalib.models.image.dsr.torch_model import DsrModel
from anomalib.models.image.efficient_ad.torch_model import SmallPatchDescriptionNetwork
from anomalib.models.image.uninet import torch_model as uninet
from PIL import Image
from safetensors.torch import save_file
from torchvision.models.resnet import Bottleneck, ResNet

from miasbench.harness.api import Method, Prediction, UsageError, Weights, WeightsError
from miasbench.harness.download import fetching
from miasbench.harness.registry import build_method
from miasbench.methods import training
from miasbench.methods.anomalib import networks
from miasbench.methods.pixels import as_batch

SIZE = 64
FIELD = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE / 2))


def make_image(seed: int, lesion: bool = False) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 6, (SIZE, SIZE))
    image = 110 * (FIELD < 22) + 40 * (FIELD < 10) + noise * (FIELD < 22)
    if lesion:
        image[18:30, 34:46] += 100
    return np.clip(image, 0, 255).astype(np.uint8)


TRAIN = [make_image(seed) for seed in range(5)]
LESION, NORMAL = make_image(9, lesion=True), make_image(9)


def build(spec: str, weights: str = "embedded", **options: Any) -> Method:
    return build_method(spec, options, weights=weights, device="cpu", seed=0)


def fitted(
    spec: str, weights: str = "embedded", rounds: int = 2, images: Sequence[np.ndarray] = TRAIN, **options: Any
) -> Method:
    """Fits a method; what is trained sees the images as often as `rounds` says."""
    method = build_method(
        spec,
        {"input_size": 64, **options},
        weights=weights,
        device="cpu",
        seed=0,
        shared={"epochs": rounds, "batch_size": 3},
    )
    method.fit(images)
    return method


def check(method: Method) -> None:
    lesion, normal = method.predict(LESION), method.predict(NORMAL)
    for prediction in (lesion, normal):
        assert prediction.anomaly_map.shape == (SIZE, SIZE)
        assert prediction.anomaly_map.dtype == np.float32
        assert np.isfinite(prediction.anomaly_map).all()
        assert np.isfinite(prediction.image_score)
    assert not np.array_equal(lesion.anomaly_map, normal.anomaly_map)
    np.testing.assert_array_equal(method.predict(LESION).anomaly_map, lesion.anomaly_map)
    method.batch = 2 if method.batches else 1
    for one, of_batch in zip((lesion, normal, lesion), method.predict_many([LESION, NORMAL, LESION]), strict=True):
        assert_alike(one, of_batch)


def assert_alike(one: Prediction, of_batch: Prediction) -> None:
    """In a batch sums may be rounded otherwise."""
    largest = float(np.abs(one.anomaly_map).max())
    np.testing.assert_allclose(of_batch.anomaly_map, one.anomaly_map, rtol=0, atol=1e-5 * largest)
    assert of_batch.image_score == pytest.approx(one.image_score, rel=1e-5, abs=1e-5 * largest)


@pytest.fixture(autouse=True)
def _one_network_at_a_time() -> Iterator[None]:
    """Lightning leaves networks in circles of references, which would stay until memory is looked through."""
    yield
    gc.collect()


@dataclasses.dataclass
class Free:
    """Stands for psutil's record."""

    available: int = 1000


@pytest.fixture(scope="module")
def random_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """anomalib's cache with random weights where EfficientAD and DSR look for files of their own."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        root = networks.get_pretrained_weights_dir()
    (root / "efficientad_pretrained_weights").mkdir()
    teacher = SmallPatchDescriptionNetwork(384, padding=False)
    torch.save(teacher.state_dict(), root / "efficientad_pretrained_weights" / "pretrained_teacher_small.pth")
    (root / "dsr").mkdir()
    quantised = DsrModel().discrete_latent_model
    torch.save(quantised.state_dict(), root / "dsr" / "vq_model_pretrained_128_4096.pckl")
    return cache


@pytest.fixture
def random_networks(monkeypatch: pytest.MonkeyPatch, random_files: Path) -> None:
    """Makes every network that would be downloaded with random weights instead, and large ones as deep but narrow."""
    create = timm.create_model

    def create_model(name: str, *arguments: Any, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        narrow = {"embed_dim": 64, "num_heads": 1} if name.startswith("vit_large") else {}
        return create(name, *arguments, **options, **narrow)

    def wide_resnet50_2() -> ResNet:
        return ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=16)

    monkeypatch.setattr(timm, "create_model", create_model)
    for module, name in (
        (torchvision.models, "resnet18"),
        (torchvision.models, "wide_resnet50_2"),
        (csflow, "efficientnet_b5"),
    ):
        network = wide_resnet50_2 if name == "wide_resnet50_2" else getattr(module, name)
        monkeypatch.setattr(module, name, lambda weights, network=network: network())
    monkeypatch.setattr(uninet, "get_decoder", lambda _: ResNetDecoder(DecoderBottleneck, [1] * 4, width_per_group=16))
    for module, name, narrow in (
        (uninet, "BottleneckLayer", {"width_per_group": 16}),
        (draem, "ReconstructiveSubNetwork", {"base_width": 16}),
        (draem, "DiscriminativeSubNetwork", {"base_width": 16}),
    ):
        monkeypatch.setattr(module, name, functools.partial(getattr(module, name), **narrow))
    monkeypatch.setattr(networks, "published_files", lambda model, options: ())
    monkeypatch.setenv("XDG_CACHE_HOME", str(random_files))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    (folder / "things").mkdir(parents=True)
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "things" / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    "spec", ["padim[n_features=50]", "cfa", "cflow", "rd4ad", "stfpm", "fastflow", "dfm[pooling_kernel_size=2]", "fre"]
)
def test_embedded_weights_take_the_place_of_the_backbone(spec: str) -> None:
    method = fitted(spec)
    check(method)
    assert [used.kind for used in method.weights_used()] == ["embedded"]
    assert method.options()["backbone"] == "tf_efficientnet_lite0"


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "supersimplenet[input_size=128]",
        "glass[mining=False]",
        "uflow[flow_steps=2]",
        "anomalib:Patchcore",
        "anomalib:MHPatchcore",
    ],
)
def test_more_models_take_embedded_weights(spec: str) -> None:
    check(fitted(spec, rounds=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "padim",
        "cfa[backbone=resnet18]",
        "cflow[backbone=resnet18,coupling_blocks=2]",
        "rd4ad[backbone=resnet18]",
        "stfpm",
        "fastflow[backbone=resnet18]",
        "dfm",
        "fre",
        "supersimplenet[input_size=128,backbone=resnet18]",
        "glass[backbone=resnet18]",
        "uflow[backbone=resnet18]",
        "uninet",
        "csflow[input_size=128,cross_conv_hidden_channels=16]",
        "anomaly_dino[input_size=56]",
        "dinomaly[input_size=56,encoder_name=vit_small_patch14_reg4_dinov2]",
        "inp_former[input_size=56,encoder_name=vit_small_patch14_reg4_dinov2]",
        "dsr[epochs=3]",
        "draem[epochs=1]",
        "anomalib:Rad",
        "anomalib:Patchflow",
        "anomalib:GeneralAD",
        "anomalib:L2BT[input_size=112]",
        "anomalib:FoundAD[input_size=56]",
        "anomalib:SuperADD[patch_size=64,backbone=vit_small_patch16_dinov3]",
    ],
)
def test_every_preset_runs_with_random_networks(spec: str, random_networks: None) -> None:
    check(fitted(spec, "published", rounds=1))


@pytest.mark.slow
def test_efficient_ad_runs_with_a_random_teacher(random_networks: None, photographs: Path) -> None:
    method = fitted(
        "efficient_ad[input_size=256]", "published", images=TRAIN[:2], imagenet_dir=str(photographs), epochs=1
    )
    assert method.options()["batch_size"] == 1
    check(method)


@pytest.mark.parametrize("spec", ["padim[n_features=50]", "cfa", "rd4ad"])
def test_the_same_seed_gives_the_same_maps(spec: str) -> None:
    one, other = (fitted(spec).predict(LESION) for _ in range(2))
    np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)


def test_a_resumed_training_keeps_its_centroids(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    """CFA computes centroids when training begins: of the untrained network, not of the resumed one."""
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    undisturbed = fitted("cfa", epochs=3).predict(LESION)

    def interrupt(stage: str, _done: int, _total: int) -> None:
        if stage.startswith("epoch 3/"):
            raise RuntimeError("interrupted")

    method = build("cfa", input_size=64, epochs=3, batch_size=3)
    method.progress = interrupt
    with pytest.raises(RuntimeError, match="interrupted"):
        method.fit(TRAIN)
    resumed = fitted("cfa", epochs=3)
    assert resumed.saved_seconds > 0
    np.testing.assert_array_equal(resumed.predict(LESION).anomaly_map, undisturbed.anomaly_map)


def test_the_map_lies_where_the_lesion_is() -> None:
    anomaly_map = fitted("dfm[pooling_kernel_size=1]", input_size=128).predict(LESION).anomaly_map
    row, column = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
    assert 14 <= row <= 34
    assert 30 <= column <= 50


def test_the_input_is_normalised_as_the_weights_want_it() -> None:
    method: Any = fitted("padim[n_features=10]")
    black, white = (method._transform(torch.full((1, 1, SIZE, SIZE), grey, dtype=torch.uint8)) for grey in (0, 255))
    torch.testing.assert_close(black, torch.full_like(black, -1))
    torch.testing.assert_close(white, torch.full_like(white, 1))


def test_embedded_features_have_the_scale_that_the_models_expect() -> None:
    method: Any = fitted("padim[n_features=10]", input_size=128)
    maps = method._model.feature_extractor(method._transform(as_batch(TRAIN, "cpu")))
    assert [value.shape[1] for value in maps.values()] == [24, 40, 112]
    for value in maps.values():
        assert 0.1 < value.std() < 1.5


def test_options_are_the_presets_and_known() -> None:
    options = build("rd4ad", "published").options()
    assert options["epochs"] == 200
    assert options["anomaly_map_mode"] == "multiply"
    assert build("anomalib:ReverseDistillation", "published").options()["anomaly_map_mode"] == "add"
    assert build("anomalib:Padim", "published").options()["epochs"] == 1
    with pytest.raises(UsageError, match="no option 'epochs'"):
        build("padim[epochs=2]")
    with pytest.raises(UsageError, match="no option 'features'"):
        build("padim[features=3]")
    with pytest.raises(UsageError, match="n_features"):
        build("padim[n_features=many]")


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UsageError, match="no model 'Padima'"):
        build("anomalib:Padima")


@pytest.mark.parametrize("name", ["dinomaly", "anomaly_dino", "csflow", "uninet", "efficient_ad"])
def test_what_cannot_take_embedded_weights_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} has no embedded weights: it (is|has) .+\. It has published ones\."):
        build(name, "embedded")


def test_published_weights_come_from_the_hubs_cache(hub: Callable[[str], Path]) -> None:
    path = hub("timm/resnet18.a1_in1k")
    torch.manual_seed(0)
    state = timm.create_model("resnet18").state_dict()
    save_file(state, path)
    method: Any = fitted("padim", "published")
    (used,) = method.weights_used()
    assert isinstance(used, Weights)
    assert (used.name, used.kind, len(used.sha256)) == ("resnet18", "published", 64)
    loaded = method._model.feature_extractor.feature_extractor.state_dict()
    torch.testing.assert_close(loaded["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])


def test_missing_weights_are_named_before_anything_runs(
    hub: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise requests.ConnectionError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(requests, "get", offline)
    monkeypatch.setattr(fetching, "PAUSE", 0)
    for spec in ("padim", "cfa", "dsr", "efficient_ad", "anomaly_dino"):
        with pytest.raises(WeightsError, match=r"(?s)cannot be downloaded.*(yourself|hub can be reached)"):
            build(spec, "published").weights_used()
    missing = tmp_path / "textures"
    with pytest.raises(WeightsError, match=str(missing)):
        build("draem", "published", dtd_dir=str(missing)).weights_used()
    monkeypatch.setenv("MIASBENCH_OFFLINE", "1")
    for spec in ("padim", "cfa", "dsr", "efficient_ad", "anomaly_dino"):
        with pytest.raises(WeightsError, match="MIASBENCH_OFFLINE is set"):
            build(spec, "published").weights_used()


@pytest.mark.parametrize("damaged", [False, True])
def test_an_archive_of_weights_is_downloaded_verified_and_unpacked(
    serve: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    file = "efficientad_pretrained_weights/pretrained_teacher_small.pth"
    (tmp_path / "served").mkdir()
    archive = tmp_path / "served" / "weights.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(file, b"teacher")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    if damaged:
        archive.write_bytes(archive.read_bytes()[:-1])
    info = DownloadInfo("weights", f"{serve(tmp_path / 'served')}/weights.zip", sha256)
    monkeypatch.setattr(networks.efficient_ad, "WEIGHTS_DOWNLOAD_INFO", info)
    monkeypatch.setattr(networks, "get_pretrained_weights_dir", lambda: tmp_path / "cache" / "pre")
    (tmp_path / "images").mkdir()
    method = build("efficient_ad", "published", imagenet_dir=str(tmp_path / "images"))
    if damaged:
        with pytest.raises(WeightsError, match="is another file than expected"):
            method.weights_used()
        assert not (tmp_path / "cache" / "pre").exists()
        return
    assert method.weights_used()[0].sha256 == hashlib.sha256(b"teacher").hexdigest()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.name == "pretrained_teacher_small.pth"]
    archive.unlink()
    assert method.weights_used(), "the second time nothing is downloaded"


def test_a_file_that_is_not_torchvisions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="does not begin with f37072fd"):
        networks.torchvision_file("resnet18")


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("padim[n_features=50]", "smaller n_features"),
        ("dfm[pooling_kernel_size=1]", "larger pooling_kernel_size"),
        ("cfa", "smaller batch_size"),
        ("patchcore", r"patchcore\[sample=0.1\]"),
    ],
)
def test_a_fit_that_would_not_fit_says_so(spec: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", Free)
    method = build(spec)
    with pytest.raises(UsageError, match=rf"(?s)GB of memory.*{remedy}"):
        method.fit(TRAIN)


def test_a_sample_of_patches_makes_patchcores_bank_small() -> None:
    whole: Any = build("patchcore", coreset=1.0)
    part: Any = build("patchcore", coreset=1.0, sample=0.25)
    for method in (whole, part):
        method.fit(TRAIN[:2])
    assert len(part._model.memory_bank) == len(whole._model.memory_bank) / 4


@pytest.mark.parametrize("spec", ["padim[n_features=10]", "cfa", "stfpm"])
def test_nothing_is_written_or_printed(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fitted(spec).predict(LESION)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


def test_a_fitted_model_goes_to_another_process() -> None:
    method = fitted("padim")
    sent = pickle.loads(pickle.dumps(method))
    np.testing.assert_array_equal(sent.predict(LESION).anomaly_map, method.predict(LESION).anomaly_map)


@pytest.mark.parametrize("name", ["AnomalibMethod", "AnomalibModule", "VlmAd", "Any", "NoSuchModel"])
def test_what_is_no_model_with_a_map_is_said(name: str) -> None:
    with pytest.raises(UsageError, match=f"anomalib has no model '{name}' that makes a pixel map"):
        build_method(f"anomalib:{name}", {}, weights="embedded", device="cpu", seed=0)
