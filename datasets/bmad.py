"""BMAD's three benchmarks with pixel masks (Bao et al., CVPR-W 2024), from a folder that the user has."""

from pathlib import Path

from ..harness.api import DataError
from .card import CardFile
from .folder import FolderDataset, subfolder

_HOW = (
    "Get BMAD from the Google Drive folder that its README links to (https://github.com/DorisBao/BMAD), or bmad.zip of "
    "the Hugging Face dataset code-dev05/BMAD (SHA-256 "
    "df655def31f3f638a91c567550de54d6e45a74b2368f666c13a6a3052c063165), unpack it, and say where it is with "
    "--data-root or MIASBENCH_DATA."
)


class BmadCard(CardFile):
    """A packaged card; `folders` are the names that the dataset's folder has in the wild."""

    folders: tuple[str, ...]


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
    card = BmadCard.read(Path(__file__).with_name("cards") / f"{name}.yaml")
    root = data_root.resolve()
    if root.is_dir() and root.name.lower() in (folder.lower() for folder in card.folders):
        return FolderDataset(card, root)
    places = [root, subfolder(root, ["BMAD"]) or root / "BMAD"]
    for place in places:
        found = subfolder(place, card.folders)
        if found is not None:
            return FolderDataset(card, found)
    raise DataError(
        f"The dataset {name} was not found: neither {places[0]} nor {places[1]} has a folder named "
        f"{', '.join(card.folders[:-1])} or {card.folders[-1]}. {_HOW} Meanwhile --dataset phantom_{name} runs on "
        "generated images."
    )
