"""Run a suite on a staged slice: Great Expectations on DuckDB, by push-down.

One `Auditor` a process: setting up Great Expectations takes seconds, an audit much less.
"""

from __future__ import annotations

import difflib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promo_assets.contract.tables import ContractError, TableContract
from promo_assets.gates.data_docs import write_page
from promo_assets.gates.suites import Check, checks_of, window_sql
from promo_assets.gates.verdict import Finding, Verdict

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

EXAMPLES = 5
PLACE = "promo_staging"


class Auditor:
    """Audits slices of one DuckDB file. It holds no connection between two audits."""

    def __init__(
        self, database: Path, duckdb_config: Mapping[str, Any], docs_dir: Path | None
    ) -> None:
        """``duckdb_config`` must be that of every other connection of the process;
        ``docs_dir`` gets a Data Docs page for the last audit of each table, None = no pages."""
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from sqlalchemy.pool import NullPool

        for noisy in ("great_expectations", "great_expectations.expectations.expectation"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._docs_dir = docs_dir
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._source = self._context.data_sources.add_sql(
            PLACE,
            connection_string=f"duckdb:///{database}",
            kwargs={"connect_args": {"config": dict(duckdb_config)}, "poolclass": NullPool},
        )
        self._engine: Engine = self._source.get_execution_engine().engine
        _buffer_results(self._engine)

    def audit(
        self, contract: TableContract, staged: str, window: tuple[date, date] | None
    ) -> Verdict:
        """Run the contract's suite on the table ``staged`` (``schema.table``), which holds the
        days ``[start, end)`` of ``window``.

        Whatever goes wrong in an expectation is a failed critical finding, never a pass. Raises
        `ContractError` when the suite itself is wrong: an unknown expectation, argument or column.
        """
        began = time.perf_counter()
        schema, table = staged.split(".")
        checks = checks_of(contract)
        suite, bound = self._suite(contract, checks, window)
        asset = self._source.add_table_asset(table, table_name=table, schema_name=schema)
        try:
            batch = asset.add_batch_definition_whole_table("slice").get_batch()
            result = batch.validate(
                suite,
                result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES},
            )
            slice_days = _days_of(window)
            found = {item.expectation_config.meta["check"]: item for item in result.results}
            findings = tuple(
                self._finding(
                    contract, check, bound[number], staged, found.get(number), slice_days, batch
                )
                for number, check in enumerate(checks)
            )
            rows = self._rows(f"select count(*) as n from {staged}")[0]["n"]
            if self._docs_dir is not None:
                write_page(self._docs_dir, contract, result)
        finally:
            self._source.delete_asset(table)
            self._engine.dispose()
        return Verdict(contract.table, findings, time.perf_counter() - began, rows)

    def close(self) -> None:
        """Close what is still open; the auditor can't be used after it."""
        self._engine.dispose()

    def _suite(
        self, contract: TableContract, checks: Sequence[Check], window: tuple[date, date] | None
    ) -> tuple[Any, list[str]]:
        """The suite, and each check's query with its window (or '')."""
        import great_expectations as gx
        from great_expectations.expectations import UnexpectedRowsExpectation
        from great_expectations.expectations.registry import list_registered_expectation_implementations

        expectations: list[Any] = []
        bound = []
        for number, check in enumerate(checks):
            query = check.query.replace("{window}", window_sql(window)) if window else check.query
            bound.append(query)
            common = {"severity": check.severity, "meta": {"check": number, "name": check.name}}
            if query:
                expectations.append(
                    UnexpectedRowsExpectation(
                        unexpected_rows_query=query, description=check.definition, **common
                    )
                )
                continue
            known = list_registered_expectation_implementations()
            if check.type not in known:
                near = difflib.get_close_matches(check.type, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ContractError(
                    f"expectations/{contract.table.replace('.', '/')}.yaml: {check.type} is not "
                    f"an expectation{hint}"
                )
            expectations.append(_built(contract, check, common))
        return gx.ExpectationSuite(name=contract.table, expectations=expectations), bound

    def _finding(
        self,
        contract: TableContract,
        check: Check,
        query: str,
        staged: str,
        result: Any,
        slice_days: tuple[date, ...],
        batch: Any,
    ) -> Finding:
        common = {"expectation": check.name, "definition": check.definition}
        broken = _exception(result)
        if broken is not None:
            return Finding(
                severity="critical",
                passed=False,
                days=slice_days,
                observed=f"could not be evaluated: {broken}",
                **common,
            )
        if result.success:
            return Finding(severity=check.severity, passed=True, **common)
        if query:
            rows, days, examples = self._offending(query.replace("{batch}", staged), slice_days)
            observed = str(examples[0]) if examples else ""
        else:
            rows, days, examples, observed = _unexpected(contract, result, slice_days, batch)
        return Finding(
            severity=check.severity,
            passed=False,
            rows=rows,
            days=days,
            examples=tuple(examples),
            observed=observed,
            **common,
        )

    def _offending(
        self, query: str, slice_days: tuple[date, ...]
    ) -> tuple[int, tuple[date, ...], list[dict[str, Any]]]:
        """How many rows a failed audit returns, on which days, and the first of them."""
        examples = self._rows(f"select * from ({query}) as found limit {EXAMPLES}")
        if not slice_days:
            (counted,) = self._rows(f"select count(*) as n from ({query}) as found")
            return counted["n"], (), examples
        if not examples or "day" not in examples[0]:
            (counted,) = self._rows(f"select count(*) as n from ({query}) as found")
            return counted["n"], slice_days, examples
        by_day = self._rows(
            f"select cast(day as date) as day, count(*) as n from ({query}) as found group by 1"
        )
        found = {row["day"]: row["n"] for row in by_day}
        inside = tuple(day for day in slice_days if day in found)
        # Rows whose day is null or elsewhere can't be attributed: every day answers for them.
        days = inside if len(inside) == len(found) else slice_days
        return sum(found.values()), days, [_plain(example) for example in examples]

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.exec_driver_sql(sql).mappings()]


