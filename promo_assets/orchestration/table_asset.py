"""One table = one asset: wait for inputs, stage, audit, publish, report.

Every table of the platform is made here, so every table has the same gate, the same metadata
and the same behaviour when a day is bad. Not here: what any particular table holds.

No postponed annotations here: Dagster reads the type of ``context``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import polars as pl
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster_shared.record import copy

from promo_assets.contract.days import Window, week_of
from promo_assets.contract.tables import TableContract
from promo_assets.orchestration.partition_metadata import add_partition_metadata
from promo_assets.orchestration.partitions import DAY, SEGMENT, Partitions
from promo_assets.settings import Settings
from promo_assets.warehouse.connection import UnreadableError, Warehouse, WarehouseError
from promo_assets.warehouse.publish import (
    ALWAYS,
    Published,
    PublishError,
    Query,
    Slice,
    ensure_table,
    missing_inputs,
    prepare,
    publish,
    published_days,
    stage,
)

if TYPE_CHECKING:
    from promo_assets.gates.audit import Auditor, Finding, Verdict

GATE = "gate"
"""The blocking check: critical expectations, and inputs that are published."""
WARNINGS = "warnings"
"""The check that only tells: the day is published, and what follows goes on."""
PARTITION_TAG = "dagster/partition"
DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
POLARS_TYPES: dict[str, pl.DataType] = {
    "BIGINT": pl.Int64(),
    "BOOLEAN": pl.Boolean(),
    "DATE": pl.Date(),
    "DOUBLE": pl.Float64(),
    "VARCHAR": pl.String(),
}
MET = "all expectations met"
RETRIES = 2
RETRY_SECONDS = 5
"""Another process's lock and a network may be better after 5 and 10 seconds; a wrong model, suite
or source won't, and is not tried again."""


class ProductionError(Exception):
    """Rows can't be produced, and trying again won't help; the message is meant for people."""


@dataclass(frozen=True)
class Production:
    """What a table's ``produce`` gets: where to read, what to make, and for whom to log."""

    contract: TableContract
    connection: duckdb.DuckDBPyConnection
    window: Window | None
    parts: tuple[str, ...]
    weeks: tuple[date, ...]
    settings: Settings
    run_id: str
    log: Callable[[str], None]
    note: Callable[[Mapping[str, Any]], None]

    def frame(self, rows: Sequence[Mapping[str, Any]] = ()) -> pl.DataFrame:
        """Rows with the contract's columns and types; what a row does not tell is null."""
        schema = {name: _polars_type(type_) for name, type_ in self.contract.types.items()}
        return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema)


Produce = Callable[[Production], "Query | pl.DataFrame"]


@dataclass(frozen=True)
class Table:
    """A table as the graph sees it.

    ``inputs`` maps each day-partitioned upstream table to its lookback in days; naming the table
    itself means that it carries its previous day forward. ``whole`` are upstream tables without
    partitions. ``weekly`` are upstream tables by week, with the first and last week read relative
    to the own; ``segmented`` are upstream tables by day and segment, read for the own segment.
    ``grid`` is how the table itself is partitioned. ``read`` are the contracts of all that the
    table or its audits read.
    """

    contract: TableContract
    group: str
    produce: Produce
    code_version: str
    grid: str = "day"
    inputs: Mapping[str, int] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    weekly: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    segmented: tuple[str, ...] = ()
    read: tuple[TableContract, ...] = ()
    kinds: frozenset[str] = frozenset({"duckdb", "table"})
    lineage: Callable[[], Mapping[str, Sequence[tuple[str, str]]]] | None = None
    automation: dg.AutomationCondition[Any] | None = None
    freshness: dg.FreshnessPolicy | None = None

    def with_audit_inputs(self, tables: Mapping[str, "Table"]) -> "Table":
        """The table with what only its audits read as inputs too, so that it is there by then."""
        known = {*self.inputs, *self.whole, *self.weekly, *self.segmented}
        more = sorted((self.contract.audited_against & tables.keys()) - known)
        grids = {name: tables[name].grid for name in more}
        return replace(
            self,
            inputs={**self.inputs, **{name: 0 for name in more if grids[name] == "day"}},
            whole=(*self.whole, *(name for name in more if grids[name] == "whole")),
            read=tuple(tables[name].contract for name in sorted({*known, *more})),
        )


def asset_key(table: str) -> dg.AssetKey:
    """``schema.table`` as an asset key."""
    return dg.AssetKey(table.split("."))


