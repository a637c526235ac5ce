"""What a folder of the cache holds."""

from pathlib import Path


def cache_entries(folder: Path) -> list[Path]:
    """Its entries, without the file that says that it is a cache."""
    return [path for path in folder.iterdir() if path.name != "CACHEDIR.TAG"]
