"""The source of plugins: which files a distribution installs, their hash, and the commit of their repository.

A plugin's version seldom changes while its author works on it, so it does not tell one state of its code from another.
Settings and weights that lie beside the code change its predictions as the code does: every file counts.
"""

import hashlib
import importlib.util
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath
from typing import Any

from .registry import GROUPS, plugin_points

_CODE = (".py", ".so", ".pyd")


def plugins() -> dict[str, Distribution]:
    """The distributions that provide methods, datasets or policies, by name and version."""
    points = [point for group in GROUPS for point in plugin_points(group)]
    return {f"{point.dist.name} {point.dist.version}": point.dist for point in points if point.dist}


def with_source(distributions: Iterable[str]) -> list[str]:
    """Names distributions by name, version and a hash of their source: `name 1.0+0123456789ab`.

    Args:
        distributions: Names as in `registry.Entry.distribution`; those that are no plugin's stay as they are.
    """
    known = plugins()
    return [f"{name}+{_hash(known[name])}" if name in known else name for name in dict.fromkeys(distributions)]


def plugin_records() -> dict[str, dict[str, Any]]:
    """Version, hash of the source and git commit of every plugin, by the name of its distribution."""
    return {
        one.name: {"version": one.version, "code": _hash(one), "git_commit": _commit(one)} for one in plugins().values()
    }


def git_commit(file: Path) -> str | None:
    """The commit of the checkout that has this file, ending in `-dirty` where it was changed since.

    Returns:
        `None` for a file that git does not know, as that of an installed wheel.
    """
    git = ["git", "-C", str(file.parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", str(file)], capture_output=True, check=False)
        if tracked.returncode:
            return None
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # git is not installed
        return None
    return described.stdout.strip() or None


def _commit(distribution: Distribution) -> str | None:
    """The commit that pip has installed from, or that of the checkout an editable install points to."""
    installed = json.loads(distribution.read_text("direct_url.json") or "{}").get("vcs_info", {}).get("commit_id")
    packages = {name.partition("/")[0]: file for name, file in _sources(distribution).items() if name.endswith(_CODE)}
    return installed or next((commit for file in packages.values() if (commit := git_commit(file))), None)


def _hash(distribution: Distribution) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(_sources(distribution).items()):
        state = file.stat()
        digest.update(name.encode() + b"\0" + _content_hash(file, state.st_size, state.st_mtime_ns))
    return digest.hexdigest()[:12]


@cache
def _content_hash(file: Path, size: int, changed_ns: int) -> bytes:
    """The SHA-256 of a file as it is at this size and time of change: every cell asks, and weights may be large."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def _sources(distribution: Distribution) -> Mapping[str, Path]:
    """The files that a distribution installs, by their path where it is imported from.

    They are those that it lists. Of an editable install, which lists only what points to them, they are those in the
    folders of its `.pth` files and in the packages that `top_level.txt` names. Packages of entry points count always.
    """
    listed = {str(file): Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
    sources = {name: file for name, file in listed.items() if _is_source(name)}
    modules = {point.module for point in distribution.entry_points if point.group in GROUPS}
    if not any("/" in name and name.endswith(_CODE) for name in sources):
        modules |= set((distribution.read_text("top_level.txt") or "").split())
    for path in listed.values():
        sources |= dict(_behind(path)) if path.suffix == ".pth" else {}
    for module in sorted(modules):
        sources |= dict(_package(module))
    return {name: file.resolve() for name, file in sources.items() if file.is_file()}


def _is_source(name: str) -> bool:
    """Whether a file is what its author wrote: not how or where it was installed, nor what Python has made of it."""
    made = name.endswith((".pyc", ".pth")) or any(
        part == "__pycache__" or part.startswith((".", "__editable__")) or part.endswith((".dist-info", ".egg-info"))
        for part in PurePosixPath(name).parts
    )
    return not made


def _package(module: str) -> Iterator[tuple[str, Path]]:
    """The files of the outermost package that a module is in, or of the module; a namespace is no package."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return
        if spec is None:
            return
        if spec.origin is None or not spec.has_location:
            continue  # a namespace, which other distributions share
        file = Path(spec.origin)
        if spec.submodule_search_locations is None:
            yield "/".join([*parts[: depth - 1], file.name]), file
        else:
            yield from _below(file.parent, "/".join(parts[:depth]))
        return


def _behind(path_file: Path) -> Iterator[tuple[str, Path]]:
    """The modules and packages in the folders that a `.pth` file adds to the import path."""
    lines = path_file.read_text(encoding="utf-8", errors="replace").splitlines() if path_file.is_file() else []
    for folder in (path_file.parent / line for line in lines if line and not line.startswith(("import ", "#"))):
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.suffix in _CODE:
                yield entry.name, entry
            elif (entry / "__init__.py").is_file():
                yield from _below(entry, entry.name)


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*")):
        path = f"{name}/{file.relative_to(folder).as_posix()}"
        if _is_source(path):
            yield path, file
