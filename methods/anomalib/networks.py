"""The pretrained networks inside anomalib's models: which files they come from, and another one in their place."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import timm
import torch
import torchvision
from anomalib.data.utils import DownloadInfo
from anomalib.models.components import AnomalibModule, TimmFeatureExtractor
from anomalib.models.image.cfa import torch_model as cfa
from anomalib.models.image.draem import lightning_model as draem
from anomalib.models.image.dsr import lightning_model as dsr
from anomalib.models.image.efficient_ad import lightning_model as efficient_ad
from anomalib.models.image.glass import lightning_model as glass
from anomalib.models.image.reverse_distillation import torch_model as reverse_distillation
from anomalib.utils.path import get_pretrained_weights_dir

from ...harness.api import DataError, Weights, WeightsError
from ...harness.download.fetching import FetchError, fetch
from ...harness.download.unpacking import unpack
from .. import reverse
from ..backbones import BACKBONES
from ..weights import checksum, describe_weights, hold_to_first_use, timm_file

LITE0 = BACKBONES["embedded"]

# Lite0's features have a standard deviation of about 6 on medical images, as its blocks end without an activation. The
# models' constants, such as the 0.01 that PaDiM adds to variances and the deviation of SuperSimpleNet's noise, are
# meant for features well below 1.
_SCALE = 0.1

# Models whose network can be exchanged, with the options that this takes. Where they ask for a pretrained ResNet's
# stages, they get EfficientNet-Lite0's at the same scales.
EMBEDDED: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("Cfa", "Cflow", "Dfm", "Fastflow", "Fre", "Glass", "MHPatchcore", "Padim", "Patchcore")},
    **{name: {} for name in ("ReverseDistillation", "Supersimplenet")},
    # Its student has the teacher's structure, so it must know it by name.
    "Stfpm": {"backbone": LITE0.name, "layers": LITE0.pyramid[:3]},
    # Its own choice is a transformer; with this one it reads a pyramid.
    "Uflow": {"backbone": "resnet18"},
}
# Parts of a model that cannot be exchanged.
_TRANSFORMER = "is a plain vision transformer: it reads tokens of its blocks, not feature maps of several sizes"
FIXED = {
    **dict.fromkeys(("Dinomaly", "InpFormer", "AnomalyDINO", "FoundAD", "L2BT", "Rad", "SuperADD"), _TRANSFORMER),
    "GeneralAD": _TRANSFORMER,
    "Csflow": "has flows of the size of EfficientNet-B5's last features",
    "UniNet": "has a bottleneck and a student that mirror a ResNet",
    "EfficientAd": "has a teacher of its own, distilled for it",
    "Dsr": "has a quantised autoencoder of its own, trained for it",
}
_TORCHVISION = {"Cfa": ("backbone",), "UniNet": ("student_backbone", "teacher_backbone"), "Csflow": ()}
_OF_A_SERVICE = ("VlmAd",)  # it sends images to a language model, and makes no map
# Models without a pretrained network.
UNTRAINED = ("Draem",)
# Options that name a folder of images, and what anomalib would fill it with.
_FOLDERS = {
    "Draem": {"dtd_dir": draem.DTD_DOWNLOAD_INFO},
    "Glass": {"anomaly_source_path": glass.DTD_DOWNLOAD_INFO},
    "EfficientAd": {"imagenet_dir": efficient_ad.IMAGENETTE_DOWNLOAD_INFO},
}


def published_files(model: str, options: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Names and files of the pretrained networks that a model of anomalib's loads, fetched where needed.

    Folders of images that it trains with are fetched too.

    Args:
        model: The class's name.
        options: The options of its constructor.

    Raises:
        WeightsError: A file cannot be had.
    """
    for option, info in _FOLDERS.get(model, {}).items():
        if options[option]:
            _fetch_folder(Path(options[option]), info)
    if model in UNTRAINED:
        return
    if model == "EfficientAd":
        size = getattr(options["model_size"], "value", options["model_size"])
        file = f"efficientad_pretrained_weights/pretrained_teacher_{size}.pth"
        yield f"efficient_ad_teacher_{size}", _archive_file(efficient_ad.WEIGHTS_DOWNLOAD_INFO, file)
    elif model == "Dsr":
        yield "dsr_vq", _archive_file(dsr.WEIGHTS_DOWNLOAD_INFO, "vq_model_pretrained_128_4096.pckl", "dsr")
    elif model in _TORCHVISION:
        for name in dict.fromkeys(options[key] for key in _TORCHVISION[model]) or ["efficientnet_b5"]:
            yield name, torchvision_file(name)
    else:
        name = options.get("backbone") or options.get("encoder_name")
        for network in ("cait_m48_448", "cait_s24_224") if name == "mcait" else (name,) if name else ():
            yield network, timm_file(network)


