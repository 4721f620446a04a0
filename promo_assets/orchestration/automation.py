"""When things run: jobs, schedules, conditions, freshness and the failure sensor.

The daily schedule materialises yesterday's events, features and profiles; the weekly one trains.
What decides (scores, segments, strategies, the report) follows its inputs by condition.
"""

import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from http.client import HTTPException
from typing import Any

import dagster as dg
from pydantic import SecretStr

from promo_assets.orchestration.run_history import DagsterRuns
from promo_assets.privacy.retention import RunHistory
from promo_assets.tables.table import Table

SCHEDULED_GROUPS = ("events", "features", "profiles")
TRAINING = dg.AssetSelection.assets(
    "profiles/cluster_profiles",
    "profiles/user_clusters",
    "profiles/user_lifetimes",
    "propensity/training_set",
    "propensity/trainings",
    "propensity/champions",
    "recommendations/basket_rules",
    "recommendations/blends",
    "recommendations/item_neighbours",
    "recommendations/item_popularity",
)
STRATEGIES = dg.AssetSelection.assets(
    "strategy/segment_strategy", "strategy/assignments", "recommendations/user_offers"
)
DIMENSIONS = dg.AssetSelection.assets(
    "core/calendar",
    "core/event_types",
    "core/gate_limits",
    "core/items",
    "core/users",
    "core/offers",
    "core/device_links",
    "core/consents",
    "core/consent_purposes",
)
DAILY = dg.AssetSelection.groups(*SCHEDULED_GROUPS) - DIMENSIONS - TRAINING
LISTS = dg.AssetSelection.assets("recommendations/user_items")
REPORT = dg.AssetSelection.assets("report/daily_report", "strategy/export")
DECISIONS = (
    dg.AssetSelection.groups("propensity", "segments", "strategy", "recommendations")
    - TRAINING
    - LISTS
    - STRATEGIES
    - REPORT
)
DEADLINE = "0 8 * * *"
"""Every morning at 08:00 UTC yesterday's tables must be there."""

WEBHOOK_SECONDS = 5


def freshness_of(table: Table) -> dg.FreshnessPolicy | None:
    """When yesterday's partition must be there; None for a table that has no days."""
    if table.grid != "day":
        return None
    return _by_deadline()


@lru_cache(maxsize=1)
def _by_deadline() -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.cron(deadline_cron=DEADLINE, lower_bound_delta=timedelta(hours=8))


def condition_of(table: Table) -> dg.AutomationCondition[Any] | None:
    """The condition of a table that follows its inputs; None for one that a schedule writes."""
    if table.grid == "week":
        return made_up_for()
    scheduled = table.group in SCHEDULED_GROUPS or table.grid == "whole"
    return None if scheduled else following()


def following() -> dg.AutomationCondition[Any]:
    """Materialise what is missing once its inputs are there and their gates passed, and the newest
    partition whenever one of its inputs is new.

    `eager`: an input was updated, none is missing or in progress, and only the newest partition
    is asked for. A missing one is asked for however old it is: it waited for a bad day that was
    repaired. Gates: no blocking check of an input has failed for that partition.
    """
    asked = dg.AutomationCondition.eager() | _late()
    return (asked & _gates_passed()).with_label("follows its inputs behind their gates")


def made_up_for() -> dg.AutomationCondition[Any]:
    """Materialise what its schedule left missing, once its inputs are there and their gates passed:
    a week whose run has failed, or an older one."""
    newest = dg.AutomationCondition.in_latest_time_window()
    left = dg.AutomationCondition.execution_failed() | ~newest
    condition = _late() & left & _gates_passed()
    return condition.with_label("makes up for what waited behind a gate")


def _gates_passed() -> dg.AutomationCondition[Any]:
    """No blocking check of an input has failed or is missing. Dagster's own condition is never true
    of a day that reads a week from before the first one: here nothing is asked of that."""
    passed = dg.AutomationCondition.all_checks_match(
        dg.AutomationCondition.check_passed() | dg.AutomationCondition.will_be_requested(),
        blocking_only=True,
    )
    return ~dg.AutomationCondition.any_deps_match(~passed)


def _late() -> dg.AutomationCondition[Any]:
    """A missing partition, however old, of which an input was updated and none is missing."""
    newest = dg.AutomationCondition.in_latest_time_window()
    return dg.AutomationCondition.eager().without(newest) & dg.AutomationCondition.missing()


@lru_cache(maxsize=1)
def jobs() -> Sequence[Any]:
    """One job for each grid: Dagster can't mix days, weeks and days x segments in one."""
    return [
        dg.define_asset_job("dimensions", DIMENSIONS, description="Items, users, offers."),
        dg.define_asset_job("daily_tables", DAILY, description="Events, features, profiles."),
        dg.define_asset_job(
            "weekly_training",
            TRAINING,
            description="Train; pick the champion; what is learned by week.",
        ),
        dg.define_asset_job(
            "daily_decisions", DECISIONS, description="Scores, segments, effects, prices."
        ),
        dg.define_asset_job("daily_lists", LISTS, description="Each user's products."),
        dg.define_asset_job(
            "segment_strategies", STRATEGIES, description="Strategies and assignments."
        ),
        dg.define_asset_job("daily_reports", REPORT, description="The daily page and the export."),
    ]


