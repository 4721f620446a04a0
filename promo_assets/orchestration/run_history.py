"""Dagster's memory of runs: which of them still work, and those that removal by age may forget
(`promo_assets.privacy.retention`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

import dagster as dg

from promo_assets.privacy.mentions import sqlite, vacuum

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
WORKING = [status for status in dg.DagsterRunStatus if status not in ENDED]


def alive(instance: dg.DagsterInstance) -> Callable[[str], bool]:
    """Tells of the beginning of a run's id whether that run has not ended."""

    def works(beginning: str) -> bool:
        runs = instance.get_runs(filters=dg.RunsFilter(statuses=WORKING))
        return any(run.run_id.startswith(beginning) for run in runs)

    return works


@dataclass(frozen=True)
class DagsterRuns:
    """The runs of an instance."""

    instance: dg.DagsterInstance

    def ended_before(self, day: date) -> Sequence[str]:
        """The ids of runs that ended before ``day`` (UTC)."""
        old = dg.RunsFilter(statuses=ENDED, created_before=datetime.combine(day, time(), UTC))
        return [run.run_id for run in self.instance.get_runs(filters=old)]

    def forget(self, runs: Sequence[str]) -> None:
        """Remove them, and that they materialised anything."""
        for run_id in runs:
            self.instance.delete_run(run_id)
        if runs:
            _forget_in_sqlite(Path(self.instance.root_directory) / "history", runs)


def _forget_in_sqlite(history: Path, runs: Sequence[str]) -> None:
    """What Dagster leaves of deleted runs in its files: results of checks, with their examples,
    empty logs, and freed pages."""
    index = history / "runs" / "index.db"
    if index.exists():
        with sqlite(index, "rw") as opened:
            opened.executemany(
                "delete from asset_check_executions where run_id = ?", [[run] for run in runs]
            )
        vacuum(index)
    if (history / "runs.db").exists():
        vacuum(history / "runs.db")
    for run_id in runs:
        (history / "runs" / f"{run_id}.db").unlink(missing_ok=True)
