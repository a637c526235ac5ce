"""Predictions of a cell as files that other programs read."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...results.files import slug
from ...results.record import Cell, CellRecord
from ...results.store import CellStore
from ..api import Dataset, Progress
from ..safe_files import below, write_whole
from .folder import PREDICTED
from .manifest import Manifest, Seen

_SAFE = re.compile(r"[A-Za-z0-9_+=][A-Za-z0-9_.+=-]{0,150}")
_LESION, _TRUTH = (230, 159, 0), (0, 158, 115)  # told apart by the colour-blind
_OPACITY = 0.4


def file_names(ids: Sequence[str]) -> dict[str, str]:
    """A file name without ending for each case: its id where every file system takes it, else one made of it."""
    folded = [one.casefold() for one in ids]
    return {one: one if _SAFE.fullmatch(one) and folded.count(one.casefold()) == 1 else slug(one) for one in ids}


def given_parts(cell: Cell) -> set[str]:
    """What a cell really has of `maps` and `scores`: what predictions from elsewhere lack is stored as if it was 0."""
    return set(cell.options["given"]) if cell.external else {"maps", "scores"}


def write_predictions(
    folder: Path, cell: Cell, end: CellRecord, store: CellStore, dataset: Dataset, progress: Progress
) -> list[Path]:
    """Writes what `bench import` reads: maps, the method's own masks, image scores, and the manifest.

    Everything is in the run's frame, so that an import has the very same scores.

    Args:
        folder: Where to.
        cell: Whose predictions.
        end: How the cell ended.
        store: Where they are kept.
        dataset: The dataset that was predicted.
        progress: Told about progress.

    Returns:
        The files, the manifest first.

    Raises:
        ResultsError: A prediction is damaged.
        OSError: A file cannot be written.
    """
    given = given_parts(cell)
    files, scores, table = [], [("split", "case", "score")], [("split", "case", "map", "mask")]
    for split in PREDICTED:
        there = store.intact(split, [case.id for case in dataset.cases(split)])
        names = file_names([case.id for case in dataset.cases(split) if case.id in there])
        for done, (case, name) in enumerate(names.items(), start=1):
            prediction = store.read_prediction(split, case).prediction
            in_maps = f"maps/{split}/{name}.npy" if "maps" in given else ""
            in_masks = "" if prediction.mask is None else f"masks/{split}/{name}.png"
            if in_maps:
                files.append(_write_array(below(folder, *in_maps.split("/")), prediction.anomaly_map))
            if prediction.mask is not None:
                files.append(write_mask(below(folder, *in_masks.split("/")), prediction.mask))
            table.append((split, case, in_maps, in_masks))
            scores.append((split, case, repr(float(prediction.image_score))))
            progress(f"exporting {split}", done, len(names))
    if "scores" in given:
        files.append(_write_csv(folder / "scores.csv", scores))
    files.append(_write_csv(folder / "files.csv", table))
    manifest = Manifest.model_validate(_facts(cell, end))
    manifest.write(folder)
    return [folder / "predictions.yaml", *files]


def _facts(cell: Cell, end: CellRecord) -> dict[str, Any]:
    """What the manifest says of a cell's predictions."""
    if cell.external:
        known = {name: cell.options[name] for name in ("version", "url", "licence", "seen") if name in cell.options}
    else:
        seen: tuple[Seen, ...] = ("normal", "test") if cell.transductive else ("normal",)
        known = {
            "seen": seen,
            "version": f"miasbench {end.environment.get('packages', {}).get('miasbench', 'unknown')}",
        }
    costs = {"predict_ms": end.predict_ms, "peak_memory_mib": end.peak_memory_mib}
    told = {name: value for name, value in costs.items() if value is not None and np.isfinite(value)}
    return {
        **known,
        **told,
        "method": cell.method,
        "seed": cell.seed,
        "higher_is": "anomalous",
        "geometry": "frame",
        "size": cell.size,
        "dataset": cell.dataset,
        "dataset_fingerprint": cell.fingerprint,
    }


def write_mask(path: Path, mask: np.ndarray) -> Path:
    """Writes a mask, bool (H, W), as a grey PNG: 255 is anomalous."""
    return _write_image(path, Image.fromarray(mask.astype(np.uint8) * 255))


def write_map(path: Path, anomaly_map: np.ndarray) -> Path:
    """Writes a map, float32 (H, W), as a TIFF of floating point, whose values stay as they are."""
    return _write_image(path, Image.fromarray(anomaly_map.astype(np.float32)))


def write_overlay(path: Path, image: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> Path:
    """Writes an image with the mask laid over it and the outline of the lesion, as a PNG for slides.

    Args:
        path: Where to.
        image: uint8, grey (H, W) or RGB (H, W, 3).
        mask: bool (H, W), drawn in orange.
        truth: bool (H, W), its outline drawn in green.
    """
    colours = (image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)).astype(float)
    colours[mask] = (1 - _OPACITY) * colours[mask] + _OPACITY * np.array(_LESION)
    inside = np.pad(truth, 1)
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    colours[truth & ~inner] = _TRUTH
    return _write_image(path, Image.fromarray(colours.round().astype(np.uint8)))


def run_lengths(mask: np.ndarray) -> list[int]:
    """The run lengths of a mask as COCO has them: column by column, and the first run is of background.

    Args:
        mask: bool (H, W).
    """
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    return np.diff(edges, prepend=0, append=flat.size).tolist()


def coco(images: Sequence[tuple[str, np.ndarray, float]]) -> dict[str, Any]:
    """Masks in COCO's format, with uncompressed run lengths; of an empty mask there is an image and no annotation.

    COCO has scores of annotations only. As an empty mask has none, each image has its score too.

    Args:
        images: Name of the image, mask of bool (H, W), and image score, for each. A score that is NaN, because there is
            none, is left out: JSON has no NaN.
    """
    scores = [{} if np.isnan(score) else {"score": score} for _, _, score in images]
    annotations = []
    for number, (_, mask, _) in enumerate(images, start=1):
        if mask.any():
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
                    "area": int(mask.sum()),
                    "bbox": [
                        int(columns[0]),
                        int(rows[0]),
                        int(columns[-1] - columns[0] + 1),
                        int(rows[-1] - rows[0] + 1),
                    ],
                    "iscrowd": 1,
                    **scores[number - 1],
                }
            )
    return {
        "images": [
            {"id": number, "file_name": name, "height": mask.shape[0], "width": mask.shape[1], **scores[number - 1]}
            for number, (name, mask, _) in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "anomaly"}],
    }


def _write_array(path: Path, array: np.ndarray) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return _write(path, buffer.getvalue())


def _write_image(path: Path, image: Image.Image) -> Path:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if path.suffix == ".tif" else "PNG")
    return _write(path, buffer.getvalue())


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return _write(path, text.getvalue().encode(errors="surrogatepass"))


def _write(path: Path, content: bytes) -> Path:
    write_whole(path, content)
    return path
