"""The event log writes what Dagster's own storage writes, only sooner."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy.exc
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_assets.orchestration.event_log import (
    BatchedSqliteEventLogStorage,
    report_check_evaluations,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.PreviewWarning", "ignore::dagster.BetaWarning"
)

STOCK = "dagster._core.storage.event_log.SqliteEventLogStorage"
BATCHED = "promo_assets.orchestration.event_log.BatchedSqliteEventLogStorage"
RUN = "5f0c2a52-0000-4000-8000-000000000000"
DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2017-01-06")
CELLS = dg.MultiPartitionsDefinition(
    {"day": DAYS, "segment": dg.StaticPartitionsDefinition(["loyal", "new"])}
)
Tables = dict[tuple[str, str], list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, and again after the test: the storage sets this variable."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "")
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")


def instance_in(folder: Path, storage: str = BATCHED) -> dg.DagsterInstance:
    """A Dagster instance on disk with one of the two storages, its files in the usual place."""
    module, _, name = storage.rpartition(".")
    folder.mkdir(exist_ok=True)
    config = {
        "module": module,
        "class": name,
        "config": {"base_dir": str(folder / "history" / "runs")},
    }
    overrides = {"event_log_storage": config, "telemetry": {"enabled": False}}
    return dg.DagsterInstance.local_temp(str(folder), overrides=overrides)


def range_job(partitions: dg.PartitionsDefinition) -> dg.JobDefinition:
    """Two tables, each with a gate, that report per partition, as the platform's do."""

    def table(name: str, upstream: Sequence[str]) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            deps=upstream,
            partitions_def=partitions,
            code_version="1",
            backfill_policy=dg.BackfillPolicy.single_run(),
            check_specs=[dg.AssetCheckSpec("gate", asset=name, partitions_def=partitions)],
        )
        def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            for key in context.partition_keys:
                context.add_asset_metadata({"dagster/row_count": len(key)}, partition_key=key)
            context.log.info("a line of the user")
            report_check_evaluations(
                context.instance,
                context.run,
                [evaluation(name, key) for key in context.partition_keys],
            )
            check = dg.AssetCheckResult(check_name="gate", passed=True)
            return dg.MaterializeResult(metadata={"rows": 7}, check_results=[check])

        return made

    assets = [table("orders", []), table("features", ["orders"])]
    jobs = [dg.define_asset_job("daily")]
    definitions = dg.Definitions(assets=assets, jobs=jobs, executor=dg.in_process_executor)
    return definitions.resolve_job_def("daily")


def evaluation(asset: str, key: str | None, passed: bool = True) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name="gate",
        passed=passed,
        metadata={"n": 1},
        partition=key,
    )


def run_range(instance: dg.DagsterInstance, partitions: dg.PartitionsDefinition) -> None:
    keys = partitions.get_partition_keys()
    tags = {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }
    assert (
        range_job(partitions).execute_in_process(instance=instance, run_id=RUN, tags=tags).success
    )


def tables_in(folder: Path, mask: Callable[[str, Any], Any]) -> Tables:
    """Every row of every table of every file, read with sqlite3 alone."""
    found: Tables = {}
    for file in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(file)) as connection:
            names = connection.execute("select name from sqlite_master where type = 'table'")
            for (table,) in names.fetchall():
                cursor = connection.execute(f'select * from "{table}" order by 1')
                columns = [column for column, *_ in cursor.description]
                found[file.name, table] = [
                    tuple(mask(column, value) for column, value in zip(columns, row, strict=True))
                    for row in cursor
                ]
    return found


def without_clock(column: str, value: Any) -> Any:
    """What two runs of the same job share: times, durations, process ids and the random name of
    the captured output are taken out."""
    if column.endswith(("timestamp", "migration_completed")):
        return None
    if isinstance(value, str) and value.startswith("{"):
        value = re.sub(r'("(?:timestamp|pid|duration_ms)": )[\d.]+', r"\1.", value)
        value = re.sub(r'("log_key": )"\w+"', r"\1.", value)
        return re.sub(r"[\d.]+(ms|s)\b|\(pid: \d+\)", ".", value)
    return value


