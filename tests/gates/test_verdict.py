"""A verdict follows from its findings, and reads well."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from promo_assets.contract.tables import Severity
from promo_assets.gates.verdict import Finding, Verdict, json_safe, spans

MONDAY, TUESDAY, THURSDAY = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 4)


def found(severity: Severity, *days: date, passed: bool = False) -> Finding:
    return Finding(f"{severity} one", severity, passed, len(days), days, (), "seen", "meant")


def test_critical_findings_block_and_warnings_warn() -> None:
    findings = (found("warning", MONDAY), found("critical", TUESDAY, THURSDAY))
    verdict = Verdict("core.things", findings, 0.1, 9)
    assert (verdict.blocked, verdict.warned) == (True, True)
    assert verdict.blocked_days == {TUESDAY, THURSDAY}
    assert verdict.warned_days == {MONDAY}


def test_what_passed_neither_blocks_nor_warns() -> None:
    verdict = Verdict("core.things", (found("critical", MONDAY, passed=True),), 0.1, 9)
    assert not verdict.blocked
    assert not verdict.blocked_days


def test_the_summary_is_one_line_with_critical_failures_first() -> None:
    findings = (found("warning", MONDAY), found("critical", MONDAY))
    assert Verdict("core.things", findings, 0.1, 1234).summary() == (
        "0 of 2 expectations met on 1,234 rows"
        " | critical one (critical): seen | warning one (warning): seen"
    )


def test_consecutive_days_are_told_as_a_span() -> None:
    assert spans((THURSDAY, MONDAY, TUESDAY)) == "2024-01-01..2024-01-02, 2024-01-04"


def test_what_json_does_not_know_becomes_text() -> None:
    row = {"at": datetime(2024, 1, 1, tzinfo=UTC), "price": Decimal("1.10"), "share": float("nan")}
    assert json_safe(row | {"list": (MONDAY, None, True)}) == {
        "at": "2024-01-01 00:00:00+00:00",
        "price": "1.10",
        "share": "nan",
        "list": ["2024-01-01", None, True],
    }
