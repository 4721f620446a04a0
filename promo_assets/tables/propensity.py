"""Group ``propensity``: labelled snapshots, weekly trainings, the champion, daily scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promo_assets.contract.days import Window, cut_off, every_nth, week_of
from promo_assets.contract.tables import TableContract
from promo_assets.tables.table import Production, ProductionError, Table
from promo_assets.warehouse.publish import Query
from promo_assets.warehouse.reading import Read, row

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.learning.tracking import Registry, Tracking
    from promo_assets.propensity.model import PropensityModel


@dataclass(frozen=True)
class ModelStore:
    """Where models are kept: MLflow's tracking URI and its folder of artifacts."""

    uri: str
    artifacts: Path


@dataclass(frozen=True)
class Learning:
    """What the group depends on: the days ahead that are predicted, the weeks between trainings,
    the features that are taken as no leaks, those that are learned from (none: all), and where
    models are kept."""

    horizon_days: int
    every_weeks: int
    trusted: tuple[str, ...]
    features: tuple[str, ...]
    store: ModelStore


HISTORY_WEEKS = 26
"""Weeks of snapshots that a training reads: enough rows, and what shoppers did half a year ago
still resembles what they do now."""

SCORED_DAYS = 28
"""Days that are scored at once, so that a year needs no more memory than a month."""

TRAINING_SET = """
with weeks as (
    select
        week_start as week,
        cast(day - to_days(cast($horizon as integer)) as date) as as_of_date
    from core.calendar
    where weekday = 7 and day >= $start and day < $end
),

ahead as (
    select
        weeks.week,
        daily.user_id,
        sum(daily.orders) as orders_ahead,
        sum(daily.spend) as spend_ahead
    from weeks
    inner join features.user_daily as daily
        on daily.event_date > weeks.as_of_date
        and daily.event_date <= weeks.as_of_date + cast($horizon as integer)
    where daily.event_date >= cast($start as date) - cast($horizon as integer)
        and daily.event_date < $end
    group by weeks.week, daily.user_id
)

select
    weeks.week,
    weeks.as_of_date,
    features.user_id,
    coalesce(ahead.orders_ahead, 0) > 0 as label,
    cast(coalesce(ahead.orders_ahead, 0) as bigint) as orders_ahead,
    cast(coalesce(ahead.spend_ahead, 0) as decimal(18, 2)) as spend_ahead
from weeks
inner join features.user_features as features on features.as_of_date = weeks.as_of_date
left join ahead on ahead.week = weeks.week and ahead.user_id = features.user_id
"""

LABELLED = """
select sets.week, sets.label, features.*
from propensity.training_set as sets
inner join features.user_features as features
    on features.as_of_date = sets.as_of_date and features.user_id = sets.user_id
where sets.week > $after and sets.week <= $week
order by sets.week, features.user_id
"""

SCORE_QUALITY = """
with scored as (
    select scores.as_of_date, scores.user_id, scores.model_version, segments.segment,
        least(greatest(scores.propensity, 1e-9), 1 - 1e-9) as p
    from propensity.scores as scores
    inner join segments.user_segments as segments
        on segments.as_of_date = scores.as_of_date and segments.user_id = scores.user_id
    where scores.as_of_date >= cast($start as date) - cast($horizon as integer)
        and scores.as_of_date < cast($end as date) - cast($horizon as integer)
),

bought as (
    select distinct user_id, cast(event_date - ahead as date) as as_of_date
    from features.user_daily
    cross join (select cast(unnest(range(1, $horizon + 1)) as integer) as ahead) as days
    where orders > 0
        and event_date >= cast($start as date) - cast($horizon as integer)
        and event_date < $end
),

labelled as (
    select scored.*, bought.user_id is not null as y
    from scored
    left join bought
        on bought.as_of_date = scored.as_of_date and bought.user_id = scored.user_id
),

grouped as (
    select *, 'all' as of_segment from labelled
    union all
    select *, segment from labelled
),

ranked as (
    select *,
        rank() over (partition by as_of_date, of_segment order by p)
        + (count(*) over (partition by as_of_date, of_segment, p) - 1) / 2 as place
    from grouped
),

counted as (
    select
        as_of_date,
        of_segment,
        max(model_version) as model_version,
        count(*) as users,
        count(*) filter (y) as buyers,
        -- Sums of decimals do not depend on the order of rows.
        cast(sum(cast(p as decimal(18, 9))) as double) as expected,
        cast(sum(cast(p * (1 - p) as decimal(18, 9))) as double) as variance,
        cast(sum(cast(-ln(if(y, p, 1 - p)) as decimal(18, 9))) as double) as log_loss,
        cast(sum(cast(power(p - if(y, 1, 0), 2) as decimal(18, 9))) as double) as brier,
        cast(sum(cast(place as decimal(18, 1))) filter (y) as double) as places
    from ranked
    group by as_of_date, of_segment
)

select
    cast(as_of_date + cast($horizon as integer) as date) as as_of_date,
    of_segment as segment,
    as_of_date as scored_on,
    model_version,
    users,
    buyers,
    expected as expected_buyers,
    sqrt(variance) as standard_error,
    log_loss / users as log_loss,
    brier / users as brier,
    (places - buyers * (buyers + 1) / 2) / nullif(buyers * (users - buyers), 0) as auc
from counted
"""

