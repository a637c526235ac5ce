"""A stored prediction: a `.npz` with a seal.

The seal is the SHA-256 of all that stands before it, as the comment of the ZIP archive that every `.npz` is: other
readers pass over it.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..harness.api import Prediction
from .files import slug

_SEAL = 64  # hexadecimal digits of a SHA-256
_LARGEST = 2**28  # bytes of all its arrays: a map of 4,096 x 4,096 pixels has a quarter
_LOSS = 1e-3  # of a map's range: the largest error for which a map is kept in float16


@dataclass(frozen=True)
class StoredPrediction:
    """A prediction with the time it took, in seconds (NaN where it cannot be told per image)."""

    prediction: Prediction
    seconds: float


def encode(case_id: str, stored: StoredPrediction, dtype: str) -> bytes:
    """The content of a prediction's file, sealed.

    Args:
        case_id: The case's id.
        stored: The prediction.
        dtype: `float32` or `float16`; a map that float16 cannot hold, because a value overflows or because the error
            is more than a thousandth of the map's range, is kept in float32.
    """
    prediction = stored.prediction
    anomaly_map = prediction.anomaly_map.astype(np.float32, copy=False)
    if dtype == "float16":
        anomaly_map = _halved(anomaly_map)
    arrays: dict[str, Any] = {
        "case": np.str_(slug(case_id)),
        "anomaly_map": anomaly_map,
        "image_score": np.float64(prediction.image_score),
        "seconds": np.float64(stored.seconds),
        "note": np.str_(prediction.note),
    }
    if prediction.mask is not None:
        arrays["mask"] = np.packbits(prediction.mask, axis=1)
    if prediction.prompts:  # a point takes two numbers, a box four
        arrays["prompts"] = np.array([[*one, *(4 - len(one)) * [np.nan]] for one in prediction.prompts])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # deflating saves a seventh of such maps, and takes a third of the time of scoring
    return _sealed(buffer.getvalue())


def decode(case_id: str, content: bytes) -> StoredPrediction:
    """Reads a prediction from the content of its file.

    Raises:
        Exception: The content is damaged, or that of another case. Damaged bytes make zipfile, zlib and numpy raise
            half a dozen kinds.
    """
    if is_sealed(content) is False:
        raise ValueError("its checksum is wrong")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        if sum(one.file_size for one in arrays.zip.infolist()) > _LARGEST:
            raise ValueError(f"its arrays would take more than {_LARGEST / 2**20:,.0f} MiB")
        if "case" in arrays and str(arrays["case"]) != slug(case_id):
            raise ValueError(f"it is that of the case {arrays['case']}")
        anomaly_map = arrays["anomaly_map"].astype(np.float32)
        width = anomaly_map.shape[1]
        mask = np.unpackbits(arrays["mask"], axis=1, count=width).astype(bool) if "mask" in arrays else None
        rows = arrays["prompts"].tolist() if "prompts" in arrays else []
        prompts = tuple(tuple(number for number in row if not np.isnan(number)) for row in rows)
        prediction = Prediction(anomaly_map, float(arrays["image_score"]), mask, str(arrays["note"]), prompts)
        return StoredPrediction(prediction, float(arrays["seconds"]))


def is_sealed(content: bytes) -> bool | None:
    """Whether the seal of a prediction's file is unbroken; `None` where there is none, as older versions set none."""
    if content[-22:-18] == b"PK\5\6":  # the end of an archive without a comment
        return None
    return hashlib.sha256(content[:-_SEAL]).hexdigest().encode() == content[-_SEAL:]


def mask_by(stored: StoredPrediction, row: Mapping[Any, Any]) -> tuple[np.ndarray, tuple[tuple[float, ...], ...]]:
    """A case's mask by the threshold policy of its row, and the prompts that it was asked for with.

    Args:
        stored: The prediction of the case.
        row: A row of the table `cases`.

    Returns:
        bool (S, S), padding included; and points (x, y) and boxes (x0, y0, x1, y1), of the method's own mask only.
    """
    prediction = stored.prediction
    if row["policy"] == "own" and prediction.mask is not None:
        return prediction.mask, prediction.prompts
    return prediction.anomaly_map >= row["threshold"], ()


def _sealed(archive: bytes) -> bytes:
    """Adds the SHA-256 of a ZIP archive to it, as its comment, whose length is the archive's last two bytes."""
    content = archive[:-2] + _SEAL.to_bytes(2, "little")
    return content + hashlib.sha256(content).hexdigest().encode()


def _halved(anomaly_map: np.ndarray) -> np.ndarray:
    """The map in float16, or as it is where float16 cannot hold it."""
    with np.errstate(over="ignore"):
        half = anomaly_map.astype(np.float16)
    error = np.abs(half.astype(np.float64) - anomaly_map).max(initial=0)
    return half if error <= _LOSS * (np.float64(anomaly_map.max()) - anomaly_map.min()) else anomaly_map
