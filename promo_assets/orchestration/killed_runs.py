"""What a SIGKILL leaves in Dagster's instance, and how the next run clears it.

A killed process can't give back its slot of the pool ``duckdb``, and Dagster waits for it forever
(`InstanceConcurrencyContext`). So every run of a terminal holds a lock that ends with its process.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

LOCKS = "running"
"""Folder of the locks in Dagster's home: one file a run, named by its id."""


@contextmanager
def running(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Hold the lock that tells that the run's process lives; give back its slots at the end."""
    folder = _locks(instance)
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{run_id}"
    with hidden.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lock = hidden.rename(folder / run_id)  # Others see it only once it is locked.
        try:
            yield
        finally:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
            lock.unlink(missing_ok=True)


def end_killed_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs whose process is gone as failed, free their slots, and return their ids."""
    killed = []
    for lock in sorted(_locks(instance).glob("[!.]*")):
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            run = instance.get_run_by_id(lock.name)
            if run is not None and not run.is_finished:
                instance.report_run_failed(run, "The process of this run was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(lock.name)
            lock.unlink(missing_ok=True)
            killed.append(lock.name)
    return killed


def _locks(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / LOCKS
