"""What a table is to the platform: its contract, its inputs, and what makes its rows.

Not here: how rows are written (``writing.py``), and how Dagster sees a table
(``orchestration/table_asset.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb

from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.contract.tables import TableContract
from promo_assets.warehouse.publish import Query
from promo_assets.warehouse.reading import Read, reader

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.gates.verdict import Finding

DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
POLARS_TYPES = {
    "BIGINT": "Int64",
    "BOOLEAN": "Boolean",
    "DATE": "Date",
    "DOUBLE": "Float64",
    "VARCHAR": "String",
}


class ProductionError(Exception):
    """Rows can't be produced, and trying again won't help; the message is meant for people."""


class WaitingError(ProductionError):
    """Nothing can be made yet, because everything that is asked for waits for something:
    ``reasons`` tells by day."""

    def __init__(self, message: str, reasons: Mapping[date, Any]) -> None:
        super().__init__(message)
        self.reasons = reasons


@dataclass(frozen=True)
class Production:
    """What a table's ``produce`` gets: where to read, what to make, and for whom to log.

    ``connection`` is for sources, whose files DuckDB itself scans; everything else reads with
    `read`.
    """

    contract: TableContract
    connection: duckdb.DuckDBPyConnection
    window: Window | None
    parts: tuple[str, ...]
    weeks: tuple[date, ...]
    run_id: str
    log: Callable[[str], None]
    note: Callable[[Mapping[str, Any]], None]
    found: list[Finding] = field(default_factory=list)
    """What the producer itself finds wrong with its days, to be judged with what the gate finds."""

    @property
    def days(self) -> Window:
        """The window of a table that has one."""
        assert self.window is not None
        return self.window

    def read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """The rows of a select over published tables."""
        return reader(self.connection)(sql, parameters)

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The first row of a select over published tables; None where there is none."""
        return next(self.read(sql, parameters).iter_rows(named=True), None)

    def frame(self, rows: Sequence[Mapping[str, Any]] = ()) -> pl.DataFrame:
        """Rows with the contract's columns and types; what a row does not tell is null."""
        import polars as pl

        schema = {name: _polars_type(type_) for name, type_ in self.contract.types.items()}
        return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema)


Produce = Callable[[Production], "Query | pl.DataFrame"]


@dataclass(frozen=True)
class Table:
    """A table as the graph sees it.

    ``inputs`` maps each day-partitioned upstream table to its lookback in days; naming the table
    itself means that it carries its previous day forward. ``whole`` are upstream tables without
    partitions. ``weekly`` are upstream tables by week, with the first and last week read relative
    to the own; ``segmented`` are upstream tables by day and segment, read for the own segment.
    ``grid`` is how the table itself is partitioned: ``day``, ``week``, ``day_segment`` or
    ``whole``. ``read`` are the contracts of all that the table or its audits read.
    ``apart`` says of a week whether it is dear to make: the weeks up to each such are written
    together, so that an interruption loses none that is finished.
    ``spills`` says that DuckDB makes it, whose memory is bounded: more goes to disk.
    ``then`` is called with a way to read what is published, once something new is.
    """

    contract: TableContract
    group: str
    produce: Produce
    code_version: str
    grid: str = "day"
    inputs: Mapping[str, int] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    weekly: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    segmented: tuple[str, ...] = ()
    read: tuple[TableContract, ...] = ()
    kinds: frozenset[str] = frozenset({"duckdb", "table"})
    lineage: Callable[[], Mapping[str, Sequence[tuple[str, str]]]] | None = None
    apart: Callable[[date], bool] | None = None
    spills: bool = False
    then: Callable[[Read], None] | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The segments that each day of the table has; '' for a table without segments."""
        return SEGMENTS if self.grid == "day_segment" else ("",)

    def with_audit_inputs(self, tables: Mapping[str, Table]) -> Table:
        """The table with what only its audits read as inputs too, so that it is there by then."""
        known = {*self.inputs, *self.whole, *self.weekly, *self.segmented}
        more = sorted((self.contract.audited_against & tables.keys()) - known)
        grids = {name: tables[name].grid for name in more}
        return replace(
            self,
            inputs={**self.inputs, **{name: 0 for name in more if grids[name] == "day"}},
            whole=(*self.whole, *(name for name in more if grids[name] == "whole")),
            read=tuple(tables[name].contract for name in sorted({*known, *more})),
        )

    def columns_from(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Column lineage: the (table, column) pairs that each column is made of; of a table made
        by Python as its contract declares."""
        if self.lineage is not None:
            return self.lineage()
        declared: dict[str, list[tuple[str, str]]] = {}
        for name, column in self.contract.columns.items():
            places = [source.rsplit(".", 1) for source in column.sources]
            declared[name] = [(table, source) for table, source in places]
        return declared


def _polars_type(type_: str) -> pl.DataType:
    """The Polars type of a DuckDB type that tables made row by row use."""
    import polars as pl

    if match := DECIMAL.fullmatch(type_):
        return pl.Decimal(int(match[1]), int(match[2]))
    kind: type[pl.DataType] = getattr(pl, POLARS_TYPES[type_])
    return kind()