def table_asset(table: Table, settings: Settings, partitions: Partitions) -> dg.AssetsDefinition:
    """The asset of ``table`` with its gate as a blocking check."""
    contract = table.contract
    key = asset_key(contract.table)

    @dg.asset(
        key=key,
        group_name=table.group,
        description=contract.description,
        deps=_dependencies(table),
        partitions_def=_grid(table, partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(
                GATE,
                asset=key,
                blocking=True,
                description=f"expectations/{contract.table.replace('.', '/')}.yaml, audited on the "
                "staged slice before it is published",
                partitions_def=_grid(table, partitions),
            ),
            dg.AssetCheckSpec(
                WARNINGS,
                asset=key,
                blocking=False,
                description="the same suite's expectations of severity warning",
                partitions_def=_grid(table, partitions),
            ),
        ],
        metadata={
            "dagster/column_schema": _column_schema(contract),
            "dagster/table_name": contract.table,
            "grain": ", ".join(contract.grain),
        },
        kinds=set(table.kinds),
        owners=[f"team:{contract.owner}"],
        code_version=table.code_version,
        pool="duckdb",
        automation_condition=table.automation,
        freshness_policy=table.freshness,
    )
    def materialise(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        try:
            outcome = write(context, table, warehouse, settings)
        except (ProductionError, PublishError) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        except (WarehouseError, ConnectionError) as error:
            if context.retry_number < RETRIES and not isinstance(error, UnreadableError):
                wait = RETRY_SECONDS * 2**context.retry_number
                raise dg.RetryRequested(RETRIES, seconds_to_wait=wait) from error
            raise dg.Failure(description=str(error)) from error
        if outcome.nothing_published:
            _report(context, outcome.evaluations)
            yield from outcome.checks
            raise dg.Failure(description=outcome.checks[0].description, allow_retries=False)
        yield dg.MaterializeResult(metadata=outcome.metadata)
        # After the materialisation, which they name: conditions and the UI ignore a check of an
        # older one. Downstream steps wait for the step, so the gate still stands before them.
        _report(context, outcome.evaluations, materialised=True)
        yield from outcome.checks

    return materialise


@dataclass(frozen=True)
class Outcome:
    """What one write led to: the results of `GATE` and `WARNINGS` for the run, and of every
    partition where the run has several."""

    checks: tuple[dg.AssetCheckResult, dg.AssetCheckResult]
    metadata: Mapping[str, Any]
    nothing_published: bool
    evaluations: Sequence[dg.AssetCheckEvaluation] = ()


def write(
    context: dg.AssetExecutionContext, table: Table, warehouse: Warehouse, settings: Settings
) -> Outcome:
    """Produce, stage, audit and publish the run's slice of ``table``, and say what came of it."""
    contract = table.contract
    window, parts, weeks = _asked(context, table)
    notes: dict[str, Any] = {}
    with warehouse.get_connection() as connection:
        prepare(connection)
        for upstream in table.read:
            ensure_table(connection, upstream)  # Empty before its first publication, not missing.
        waiting = _waiting(connection, table, window, parts, settings.start)
        window = _reduced(table, window, waiting)
        weeks = tuple(week for week in weeks if window and week in window.days)
        target = Slice(contract, window, parts)
        production = Production(
            contract,
            connection,
            window,
            parts,
            weeks,
            settings,
            context.run.run_id,
            context.log.info,
            notes.update,
        )
        staged_rows = stage(connection, target, table.produce(production))
    verdict = auditor(warehouse, settings).audit(
        contract, target.staged, (window.start, window.end) if window else None
    )
    blocked = _blocked(table, verdict, target)
    if blocked:
        auditor(warehouse, settings).build_docs()  # Whoever looks for the cause finds its page.
    with warehouse.get_connection() as connection:
        _record_findings(connection, contract, verdict, target, context.run.run_id)
        if target.window is None and blocked:
            published = Published({}, (ALWAYS,))
        else:
            held_back = {*blocked, *waiting} & set(window.days if window else ())
            published = publish(
                connection,
                target,
                held_back=held_back,
                run_id=context.run.run_id,
                code_version=table.code_version,
            )
    context.log.info(
        f"{contract.table} {window or ''}: {staged_rows:,} rows staged, {published.total:,} "
        f"published; gate {verdict.seconds:.2f} s: {verdict.summary()}"
    )
    return _outcome(context, table, target, verdict, published, waiting, blocked, notes)


@lru_cache(maxsize=4)
def _auditor(database: str, config: tuple[tuple[str, Any], ...], docs: str) -> "Auditor":
    from pathlib import Path

    from promo_assets.gates.audit import Auditor

    return Auditor(Path(database), dict(config), Path(docs))


def auditor(warehouse: Warehouse, settings: Settings) -> "Auditor":
    """The process's auditor of this warehouse: Great Expectations takes seconds to set up."""
    return _auditor(
        warehouse.database, tuple(sorted(warehouse.config.items())), str(settings.data_docs)
    )


def _polars_type(type_: str) -> pl.DataType:
    """The Polars type of a DuckDB type that tables made row by row use."""
    if match := DECIMAL.fullmatch(type_):
        return pl.Decimal(int(match[1]), int(match[2]))
    return POLARS_TYPES[type_]


def _grid(table: Table, partitions: Partitions) -> dg.PartitionsDefinition[Any] | None:
    return {
        "day": partitions.days,
        "week": partitions.weeks,
        "day_segment": partitions.day_segments,
        "whole": None,
    }[table.grid]


def _dependencies(table: Table) -> list[dg.AssetDep]:
    """The upstream assets with the partitions that are read of each."""
    deps = [dg.AssetDep(asset_key(name)) for name in (*table.whole, *table.segmented)]
    for name, lookback in table.inputs.items():
        itself = name == table.contract.table
        mapping: dg.PartitionMapping | None = None
        if table.grid == "day_segment":
            mapping = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=DAY)
        elif table.grid == "day" and (itself or lookback):
            mapping = dg.TimeWindowPartitionMapping(
                start_offset=-1 if itself else -lookback,
                end_offset=-1 if itself else 0,
                allow_nonexistent_upstream_partitions=True,
            )
        deps.append(dg.AssetDep(asset_key(name), partition_mapping=mapping))
    # Dagster counts offsets in the reader's own partitions: a week back is seven days of a day's.
    span = 7 if table.grid == "day" else 1
    for name, (first, last) in table.weekly.items():
        deps.append(
            dg.AssetDep(
                asset_key(name),
                partition_mapping=dg.TimeWindowPartitionMapping(
                    start_offset=span * first,
                    end_offset=span * last,
                    allow_nonexistent_upstream_partitions=True,
                ),
            )
        )
    return deps


