"""The layouts of folders that are recognised: BMAD's, as they are met, and MVTec's."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..harness.api import SPLITS, DataError, Split
from .hints import dataset_near, entries, holding, holds_splits, subfolder, wrapped
from .image_files import IMAGE_ENDINGS
from .pairing import image_of_mask
from .places import SplitFolders, Splits
from .tables import explain_tables
from .volume_files import explain_volumes

# The first name is BMAD's own, the others are met elsewhere; upper and lower case are the same.
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
NORMAL = ("good", "normal")
ANOMALOUS = ("Ungood", "bad", "anomalous", "abnormal")
IMAGES = ("img", "image", "images")
MASKS = ("anomaly_mask", "label", "labels", "mask", "masks")
_MVTEC_MASKS = ("ground_truth",)
_MVTEC_SUFFIX = "_mask"
_LAYOUTS = (
    "train, valid and test, each with good/img, Ungood/img and Ungood/anomaly_mask or Ungood/label; "
    "or train/good and, for valid and test alike, test/test/good, test/test/Ungood and test/test_labels/Ungood, "
    "or test/img/good, test/img/Ungood and test/label/Ungood; "
    "or MVTec's train/good, test/good, test/KIND and ground_truth/KIND"
)


class NoLayoutError(DataError):
    """A folder has no splits."""


class Layout(NamedTuple):
    """Where the files of a dataset are.

    Attributes:
        root: The folder that holds the splits.
        splits: The folders of each split in it.
        name: Whose layout it is.
        mask_suffix: What a mask's name has behind that of its image.
    """

    root: Path
    splits: Splits
    name: str
    mask_suffix: str = ""


def recognise(root: Path, splits: Sequence[Split] = SPLITS) -> Layout:
    """Finds the folder that holds the splits: the root, or one that archives wrap around it and nothing else.

    Args:
        root: The folder.
        splits: The splits that are looked for; the validation split may be missing.

    Raises:
        NoLayoutError: There are no splits.
        DataError: It is a part of a dataset, or holds several.
    """
    chain = wrapped(root)
    # BMAD's own archive has chains such as Liver/Train/hist_DIY: the folder with the most splits is taken.
    counts = [sum(subfolder(folder, names) is not None for names in SPLIT_NAMES.values()) for folder in chain]
    folder = chain[counts.index(max(counts))]
    needed = [SPLIT_NAMES[split] for split in splits if split != "valid"]
    if not holds_splits(folder, needed) and (near := dataset_near(root, needed)):
        raise DataError(near)
    if max(counts) == 0:
        more = " ".join(filter(None, (explain_tables(root), explain_volumes(root))))
        raise NoLayoutError(
            f"No train, valid or test folder was found in {root}; it {holding(root)} "
            f"These layouts are understood: {_LAYOUTS}. For another one, write a card (.yaml) that names the folders."
            f"{f' {more}' if more else ''}"
        )
    train, valid, test = (_split_folders(folder, names) for names in SPLIT_NAMES.values())
    found = Splits(train=SplitFolders(normal=train.normal), valid=valid, test=test)
    return _mvtec(folder, found) or Layout(folder, found, "BMAD")


def _split_folders(root: Path, names: Sequence[str]) -> SplitFolders:
    split = subfolder(root, names) or root / names[0]
    # Images and masks may be apart in test/test and test/test_labels, as in RESC, or in test/img and test/label.
    images = subfolder(split, (*names, *IMAGES)) or split
    masks = subfolder(split, (*(f"{name}_{end}" for name in names for end in ("labels", "label")), *MASKS))
    normal = subfolder(images, NORMAL) or images / NORMAL[0]
    anomalous = subfolder(images, ANOMALOUS) or images / ANOMALOUS[0]
    if masks is None:
        masks = subfolder(anomalous, MASKS) or anomalous / MASKS[0]
    else:
        masks = subfolder(masks, ANOMALOUS) or masks / ANOMALOUS[0]
    return SplitFolders(
        normal=(subfolder(normal, IMAGES) or normal).relative_to(root).as_posix(),
        anomalous=(subfolder(anomalous, IMAGES) or anomalous).relative_to(root).as_posix(),
        masks=masks.relative_to(root).as_posix(),
    )


def _mvtec(root: Path, splits: Splits) -> Layout | None:
    """MVTec's layout, where it is one: test/KIND for each kind of anomaly, and masks apart in ground_truth/KIND."""
    test, truths = subfolder(root, SPLIT_NAMES["test"]), subfolder(root, _MVTEC_MASKS)
    if test is None or truths is None or (root / str(splits.test.masks)).is_dir():
        return None
    kinds = [path for path in entries(test) if path.is_dir() and path.name.lower() not in NORMAL]
    if not kinds:
        return None
    masks = [subfolder(truths, [kind.name]) or truths / kind.name for kind in kinds]
    names = [path.stem for folder in masks if folder.is_dir() for path in entries(folder) if _is_image(path)]
    anomalous, truth = (tuple(path.relative_to(root).as_posix() for path in some) for some in (kinds, masks))
    of_test = SplitFolders(normal=splits.test.normal, anomalous=anomalous, masks=truth)
    # A validation split in this layout has normal images only: ground_truth is the test split's.
    found = Splits(train=splits.train, valid=SplitFolders(normal=splits.valid.normal), test=of_test)
    suffixed = bool(names) and all(image_of_mask(name, _MVTEC_SUFFIX) for name in names)
    return Layout(root, found, "MVTec", _MVTEC_SUFFIX if suffixed else "")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS
