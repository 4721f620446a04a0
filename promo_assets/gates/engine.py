"""Great Expectations on DuckDB: the context, the data source, and rules as its expectations.

Great Expectations takes about 5 s to import, so nothing here imports it at module level. Not
here: what to check (suites) and what a result means (audit).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import duckdb

from promo_assets.contract.tables import TableContract
from promo_assets.gates.suites import Rule, fault, nearest
from promo_assets.gates.verdict import EXAMPLES, json_safe

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context import EphemeralDataContext
    from great_expectations.datasource.fluent import SQLDatasource
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.expectations.core import UnexpectedRowsExpectation
    from great_expectations.expectations.expectation import Expectation as GxExpectation

RULE = "rule"
"""Key in an expectation's meta: the position of its rule, by which results find it again."""


class Engine:
    """One Great Expectations context with one DuckDB data source; made once, used for all audits.

    ``connect`` opens another connection to the database of the running audit.
    """

    def __init__(
        self, connect: Callable[[], duckdb.DuckDBPyConnection], config: Mapping[str, Any]
    ) -> None:
        self._connect = connect
        self._config = config

    @cached_property
    def context(self) -> EphemeralDataContext:
        """The context, with the stores and sites of ``config``; it opens no database."""
        import great_expectations as gx
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        rows_expectation()  # registered by name: stored results of another process need it
        config = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
            **self._config,
        )
        return gx.get_context(project_config=config, mode="ephemeral")

    @cached_property
    def _source(self) -> SQLDatasource:
        from duckdb_sqlalchemy import ConnectionWrapper
        from sqlalchemy.pool import NullPool

        # A creator, because the dialect would add its name to custom_user_agent, and DuckDB
        # refuses a second configuration of one file in one process.
        source = self.context.data_sources.add_sql(
            name="warehouse",
            connection_string="duckdb:///",
            create_temp_table=False,
            kwargs={  # type: ignore[call-arg]  # missing in the stub only
                "creator": lambda: ConnectionWrapper(self._connect()),
                "poolclass": NullPool,  # nothing held: other processes need the file's lock
            },
        )
        _buffer_results(source.get_execution_engine().engine)
        return source

    @contextmanager
    def batch(self, staged: str) -> Iterator[Batch]:
        """The staged table as a batch; the data source forgets it afterwards."""
        schema, table = staged.split(".")
        source = self._source
        try:
            with warnings.catch_warnings():
                # Deprecated for sources whose URL names a schema; DuckDB's can't.
                warnings.filterwarnings("ignore", ".*schema_name.*", DeprecationWarning)
                asset = source.add_table_asset(staged, table_name=table, schema_name=schema)
            yield asset.add_batch_definition_whole_table("whole").get_batch()
        finally:
            if staged in source.get_asset_names():
                source.delete_asset(staged)


def _buffer_results(engine: Any) -> None:
    """Fetch every result at once: Great Expectations reads it after it returned the connection,
    whose rollback discards what was not fetched ("list index out of range")."""
    from sqlalchemy import event
    from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

    @event.listens_for(engine, "after_cursor_execute")
    def _buffer(
        connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, many: Any
    ) -> None:
        if cursor.description:
            context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                cursor, initial_buffer=cursor.fetchall()
            )


@lru_cache(maxsize=1)
def rows_expectation() -> type[UnexpectedRowsExpectation]:
    """`OffendingRows`: an UnexpectedRowsExpectation on the summary of a `summary_query`."""
    from great_expectations.expectations.core import UnexpectedRowsExpectation

    class OffendingRows(UnexpectedRowsExpectation):
        """Offending rows, counted and attributed by one query; its parent runs it twice (count
        and rows), keeps 200 rows, and has no days."""

        metric_dependencies = ("unexpected_rows_query.table",)

        def _validate(
            self,
            metrics: dict[str, Any],
            runtime_configuration: dict[str, Any] | None = None,
            execution_engine: Any = None,
        ) -> dict[str, Any]:
            found = metrics["unexpected_rows_query.table"]
            if not found:
                return {"success": True, "result": {"observed_value": 0}}
            summary = found[0]
            return {
                "success": False,
                "result": {
                    "observed_value": summary["row_count"],
                    "details": {
                        "days": json_safe(summary["days"]),
                        "unexpected_rows": json_safe(summary["examples"]),
                    },
                },
            }

    return OffendingRows


