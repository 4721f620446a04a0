"""What was wrong with a day that a gate holds back, in a few words.

Here: the words. Not here: what waits for such a day (``waiting.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb

from promo_assets.contract.events import REASONS
from promo_assets.gates.verdict import counted

FINDINGS = """
select expectation, row_count, observed from audit.findings
where table_name = $table and day = $day and part = $part
    and severity = 'critical' and not passed
order by expectation
"""
HELD_BACK = """
select distinct table_name, day, part from audit.findings
where severity = 'critical' and not passed and ($runs is null or list_contains($runs, run_id))
order by day, table_name, part
"""
REJECTED = """
with reasoned as (
    select reason, {value} as value from core.rejected_events where event_date = $day
)
select reason, count(*) as n, mode(value), count(distinct value) from reasoned group by reason
order by reason in ('duplicate', 'before_partition'), n desc, reason
"""
DELIVERED = "select count(*) from raw.events where event_date = $day"
COLUMNS = {
    "event_time": "event_time",
    "event_type": "event_type",
    "quantity": "quantity",
    "price": "unit_price",
    "discount": "discount",
    "probability": "assignment_probability",
}
"""What a reason for rejection begins with, and the column of ``raw.events`` that it is about."""
REASONS_SHOWN = 2
FIRST = ("unknown", "unreadable", "missing", "negative")
"""The words that come first in English: an unknown event type."""


def held_back(
    connection: duckdb.DuckDBPyConnection, runs: Sequence[str] | None = None
) -> list[tuple[str, date, str]]:
    """Every table, day and part that a gate holds back, by day; of some runs, or of all."""
    return connection.execute(HELD_BACK, {"runs": runs}).fetchall()


def cause_of(connection: duckdb.DuckDBPyConnection, table: str, day: date, part: str) -> str | None:
    """Why the gate holds back a day of ``table``; None where it does not."""
    told = {"table": table, "day": day, "part": part}
    found = connection.execute(FINDINGS, told).fetchall()
    if not found:
        return None
    rejections = _rejections(connection, day) if table == "core.events" else ""
    others = [
        f"{name}: {observed if rows is None else counted(rows)}"
        for name, rows, observed in found
        if not (rejections and "reject" in name)
    ]
    return "; ".join([*filter(None, [rejections]), *others])


def _rejections(connection: duckdb.DuckDBPyConnection, day: date) -> str:
    """The reasons of the day's rejected rows, the most frequent first; '' where there is none."""
    whens = " ".join(
        f"when '{reason}' then {column}"
        for reason in REASONS
        for start, column in COLUMNS.items()
        if reason.startswith(start)
    )
    try:
        counts = connection.execute(
            REJECTED.format(value=f"case reason {whens} end"), {"day": day}
        ).fetchall()
        delivered = connection.execute(DELIVERED, {"day": day}).fetchall()[0][0]
    except duckdb.CatalogException:  # Nothing was rejected yet: there is no such table.
        return ""
    shown = [
        f"{rows:,} of {delivered:,} rows: {_words(reason)}{_quoted(value, values)}"
        for reason, rows, value, values in counts[:REASONS_SHOWN]
    ]
    more = sum(rows for _, rows, _, _ in counts[REASONS_SHOWN:])
    return ", ".join([*shown, *([f"{more:,} for other reasons"] if more else [])])


def _quoted(value: str | None, values: int) -> str:
    if value is None:
        return ""
    return f" {value!r}" if values == 1 else f", such as {value!r}"


def _words(reason: str) -> str:
    *subject, last = reason.split("_")
    return " ".join([last, *subject] if last in FIRST else [*subject, last])
