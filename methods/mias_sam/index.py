"""How a memory bank is indexed: names for FAISS indexes, and which one suits a bank of a given size."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np

from ...harness.api import UsageError

# {lists} and {dims} follow from the size of the bank. `pca_ivf` looks for candidates among the first principal
# components, in 4-bit codes, and computes their distances again from all 1,024 numbers, in 8-bit codes. `coreset` keeps
# every row in half precision until it selects. `np` spares minutes of polysemous training, which no search here uses.
FACTORIES = {
    "exact": "Flat",
    "half": "SQfp16",
    "8bit": "SQ8",
    "ivf": "IVF{lists},Flat",
    "ivf_8bit": "IVF{lists},SQ8",
    "pca_ivf": "PCA{dims},IVF{lists},PQ{dims}x4fs,Refine(SQ8)",
    "pq": "PCA{dims},IVF{lists},PQ{dims}np",
    "coreset": "SQfp16",
}

EXHAUSTIVE_ROWS = 2**15
"""Up to here an exhaustive search takes less time than encoding the image."""

PROBES = 48
"""Lists that a search visits: on 122 real slices 12 change the map by 1.3 % and DICE by 0.006; 48 by 0.5 % and
0.001. A search still takes a small part of what encoding the image does."""

_RERANKED = 16  # candidates whose distance is computed again, for each neighbour that is asked for
_MOST_DIMS = 64
_MOST_LISTS = 4096  # more would need more than 1 GiB of rows to train on
_ROWS_PER_CENTROID = 39  # FAISS warns below
_TRAINING_ROWS = 2**14


@dataclass(frozen=True)
class IndexChoice:
    """An index for a bank of known size.

    Attributes:
        name: One of `FACTORIES`, or a FAISS factory string.
        factory: The FAISS factory string.
        reason: Why it was taken.
    """

    name: str
    factory: str
    reason: str

    @property
    def exact(self) -> bool:
        """Whether its distances are those of an exhaustive search at float32."""
        return self.factory == "Flat" and self.name != "coreset"


def choose_index(name: str, rows: int, size: int) -> IndexChoice:
    """Turns `auto`, a name of `FACTORIES` or a FAISS factory string into the index for a bank.

    Args:
        name: The index's name, as the user gives it.
        rows: The number of rows of the whole bank.
        size: Numbers per row.
    """
    reason = "asked for"
    if name == "auto":
        name = "exact" if rows <= EXHAUSTIVE_ROWS else "pca_ivf"
        reason = f"{rows:,} rows are {'no more' if name == 'exact' else 'more'} than {EXHAUSTIVE_ROWS:,}"
    factory = FACTORIES[name].format(lists=_lists(rows), dims=min(_MOST_DIMS, size)) if name in FACTORIES else name
    return IndexChoice(name, factory, reason)


def check_index(name: str, size: int) -> None:
    """Refuses what can be no index of rows of `size` numbers, before there is a row.

    Raises:
        UsageError: FAISS knows no such index, or cannot make it for rows of this size.
    """
    make_index(choose_index(name, EXHAUSTIVE_ROWS + 1, size), size, PROBES)


def _lists(rows: int) -> int:
    """How many lists an inverted file should have: about twice the root of its rows, a power of two."""
    return 2 ** int(np.log2(max(1, min(2 * rows**0.5, rows / _ROWS_PER_CENTROID, _MOST_LISTS))))


def make_index(choice: IndexChoice, size: int, probes: int) -> faiss.Index:
    """Makes an empty index for rows of `size` numbers, compared by squared L2 distance.

    Args:
        choice: Which.
        size: Numbers per row.
        probes: Lists that a search visits, where the index has lists.

    Raises:
        UsageError: FAISS knows no such index, or cannot make it for rows of this size.
    """
    try:
        index = faiss.index_factory(size, choice.factory)
    except RuntimeError as error:
        raise UsageError(
            f"mias_sam.index={choice.name}: FAISS cannot make this index for rows of {size} numbers "
            f"({faiss_reason(error)}). Known names: auto, {', '.join(FACTORIES)}; or a FAISS factory string."
        ) from error
    for part in index_parts(index):
        if isinstance(part, faiss.IndexIVF):
            part.nprobe = min(probes, part.nlist)
        if isinstance(part, faiss.IndexRefine):
            part.k_factor = _RERANKED
    return index


def training_rows(index: faiss.Index) -> int:
    """How many rows an index should be trained on; 0 where it learns nothing from them."""
    if index.is_trained:
        return 0
    lists = [part.nlist for part in index_parts(index) if isinstance(part, faiss.IndexIVF)]
    return max([_TRAINING_ROWS, *(_ROWS_PER_CENTROID * count for count in lists)])


def bytes_per_row(index: faiss.Index) -> int:
    """How much memory each row takes in an index."""
    size = 0
    for part in index_parts(index):
        if isinstance(part, faiss.IndexIVF):
            size += part.code_size + 8  # the row's number
        elif isinstance(part, faiss.IndexFlatCodes):
            size += part.code_size
    return size or 4 * index.d


def reserve_rows(index: faiss.Index, rows: int) -> None:
    """Takes the memory for all rows at once; growing row by row would at times need it twice."""
    for part in index_parts(index):
        if isinstance(part, faiss.IndexFlatCodes):
            part.codes.resize(rows * part.code_size)
            part.codes.resize(0)  # keeps its capacity


@contextmanager
def every_list(index: faiss.Index) -> Iterator[None]:
    """Lets searches visit every list of an inverted file meanwhile."""
    inverted = [part for part in index_parts(index) if isinstance(part, faiss.IndexIVF)]
    probes = [part.nprobe for part in inverted]
    for part in inverted:
        part.nprobe = part.nlist
    try:
        yield
    finally:
        for part, count in zip(inverted, probes, strict=True):
            part.nprobe = count


def index_parts(index: faiss.Index) -> Iterator[faiss.Index]:
    """The index and those inside it."""
    index = faiss.downcast_index(index)
    yield index
    if isinstance(index, faiss.IndexRefine):
        yield from index_parts(index.base_index)
        yield from index_parts(index.refine_index)
    elif isinstance(index, faiss.IndexPreTransform):
        yield from index_parts(index.index)


def reads_other_files(index: faiss.Index) -> bool:
    """Whether an index that was read names another file for its rows, as none that is made here does."""
    return any(
        isinstance(faiss.downcast_InvertedLists(part.invlists), faiss.OnDiskInvertedLists)
        for part in index_parts(index)
        if isinstance(part, faiss.IndexIVF) and part.invlists is not None
    )


def faiss_reason(error: RuntimeError) -> str:
    """The last part of FAISS's message; before it stand functions and source files."""
    return str(error).rsplit(": ", 1)[-1].strip()
