"""BMAD's benchmarks (Bao et al., CVPR-W 2024): three with pixel masks, and three of which only images are labelled."""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..harness.api import DataError, Progress
from ..harness.download.fetching import fetch, file_checksum
from ..harness.download.unpacking import unpack
from .card import CardFile
from .folder import FolderDataset
from .hints import subfolder

ARCHIVE = "datasets/code-dev05/BMAD/resolve/main/bmad.zip"
SHA256 = "df655def31f3f638a91c567550de54d6e45a74b2368f666c13a6a3052c063165"
NAMES = ("brain_mri", "liver_ct", "retina_oct", "oct2017", "rsna", "camelyon16")
LICENCE = "CC BY-NC-SA 4.0"
LICENCE_TEXT = f"""BMAD (Bao et al., CVPR Workshops 2024) is under {LICENCE}: it may be used and shared, changed or not,
by naming its authors, for non-commercial purposes, and under the same licence. Its origins have terms of their own
beside it: BraTS2021 (brain_mri), BTCV and LiTS (liver_ct), RESC (retina_oct), OCT2017, RSNA and Camelyon16.
https://creativecommons.org/licenses/by-nc-sa/4.0/"""
_HOW = (
    "bench data get downloads it: bmad.zip of the Hugging Face dataset code-dev05/BMAD (SHA-256 "
    f"{SHA256}). Or get BMAD from the Google Drive folder that its README links to "
    "(https://github.com/DorisBao/BMAD), and register it with bench data add, or say where it is with --data-root or "
    "MIASBENCH_DATA."
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


def oct2017(data_root: Path) -> FolderDataset:
    """OCT2017 scans of the retina, labelled as a whole."""
    return _open("oct2017", data_root)


def rsna(data_root: Path) -> FolderDataset:
    """RSNA chest X-rays, labelled as a whole."""
    return _open("rsna", data_root)


def camelyon16(data_root: Path) -> FolderDataset:
    """Camelyon16 patches of lymph nodes, labelled as a whole."""
    return _open("camelyon16", data_root)


def download(name: str, data_root: Path, progress: Progress = lambda *_: None) -> None:
    """Downloads BMAD's archive, which holds all its benchmarks, and unpacks one of them below the data root.

    The archive stays in the data root, for the other benchmarks. `$HF_ENDPOINT` names a mirror of the hub.

    Args:
        name: One of `NAMES`.
        data_root: Where datasets are.
        progress: Told how many bytes have come, and are unpacked.

    Raises:
        FetchError: The archive cannot be had, or the disk has no room.
        DataError: It is not to be trusted, or the benchmark is there already.
    """
    archive = data_root / "bmad.zip"
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    fetch(f"{hub}/{ARCHIVE}", archive, f"sha256:{SHA256}", progress)
    progress(f"verifying {archive.name}", 0, 0)
    if file_checksum(archive) != SHA256:
        raise DataError(f"{archive} is another file than expected (SHA-256 {SHA256}). Delete it, to download it again.")
    unpack(archive, data_root / name, progress, belongs_to(name))


def belongs_to(name: str) -> Callable[[PurePosixPath], bool]:
    """Tells which files of an archive are of one of `NAMES`, by the folders that they are in."""
    folders = {folder.lower() for folder in packaged_card(name).folders}
    return lambda path: any(part.lower() in folders for part in path.parts) and "__MACOSX" not in path.parts


def packaged_card(name: str) -> BmadCard:
    """The card of one of `NAMES`."""
    return BmadCard.read(Path(__file__).with_name("cards") / f"{name}.yaml")


def _open(name: str, data_root: Path) -> FolderDataset:
    card = packaged_card(name)
    root = data_root.resolve()
    if root.is_dir() and root.name.lower() in (folder.lower() for folder in card.folders):
        return FolderDataset(card, root)
    places = [root, subfolder(root, ["BMAD"]) or root / "BMAD"]
    for place in places:
        found = subfolder(place, card.folders)
        if found is not None:
            return FolderDataset(card, found)
    phantom = name if card.annotation == "mask" else "histology" if card.channels == "rgb" else "retina_oct"
    raise DataError(
        f"The dataset {name} was not found: neither {places[0]} nor {places[1]} has a folder named "
        f"{', '.join(card.folders[:-1])} or {card.folders[-1]}. {_HOW} Meanwhile --dataset phantom_{phantom} runs on "
        "generated images."
    )
