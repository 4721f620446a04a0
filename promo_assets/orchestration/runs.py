"""Running the platform from a terminal: which Dagster runs a range of days takes, in which order.

Dagster can't mix daily, weekly and day x segment partitions in one run. A range is therefore a
few runs, one after the other in this process, tied together by one tag: the daily tables, the
weekly trainings that the range closes, the decisions, the strategies, the reports. Nothing can be
sent to anybody on the days of a history: the last three may be made for its newest days only.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from promo_assets.contract.days import Window, cut_off, week_of
from promo_assets.contract.home import Home
from promo_assets.contract.segments import SEGMENTS
from promo_assets.orchestration.automation import reason, waits
from promo_assets.orchestration.killed_runs import end_killed_runs, running
from promo_assets.orchestration.partitions import Partitions
from promo_assets.tables.recommendations import LISTED_DAYS
from promo_assets.tables.table import Table

if TYPE_CHECKING:
    from dagster._core.events.log import EventLogEntry

BATCH_TAG = "promo/batch"
LISTS = "recommendations.user_items"
"""Made by the job ``daily_lists`` alone."""


class RunError(ValueError):
    """A range can't be run; the message says why."""


@dataclass(frozen=True)
class Phase:
    """One Dagster run: a job over a range of partition keys, '' for a job without partitions."""

    job: str
    title: str
    first: str = ""
    last: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """How Dagster is told the range."""
        if not self.first:
            return {}
        return {
            "dagster/asset_partition_range_start": self.first,
            "dagster/asset_partition_range_end": self.last,
        }


@dataclass(frozen=True)
class PhaseResult:
    """How a phase went: ``failures`` are (step, message), in the order in which they happened;
    ``waiting`` are those of steps that could do nothing but wait."""

    phase: Phase
    run_id: str
    success: bool
    seconds: float
    failures: tuple[tuple[str, str], ...]
    waiting: tuple[tuple[str, str], ...] = ()


def plan(window: Window, partitions: Partitions, decide: int | None = None) -> list[Phase]:
    """The phases of a range of days, in order; ``decide``: its last days, the only ones of which
    lists, strategies, reports and exports are made (None: all)."""
    last = partitions.days.get_last_partition_key()
    if last is None:
        raise RunError(
            f"no day can be run: PROMO_START={partitions.first} lies after the last day, which is "
            "PROMO_END or yesterday (UTC); set an earlier PROMO_START"
        )
    if window.start < partitions.first or window.days[-1].isoformat() > last:
        raise RunError(
            f"{window} is not within the partitions {partitions.first}..{last}; the first day is "
            "PROMO_START, the last one PROMO_END or yesterday (UTC)"
        )
    first, final = window.start.isoformat(), window.days[-1].isoformat()
    phases = [Phase("dimensions", "items, users, offers")]
    phases.append(Phase("daily_tables", "events, features, profiles", first, final))
    mondays = sorted({week_of(day) for day in window.days})
    weeks = [
        monday
        for monday in mondays
        if monday >= partitions.first and cut_off(monday) in (window.start, *window.days)
    ]
    if weeks:
        phases.append(
            Phase("weekly_training", "propensity", weeks[0].isoformat(), weeks[-1].isoformat())
        )
    phases.append(Phase("daily_decisions", "scores, segments, prices", first, final))
    first = _decided(window, decide).start.isoformat()
    listed_from = _listed(window, decide).start.isoformat()
    phases.append(Phase("daily_lists", "products for users", listed_from, final))
    phases.append(
        Phase(
            "segment_strategies",
            "strategies by segment",
            f"{first}|{SEGMENTS[0]}",
            f"{final}|{SEGMENTS[-1]}",
        )
    )
    phases.append(Phase("daily_reports", "reports", first, final))
    return phases


def made_days(table: Table, window: Window, decide: int | None) -> Window:
    """The days of a range of which `plan` makes a table."""
    if table.grid == "day_segment":
        return _decided(window, decide)
    return _listed(window, decide) if table.contract.table == LISTS else window


def _decided(window: Window, decide: int | None) -> Window:
    """The days of a range of which strategies, reports and exports are made."""
    return Window.of(window.days[-decide:]) if decide else window


def _listed(window: Window, decide: int | None) -> Window:
    """The days of a range of which lists are made: one is made on the days on which its user does
    something, and holds for some time."""
    first = _decided(window, decide).start - timedelta(days=LISTED_DAYS)
    return Window(max(window.start, first), window.end)


