"""What assets are given to work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import Field

from promo_assets.warehouse.connection import Warehouse


class WarehouseResource(DuckDBResource):
    """The warehouse as a Dagster resource: its connections are the warehouse's own."""

    retry: bool = Field(default=True, description="Wait for another process's lock (16 s).")

    @classmethod
    def of(cls, warehouse: Warehouse) -> WarehouseResource:
        return cls(
            database=str(warehouse.path),
            connection_config=dict(warehouse.options),
            retry=warehouse.retry,
        )

    @property
    def warehouse(self) -> Warehouse:
        options: dict[str, Any] = dict(self.connection_config)
        return Warehouse.with_options(self.database, options, retry=self.retry)

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection as `Warehouse.get_connection` gives it."""
        with self.warehouse.get_connection() as connection:
            yield connection
