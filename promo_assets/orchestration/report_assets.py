"""What leaves the platform: the merchandiser's daily page and the export, files a day."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from promo_assets.contract.days import Window
from promo_assets.contract.home import Home
from promo_assets.contract.tables import TableContract
from promo_assets.orchestration.automation import following
from promo_assets.orchestration.partition_metadata import add_partition_metadata
from promo_assets.orchestration.partitions import DAY, Partitions
from promo_assets.orchestration.resources import WarehouseResource
from promo_assets.orchestration.table_asset import auditor
from promo_assets.people.consent import ConsentRule
from promo_assets.report.data import Row, read_days
from promo_assets.report.export import changed, export_day
from promo_assets.report.page import totals, write
from promo_assets.warehouse.reading import reading


def assets(
    partitions: Partitions,
    contracts: Mapping[str, TableContract],
    home: Home,
    consent: ConsentRule,
) -> list[dg.AssetsDefinition]:
    """The report and the export; they read what is published and change nothing."""
    read = (
        "features/user_daily",
        "propensity/scores",
        "segments/segment_summary",
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
        with reading(warehouse.warehouse, contracts) as read:
            reports = list(read_days(read, window))
        metadata = {}
        for report in reports:
            path = write(report, home.reports)
            metadata[str(report.day)] = {
                "file": dg.MetadataValue.path(str(path)),
                "preview": dg.MetadataValue.md(preview(report.rows("strategies"))),
                **{name: round(value, 2) for name, value in totals(report).items()},
            }
        add_partition_metadata(context, metadata)
        auditor(warehouse.warehouse, home.data_docs).build_docs()
        return dg.MaterializeResult()

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
        with reading(warehouse.warehouse, contracts) as read:
            files = {
                key: export_day(read, date.fromisoformat(key), consent, home.exports)
                for key in context.partition_keys
            }
        add_partition_metadata(
            context,
            {
                key: {
                    "files": dg.MetadataValue.json([str(path) for path in paths]),
                    "decided_otherwise_since_sent": changed(home.exports, date.fromisoformat(key))
                    if paths
                    else 0,
                }
                for key, paths in files.items()
            },
        )
        return dg.MaterializeResult()

    return [daily_report, export]


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
