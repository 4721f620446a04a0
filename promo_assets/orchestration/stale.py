"""The sensor that rebuilds stale days: published, and older than what they were made of.

The first stale day and all that follows from it, up to the newest published day, is rebuilt, phase
by phase as `promo run` does. What was sent stays as it was recorded: an export is recorded once.

No postponed annotations here: Dagster reads the type of ``context``.
"""

import hashlib
import json
from collections.abc import Callable, Iterator

import dagster as dg

from promo_assets.orchestration.automation import jobs
from promo_assets.orchestration.partitions import Partitions
from promo_assets.orchestration.rebuild import begin, go_on
from promo_assets.tables.stale import Stale
from promo_assets.warehouse.connection import WarehouseError

SECONDS = 60
"""Between looks at the warehouse."""
COMMAND = "promo run --stale"


def sensor(look: Callable[[], Stale | None], partitions: Partitions) -> dg.SensorDefinition:
    """Looks for stale days and rebuilds them."""

    @dg.sensor(
        name="rebuild_stale_days",
        jobs=list(jobs()),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Looks every minute whether published days are older than their inputs, their "
        "code or the settings, and rebuilds them and what follows. The rebuild's runs share the "
        "tag promo/batch.",
    )
    def rebuild_stale_days(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        memory = json.loads(context.cursor or "{}")
        if "batch" in memory:
            yield go_on(context, memory, partitions, COMMAND)
            return
        if runs := context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            yield dg.SkipReason(f"run {runs[0].run_id[:8]} still publishes")
            return
        try:
            stale = look()
        except WarehouseError as error:
            yield dg.SkipReason(str(error))
            return
        if stale is None:
            yield dg.SkipReason("every published day is as new as what it was made of")
        elif memory.get("given_up") == _signature(stale):
            yield dg.SkipReason(
                f"{stale.told}; its rebuild failed before. Mend the cause and run `{COMMAND}`, or "
                "reset this sensor's cursor"
            )
        else:
            for line in stale.lines():
                context.log.info(line)
            yield begin(context, stale.window, _signature(stale), partitions)

    return rebuild_stale_days


def _signature(stale: Stale) -> str:
    told = (stale.window, sorted(stale.lines()))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]
