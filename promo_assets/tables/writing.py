"""One write: wait for inputs, produce, stage, audit, publish.

Every table is written here, so every table has the same gate and behaves the same when a day is
bad. Here: a slice's way from its inputs to its publication, without Dagster. Not here: what a run
asks for and what it is told (``orchestration/``), and the transactions (``warehouse/publish.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import duckdb

from promo_assets.contract.days import Window, week_of
from promo_assets.tables.causes import cause_of
from promo_assets.tables.findings import New, merged, record, unmade
from promo_assets.tables.table import Production, ProductionError, Table, WaitingError
from promo_assets.tables.waiting import Origins, Place, Reason, publications, waiting
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import (
    ALWAYS,
    Published,
    PublishError,
    Slice,
    drop_leftovers,
    ensure_table,
    prepare,
    publish,
    stage,
)
from promo_assets.warehouse.reading import reader

if TYPE_CHECKING:
    from promo_assets.gates.audit import Auditor
    from promo_assets.gates.verdict import Verdict

ROWS_AT_ONCE = 2_000_000
"""About so many rows of a range are made and audited together: what a year of a large shop needs
of memory and disk is what some of its days need."""


@dataclass(frozen=True)
class Request:
    """What to write: a window of days (None: the whole table), the segments of a table that has
    them, the Mondays of a table by week."""

    window: Window | None = None
    parts: tuple[str, ...] = ()
    weeks: tuple[date, ...] = ()

    def apart(self, dear: Callable[[date], bool]) -> Iterator[Request]:
        """The same in requests that each end with a week that is ``dear``, or the last."""
        weeks: list[date] = []
        for week in self.weeks:
            weeks.append(week)
            if dear(week) or week == self.weeks[-1]:
                yield self.of(weeks)
                weeks = []

    def of(self, weeks: Sequence[date]) -> Request:
        """The same of some of its weeks, in order."""
        window = Window(weeks[0], weeks[-1] + timedelta(days=7))
        return replace(self, window=window, weeks=tuple(weeks))


@dataclass(frozen=True)
class Run:
    """For whom: the run's id, the installation's first day, and where log lines go.

    ``tables`` are those among which it is looked for where a wait began; ``alive`` tells of the
    beginning of a run's id whether that run still works.
    """

    run_id: str
    first_day: date
    log: Callable[[str], None]
    tables: Mapping[str, Table] = field(default_factory=dict)
    alive: Callable[[str], bool] = lambda run: False


@dataclass(frozen=True)
class Written:
    """What one write led to.

    ``target`` is the slice that was staged: without the days at its ends that wait. ``waiting``
    gives the reason for each day that waits for something, ``blocked`` the cause for each day that
    the gate holds back. ``notes`` are what the producer said of its work, ``news`` what failed and
    had not when the same days were written before.
    """

    target: Slice
    staged_rows: int
    verdict: Verdict
    published: Published
    waiting: Mapping[date, Reason]
    blocked: Mapping[date, str]
    notes: Mapping[str, Any]
    news: tuple[New, ...] = ()

    @property
    def held_back(self) -> frozenset[date]:
        """Every day that is not published, for whichever reason."""
        return frozenset(self.blocked.keys() | self.waiting.keys())

    @property
    def reasons(self) -> dict[date, Reason]:
        """Why each of these days is not published, as what follows from it is told."""
        blocked = {day: Reason(_place(self.target, day), why) for day, why in self.blocked.items()}
        return {**self.waiting, **blocked}

    @property
    def nothing_published(self) -> bool:
        """Whether no day at all was published."""
        window = self.target.window
        return bool(self.held_back) and (window is None or not set(window.days) - self.held_back)


def write(
    table: Table,
    asked: Request,
    run: Run,
    warehouse: Warehouse,
    auditor: Auditor,
    finished: Callable[[Written], None] = lambda written: None,
) -> Written:
    """Produce, stage, audit and publish the slice of ``table`` that is asked for.

    A table that is written ``apart`` is published up to each dear week, a wide range of any other
    in pieces of about `ROWS_AT_ONCE`. ``finished`` is told each piece that went through. Raises
    `WaitingError` where everything waits, `ProductionError` where no day can be produced,
    `PublishError` where the produced rows are not a slice of the table, and `WarehouseError`
    where the warehouse can't be used.
    """
    pieces: list[Written] = []
    waits: dict[date, Reason] = {}
    error: WaitingError | None = None
    for piece in asked.apart(table.apart) if table.apart else _bounded(table, asked, warehouse):
        try:
            written = _write(table, piece, run, warehouse, auditor)
        except WaitingError as waiting_:
            error, held = error or waiting_, waiting_.reasons
            waits |= held
        else:
            pieces.append(written)
            finished(written)
            held = written.reasons
        if held and asked.window and table.contract.table in table.inputs:
            # What reads itself goes no further than the day that it lacks.
            left = [day for day in asked.window.days if day > max(held)]
            waits |= dict.fromkeys(left, held[min(held)])
            break
    if not pieces and error:
        raise WaitingError(str(error), waits) from error
    return _together(pieces, waits)


def _bounded(table: Table, asked: Request, warehouse: Warehouse) -> Iterator[Request]:
    """The request in windows that follow each other, each of some `ROWS_AT_ONCE` rows, as far as
    is known when it begins. It is no shorter than a fourth of what the table reads of the past,
    which is read again for each, and than a day."""
    window = asked.window
    if window is None or len(window.days) == 1:
        yield asked
        return
    if table.grid == "week":
        yield from _weeks_bounded(table, asked, window, warehouse)
        return
    past = [days for name, days in table.inputs.items() if name != table.contract.table]
    least = timedelta(days=max(1, max(past, default=0) // 4 if table.spills else 0))
    while window:
        with warehouse.get_connection() as connection:
            rows = _expected_rows(connection, table, window)
        total, end = 0, window.start
        while end < window.end and (
            end < window.start + least or total + rows[end] <= ROWS_AT_ONCE
        ):
            total += rows[end]
            end += timedelta(days=1)
        yield replace(asked, window=Window(window.start, end))
        window = Window(end, window.end) if end < window.end else None


def _weeks_bounded(
    table: Table, asked: Request, window: Window, warehouse: Warehouse
) -> Iterator[Request]:
    """The same of a table by week: at once, unless its rows are users."""
    if "user_id" not in table.contract.grain:
        yield asked
        return
    with warehouse.get_connection() as connection:
        rows = _expected_rows(connection, table, window)
    pieces: list[list[date]] = [[]]
    total = 0
    for week in asked.weeks:
        most = max(rows[day] for day in window.days if week_of(day) == week)
        if pieces[-1] and total + most > ROWS_AT_ONCE:
            pieces.append([])
            total = 0
        pieces[-1].append(week)
        total += most
    yield from map(asked.of, pieces)


def _expected_rows(
    connection: duckdb.DuckDBPyConnection, table: Table, window: Window
) -> dict[date, int]:
    """By day of ``window``: those of the largest input, and no fewer than the table itself had on
    its newest day before."""
    prepare(connection)
    own = table.contract.table
    read = {*table.inputs, *table.segmented} - {own}
    counted = connection.execute(
        "select day, max(total) from (select table_name, day, sum(row_count) as total"
        " from audit.publications where list_contains($read, table_name)"
        " and day >= $start and day < $end group by table_name, day) group by day",
        {"read": sorted(read), "start": window.start, "end": window.end},
    ).fetchall()
    newest = connection.execute(
        "select sum(row_count) from audit.publications where table_name = $own and day < $start"
        " group by day order by day desc limit 1",
        {"own": own, "start": window.start},
    ).fetchone()
    least = int(newest[0]) if newest else 0
    return dict.fromkeys(window.days, least) | {day: max(int(n), least) for day, n in counted}


def _write(
    table: Table, asked: Request, run: Run, warehouse: Warehouse, auditor: Auditor
) -> Written:
    contract = table.contract
    notes: dict[str, Any] = {}
    with warehouse.get_connection() as connection:
        prepare(connection)
        for upstream in table.read:
            ensure_table(connection, upstream)  # Empty before its first publication, not missing.
        waits = _reasons(connection, table, asked, run)
        window = _reduced(table, asked.window, waits)
        days = set(window.days) - waits.keys() if window else set()
        weeks = tuple(week for week in asked.weeks if week in days)
        target = Slice(contract, window, asked.parts, run.run_id)
        production = Production(
            contract, connection, window, asked.parts, weeks, run.run_id, run.log, notes.update
        )
        try:
            staged_rows = stage(connection, target, table.produce(production))
        except (ProductionError, PublishError) as error:
            record(connection, unmade(contract, str(error), days), target, days, run.run_id)
            raise
    verdict = auditor.audit(contract, target.staged, (window.start, window.end) if window else None)
    verdict = replace(verdict, findings=(*production.found, *verdict.findings))
    blocked = _blocked(table, verdict, target)
    if blocked:
        auditor.build_docs()  # Whoever looks for the cause finds its page.
    with warehouse.get_connection() as connection:
        news = record(connection, verdict, target, days, run.run_id)
        if target.window is None and blocked:
            published = Published({}, (ALWAYS,))
        else:
            published = publish(
                connection,
                target,
                held_back={*blocked, *waits} & set(window.days if window else ()),
                run_id=run.run_id,
                code_version=table.code_version,
            )
        drop_leftovers(connection, contract.table, run.alive)
        if table.then and published.rows:
            table.then(reader(connection))
        causes = _causes(connection, blocked, target)
    followers = {day: reason for day, reason in causes.items() if isinstance(reason, Reason)}
    run.log(
        f"{contract.table} {window or ''}: {staged_rows:,} rows staged, {published.total:,} "
        f"published; gate {verdict.seconds:.2f} s: {verdict.summary()}"
    )
    return Written(
        target,
        staged_rows,
        verdict,
        published,
        {**waits, **followers},
        {day: cause for day, cause in causes.items() if isinstance(cause, str)},
        notes,
        tuple(news),
    )


def _together(pieces: list[Written], waits: Mapping[date, Reason]) -> Written:
    """The writes of several weeks as one."""
    if len(pieces) == 1 and not waits:
        return pieces[0]
    windows = [piece.target.window for piece in pieces if piece.target.window]
    days = [day for window in windows for day in window.days]
    last = pieces[-1]
    rows = {place: n for piece in pieces for place, n in piece.published.rows.items()}
    held = tuple(sorted({day for piece in pieces for day in piece.published.held_back}))
    return Written(
        replace(last.target, window=Window.of(days) if days else None),
        sum(piece.staged_rows for piece in pieces),
        merged([piece.verdict for piece in pieces]),
        Published(rows, held, last.published.table_rows),
        {day: why for piece in pieces for day, why in piece.waiting.items()} | dict(waits),
        {day: cause for piece in pieces for day, cause in piece.blocked.items()},
        _noted(pieces),
        tuple(news for piece in pieces for news in piece.news),
    )


def _noted(pieces: list[Written]) -> dict[str, Any]:
    """What the producer said: counts of all pieces together, of the rest what was said last."""
    told: dict[str, Any] = {}
    for piece in pieces:
        for name, value in piece.notes.items():
            told[name] = told[name] + value if isinstance(value, int) and name in told else value
    return told


def _reasons(
    connection: duckdb.DuckDBPyConnection, table: Table, asked: Request, run: Run
) -> dict[date, Reason]:
    """The days that can't be made yet, with where their wait began."""
    missing = waiting(connection, table, asked.window, asked.parts, run.first_day)
    published = publications(connection)
    known = {**run.tables, table.contract.table: table}
    origins = Origins(connection, known, run.first_day, published)
    reasons: dict[date, Reason] = {}
    for day, place in missing.items():
        itself = place.table == table.contract.table and place.day in reasons
        reasons[day] = reasons[place.day] if itself else origins.of(place)
    return reasons


