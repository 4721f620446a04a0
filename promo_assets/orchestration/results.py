"""What came of a write, as Dagster is told: checks, metadata, and each partition's evaluation.

Over a range, be it of a single day, Dagster stores one evaluation of no partition, and every
partition's record would stay planned: so each partition gets its own here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster_shared.record import copy

from promo_assets.gates.verdict import counted
from promo_assets.orchestration.asked import days_of
from promo_assets.orchestration.partition_metadata import add_partition_metadata
from promo_assets.tables.table import Table
from promo_assets.tables.writing import Written

if TYPE_CHECKING:
    from promo_assets.gates.verdict import Finding, Verdict

GATE = "gate"
"""The blocking check: critical expectations, and inputs that are published."""
WARNINGS = "warnings"
"""The check that only tells: the day is published, and what follows goes on."""
PARTITION_TAG = "dagster/partition"
MET = "all expectations met"
UNJUDGED = "nothing was made, so nothing was judged"


@dataclass(frozen=True)
class Results:
    """The results of `GATE` and `WARNINGS` for the run, and of every partition where the run has
    several; the metadata of the materialisation, and the partitions that were published."""

    checks: tuple[dg.AssetCheckResult, dg.AssetCheckResult]
    metadata: Mapping[str, Any]
    evaluations: Sequence[dg.AssetCheckEvaluation] = ()
    published: Sequence[str] = ()


def asset_key(table: str) -> dg.AssetKey:
    """``schema.table`` as an asset key."""
    return dg.AssetKey(table.split("."))


def results(context: dg.AssetExecutionContext, table: Table, written: Written) -> Results:
    """The results of a write; the row counts of partitions are noted in ``context``."""
    target, verdict = written.target, written.verdict
    told = verdict.summary()
    if written.waiting:
        some = min(written.waiting)
        told += f"; {len(written.waiting)} day(s) wait: from {some} on it {written.waiting[some]}"
    title = f"{target.contract.table} {target.window or ''}: {told}"
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    gate = dg.AssetCheckResult(
        check_name=GATE,
        passed=not written.held_back,
        # A run that could publish some of its days goes on with those: see docs/operations.md.
        severity=error if written.nothing_published else warn,
        description=title,
        metadata={
            "findings": dg.MetadataValue.md(verdict.to_markdown()),
            "seconds": round(verdict.seconds, 3),
            "staged": target.staged if written.held_back else "published",
        },
    )
    warned = [finding for finding in verdict.failed if finding.severity == "warning"]
    warnings = dg.AssetCheckResult(
        check_name=WARNINGS, passed=not warned, severity=warn, description=_told(warned) or MET
    )
    metadata: dict[str, Any] = {
        "dagster/row_count": written.published.table_rows,
        "gate": told,
        "gate_seconds": round(verdict.seconds, 3),
        **written.notes,
    }
    if target.window is None:
        return Results((gate, warnings), metadata | _lineage(table))
    keys = context.partition_keys
    published = [key for key in keys if not written.held_back & set(days_of(table, key)[0])]
    _note_partitions(context, table, written, published)
    if PARTITION_TAG in context.run.tags:
        return Results((gate, warnings), metadata, published=published)
    evaluations = [one for key in keys for one in _evaluations(table, key, written)]
    return Results((gate, warnings), metadata, evaluations, published)


def waiting(
    context: dg.AssetExecutionContext, table: Table, reasons: Mapping[date, Any], told: str
) -> Results:
    """The results where nothing could be made, because everything waits."""
    gate = dg.AssetCheckResult(check_name=GATE, passed=False, description=told)
    warnings = dg.AssetCheckResult(
        check_name=WARNINGS, severity=dg.AssetCheckSeverity.WARN, passed=True, description=UNJUDGED
    )
    evaluations = []
    if PARTITION_TAG not in context.run.tags:
        for key in context.partition_keys:
            some = next(reasons[day] for day in days_of(table, key)[0] if day in reasons)
            evaluations += _pair(table, key, f"held back: {some}", "", met=UNJUDGED)
    return Results((gate, warnings), {}, evaluations)


def report(
    context: dg.AssetExecutionContext,
    evaluations: Sequence[dg.AssetCheckEvaluation],
    *,
    materialised: bool,
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
    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                name: [dg.TableColumnDep(asset_key(upstream), column) for upstream, column in deps]
                for name, deps in table.columns_from().items()
                if deps
            }
        )
    }


def _note_partitions(
    context: dg.AssetExecutionContext, table: Table, written: Written, published: Sequence[str]
) -> None:
    """Row counts by partition; the column lineage once, on the newest, where the UI reads it."""
    if not published:
        return
    metadata: dict[str, dict[str, Any]] = {}
    for key in published:
        days, part = days_of(table, key)
        rows = sum(written.published.rows_of(day, part) for day in days)
        metadata[key] = {"dagster/partition_row_count": rows}
    metadata[published[-1]] |= _lineage(table)
    add_partition_metadata(context, metadata)


def _evaluations(table: Table, key: str, written: Written) -> list[dg.AssetCheckEvaluation]:
    """The two evaluations of a partition."""
    days, _ = days_of(table, key)
    critical, warned = _on(written.verdict, days)
    waits = {str(written.waiting[day]) for day in days if day in written.waiting}
    told = _told(critical, days)
    gate = "; ".join([*filter(None, [told]), *(f"held back: {why}" for why in waits)])
    return _pair(table, key, gate, _told(warned, days))


def _pair(
    table: Table, key: str, gate: str, warned: str, met: str = MET
) -> list[dg.AssetCheckEvaluation]:
    """The two evaluations of a partition with what they tell; '' where they have passed."""
    return [
        dg.AssetCheckEvaluation(
            asset_key=asset_key(table.contract.table),
            check_name=name,
            passed=not told,
            severity=severity,
            description=told or met,
            metadata={},
            partition=str(key),
            blocking=name == GATE,
        )
        for name, told, severity in (
            (GATE, gate, dg.AssetCheckSeverity.ERROR),
            (WARNINGS, warned, dg.AssetCheckSeverity.WARN),
        )
    ]


def _on(verdict: Verdict, days: Sequence[date]) -> tuple[list[Finding], list[Finding]]:
    """The critical findings and the warnings on any of ``days``."""
    failed = [finding for finding in verdict.failed if set(days) & set(finding.days)]
    critical = [finding for finding in failed if finding.severity == "critical"]
    return critical, [finding for finding in failed if finding.severity == "warning"]


def _told(findings: Sequence[Finding], days: Sequence[date] = ()) -> str:
    """What failed, in one line; '' for nothing. Of ``days`` only: their own rows, where the finding
    knows them, with an example of theirs."""
    return "; ".join(
        f"{finding.expectation} ({finding.severity}): {_observed(finding, days)}"
        for finding in findings
    )


def _observed(finding: Finding, days: Sequence[date]) -> str:
    if not days or not finding.rows_by_day:
        return finding.observed
    rows = sum(finding.rows_by_day.get(day, 0) for day in days)
    told = counted(rows)
    names = {str(day) for day in days}
    own = (one for one in finding.examples if str(one.get("day", ""))[:10] in names)
    example = ", ".join(f"{name}={value}" for name, value in next(own, {}).items() if name != "day")
    return f"{told}, such as {example}" if example else told
