"""Which files a folder delivers: those that the mapping's globs name, as the disk shows them.

Nothing that a glob names is passed over in silence: what can't be read has a problem that says why.
Only names that begin with . or _ are left alone, as everywhere. Not here: what is in the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from promo_assets.sources.content import UnreadableFileError, address_of
from promo_assets.sources.formats import KNOWN, format_of
from promo_assets.sources.mapping import SourceMapping, globs

MAGIC = re.compile(r"[*?[]")
IGNORE = "or name it in mapping.yaml under ignore: to leave it out"


@dataclass(frozen=True)
class Seen:
    """A file before it is read: ``path`` in the folder, its size and what changes with its
    content (``stamp``). ``problem`` says why it can't be read at all."""

    path: str
    size: int = 0
    stamp: str = ""
    problem: str = ""


def listed(folder: Path, mapping: SourceMapping) -> list[Seen]:
    """Every delivered file, in the order of the paths."""
    patterns = [PurePosixPath(glob).parts for glob in globs(mapping)]
    left_out = [PurePosixPath(glob).parts for glob in mapping.ignore]
    found: dict[str, Seen] = {}
    for base in dict.fromkeys(_base(pattern) for pattern in patterns):
        for seen in _walk(folder, base):
            parts = PurePosixPath(seen.path).parts
            if _any(parts, patterns) and not _any(parts, left_out):
                found[seen.path] = seen
    return [found[path] for path in sorted(found)]


def _base(pattern: Sequence[str]) -> str:
    """The folder below which everything lies that a pattern names."""
    plain = 0
    while plain < len(pattern) - 1 and not MAGIC.search(pattern[plain]):
        plain += 1
    return "/".join(pattern[:plain])


def _any(parts: Sequence[str], patterns: Sequence[Sequence[str]]) -> bool:
    return any(_matches(parts, pattern) for pattern in patterns)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a glob names a path; ``**`` is any number of folders. A file's own name matches
    whatever its case."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    name, wanted = parts[0], pattern[0]
    if len(parts) == 1:
        name, wanted = name.lower(), wanted.lower()
    return fnmatchcase(name, wanted) and _matches(parts[1:], pattern[1:])


def _walk(folder: Path, base: str) -> Iterator[Seen]:
    closed: list[OSError] = []
    been: set[str] = set()
    for place, folders, files in os.walk(folder / base, onerror=closed.append, followlinks=True):
        been.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in sorted(folders)
            if _shown(name) and os.path.realpath(Path(place, name)) not in been
        ]
        for name in files:
            if _shown(name):
                yield from _seen(folder, Path(place, name))
    for error in closed:
        if not isinstance(error, FileNotFoundError):
            yield Seen(_told(folder, Path(error.filename)), problem=f"{error.strerror}")


def _shown(name: str) -> bool:
    return name[0] not in "._"


def _seen(folder: Path, path: Path) -> Iterator[Seen]:
    told = _told(folder, path)
    try:
        stat = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            yield Seen(told, problem="it is a link to nothing")
        return  # It went while we looked.
    except OSError as error:
        yield Seen(told, problem=str(error.strerror))
        return
    # The time of the last change of the inode: nobody can set it, so a copy that keeps size and
    # time of its origin is seen too.
    stamp = f"{stat.st_mtime_ns} {stat.st_ctime_ns}"
    yield Seen(told, stat.st_size, stamp, _problem(path, S_ISREG(stat.st_mode)))


def _problem(path: Path, is_file: bool) -> str:
    if not is_file:
        return "it is no file"
    if format_of(path) is None:
        return f"its ending is none of {KNOWN}: unpack or convert it, move it elsewhere, {IGNORE}"
    try:
        address_of(path).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    except UnreadableFileError as error:
        return str(error)
    return ""


def _told(folder: Path, path: Path) -> str:
    """The path in the folder, as text that can be stored and printed."""
    name = path.relative_to(folder).as_posix()
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