CHAMPION = """
select model_version, sha256, trained_week
from propensity.champions
where week < $week and model_version is not null
order by week desc limit 1
"""

NEWEST_CHAMPION = """
select model_version from propensity.champions
where model_version is not null order by week desc limit 1
"""

OVERRIDDEN = """
select trainings.model_version, trainings.sha256, trainings.week as trained_week, told.note,
    told.value
from audit.overrides as told
left join propensity.trainings as trainings
    on trainings.status = 'trained' and cast(trainings.model_version as varchar) = told.value
where told.table_name = 'propensity.champions' and told.day = $week
order by told.told_at desc limit 1
"""

TRAINED = """
select model_version, sha256 from propensity.trainings
where week = $week and status = 'trained'
"""


def training_set(production: Production, horizon_days: int) -> Query:
    """The labelled snapshots of the window's weeks: of everyone who is scored on such a day."""
    return Query(
        TRAINING_SET,
        {
            "start": production.days.start,
            "end": production.days.end,
            "horizon": horizon_days,
        },
    )


def trainings(production: Production, learning: Learning) -> pl.DataFrame:
    """Train the models of the window's weeks and log each to MLflow as one run."""
    from promo_assets.propensity.dataset import TrainingError
    from promo_assets.propensity.leaks import LeakError
    from promo_assets.propensity.record import record_of
    from promo_assets.propensity.training import TrainingSettings, train

    rows: list[dict[str, Any]] = []
    for week in production.weeks:
        rows.append({"week": week, "cut_off": cut_off(week)})
        if not every_nth(week, learning.every_weeks):
            every = learning.every_weeks
            rows[-1] |= {"status": "not_due", "detail": f"trained every {every} weeks"}
            continue
        try:
            result = train(
                labelled(production, week),
                TrainingSettings(
                    cut_off(week),
                    learning.horizon_days,
                    trusted=learning.trusted,
                    features=learning.features,
                ),
            )
        except TrainingError as error:
            rows[-1] |= {"status": "too_little_history", "detail": str(error)}
            continue
        except LeakError as error:
            production.log(f"week {week}: {error}")
            rows[-1] |= {"status": "leak_suspected", "detail": str(error)}
            continue
        logged = tracking(learning.store).log(record_of(result), _tags(production, week))
        production.log(f"week {week}: AUC {result.metrics['auc']:.4f}, MLflow run {logged.run_id}")
        rows[-1] |= {
            "status": "trained",
            "model_version": logged.model_version,
            "run_id": logged.run_id,
            "sha256": logged.sha256,
            **result.summary(),
        }
    trained = [row for row in rows if row["status"] == "trained"]
    production.note(
        {"trained": len(trained)}
        | {name: trained[-1][name] for name in ("auc", "log_loss", "run_id") if trained}
    )
    return production.frame(rows)


def champions(production: Production, learning: Learning) -> pl.DataFrame:
    """The model in force after each week of the window: this week's, if it clearly beat the last or
    can't be compared with it."""
    from promo_assets.propensity.champion import decide
    from promo_assets.propensity.dataset import split_by_time

    rows: list[dict[str, Any]] = []
    current = production.row(CHAMPION, {"week": production.weeks[0]})
    for week in production.weeks:
        training = production.row(TRAINED, {"week": week})
        told = {
            "week": week,
            "promoted": False,
            "verdict": "no_model",
            "reason": "no model was trained this week",
        }
        override = production.row(OVERRIDDEN, {"week": week})
        if override is not None:
            if override["model_version"] is None:
                raise ProductionError(
                    f"week of {week}: version {override['value']}, to which it was rolled back, is "
                    "not among the trained models any more; tell another with `promo rollback`"
                )
            current = override
            told |= {"verdict": "rolled_back", "reason": override["note"]}
        elif training is not None:
            store = learning.store
            new = model_of(store, training["model_version"], training["sha256"])
            old = model_of(store, current["model_version"], current["sha256"]) if current else None
            test = split_by_time(labelled(production, week), horizon=learning.horizon_days).test
            decision = decide(new, old, test)
            told |= {
                "promoted": decision.promote,
                "verdict": decision.verdict,
                "reason": decision.reason,
                "challenger_log_loss": decision.challenger_log_loss,
                "champion_log_loss": decision.champion_log_loss,
                "difference": decision.difference,
                "difference_low": decision.low,
                "difference_high": decision.high,
                "compared_rows": decision.rows,
                "compared_users": decision.users,
            }
            if decision.promote:
                current = {**training, "trained_week": week}
        if current is not None:
            told |= {name: current[name] for name in ("model_version", "sha256", "trained_week")}
        rows.append(told)
    return production.frame(rows)


