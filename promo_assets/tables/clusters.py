"""``profiles.cluster_profiles`` and ``profiles.user_clusters``: users by behaviour, by week."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from promo_assets.contract.days import cut_off
from promo_assets.contract.tables import TableContract
from promo_assets.tables.propensity import ModelStore, run_tags, tracking
from promo_assets.tables.table import Production, Table

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.propensity.cluster_standing import Standing
    from promo_assets.propensity.clusters import Choice, Clustering, Floats

PROFILES = "profiles.cluster_profiles"
INPUTS = {"features.user_features": 0, "profiles.user_interests": 83}
"""Days before a week's Monday that are read: 89 before its Sunday."""

BEHAVIOUR = """
with interests as (
    select user_id, arg_max(share, as_of_date) as focus
    from profiles.user_interests
    where as_of_date > cast($day as date) - 90 and as_of_date <= $day
        and kind = 'category' and strength_rank = 1
    group by user_id
)

select
    features.user_id,
    cast(orders_90d as double) as orders,
    avg_order_value_90d as basket,
    discount_share_90d as discount,
    cast(offers_redeemed_90d as double) as redemptions,
    response_rate as answers,
    interests.focus,
    cast(views_90d as double) as views,
    cast(searches_90d as double) as searches,
    cast(carts_90d as double) as carts
from features.user_features as features
left join interests on interests.user_id = features.user_id
where features.as_of_date = $day and features.active_days_90d > 0
order by features.user_id
"""

OF_WEEK = "select * from profiles.cluster_profiles where week = $week order by cluster"


def cluster_profiles(production: Production, store: ModelStore) -> pl.DataFrame:
    """The clusters in force in each week of the window, and what is typical of their users."""
    from promo_assets.propensity.cluster_standing import renewed

    before = _standing(production, production.weeks[0] - timedelta(days=7))
    rows: list[dict[str, Any]] = []
    for week in production.weeks:
        day = cut_off(week)
        values = columns_of(production.read(BEHAVIOUR, {"day": day}))
        before, choice = renewed(before, values, week, day)
        told = _rows(before, values, week, day)
        if choice is not None:
            _log(production, store, choice, told)
        rows += told
    return production.frame(rows)


def user_clusters(production: Production) -> pl.DataFrame:
    """The cluster of everybody who did something in the 90 days up to each week's end."""
    import polars as pl

    parts = [production.frame()]
    for week in production.weeks:
        standing = _standing(production, week)
        assert standing is not None
        users = production.read(BEHAVIOUR, {"day": cut_off(week)})
        labels, distance, membership = standing.clustering.assign(columns_of(users))
        parts.append(
            users.select(
                pl.lit(week).alias("week"),
                "user_id",
                as_of_date=pl.lit(cut_off(week)),
                cluster=pl.Series(standing.numbers, dtype=pl.Int64).gather(labels),
                name=pl.Series(standing.names, dtype=pl.String).gather(labels),
                distance=pl.Series(distance),
                membership=pl.Series(membership),
            )
        )
    return pl.concat(parts)


def columns_of(users: pl.DataFrame) -> dict[str, Floats]:
    """Every column of behaviour, NaN = not known."""
    return {
        name: users[name].fill_null(float("nan")).to_numpy()
        for name in users.columns
        if name != "user_id"
    }


def tables(contracts: Mapping[str, TableContract], store: ModelStore) -> list[Table]:
    """Both tables."""
    return [
        Table(
            contracts[PROFILES],
            "profiles",
            partial(cluster_profiles, store=store),
            "1",
            grid="week",
            inputs=INPUTS,
            weekly={PROFILES: (-1, -1)},
            kinds=frozenset({"mlflow", "python", "table"}),
        ),
        Table(
            contracts["profiles.user_clusters"],
            "profiles",
            user_clusters,
            "1",
            grid="week",
            inputs=INPUTS,
            weekly={PROFILES: (0, 0)},
            kinds=frozenset({"duckdb", "python", "table"}),
        ),
    ]


def _rows(
    standing: Standing, values: Mapping[str, Floats], week: date, day: date
) -> list[dict[str, Any]]:
    """A row a cluster, that of everybody where there is none."""
    import numpy as np

    from promo_assets.propensity.cluster_words import profiles_of

    number = len(standing.numbers)
    labels, _, _ = standing.clustering.assign(values)
    users = np.bincount(labels, minlength=number)
    columns = standing.clustering.scaling.names or values
    profiles = profiles_of({name: values[name] for name in columns}, labels, number)
    return [
        {
            "week": week,
            "cluster": standing.numbers[place],
            "as_of_date": day,
            "name": standing.names[place],
            "users": int(users[place]),
            "share": users[place] / max(users.sum(), 1),
            "profile": profiles[place],
            "reason": standing.reason,
            "fitted_on": standing.fitted_on,
            "stability": standing.stability,
            "silhouette": standing.silhouette,
            "silhouette_by_chance": standing.shapeless,
            "agreement": standing.agreement,
            "newest_cluster": standing.newest,
            "definition": _definition(standing.clustering, place),
        }
        for place in range(number)
    ]


def _definition(clustering: Clustering, place: int) -> str:
    """By column the centre, and the unit, median and interquartile range by which it is scaled."""
    scaling = clustering.scaling
    numbers = zip(
        clustering.centres[place], scaling.unit, scaling.centre, scaling.spread, strict=True
    )
    told = zip(scaling.names, numbers, strict=True)
    return json.dumps({name: [float(number) for number in column] for name, column in told})


def _standing(production: Production, week: date) -> Standing | None:
    """The clusters of a week as they are published; None = there are none."""
    import numpy as np

    from promo_assets.propensity.cluster_standing import Standing
    from promo_assets.propensity.clusters import Clustering, Scaling

    rows = list(production.read(OF_WEEK, {"week": week}).iter_rows(named=True))
    if not rows:
        return None
    told = [json.loads(row["definition"]) for row in rows]
    columns = np.array([[*one.values()] for one in told]).reshape(len(rows), -1, 4)
    scaling = Scaling(tuple(told[0]), *columns[0, :, 1:].T)
    first = rows[0]
    return Standing(
        Clustering(scaling, columns[:, :, 0]),
        tuple(row["cluster"] for row in rows),
        tuple(row["name"] for row in rows),
        first["newest_cluster"],
        first["reason"],
        first["fitted_on"],
        first["stability"],
        first["silhouette"],
        first["silhouette_by_chance"],
        first["agreement"],
    )


def _log(
    production: Production, store: ModelStore, choice: Choice, told: list[dict[str, Any]]
) -> None:
    """Keep in MLflow what was judged, and say what came of it."""
    from promo_assets.propensity.cluster_record import CLUSTERS, note_of
    from promo_assets.report.charts import standalone
    from promo_assets.report.clusters import picture_of

    first = told[0]
    picture = standalone(picture_of(told)) if first["reason"] is None else None
    note = note_of(first["as_of_date"], choice, told, picture)
    run_id = tracking(store, CLUSTERS).keep(note, run_tags(production, first["week"]))
    stability = first["stability"]
    outcome = first["reason"] or f"{len(told)} clusters, stability {stability:.2f}"
    production.log(f"week {first['week']}: {outcome}, MLflow run {run_id}")
    production.note({"clusters": len(told), "run_id": run_id})