def _column_schema(contract: TableContract) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                column.type,
                column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable,
                    unique=contract.grain == (name,),
                    other=[f"missing values: {column.nulls}"],
                ),
            )
            for name, column in contract.columns.items()
        ]
    )


def _asked(
    context: dg.AssetExecutionContext, table: Table
) -> tuple[Window | None, tuple[str, ...], tuple[date, ...]]:
    """The window, the segments and the weeks that the run asks for."""
    if table.grid == "whole":
        return None, (), ()
    keys = context.partition_keys
    if table.grid == "day_segment":
        multi = [key for key in keys if isinstance(key, dg.MultiPartitionKey)]
        days = {date.fromisoformat(key.keys_by_dimension[DAY]) for key in multi}
        parts = tuple(sorted({key.keys_by_dimension[SEGMENT] for key in multi}))
        return Window.of(days), parts, ()
    days = {date.fromisoformat(key) for key in keys}
    if table.grid == "week":
        first, last = min(days), max(days)
        return Window(first, last + timedelta(days=7)), (), tuple(sorted(days))
    return Window.of(days), (), ()


def _waiting(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    window: Window | None,
    parts: tuple[str, ...],
    first: date,
) -> dict[date, str]:
    if table.grid == "whole":
        return {}
    assert window is not None
    waiting = missing_inputs(
        connection,
        window,
        table.inputs,
        whole=table.whole,
        own=table.contract.table,
        first_day=first,
    )
    for name in table.segmented:
        for part in parts:
            published = published_days(connection, name, window.start, window.end, part)
            for day in set(window.days) - published:
                waiting.setdefault(day, f"{name} of {day} {part} is not published")
    if table.grid == "week":
        # A week is made of all of its days or not at all.
        weeks = {week_of(day): reason for day, reason in waiting.items()}
        return {day: weeks[week_of(day)] for day in window.days if week_of(day) in weeks}
    return waiting


def _reduced(table: Table, window: Window | None, waiting: Mapping[date, str]) -> Window | None:
    """The window without the days at its ends that wait for an upstream day."""
    if window is None or not waiting:
        return window
    ready = [day for day in window.days if day not in waiting]
    if not ready:
        raise ProductionError(
            f"{table.contract.table} {window}: not materialised, because "
            f"{waiting[window.days[0]]}. Repair and materialise that first"
        )
    return Window.of(ready)


