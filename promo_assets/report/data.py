"""What the daily pages of a window show, read with one query a topic and cut by day.

A range of a year reads each table once, not once a day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

from promo_assets.contract.days import Window, week_of
from promo_assets.warehouse.reading import Read

TREND_DAYS = 90

QUERIES = {
    "volumes": """
        select event_date as day, count(*) filter (actions > 0) as users, sum(orders) as orders,
            cast(sum(spend) as double) as spend, sum(offers_redeemed) as redeemed
        from features.user_daily
        where event_date >= $trend and event_date < $end group by all order by day""",
    "segments": """
        select as_of_date as day, * exclude (as_of_date) from segments.segment_summary
        where as_of_date >= $start and as_of_date < $end order by day, users desc""",
    "recency": """
        select as_of_date as day, least(recency_days // 7, 8) as bin, count(*) as users
        from features.user_features where recency_days is not null
            and as_of_date >= $start and as_of_date < $end group by all""",
    "frequency": """
        select as_of_date as day, least(orders_28d, 8) as bin, count(*) as users
        from features.user_features
        where as_of_date >= $start and as_of_date < $end group by all""",
    "scores": """
        select as_of_date as day, least(cast(floor(propensity * 10) as bigint), 9) as bin,
            count(*) as users, any_value(model_version) as model_version
        from propensity.scores where as_of_date >= $start and as_of_date < $end group by all""",
    "strategies": """
        select decided.as_of_date as day, decided.* exclude (as_of_date),
            coalesce(offers.name, offer_id) as offer, known.reason as measured
        from strategy.segment_strategy as decided
        left join core.offers as offers using (offer_id)
        left join strategy.offer_effects as known using (as_of_date, segment, offer_id)
        where decided.as_of_date >= $start and decided.as_of_date < $end
        order by day, sum(expected_margin) over (partition by day, segment) desc, segment,
            offer_id is null, audience desc""",
    "baskets": """
        select as_of_date as day, segments.segment, count(*) as buyers,
            round(quantile_cont(features.avg_order_value_life, 0.5), 2) as median,
            round(quantile_cont(features.avg_order_value_life, 0.75), 2) as upper
        from segments.user_segments as segments
        inner join features.user_features as features using (as_of_date, user_id)
        where as_of_date >= $start and as_of_date < $end and features.orders_life > 0
        group by all order by day, median desc""",
    "thresholds": """
        select features.as_of_date as day, offers.name as offer,
            any_value(offers.min_spend) as min_spend,
            avg(case when features.avg_order_value_life < offers.min_spend then 1.0 else 0.0 end)
                as below
        from features.user_features as features
        cross join core.offers as offers
        where features.as_of_date >= $start and features.as_of_date < $end
            and features.orders_life > 0 and offers.kind = 'threshold_amount_off'
        group by all order by day, min_spend""",
    "depths": """
        select as_of_date as day, any_value(offers.name) as offer, offers.kind, offers.value,
            any_value(lift_low) as lift_low, any_value(lift) as lift,
            any_value(lift_high) as lift_high, sum(sent) as sent,
            any_value(redemption_rate * cost_per_redemption + offers.send_cost) as cost,
            bool_or(evidence = 'randomised') as is_randomised
        from strategy.offer_effects
        inner join core.offers as offers using (offer_id)
        where as_of_date >= $start and as_of_date < $end
            and offers.kind in ('percent_off', 'amount_off', 'bogo')
        group by as_of_date, offer_id, offers.kind, offers.value
        order by day, kind, value""",
    "prices": """
        select as_of_date as day, * exclude (as_of_date) from strategy.budget_prices
        where as_of_date >= $start and as_of_date < $end""",
    "effects": """
        select as_of_date as day, coalesce(any_value(offers.name), offer_id) as offer,
            sum(sent) as sent, max(campaigns) as campaigns,
            min(lift_low) as lift_low, max(lift_high) as lift_high,
            sum(lift * sent) / nullif(sum(sent), 0) as lift,
            sum(redemption_rate * sent) / nullif(sum(sent), 0) as redemption_rate,
            string_agg(distinct evidence, ', ' order by evidence) as evidence
        from strategy.offer_effects
        left join core.offers as offers using (offer_id)
        where as_of_date >= $start and as_of_date < $end
        group by day, offer_id order by day, offer_id""",
    "unseen": """
        select calendar.day, levels.* from core.calendar as calendar
        asof inner join (
            select * from strategy.effect_levels
            where offer_id = 'all' and as_of_date > cast($start - interval 91 day as date)
        ) as levels on levels.as_of_date <= calendar.day
        where calendar.day >= $start and calendar.day < $end order by calendar.day""",
    "programme": """
        select as_of_date as day, * exclude (as_of_date) from strategy.holdout_effects
        where as_of_date >= $start and as_of_date < $end order by day, started_on""",
    "findings": """
        select day, table_name, expectation, severity, passed, row_count, observed
        from audit.findings where day >= $start and day < $end and not passed
        order by day, severity, table_name""",
    "checked": """
        select count(distinct table_name || expectation) as expectations,
            count(distinct table_name) as tables from audit.findings""",
    "quality": """
        select as_of_date as day, * exclude (as_of_date) from propensity.score_quality
        where as_of_date >= $start and as_of_date < $end and segment = 'all'
        order by as_of_date""",
    "drift": """
        select as_of_date as day, max(psi) filter (feature = 'score') as score,
            count(*) filter (feature <> 'score') as features,
            count(*) filter (feature <> 'score' and drifted) as drifted,
            max_by(feature, psi) filter (feature <> 'score') as most
        from propensity.drift where judged and as_of_date >= $start and as_of_date < $end
        group by all""",
    "rejected": """
        select event_date as day, reason, count(*) as events from core.rejected_events
        where event_date >= $start and event_date < $end group by all order by day, events desc""",
    "rules": """
        select week as day, * exclude (week) from recommendations.basket_rules
        where level <> 'product' and rule_rank <= 8 and week < $end
            and week >= cast($start - interval 90 day as date)
        order by week, level, rule_rank""",
    "clusters": """
        select week as day, * exclude (week) from profiles.cluster_profiles
        where week >= cast($start - interval 13 day as date) and week < $end
        order by week, cluster""",
    "cluster_segments": """
        select segments.as_of_date as day, clusters.cluster, segments.segment, count(*) as users
        from segments.user_segments as segments
        inner join profiles.user_clusters as clusters
            on clusters.user_id = segments.user_id
            and clusters.week = cast(date_trunc('week', segments.as_of_date) as date) - 7
        where segments.as_of_date >= $start and segments.as_of_date < $end
        group by all order by all""",
    "trainings": """
        select week as day, * exclude (week) from propensity.trainings
        where status = 'trained' and week < $end order by week""",
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class DayReport:
    """One day's rows by topic (see `QUERIES`), and the volumes of the 90 days up to it; ``waits``
    are what its decisions wait for, in words."""

    day: date
    topics: Mapping[str, list[Row]]
    waits: tuple[str, ...] = ()

    def rows(self, topic: str) -> list[Row]:
        return self.topics.get(topic, [])

    @property
    def training(self) -> Row | None:
        """The training of the model that scored the day."""
        scored = {row["model_version"] for row in self.rows("scores")}
        return next((row for row in self.rows("trainings") if row["model_version"] in scored), None)


def read_days(
    read: Read, window: Window, waits: Mapping[date, tuple[str, ...]] = MappingProxyType({})
) -> Iterator[DayReport]:
    """The reports' data, one for each day of the window, in order; ``waits`` tells by day what its
    decisions wait for."""
    bounds = {
        "start": window.start,
        "end": window.end,
        "trend": window.start - timedelta(days=TREND_DAYS - 1),
    }
    fetched: dict[str, list[Row]] = {
        topic: list(read(sql, bounds).iter_rows(named=True)) for topic, sql in QUERIES.items()
    }
    by_day: dict[str, dict[date, list[Row]]] = {}
    for topic, rows in fetched.items():
        if topic not in ("volumes", "checked", "rules", "clusters", "trainings"):
            days = by_day.setdefault(topic, {})
            for row in rows:
                days.setdefault(row["day"], []).append(row)
    for day in window.days:
        topics: dict[str, list[Row]] = {topic: days.get(day, []) for topic, days in by_day.items()}
        since = day - timedelta(days=TREND_DAYS - 1)
        topics["volumes"] = [row for row in fetched["volumes"] if since <= row["day"] <= day]
        topics["checked"] = fetched["checked"]
        topics["trainings"] = fetched["trainings"]
        known = [row for row in fetched["rules"] if row["day"] + timedelta(days=7) <= day]
        topics["rules"] = [row for row in known if row["day"] == known[-1]["day"]]
        week_before = week_of(day) - timedelta(days=7)
        topics["clusters"] = [row for row in fetched["clusters"] if row["day"] == week_before]
        yield DayReport(day, topics, waits.get(day, ()))
