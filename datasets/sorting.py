"""Images whose masks lie beside them and that no folder or table sorts: a table is written, for its user to edit."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..harness.api import DataError, Split
from ..harness.safe_files import write_whole
from .image_files import IMAGE_ENDINGS
from .listing import BETWEEN, SPLIT_OF
from .masks import read_mask
from .pairing import masks_beside
from .patients import likely_patient
from .splitting import SplitRule
from .volume_files import files_below

TABLE = "images.csv"
"""The table that is written."""

_COLUMNS = ("image", "mask", "label", "patient", "split")


class _Image(NamedTuple):
    path: Path
    masks: tuple[Path, ...]
    label: int
    patient: str


def write_listing(folder: Path) -> tuple[str, ...]:
    """Lists the images of a folder in a table in it, if masks lie beside some of them.

    Images with a lesion in their mask are anomalous. Splits are those of folders called train, valid and test;
    otherwise patients are dealt out to them, and those with a lesion are not trained on.

    Args:
        folder: The folder; the table must not be there.

    Returns:
        Sentences on what was believed; none where no masks are recognised, and nothing is written.

    Raises:
        DataError: A mask cannot be read, there is no normal image, or too few patients for a training and a test split.
    """
    images = _images(folder)
    if not any(image.masks for image in images):
        return ()
    normal = [image for image in images if not image.label]
    anomalous = [image for image in images if image.label]
    found = f"{len(normal):,} images are normal and {len(anomalous):,} anomalous"
    if not (normal and anomalous):
        raise DataError(
            f"{folder} has images with their masks beside them, of which {found}, as masks tell. Methods learn from "
            "normal images and are tested on both: add what is missing."
        )
    splits = _of_folders(folder, images)
    told = splits is not None
    splits = splits or _dealt(images)
    listed = [image for image in images if not (image.label and splits[image.path] == "train")]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for image in listed:
        path, *masks = (each.relative_to(folder).as_posix() for each in (image.path, *image.masks))
        rows.writerow((path, BETWEEN.join(masks), image.label, image.patient, splits[image.path]))
    write_whole(folder / TABLE, table.getvalue())
    return tuple(_beliefs(folder, found, told, len(images) - len(listed)))


def _beliefs(folder: Path, found: str, told: bool, left_out: int) -> Iterator[str]:
    yield f"{folder} has images with their masks beside them. They are listed in {folder / TABLE}, to be edited."
    yield f"A guess: an image is anomalous where its mask shows a lesion. {found[0].upper()}{found[1:]}."
    if not told:
        yield "A guess: splits are drawn by patient, in shares of 60, 10 and 30 %. Edit the table if they are known."
    if left_out:
        images = "1 anomalous image is" if left_out == 1 else f"{left_out:,} anomalous images are"
        yield f"{images} of the training split, and not listed: methods learn from normal images only."


def _images(folder: Path) -> list[_Image]:
    """The images below a folder, with the masks beside them, sorted by path."""
    of_folder: dict[Path, dict[str, Path]] = {}
    for path in files_below(folder):
        if path.suffix.lower() in IMAGE_ENDINGS:
            of_folder.setdefault(path.parent, {})[path.stem] = path
    found: list[_Image] = []
    for files in of_folder.values():
        of_image = masks_beside(files.keys())
        masks = {name for names in of_image.values() for name in names}
        for name, path in files.items():
            if name not in masks:
                its = tuple(files[mask] for mask in of_image.get(name, ()))
                patient = f"{path.parent.relative_to(folder)}/{name}" if name.isdecimal() else likely_patient(name)
                found.append(_Image(path, its, int(any(read_mask(mask).any() for mask in its)), patient))
    return found


def _of_folders(folder: Path, images: Sequence[_Image]) -> dict[Path, Split] | None:
    """The splits by the folders of images; `None` where these do not tell all of them, for training and test."""
    parts = {image.path: image.path.relative_to(folder).parts[0].lower() for image in images}
    splits: dict[Path, Split] = {path: SPLIT_OF[part] for path, part in parts.items() if part in SPLIT_OF}
    return splits if len(splits) == len(images) and {"train", "test"} <= set(splits.values()) else None


def _dealt(images: Sequence[_Image]) -> dict[Path, Split]:
    """The split of each image, by patients.

    Those without a lesion are dealt out by themselves where they have half of all normal images or more: then the
    others, who would be trained on without their lesions, are for the test instead.
    """
    ill = {image.patient for image in images if image.label}
    normal = [image.patient for image in images if not image.label]
    healthy = set(normal) - ill
    rule = SplitRule()
    if 2 * sum(patient in healthy for patient in normal) < len(normal):
        dealt = rule.deal(healthy | ill)
    else:
        tested = rule.deal(ill) if len(ill) > 1 else {}
        dealt = rule.deal(healthy)
        dealt |= {patient: "valid" if tested.get(patient) == "valid" else "test" for patient in ill}
    return {image.path: dealt[image.patient] for image in images}
