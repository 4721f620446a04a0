"""What a gate found: one finding an expectation, and the verdict on a slice. Pure values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from promo_assets.contract.tables import Severity

EXAMPLES = 5
"""Offending rows that a finding shows: enough to recognise a cause, few enough to read."""


@dataclass(frozen=True)
class Finding:
    """One expectation's result on one slice.

    ``rows`` counts offending rows, 0 when passed or when a statistic of the whole slice failed.
    ``days`` are the days of the offending rows; all days of the slice when a failure can't be
    attributed to some; empty for tables without a window. ``examples`` hold up to `EXAMPLES`
    offending rows, safe for JSON. ``rows_by_day`` adds up to ``rows``; it is empty where rows
    can't be attributed.
    """

    expectation: str
    severity: Severity
    passed: bool
    rows: int
    days: tuple[date, ...]
    examples: tuple[dict[str, Any], ...]
    observed: str
    definition: str
    rows_by_day: Mapping[date, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The findings on a slice of ``rows`` rows, and the ``seconds`` that they took."""

    table: str
    findings: tuple[Finding, ...]
    seconds: float
    rows: int

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that did not pass, critical ones first."""
        failures = (finding for finding in self.findings if not finding.passed)
        return tuple(sorted(failures, key=lambda finding: finding.severity))

    @property
    def blocked(self) -> bool:
        """Whether a critical expectation failed."""
        return any(finding.severity == "critical" for finding in self.failed)

    @property
    def warned(self) -> bool:
        """Whether a warning expectation failed."""
        return any(finding.severity == "warning" for finding in self.failed)

    @property
    def blocked_days(self) -> frozenset[date]:
        """The days that must not be published; empty for tables without a window."""
        return self._days("critical")

    @property
    def warned_days(self) -> frozenset[date]:
        """The days on which a warning expectation failed."""
        return self._days("warning")

    def _days(self, severity: Severity) -> frozenset[date]:
        return frozenset(
            day for finding in self.failed if finding.severity == severity for day in finding.days
        )

    def summary(self) -> str:
        """One line: how many expectations were met, and what failed."""
        met = len(self.findings) - len(self.failed)
        line = f"{met} of {len(self.findings)} expectations met on {self.rows:,} rows"
        failures = (
            f"{finding.expectation} ({finding.severity}): {finding.observed}"
            for finding in self.failed
        )
        return " ".join(" | ".join((line, *failures)).split())

    def to_markdown(self) -> str:
        """The findings as a Markdown table, failed ones first."""
        lines = [
            "| | expectation | severity | rows | days | observed | examples | definition |",
            "|---|---|---|---:|---|---|---|---|",
        ]
        passed = tuple(finding for finding in self.findings if finding.passed)
        for finding in (*self.failed, *passed):
            cells = (
                "✅" if finding.passed else "❌" if finding.severity == "critical" else "⚠️",
                finding.expectation,
                finding.severity,
                f"{finding.rows:,}",
                spans(finding.days),
                finding.observed,
                "; ".join(_row(example) for example in finding.examples),
                finding.definition,
            )
            lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
        return "\n".join(lines)


def spans(days: tuple[date, ...]) -> str:
    """Days in short: runs of consecutive days as ``first..last``, at most five of them."""
    runs: list[list[date]] = []
    for day in sorted(days):
        if runs and (day - runs[-1][-1]).days == 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs]
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def counted(rows: int) -> str:
    """``rows`` in words."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


def json_safe(value: Any) -> Any:
    """``value`` with everything that JSON does not know (dates, Decimals, NaN, …) as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_safe(item) for item in value]
    # NumPy's scalars (quantiles come as these) know their plain value; a Decimal's is its text.
    return json_safe(value.item()) if hasattr(value, "item") else str(value)


def _row(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
