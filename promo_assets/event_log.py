"""Dagster's SQLite event log, with batches written as batches.

What belongs here: how Dagster's events reach the disk. A year in one run logs a planned event, a
materialisation and a check evaluation for every table and day, some 30,000; Dagster's own
`SqliteEventLogStorage` stores them one by one, several connections and commits each, about 10 ms.
What does not: what is logged, and when (`promo_assets.assets`).

The rows are those of the parent class, which `tests/test_event_log.py` holds by comparing every
table after the same run in both storages. Only the events that come in bulk take the short way;
any other event is stored by the parent.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
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
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

BATCH_SIZE = 1000
"""Events a transaction: some 30 ms with the write lock, so that other writers get their turn."""

IN_BULK = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """`SqliteEventLogStorage` whose batches are one transaction a file.

    Configured in dagster.yaml, under ``event_log_storage``; ``base_dir`` is the folder of the
    files, which either class reads and writes: going back is a change of that setting.
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
        """A transaction on one file, as the parent's ``_connect``, with an engine that is kept.

        The lock may be taken twice by a thread: a batch writes two files at once.
        """
        with self._lock:
            engine = _engine(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events of one run in their order; all of them or, when it fails, none.

        The run's file is committed within the index's transaction: a batch that fails leaves
        neither, and Dagster's fallback (one by one) stores nothing twice.
        """
        runs = {event.run_id for event in events}
        if len(runs) != 1 or not all(_comes_in_bulk(event) for event in events):
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
                index.execute(AssetCheckExecutionsTable.insert(), checks)

    def _store_assets(self, index: Connection, stored: Sequence[tuple[EventLogEntry, int]]) -> None:
        """Tags of every event; the asset's own row only for the last event of each type, which
        sets the same columns as those before it."""
        if not stored:
            return
        self._store_asset_event_tags(index, *zip(*stored, strict=True))
        last = {
            (_asset_key(event), event.dagster_event_type): i for i, (event, _) in enumerate(stored)
        }
        for position in sorted(last.values()):
            self._store_asset_event(index, *stored[position])


def report_check_evaluations(
    instance: dg.DagsterInstance, evaluations: Sequence[dg.AssetCheckEvaluation]
) -> None:
    """Store evaluations of asset checks outside any run, as `report_runless_asset_event` would.

    With `BatchedSqliteEventLogStorage` they are one batch; another storage gets them one by one,
    because Dagster's own (Postgres) refuse evaluations in a batch.
    """
    batched = isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
    batch = str(uuid.uuid4())
    for number, evaluation in enumerate(evaluations, start=1):
        event = DagsterEvent(
            event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value,
            event_specific_data=evaluation,
            job_name=RUNLESS_JOB_NAME,
        )
        metadata = DagsterEventBatchMetadata(batch, is_end=number == len(evaluations))
        instance.report_dagster_event(
            event, run_id=RUNLESS_RUN_ID, batch_metadata=metadata if batched else None
        )


@lru_cache(maxsize=64)
def _engine(url: str) -> Engine:
    """Kept for the statements it has compiled, half of an event's time; holds no file open."""
    return create_engine(
        url, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
    )


def _comes_in_bulk(event: EventLogEntry) -> bool:
    # The evaluation of a check within a run updates the planned row: the parent's matter.
    if event.dagster_event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
        return event.run_id == RUNLESS_RUN_ID
    return event.dagster_event_type in IN_BULK


def _asset_key(event: EventLogEntry) -> dg.AssetKey | None:
    return event.get_dagster_event().asset_key


def _check_rows(
    event: EventLogEntry, event_id: int, row: Mapping[str, Any]
) -> Iterable[dict[str, Any]]:
    """The rows of ``asset_check_executions``: one a planned partition, or one an evaluation."""
    data = event.get_dagster_event().event_specific_data
    if isinstance(data, AssetCheckEvaluationPlanned):
        status = AssetCheckExecutionRecordStatus.PLANNED
        subset = data.partitions_subset
        partitions: list[str | None] = [*subset.get_partition_keys()] if subset else [None]
        target = None
    elif isinstance(data, dg.AssetCheckEvaluation):
        status = (
            AssetCheckExecutionRecordStatus.SUCCEEDED
            if data.passed
            else AssetCheckExecutionRecordStatus.FAILED
        )
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
