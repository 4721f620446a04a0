"""Dagster's SQLite event log, with batches written as batches.

What belongs here: how Dagster's events reach the disk. A year in one run logs some 30,000, and
Dagster's own storage takes 10 to 20 ms for each: several connections and commits.
What does not: what is logged, and when (`promo_assets.orchestration.table_asset`).

The rows are the parent class's: its test compares every table of both after the
same run. Only events that come in bulk take the short way; the parent stores the others.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import (
    ASSET_EVENTS,
    DagsterEvent,
    DagsterEventBatchMetadata,
    DagsterEventType,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

BATCH_SIZE = 1000
"""Events a transaction: some 50 ms with the write lock, so that other writers get their turn."""

CHECKS = {
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
    DagsterEventType.ASSET_CHECK_EVALUATION,
}
"""Never in one batch: a step's checks are planned before it starts."""

PLANNED = AssetCheckExecutionRecordStatus.PLANNED.value
CHANGED = (
    "execution_status",
    "evaluation_event",
    "evaluation_event_timestamp",
    "evaluation_event_storage_id",
    "materialization_event_storage_id",
)
"""What an evaluation changes in the row that was planned for it."""

IN_BULK = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """`SqliteEventLogStorage` whose batches are one transaction a file.

    ``base_dir`` is the files' folder, and theirs alone: Dagster's default is history/runs. Either
    class reads and writes them, so going back is a change of dagster.yaml.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._lock = threading.RLock()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> BatchedSqliteEventLogStorage:
        # Dagster hands events over one by one unless this is set, and has no setting of its own
        # for it. Whoever configures this class wants batches: in the terminal, in a launched run.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))
        return cls(inst_data=inst_data, **config_value)

    def run_connection(self, run_id: str | None = None) -> Any:
        return self._open(run_id or RUNLESS_RUN_ID)

    def index_connection(self) -> Any:
        return self._open(INDEX_SHARD_NAME)

    @contextmanager
    def _open(self, shard: str) -> Iterator[Connection]:
        """A transaction on one file: the parent's ``_connect``, but with an engine that is kept
        and a lock that a thread may take twice, because a batch writes two files at once."""
        with self._lock:
            engine = _engine(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events of one run in their order; all of them or, when it fails, none.

        The run's file is committed within the index's transaction, so that Dagster's fallback for
        a batch that fails (one event at a time) stores nothing twice.
        """
        runs = {event.run_id for event in events}
        kinds = {event.dagster_event_type for event in events}
        if len(runs) != 1 or kinds >= CHECKS or not all(map(_comes_in_bulk, events)):
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert()
        with self.index_connection() as index, self.run_connection(runs.pop()) as run:
            run.execute(insert, rows)
            ids = index.scalars(
                insert.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True), rows
            ).all()
            stored = list(zip(events, ids, rows, strict=True))
            self._store_assets(
                index, [(e, i) for e, i, _ in stored if e.dagster_event_type in ASSET_EVENTS]
            )
            checks = [check for event in stored for check in _check_rows(*event)]
            if checks:
                _store_checks(index, events[0].run_id, checks)

    def _store_assets(self, index: Connection, stored: Sequence[tuple[EventLogEntry, int]]) -> None:
        """Tags of every event, but the asset's own row only for those that show in the end."""
        if not stored:
            return
        self._store_asset_event_tags(index, *zip(*stored, strict=True))
        showing: dict[object, int] = {}
        for position, (event, _) in enumerate(stored):
            asset_key = event.get_dagster_event().asset_key
            showing.setdefault(asset_key, position)  # The first one makes the row,
            showing[asset_key, event.dagster_event_type] = position  # the last of a type sets it.
        for position in sorted(set(showing.values())):
            self._store_asset_event(index, *stored[position])


