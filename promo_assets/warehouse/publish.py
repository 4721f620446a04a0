"""Write, audit, publish: the one way by which rows reach a table.

A slice is staged in its own table, audited there by its gate, and published in one transaction:
the days are deleted and inserted by name. Days that the gate blocks stay in staging, the last
good rows stay published. ``audit.publications`` records which days are published, so that
nothing is ever computed from a day that was held back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb

from promo_assets.contract.days import Window
from promo_assets.contract.tables import TableContract

if TYPE_CHECKING:
    import polars as pl

RUN_CHARACTERS = 8
"""How much of a run's id is in the name of what it stages."""
STAGED = re.compile(
    r"(?P<schema>[a-z0-9]+)__(?P<name>\w+?)(?:__(?P<start>\d{8})_(?P<end>\d{8}))?"
    r"(?:__(?P<part>\w+?))?__run_(?P<run>\w*)"
)
"""The name of a staging table: schema, table, first day and the day after the last, run."""

ALWAYS = date(1, 1, 1)
"""The day under which a table without partitions is recorded as published."""


class PublishError(RuntimeError):
    """A slice can't be staged or published; the message says what does not fit and where."""


@dataclass(frozen=True)
class Query:
    """A select with its bound parameters."""

    sql: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Slice:
    """What one write covers: a window of days, or the whole table, and for tables that are also
    partitioned by ``contract.part`` the parts (segments) of it. ``run_id`` is the run's that
    writes it: no run sees what another one has staged."""

    contract: TableContract
    window: Window | None
    parts: tuple[str, ...] = ()
    run_id: str = ""

    @property
    def staged(self) -> str:
        """The staging table's name, ``staging.<schema>__<table>[__<days>][__<part>]__run_<run>``:
        ``STAGED`` takes it apart."""
        days = f"__{self.window.start:%Y%m%d}_{self.window.end:%Y%m%d}" if self.window else ""
        part = f"__{self.parts[0]}" if len(self.parts) == 1 else ""
        name = f"{self.contract.table.replace('.', '__')}{days}{part}"
        return f"staging.{name}__run_{_run_of(self.run_id)}"


