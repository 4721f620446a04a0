"""The audit of a staged slice: run its suite inside DuckDB, and say what failed, where and when.

Nothing passes silently: an exception while evaluating and a missing result are failed critical
findings on all days. What is said of rows holds for a slice without rows; a statistic of none
(a mean, a row count) has no value or 0, and is judged as such.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb

from promo_assets.contract.tables import TableContract
from promo_assets.gates.data_docs import DataDocs
from promo_assets.gates.engine import (
    RULE,
    Engine,
    check_rules,
    error_of,
    rule_expectation,
    summary_query,
)
from promo_assets.gates.suites import Rule, own_columns, quoted, select_of_days, suite_of
from promo_assets.gates.verdict import Finding, Verdict, counted, json_safe
from promo_assets.warehouse.connection import Warehouse

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.datasource.fluent.interfaces import Batch

Result: TypeAlias = "ExpectationValidationResult | str"
"""What Great Expectations returned for a rule, or the message of why it returned nothing."""

__all__ = ["Auditor", "Finding", "Verdict"]


@dataclass(frozen=True)
class _Slice:
    """What one audit looks at: a staged table of ``rows`` rows that covers a window or, without
    one, replaces the whole table."""

    contract: TableContract
    staged: str
    window: tuple[date, date] | None
    rows: int

    @property
    def days(self) -> tuple[date, ...]:
        if self.window is None:
            return ()
        start, end = self.window
        return tuple(start + timedelta(days=offset) for offset in range((end - start).days))

    @property
    def select_days(self) -> str:
        """A select of the slice's days, as column ``day``."""
        return select_of_days(self.window)

    def attributed(self, rows: int, by_day: Mapping[date, int]) -> dict[date, int]:
        """``by_day`` in order, or nothing where some rows lack a day or have one of another
        slice."""
        if sum(by_day.values()) != rows or not by_day.keys() <= set(self.days):
            return {}
        return dict(sorted(by_day.items()))


