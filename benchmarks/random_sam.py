"""SAM ViT-B with random weights: as slow as the published one, and nothing has to be downloaded."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from miasbench.methods import weights


def random_sam() -> Sam:
    """Always the same network."""
    torch.manual_seed(0)
    network = sam_model_registry["vit_b"](checkpoint=None)
    for name, values in network.image_encoder.named_parameters():
        if "pos" in name:  # zeros, as segment-anything makes them, would hide what is done with positions
            torch.nn.init.normal_(values, std=0.02)
    return network


@contextmanager
def as_published(network: Sam) -> Iterator[None]:
    """Makes a network's weights those of `--weights published`; no features are cached, so every image is encoded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        torch.save(network.state_dict(), path)
        source = weights.Download("sam_vit_b", f"https://where.invalid/{path.name}", f"sha256:{weights.checksum(path)}")
        environment = {"MIASBENCH_WEIGHTS": folder, "MIASBENCH_CACHE_GB": "0"}
        with patch.dict(os.environ, environment), patch.dict(weights.SAM, {"vit_b": source}):
            yield
