"""What a gate found for the first time, as people are told: in the log and to the webhook.

A finding is told once: not again by a later run that finds the same on the same day. Not here: runs
that fail for another reason (``automation.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from promo_assets.gates.verdict import spans
from promo_assets.tables.findings import New
from promo_assets.tables.table import Table
from promo_assets.tables.writing import Written
from promo_assets.warehouse.publish import ALWAYS


def followers(table: str, tables: Mapping[str, Table]) -> list[str]:
    """Every table that is made of ``table``, directly or not."""
    found: list[str] = []
    behind = [table]
    while behind:
        name = behind.pop()
        for reader, one in tables.items():
            reads = {*one.inputs, *one.whole, *one.weekly, *one.segmented}
            if name in reads and reader not in (table, *found):
                found.append(reader)
                behind.append(reader)
    return sorted(found)


def message(table: Table, written: Written, tables: Mapping[str, Table]) -> str:
    """What is new: which table and days, each expectation with its rows, what waits now and what
    to do; '' where nothing is."""
    if not written.news:
        return ""
    name = table.contract.table
    critical = any(news.severity == "critical" for news in written.news)
    days = sorted({news.day for news in written.news})
    state = "is held back by its gate" if critical else "is published with a warning"
    cause = next(iter(written.blocked.values()), "") if critical else ""
    lines = [f"{name}{_of(days)} {state}{f': {cause}' if cause else ''}."]
    groups: dict[tuple[str, str, str], list[New]] = {}
    for news in written.news:
        groups.setdefault((news.expectation, news.severity, news.observed), []).append(news)
    for (expectation, severity, observed), group in groups.items():
        rows = {news.day: news.rows for news in group if news.rows}
        counted = f", {sum(rows.values()):,} row(s)" if rows else ""
        found = sorted({news.day for news in group})
        lines.append(f"- {expectation} ({severity}){_of(found)}{counted}: {observed}")
    if critical:
        waits = followers(name, tables)
        if waits:
            lines.append(f"Now waiting from {days[0]} on: {', '.join(waits)}.")
        lines.append(
            f"What was published before is unchanged; the rows are in {written.target.staged}. "
            f"Mend the cause, then `promo run --from {_first(days)} --to DAY`, the newest day."
        )
    return "\n".join(lines)


def _of(days: Sequence[date]) -> str:
    return "" if days == [ALWAYS] else f" of {spans(tuple(days))}"


def _first(days: Sequence[date]) -> str:
    return "DAY" if days == [ALWAYS] else str(days[0])
