"""How a sensor rebuilds a range of days: the phases of `promo run`, one run after the other.

A sensor's cursor remembers the batch and its phase. Here: asking for the next phase. Not here: when
there is something to rebuild (``late.py``, ``stale.py``).

No postponed annotations here: Dagster reads the type of ``context``.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from promo_assets.contract.days import Window
from promo_assets.orchestration.partitions import Partitions
from promo_assets.orchestration.runs import BATCH_TAG, plan

Memory = Mapping[str, Any]
"""What the cursor holds: the batch, its days and phase; or for what a rebuild was given up."""


def begin(
    context: dg.SensorEvaluationContext, window: Window, signature: str, partitions: Partitions
) -> dg.RunRequest:
    """Ask for the first phase of a rebuild of ``window``, for what ``signature`` stands for."""
    memory = {
        "batch": uuid.uuid4().hex[:8],
        "first": str(window.start),
        "end": str(window.end),
        "for": signature,
        "phase": 0,
    }
    return _ask(context, memory, partitions)


def go_on(
    context: dg.SensorEvaluationContext, memory: Memory, partitions: Partitions, command: str
) -> dg.RunRequest | dg.SkipReason:
    """Ask for the next phase once the run of the last one has ended; ``command`` is what people
    call where a rebuild has failed.

    As in `promo run`, a failed phase does not end it: other days go through the later ones.
    """
    phases = plan(_window(memory), partitions)
    job, batch = phases[memory["phase"]].job, {BATCH_TAG: memory["batch"]}
    runs = context.instance.get_runs(dg.RunsFilter(job_name=job, tags=batch), limit=1)
    if not runs:
        return _ask(context, memory, partitions)  # It was lost on the way; its key is the same.
    run = runs[0]
    if not run.is_finished:
        return dg.SkipReason(f"{job} of the rebuild is {run.status.value.lower()}")
    failed = memory.get("failed") or ("" if run.is_success else f"{job} (run {run.run_id[:8]})")
    if memory["phase"] + 1 < len(phases):
        again = {**memory, "phase": memory["phase"] + 1, "failed": failed}
        return _ask(context, again, partitions)
    if failed:
        context.update_cursor(json.dumps({"given_up": memory["for"]}))
        return dg.SkipReason(
            f"{failed} of the rebuild has failed; what was published stays. Mend the cause, then "
            f"run `{command}`"
        )
    context.update_cursor("{}")
    return dg.SkipReason(f"{memory['first']} and what follows is rebuilt")


def _window(memory: Memory) -> Window:
    return Window(date.fromisoformat(memory["first"]), date.fromisoformat(memory["end"]))


def _ask(
    context: dg.SensorEvaluationContext, memory: Memory, partitions: Partitions
) -> dg.RunRequest:
    """The run of the memory's phase."""
    context.update_cursor(json.dumps(memory))
    phase = plan(_window(memory), partitions)[memory["phase"]]
    return dg.RunRequest(
        run_key=f"{memory['batch']}-{phase.job}",
        job_name=phase.job,
        tags={BATCH_TAG: memory["batch"], **phase.tags},
    )
