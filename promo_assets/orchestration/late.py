"""The sensor that rebuilds late days: days whose delivery changed after they were taken in.

The first late day and all that follows from it, up to the newest published day, is rebuilt, phase
by phase as `promo run` does. The result is what it would have been had everything come in time.

No postponed annotations here: Dagster reads the type of ``context``.
"""

import hashlib
import json
from collections.abc import Callable, Iterator

import dagster as dg

from promo_assets.orchestration.automation import jobs
from promo_assets.orchestration.partitions import Partitions
from promo_assets.orchestration.rebuild import begin, go_on
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
            yield go_on(context, memory, partitions, "promo late --run")
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
            yield begin(context, late.window, _signature(late), partitions)

    return rebuild_late_days


def _signature(late: Late) -> str:
    return hashlib.sha256(repr((late.days, late.window)).encode()).hexdigest()[:12]
