"""Patch descriptors, the memory bank of normal ones, and the anomaly map made from distances to it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import faiss
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from ...harness.api import Progress, UsageError
from ...harness.safe_files import below
from ..weights import checksum
from .index import (
    PROBES,
    IndexChoice,
    bytes_per_row,
    choose_index,
    every_list,
    faiss_reason,
    make_index,
    reads_other_files,
    reserve_rows,
    training_rows,
)

_CORESET_DIMENSIONS = 64
_CHUNK = 2**16  # rows that are brought back to float32 at a time


def patch_descriptors(features: torch.Tensor, patch_size: int, stride: int, size: int) -> torch.Tensor:
    """Describes each patch of a feature map by its averaged features (step 3 of the released code).

    Args:
        features: float32 (B, C, H, W).
        patch_size: Width of a patch, in feature pixels, odd.
        stride: Distance between patches.
        size: Numbers per descriptor, to which the C * patch_size ** 2 of a patch are averaged.

    Returns:
        float32 (B, P, size), the patches row by row.
    """
    patches = F.unfold(features, patch_size, stride=stride, padding=(patch_size - 1) // 2)
    return F.adaptive_avg_pool1d(patches.transpose(1, 2), size)


@dataclass(frozen=True)
class HeldOut:
    """Normal images that were held against the bank before they became part of it.

    Attributes:
        exact: float32 (H, P), the patch scores of H images by exhaustive search at float32.
        indexed: float32 (H, P), the same by the bank's index.
        recall: Share of the nearest rows that the index finds, 0 to 1.
    """

    exact: np.ndarray
    indexed: np.ndarray
    recall: float


def _unheard(stage: str, done: int, total: int) -> None:
    """Stands in for a progress bar; unlike a lambda, it goes to another process with a bank."""


class MemoryBank:
    """The descriptors of every training image, indexed for the search of nearest ones (steps 4 and 5).

    Rows go into the index as they come. Only the first images wait at float32: those that FAISS trains on, and those
    that are held out to measure the index with. So images should come in random order.

    Args:
        images: How many images will be added.
        index: A name of `index.FACTORIES`, `auto`, or a FAISS factory string.
        held_out: How many images are held against all others before they are added too.
        neighbours: Nearest neighbours whose squared distances are averaged; the released code uses one.
        probes: Lists of an inverted file that a search visits.
        coreset: Share of the rows that `index=coreset` keeps.
        progress: Told about progress.

    Attributes:
        choice: The index that was taken, and why; known when the first image has been added.
        held_out: How the held-out images fared; known when the bank is finished.
        seconds: How long it took to fill the bank; a method that reads it from the cache saves this time.
    """

    choice: IndexChoice
    held_out: HeldOut | None = None
    seconds: float = 0.0

    def __init__(
        self,
        images: int,
        index: str = "exact",
        *,
        held_out: int = 0,
        neighbours: int = 1,
        probes: int = PROBES,
        coreset: float = 0.1,
        progress: Progress = _unheard,
    ) -> None:
        self._images = images
        self._name = index
        self._held_out = held_out
        self._neighbours = neighbours
        self._probes = probes
        self._coreset = coreset
        self._progress = progress
        self._seen = 0

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take in the index."""
        return len(self) * bytes_per_row(self._index)

    def add(self, descriptors: np.ndarray) -> None:
        """Adds the descriptors of the next image, float32 (P, D).

        Raises:
            UsageError: FAISS knows no such index, or the whole bank will not fit into memory.
        """
        if not self._seen:
            self._begin(*descriptors.shape)
        if self._seen < len(self._waiting):
            self._waiting[self._seen] = descriptors
        else:
            self._insert(descriptors)
        self._seen += 1
        if self._seen == len(self._waiting):
            self._train()

    def finish(self) -> None:
        """Says that every image has been added: measures the index, and adds the images that were held out."""
        if self.choice.name == "coreset":
            found = self._thin()
        else:
            found = self._search(self._queries)
            self._index.add(self._queries)
        if self._held_out:
            self._nearest.finalize()
            hits = (self._nearest.I[:, :, None] == found[1][:, None, :]).any(axis=2)
            by_image = (self._held_out, -1)
            exact, indexed = _mean(self._nearest.D, self._nearest.I), _mean(*found)
            self.held_out = HeldOut(exact.reshape(by_image), indexed.reshape(by_image), float(hits.mean()))
        del self._queries, self._nearest

    def distances(self, descriptors: np.ndarray) -> np.ndarray:
        """Mean squared L2 distance of each descriptor to its nearest neighbours in the bank.

        Args:
            descriptors: float32 (P, D).

        Returns:
            float32 (P,), 0 or more.
        """
        return _mean(*self._search(descriptors))

    def save(self, folder: Path) -> None:
        """Writes a finished bank to a folder, which it makes, without pickle.

        Raises:
            OSError: It cannot be written.
        """
        folder.mkdir()
        try:
            faiss.write_index(self._index, str(folder / "bank.faiss"))
        except RuntimeError as error:  # how FAISS passes on what the disk has said
            raise OSError(str(error)) from error
        held_out = asdict(self.held_out) if self.held_out else {}
        np.savez(
            folder / "bank.npz",
            sha256=checksum(folder / "bank.faiss"),
            neighbours=self._neighbours,
            seconds=self.seconds,
            **asdict(self.choice),
            **held_out,
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads a bank back that `save` wrote.

        Raises:
            OSError: It is not there or is damaged.
        """
        arrays_file, index_file = below(folder, "bank.npz"), below(folder, "bank.faiss")
        if not (arrays_file.is_file() and index_file.is_file()):  # a pipe would be waited at
            raise OSError(f"The memory bank in {folder} is damaged: a file of it is missing.")
        try:
            with np.load(arrays_file, allow_pickle=False) as arrays:
                saved = dict(arrays)
            # FAISS takes a changed number for a right one, and fails when it searches.
            if checksum(index_file) != str(saved["sha256"]):
                raise OSError(f"The memory bank in {folder} is damaged: its checksum is another one.")
            index = faiss.read_index(str(index_file))
            if reads_other_files(index):
                raise OSError(f"The memory bank in {folder} is refused: its rows are in another file.")
            bank = cls(0, neighbours=int(saved["neighbours"]))
            bank.seconds = float(saved["seconds"])
            bank.choice = IndexChoice(*(str(saved[name]) for name in ("name", "factory", "reason")))
            if "recall" in saved:
                bank.held_out = HeldOut(saved["exact"], saved["indexed"], float(saved["recall"]))
        except (RuntimeError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise OSError(f"The memory bank in {folder} is damaged: {error}") from error
        bank._index = index
        return bank

    def _begin(self, patches: int, size: int) -> None:
        """Chooses the index, and refuses one that will not fit: now, not when the bank is half full."""
        rows = self._images * patches
        self.choice = choose_index(self._name, rows, size)
        self._index = make_index(self.choice, size, self._probes)
        to_train = min(self._images, -(-training_rows(self._index) // patches))
        self._waiting = np.empty((max(to_train, self._held_out, 1), patches, size), np.float32)
        needed = rows * bytes_per_row(self._index) + self._waiting.nbytes
        free = psutil.virtual_memory().available
        if needed > free:
            raise UsageError(
                f"The memory bank of {self._images:,} images ({rows:,} rows, index {self.choice.name}) needs "
                f"{needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free. Use mias_sam.index=pca_ivf "
                "(1.1 KB a row) or pq (0.1 KB a row), fewer images (--limit), a larger mias_sam.stride, or a smaller "
                "mias_sam.descriptor_size."
            )
        reserve_rows(self._index, rows)

    def _train(self) -> None:
        """Trains the index on the images that have waited, and lets in those that are not held out."""
        waiting = self._waiting
        if not self._index.is_trained:
            self._progress("training the index", 0, 0)
            try:
                self._index.train(waiting.reshape(-1, waiting.shape[2]))
            except RuntimeError as error:
                raise UsageError(
                    f"mias_sam.index={self.choice.name}: FAISS cannot train {self.choice.factory} on "
                    f"{waiting.shape[0]} images ({faiss_reason(error)}). Use a simpler index, or exact."
                ) from error
        self._queries = waiting[: self._held_out].reshape(-1, waiting.shape[2]).copy()
        self._nearest = faiss.ResultHeap(len(self._queries), self._neighbours)
        for descriptors in waiting[self._held_out :]:
            self._insert(descriptors)
        self._waiting = waiting[:0].copy()

    def _insert(self, descriptors: np.ndarray) -> None:
        """Puts rows into the index, and compares the held-out rows with them exactly."""
        if len(self._queries):
            distances, numbers = faiss.knn(self._queries, descriptors, min(self._neighbours, len(descriptors)))
            self._nearest.add_result(distances, numbers + self._index.ntotal)
        self._index.add(descriptors)

    def _search(self, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances, float32 (N, K), and numbers, int64 (N, K), of the nearest rows."""
        neighbours = min(self._neighbours, len(self))
        if not isinstance(self._index, faiss.IndexScalarQuantizer):
            distances, numbers = self._index.search(descriptors, neighbours)
            nothing = numbers[:, 0] < 0  # rows that are alike, as of a black border, leave lists empty
            if nothing.any():
                with every_list(self._index):
                    distances[nothing], numbers[nothing] = self._index.search(descriptors[nothing], neighbours)
            return distances, numbers
        # FAISS compares codes with one query at a time; decoded, many rows at once, this is a matrix product.
        nearest = faiss.ResultHeap(len(descriptors), neighbours)
        for start in range(0, len(self), _CHUNK):
            rows = self._index.reconstruct_n(start, min(_CHUNK, len(self) - start))
            distances, numbers = faiss.knn(descriptors, rows, min(neighbours, len(rows)))
            nearest.add_result(distances, numbers + start)
        nearest.finalize()
        return nearest.D, nearest.I

    def _thin(self) -> tuple[np.ndarray, np.ndarray]:
        """Replaces the index by one of a coreset of all rows (greedy k-centre; Roth et al., CVPR 2022).

        Rows are compared in their first 64 principal components.

        Returns:
            Squared distances, float32 (N, K), and numbers, int64 (N, K), of the chosen rows that are nearest to the
            held-out ones and not of their images.
        """
        from ..coreset import Coreset

        others = self._index.ntotal
        self._index.add(self._queries)
        rows = self._index.ntotal
        size = self._index.d
        projection = faiss.PCAMatrix(size, min(_CORESET_DIMENSIONS, size))
        projection.train(self._index.reconstruct_batch(np.arange(0, rows, max(1, rows // _CHUNK))))
        projected = np.empty((rows, projection.d_out), np.float32)
        for start in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - start)
            projected[start : start + count] = projection.apply(self._index.reconstruct_n(start, count))
        # With an axis in between, anomalib's selection leaves the dimensions as they are.
        selection = Coreset(torch.from_numpy(projected[:, None]), self._coreset, self._progress)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # anomalib draws the first row with torch's global generator
            chosen = np.sort(selection.select_coreset_idxs())
        kept = self._index.reconstruct_batch(chosen)
        self._index = faiss.IndexFlatL2(size)
        self._index.add(kept)
        eligible = chosen[chosen < others]
        found, places = faiss.knn(self._queries, kept[: len(eligible)], min(self._neighbours, len(eligible)))
        return found, eligible[places]


def _mean(distances: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The mean distance of each row's neighbours; where an index finds fewer, their number is -1."""
    found = numbers >= 0
    return np.where(found, distances, 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1, dtype=np.float32)


def anomaly_map(distances: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Patch scores as a map (step 6): bilinear to `size` pixels, then a Gaussian filter.

    Args:
        distances: float32 (P,) of a square grid of patches.
        size: Width and height of the map.
        sigma: The standard deviation of the filter, in pixels.

    Returns:
        float32 (size, size).
    """
    side = round(len(distances) ** 0.5)
    grid = torch.from_numpy(distances.reshape(1, 1, side, side))
    upsampled = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)
    return gaussian_filter(upsampled[0, 0].numpy(), sigma)
