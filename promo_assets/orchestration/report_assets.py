"""What leaves the platform: the merchandiser's daily page and the export, files a day."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from promo_assets.contract.days import Window
from promo_assets.contract.home import Home
from promo_assets.orchestration.automation import following, waiting
from promo_assets.orchestration.partition_metadata import (
    add_partition_metadata,
    materialise_only,
)
from promo_assets.orchestration.partitions import DAY, Partitions
from promo_assets.orchestration.resources import WarehouseResource
from promo_assets.orchestration.table_asset import auditor
from promo_assets.people.consent import ConsentRule
from promo_assets.report.data import Row, read_days
from promo_assets.report.export import changed, export_day
from promo_assets.report.page import totals, write
from promo_assets.tables.table import Table
from promo_assets.tables.waiting import waits_by_day
from promo_assets.warehouse.publish import prepare
from promo_assets.warehouse.reading import reading


def assets(
    partitions: Partitions,
    tables: Mapping[str, Table],
    home: Home,
    consent: ConsentRule,
) -> list[dg.AssetsDefinition]:
    """The report and the export; they read what is published and change nothing."""
    contracts = {name: table.contract for name, table in tables.items()}
    read = (
        "features/user_daily",
        "propensity/scores",
        "segments/segment_summary",
        "strategy/effect_levels",
        "strategy/offer_effects",
        "strategy/budget_prices",
        "strategy/holdout_effects",
    )
    by_segment_mapping = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=DAY)
    by_segment = dg.AssetDep(
        dg.AssetKey(["strategy", "segment_strategy"]), partition_mapping=by_segment_mapping
    )

    shared: dict[str, Any] = {
        "partitions_def": partitions.days,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "owners": ["team:merchandising"],
        "code_version": "1",
        "pool": "duckdb",
        "automation_condition": following(),
    }

    @dg.asset(
        key=["report", "daily_report"],
        group_name="report",
        description="What we did, why, what it cost, what it earned, how sure we are: one page.",
        deps=[*(dg.AssetKey(name.split("/")) for name in read), by_segment],
        kinds={"html"},
        **shared,
    )
    def daily_report(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[None]:
        window = Window.of(date.fromisoformat(key) for key in context.partition_keys)
        shown = (*(name.replace("/", ".") for name in read), "strategy.segment_strategy")
        waits = _waits(warehouse, shown, window)
        with reading(warehouse.warehouse, contracts) as reads:
            reports = list(read_days(reads, window, waits))
        metadata = {}
        for report in reports:
            path = write(report, home.reports)
            metadata[str(report.day)] = {
                "file": dg.MetadataValue.path(str(path)),
                "preview": dg.MetadataValue.md(preview(report.rows("strategies"))),
                **{name: round(value, 2) for name, value in totals(report).items()},
            }
        auditor(warehouse.warehouse, home.data_docs).build_docs()
        return _materialised(context, metadata, waits)

    @dg.asset(
        key=["strategy", "export"],
        group_name="strategy",
        description="The day's assignments and strategies as Parquet and CSV under exports/DAY.",
        deps=[
            dg.AssetDep(dg.AssetKey(["strategy", name]), partition_mapping=by_segment_mapping)
            for name in ("assignments", "segment_strategy")
        ],
        kinds={"csv", "parquet"},
        **shared,
    )
    def export(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[None]:
        window = Window.of(date.fromisoformat(key) for key in context.partition_keys)
        waits = _waits(warehouse, ("strategy.assignments", "strategy.segment_strategy"), window)
        with reading(warehouse.warehouse, contracts) as reads:
            files = {
                key: export_day(reads, date.fromisoformat(key), consent, home.exports)
                for key in context.partition_keys
            }
        metadata = {
            key: {
                "files": dg.MetadataValue.json([str(path) for path in paths]),
                "decided_otherwise_since_sent": changed(home.exports, date.fromisoformat(key))
                if paths
                else 0,
            }
            for key, paths in files.items()
        }
        return _materialised(context, metadata, waits)

    def _waits(
        warehouse: WarehouseResource, asked: Sequence[str], window: Window
    ) -> dict[date, tuple[str, ...]]:
        with warehouse.get_connection() as connection:
            prepare(connection)
            found = waits_by_day(connection, tables, asked, window, partitions.first)
        return {day: tuple(map(str, reasons)) for day, reasons in found.items()}

    return [daily_report, export]


def _materialised(
    context: dg.AssetExecutionContext,
    metadata: Mapping[str, Mapping[str, Any]],
    waits: Mapping[date, Sequence[str]],
) -> dg.MaterializeResult[None]:
    """Materialise the partitions whose day waits for nothing; raises where there is none."""
    made = {key: told for key, told in metadata.items() if date.fromisoformat(key) not in waits}
    if not made:
        day = min(waits)
        raise waiting(f"{context.asset_key.path[-1]} of {day} {'; '.join(waits[day])}")
    if len(made) < len(metadata):
        materialise_only(context, [*made])
    add_partition_metadata(context, made)
    return dg.MaterializeResult()


def preview(strategies: list[Row]) -> str:
    """The day's strategies as a Markdown table, for the asset page."""
    lines = ["| segment | offer | users | expected margin | cost |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {row['segment'].replace('_', ' ')} | {row['offer'] or 'no offer'} "
        f"| {row['audience']:,} | {float(row['expected_margin']):,.2f} "
        f"| {float(row['expected_cost']):,.2f} |"
        for row in strategies
    ]
    return "\n".join(lines)
