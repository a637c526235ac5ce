"""The procedure of MIAS-SAM, from normal images to a mask."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from ...harness.api import Method, Prediction, UsageError, Weights
from ..weights import SAM, describe
from .memory_bank import MemoryBank, anomaly_map, patch_descriptors
from .prompts import centroid_prompt
from .sam import FEATURE_CHANNELS, FEATURE_SIZE, Sam, load_sam

_PositiveInt = Annotated[int, Field(ge=1)]


@dataclass(kw_only=True)
class MiasSam(Method):
    """A memory bank of SAM's patches gives the anomaly map; its centre of gravity prompts SAM for the mask.

    Attributes:
        encoder: `auto` is SAM ViT-B with `--weights published`, and LiteMedSAM with `--weights embedded`.
        flip: Probability that a training image is flipped horizontally.
        patch_size: Width of a patch, in feature pixels; odd.
        stride: Distance between patches, in feature pixels.
        descriptor_size: Numbers per patch descriptor.
        neighbours: Nearest neighbours whose squared distances are averaged. The released code means 5 and runs 1.
        sigma: Of the Gaussian filter over the map, in pixels.
        normalisation: Where the minimum that is subtracted before the centre of gravity comes from: `train` (the
            training images' own leave-one-image-out maps), `image` (the map itself) or `test_set` (the paper's:
            transductive).
        calibration_images: How many training images, evenly spaced, `normalisation=train` scores.
        gamma: Power to which the map is raised before the centre of gravity.
        prompt: `centroid` (the paper's point), `centroid_box`, or `auto`: the point, but the box for the two MedSAMs,
            which were trained with boxes only.
        box_scale: Half-width of the box, in weighted standard deviations of the map along each axis.
        mask: Which of the decoder's masks: the one of three whose `predicted_iou` is highest, one of the three by
            number, or its `single` output. `auto` is `predicted_iou`, but `single` for the two MedSAMs, which were
            trained with the single output only.
    """

    encoder: Literal["auto", "vit_b", "vit_l", "vit_h", "medsam", "lite_medsam"] = "auto"
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    patch_size: Annotated[int, Field(ge=1, lt=64)] = 5
    stride: _PositiveInt = 2
    descriptor_size: _PositiveInt = 1024
    neighbours: _PositiveInt = 1
    sigma: Annotated[float, Field(ge=0)] = 4.0
    normalisation: Literal["train", "image", "test_set"] = "train"
    calibration_images: _PositiveInt = 32
    gamma: Annotated[float, Field(ge=0)] = 5.0
    prompt: Literal["auto", "centroid", "centroid_box"] = "auto"
    box_scale: Annotated[float, Field(gt=0)] = 1.5
    mask: Literal["auto", "predicted_iou", "single", "0", "1", "2"] = "auto"

    uses_weights: ClassVar[tuple[str, ...]] = ("published", "embedded")

    @property
    def transductive(self) -> bool:
        return self.normalisation == "test_set"

    def options(self) -> dict[str, Any]:
        """The configuration with `auto` replaced by what it stands for."""
        encoder = self._resolved_encoder()
        if encoder in ("medsam", "lite_medsam"):
            defaults = {"prompt": "centroid_box", "mask": "single"}
        else:
            defaults = {"prompt": "centroid", "mask": "predicted_iou"}
        options = super().options() | {"encoder": encoder}
        return options | {name: value for name, value in defaults.items() if options[name] == "auto"}

    def weights_used(self) -> tuple[Weights, ...]:
        if self.patch_size % 2 == 0:
            raise UsageError(
                f"mias_sam.patch_size is {self.patch_size}; a patch has a centre, so its width must be odd."
            )
        source = SAM[self._resolved_encoder()]
        return (describe(source.name, self.weights, source.fetch(self.report)),)  # type: ignore[arg-type]

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Fills the memory bank with the patches of normal images, and finds the floor of normal maps."""
        encoder = self._resolved_encoder()
        self._sam: Sam = load_sam(encoder, SAM[encoder].fetch(), self.device)
        self._bank = MemoryBank(len(images))
        flips = np.random.default_rng(self.seed).random(len(images)) < self.flip
        for index, (image, flip) in enumerate(zip(images, flips, strict=True)):
            self._bank.add(self._describe(self._sam.encode(image[:, ::-1] if flip else image)))
            self.report("memory bank", index + 1, len(images))
        self._floor = self._normal_floor(len(images), len(images[0])) if self.normalisation == "train" else 0.0

    def predict(self, image: np.ndarray) -> Prediction:
        """The map is in squared feature distances, 0 or more; the image score is the largest patch score."""
        features = self._sam.encode(image)
        distances = self._bank.distances(self._describe(features), self.neighbours)
        raw_map = anomaly_map(distances, len(image), self.sigma)
        floor = raw_map.min() if self.normalisation == "image" else self._floor
        return self._segment(image, features, raw_map, float(distances.max()), floor)

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        """One by one; only `normalisation=test_set` must see every map of the test set before the first prompt."""
        return self._predict_transductively(images) if self.transductive else super().predict_many(images)

    def _predict_transductively(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        # Features wait on disk (4 MB an image), so that the encoder still sees each image once.
        with tempfile.TemporaryFile() as file:
            kept = np.memmap(file, np.float32, "w+", shape=(len(images), FEATURE_CHANNELS, FEATURE_SIZE, FEATURE_SIZE))
            maps, scores = [], []
            for index, image in enumerate(images):
                features = self._sam.encode(image)
                kept[index] = features[0].cpu().numpy()
                distances = self._bank.distances(self._describe(features), self.neighbours)
                maps.append(anomaly_map(distances, len(image), self.sigma))
                scores.append(float(distances.max()))
                self.report("anomaly maps of the whole test set", index + 1, len(images))
            floor = min(raw_map.min() for raw_map in maps)
            for index, image in enumerate(images):
                features = torch.from_numpy(kept[index : index + 1].copy()).to(self.device)
                yield self._segment(image, features, maps[index], scores[index], floor)

    def _segment(
        self, image: np.ndarray, features: torch.Tensor, raw_map: np.ndarray, score: float, floor: float
    ) -> Prediction:
        weights = np.clip(raw_map - floor, 0, None)
        weights = (weights / max(weights.max(), np.finfo(np.float32).tiny)) ** self.gamma
        options = self.options()
        prompt = centroid_prompt(weights, self.box_scale if options["prompt"] == "centroid_box" else None)
        if prompt is None or image.min() == image.max():
            note = "the image is constant" if image.min() == image.max() else "the anomaly map is flat"
            return Prediction(raw_map, score, np.zeros(image.shape, bool), f"{note}: no centre of gravity, no mask")
        masks, predicted_iou = self._sam.decode(features, prompt, len(image), multimask=options["mask"] != "single")
        best = options["mask"] in ("predicted_iou", "single")
        chosen = masks[predicted_iou.argmax() if best else int(self.mask)]
        return Prediction(raw_map, score, chosen)

    def _normal_floor(self, count: int, size: int) -> float:
        """The smallest value in the maps of training images, each held against the bank without its own rows.

        Descriptors are read back from the bank, so no image passes the encoder again.
        """
        if count < 2:
            raise UsageError("mias_sam.normalisation=train needs two training images or more; use normalisation=image.")
        chosen = np.unique(np.linspace(0, count - 1, min(self.calibration_images, count)).round().astype(int))
        patches = len(self._bank.rows) // count
        floor = np.inf
        for done, index in enumerate(chosen, start=1):
            own = self._bank.rows[index * patches : (index + 1) * patches]
            distances = self._bank.distances(own, self.neighbours, leave_out=int(index))
            floor = min(floor, anomaly_map(distances, size, self.sigma).min())
            self.report("leave-one-out maps", done, len(chosen))
        return float(floor)

    def _describe(self, features: torch.Tensor) -> np.ndarray:
        descriptors = patch_descriptors(features, self.patch_size, self.stride, self.descriptor_size)
        return descriptors[0].cpu().numpy()

    def _resolved_encoder(self) -> str:
        default = "lite_medsam" if self.weights == "embedded" else "vit_b"
        encoder = default if self.encoder == "auto" else self.encoder
        if (encoder == "lite_medsam") != (self.weights == "embedded"):
            raise UsageError(
                f"mias_sam.encoder={encoder} has no {self.weights} weights: lite_medsam goes with --weights embedded, "
                "the others with --weights published."
            )
        return encoder
