"""Regular expressions that a card or a user gives, and that may look for something in a name for ever."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..harness.api import DataError

_SECONDS = 2.0  # for one name


def search(pattern: re.Pattern[str], name: str) -> re.Match[str] | None:
    """Searches a name for a pattern.

    Raises:
        DataError: It takes so long that it may never end, as of `(a+)+b`. Only the main thread can stop it, and not on
            Windows.
    """
    try:
        with _limited(_SECONDS):
            return pattern.search(name)
    except TimeoutError as error:
        raise DataError(
            f"The pattern {pattern.pattern!r} takes more than {_SECONDS:g} s for the name {name!r}, as one does that "
            "repeats what is repeated. Write it in another way, such as [^_]+ for (.+)+."
        ) from error


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
