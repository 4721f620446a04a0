"""One write: wait for inputs, produce, stage, audit, publish.

Every table is written here, so every table has the same gate and behaves the same when a day is
bad. Here: a slice's way from its inputs to its publication, without Dagster. Not here: what a run
asks for and what it is told (``orchestration/``), and the transactions (``warehouse/publish.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from promo_assets.contract.days import Window, week_of
from promo_assets.contract.tables import TableContract
from promo_assets.tables.table import Production, ProductionError, Table
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import (
    ALWAYS,
    Published,
    Slice,
    ensure_table,
    missing_inputs,
    prepare,
    publish,
    published_days,
    stage,
)

if TYPE_CHECKING:
    from promo_assets.gates.audit import Auditor
    from promo_assets.gates.verdict import Finding, Verdict


@dataclass(frozen=True)
class Request:
    """What to write: a window of days (None: the whole table), the segments of a table that has
    them, the Mondays of a table by week."""

    window: Window | None = None
    parts: tuple[str, ...] = ()
    weeks: tuple[date, ...] = ()


@dataclass(frozen=True)
class Run:
    """For whom: the run's id, the installation's first day, and where log lines go."""

    run_id: str
    first_day: date
    log: Callable[[str], None]


@dataclass(frozen=True)
class Written:
    """What one write led to.

    ``target`` is the slice that was staged: without the days at its ends that wait. ``waiting``
    gives the reason for each day that waits for an input; ``blocked`` are the days that the gate
    holds back. ``notes`` are what the producer said of its work.
    """

    target: Slice
    staged_rows: int
    verdict: Verdict
    published: Published
    waiting: Mapping[date, str]
    blocked: frozenset[date]
    notes: Mapping[str, Any]

    @property
    def held_back(self) -> frozenset[date]:
        """Every day that is not published, for whichever reason."""
        return self.blocked | self.waiting.keys()

    @property
    def nothing_published(self) -> bool:
        """Whether no day at all was published."""
        window = self.target.window
        return bool(self.held_back) and (window is None or not set(window.days) - self.held_back)


def write(
    table: Table, asked: Request, run: Run, warehouse: Warehouse, auditor: Auditor
) -> Written:
    """Produce, stage, audit and publish the slice of ``table`` that is asked for.

    Raises `ProductionError` where no day can be produced, `PublishError` where the produced rows
    are not a slice of the table, and `WarehouseError` where the warehouse can't be used.
    """
    contract = table.contract
    notes: dict[str, Any] = {}
    with warehouse.get_connection() as connection:
        prepare(connection)
        for upstream in table.read:
            ensure_table(connection, upstream)  # Empty before its first publication, not missing.
        waiting = _waiting(connection, table, asked, run.first_day)
        window = _reduced(table, asked.window, waiting)
        weeks = tuple(week for week in asked.weeks if window and week in window.days)
        target = Slice(contract, window, asked.parts)
        production = Production(
            contract, connection, window, asked.parts, weeks, run.run_id, run.log, notes.update
        )
        staged_rows = stage(connection, target, table.produce(production))
    verdict = auditor.audit(contract, target.staged, (window.start, window.end) if window else None)
    verdict = replace(verdict, findings=(*production.found, *verdict.findings))
    blocked = _blocked(table, verdict, target)
    if blocked:
        auditor.build_docs()  # Whoever looks for the cause finds its page.
    with warehouse.get_connection() as connection:
        _record_findings(connection, contract, verdict, target, run.run_id)
        if target.window is None and blocked:
            published = Published({}, (ALWAYS,))
        else:
            published = publish(
                connection,
                target,
                held_back={*blocked, *waiting} & set(window.days if window else ()),
                run_id=run.run_id,
                code_version=table.code_version,
            )
    run.log(
        f"{contract.table} {window or ''}: {staged_rows:,} rows staged, {published.total:,} "
        f"published; gate {verdict.seconds:.2f} s: {verdict.summary()}"
    )
    return Written(target, staged_rows, verdict, published, waiting, frozenset(blocked), notes)


def _waiting(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    asked: Request,
    first: date,
) -> dict[date, str]:
    """The days that can't be computed yet, with the reason for each."""
    window = asked.window
    if window is None:
        return {}
    waiting = missing_inputs(
        connection,
        window,
        table.inputs,
        whole=table.whole,
        own=table.contract.table,
        first_day=first,
    )
    for name in table.segmented:
        for part in asked.parts:
            published = published_days(connection, name, window.start, window.end, part)
            for day in set(window.days) - published:
                waiting.setdefault(day, f"{name} of {day} {part} is not published")
    if table.grid == "week":
        # A week is made of all of its days or not at all.
        weeks = {week_of(day): reason for day, reason in waiting.items()}
        return {day: weeks[week_of(day)] for day in window.days if week_of(day) in weeks}
    return waiting


def _reduced(table: Table, window: Window | None, waiting: Mapping[date, str]) -> Window | None:
    """The window without the days at its ends that wait for an upstream day."""
    if window is None or not waiting:
        return window
    ready = [day for day in window.days if day not in waiting]
    if not ready:
        raise ProductionError(
            f"{table.contract.table} {window}: not materialised, because "
            f"{waiting[window.days[0]]}. Repair and materialise that first"
        )
    return Window.of(ready)


def _blocked(table: Table, verdict: Verdict, target: Slice) -> set[date]:
    """The days that the gate blocks, and for a table that reads itself all days after them."""
    if target.window is None:
        return {ALWAYS} if verdict.blocked else set()
    blocked = set(verdict.blocked_days)
    if blocked and table.contract.table in table.inputs:
        blocked |= {day for day in target.window.days if day > min(blocked)}
    return blocked


def _record_findings(
    connection: duckdb.DuckDBPyConnection,
    contract: TableContract,
    verdict: Verdict,
    target: Slice,
    run_id: str,
) -> None:
    """Keep what the gate found: one row an expectation and day that it failed on, with the day's
    offending rows (null where they can't be attributed to days), and one row (day = the slice's
    first) for each that passed."""
    first = target.window.start if target.window else ALWAYS
    part = target.parts[0] if len(target.parts) == 1 else ""
    at = datetime.now(UTC).replace(tzinfo=None)
    rows = [
        (
            contract.table,
            day,
            part,
            finding.expectation,
            finding.severity,
            finding.passed,
            _rows_on(finding, day),
            finding.observed,
            run_id,
            at,
        )
        for finding in verdict.findings
        for day in (finding.days or (first,))
    ]
    import polars as pl

    frame = pl.DataFrame(
        rows,
        schema=[
            "table_name",
            "day",
            "part",
            "expectation",
            "severity",
            "passed",
            "row_count",
            "observed",
            "run_id",
            "audited_at",
        ],
        orient="row",
    )
    connection.register("found", frame.to_arrow())
    connection.execute("begin")
    if target.window:
        connection.execute(
            "delete from audit.findings where table_name = $table and part = $part"
            " and day >= $start and day < $end",
            {
                "table": contract.table,
                "part": part,
                "start": target.window.start,
                "end": target.window.end,
            },
        )
    else:
        connection.execute(
            "delete from audit.findings where table_name = $table", {"table": contract.table}
        )
    connection.execute("insert into audit.findings by name select * from found")
    connection.execute("commit")
    connection.unregister("found")


def _rows_on(finding: Finding, day: date) -> int | None:
    """The finding's offending rows on a day; the day of a table without partitions has all."""
    if finding.passed or day == ALWAYS:
        return finding.rows
    return finding.rows_by_day.get(day)
