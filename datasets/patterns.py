"""Regular expressions that a card or a user gives, and that may look for something in a name for ever."""

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..harness.api import DataError

_SECONDS = 2.0  # for one name
_TOGETHER = 60.0  # for all names of which one takes long
_LONG = 0.01
_REMEDY = "Write it in another way, such as [^_]+ for (.+)+."
_spent: dict[str, float] = {}  # seconds by pattern


def search(pattern: re.Pattern[str], name: str) -> re.Match[str] | None:
    """Searches a name for a pattern.

    Raises:
        DataError: It takes so long that it may never end, as of `(a+)+b`, or that many names take hours. Only the main
            thread can stop it, and not on Windows.
    """
    begin = time.monotonic()
    try:
        with _limited(_SECONDS):
            found = pattern.search(name)
    except TimeoutError as error:
        raise DataError(
            f"The pattern {pattern.pattern!r} takes more than {_SECONDS:g} s for the name {name!r}, as one does that "
            f"repeats what is repeated. {_REMEDY}"
        ) from error
    if (seconds := time.monotonic() - begin) > _LONG:
        _spent[pattern.pattern] = _spent.get(pattern.pattern, 0) + seconds
        if _spent[pattern.pattern] > _TOGETHER:
            raise DataError(
                f"The pattern {pattern.pattern!r} takes {seconds:.2g} s for the name {name!r}, and more than "
                f"{_TOGETHER:g} s for all so far. {_REMEDY}"
            )
    return found


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises a TimeoutError where something takes longer; a timer that somebody else has set goes on afterwards."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    left, again = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, again)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