def without_creation(column: str, value: Any) -> Any:
    """What two storages of the same events share."""
    return None if column in {"create_timestamp", "migration_completed"} else value


@pytest.mark.parametrize("partitions", [DAYS, CELLS], ids=["days", "days x segments"])
def test_a_range_run_leaves_the_same_rows_as_the_stock_storage(
    tmp_path: Path, partitions: dg.PartitionsDefinition
) -> None:
    for name, storage in {"stock": STOCK, "batched": BATCHED}.items():
        with instance_in(tmp_path / name, storage) as instance:
            run_range(instance, partitions)
    stock, batched = (
        tables_in(tmp_path / name / "history" / "runs", without_clock)
        for name in ("stock", "batched")
    )
    assert stock.keys() == batched.keys()
    for table, rows in stock.items():
        assert batched[table] == rows, table
    keys = len(partitions.get_partition_keys())
    assert len(stock["index.db", "event_logs"]) >= 2 * (keys + keys + keys)


def test_a_range_run_is_known_partition_by_partition(tmp_path: Path) -> None:
    with instance_in(tmp_path) as instance:
        run_range(instance, DAYS)
        key, keys = dg.AssetKey("orders"), DAYS.get_partition_keys()
        assert instance.get_materialized_partitions(key) == set(keys)
        record = instance.get_asset_records([key])[0].asset_entry
        assert record.last_run_id == RUN
        assert record.last_materialization_record is not None
        assert record.last_materialization_record.partition_key == keys[-1]
        cache = get_and_update_asset_status_cache_value(instance, key, DAYS)
        assert cache is not None
        assert set(
            cache.deserialize_materialized_partition_subsets(DAYS).get_partition_keys()
        ) == set(keys)
        checks = instance.event_log_storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(key, "gate")]
        )
        assert {(info.partition_key, info.latest_execution_status.value) for info in checks} >= {
            (day, "SUCCEEDED") for day in keys
        }


def test_listeners_are_told_of_every_event_in_order(tmp_path: Path) -> None:
    with instance_in(tmp_path) as instance:
        told: list[EventLogEntry] = []
        instance.add_event_listener(RUN, told.append)
        run_range(instance, DAYS)
        logged = instance.all_logs(RUN)
    assert [entry.to_json() for entry in told] == [entry.to_json() for entry in logged]


def entry(kind: DagsterEventType, data: Any, run: str = RUN, at: float = 1.5e9) -> EventLogEntry:
    event = DagsterEvent(kind.value, "daily", event_specific_data=data, step_key="orders")
    return EventLogEntry(None, 10, "", run, at, "orders", "daily", event)


def materialisations(number: int, run: str = RUN) -> list[EventLogEntry]:
    return [
        entry(
            DagsterEventType.ASSET_MATERIALIZATION,
            StepMaterializationData(dg.AssetMaterialization("orders", partition=str(i))),
            run,
        )
        for i in range(number)
    ]


def planned_check(asset: str, keys: set[str] | None) -> AssetCheckEvaluationPlanned:
    subset = None if keys is None else DefaultPartitionsSubset(keys)
    return AssetCheckEvaluationPlanned(
        asset_key=dg.AssetKey(asset), check_name="gate", partitions_subset=subset
    )


