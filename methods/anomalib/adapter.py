"""anomalib's models as methods: raw anomaly maps, exactly repeatable, and nothing written to disk.

anomalib's engine is not used: it rescales maps by the validation range and clips them to 0 to 1.
"""

import dataclasses
import importlib.resources
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
import yaml
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule, MemoryBankMixin
from anomalib.models.image import EfficientAd
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.utils.path import get_datasets_dir
from anomalib.visualization import Visualizer
from pydantic import Field, TypeAdapter
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from ...harness.api import Prediction, UsageError, Weights
from ..loading import KeptImages, PreparedBatches
from ..memory import require_memory
from ..pixels import as_batch
from ..training import LoopedMethod, Schedule, TrainedMethod, seed_from
from . import networks

# Options of a constructor that the adapter sets itself: the parts of anomalib's engine; whether networks are
# pretrained, which `--weights` says; and sizes that follow from others.
_DECIDED = {"pre_processor", "post_processor", "evaluator", "visualizer", "pre_trained", "input_shape", "input_dim"}
_METHODS = __name__.rpartition(".anomalib")[0]
# Names of annotations that some of anomalib's modules import for type checkers only.
_FOR_TYPE_CHECKERS = {one.__name__: one for one in (Sequence, PreProcessor, PostProcessor, Evaluator, Visualizer)}
_SCALARS = {bool, int, float, str, NoneType}
# How often a model sees each image whose memory bank takes more than one pass.
_PASSES = {"MHPatchcore": 3}
# For a model that is asked for by its class's name: anomalib leaves this to its trainer.
_EPOCHS = 100
# What a prediction of these depends on beside its image: Cflow divides by the largest likelihood of a batch, and DSR's
# codes may change with the last digit of a sum.
_ONE_BY_ONE = ("Cflow", "Dsr")
# A training set that was vertically stacked and centred exists three times.
_COPIES_OF_A_BANK = 3


