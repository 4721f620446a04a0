"""The asset of a table: what is asked (``asked.py``), the write, what Dagster is told.

Every table of the platform becomes an asset here, with the same gate and the same metadata. Not
here: what any particular table holds, and how it is written (``tables/``).

No postponed annotations here: Dagster reads the type of ``context``.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from promo_assets.contract.tables import TableContract
from promo_assets.orchestration import automation
from promo_assets.orchestration.asked import asked
from promo_assets.orchestration.news import message
from promo_assets.orchestration.partition_metadata import materialise_only
from promo_assets.orchestration.partitions import DAY, Partitions
from promo_assets.orchestration.resources import WarehouseResource
from promo_assets.orchestration.results import (
    GATE,
    WARNINGS,
    asset_key,
    report,
    results,
    waiting,
)
from promo_assets.orchestration.run_history import alive
from promo_assets.tables.table import ProductionError, Table, WaitingError
from promo_assets.tables.writing import Run, write
from promo_assets.warehouse.connection import UnreadableError, Warehouse, WarehouseError
from promo_assets.warehouse.publish import PublishError

if TYPE_CHECKING:
    from promo_assets.gates.audit import Auditor

RETRIES = 2
RETRY_SECONDS = 5
"""Another process's lock and a network may be better after 5 and 10 seconds; a wrong model, suite
or source won't, and is not tried again."""


def table_asset(
    table: Table,
    partitions: Partitions,
    docs: Path,
    tables: Mapping[str, Table],
    tell: Callable[[str, Callable[[str], None]], None] = lambda message, warn: None,
) -> dg.AssetsDefinition:
    """The asset of ``table`` with its gate as a blocking check; ``docs`` is where Data Docs go,
    ``tables`` are all there are, among which it is looked for what a day waits for; ``tell`` tells
    people what a gate found, and a logger that they could not be reached."""
    contract = table.contract
    key = asset_key(contract.table)
    grid = partitions.of(table.grid)

    @dg.asset(
        key=key,
        group_name=table.group,
        description=contract.description,
        deps=_dependencies(table),
        partitions_def=grid,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(
                GATE,
                asset=key,
                blocking=True,
                description=f"expectations/{contract.table.replace('.', '/')}.yaml, audited on the "
                "staged slice before it is published",
                partitions_def=grid,
            ),
            dg.AssetCheckSpec(
                WARNINGS,
                asset=key,
                blocking=False,
                description="the same suite's expectations of severity warning",
                partitions_def=grid,
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
        automation_condition=automation.condition_of(table),
        freshness_policy=automation.freshness_of(table),
    )
    def materialise(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        run = Run(
            context.run.run_id, partitions.first, context.log.info, tables, alive(context.instance)
        )
        store = warehouse.warehouse
        try:
            written = write(table, asked(context, table), run, store, auditor(store, docs))
        except WaitingError as error:
            told = waiting(context, table, error.reasons, str(error))
            report(context, told.evaluations, materialised=False)
            yield from told.checks
            raise automation.waiting(str(error)) from error
        except (ProductionError, PublishError) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        except (WarehouseError, ConnectionError) as error:
            if context.retry_number < RETRIES and not isinstance(error, UnreadableError):
                wait = RETRY_SECONDS * 2**context.retry_number
                raise dg.RetryRequested(RETRIES, seconds_to_wait=wait) from error
            raise dg.Failure(description=str(error)) from error
        if new := message(table, written, tables):
            context.log.warning(new)
            tell(new, context.log.warning)
        told = results(context, table, written)
        if written.nothing_published:
            report(context, told.evaluations, materialised=False)
            yield from told.checks
            raise dg.Failure(
                description=told.checks[0].description,
                metadata={automation.TOLD: True},
                allow_retries=False,
            )
        if written.held_back:
            materialise_only(context, told.published)
        yield dg.MaterializeResult(metadata=told.metadata)
        # After the materialisation, which they name: conditions and the UI ignore a check of an
        # older one. Downstream steps wait for the step, so the gate still stands before them.
        report(context, told.evaluations, materialised=True)
        yield from told.checks

    return materialise


@lru_cache(maxsize=4)
def auditor(warehouse: Warehouse, docs: Path) -> "Auditor":
    """The process's auditor of this warehouse: Great Expectations takes seconds to set up."""
    from promo_assets.gates.audit import Auditor

    return Auditor(warehouse, docs)


def _dependencies(table: Table) -> list[dg.AssetDep]:
    """The upstream assets with the partitions that are read of each."""
    deps = [dg.AssetDep(asset_key(name)) for name in (*table.whole, *table.segmented)]
    for name, lookback in table.inputs.items():
        itself = name == table.contract.table
        mapping: dg.PartitionMapping | None = None
        if table.grid == "day_segment":
            mapping = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=DAY)
        elif table.grid == "day" and (itself or lookback):
            mapping = _shifted(-1 if itself else -lookback, -1 if itself else 0)
        deps.append(dg.AssetDep(asset_key(name), partition_mapping=mapping))
    # Dagster counts offsets in the reader's own partitions: a week back is seven days of a day's.
    span = 7 if table.grid == "day" else 1
    for name, (first, last) in table.weekly.items():
        mapping = _shifted(span * first, span * last)
        deps.append(dg.AssetDep(asset_key(name), partition_mapping=mapping))
    return deps


def _shifted(start: int, end: int) -> dg.PartitionMapping:
    return dg.TimeWindowPartitionMapping(
        start_offset=start, end_offset=end, allow_nonexistent_upstream_partitions=True
    )


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
