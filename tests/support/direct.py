"""A table's rules run on a plain DuckDB connection: what a gate would find, without its machinery.

The rules of the same suite that `audit.Auditor` runs, in milliseconds and without Great
Expectations. Only rules that are selects are run; those of ``raw`` and ``core`` all are, but for
two on sets of values that the platform itself makes.
"""

from __future__ import annotations

from datetime import date, timedelta

import duckdb

from promo_assets.contract.tables import TableContract
from promo_assets.gates.engine import summary_query
from promo_assets.gates.suites import Rule, quoted, select_of_days, suite_of
from promo_assets.gates.verdict import Finding, json_safe


def findings(
    connection: duckdb.DuckDBPyConnection,
    contract: TableContract,
    staged: str,
    window: tuple[date, date] | None,
) -> tuple[Finding, ...]:
    """What the rules of ``contract`` find in the table or view ``staged`` (``schema.table``), which
    holds the days from the first of ``window`` to before the second.

    ``connection`` must have every table that the rules read (`TableContract.audited_against`), the
    published table itself, with the rows of earlier days, and the tables of `prepare`
    (``warehouse/publish.py``). Findings are in the suite's order,
    those that passed included. Raises `duckdb.Error` where a rule can't be run.
    """
    rules = (rule for rule in suite_of(contract) if rule.query)
    return tuple(_finding(connection, rule, staged, window) for rule in rules)


def _finding(
    connection: duckdb.DuckDBPyConnection,
    rule: Rule,
    staged: str,
    window: tuple[date, date] | None,
) -> Finding:
    query = rule.query.replace("{batch}", "staged_rows").replace("{window}", "staged_days")
    found = connection.execute(
        summary_query(query, select_of_days(window), quoted(staged), dated=rule.dated)
    ).fetchone()
    if found is None:
        return Finding(rule.title, rule.severity, True, 0, (), (), "as expected", rule.definition)
    rows, by_day, examples = found
    days = dict(sorted(by_day.items()))
    if window and sum(days.values()) != rows:
        days = {}
    all_days = _days(window) if window else ()
    return Finding(
        rule.title,
        rule.severity,
        False,
        rows,
        tuple(days) or all_days,
        tuple(json_safe(examples)),
        "1 row" if rows == 1 else f"{rows:,} rows",
        rule.definition,
        days,
    )


def _days(window: tuple[date, date]) -> tuple[date, ...]:
    start, end = window
    return tuple(start + timedelta(days=offset) for offset in range((end - start).days))
