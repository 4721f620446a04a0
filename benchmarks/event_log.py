"""How long Dagster's bookkeeping of a year in one run takes: its own event log against ours.

The same run twice: tables that do nothing but report every day's metadata and gate, as the
platform's do. Prints the seconds of the whole run, the executor's share included.
"""

import os
import tempfile
import time
import warnings
from pathlib import Path

import dagster as dg

from promo_assets.orchestration.event_log import (
    BatchedSqliteEventLogStorage,
    report_check_evaluations,
)

TABLES = 4
DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2018-01-01")
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
STORAGES = {
    "stock": ("dagster._core.storage.event_log", "SqliteEventLogStorage"),
    "batched": (BatchedSqliteEventLogStorage.__module__, BatchedSqliteEventLogStorage.__name__),
}


def table(number: int) -> dg.AssetsDefinition:
    """An asset with a gate; it reads the one before it."""

    @dg.asset(
        name=f"table_{number}",
        deps=[f"table_{number - 1}"] if number else [],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec("gate", asset=f"table_{number}", blocking=True, partitions_def=DAYS)
        ],
    )
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for day in context.partition_keys:
            context.add_asset_metadata({"dagster/row_count": 1, "gate": "ok"}, partition_key=day)
        report_check_evaluations(
            context.instance,
            context.run,
            [
                dg.AssetCheckEvaluation(
                    asset_key=context.asset_key,
                    check_name="gate",
                    passed=True,
                    metadata={},
                    partition=day,
                )
                for day in context.partition_keys
            ],
        )
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    return made


def seconds_with(storage: str) -> float:
    """Seconds of a run over the year, on a new instance in a temporary folder."""
    module, name = STORAGES[storage]
    job = dg.Definitions(
        assets=[table(number) for number in range(TABLES)],
        jobs=[dg.define_asset_job("year")],
        executor=dg.in_process_executor,
    ).resolve_job_def("year")
    keys = DAYS.get_partition_keys()
    tags = {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }
    with tempfile.TemporaryDirectory() as folder:
        log = {"module": module, "class": name, "config": {"base_dir": f"{folder}/history/runs"}}
        overrides = {"event_log_storage": log, "telemetry": {"enabled": False}}
        with dg.DagsterInstance.local_temp(folder, overrides=overrides) as instance:
            began = time.perf_counter()
            result = job.execute_in_process(instance=instance, tags=tags, run_config=QUIET)
            took = time.perf_counter() - began
            assert result.success
            assert len(instance.get_materialized_partitions(dg.AssetKey("table_0"))) == len(keys)
    return took


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ.pop("DAGSTER_EVENT_BATCH_SIZE", None)
    print(
        f"{Path(__file__).stem}: {TABLES} tables x {len(DAYS.get_partition_keys())} days in one run"
    )
    seconds = {storage: seconds_with(storage) for storage in STORAGES}
    for storage, took in seconds.items():
        print(f"  {storage:8} {took:6.2f} s")
    print(f"  ratio    {seconds['stock'] / seconds['batched']:6.1f}")


if __name__ == "__main__":
    main()
