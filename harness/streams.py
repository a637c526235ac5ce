"""Standard input, output and error of a process, so that writing to them always comes about.

An encoding may lack what is written, the reader may go away as that of `| head -1` does, and a stream may be closed
from the start: none of that is a reason to stop measuring.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from .files import PLAIN

_ASCII = "miasbench-ascii"
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO)  # the last is that of a terminal that was closed


def open_streams() -> None:
    """Opens standard streams that are closed, and makes those for output take any text for as long as there is need."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:  # its number would be that of the next file that is opened
            os.open(os.devnull, os.O_RDWR)
            stream = open(descriptor, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if name == "stdin":
            continue
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _lasting(stream))
        elif isinstance(stream, io.TextIOWrapper):  # a test's
            stream.reconfigure(errors=PLAIN)


def _lasting(stream: TextIO) -> TextIO:
    # Click takes a stream whose encoding is called ASCII for one that was set up by mistake, and writes UTF-8 to it.
    encoding = _ASCII if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding
    raw = _Lasting(getattr(stream.buffer, "raw", stream.buffer))
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, PLAIN, line_buffering=True)


class _Lasting(io.RawIOBase):
    """Writes to a stream as long as somebody reads it, and from then on to nowhere, as all of this process does."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._raw.isatty()

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: Any) -> int:
        content = bytes(data)
        try:
            while (written := self._raw.write(content)) is None:  # it is not to be waited for; so the wait is here
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in _GONE and self.fileno() != 2:  # nobody could be told of trouble with standard error
                error.filename = "standard output"
                raise
            return len(content)


def _find_ascii(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII.replace("-", "_"):
        return None
    ascii_ = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii_.encode,
        ascii_.decode,
        ascii_.streamreader,
        ascii_.streamwriter,
        ascii_.incrementalencoder,
        ascii_.incrementaldecoder,
        name=_ASCII,
    )


codecs.register(_find_ascii)