ASSETS = st.sampled_from(["orders", "features"])
KEYS = st.none() | st.sampled_from(["a", "b"])
VERSIONS = st.sampled_from([{}, {"dagster/data_version": "1", "ignored": "x"}])
TARGETS = st.none() | st.builds(
    AssetCheckEvaluationTargetMaterializationData,
    storage_id=st.integers(1, 9),
    run_id=st.just(RUN),
    timestamp=st.just(1.5e9),
)
EVALUATIONS = st.builds(
    lambda asset, passed, target, key: dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name="gate",
        passed=passed,
        metadata={},
        target_materialization_data=target,
        partition=key,
    ),
    ASSETS,
    st.booleans(),
    TARGETS,
    KEYS,
)
KINDS = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED: st.builds(
        AssetMaterializationPlannedData,
        asset_key=ASSETS.map(dg.AssetKey),
        partition=KEYS,
        partitions_subset=st.none(),
    ),
    DagsterEventType.ASSET_MATERIALIZATION: st.builds(
        lambda asset, key, tags: StepMaterializationData(
            dg.AssetMaterialization(asset, partition=key, tags=tags)
        ),
        ASSETS,
        KEYS,
        VERSIONS,
    ),
    DagsterEventType.ASSET_OBSERVATION: st.builds(
        lambda asset, key, tags: AssetObservationData(
            dg.AssetObservation(asset, partition=key, tags=tags)
        ),
        ASSETS,
        KEYS,
        VERSIONS,
    ),
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED: st.builds(
        planned_check, ASSETS, st.none() | st.sets(st.sampled_from("abc"), min_size=1)
    ),
    DagsterEventType.ASSET_CHECK_EVALUATION: EVALUATIONS,
}


@st.composite
def batches(draw: st.DrawFn) -> list[EventLogEntry]:
    """Events of any kinds in any order, of no run, of a run, or of both."""
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=6))
    runs = draw(st.sampled_from([[""], ["", RUN], [RUN]]))
    return [
        entry(kind, draw(KINDS[kind]), runs[second % len(runs)], at=1.5e9 + second)
        for second, kind in enumerate(kinds)
    ]


@pytest.fixture(scope="module")
def storages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, SqliteEventLogStorage]:
    """One storage of each class, by its folder; to create the files takes a second."""
    stock, batched = tmp_path_factory.mktemp("stock"), tmp_path_factory.mktemp("batched")
    return {
        stock: SqliteEventLogStorage(str(stock)),
        batched: BatchedSqliteEventLogStorage(str(batched)),
    }


def empty(folder: Path) -> None:
    for (file, table), rows in tables_in(folder, without_creation).items():
        if rows and table != "alembic_version":
            with closing(sqlite3.connect(folder / file)) as connection, connection:
                connection.execute(f'delete from "{table}"')


@settings(max_examples=30, deadline=None)
@given(events=batches())
def test_any_batch_leaves_the_rows_that_its_events_leave_one_by_one(
    storages: dict[Path, SqliteEventLogStorage], events: list[EventLogEntry]
) -> None:
    refused = []
    for folder, storage in storages.items():
        empty(folder)
        try:
            storage.store_event_batch(events)
        except (sqlalchemy.exc.IntegrityError, dg.DagsterInvariantViolationError) as error:
            refused.append(type(error))
    if refused:  # A check planned twice in a run: both storages refuse it.
        assert len(refused) == 2
        return
    stock, batched = (tables_in(folder, without_creation) for folder in storages)
    for table in stock.keys() | batched.keys():
        assert batched.get(table, []) == stock.get(table, []), table


def test_reported_evaluations_are_those_of_reports_one_by_one(tmp_path: Path) -> None:
    results = [
        evaluation("orders", key, passed=key != "2017-01-03") for key in DAYS.get_partition_keys()
    ]
    run = dg.DagsterRun(job_name="daily", run_id=RUN)
    planned = entry(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        planned_check("orders", {"2017-01-01", "2017-01-02"}),
        RUN,
    )
    with (
        instance_in(tmp_path / "single", STOCK) as single,
        instance_in(tmp_path / "batched") as batched,
    ):
        for instance in (single, batched):
            instance.event_log_storage.store_event(planned)
            report_check_evaluations(instance, run, results)
            report_check_evaluations(instance, run, results[:2])  # The step is tried again.
            report_check_evaluations(instance, run, [])
    one_by_one = tables_in(tmp_path / "single" / "history" / "runs", without_clock)
    assert tables_in(tmp_path / "batched" / "history" / "runs", without_clock) == one_by_one
    assert len(one_by_one["index.db", "asset_check_executions"]) == len(results)