def prepare_home(place: Home) -> None:
    """Create ``PROMO_HOME`` with Dagster's instance file where it is missing, and point Dagster
    at it. Nothing existing is touched."""
    home = place.dagster
    instance = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not instance.exists():
            shutil.copyfile(Path(__file__).with_name("dagster.yaml"), instance)
    except OSError as error:
        raise RunError(
            f"PROMO_HOME={place.root}: can't be written ({error.strerror}: {error.filename}); "
            "set PROMO_HOME to a folder that can"
        ) from error
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["PROMO_HOME"] = str(place.root)
    os.environ["PROMO_EVENT_LOG"] = str(home / "history" / "runs")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")


@contextmanager
def open_instance(place: Home) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance in ``PROMO_HOME/dagster``."""
    prepare_home(place)
    try:
        opened = dg.DagsterInstance.get()
    except (dg.DagsterError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"{place.dagster / 'dagster.yaml'}: Dagster can't open its instance ({reason})."
            " Correct the file, or remove it to get the default back"
        ) from error
    with opened as instance:
        yield instance


def new_batch() -> str:
    """What ties the runs of a range together."""
    return uuid.uuid4().hex[:8]


def steps(
    phase: Phase, definitions: dg.Definitions, groups: Sequence[str] = ()
) -> list[dg.AssetKey]:
    """The assets of ``groups``, or all, that a phase makes."""
    layer = definitions.resolve_job_def(phase.job).asset_layer
    keys = sorted(layer.executable_asset_keys)
    return [key for key in keys if not groups or layer.get(key).group_name in groups]


def cancel(instance: dg.DagsterInstance, batch: str) -> None:
    """Mark the newest run of a batch as cancelled, unless it has succeeded, and give back its
    slots: an interrupt lets Dagster take it for failed, or for working still."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={BATCH_TAG: batch}), limit=1)
    for run in runs:
        if not run.is_success:
            instance.report_run_canceled(run)
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def run_phase(
    phase: Phase,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    batch: str,
    groups: Sequence[str] = (),
    listen: Callable[[str, str], None] = lambda event, step: None,
) -> PhaseResult | None:
    """Run one phase in this process; None when ``groups`` names nothing that the phase makes.

    ``listen`` is told ``STEP_START``, ``STEP_SUCCESS``, ``STEP_FAILURE`` and ``STEP_SKIPPED`` with
    the step.
    """
    job = definitions.resolve_job_def(phase.job)
    chosen = steps(phase, definitions, groups)
    if not chosen:
        return None
    run_id = str(uuid.uuid4())

    def told(entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event is not None and event.step_key is not None:
            listen(event.event_type_value, event.step_key)

    instance.add_event_listener(run_id, told)
    began = time.perf_counter()
    end_killed_runs(instance)
    with running(instance, run_id):
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            asset_selection=chosen,
            raise_on_error=False,
            # Failures are told by the caller, in one line each; the event log holds everything.
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={BATCH_TAG: batch, **phase.tags},
        )
    ended = [event for event in result.all_events if event.is_step_failure]
    failures = [(event.step_key or "?", reason(event)) for event in ended if not waits(event)]
    waiting = [(event.step_key or "?", reason(event)) for event in ended if waits(event)]
    if not result.success and not ended:  # It failed before its first step.
        reasons = [event.message or "" for event in result.all_events if event.is_failure]
        failures.append((phase.job, " ".join(reasons) or "no reason was recorded"))
    seconds = time.perf_counter() - began
    return PhaseResult(phase, run_id, result.success, seconds, tuple(failures), tuple(waiting))


def run_days(
    window: Window,
    partitions: Partitions,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    batch: str = "",
    groups: Sequence[str] = (),
    listen: Callable[[Phase, str, str], None] = lambda phase, event, step: None,
    stopped: Callable[[], bool] = lambda: False,
    decide: int | None = None,
) -> list[PhaseResult]:
    """Run every phase of a range. A failed phase does not end it: days whose inputs are there go
    through the others, and those that follow from what failed wait and say so.

    Raises KeyboardInterrupt after a phase that was ``stopped``.
    """
    batch = batch or new_batch()
    results: list[PhaseResult] = []
    for phase in plan(window, partitions, decide):
        result = run_phase(
            phase,
            definitions,
            instance,
            batch=batch,
            groups=groups,
            listen=lambda event, step, phase=phase: listen(phase, event, step),  # type: ignore[misc]
        )
        if stopped():
            raise KeyboardInterrupt
        if result is not None:
            results.append(result)
    return results
