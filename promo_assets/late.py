"""The sensor that rebuilds late days: days whose delivery changed after they were taken in.

The first late day and all that follows from it, up to the newest published day, is rebuilt, phase
by phase as `promo run` does. The result is what it would have been had everything come in time.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from promo_assets.automation import jobs
from promo_assets.deliveries import Late, look
from promo_assets.partitions import Window
from promo_assets.runs import BATCH_TAG, RunError, plan
from promo_assets.settings import Settings, SettingsError
from promo_assets.sources import SourceError
from promo_assets.warehouse.connection import WarehouseError

if TYPE_CHECKING:
    from dagster import RunRequest, SensorEvaluationContext, SkipReason

PHASE_TAG = "promo/phase"
SECONDS = 60
"""Between looks at the source."""


def sensor(settings: Settings) -> dg.SensorDefinition:
    """Looks for late days and rebuilds them: the phases of `promo run`, one run after the other."""

    @dg.sensor(
        name="rebuild_late_days",
        jobs=list(jobs()),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Looks every minute whether published days are delivered differently now, and "
        "rebuilds them and what follows. The rebuild's runs share the tag promo/batch.",
    )
    def rebuild_late_days(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[RunRequest | SkipReason]:
        memory = json.loads(context.cursor or "{}")
        if "batch" in memory:
            yield _next(context, memory, settings)
            return
        try:
            late = look(settings)
        except (WarehouseError, SourceError, SettingsError) as error:
            yield dg.SkipReason(str(error))
            return
        if late is None:
            yield dg.SkipReason("every published day is as it is delivered")
        elif memory.get("given_up") == _signature(late):
            yield dg.SkipReason(
                f"{late.told}; its rebuild failed before. Mend the cause and run "
                f"`promo late --run`, or reset this sensor's cursor"
            )
        else:
            memory = {
                "batch": uuid.uuid4().hex[:8],
                "first": str(late.window.start),
                "end": str(late.window.end),
                "late": _signature(late),
                "phase": 0,
            }
            context.log.info(late.told)
            yield _request(context, memory, settings)

    return rebuild_late_days


def _signature(late: Late) -> str:
    return hashlib.sha256(repr((late.days, late.window)).encode()).hexdigest()[:12]


def _request(
    context: SensorEvaluationContext, memory: dict[str, Any], settings: Settings
) -> RunRequest | SkipReason:
    """The run of the memory's phase; skips phases that are over when all are done."""
    window = Window(date.fromisoformat(memory["first"]), date.fromisoformat(memory["end"]))
    try:
        phases = plan(window, settings)
    except RunError as error:
        context.update_cursor("{}")
        return dg.SkipReason(str(error))
    if memory["phase"] >= len(phases):
        context.update_cursor("{}")
        return dg.SkipReason(f"{window} is rebuilt")
    context.update_cursor(json.dumps(memory))
    phase = phases[memory["phase"]]
    return dg.RunRequest(
        run_key=f"{memory['batch']}-{memory['phase']}",
        job_name=phase.job,
        tags={BATCH_TAG: memory["batch"], PHASE_TAG: str(memory["phase"]), **phase.tags},
    )


def _next(
    context: SensorEvaluationContext, memory: dict[str, Any], settings: Settings
) -> RunRequest | SkipReason:
    """Ask for the next phase once the run of the last one has ended well."""
    tags = {BATCH_TAG: memory["batch"], PHASE_TAG: str(memory["phase"])}
    runs = context.instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
    if not runs:
        return _request(context, memory, settings)  # It was lost on the way: same key, once only.
    run = runs[0]
    if not run.is_finished:
        return dg.SkipReason(f"{run.job_name} of the rebuild is {run.status.value.lower()}")
    if not run.is_success:
        context.update_cursor(json.dumps({"given_up": memory["late"]}))
        return dg.SkipReason(
            f"{run.job_name} (run {run.run_id[:8]}) of the rebuild ended as "
            f"{run.status.value.lower()}; what was published stays. Mend the cause, then run "
            "`promo late --run`"
        )
    return _request(context, memory | {"phase": memory["phase"] + 1}, settings)
