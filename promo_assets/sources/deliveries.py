"""What was delivered for each day when it was taken in, and what is delivered now.

A source tells what it delivers for each day (`Source.delivered`); a run that takes the day in notes
it. Here: the notes, the comparison, and what people accepted. Not here: the rebuild
(``orchestration/late.py``), and the gate that keeps published rows
(``expectations/raw/events.yaml``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import duckdb

from promo_assets.contract.days import Window
from promo_assets.sources import DeliveredDay, Delivery, Source, SourceError, open_source
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import prepare

RAW = "raw.events"

RECORD = """
insert or replace into audit.deliveries by name
select unnest($days) as day, unnest($fingerprints) as fingerprint, unnest($rows) as row_count,
    unnest($skipped) as skipped, $run as run_id,
    cast(current_timestamp as timestamp) as delivered_at
"""
BALANCE = """
select cast(coalesce(sum(deliveries.row_count), 0) as bigint),
    cast(coalesce(sum(skipped), 0) as bigint)
from audit.deliveries
inner join audit.publications using (day, run_id)
where table_name = $table and day >= $start and day < $end
"""
SEEN = """
insert into audit.delivered_spans
select $first, $last, cast(current_timestamp as timestamp)
where not exists (
    select 1 from (from audit.delivered_spans order by seen_at desc limit 1)
    where first_day = $first and last_day = $last
)
"""
MOVED_ON = """
select day
from (select unnest($days) as day) as gone
where $last > (
    select arg_max(last_day, seen_at) from audit.delivered_spans where first_day <= gone.day
)
"""
TAKEN_IN = """
with attempts as (
    -- Runs that ended neither with rows nor with a red gate were killed: they took in nothing.
    -- A red gate's attempt that somebody accepted afterwards is to be made again.
    select deliveries.day, deliveries.fingerprint, deliveries.row_count, deliveries.delivered_at,
        publications.day is not null as published
    from audit.deliveries as deliveries
    left join audit.publications as publications
        on publications.table_name = $table and publications.day = deliveries.day
        and publications.run_id = deliveries.run_id
    left join (
        select distinct day, run_id from audit.findings
        where table_name = $table and severity = 'critical' and not passed
    ) as blocked on blocked.day = deliveries.day and blocked.run_id = deliveries.run_id
    where deliveries.day >= $start and deliveries.day < $end
        and (publications.day is not null or blocked.day is not null)
        and (publications.day is not null or not exists (
            select 1 from audit.accepted as accepted
            where accepted.day = deliveries.day and accepted.fingerprint = deliveries.fingerprint
                and accepted.accepted_at >= deliveries.delivered_at
        ))
)
select day, arg_max(fingerprint, delivered_at),
    arg_max(fingerprint, delivered_at) filter (published),
    arg_max(row_count, delivered_at) filter (published)
from attempts group by day
"""
ACCEPTED = """
select unnest($days) as day, unnest($fingerprints) as fingerprint
intersect
select day, fingerprint from audit.accepted
"""
ACCEPT = """
insert into audit.accepted by name
select $day as day, $fingerprint as fingerprint, $before as rows_before, $now as rows_now,
    $files as files, cast(current_timestamp as timestamp) as accepted_at
