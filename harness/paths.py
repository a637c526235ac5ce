"""Where the user's paths lead: the one place that reads `~`; and names that no file can have everywhere."""

import os
import re
from pathlib import Path

from .api import UsageError

DEVICES = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""Names that Windows keeps for devices, with or without an ending."""


def expanded(path: str | os.PathLike[str]) -> str:
    """A path whose leading `~` or `~user` is that home folder; an address such as `s3://bucket` stays as it is.

    A shell leaves `~` alone in a file, in a variable and behind `--option=`.

    Raises:
        UsageError: There is no such home folder.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise UsageError(
            f"{text}: there is no such home folder. A name that begins with ~ is written ./{text}"
        ) from error


def folder_of(variable: str, default: Path) -> Path:
    """The folder that an environment variable names, or the default where it is empty or not set."""
    return Path(expanded(os.environ.get(variable) or default))


def absolute(path: Path) -> Path:
    """The path from the root on, which means the same from every folder; a link at its end stays a link."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def is_there(path: str) -> bool:
    """Whether there is a file or folder; a text that cannot be a path is none."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for a text that is too long
