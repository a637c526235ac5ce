"""How deep sequences of a DICOM file are nested: GDCM, which reads them, ends the process where that is too deep."""

import mmap
import re
from pathlib import Path

from ..harness.api import DataError

_DEEPEST = 100
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META = 2**12  # bytes in which the transfer syntax is named
_ENDLESS = 0xFFFFFFFF  # the length of an item that ends where a delimiter says so
# An item begins with its tag, FFFE,E000, and its length; FFFE,E00D ends one without a length; in either byte order.
_ITEMS = re.compile(rb"\xfe\xff\x00\xe0(?s:.{4})|\xfe\xff\x0d\xe0\0{4}|\xff\xfe\xe0\x00(?s:.{4})|\xff\xfe\xe0\x0d\0{4}")


def require_flat(path: Path) -> None:
    """Refuses a file whose sequences are nested deeper than any device writes, or are hidden by compression.

    Raises:
        DataError: They are.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(_DEFLATED, 0, _META) >= 0:
                raise DataError(f"{path} is refused: all of it is deflated. dcmconv --write-xfer-little undoes that.")
            if _depth(content) > _DEEPEST:
                raise DataError(f"{path} is refused: its sequences are nested deeper than {_DEEPEST} levels.")


def _depth(content: mmap.mmap) -> int:
    """The most items that lie in each other, or one more than may; what looks like an item in pixels counts as one."""
    ends: list[float] = []
    deepest = 0
    for found in _ITEMS.finditer(content):
        token, place = found[0], found.start()
        while ends and ends[-1] <= place:
            ends.pop()
        if token[3 if token.startswith(b"\xff") else 2] == 0x0D:
            if ends and ends[-1] == float("inf"):
                ends.pop()
            continue
        length = int.from_bytes(token[4:], "big" if token.startswith(b"\xff") else "little")
        ends.append(float("inf") if length == _ENDLESS else found.end() + length)
        deepest = max(deepest, len(ends))
        if deepest > _DEEPEST:
            break
    return deepest