"""
FILES = """
select event_date, source_file, count(*) from raw.events
where list_contains($days, event_date) group by all
"""
PUBLISHED = "select min(day), max(day) from audit.publications where table_name = $table"


@dataclass(frozen=True)
class _Taken:
    """A day as it was taken in: the newest attempt, and the one that is published (None where a
    killed run's note is all there is)."""

    fingerprint: str
    published: str | None
    rows: int | None


@dataclass(frozen=True)
class Late:
    """Published days that are delivered differently now: ``days``, in order, are to be taken in
    again; ``lost`` says of each day that has fewer rows than are published which files they were
    in. ``last`` is the last published day."""

    days: tuple[date, ...]
    last: date
    lost: Mapping[date, str] = field(default_factory=dict)

    @property
    def window(self) -> Window | None:
        """What to rebuild: from the first of the days to the last one that is published."""
        return Window(self.days[0], self.last + timedelta(days=1)) if self.days else None

    @property
    def told(self) -> str:
        """In one line."""
        parts = []
        if self.days:
            parts.append(
                f"{len(self.days)} late day(s): {_some(map(str, self.days))}; to rebuild: "
                f"{self.window}"
            )
        if self.lost:
            told = _some(f"{day} ({files})" for day, files in self.lost.items())
            parts.append(
                f"{len(self.lost)} day(s) are delivered with fewer rows than are published: "
                f"{told}. What is published stays: deliver the rows again, or let them go with "
                f"`promo accept {' '.join(str(day) for day in [*self.lost][:SHOWN])}`"
            )
        return "; ".join(parts)


SHOWN = 5
"""Days and files that a line names."""


def record(
    connection: duckdb.DuckDBPyConnection,
    window: Window,
    delivered: Mapping[date, DeliveredDay],
    run_id: str,
) -> None:
    """Note what is delivered for each day of ``window`` as the run takes it in."""
    told = [delivered.get(day, NOTHING) for day in window.days]
    connection.execute(
        RECORD,
        {
            "days": list(window.days),
            "fingerprints": [one.fingerprint for one in told],
            "rows": [one.rows for one in told],
            "skipped": [one.skipped for one in told],
            "run": run_id,
        },
    )


def balance(connection: duckdb.DuckDBPyConnection, window: Window) -> dict[str, int]:
    """Of the published days of ``window`` the rows that were delivered as events, and those that
    the mapping skipped beside them."""
    told = {"table": RAW, "start": window.start, "end": window.end}
    rows, skipped = connection.execute(BALANCE, told).fetchall()[0]
    return {"rows_delivered": rows, "rows_skipped": skipped}


NOTHING = DeliveredDay("", {})
"""What is delivered for a day without rows."""


def retained(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    delivered: Mapping[date, DeliveredDay],
    window: Window,
) -> dict[date, DeliveredDay]:
    """The published days of ``window`` that the source keeps no longer, as they were taken in:
    its oldest days go when newer ones come. Whole days before all that it delivers, gone since
    its last day moved on.

    A day that went while nothing came, one in the middle, and everything at once are no such
    days: these were lost. What somebody accepted (`accept`) is wanted as it is delivered.
    """
    span = source.span(connection)
    if span is None:
        return {}
    last = span.end - timedelta(days=1)
    connection.execute(SEEN, {"first": span.start, "last": last})
    gone = {
        day: DeliveredDay(one.published, {"": one.rows or 0})
        for day, one in _taken(connection, window).items()
        if one.published and day not in delivered and day < span.start
    }
    if not gone:
        return {}
    moved = connection.execute(MOVED_ON, {"days": list(gone), "last": last}).fetchall()
    wanted = _accepted(connection, delivered, list(gone))
    return {day: gone[day] for (day,) in moved if day not in wanted}


def late_days(
    connection: duckdb.DuckDBPyConnection, source: Source, watched_days: int | None
) -> Late | None:
    """The published days that are delivered differently now than when they were taken in.

    Looks at the ``watched_days`` days before the newest published one, or at all. A day that a gate
    held back is not asked for again until its delivery changes, or is accepted.
    """
    prepare(connection)
    bounds = connection.execute(PUBLISHED, {"table": RAW}).fetchone()
    if bounds is None or bounds[0] is None:
        return None
    first, last = bounds
    if watched_days is not None:
        first = max(first, last - timedelta(days=watched_days))
    window = Window(first, last + timedelta(days=1))
    now = source.delivered(window, connection)
    taken = _taken(connection, window)
    kept = retained(connection, source, now, window)
    watched = [day for day in taken if day not in kept]
    days = tuple(
        day for day in watched if now.get(day, NOTHING).fingerprint != taken[day].fingerprint
    )
    fewer = [
        day
        for day in watched
        if now.get(day, NOTHING).fingerprint != taken[day].published
        and (now.get(day, NOTHING).rows < (taken[day].rows or 0) or day not in days)
    ]
    lost = _lost(connection, now, fewer)
    return Late(days, last, lost) if days or lost else None


def _taken(connection: duckdb.DuckDBPyConnection, window: Window) -> dict[date, _Taken]:
    rows = connection.execute(
        TAKEN_IN, {"table": RAW, "start": window.start, "end": window.end}
    ).fetchall()
    return {day: _Taken(*told) for day, *told in sorted(rows)}


def _lost(
    connection: duckdb.DuckDBPyConnection,
    delivered: Mapping[date, DeliveredDay],
    days: Sequence[date],
) -> dict[date, str]:
    """Of each day, as far as it has any, the files with fewer rows than are published."""
    published: dict[date, dict[str, int]] = {}
    if days:
        for day, file, count in connection.execute(FILES, {"days": list(days)}).fetchall():
            published.setdefault(day, {})[file] = count
    accepted = _accepted(connection, delivered, days)
    told = {
        day: _some(
            f"{file}: {count:,} rows before, {now:,} now"
            for file, count in sorted(published.get(day, {}).items())
            if (now := delivered.get(day, NOTHING).files.get(file, 0)) < count
        )
        for day in days
        if day not in accepted
    }
    return {day: files for day, files in told.items() if files}


def _accepted(
    connection: duckdb.DuckDBPyConnection,
    delivered: Mapping[date, DeliveredDay],
    days: Sequence[date],
) -> set[date]:
    told = {
        "days": list(days),
        "fingerprints": [delivered.get(day, NOTHING).fingerprint for day in days],
    }
    return {day for day, _ in connection.execute(ACCEPTED, told).fetchall()} if days else set()


@dataclass(frozen=True)
class Acceptance:
    """A day whose published rows may go: rows published and delivered, and the files in which
    there are fewer."""

    day: date
    before: int
    now: int
    files: str


def accept(
    connection: duckdb.DuckDBPyConnection, source: Source, days: Sequence[date]
) -> list[Acceptance]:
    """Let the published rows of ``days`` go for what is delivered of them now, and for nothing
    else: a delivery that shrinks further needs another acceptance.

    Raises `SourceError` for a day that has no published rows; then none is accepted.
    """
    prepare(connection)
    window = Window.of(days)
    now = source.delivered(window, connection)
    published = {
        day: rows
        for day, rows in connection.execute(
            "select day, row_count from audit.publications where table_name = $table and part = ''"
            " and list_contains($days, day)",
            {"table": RAW, "days": list(days)},
        ).fetchall()
        if rows
    }
    if missing := [day for day in days if day not in published]:
        raise SourceError(f"{RAW} of {_some(map(str, missing))} has no published rows to let go")
    lost = _lost(connection, now, days)
    found = []
    for day in sorted(set(days)):
        delivered = now.get(day, NOTHING)
        one = Acceptance(day, published[day], delivered.rows, lost.get(day, ""))
        connection.execute(ACCEPT, vars(one) | {"fingerprint": delivered.fingerprint})
        found.append(one)
    return found


def look(warehouse: Warehouse, delivery: Delivery, watched_days: int | None) -> Late | None:
    """`late_days` of a warehouse and what is delivered to it."""
    with warehouse.get_connection() as connection:
        return late_days(connection, open_source(delivery), watched_days)


def _some(told: Iterable[str]) -> str:
    names = list(told)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
