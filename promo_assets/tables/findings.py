"""What a gate found, as ``audit.findings`` keeps it: a row an expectation, day and segment.

Here: the rows, which the next write of the same day and segment replaces. Not here: how a slice is
audited (``gates/``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from promo_assets.contract.tables import TableContract
from promo_assets.warehouse.publish import ALWAYS, Slice

if TYPE_CHECKING:
    from promo_assets.gates.verdict import Finding, Verdict

MADE = "can_be_made"
"""The expectation that fails where no row could be produced or staged."""
FILES_ARE_READ = "files_are_read"
"""The expectation that fails once a file that can't be read."""
COLUMNS = (
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
)
BEFORE = """
select day, part, expectation, row_count from audit.findings
where table_name = $table and list_contains($days, day) and list_contains($parts, part)
    and not passed
"""
REPLACED = """
delete from audit.findings
where table_name = $table and list_contains($days, day) and list_contains($parts, part)
"""


class New(NamedTuple):
    """What failed on a day, and did not so when the day was written before."""

    day: date
    part: str
    expectation: str
    severity: str
    rows: int | None
    observed: str


def record(
    connection: duckdb.DuckDBPyConnection,
    verdict: Verdict,
    target: Slice,
    days: Collection[date],
    run_id: str,
) -> list[New]:
    """Keep the verdict on the ``days`` of the slice that could be judged, in place of what was
    found on them before, in one transaction; return what is new.

    ``row_count`` is the offending rows of the day; null where they can't be attributed to it, or
    to one of several segments.
    """
    import polars as pl

    at = datetime.now(UTC).replace(tzinfo=None)
    judged = sorted(days) if target.window else [ALWAYS]
    parts = target.parts or ("",)
    told = {"table": target.contract.table, "days": judged, "parts": [*parts]}
    before = set(connection.execute(BEFORE, told).fetchall())
    rows = []
    news = []
    for finding in verdict.findings:
        failed = _failed_days(finding, judged)
        for day in judged:
            passed = day not in failed
            count = 0 if passed else rows_on(finding, day) if len(parts) == 1 else None
            observed = "as expected" if passed else finding.observed
            what = (finding.expectation, finding.severity, passed, count, observed, run_id, at)
            rows += [(target.contract.table, day, part, *what) for part in parts]
            news += [
                New(day, part, finding.expectation, finding.severity, count, observed)
                for part in parts
                if not passed and (day, part, finding.expectation, count) not in before
            ]
    # Counts may be null for a hundred days before the first one that is not.
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row", infer_schema_length=None)
    connection.register("found", frame.to_arrow())
    connection.execute("begin")
    connection.execute(REPLACED, told)
    if rows:
        connection.execute("insert into audit.findings by name select * from found")
    connection.execute("commit")
    connection.unregister("found")
    return news


def rows_on(finding: Finding, day: date) -> int | None:
    """The finding's offending rows on a day; the day of a table without partitions has all."""
    return finding.rows if day == ALWAYS else finding.rows_by_day.get(day)


def unmade(contract: TableContract, message: str, days: Collection[date]) -> Verdict:
    """The verdict on a slice that could not be made: it fails on all days."""
    from promo_assets.gates.verdict import Finding, Verdict

    told = " ".join(message.split())
    finding = Finding(MADE, "critical", False, 0, tuple(sorted(days)), (), told, "")
    return Verdict(contract.table, (finding,), 0.0, 0)


def merged(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdicts on several slices of one table as one."""
    from promo_assets.gates.verdict import Verdict

    first = verdicts[0]
    found: dict[tuple[str, str], list[Finding]] = {}
    for verdict in verdicts:
        for finding in verdict.findings:
            # A file that can't be read is a finding of its own, a rule is one for all slices.
            told = finding.observed if finding.expectation == FILES_ARE_READ else ""
            found.setdefault((finding.expectation, told), []).append(finding)
    return Verdict(
        first.table,
        tuple(_merged(findings) for findings in found.values()),
        sum(verdict.seconds for verdict in verdicts),
        sum(verdict.rows for verdict in verdicts),
    )


def _merged(findings: Sequence[Finding]) -> Finding:
    """One expectation's findings on several slices, as the first failed one tells them."""
    failed = [finding for finding in findings if not finding.passed]
    if not failed:
        return findings[0]
    worst = next((one for one in failed if one.severity == "critical"), failed[0])
    return replace(
        worst,
        rows=sum(finding.rows for finding in failed),
        days=tuple(chain.from_iterable(finding.days for finding in failed)),
        rows_by_day={day: n for finding in failed for day, n in finding.rows_by_day.items()},
    )


def _failed_days(finding: Finding, judged: Sequence[date]) -> Collection[date]:
    if finding.passed:
        return ()
    return finding.days or judged
