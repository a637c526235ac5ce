"""BMAD's three benchmarks with pixel masks (Bao et al., CVPR-W 2024), from a folder that the user has."""

import importlib.resources
from pathlib import Path

import yaml

from ..harness.api import DataError
from .folder import CardFile, FolderDataset, child

_HOW = (
    "Get BMAD from the Google Drive folder that its README names, or bmad.zip of the Hugging Face dataset code-dev05/BMAD, "
    "unpack it, and say where it is with --data-root or MIASBENCH_DATA."
)


def brain_mri(data_root: Path) -> FolderDataset:
    """BraTS2021 FLAIR slices."""
    return _open("brain_mri", data_root)


def liver_ct(data_root: Path) -> FolderDataset:
    """BTCV and LiTS liver CT slices."""
    return _open("liver_ct", data_root)


def retina_oct(data_root: Path) -> FolderDataset:
    """RESC OCT scans; fluid and detachment are one lesion class."""
    return _open("retina_oct", data_root)


def _open(name: str, data_root: Path) -> FolderDataset:
    text = (importlib.resources.files(__package__) / "cards" / f"{name}.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    folders: list[str] = content.pop("folders")
    card = CardFile.model_validate(content)
    if data_root.name.lower() in (folder.lower() for folder in folders) and data_root.is_dir():
        return FolderDataset(card.card(), data_root)
    places = (data_root, data_root / "BMAD")
    for place in places:
        found = child(place, folders)
        if found is not None:
            return FolderDataset(card.card(), found)
    looked = " and ".join(str(place) for place in places)
    raise DataError(
        f"The dataset {name} is not there: none of {', '.join(folders)} is a folder in {looked}. {_HOW} "
        f"Meanwhile --dataset phantom_{name} runs on generated images."
    )
