"""What an audit found: one finding an expectation, and what follows for each day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

SHOWN_DAYS = 3


@dataclass(frozen=True)
class Finding:
    """One expectation's result.

    ``rows`` are the offending rows, ``days`` the days that they lie on: all days of the slice
    where a failure can't be attributed, none for a table without window. ``examples`` hold at
    most five of them, as JSON-safe mappings.
    """

    expectation: str
    severity: str
    passed: bool
    rows: int = 0
    days: tuple[date, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    observed: str = ""
    definition: str = ""


@dataclass(frozen=True)
class Verdict:
    """The findings of one slice. A critical one blocks its days, a warning only tells."""

    table: str
    findings: tuple[Finding, ...]
    seconds: float
    rows: int

    @property
    def failed(self) -> tuple[Finding, ...]:
        """What failed, critical findings first."""
        failed = [finding for finding in self.findings if not finding.passed]
        return tuple(sorted(failed, key=lambda finding: finding.severity))

    @property
    def blocked(self) -> bool:
        return any(finding.severity == "critical" for finding in self.failed)

    @property
    def warned(self) -> bool:
        return any(finding.severity != "critical" for finding in self.failed)

    @property
    def blocked_days(self) -> frozenset[date]:
        return frozenset(
            day for finding in self.failed if finding.severity == "critical" for day in finding.days
        )

    def summary(self) -> str:
        """One line: how many expectations passed, and each that did not."""
        passed = len(self.findings) - len(self.failed)
        told = [f"{passed} of {len(self.findings)} expectations met"]
        told += [
            f"{finding.expectation} ({finding.severity}) on {finding.rows:,} rows"
            f"{_days(finding.days)}: {finding.observed}"
            for finding in self.failed
        ]
        return "; ".join(told)

    def to_markdown(self) -> str:
        """The findings as a table for the Dagster UI, failed ones first, then examples."""
        passed = [finding for finding in self.findings if finding.passed]
        lines = ["| | expectation | severity | rows | days | meaning |", "|---|---|---|---|---|---|"]
        for finding in (*self.failed, *passed):
            mark = "ok" if finding.passed else "**failed**"
            cells = (
                mark,
                finding.expectation,
                finding.severity,
                f"{finding.rows:,}",
                _days(finding.days).strip(),
                finding.definition,
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        for finding in self.failed:
            lines += ["", f"`{finding.expectation}`: {finding.observed}"]
            lines += [f"- `{dict(example)}`" for example in finding.examples]
        return "\n".join(lines)


def _days(days: tuple[date, ...]) -> str:
    if not days:
        return ""
    shown = ", ".join(map(str, days[:SHOWN_DAYS]))
    more = len(days) - SHOWN_DAYS
    return f" on {shown}{f' and {more} more days' if more > 0 else ''}"