def _blocked(table: Table, verdict: "Verdict", target: Slice) -> set[date]:
    """The days that the gate blocks, and for a table that reads itself all days after them."""
    if target.window is None:
        return {ALWAYS} if verdict.blocked else set()
    blocked = set(verdict.blocked_days)
    if blocked and table.contract.table in table.inputs:
        blocked |= {day for day in target.window.days if day > min(blocked)}
    return blocked


def _record_findings(
    connection: duckdb.DuckDBPyConnection,
    contract: TableContract,
    verdict: "Verdict",
    target: Slice,
    run_id: str,
) -> None:
    """Keep what the gate found: one row an expectation and day that it failed on, with the day's
    offending rows (null where they can't be attributed to days), and one row (day = the slice's
    first) for each that passed."""
    first = target.window.start if target.window else ALWAYS
    part = target.parts[0] if len(target.parts) == 1 else ""
    at = datetime.now(UTC).replace(tzinfo=None)
    rows = [
        (
            contract.table,
            day,
            part,
            finding.expectation,
            finding.severity,
            finding.passed,
            _rows_on(finding, day),
            finding.observed,
            run_id,
            at,
        )
        for finding in verdict.findings
        for day in (finding.days or (first,))
    ]
    frame = pl.DataFrame(
        rows,
        schema=[
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
        ],
        orient="row",
    )
    connection.register("found", frame.to_arrow())
    connection.execute("begin")
    if target.window:
        connection.execute(
            "delete from audit.findings where table_name = $table and part = $part"
            " and day >= $start and day < $end",
            {
                "table": contract.table,
                "part": part,
                "start": target.window.start,
                "end": target.window.end,
            },
        )
    else:
        connection.execute(
            "delete from audit.findings where table_name = $table", {"table": contract.table}
        )
    connection.execute("insert into audit.findings by name select * from found")
    connection.execute("commit")
    connection.unregister("found")


def _rows_on(finding: "Finding", day: date) -> int | None:
    """The finding's offending rows on a day; the day of a table without partitions has all."""
    if finding.passed or day == ALWAYS:
        return finding.rows
    return finding.rows_by_day.get(day)


def _outcome(
    context: dg.AssetExecutionContext,
    table: Table,
    target: Slice,
    verdict: "Verdict",
    published: Published,
    waiting: Mapping[date, str],
    blocked: set[date],
    notes: Mapping[str, Any],
) -> Outcome:
    """The check's result for the run and for every partition, and the metadata of each."""
    window = target.window
    held_back = {*blocked, *waiting}
    summary = verdict.summary()
    if waiting:
        some = min(waiting)
        summary += f"; {len(waiting)} days wait (first {some}: {waiting[some]})"
    every_day_held = bool(held_back) and (window is None or not set(window.days) - held_back)
    if verdict.warned:
        context.log.warning(f"{target.contract.table} {window or ''}: {summary}")
    gate = dg.AssetCheckResult(
        check_name=GATE,
        passed=not held_back,
        # A run that could publish some of its days goes on with those: see docs/operations.md.
        severity=dg.AssetCheckSeverity.ERROR if every_day_held else dg.AssetCheckSeverity.WARN,
        description=f"{target.contract.table} {window or ''}: {summary}",
        metadata={
            "findings": dg.MetadataValue.md(verdict.to_markdown()),
            "seconds": round(verdict.seconds, 3),
            "staged": target.staged if held_back else "published",
        },
    )
    warned = [finding for finding in verdict.failed if finding.severity == "warning"]
    warnings = dg.AssetCheckResult(
        check_name=WARNINGS,
        passed=not warned,
        severity=dg.AssetCheckSeverity.WARN,
        description=_told(warned) or MET,
    )
    checks = (gate, warnings)
    metadata: dict[str, Any] = {
        "dagster/row_count": published.table_rows,
        "gate": summary,
        "gate_seconds": round(verdict.seconds, 3),
        **notes,
    }
    if window is None:
        return Outcome(checks, metadata | _lineage(table), every_day_held)
    _note_partitions(context, table, published)
    if PARTITION_TAG in context.run.tags:
        return Outcome(checks, metadata, every_day_held)
    # Over a range, be it of a single day, Dagster stores one evaluation of no partition, and every
    # partition's record would stay planned.
    evaluations = _evaluations(context, table, verdict, blocked, waiting)
    return Outcome(checks, metadata, every_day_held, evaluations)