def summary_query(query: str, days: str, batch: str, *, dated: bool) -> str:
    """One row (row_count, days, examples) on the rows of ``query``; no row when it has none.

    ``query`` reads ``staged_rows``, which is all of ``batch``, and ``staged_days``, which is the
    select ``days``. ``days`` maps each day to its rows; rows without a day are in none, so that
    without ``dated`` it is empty.
    """
    day = "cast(day as date)" if dated else "cast(null as date)"
    return (
        f"with staged_rows as not materialized (select * from {batch}),\n"
        f"staged_days as ({days}),\n"
        f"offending_rows as not materialized (\n{query}\n)\n"
        "select count(*) as row_count, coalesce(histogram(offence_day), map()) as days,\n"
        f"  list(example) filter (where place <= {EXAMPLES}) as examples\n"
        f"from (select offending_rows as example, {day} as offence_day,\n"
        "  row_number() over () as place from offending_rows)\n"
        "having count(*) > 0"
    )


def rule_expectation(
    contract: TableContract, rule: Rule, position: int, days: str
) -> GxExpectation:
    """The rule as an expectation of Great Expectations, for the days selected by ``days``.

    Raises `ContractError` on a type or an argument that Great Expectations does not know.
    """
    given: dict[str, Any] = {
        "severity": rule.severity,
        "meta": {RULE: position},
        "notes": rule.definition,
    }
    if rule.query:
        query = summary_query(_embedded(rule.query), days, "{batch}", dated=rule.dated)
        return rows_expectation()(unexpected_rows_query=query, description=rule.title, **given)
    return _expectation_class(contract, rule)(**rule.arguments, **given)


def check_rules(contract: TableContract, rules: Sequence[Rule]) -> None:
    """Build every rule once, so that a typo is an error before anything runs."""
    from great_expectations.compatibility.pydantic import ValidationError

    for position, rule in enumerate(rules):
        try:
            rule_expectation(contract, rule, position, "select null as day where false")
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
                for item in error.errors()
            )
            known = "" if rule.query else f"; {rule.type} takes {_arguments(contract, rule)}"
            raise fault(contract, rule.title, problems + known) from error


def error_of(result: ExpectationValidationResult) -> str:
    """The first line of the exception behind a result, or '' where there was none."""
    info = result.exception_info or {}
    # One exception, or a mapping of metrics to theirs.
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            message = str(entry.get("exception_message") or "no message")
            return " ".join(message.split("[SQL:")[0].split())[:500]
    return ""


def _embedded(query: str) -> str:
    """A rule's query for `summary_query`, with what else str.format and SQLAlchemy's text()
    would take for parameters (braces of structs, colons before a name) escaped."""
    query = query.replace("{batch}", "staged_rows").replace("{window}", "staged_days")
    query = query.replace("{", "{{").replace("}", "}}")
    return re.sub(r"(?<![:\w\\]):(?=[\w$])", r"\\:", query)


def _expectation_class(contract: TableContract, rule: Rule) -> type[GxExpectation]:
    import great_expectations.expectations.core  # noqa: F401  registers the known types
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    try:
        return get_expectation_impl(rule.type)
    except ExpectationNotFoundError as error:
        known = list_registered_expectation_implementations()
        raise fault(
            contract,
            rule.title,
            f"unknown type {rule.type!r}; did you mean: {nearest(rule.type, known)}?",
        ) from error


def _arguments(contract: TableContract, rule: Rule) -> str:
    from great_expectations.expectations.expectation import Expectation

    own = _expectation_class(contract, rule).__fields__.keys() - Expectation.__fields__.keys()
    return ", ".join(sorted(own - {"batch_id", "mostly", "row_condition", "condition_parser"}))