@dataclass(frozen=True)
class Published:
    """Rows published by day (``ALWAYS`` for a table without partitions) and part (or ''), and
    those that the whole table has since."""

    rows: Mapping[tuple[date, str], int]
    held_back: tuple[date, ...]
    table_rows: int = 0

    def rows_of(self, day: date, part: str = "") -> int:
        return self.rows.get((day, part), 0)

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the bookkeeping tables where they are missing."""
    connection.execute("""
        create schema if not exists staging;
        create schema if not exists audit;
        create table if not exists audit.publications (
            table_name varchar, day date, part varchar, row_count bigint,
            run_id varchar, code_version varchar, published_at timestamp,
            primary key (table_name, day, part));
        create table if not exists audit.findings (
            table_name varchar, day date, part varchar, expectation varchar, severity varchar,
            passed boolean, row_count bigint, observed varchar, run_id varchar,
            audited_at timestamp);
        create table if not exists audit.deliveries (
            day date, fingerprint varchar, run_id varchar, delivered_at timestamp,
            primary key (day, run_id));
        alter table audit.deliveries add column if not exists row_count bigint;
        alter table audit.deliveries add column if not exists skipped bigint;
        create table if not exists audit.delivered_spans (
            first_day date, last_day date, seen_at timestamp);
        create table if not exists audit.accepted (
            day date, fingerprint varchar, rows_before bigint, rows_now bigint, files varchar,
            accepted_at timestamp);
        create table if not exists audit.overrides (
            table_name varchar, day date, value varchar, note varchar, told_at timestamp);
        create table if not exists audit.erased (key varchar primary key, erased_at timestamp);
    """)


def create_table(connection: duckdb.DuckDBPyConnection, contract: TableContract) -> None:
    """Create the published table, empty, where it is missing."""
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in contract.types.items())
    connection.execute(f"create schema if not exists {contract.schema_name}")
    connection.execute(f"create table if not exists {contract.table} ({columns})")


def ensure_table(connection: duckdb.DuckDBPyConnection, contract: TableContract) -> None:
    """Create the published table, or add the columns that its contract gained since.

    Raises `PublishError` where a column changed its type or left the contract: that needs a
    decision about the history, so nothing is altered.
    """
    create_table(connection, contract)
    existing = {
        row[0]: row[1] for row in connection.execute(f"describe {contract.table}").fetchall()
    }
    changed = [
        f"{name}: published {existing[name]}, contract {contract.types.get(name, 'nothing')}"
        for name in existing
        if contract.types.get(name) != existing[name]
    ]
    if changed:
        raise PublishError(
            f"{contract.table}: the published table differs from its contract ({'; '.join(changed)}"
            f"). Drop it with `promo drop {contract.table}` and backfill it, or change the contract"
        )
    for name in contract.types.keys() - existing.keys():
        type_ = contract.types[name]
        connection.execute(f'alter table {contract.table} add column "{name}" {type_}')


def stage(connection: duckdb.DuckDBPyConnection, target: Slice, rows: Query | pl.DataFrame) -> int:
    """Write the slice to its staging table and return its number of rows.

    Raises `PublishError` when the columns are not those of the contract, when a value can't
    become its column's type, or when a row lies outside the window: a model can't write outside
    its slice.
    """
    contract = target.contract
    ensure_table(connection, contract)  # A model and its audits may read the table itself.
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in contract.types.items())
    if isinstance(rows, Query):
        query = rows
    else:
        connection.register("produced", rows.to_arrow())
        query = Query("select * from produced", {})
    _same_columns(contract, connection.execute(f"describe {query.sql}", query.parameters))
    connection.execute(f"create or replace table {target.staged} ({columns})")
    try:
        connection.execute(
            f"insert into {target.staged} by name {query.sql}", dict(query.parameters)
        )
    except duckdb.Error as error:
        connection.execute(f"drop table {target.staged}")
        raise PublishError(f"{contract.table}: {str(error).splitlines()[0]}") from error
    finally:
        if query is not rows:
            connection.unregister("produced")
    _inside(connection, target)
    return _count(connection, f"select count(*) from {target.staged}")


def drop_leftovers(
    connection: duckdb.DuckDBPyConnection, table: str, alive: Callable[[str], bool]
) -> None:
    """Drop what runs that have ended left of ``table`` in staging.

    What a gate holds back stays for a look as long as its findings are the newest on its days. So
    does what a run has staged of whose id ``alive`` says that it still works.
    """
    found = connection.execute(
        "select distinct run_id from audit.findings"
        " where table_name = ? and severity = 'critical' and not passed",
        [table],
    ).fetchall()
    looked_into = {_run_of(run_id) for (run_id,) in found}
    for name, staged in _staged(connection, table):
        if staged["run"] not in looked_into and not alive(staged["run"]):
            connection.execute(f"drop table {name}")


def staged_slices(connection: duckdb.DuckDBPyConnection, table: str, day: date) -> list[str]:
    """The staging tables that hold the ``day`` of ``table``, which a gate holds back."""
    told = f"{day:%Y%m%d}"
    return [
        name
        for name, staged in _staged(connection, table)
        if staged["start"] is None or staged["start"] <= told < staged["end"]
    ]


def publish(
    connection: duckdb.DuckDBPyConnection,
    target: Slice,
    *,
    held_back: Collection[date] = (),
    run_id: str,
    code_version: str,
) -> Published:
    """Publish the staged days that are not held back, in one transaction.

    The staging table is dropped when the whole slice was published, else it stays for a look.
    """
    contract = target.contract
    connection.execute("begin")
    try:
        where, parameters = _scope(target, held_back)
        connection.execute(f"delete from {contract.table} where {where}", parameters)
        connection.execute(
            f"insert into {contract.table} by name select * from {target.staged} where {where}",
            parameters,
        )
        counts = _record(connection, target, held_back, run_id, code_version)
        if not held_back:
            connection.execute(f"drop table {target.staged}")
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    rows = _count(
        connection,
        "select coalesce(sum(row_count), 0) from audit.publications where table_name = $table",
        {"table": target.contract.table},
    )
    return Published(counts, tuple(sorted(held_back)), rows)


def published_days(
    connection: duckdb.DuckDBPyConnection, table: str, start: date, end: date, part: str = ""
) -> frozenset[date]:
    """The days of ``[start, end)`` on which ``table`` (or its ``part``) is published."""
    rows = connection.execute(
        "select day from audit.publications"
        " where table_name = $table and part = $part and day >= $start and day < $end",
        {"table": table, "part": part, "start": start, "end": end},
    ).fetchall()
    return frozenset(row[0] for row in rows)


def drop(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Drop a published table and forget that its days were published, in one transaction."""
    prepare(connection)
    connection.execute("begin")
    connection.execute(f"drop table if exists {table}")
    connection.execute("delete from audit.publications where table_name = ?", [table])
    connection.execute("commit")