class Auditor:
    """Audits staged slices of one warehouse; one a process, because Great Expectations takes
    seconds to set up.

    Results are kept under ``docs_dir`` for `build_docs`; None keeps none.
    """

    def __init__(self, warehouse: Warehouse, docs_dir: Path | None) -> None:
        self._warehouse = warehouse
        self._docs = DataDocs(docs_dir) if docs_dir else None
        self._engine = Engine(self._another, self._docs.config if self._docs else {})
        self._suites: dict[str, tuple[TableContract, tuple[Rule, ...]]] = {}
        self._connection: duckdb.DuckDBPyConnection | None = None

    def audit(
        self, contract: TableContract, staged: str, window: tuple[date, date] | None
    ) -> Verdict:
        """The verdict on the staged table ``staged`` (``schema.table``) of ``window``.

        Holds no connection afterwards. Raises `ContractError` when the suite can't be built,
        `WarehouseError` when the file can't be opened, and `ValueError` when ``window`` is given
        to a table without a window column or the other way round.
        """
        if (window is None) != (contract.window is None):
            raise ValueError(
                f"{contract.table}: window column {contract.window}, but the slice's window is "
                f"{window}; both or neither"
            )
        started = time.perf_counter()
        rules = self._suite(contract)
        with self._warehouse.get_connection() as connection:
            self._connection = connection
            try:
                counted = connection.execute(f"select count(*) from {quoted(staged)}").fetchone()
                target = _Slice(contract, staged, window, counted[0] if counted else 0)
                findings = self._findings(target, rules)
            finally:
                self._connection = None
        return Verdict(contract.table, findings, time.perf_counter() - started, target.rows)

    def build_docs(self) -> Path | None:
        """Render the kept results as a static site and return its index page, if there is one."""
        return self._docs.build(self._engine.context) if self._docs else None

    def close(self) -> None:
        """Forget the suites and the context; the next audit sets them up again."""
        self._suites.clear()
        self._engine = Engine(self._another, self._docs.config if self._docs else {})

    def _another(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the database that the running audit holds open."""
        if self._connection is None:
            raise RuntimeError("no audit is running: connections exist only inside audit()")
        cursor = self._connection.cursor()
        cursor.execute("set TimeZone = 'UTC'")
        return cursor

    def _suite(self, contract: TableContract) -> tuple[Rule, ...]:
        known = self._suites.get(contract.table)
        if known is None or known[0] != contract:
            rules = suite_of(contract)
            check_rules(contract, rules)
            known = self._suites[contract.table] = (contract, rules)
        return known[1]

    def _findings(self, target: _Slice, rules: tuple[Rule, ...]) -> tuple[Finding, ...]:
        assert self._connection is not None
        with self._engine.batch(target.staged) as batch:
            results = _validate(batch, target, rules)
        if self._docs:
            self._docs.keep(
                self._engine.context,
                target.contract.table,
                target.staged,
                [result for result in results.values() if not isinstance(result, str)],
                of=len(rules),
            )
        return tuple(
            _finding(self._connection, target, rule, results.get(position, "no result"))
            for position, rule in enumerate(rules)
        )


def _validate(batch: Batch, target: _Slice, rules: tuple[Rule, ...]) -> dict[int, Result]:
    """The results by position of their rule; a rule without a result is not in it."""
    expectations = {
        position: rule_expectation(target.contract, rule, position, target.select_days)
        for position, rule in enumerate(rules)
    }
    queries = [expectations[position] for position, rule in enumerate(rules) if rule.query]
    others = [expectations[position] for position, rule in enumerate(rules) if not rule.query]
    results = _run(batch, queries, {"result_format": "BASIC"})
    # BOOLEAN_ONLY takes all of them in one or two scans; details cost a query each, so only
    # failures get them. One at a time: an error in a shared scan fails its neighbours too.
    results |= _run(batch, others, {"result_format": "BOOLEAN_ONLY"})
    for position, rule in enumerate(rules):
        result = results.get(position)
        if not rule.query and (isinstance(result, str) or (result and not result.success)):
            results |= _run(batch, [expectations[position]], _details(target, rule))
    return results


def _details(target: _Slice, rule: Rule) -> dict[str, Any]:
    """Details with the query of the offending rows, which adds the rule's own columns itself."""
    contract = target.contract
    own = own_columns(rule.arguments)
    names = dict.fromkeys((*filter(None, (contract.window,)), *contract.grain))
    return {
        "result_format": "BASIC",
        "return_unexpected_index_query": True,
        "unexpected_index_column_names": [name for name in names if name not in own],
    }


def _run(batch: Batch, expectations: list[Any], result_format: dict[str, Any]) -> dict[int, Result]:
    from great_expectations import ExpectationSuite

    if not expectations:
        return {}
    suite = ExpectationSuite(name="slice", expectations=expectations)
    try:
        found = batch.validate(suite, result_format=result_format).results
    except Exception as error:  # whatever it is, it must fail the rules, not pass them by
        return {expectation.meta[RULE]: str(error) for expectation in expectations}
    results: dict[int, Result] = {}
    for result in found:
        # Quantiles come with NumPy's booleans, which neither `is True` nor JSON knows.
        result.success, result.result = bool(result.success), json_safe(result.result)
        if result.expectation_config and result.expectation_config.meta:
            results[result.expectation_config.meta[RULE]] = result
    return results


def _finding(
    connection: duckdb.DuckDBPyConnection,
    target: _Slice,
    rule: Rule,
    result: Result,
) -> Finding:
    error = result if isinstance(result, str) else error_of(result)
    if isinstance(result, str) or error:
        return _failed(target, rule, f"could not be evaluated: {error}", critical=True)
    if result.success:
        return Finding(rule.title, rule.severity, True, 0, (), (), "as expected", rule.definition)
    found = result.result
    if rule.query:
        days = {date.fromisoformat(day): n for day, n in found["details"]["days"].items()}
        rows, examples = found["observed_value"], found["details"]["unexpected_rows"]
        return _failed(target, rule, counted(rows), rows, days, examples)
    if "unexpected_count" in found:
        return _unexpected_values(connection, target, rule, found)
    return _failed(target, rule, f"observed {found.get('observed_value')}")


def _unexpected_values(
    connection: duckdb.DuckDBPyConnection, target: _Slice, rule: Rule, found: Mapping[str, Any]
) -> Finding:
    """The finding on a column's offending values, whose days are looked up by one query."""
    rows = found["unexpected_count"]
    values = ", ".join(str(value) for value in found["partial_unexpected_list"][:3])
    observed = f"{counted(rows)} of {found['element_count']:,}, such as {values}"
    query = str(found.get("unexpected_index_query") or "").rstrip("; \n")
    dated = target.contract.window is not None
    if target.contract.window is not None:
        window = quoted(target.contract.window)
        query = f"select {window} as day, * exclude ({window}) from ({query})"
    try:
        summary = connection.execute(
            summary_query(query, target.select_days, quoted(target.staged), dated=dated)
        ).fetchone()
    except duckdb.Error:
        return _failed(target, rule, observed, rows)
    if summary is None or summary[0] != rows:
        return _failed(target, rule, observed, rows)
    return _failed(target, rule, observed, rows, summary[1], json_safe(summary[2]))


def _failed(
    target: _Slice,
    rule: Rule,
    observed: str,
    rows: int = 0,
    days: Mapping[date, int] | None = None,
    examples: Sequence[dict[str, Any]] = (),
    *,
    critical: bool = False,
) -> Finding:
    """A failed finding; where rows can't be attributed to days it is on all days of the slice."""
    by_day = target.attributed(rows, days or {})
    return Finding(
        rule.title,
        "critical" if critical else rule.severity,
        False,
        rows,
        tuple(by_day) or target.days,
        tuple(examples),
        observed,
        rule.definition,
        by_day,
    )
