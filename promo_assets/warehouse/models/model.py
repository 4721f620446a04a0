"""What a SQL model is, and what is wrong with one.

Not here: reading models from files (parsing), which needs a parser that takes a while to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class ModelError(ValueError):
    """A model is wrong; the message is ``path:line: found; expected; what to do``."""

    @classmethod
    def at(cls, path: Path, line: int, message: str) -> ModelError:
        """The error of one line of a file."""
        return cls(f"{path}:{line}: {message}")


@dataclass(frozen=True)
class SqlModel:
    """One model, checked.

    ``sql`` is the select as written, with the ephemeral models that it reads as its first CTEs;
    ``first_line`` is its line in the file. ``lookback`` maps an upstream table to the days before
    ``$start`` that are read of it. ``reads`` says of every table where it is mentioned first, file
    and line; the model itself is among them when it reads its own past. ``columns`` are the
    output's, in order. ``code_version`` changes with the meaning, not with comments, whitespace
    or letter case. ``steps`` are the ephemeral models in it, upstream first.
    """

    table: str
    path: Path
    sql: str
    first_line: int
    description: str
    owner: str
    grain: tuple[str, ...]
    windowed: bool
    lookback: Mapping[str, int] = field(hash=False)
    reads: Mapping[str, tuple[Path, int]] = field(hash=False)
    columns: tuple[str, ...]
    code_version: str
    ephemeral: bool
    steps: tuple[str, ...] = ()

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The stored tables that are read, sorted."""
        return tuple(sorted(self.reads))
