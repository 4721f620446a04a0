"""The warehouse connection: opened late, closed always, patient with another process's lock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between attempts: a step of another process holds the lock for seconds, not minutes."""


class WarehouseError(RuntimeError):
    """The warehouse file can't be used; the message says why and what to do."""


class UnreadableError(WarehouseError):
    """The file is there but is no database that this version can read; waiting won't help."""


@dataclass(frozen=True)
class Warehouse:
    """One DuckDB file. Every connection of a process uses `config`, as DuckDB demands.

    ``options`` are DuckDB's settings as (name, value) pairs; ``retry`` waits for another
    process's lock, 16 s at most.
    """

    path: Path
    options: tuple[tuple[str, Any], ...] = ()
    retry: bool = True

    @classmethod
    def at(cls, path: Path, *, memory_limit: str, threads: int, spill: Path) -> Warehouse:
        """The warehouse in ``path`` that uses so much memory, and the folder ``spill`` beyond."""
        options = {
            "memory_limit": memory_limit,
            "threads": threads,
            "temp_directory": str(spill),
            "preserve_insertion_order": False,
        }
        return cls.with_options(path, options)

    @classmethod
    def with_options(
        cls, path: Path | str, options: Mapping[str, Any], *, retry: bool = True
    ) -> Warehouse:
        return cls(Path(path), tuple(sorted(options.items())), retry)

    @property
    def config(self) -> dict[str, Any]:
        return {"custom_user_agent": "dagster", **dict(self.options)}

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection, closed at the end of the block whatever happens.

        Raises `WarehouseError` when another process keeps the lock, when the folder can't be
        written, or when the file is not a DuckDB database.
        """
        connection = self._open()
        try:
            yield connection
        finally:
            connection.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WarehouseError(f"{path.parent}: can't be created: {error.strerror}") from error
        waits = RETRY_SECONDS if self.retry else ()
        for wait in (*waits, None):
            try:
                connection = duckdb.connect(str(path), config=self.config)
                # Not in config: DuckDB loads the time zones only after it opened the file.
                connection.execute("set TimeZone = 'UTC'")
                return connection
            except duckdb.IOException as error:
                if "lock" not in str(error):
                    raise UnreadableError(_unreadable(path, error)) from error
                if wait is None:
                    raise WarehouseError(_locked(path, error)) from error
                time.sleep(wait)
            except duckdb.Error as error:
                raise UnreadableError(_unreadable(path, error)) from error
        raise AssertionError("unreachable: the last attempt returns or raises")


def _locked(path: Path, error: Exception) -> str:
    holder = str(error).split("Conflicting lock is held in ")[-1].split(". See also")[0]
    return (
        f"{path}: another process holds the warehouse ({holder}). DuckDB lets one process at a "
        "time write a file: wait for its run to end, or stop it, and try again."
    )


def _unreadable(path: Path, error: Exception) -> str:
    first = str(error).splitlines()[0]
    return (
        f"{path}: not a readable DuckDB database ({first}). Restore it from a backup, or move it "
        "away and run `promo run` to rebuild it from the source."
    )