def _reduced(table: Table, window: Window | None, waits: Mapping[date, Reason]) -> Window | None:
    """The window without the days at its ends that wait for something."""
    if window is None or not waits:
        return window
    ready = [day for day in window.days if day not in waits]
    if not ready:
        raise WaitingError(f"{table.contract.table} {window} {waits[window.days[0]]}", waits)
    return Window.of(ready)


def _blocked(table: Table, verdict: Verdict, target: Slice) -> set[date]:
    """The days that the gate blocks; for a table that reads itself all days after them, for one by
    week whole weeks."""
    if target.window is None:
        return {ALWAYS} if verdict.blocked else set()
    blocked = set(verdict.blocked_days)
    days = target.window.days
    if table.grid == "week":
        weeks = {week_of(day) for day in blocked}
        blocked = {day for day in days if week_of(day) in weeks}
    own = {**table.inputs, **table.weekly}
    if blocked and table.contract.table in own:
        blocked |= {day for day in days if day > min(blocked)}
    return blocked


def _causes(
    connection: duckdb.DuckDBPyConnection, blocked: Collection[date], target: Slice
) -> dict[date, str | Reason]:
    """Of each blocked day what is wrong with it, or which blocked day it waits for."""
    causes: dict[date, str | Reason] = {}
    last = None
    for day in sorted(blocked):
        place = _place(target, day)
        cause = cause_of(connection, *place)
        if cause is not None:
            last = Reason(place, cause)
        causes[day] = cause or last or Reason(place)
    return causes


def _place(target: Slice, day: date) -> Place:
    return Place(target.contract.table, day, target.parts[0] if target.parts else "")
