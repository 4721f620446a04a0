"""Rewriting the warehouse file, because DuckDB keeps the bytes of deleted rows in its blocks.

The live rows are copied into a new file, which then takes the old one's name. Whatever happens
in between, the old file or the new one is the warehouse, whole and usable. Not here: which rows
are deleted (`promo_assets.privacy.erasure`, `promo_assets.privacy.retention`).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from promo_assets.warehouse.connection import Warehouse, WarehouseError

UNFINISHED = ".rewriting"
"""Added to the warehouse's name: the new file while it is written. A kill leaves it behind, and
the next rewriting starts it anew."""

DUE = ".rewrite-due"
"""Added to the warehouse's name: a file that is there as long as deleted rows may have left their
bytes. A kill can't make anybody forget it."""

SPARE = 64 * 2**20
"""Bytes of disk that stay free beside the copy: its catalogue, and blocks that are not full."""

CATALOGUE = {
    "tables": "select schema_name, table_name, sql from duckdb_tables()",
    "columns": "select schema_name, table_name, column_name, data_type, is_nullable, column_default"
    " from duckdb_columns()",
    "constraints": "select schema_name, table_name, constraint_text from duckdb_constraints()",
    "indexes": "select schema_name, index_name, sql from duckdb_indexes()",
    "views": "select schema_name, view_name, sql from duckdb_views()",
    "sequences": "select schema_name, sequence_name, last_value from duckdb_sequences()",
    "macros": "select schema_name, function_name, macro_definition from duckdb_functions()",
    "types": "select schema_name, type_name, logical_type from duckdb_types()",
}
INTERNAL = ("tables", "columns", "views", "macros", "types")
"""What DuckDB lists its own of, too."""


@dataclass(frozen=True)
class Rewritten:
    """The file's size before and after, in bytes, and how long it took."""

    bytes_before: int
    bytes_after: int
    seconds: float


def check_room(warehouse: Warehouse) -> None:
    """Raises `WarehouseError` where the disk has no room for a second file of the live rows."""
    path = Path(warehouse.path)
    needed = path.stat().st_size + _size(_wal(path)) + SPARE
    free = shutil.disk_usage(path.parent).free + _size(_unfinished(path))
    if free < needed:
        raise WarehouseError(
            f"{path.parent}: {needed / 2**20:,.0f} MiB are needed to write the warehouse anew, "
            f"{free / 2**20:,.0f} MiB are free. Make room and try again; nothing was changed"
        )


def announce(warehouse: Warehouse) -> None:
    """Note, before rows are deleted, that the warehouse must be written anew afterwards."""
    due = _beside(warehouse, DUE)
    due.touch()
    _sync(due.parent)


def is_due(warehouse: Warehouse) -> bool:
    """Whether rows were deleted since the warehouse was last written anew."""
    return _beside(warehouse, DUE).exists()


def rewrite(warehouse: Warehouse) -> Rewritten:
    """Copy the live rows of the warehouse to a new file and put it in the old one's place.

    No connection of this process may be open. Raises `WarehouseError` when one is, when another
    process holds the file, when the disk has no room, and when the copy is not the original.
    """
    path = Path(warehouse.path)
    began = time.perf_counter()
    check_room(warehouse)
    before = path.stat().st_size
    _remove_unfinished(path)
    try:
        with _held(warehouse) as connection:
            _copy(connection, _unfinished(path))
            _unfinished(path).replace(path)
            _sync(path.parent)
    finally:
        _remove_unfinished(path)
    _beside(warehouse, DUE).unlink(missing_ok=True)
    return Rewritten(before, path.stat().st_size, time.perf_counter() - began)


def _beside(warehouse: Warehouse, suffix: str) -> Path:
    return Path(f"{warehouse.path}{suffix}")


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}{UNFINISHED}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _remove_unfinished(path: Path) -> None:
    for left in (_unfinished(path), _wal(_unfinished(path))):
        left.unlink(missing_ok=True)


@contextmanager
def _held(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that reads the warehouse as ``old`` and keeps every other process from writing
    it, so that nothing can be written to a file that is about to be replaced.

    The old file must have no log of its own by then: DuckDB would replay it into the new one.
    """
    path = Path(warehouse.path)
    while True:
        with warehouse.get_connection() as writing:  # Waits for the lock, or says who holds it.
            writing.execute("force checkpoint")
        connection = duckdb.connect(":memory:", config=warehouse.config)
        try:
            connection.execute("set TimeZone = 'UTC'")
            _attach(connection, path)
            if _wal(path).exists():  # Another process wrote, and died, in between.
                continue
            yield connection
            return
        finally:
            connection.close()


def _attach(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        connection.execute(f"attach {_literal(path)} as old (read_only)")
    except (duckdb.IOException, duckdb.BinderException) as error:
        raise WarehouseError(
            f"{path}: can't be written anew while it is in use "
            f"({' '.join(str(error).split())[:300]}). Wait for what uses it to end, and try again"
        ) from error


def _copy(connection: duckdb.DuckDBPyConnection, target: Path) -> None:
    """Copy the database ``old`` to the file ``target``, compare both, and have it on the disk."""
    connection.execute(f"attach {_literal(target)} as rewritten")
    connection.execute("copy from database old to rewritten")
    connection.execute("checkpoint rewritten")
    if unlike := _differences(connection):
        raise WarehouseError(
            f"{target}: the copy is not the warehouse, its {', '.join(unlike)} differ; the "
            "warehouse itself is unchanged. DuckDB can't copy what it holds: report this"
        )
    connection.execute("detach rewritten")
    _sync(target)


def _differences(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """What the copy has otherwise: parts of the catalogue, or the rows of tables."""
    found = [
        name
        for name in CATALOGUE
        if _catalogue(connection, "old", name) != _catalogue(connection, "rewritten", name)
    ]
    for schema, table, _ in _catalogue(connection, "old", "tables"):
        rows = [
            connection.execute(f'select count(*) from {database}."{schema}"."{table}"').fetchone()
            for database in ("old", "rewritten")
        ]
        if rows[0] != rows[1]:
            found.append(f"rows of {schema}.{table}")
    return found


def _catalogue(
    connection: duckdb.DuckDBPyConnection, database: str, name: str
) -> list[tuple[Any, ...]]:
    own = " and not internal" if name in INTERNAL else ""
    return connection.execute(
        f"{CATALOGUE[name]} where database_name = '{database}'{own} order by all"
    ).fetchall()


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk and not only on their way there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