@dataclasses.dataclass(kw_only=True)
class AnomalibMethod(LoopedMethod):
    """A model of anomalib's; a subclass per preset has the scalar arguments of its constructor as further options.

    This class is for models that see each image once, or a fixed number of times.

    Attributes:
        input_size: Width and height in pixels to which images are resized for the model.
    """

    input_size: Annotated[int, Field(ge=32)] = 256

    colour: ClassVar[bool] = True
    model_class: ClassVar[type[AnomalibModule]]
    fixed: ClassVar[Mapping[str, Any]] = {}
    """Arguments of the constructor that are not options, such as lists."""

    @property
    def schedule(self) -> Schedule:
        schedule = super().schedule
        # EfficientAD is defined for single images, and anomalib's refuses others.
        return dataclasses.replace(schedule, batch_size=1) if self._name == "EfficientAd" else schedule

    @property
    def _name(self) -> str:
        return self.model_class.__name__

    def options(self) -> dict[str, Any]:
        network = {"backbone": networks.LITE0.name} if self.weights == "embedded" and self.uses_weights else {}
        return super().options() | dict(self.fixed) | network

    def weights_used(self) -> tuple[Weights, ...]:
        if self.weights != "embedded":
            return networks.published_weights(self._name, self._arguments())
        return networks.embedded_weights() if self.uses_weights else ()

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Trains the model, or fills its memory bank."""
        seed_from(self.seed)
        self._transform = self._make_transform()
        module = self._build(len(images))
        kept = KeptImages(images, self.schedule.epochs)
        data = PreparedBatches(kept, lambda pixels: _batch(self._transform(pixels)), self.device)
        self._check_memory(module, images)
        clip = float(module.trainer_arguments.get("gradient_clip_val") or 0)
        self.train(module, kept, data, clip)
        self._model: Any = module.model.eval()
        if isinstance(module, EfficientAd):
            # The published quantiles are of held-out normal images; here all are trained on.
            with _silence():
                self._model.quantiles.update(module.map_norm_quantiles(data.loader()))

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """The map is the model's own, in its own units, bilinearly resized to the image's size."""
        output = self._model(self._transform(as_batch(images, self.device)))
        raw = output.anomaly_map
        if raw is None:
            raise UsageError(f"{self._name} makes no anomaly map with these options.")
        raw = raw.reshape(len(images), 1, *raw.shape[-2:]).float()
        resized = torch.nn.functional.interpolate(raw, images[0].shape[:2], mode="bilinear", align_corners=False)[:, 0]
        scores = raw.amax(dim=(1, 2, 3)) if output.pred_score is None else output.pred_score.reshape(len(images))
        return [Prediction(*one) for one in zip(resized.cpu().numpy(), scores.tolist(), strict=True)]

    def _arguments(self) -> dict[str, Any]:
        """All arguments of the model's constructor but the parts of anomalib's engine."""
        parameters = inspect.signature(self.model_class).parameters
        known = {name: parameter.default for name, parameter in parameters.items() if name not in _DECIDED}
        chosen = {name: getattr(self, name) for name in known if hasattr(self, name) and name not in _RESERVED}
        arguments = known | dict(self.fixed) | chosen
        if self._name == "EfficientAd":
            arguments["imagenet_dir"] = arguments["imagenet_dir"] or str(get_datasets_dir() / "imagenette")
        return arguments

    def _build(self, count: int) -> AnomalibModule:
        arguments = self._arguments()
        parameters = inspect.signature(self.model_class).parameters
        if "input_shape" in parameters:
            arguments["input_shape"] = (self.input_size, self.input_size)
        if "epochs" in parameters:
            arguments["epochs"] = self.schedule.epochs
        if self._name == "Draem":
            # It insists on a folder; in one without images it makes do with noise.
            arguments["dtd_dir"] = arguments["dtd_dir"] or Path(__file__).parent
        if self.weights == "embedded":
            arguments |= networks.EMBEDDED.get(self._name, {})
        if self._name == "Cflow":
            # Its coarsest map, at 1/32, must have enough positions for a step, also in a last, smaller batch.
            last = count % self.schedule.batch_size or self.schedule.batch_size
            positions = (self.input_size // 32) ** 2 * min(count, max(last, 2))
            arguments["fiber_batch_size"] = min(arguments["fiber_batch_size"], positions)
        if self._name == "Fre":
            arguments["input_dim"] = self._fre_features(arguments["pooling_kernel_size"])
        with networks.embedded_networks() if self.weights == "embedded" and self.uses_weights else nullcontext():
            module = self.model_class(
                **arguments,
                pre_processor=PreProcessor(transform=self._make_transform().steps),
                post_processor=False,
                evaluator=False,
                visualizer=False,
            )
        # The images are transformed before anomalib sees them: what reads them from the loader, as CFA does for its
        # centroids and GLASS for its centre, would otherwise get them raw.
        module.pre_processor = None
        module.on_train_start = _prepare(module, module.on_train_start)
        return module

    def _fre_features(self, pooling: int) -> int:
        """The length of FRE's feature vector: a third stage, at 1/16, of ResNet-50 or EfficientNet-Lite0, pooled."""
        channels = networks.LITE0.channels[2] if self.weights == "embedded" else 1024
        return channels * (self.input_size // 16 // pooling) ** 2

    def _make_transform(self) -> "_Transform":
        embedded = self.weights == "embedded" and bool(self.uses_weights)
        return _Transform(self.model_class, self.input_size, embedded)

    def _check_memory(self, module: AnomalibModule, images: Sequence[np.ndarray]) -> None:
        """Refuses a fit that would not fit, judged by what one image leaves in the model's memory bank."""
        model, count = module.model, len(images)
        bank = next((name for name in ("memory_bank", "embedding_store") if _is_list(model, name)), None)
        if bank:
            module.to(self.device)
            with torch.no_grad():
                model(self._transform(as_batch(images[:1], self.device)))
            stored = getattr(model, bank)
            needed = _COPIES_OF_A_BANK * count * sum(part.nbytes for part in stored)
            if self._name == "Padim":
                features, *shape = stored[0].shape[1:]
                needed += 2 * 4 * features**2 * int(np.prod(shape))  # covariances and their inverses
            stored.clear()
            remedy = _REMEDIES.get(self._name, "")
        elif self._name == "Cfa":
            positions = (self.input_size // 4) ** 2
            needed = 4 * 4 * min(self.schedule.batch_size, count) * positions**2  # of all to all, and gradients
            remedy = "Take a smaller batch_size"
        else:
            return
        remedy = f"{remedy + ', or a' if remedy else 'Take a'} smaller input_size, or fewer images with --limit."
        require_memory(needed, self.device, f"Fitting {self._name} on {count} images", remedy)


@dataclasses.dataclass(kw_only=True)
class TrainedAnomalibMethod(AnomalibMethod, TrainedMethod):
    """A model of anomalib's that is trained by gradients."""


_RESERVED = {field.name for field in dataclasses.fields(TrainedMethod)}
_REMEDIES = {
    "Padim": "Take a smaller n_features",
    "Dfm": "Take a larger pooling_kernel_size",
    "Patchcore": "Use the method patchcore with its option sample",
}


class _Transform:
    """Images, uint8 (N, 1 or 3, S, S), as a model's input, float32 (N, 3, H, W).

    It does what anomalib's default for the model does, with another size and the normalisation of the weights; it never
    crops, because the map must cover the whole image.
    """

    def __init__(self, model_class: type[AnomalibModule], size: int, embedded: bool) -> None:
        default = model_class.configure_pre_processor().transform
        steps: list[Any] = []
        for step in default.transforms if isinstance(default, v2.Compose) else [default]:
            if isinstance(step, v2.Resize):
                steps.append(v2.Resize((size, size), interpolation=step.interpolation, antialias=True))
            elif isinstance(step, v2.Normalize):
                norm = networks.LITE0 if embedded else step
                steps.append(v2.Normalize(list(norm.mean), list(norm.std)))
        self.steps = v2.Compose(steps)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.steps(pixels.float() / 255).expand(-1, 3, -1, -1)  # grey is normalised for three channels


def _batch(images: torch.Tensor) -> ImageBatch:
    """Normal images, transformed, as anomalib's batch."""
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    masks = torch.zeros((len(images), *images.shape[-2:]), dtype=torch.bool, device=images.device)
    return ImageBatch(image=Image(images), gt_label=labels, gt_mask=Mask(masks))


@cache
def method_class_of(name: str) -> type[AnomalibMethod]:
    """Makes the method class of a preset, such as `padim`, or of a model class of anomalib's, such as `Padim`.

    There is one of each, so that fitted methods can be pickled.

    Raises:
        UsageError: There is neither.
    """
    card = _cards().get(name, {})
    model_class = networks.find_class(card.get("anomalib", name))
    if model_class is None:
        raise UsageError(f"anomalib has no model {name!r} that makes a pixel map.")
    options, fixed = _split_arguments(model_class, card.get("options", {}))
    model = model_class.__name__
    embedded = ("embedded",) if model in networks.EMBEDDED else ()
    base = AnomalibMethod if issubclass(model_class, MemoryBankMixin) else TrainedAnomalibMethod
    passes = _PASSES.get(model, 1) if base is AnomalibMethod else _EPOCHS
    size = card.get("input_size") or _default_size(model_class)
    method = dataclasses.make_dataclass(
        name,
        [*options, ("input_size", Annotated[int, Field(ge=32)], dataclasses.field(default=size))],
        bases=(base,),
        kw_only=True,
        namespace={
            "__doc__": f"anomalib's {model}: {card.get('summary', 'with its own defaults')}.",
            "model_class": model_class,
            "published": Schedule(**card.get("schedule", {"epochs": passes, "batch_size": 32})),
            "fixed": fixed,
            "batches": model not in _ONE_BY_ONE,
            "uses_weights": () if model in networks.UNTRAINED else ("published", *embedded),
            "lacks_weights": networks.FIXED.get(model, "is not known to work with another network"),
        },
    )
    method.__module__ = f"{_METHODS}.anomalib"
    return method


def _cards() -> dict[str, dict[str, Any]]:
    text = importlib.resources.files(_METHODS).joinpath("cards.yaml").read_text(encoding="utf-8")
    return {name: card for name, card in yaml.safe_load(text).items() if "anomalib" in card}


def _split_arguments(model_class: type, preset: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Splits a constructor's arguments into fields, which a user may set, and what is not a scalar."""
    hints = get_type_hints(model_class.__init__, localns=_FOR_TYPE_CHECKERS)
    options, fixed = [], {}
    for name, parameter in inspect.signature(model_class).parameters.items():
        if name in _DECIDED or name in _RESERVED:
            continue
        hint = hints.get(name, type(parameter.default))
        default = preset.get(name, parameter.default)
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        if Path in kinds:  # a folder; anomalib's default would be made in the working folder
            options.append((name, str | None, dataclasses.field(default=None)))
        elif all(kind in _SCALARS or (isinstance(kind, type) and issubclass(kind, Enum)) for kind in kinds):
            options.append((name, hint, dataclasses.field(default=TypeAdapter(hint).validate_python(default))))
        elif name in preset:
            fixed[name] = default
    return options, fixed


def _default_size(model_class: type[AnomalibModule]) -> int:
    """The size that anomalib gives a model's images, after cropping."""
    transform: Any = model_class.configure_pre_processor().transform
    return int(transform(torch.zeros(1, 3, 1, 1)).shape[-1])


def _prepare(module: AnomalibModule, prepare: Callable[[], None]) -> Callable[[], None]:
    """Lets a model prepare its training without a progress bar of its own, and CFA only once.

    CFA's centroids are those of the untrained descriptor; a resumed training has them from the checkpoint.
    """

    def run() -> None:
        if type(module).__name__ == "Cfa" and module.model.memory_bank.ndim:
            return
        with _silence():
            prepare()

    return run


def _silence() -> redirect_stderr[io.StringIO]:
    return redirect_stderr(io.StringIO())


def _is_list(model: torch.nn.Module, name: str) -> bool:
    return isinstance(getattr(model, name, None), list)