def schedules() -> Sequence[Any]:
    """Every day (UTC) at 01:30 the dimensions and at 02:00 yesterday's tables; on Mondays at 04:00
    last week's training."""
    dimensions, daily, weekly, *_ = jobs()
    return [
        dg.ScheduleDefinition(
            name="dimensions_schedule",
            job=dimensions,
            cron_schedule="30 1 * * *",
            execution_timezone="UTC",
        ),
        dg.build_schedule_from_partitioned_job(
            daily, name="daily_tables_schedule", hour_of_day=2, minute_of_hour=0
        ),
        dg.build_schedule_from_partitioned_job(
            weekly, name="weekly_training_schedule", hour_of_day=4, minute_of_hour=0
        ),
    ]


def retention(remove: Callable[[RunHistory], Iterator[str]]) -> dg.ScheduleDefinition:
    """On Sundays at 05:00 (UTC) what is older than it may be kept is removed: the job
    ``retention``, which does what ``promo retain`` does. ``remove`` tells of each removal."""

    @dg.op(pool="duckdb", retry_policy=dg.RetryPolicy(max_retries=3, delay=60))
    def remove_old(context: dg.OpExecutionContext) -> None:
        for line in remove(DagsterRuns(context.instance)):
            context.log.info(line)

    @dg.job(name="retention", description="Remove what is too old; see docs/privacy.md.")
    def job() -> None:
        remove_old()

    return dg.ScheduleDefinition(
        name="retention_schedule",
        job=job,
        cron_schedule="0 5 * * 0",
        execution_timezone="UTC",
    )


def sensors(webhook: SecretStr | None) -> Sequence[dg.SensorDefinition]:
    """The sensor that evaluates conditions, and the one that tells about failed runs."""
    return [
        dg.AutomationConditionSensorDefinition(
            "follow_inputs",
            target=dg.AssetSelection.all(),
            default_status=dg.DefaultSensorStatus.STOPPED,
        ),
        _failure_sensor(webhook),
    ]


def failure_message(context: dg.RunFailureSensorContext) -> str:
    """What failed, for which partition, why, and where to look."""
    run = context.dagster_run
    partition = run.tags.get("dagster/partition") or " to ".join(
        filter(
            None,
            (
                run.tags.get("dagster/asset_partition_range_start"),
                run.tags.get("dagster/asset_partition_range_end"),
            ),
        )
    )
    lines = [f"Run {run.run_id[:8]} of {run.job_name} failed ({partition or 'no partition'})."]
    failed = context.get_step_failure_events()
    lines += [f"- {event.step_key}: {reason(event)}" for event in failed]
    if not failed:  # The run ended before its first step, or its process died.
        lines.append(f"- {context.failure_event.message}")
    lines.append(f"Published data is unchanged. Look at /runs/{run.run_id} in the Dagster UI.")
    return "\n".join(lines)


WAITS = "waits"
"""Metadata of a failure that is none: the step's days wait, for what its description tells."""
TOLD = "told"
"""Metadata of a failure whose findings people were told already (``news.py``)."""


def waiting(told: str) -> dg.Failure:
    """What ends a step all of whose days wait: whatever follows it would wait, too."""
    return dg.Failure(description=told, metadata={WAITS: True}, allow_retries=False)


def waits(event: dg.DagsterEvent) -> bool:
    """Whether a step failed only because all of its days wait."""
    told = event.step_failure_data.user_failure_data
    return told is not None and WAITS in told.metadata


def reason(event: dg.DagsterEvent) -> str:
    """Why a step failed: what it said itself, or else the message of the exception behind it."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error.cause if data.error and data.error.cause else data.error
    return error.message.strip() if error else "no reason was recorded"


def _failure_sensor(webhook: SecretStr | None) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="tell_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Logs a readable message and posts it to PROMO_WEBHOOK if that is set.",
    )
    def tell_failures(context: dg.RunFailureSensorContext) -> None:
        failed = context.get_step_failure_events()
        if failed and all(_known(event) for event in failed):
            context.log.info(f"run {context.dagster_run.run_id[:8]} holds back what was told")
            return
        message = failure_message(context)
        context.log.error(message)
        tell(webhook, message, context.log.warning)

    return tell_failures


def tell(webhook: SecretStr | None, message: str, warn: Callable[[str], None]) -> None:
    """Post a message to the webhook, if there is one; a message that it does not take is no
    reason to fail."""
    if webhook is None:
        return
    try:
        post(webhook.get_secret_value(), message)
    except (OSError, ValueError, HTTPException) as error:
        # Not its message: that of a malformed URL names the URL, which is a secret.
        warn(f"PROMO_WEBHOOK did not take the message: {type(error).__name__}")


def _known(event: dg.DagsterEvent) -> bool:
    """Whether a step failed for what people were told of already, or only waits for it."""
    data = event.step_failure_data.user_failure_data
    return data is not None and not {WAITS, TOLD}.isdisjoint(data.metadata)


def post(url: str, message: str) -> None:
    """Post ``{"text": message}`` as JSON, the form that chat services take."""
    request = urllib.request.Request(
        url,
        data=json.dumps({"text": message}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS):
        pass
