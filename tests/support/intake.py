"""Days of delivered rows through the platform's own SQL and gates, in memory and without a run.

Here: rows in, what is accepted, rejected and found out. Not here: how a source reads rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import duckdb
import polars as pl

from promo_assets.contract.events import (
    EQUAL_ROWS_KEPT,
    EVENT_COLUMNS,
    EVENT_KEY,
    EVENT_TYPES,
)
from promo_assets.contract.limits import Gates
from promo_assets.contract.project import EXPECTATIONS, MODELS
from promo_assets.contract.tables import load_contracts
from promo_assets.gates.suites import select_of_days
from promo_assets.gates.verdict import Finding
from promo_assets.warehouse.publish import prepare
from tests.support import direct

CONTRACTS = load_contracts(EXPECTATIONS)
FIRST = date(2024, 6, 1)
Row = Mapping[str, Any]

COLUMNS = [column.name for column in EVENT_COLUMNS if column.name != "event_date"]


def row(kind: str, who: str | None = "anna", day: int = 0, **told: Any) -> dict[str, Any]:
    """One delivered event at noon of the day ``FIRST + day``; a purchase is one tea of 10.00."""
    line = {"item_id": "tea", "quantity": "1", "unit_price": "10.00"} if kind == "purchase" else {}
    on = FIRST + timedelta(days=day)
    return {"event_time": f"{on} 12:00:00", "event_type": kind, "user_id": who, **line, **told}


@dataclass
class Taken:
    """What became of the days that were delivered."""

    connection: duckdb.DuckDBPyConnection
    raw: tuple[Finding, ...] = ()
    core: tuple[Finding, ...] = ()
    window: tuple[date, date] = field(default=(FIRST, FIRST))

    @property
    def held(self) -> dict[str, tuple[date, ...]]:
        """The days that each failed critical rule holds back."""
        return {one.expectation: one.days for one in self._failed("critical")}

    @property
    def warned(self) -> dict[str, tuple[date, ...]]:
        return {one.expectation: one.days for one in self._failed("warning")}

    def finding(self, name: str) -> Finding:
        (found,) = [one for one in (*self.raw, *self.core) if one.expectation == name]
        return found

    def rejected(self) -> Counter[str]:
        rows = self.connection.execute(
            "select reason, count(*) from core.rejected_events group by 1"
        )
        return Counter(dict(rows.fetchall()))

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def _failed(self, severity: str) -> list[Finding]:
        failed = (one for one in (*self.raw, *self.core) if not one.passed)
        return [one for one in failed if one.severity == severity]


def take(
    *days: Sequence[Row],
    gates: Gates | None = None,
    equal_rows_kept: bool = False,
    beside: Mapping[str, Sequence[Row]] | None = None,
    before: int = 0,
) -> Taken:
    """Take in ``days`` of rows from `FIRST` on, as one range; the first ``before`` of them are
    published already. ``beside`` are rows of other tables of ``core``."""
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'; create schema raw; create schema core")
    prepare(connection)
    rows = [
        {
            **dict.fromkeys((*COLUMNS, "extra", "note")),
            "event_date": FIRST + timedelta(days=number),
            "source": "test",
            "source_file": f"{FIRST + timedelta(days=number)}.csv",
            "source_row": place,
            **told,
        }
        for number, day in enumerate(days)
        for place, told in enumerate(day)
    ]
    delivered = pl.DataFrame(
        rows,
        schema={
            **dict.fromkeys((*COLUMNS, "extra", "note"), pl.String),
            "event_date": pl.Date,
            "source": pl.String,
            "source_file": pl.String,
            "source_row": pl.Int64,
        },
    )
    key = EQUAL_ROWS_KEPT if equal_rows_kept else EVENT_KEY
    connection.register("delivered", delivered.to_arrow())
    connection.execute(f"create table everything as select *, {key} as event_key from delivered")
    for table in ("raw.events", "core.rejected_events", "core.events", "core.identities"):
        _create(connection, table)
    _fill(
        connection,
        "core.event_types",
        [
            {
                "event_type": kind.name,
                "description": kind.description,
                "needs_order_line": kind.needs_order_line,
                "needs_offer": kind.needs_offer,
            }
            for kind in EVENT_TYPES
        ],
    )
    _fill(connection, "core.gate_limits", (gates or Gates()).limits())
    read = CONTRACTS["core.events"].audited_against | CONTRACTS["raw.events"].audited_against
    for table in sorted((read & CONTRACTS.keys()) | {"core.items", "core.offers"}):
        _create(connection, table)
    for table, told in (beside or {}).items():
        _fill(connection, table, told)
    taken = Taken(connection)
    if before:
        _publish(taken, (FIRST, FIRST + timedelta(days=before)))
    window = (FIRST + timedelta(days=before), FIRST + timedelta(days=len(days)))
    _publish(taken, window, audited=True)
    return taken


def _publish(taken: Taken, window: tuple[date, date], *, audited: bool = False) -> None:
    connection, (start, end) = taken.connection, window
    taken.window = window
    bounds = {"start": start, "end": end}
    inside = "event_date >= $start and event_date < $end"
    connection.execute(
        f"create or replace table raw.staged as select * from everything where {inside}", bounds
    )
    if audited:
        taken.raw = direct.findings(connection, CONTRACTS["raw.events"], "raw.staged", window)
    connection.execute("insert into raw.events by name select * from raw.staged")
    connection.execute(
        "insert into audit.publications (table_name, day, part) "
        f"select 'raw.events', day, '' from ({select_of_days(window)})"
    )
    for name in ("rejected_events", "events"):
        sql = (MODELS / "core" / f"{name}.sql").read_text()
        connection.execute(f"create or replace table core.staged as {sql}", bounds)
        if audited and name == "events":
            taken.core = direct.findings(
                connection, CONTRACTS["core.events"], "core.staged", window
            )
        connection.execute(f"insert into core.{name} by name select * from core.staged")


def _create(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in CONTRACTS[table].types.items())
    connection.execute(f"create table if not exists {table} ({columns})")


def _fill(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    _create(connection, table)
    connection.execute(f"delete from {table}")
    for one in rows:
        names = ", ".join(f'"{name}"' for name in one)
        places = ", ".join("?" for _ in one)
        connection.execute(f"insert into {table} ({names}) values ({places})", list(one.values()))
