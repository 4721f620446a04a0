"""Reading published tables, for rooms that need not know the engine.

A table that the platform knows has rows once it was published, and none before: so a select over
it never fails for want of a first run, and a name that nobody knows always fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import duckdb

from promo_assets.contract.tables import TableContract
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import create_table, prepare

if TYPE_CHECKING:
    import polars as pl


class Read(Protocol):
    """A select over published tables as a frame. Parameters that it does not name are left out,
    so that several selects can share them."""

    def __call__(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pl.DataFrame: ...


@contextmanager
def reading(warehouse: Warehouse, contracts: Mapping[str, TableContract]) -> Iterator[Read]:
    """A way to read all tables that have a contract; raises as `Warehouse.get_connection`."""
    with warehouse.get_connection() as connection:
        prepare(connection)
        for contract in contracts.values():
            create_table(connection, contract)
        yield reader(connection)


def reader(connection: duckdb.DuckDBPyConnection) -> Read:
    """`Read` over an open connection, in which the tables exist."""

    def read(sql: str, parameters: Mapping[str, Any] | None = None) -> pl.DataFrame:
        named = {name: value for name, value in (parameters or {}).items() if f"${name}" in sql}
        return connection.execute(sql, named).pl()

    return read


def row(read: Read, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The first row of a select; None where there is none."""
    return next(read(sql, parameters).iter_rows(named=True), None)
