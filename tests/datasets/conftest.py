"""Small datasets in the layouts that BMAD is met in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Where the images to train, normal images, anomalous images and masks are; {split} is the split's name.
LAYOUTS = {
    "readme": ("{split}/good/img", "{split}/good/img", "{split}/Ungood/img", "{split}/Ungood/anomaly_mask"),
    "label": ("{split}/good", "{split}/good/img", "{split}/Ungood/img", "{split}/Ungood/label"),
    "doubled": ("{split}/good", "{split}/{split}/good", "{split}/{split}/Ungood", "{split}/{split}_labels/Ungood"),
    "apart": ("{split}/good", "{split}/img/good", "{split}/img/Ungood", "{split}/label/Ungood"),
    "resc": (
        "{Split}/{split}/good",
        "{Split}/{split}/good",
        "{Split}/{split}/Ungood",
        "{Split}/{split}_label/Ungood",
    ),
}


def save(path: Path, value: int = 0, shape: tuple[int, int] = (6, 8)) -> Path:
    """Writes an image of one grey level but for a pixel that tells a lesion."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(shape, value, dtype=np.uint8)
    pixels[2, 3] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def write() -> Callable[..., Path]:
    return save


@pytest.fixture
def make_bmad() -> Callable[..., Path]:
    """Makes a dataset: 3 normal images to train, and 2 normal and 2 anomalous ones in each other split."""

    def make(
        root: Path, layout: str = "readme", splits: tuple[str, ...] = ("train", "valid", "test"), ungood: str = "Ungood"
    ) -> Path:
        for split in splits:
            train, normal, anomalous, masks = (
                root / place.format(split=split, Split=split.title()).replace("Ungood", ungood)
                for place in LAYOUTS[layout]
            )
            if split == splits[0]:
                for index in range(3):
                    save(train / f"0000{index // 2}_{index}.png", index)
                continue
            for index in range(2):
                name = f"{split}_{10 + index}.png"
                save(normal / f"n_{name}", index)
                save(anomalous / f"a_{name}", 10 + index)
                save(masks / f"a_{name}")
        return root

    return make