def report_check_evaluations(
    instance: dg.DagsterInstance, run: dg.DagsterRun, evaluations: Sequence[dg.AssetCheckEvaluation]
) -> None:
    """Store evaluations of asset checks, one a partition, as events of ``run``.

    A range run by itself stores one evaluation for all its partitions. With
    `BatchedSqliteEventLogStorage` they are one batch; another storage gets them one by one, because
    Dagster's own (Postgres) refuse evaluations in a batch.
    """
    batched = isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
    batch = str(uuid.uuid4())
    for number, evaluation in enumerate(evaluations, start=1):
        event = DagsterEvent(
            event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value,
            event_specific_data=evaluation,
            job_name=run.job_name,
        )
        metadata = DagsterEventBatchMetadata(batch, is_end=number == len(evaluations))
        instance.report_dagster_event(
            event, run_id=run.run_id, batch_metadata=metadata if batched else None
        )


@lru_cache(maxsize=64)
def _engine(url: str) -> Engine:
    """Kept for the statements it has compiled, half of an event's time; holds no file open."""
    timeout = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
    return create_engine(url, poolclass=NullPool, connect_args=timeout)


def _comes_in_bulk(event: EventLogEntry) -> bool:
    # An evaluation outside a run, or of no partition, comes alone: the parent's matter.
    if event.dagster_event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
        partition = event.get_dagster_event().asset_check_evaluation_data.partition
        return event.run_id != RUNLESS_RUN_ID and partition is not None
    return event.dagster_event_type in IN_BULK


def _store_checks(index: Connection, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert planned rows; an evaluation updates the row of its run, check and partition where
    there is one, and is inserted where there is none."""
    table = AssetCheckExecutionsTable
    planned = [row for row in rows if row["execution_status"] == PLANNED]
    if planned:
        index.execute(table.insert(), planned)
    evaluated = [row for row in rows if row["execution_status"] != PLANNED]
    if not evaluated:
        return
    key = (table.c.asset_key, table.c.check_name, table.c.partition)
    known = {tuple(found) for found in index.execute(select(*key).where(table.c.run_id == run_id))}
    updates, inserts = [], []
    for row in evaluated:
        place = (row["asset_key"], row["check_name"], row["partition"])
        if place not in known:
            known.add(place)
            inserts.append(row)
            continue
        planned_row = dict(zip(("of_asset", "of_check", "of_partition"), place, strict=True))
        updates.append({**row, **planned_row, "of_run": run_id})
    if inserts:
        index.execute(table.insert(), inserts)
    if updates:
        of_row = (
            table.c.asset_key == bindparam("of_asset"),
            table.c.check_name == bindparam("of_check"),
            table.c.partition == bindparam("of_partition"),
            table.c.run_id == bindparam("of_run"),
        )
        index.execute(
            table.update().where(*of_row).values({name: bindparam(name) for name in CHANGED}),
            updates,
        )


def _check_rows(
    event: EventLogEntry, event_id: int, row: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The rows of ``asset_check_executions``: one a planned partition, or one an evaluation."""
    data = event.get_dagster_event().event_specific_data
    partitions: list[str | None] = [None]
    target = None
    if isinstance(data, AssetCheckEvaluationPlanned):
        status = AssetCheckExecutionRecordStatus.PLANNED
        if data.partitions_subset:
            partitions = [*data.partitions_subset.get_partition_keys()]
    elif isinstance(data, dg.AssetCheckEvaluation):
        status = AssetCheckExecutionRecordStatus["SUCCEEDED" if data.passed else "FAILED"]
        partitions, target = [data.partition], data.target_materialization_data
    else:
        return []
    return [
        {
            "asset_key": data.asset_key.to_string(),
            "check_name": data.check_name,
            "partition": partition,
            "run_id": event.run_id,
            "execution_status": status.value,
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": row["timestamp"],
            "evaluation_event_storage_id": event_id,
            "materialization_event_storage_id": target.storage_id if target else None,
        }
        for partition in partitions
    ]
