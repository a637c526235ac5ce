"""The procedure of MIAS-SAM, from normal images to a mask."""

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import faiss
import numpy as np
import torch
from pydantic import Field

from ...harness.api import Diagnostic, Prediction, UsageError, Weights
from ...harness.cache import Cache, cache_key
from .index import PROBES, check_index
from .memory_bank import MemoryBank, anomaly_map, patch_descriptors
from .prompted import EPSILON, PromptedSam, range_of
from .sam import code_of

_PositiveInt = Annotated[int, Field(ge=1)]

_BANK_OPTIONS = (
    "flip",
    "patch_size",
    "stride",
    "descriptor_size",
    "index",
    "probes",
    "coreset",
    "neighbours",
    "held_out",
)
_BANK_CODE = code_of("method.py", "memory_bank.py", "index.py")


@dataclass(kw_only=True)
class MiasSam(PromptedSam):
    """A memory bank of SAM's patches gives the anomaly map; its centre of gravity prompts SAM for the mask.

    Attributes:
        flip: Probability that a training image is flipped horizontally.
        patch_size: Width of a patch, in feature pixels; odd.
        stride: Distance between patches, in feature pixels.
        descriptor_size: Numbers per patch descriptor.
        index: How the memory bank is searched: `exact` as in the paper, `half`, `8bit`, `ivf`, `ivf_8bit`, `pca_ivf`
            (with exact re-ranking), `pq`, `coreset`, a FAISS factory string, or `auto`, which picks by size.
        probes: Lists of an inverted file that a search visits.
        coreset: Share of the rows that `index=coreset` keeps.
        neighbours: Nearest neighbours whose squared distances are averaged. The released code means 5 and runs 1.
        sigma: The standard deviation of the Gaussian filter over the map, in pixels.
        normalisation: Where the minimum that is subtracted before the centre of gravity comes from: `train` (maps of
            training images that were held out of the bank), `image` (the map itself) or `test_set` (the paper's:
            transductive).
        held_out: How many training images, at most a quarter of them, are held against the bank before they are added
            to it, for `normalisation=train` and to measure the index.
    """

    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    patch_size: Annotated[int, Field(ge=1, lt=64)] = 5
    stride: _PositiveInt = 2
    descriptor_size: _PositiveInt = 1024
    index: str = "auto"
    probes: _PositiveInt = PROBES
    coreset: Annotated[float, Field(gt=0, le=1)] = 0.1
    neighbours: _PositiveInt = 1
    sigma: Annotated[float, Field(ge=0)] = 4.0
    normalisation: Literal["train", "image", "test_set"] = "train"
    held_out: _PositiveInt = 8

    @property
    def transductive(self) -> bool:
        return self.normalisation == "test_set"

    def weights_used(self) -> tuple[Weights, ...]:
        if self.patch_size % 2 == 0:
            raise UsageError(f"patch_size is {self.patch_size}; a patch has a centre, so its width must be odd.")
        check_index(self.index, self.descriptor_size)
        return super().weights_used()

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The size of the memory bank, and for an approximate index what it loses against exhaustive search."""
        choice, held_out = self._bank.choice, self._bank.held_out
        found = [
            Diagnostic("bank_rows", len(self._bank), "rows of the memory bank", f"index {choice.name}: {choice.reason}")
        ]
        if held_out and not choice.exact:
            exact = np.stack([self._map(scores) for scores in held_out.exact])
            indexed = np.stack([self._map(scores) for scores in held_out.indexed])
            error = float(np.linalg.norm(indexed - exact) / max(np.linalg.norm(exact), EPSILON))
            where = f"{len(exact)} training images held out of the bank, against exhaustive search"
            found += [
                Diagnostic("index_recall", held_out.recall, f"share of nearest rows that the index finds; {where}"),
                Diagnostic("index_map_error", error, f"norm of the maps' difference over the maps' norm; {where}"),
            ]
        return tuple(found)

    def fit(self, images: Sequence[np.ndarray]) -> None:
        """Fills the memory bank with the patches of normal images, and finds the range of normal maps."""
        if len(images) < 2 and self.normalisation == "train":
            raise UsageError("normalisation=train needs two training images or more; use normalisation=image.")
        self._load_sam()
        self._size = len(images[0])
        self._bank = self._cached_bank(images)
        if self._bank.held_out:
            normal = [self._map(scores) for scores in self._bank.held_out.exact]
            self._range = range_of(normal)

    def predict(self, image: np.ndarray) -> Prediction:
        """The map is in squared feature distances, 0 or more; the image score is the largest patch score."""
        features = self._encode(image)
        scores = self._bank.distances(self._describe(features))
        raw_map = self._map(scores)
        value_range = range_of([raw_map]) if self.normalisation == "image" else self._range
        return self._finish(image, features, raw_map, float(scores.max()), value_range)

    def predict_many(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        """One by one; only `normalisation=test_set` must see every map of the test set before the first prompt."""
        return self._predict_transductively(images) if self.transductive else super().predict_many(images)

    def _predict_transductively(self, images: Sequence[np.ndarray]) -> Iterator[Prediction]:
        # Features wait on disk (4 MB an image), so that the encoder still sees each image once.
        with tempfile.TemporaryFile() as file:
            maps, image_scores, shape = [], [], (0,)
            for done, image in enumerate(images, start=1):
                features = self._encode(image)
                shape = features.shape
                file.write(features.cpu().numpy().tobytes())
                scores = self._bank.distances(self._describe(features))
                maps.append(self._map(scores))
                image_scores.append(float(scores.max()))
                self.progress("anomaly maps of the whole test set", done, len(images))
            value_range = range_of(maps)
            file.seek(0)
            for image, raw_map, image_score in zip(images, maps, image_scores, strict=True):
                kept = np.frombuffer(file.read(4 * int(np.prod(shape))), np.float32).reshape(shape)
                features = torch.from_numpy(kept.copy()).to(self.device)
                yield self._finish(image, features, raw_map, image_score, value_range)

    def _cached_bank(self, images: Sequence[np.ndarray]) -> MemoryBank:
        """Reads the bank from the cache, or fills one and keeps it there."""
        cache = Cache.from_environment()
        options = {name: getattr(self, name) for name in ("seed", *_BANK_OPTIONS)}
        contents = hashlib.sha256()
        for image in images:
            contents.update(str(image.shape).encode() + image.tobytes())
        key = cache_key(
            "bank", self._sam.identity, _BANK_CODE, faiss.__version__, json.dumps(options), contents.digest()
        )
        start = time.perf_counter()
        path = cache.find(key)
        if path is not None:
            try:
                bank = MemoryBank.load(path)
                self.saved_seconds += bank.seconds - (time.perf_counter() - start)
                return bank
            except OSError:
                cache.discard(key)
        bank = self._fill_bank(images)
        filled = time.perf_counter()
        cache.store(key, bank.nbytes, bank.save)
        self.saved_seconds -= time.perf_counter() - filled
        return bank

    def _fill_bank(self, images: Sequence[np.ndarray]) -> MemoryBank:
        # Random order, so that the first images, which the index is trained and measured on, are like the others.
        rng = np.random.default_rng(self.seed)
        flips = rng.random(len(images)) < self.flip
        bank = MemoryBank(
            len(images),
            self.index,
            held_out=min(self.held_out, max(1, len(images) // 4), len(images) - 1),
            neighbours=self.neighbours,
            probes=self.probes,
            coreset=self.coreset,
            progress=self.progress,
        )
        seconds = -self.saved_seconds
        for done, index in enumerate(rng.permutation(len(images)), start=1):
            image = images[index]  # read from disk, which does not count
            start = time.perf_counter()
            bank.add(self._describe(self._encode(image[:, ::-1] if flips[index] else image)))
            seconds += time.perf_counter() - start
            self.progress("memory bank", done, len(images))
        start = time.perf_counter()
        bank.finish()
        bank.seconds = seconds + time.perf_counter() - start + self.saved_seconds
        return bank

    def _describe(self, features: torch.Tensor) -> np.ndarray:
        descriptors = patch_descriptors(features, self.patch_size, self.stride, self.descriptor_size)
        return descriptors[0].cpu().numpy()

    def _map(self, patch_scores: np.ndarray) -> np.ndarray:
        return anomaly_map(patch_scores, self._size, self.sigma)
