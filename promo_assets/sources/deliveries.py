"""What was delivered for each day when it was taken in, and what is delivered now.

A source gives a fingerprint of each day (`Source.fingerprints`); a run that takes the day in notes
it. Here: the notes and the comparison. Not here: the rebuild (``orchestration/late.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb

from promo_assets.contract.days import Window
from promo_assets.sources import Delivery, Source, open_source
from promo_assets.warehouse.connection import Warehouse
from promo_assets.warehouse.publish import prepare

RAW = "raw.events"

RECORD = """
insert or replace into audit.deliveries
select unnest($days), unnest($fingerprints), $run, cast(current_timestamp as timestamp)
"""
TAKEN_IN = """
with attempts as (
    -- Runs that ended neither with rows nor with a red gate were killed: they took in nothing.
    select deliveries.day, deliveries.fingerprint, deliveries.delivered_at
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
)
select day, arg_max(fingerprint, delivered_at) from attempts group by day
"""
PUBLISHED = "select min(day), max(day) from audit.publications where table_name = $table"


@dataclass(frozen=True)
class Late:
    """The late days, in order, and the window to rebuild: from the first one to the last day that
    is published."""

    days: tuple[date, ...]
    window: Window

    @property
    def told(self) -> str:
        """In one line."""
        shown = ", ".join(str(day) for day in self.days[:5])
        more = f" and {len(self.days) - 5} more" if len(self.days) > 5 else ""
        return f"{len(self.days)} late day(s): {shown}{more}; to rebuild: {self.window}"


def record(
    connection: duckdb.DuckDBPyConnection,
    window: Window,
    fingerprints: Mapping[date, str],
    run_id: str,
) -> None:
    """Note what is delivered for each day of ``window`` as the run takes it in."""
    told = [fingerprints.get(day, "") for day in window.days]
    connection.execute(RECORD, {"days": list(window.days), "fingerprints": told, "run": run_id})


def late_days(
    connection: duckdb.DuckDBPyConnection, source: Source, watched_days: int | None
) -> Late | None:
    """The published days that are delivered differently now than when they were taken in.

    Looks at the ``watched_days`` days before the newest published one, or at all. A day that a gate
    held back is not asked for again until its delivery changes.
    """
    prepare(connection)
    bounds = connection.execute(PUBLISHED, {"table": RAW}).fetchone()
    if bounds is None or bounds[0] is None:
        return None
    first, last = bounds
    if watched_days is not None:
        first = max(first, last - timedelta(days=watched_days))
    window = Window(first, last + timedelta(days=1))
    taken = dict(
        connection.execute(
            TAKEN_IN, {"table": RAW, "start": window.start, "end": window.end}
        ).fetchall()
    )
    now = source.fingerprints(window, connection)
    days = tuple(day for day in window.days if day in taken and now.get(day, "") != taken[day])
    return Late(days, Window(days[0], window.end)) if days else None


def look(warehouse: Warehouse, delivery: Delivery, watched_days: int | None) -> Late | None:
    """`late_days` of a warehouse and what is delivered to it."""
    with warehouse.get_connection() as connection:
        return late_days(connection, open_source(delivery), watched_days)