def _built(contract: TableContract, check: Check, common: dict[str, Any]) -> Any:
    from great_expectations.expectations.registry import get_expectation_impl

    where = f"expectations/{contract.table.replace('.', '/')}.yaml: {check.type}"
    column = check.arguments.get("column")
    if column is not None and column not in contract.columns:
        near = difflib.get_close_matches(column, contract.columns, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ContractError(f"{where}: there is no column {column!r}{hint}")
    try:
        return get_expectation_impl(check.type)(**check.arguments, **common)
    except (ValueError, TypeError) as error:
        reason = "; ".join(str(error).splitlines()[1:]) or str(error)
        raise ContractError(f"{where}: {reason.strip()}") from error


def _unexpected(
    contract: TableContract, result: Any, slice_days: tuple[date, ...], batch: Any
) -> tuple[int, tuple[date, ...], list[dict[str, Any]], str]:
    """Rows, days, examples and a word on what was seen, of a failed built-in expectation."""
    told = result.result
    column = result.expectation_config.kwargs.get("column", "value")
    examples = [_plain({column: value}) for value in told.get("partial_unexpected_list", [])]
    rows = int(told.get("unexpected_count") or 0)
    observed = f"observed {told['observed_value']}" if "observed_value" in told else ""
    if rows:
        observed = f"{rows:,} of {told['element_count']:,} rows, such as {examples[:1]}"
    days = slice_days
    if rows and contract.window:
        days = _attributed(contract.window, result, batch) or slice_days
    return rows, days, examples[:EXAMPLES], observed


def _attributed(window: str, result: Any, batch: Any) -> tuple[date, ...]:
    """The days of a failed expectation's rows; asked only now, because it lists every one."""
    from great_expectations.expectations.registry import get_expectation_impl

    config = result.expectation_config
    again = batch.validate(
        get_expectation_impl(config.type)(**{k: v for k, v in config.kwargs.items() if k != "batch_id"}),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [window]},
    )
    listed = again.result.get("unexpected_index_list") or []
    return tuple(sorted({_as_date(item[window]) for item in listed}))


def _exception(result: Any) -> str | None:
    """Why an expectation has no usable result, or None."""
    if result is None:
        return "Great Expectations returned no result for it"
    info = result.exception_info or {}
    # One exception is told directly, several under the ids of the metrics that failed.
    told = [info] if "raised_exception" in info else list(info.values())
    for item in told:
        if item.get("raised_exception"):
            message = str(item.get("exception_message") or "unknown error")
            return message.strip().splitlines()[0]
    return None


def _buffer_results(engine: Engine) -> None:
    """Fetch at once: Great Expectations reads results after it returned the connection, whose
    rollback discards them on DuckDB."""
    from sqlalchemy import event
    from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

    @event.listens_for(engine, "after_cursor_execute")
    def buffer(  # noqa: PLR0913
        connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, many: Any
    ) -> None:
        if cursor.description:
            context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                cursor, initial_buffer=cursor.fetchall()
            )


def _days_of(window: tuple[date, date] | None) -> tuple[date, ...]:
    if window is None:
        return ()
    start, end = window
    return tuple(date.fromordinal(day) for day in range(start.toordinal(), end.toordinal()))


def _as_date(value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(str(value)[:10])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with values that JSON can hold."""
    return {
        name: str(value) if isinstance(value, (date, datetime, Decimal)) else value
        for name, value in row.items()
    }
