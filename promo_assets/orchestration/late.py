"""The sensor that rebuilds late days: days whose delivery changed after they were taken in.

The first late day and all that follows from it, up to the newest published day, is rebuilt, phase
by phase as `promo run` does. The result is what it would have been had everything come in time.

No postponed annotations here: Dagster reads the type of ``context``.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from promo_assets.contract.days import Window
from promo_assets.orchestration.automation import jobs
from promo_assets.orchestration.partitions import Partitions
from promo_assets.orchestration.runs import BATCH_TAG, Phase, plan
from promo_assets.sources import SourceError
from promo_assets.sources.deliveries import Late
from promo_assets.warehouse.connection import WarehouseError

SECONDS = 60
"""Between looks at the source."""


def sensor(look: Callable[[], Late | None], partitions: Partitions) -> dg.SensorDefinition:
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
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        memory = json.loads(context.cursor or "{}")
        if "batch" in memory:
            window = Window(date.fromisoformat(memory["first"]), date.fromisoformat(memory["end"]))
            yield _next(context, memory, plan(window, partitions))
            return
        try:
            late = look()
        except (WarehouseError, SourceError) as error:
            yield dg.SkipReason(str(error))
            return
        if late is None:
            yield dg.SkipReason("every published day is as it is delivered")
        elif late.window is None:
            yield dg.SkipReason(late.told)
        elif memory.get("given_up") == _signature(late):
            yield dg.SkipReason(
                f"{late.told}; its rebuild failed before. Mend the cause and run "
                "`promo late --run`, or reset this sensor's cursor"
            )
        else:
            context.log.info(late.told)
            memory = {
                "batch": uuid.uuid4().hex[:8],
                "first": str(late.window.start),
                "end": str(late.window.end),
                "late": _signature(late),
                "phase": 0,
            }
            yield _request(context, memory, plan(late.window, partitions))

    return rebuild_late_days


def _signature(late: Late) -> str:
    return hashlib.sha256(repr((late.days, late.window)).encode()).hexdigest()[:12]


def _request(
    context: dg.SensorEvaluationContext, memory: dict[str, Any], phases: Sequence[Phase]
) -> dg.RunRequest:
    """The run of the memory's phase."""
    context.update_cursor(json.dumps(memory))
    phase = phases[memory["phase"]]
    return dg.RunRequest(
        run_key=f"{memory['batch']}-{phase.job}",
        job_name=phase.job,
        tags={BATCH_TAG: memory["batch"], **phase.tags},
    )


def _next(
    context: dg.SensorEvaluationContext, memory: dict[str, Any], phases: Sequence[Phase]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for the next phase once the run of the last one has ended well."""
    job, batch = phases[memory["phase"]].job, {BATCH_TAG: memory["batch"]}
    runs = context.instance.get_runs(dg.RunsFilter(job_name=job, tags=batch), limit=1)
    if not runs:
        return _request(context, memory, phases)  # It was lost on the way; its key is the same.
    run = runs[0]
    if not run.is_finished:
        return dg.SkipReason(f"{job} of the rebuild is {run.status.value.lower()}")
    if not run.is_success:
        context.update_cursor(json.dumps({"given_up": memory["late"]}))
        return dg.SkipReason(
            f"{job} (run {run.run_id[:8]}) of the rebuild ended as {run.status.value.lower()}; "
            "what was published stays. Mend the cause, then run `promo late --run`"
        )
    if memory["phase"] + 1 == len(phases):
        context.update_cursor("{}")
        return dg.SkipReason(f"{memory['first']} and what follows is rebuilt")
    return _request(context, memory | {"phase": memory["phase"] + 1}, phases)