def scores(production: Production, store: ModelStore) -> pl.DataFrame:
    """Every known user's propensity on each day, by the champion that was known by then."""
    import polars as pl

    parts = [production.frame()]
    known = production.read("select * from features.user_features limit 0").columns
    for days, champion in _by_champion(production, production.days):
        model = model_of(store, int(champion["model_version"]), str(champion["sha256"]))
        # What is missing is told by the model. Rows are sorted once they are few columns wide.
        there = [name for name in model.features if name in known]
        users = production.read(
            f"select {', '.join(('as_of_date', 'user_id', *there))} from features.user_features"
            " where as_of_date >= $start and as_of_date < $end",
            {"start": days.start, "end": days.end},
        )
        parts.append(
            users.select(
                "as_of_date",
                "user_id",
                propensity=pl.Series(model.predict(users), dtype=pl.Float64),
                model_version=pl.lit(int(champion["model_version"]), pl.Int64),
            ).sort("as_of_date", "user_id")
        )
    return pl.concat(parts)


def score_quality(production: Production, horizon_days: int) -> Query:
    """What the scores were worth whose labels are known since each day of the window."""
    days = production.days
    return Query(SCORE_QUALITY, {"start": days.start, "end": days.end, "horizon": horizon_days})


def drift(production: Production, learning: Learning) -> pl.DataFrame:
    """How far each day's users and scores are from what the day's champion learned from; a day
    whose reference is not kept any more has no rows of it."""
    import polars as pl

    from promo_assets.tables.drift import FIRST_DAYS, SCORE, compare, first_scores, learned_from

    parts = [production.frame()]
    read = production.read
    for days, champion in _by_champion(production, production.days):
        version = int(champion["model_version"])
        features = model_of(learning.store, version, str(champion["sha256"])).features
        learned = cut_off(champion["trained_week"]) - timedelta(days=learning.horizon_days)
        if known := learned_from(read, features, learned):
            own = {name: name for name in features}
            parts.append(compare(read, "features.user_features", own, known, days, version))
        known = first_scores(read, version)
        if known and days.end > (later := known.day + timedelta(days=FIRST_DAYS)):
            own, days = {SCORE: "propensity"}, Window(max(days.start, later), days.end)
            parts.append(compare(read, "propensity.scores", own, known, days, version))
    return pl.concat(parts)


def labelled(production: Production, week: date) -> pl.DataFrame:
    """The labelled snapshots that a training of ``week`` reads, with all features."""
    after = week - timedelta(weeks=HISTORY_WEEKS)
    return production.read(LABELLED, {"week": week, "after": after})


@lru_cache(maxsize=8)
def tracking(store: ModelStore, registry: Registry | None = None) -> Tracking:
    """The process's MLflow store of an installation, as models of a kind use it: the purchase
    model's, unless told."""
    from promo_assets.learning.tracking import Tracking
    from promo_assets.propensity.record import PROPENSITY

    store.artifacts.mkdir(parents=True, exist_ok=True)
    return Tracking(store.uri, store.artifacts, registry or PROPENSITY)


@lru_cache(maxsize=8)
def model_of(store: ModelStore, version: int, sha256: str) -> PropensityModel:
    """A registered model; the last few stay in memory."""
    from promo_assets.propensity.record import load_model

    return load_model(tracking(store), version, sha256)


