"""Files with 16 bits in each channel, which Pillow does not write."""

import struct
import zlib
from pathlib import Path

import numpy as np


def png16(path: Path, pixels: np.ndarray) -> Path:
    """Writes uint16 (H, W, C) as PNG: C is 2 for grey with transparency, 3 for RGB, 4 for RGB with transparency."""
    height, width, channels = pixels.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    # Each row as its difference to the one above, byte by byte, which a decoder has to undo.
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = b"".join(b"\2" + row.tobytes() for row in rows - above)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(filtered)), (b"IEND", b"")]
    written = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        written += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(written)
    return path


def tiff16(path: Path, pixels: np.ndarray, order: str = "<", deflate: bool = False, apart: bool = False) -> Path:
    """Writes uint16 (H, W, 3) as TIFF.

    Args:
        path: The file.
        pixels: What is in it.
        order: Of bytes, `<` or `>`.
        deflate: Whether pixels are compressed.
        apart: Whether the channels lie one after the other.
    """
    height, width, _ = pixels.shape
    planes = [pixels[..., channel] for channel in range(3)] if apart else [pixels]
    strips = [plane.astype(f"{order}u2").tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    start = 8 + 2 + 12 * 11 + 4
    offsets = [start + 6 + 24 + sum(map(len, strips[:index])) for index in range(len(strips))]
    tags = {
        256: [width],
        257: [height],
        258: start,
        259: [8 if deflate else 1],
        262: [2],
        273: start + 6 if apart else offsets,
        277: [3],
        278: [height],
        279: start + 18 if apart else [len(strips[0])],
        284: [2 if apart else 1],
        339: [1],
    }
    entries = b""
    for tag, value in tags.items():
        if isinstance(value, int):
            entries += struct.pack(f"{order}HHII", tag, 3 if tag == 258 else 4, 3, value)
        else:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value[0])
    behind = struct.pack(f"{order}3H", 16, 16, 16)  # tags of three values stand behind the directory
    behind += struct.pack(f"{order}6I", *offsets, *map(len, strips)) if apart else bytes(24)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    path.write_bytes(head + entries + struct.pack(f"{order}I", 0) + behind + b"".join(strips))
    return path