def test_evaluations_reach_a_storage_that_takes_no_batches() -> None:
    run = dg.DagsterRun(job_name="daily", run_id=RUN)
    with dg.DagsterInstance.ephemeral() as instance:
        report_check_evaluations(instance, run, [evaluation("orders", "2017-01-01", passed=False)])
        check = dg.AssetCheckKey(dg.AssetKey("orders"), "gate")
        (record,) = instance.event_log_storage.get_asset_check_execution_history(check, limit=5)
    assert record.status.value == "FAILED"
    assert record.partition == "2017-01-01"


def test_a_batch_that_fails_leaves_no_row(tmp_path: Path) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    storage.store_event_batch(materialisations(3))
    before = tables_in(tmp_path, without_creation)
    twice = entry(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned_check("orders", {"a", "b"})
    )
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        storage.store_event_batch([*materialisations(3), twice, twice])
    assert tables_in(tmp_path, without_creation) == before


def test_readers_read_whole_batches_while_they_are_written(tmp_path: Path) -> None:
    writer = BatchedSqliteEventLogStorage(str(tmp_path))
    writer.store_event_batch(materialisations(50))
    reader, seen, done = SqliteEventLogStorage(str(tmp_path)), set(), threading.Event()

    def write() -> None:
        for _ in range(20):
            writer.store_event_batch(materialisations(50))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        seen.add(len(reader.get_records_for_run(RUN).records) % 50)
        assert reader.get_asset_records([dg.AssetKey("orders")])
    thread.join()
    assert seen == {0}
    assert len(reader.get_records_for_run(RUN).records) == 50 * 21


def test_watchers_of_a_run_are_told_of_a_batch(tmp_path: Path) -> None:
    storage, told = BatchedSqliteEventLogStorage(str(tmp_path)), []
    storage.store_event_batch(materialisations(2))
    storage.watch(RUN, None, lambda event, cursor: told.append(event))
    storage.store_event_batch(materialisations(5))
    until = time.monotonic() + 10
    while len(told) < 7 and time.monotonic() < until:
        time.sleep(0.01)
    storage.dispose()
    assert len(told) == 7


WRITER = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("events", sys.argv[1])
events = importlib.util.module_from_spec(spec); spec.loader.exec_module(events)
storage = events.BatchedSqliteEventLogStorage(sys.argv[2])
batch = events.materialisations(200)
while True:
    storage.store_event_batch(batch)
    print("stored", flush=True)
"""


@pytest.fixture
def killed_writer(tmp_path: Path) -> Iterator[int]:
    """A process that stored batches of 200 until it was killed; how many it knew of."""
    command = [sys.executable, "-c", WRITER, __file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        known = sum(1 for _, _ in zip(range(5), process.stdout, strict=False))
        time.sleep(0.013)
        os.kill(process.pid, signal.SIGKILL)
        yield known + len(process.stdout.readlines())


@pytest.mark.parametrize("again", range(2))
def test_a_killed_writer_leaves_whole_batches(
    tmp_path: Path, killed_writer: int, again: int
) -> None:
    storage = BatchedSqliteEventLogStorage(str(tmp_path))
    logged = len(storage.get_records_for_run(RUN).records)
    indexed = len(storage.fetch_materializations(dg.AssetKey("orders"), limit=9999).records)
    assert logged % 200 == indexed % 200 == 0
    assert killed_writer <= indexed // 200 <= logged // 200 <= killed_writer + 1
    storage.store_event_batch(materialisations(200))
    assert len(storage.get_records_for_run(RUN).records) == logged + 200


def test_the_storage_asks_dagster_for_batches_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instance_in(tmp_path / "default"):
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "1000"
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "50")
    with instance_in(tmp_path / "told"):
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "50"