def embedded_weights() -> tuple[Weights, ...]:
    """The record of EfficientNet-Lite0's file."""
    return (LITE0.weights_used(),)


def published_weights(model: str, options: Mapping[str, Any]) -> tuple[Weights, ...]:
    """The records of `published_files`."""
    return tuple(describe_weights(name, "published", path) for name, path in published_files(model, options))


@contextmanager
def embedded_networks() -> Iterator[None]:
    """Gives models of anomalib's that are made in it EfficientNet-Lite0 for every pretrained network.

    anomalib names its networks in a dozen places and offers no way to hand one over, so the functions that make them
    are exchanged for as long as a model is made.
    """
    create = timm.create_model

    def create_model(name: str, *arguments: Any, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        if not pretrained:
            return create(name, *arguments, **options)
        network = create(LITE0.name, **options)
        LITE0.load_into(network)
        network.register_forward_hook(_scale)
        return network

    replaced: Sequence[tuple[Any, str, Callable[..., Any]]] = (
        (timm, "create_model", create_model),
        (cfa, "get_feature_extractor", lambda _backbone, nodes: _extractor(nodes)),
        (cfa, "Descriptor", _Descriptor),
        (reverse_distillation, "get_bottleneck_layer", lambda _backbone: reverse.Bottleneck(LITE0.channels[:3])),
        (reverse_distillation, "get_decoder", lambda _backbone: reverse.Decoder(LITE0.channels[:3])),
    )
    with ExitStack() as stack:
        for module, name, function in replaced:
            stack.enter_context(patch.object(module, name, function))
        yield


def torchvision_file(name: str) -> Path:
    """Returns the file of a torchvision network's default weights, from torch's cache or its server.

    Raises:
        WeightsError: The file cannot be had, or its checksum is wrong.
    """
    weights: Any = torchvision.models.get_model_weights(name)
    url = weights.DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    beginning = path.stem.rsplit("-", 1)[-1]  # of its SHA-256, by torch's convention
    try:
        fetch(url, path, "")
    except FetchError as error:
        raise WeightsError(
            f"The weights of {name} are not at {path}. {error} Put the file there yourself, or use --weights embedded "
            "where the method has them."
        ) from error
    if not checksum(path).startswith(beginning):
        raise WeightsError(f"{path} is not {name}: its SHA-256 does not begin with {beginning}. Delete it.")
    hold_to_first_use(path.name, path)  # a few digits prove little
    return path


def _archive_file(info: DownloadInfo, file: str, folder: str = "") -> Path:
    """Returns a file of an archive that anomalib keeps in its own cache."""
    root = get_pretrained_weights_dir() / folder
    if not (root / file).exists():
        _extract(info, root)
    return root / file


def _fetch_folder(folder: Path, info: DownloadInfo) -> None:
    if not folder.is_dir():
        _extract(info, folder)


def _extract(info: DownloadInfo, folder: Path) -> None:
    """Downloads an archive, whose checksum anomalib knows, and puts what is in it into a folder."""
    archive = folder.parent / info.url.rsplit("/", 1)[-1]
    of_the_user = archive.exists()
    try:
        fetch(info.url, archive, f"sha256:{info.hashsum}")
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            unpacked = Path(temporary) / "new"
            unpack(archive, unpacked)
            folder.mkdir(parents=True, exist_ok=True)
            for path in unpacked.iterdir():
                if not (folder / path.name).exists():
                    path.rename(folder / path.name)
        if not of_the_user:
            archive.unlink()
    except (FetchError, DataError) as error:
        raise WeightsError(
            f"What belongs into {folder} is missing. {error} Extract that archive into the folder yourself."
        ) from error


def _scale(_network: torch.nn.Module, _inputs: Any, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [_SCALE * one for one in maps]


def _extractor(nodes: Sequence[str]) -> torch.nn.Module:
    """Lite0's maps at 1/4, 1/8 and 1/16 under the names of a ResNet's nodes."""
    extractor = TimmFeatureExtractor(LITE0.name, LITE0.pyramid[:3], pre_trained=True)
    extractor.layers = list(nodes)
    return extractor


class _Descriptor(cfa.Descriptor):
    """CFA's patch descriptor for Lite0's channels."""

    def __init__(self, gamma_d: int, backbone: str) -> None:
        super().__init__(gamma_d, "resnet18")
        channels = sum(LITE0.channels[:3])
        self.layer = cfa.CoordConv2d(channels, channels // gamma_d, kernel_size=1)


def find_class(name: str) -> type[AnomalibModule] | None:
    """The model class of anomalib's that has a name."""
    from anomalib.models import image

    found = None if name in _OF_A_SERVICE else getattr(image, name, None)
    return found if isinstance(found, type) and issubclass(found, AnomalibModule) else None