def drop_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop every table, published or staged, and forget what was delivered, published and found,
    in one transaction. ``audit.erased`` stays: erased people don't come back with the history."""
    prepare(connection)
    tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
    connection.execute("begin")
    for schema, table in tables:
        if schema != "audit":
            connection.execute(f'drop table "{schema}"."{table}"')
        elif table != "erased":
            connection.execute(f'delete from audit."{table}"')
    connection.execute("commit")


def _run_of(run_id: str) -> str:
    return re.sub(r"\W", "", run_id)[:RUN_CHARACTERS].lower()


def _staged(
    connection: duckdb.DuckDBPyConnection, table: str
) -> Iterator[tuple[str, re.Match[str]]]:
    """The staging tables of ``table``, and their names taken apart."""
    names = connection.execute(
        "select table_name from duckdb_tables() where schema_name = 'staging' order by all"
    ).fetchall()
    for (name,) in names:
        staged = STAGED.fullmatch(name)
        if staged and f"{staged['schema']}.{staged['name']}" == table:
            yield f'staging."{name}"', staged


def _same_columns(contract: TableContract, described: duckdb.DuckDBPyConnection) -> None:
    found = [row[0] for row in described.fetchall()]
    if set(found) == set(contract.types) and len(found) == len(contract.types):
        return
    surplus = ", ".join(sorted(set(found) - set(contract.types))) or "none"
    absent = ", ".join(sorted(set(contract.types) - set(found))) or "none"
    raise PublishError(
        f"{contract.table}: the produced columns are not the contract's: missing {absent}; "
        f"unknown {surplus}. Change the model or expectations/{contract.schema_name}/"
        f"{contract.table_name}.yaml"
    )


def _inside(connection: duckdb.DuckDBPyConnection, target: Slice) -> None:
    contract = target.contract
    where, parameters = _scope(target, ())
    outside = _count(
        connection,
        f"select count(*) from {target.staged} where not coalesce({where}, false)",
        parameters,
    )
    if outside:
        raise PublishError(
            f"{contract.table}: {outside} rows lie outside the slice {target.window}"
            f"{' ' + '/'.join(target.parts) if target.parts else ''}; a model may only write its"
            f" own slice. Look at {target.staged}"
        )


def _scope(target: Slice, held_back: Collection[date]) -> tuple[str, dict[str, Any]]:
    """The condition that selects the slice without the days held back."""
    if target.window is None:
        return "true", {}
    column = target.contract.window
    condition = f'"{column}" >= $start and "{column}" < $end'
    parameters: dict[str, Any] = {"start": target.window.start, "end": target.window.end}
    if held_back:
        condition += f' and not list_contains($held_back, "{column}")'
        parameters["held_back"] = sorted(held_back)
    if target.parts:
        condition += f' and list_contains($parts, "{target.contract.part}")'
        parameters["parts"] = list(target.parts)
    return condition, parameters


def _record(
    connection: duckdb.DuckDBPyConnection,
    target: Slice,
    held_back: Collection[date],
    run_id: str,
    code_version: str,
) -> dict[tuple[date, str], int]:
    """Note the days as published, days without rows too, and return their row counts."""
    contract = target.contract
    if target.window is None:
        counts = {(ALWAYS, ""): _count(connection, f"select count(*) from {contract.table}")}
    else:
        days = [day for day in target.window.days if day not in held_back]
        counts = {(day, part): 0 for day in days for part in target.parts or ("",)}
        where, parameters = _scope(target, held_back)
        part = f'"{contract.part}"' if contract.part else "''"
        found = connection.execute(
            f'select "{contract.window}", {part}, count(*) from {contract.table} '
            f"where {where} group by all",
            parameters,
        ).fetchall()
        counts |= {(day, part_): count for day, part_, count in found}
    if not counts:
        return counts
    import polars as pl

    noted = pl.DataFrame(
        [(contract.table, day, part, count) for (day, part), count in counts.items()],
        schema={
            "table_name": pl.String,
            "day": pl.Date,
            "part": pl.String,
            "row_count": pl.Int64,
        },
        orient="row",
    )
    connection.register("noted", noted.to_arrow())
    connection.execute(
        "insert or replace into audit.publications by name select *, $run as run_id,"
        " $code as code_version, cast(current_timestamp as timestamp) as published_at from noted",
        {"run": run_id, "code": code_version},
    )
    connection.unregister("noted")
    return counts


def _count(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None = None
) -> int:
    row = connection.execute(sql, dict(parameters or {})).fetchone()
    return int(row[0]) if row else 0