def tables(contracts: Mapping[str, TableContract], learning: Learning) -> list[Table]:
    """The group's tables."""
    version = f"2+horizon{learning.horizon_days}"
    trusting = "".join(f"+{name}" for name in learning.trusted)
    named = hashlib.sha256(",".join(learning.features).encode()).hexdigest()[:8]
    chosen = f"+features{named}" if learning.features else ""
    week_behind = learning.horizon_days
    return [
        Table(
            contracts["propensity.training_set"],
            "propensity",
            partial(training_set, horizon_days=learning.horizon_days),
            version,
            grid="week",
            inputs={"features.user_features": week_behind, "features.user_daily": week_behind},
            whole=("core.calendar",),
            kinds=frozenset({"duckdb", "python", "table"}),
        ),
        Table(
            contracts["propensity.trainings"],
            "propensity",
            partial(trainings, learning=learning),
            f"4+horizon{learning.horizon_days}{trusting}{chosen}",
            grid="week",
            weekly={"propensity.training_set": (1 - HISTORY_WEEKS, 0)},
            kinds=frozenset({"lightgbm", "mlflow", "table"}),
            apart=partial(every_nth, weeks=learning.every_weeks),
        ),
        Table(
            contracts["propensity.champions"],
            "propensity",
            partial(champions, learning=learning),
            version,
            grid="week",
            weekly={"propensity.trainings": (0, 0), "propensity.champions": (-1, -1)},
            kinds=frozenset({"mlflow", "python", "table"}),
            then=partial(_move_alias, store=learning.store),
        ),
        Table(
            contracts["propensity.scores"],
            "propensity",
            partial(scores, store=learning.store),
            version,
            inputs={"features.user_features": 0},
            weekly={"propensity.champions": (-1, -1)},
            kinds=frozenset({"duckdb", "lightgbm", "table"}),
        ),
        Table(
            contracts["propensity.score_quality"],
            "propensity",
            partial(score_quality, horizon_days=learning.horizon_days),
            version,
            inputs={
                "propensity.scores": learning.horizon_days,
                "segments.user_segments": learning.horizon_days,
                "features.user_daily": learning.horizon_days,
            },
            kinds=frozenset({"duckdb", "table"}),
        ),
        Table(
            contracts["propensity.drift"],
            "propensity",
            partial(drift, learning=learning),
            version,
            inputs={"features.user_features": 0, "propensity.scores": 0},
            weekly={"propensity.champions": (-1, -1)},
            kinds=frozenset({"duckdb", "python", "table"}),
        ),
    ]


def _by_champion(production: Production, window: Window) -> Iterator[tuple[Window, dict[str, Any]]]:
    """The window in pieces of at most a month with the same champion; days without one are left
    out."""
    piece: list[date] = []
    current: dict[str, Any] | None = None
    for day in window.days:
        champion = production.row(CHAMPION, {"week": week_of(day)})
        if piece and (champion != current or len(piece) == SCORED_DAYS):
            if current is not None:
                yield Window.of(piece), current
            piece = []
        piece.append(day)
        current = champion
    if current is not None:
        yield Window.of(piece), current


def _move_alias(read: Read, store: ModelStore) -> None:
    """Point MLflow's alias at the newest champion that its gate has let through."""
    newest = row(read, NEWEST_CHAMPION)
    if newest is not None:
        tracking(store).set_champion(int(newest["model_version"]))


def _tags(production: Production, week: date) -> dict[str, str]:
    """What leads from an MLflow run back to the partitions, code and checks that made it."""
    first = week - timedelta(weeks=HISTORY_WEEKS - 1)
    code = production.read(
        "select table_name, string_agg(distinct code_version, ' ') from audit.publications"
        " where table_name in ('features.user_features', 'propensity.training_set')"
        " group by all order by all"
    )
    gates = production.read(
        "select count(*) filter (passed), count(*) filter (not passed) from audit.findings"
        " where (table_name = 'features.user_features' and day in ("
        "select as_of_date from propensity.training_set where week >= $first and week <= $week))"
        " or (table_name = 'propensity.training_set' and day >= $first and day <= $week"
        " and dayofweek(day) = 1)",
        {"first": first, "week": week},
    )
    passed, failed = gates.row(0)
    return {
        **run_tags(production, week),
        "data_partitions": f"propensity.training_set {first}..{week}",
        "gates": f"{passed} passed, {failed} failed",
        **{f"code_version.{table}": version for table, version in code.iter_rows()},
    }


def run_tags(production: Production, partition: date) -> dict[str, str]:
    """What leads from any MLflow run back to the run, the partition and the code that made it."""
    return {
        "dagster_run_id": production.run_id,
        "partition": partition.isoformat(),
        "git_commit": commit(),
    }


@lru_cache(maxsize=1)
def commit() -> str:
    """The checkout's git commit, or 'unknown' outside one."""
    import subprocess

    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()