def _report(
    context: dg.AssetExecutionContext,
    evaluations: Sequence[dg.AssetCheckEvaluation],
    *,
    materialised: bool = False,
) -> None:
    """Store evaluations of partitions, of those that this step materialised where it did."""
    if not evaluations:
        return
    # Here, because it brings Dagster's SQL storage: a second that loading has no use for.
    from promo_assets.orchestration.event_log import report_check_evaluations

    targets = _materialisations(context) if materialised else {}
    named = [
        copy(evaluation, target_materialization_data=targets.get(evaluation.partition))
        for evaluation in evaluations
    ]
    report_check_evaluations(context.instance, context.run, named)


def _materialisations(
    context: dg.AssetExecutionContext,
) -> dict[str | None, AssetCheckEvaluationTargetMaterializationData]:
    """The newest materialisation of each partition of the run."""
    found = context.instance.event_log_storage.get_latest_storage_id_by_partition(
        context.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(context.partition_keys)
    )
    at = datetime.now(UTC).timestamp()
    return {
        partition: AssetCheckEvaluationTargetMaterializationData(
            storage_id=storage_id, run_id=context.run.run_id, timestamp=at
        )
        for partition, storage_id in found.items()
    }


def _lineage(table: Table) -> dict[str, Any]:
    """Column lineage; for Python tables it is declared in the contract."""
    if table.lineage is not None:
        columns = table.lineage()
    else:
        columns = {
            name: [tuple(source.rsplit(".", 1)) for source in column.sources]  # type: ignore[misc]
            for name, column in table.contract.columns.items()
        }
    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                name: [dg.TableColumnDep(asset_key(upstream), column) for upstream, column in deps]
                for name, deps in columns.items()
                if deps
            }
        )
    }


def _days_of(table: Table, key: str) -> tuple[tuple[date, ...], str]:
    """The days of a partition key, and its segment or ''."""
    if isinstance(key, dg.MultiPartitionKey):
        return (date.fromisoformat(key.keys_by_dimension[DAY]),), key.keys_by_dimension[SEGMENT]
    day = date.fromisoformat(key)
    span = 7 if table.grid == "week" else 1
    return tuple(day + timedelta(days=offset) for offset in range(span)), ""


def _note_partitions(context: dg.AssetExecutionContext, table: Table, published: Published) -> None:
    """Row counts by partition; the column lineage once, on the newest, where the UI reads it."""
    metadata: dict[str, dict[str, Any]] = {}
    for key in context.partition_keys:
        days, part = _days_of(table, key)
        rows = sum(published.rows_of(day, part) for day in days)
        metadata[key] = {"dagster/partition_row_count": rows}
    metadata[context.partition_keys[-1]] |= _lineage(table)
    add_partition_metadata(context, metadata)


def _evaluations(
    context: dg.AssetExecutionContext,
    table: Table,
    verdict: "Verdict",
    blocked: set[date],
    waiting: Mapping[date, str],
) -> list[dg.AssetCheckEvaluation]:
    """Two evaluations a partition: a range run by itself stores only one for all of them."""
    evaluations = []
    for key in context.partition_keys:
        days, _ = _days_of(table, key)
        failed = [finding for finding in verdict.failed if set(days) & set(finding.days)]
        critical = [finding for finding in failed if finding.severity == "critical"]
        reasons = [f"held back: {waiting[day]}" for day in days if day in waiting]
        if set(days) & blocked and not critical:
            reasons.append(f"held back: an earlier day of {table.contract.table} is blocked")
        warned = [finding for finding in failed if finding.severity == "warning"]
        gate = "; ".join([*filter(None, [_told(critical)]), *reasons])
        for name, told, severity in (
            (GATE, gate, dg.AssetCheckSeverity.ERROR),
            (WARNINGS, _told(warned), dg.AssetCheckSeverity.WARN),
        ):
            evaluations.append(
                dg.AssetCheckEvaluation(
                    asset_key=asset_key(table.contract.table),
                    check_name=name,
                    passed=not told,
                    severity=severity,
                    description=told or MET,
                    metadata={},
                    partition=str(key),
                    blocking=name == GATE,
                )
            )
    return evaluations


def _told(findings: Sequence["Finding"]) -> str:
    """What failed, in one line; '' for nothing."""
    return "; ".join(
        f"{finding.expectation} ({finding.severity}): {finding.observed}" for finding in findings
    )
