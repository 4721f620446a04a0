"""Group ``strategy``: what offers did, the price of budget, who gets what, and the export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.contract.tables import TableContract
from promo_assets.people.consent import ConsentRule, barred_sql
from promo_assets.strategy.experiments.experiment import Experiment, Exploration, Holdout
from promo_assets.strategy.offers.catalogue import (
    MOST_CAP_DAYS,
    STOCK_DAYS,
    Catalogue,
    CatalogueError,
    load_catalogue,
)
from promo_assets.tables.table import Produce, Production, ProductionError, Table

if TYPE_CHECKING:
    import polars as pl

    from promo_assets.strategy.allocation.decisions import Candidates
    from promo_assets.strategy.allocation.limits import Limits
    from promo_assets.strategy.allocation.plan import Plan
    from promo_assets.warehouse.reading import Read


@dataclass(frozen=True)
class Given:
    """What the group depends on: the catalogue's file, the budget of a day, what may be spent on
    top of it to learn, the margin per unit of spend, how probably an offer must be worth its cost,
    the holdout from which offers are withheld, and what consent an offer needs."""

    catalogue: Path
    budget: Decimal
    exploration: Decimal
    worth_probability: float
    margin_rate: float
    holdout: Holdout
    consent: ConsentRule


EVIDENCE_DAYS = 364
"""Days back to which trials count: evidence ages, and a day must not cost more every year."""

HOLDOUT_BEFORE_DAYS = 28
"""Days before a round whose margin sharpens its effect."""
VERSION = "5"
"""Of the code: raise it where the same inputs give other rows, so that published days are told as
stale. 2: a budget goes to what offers earn at least. 3: baskets change less before any trial.
4: exploration is stratified by segment. 5: a likelihood as sharp as orders really vary."""

EXPLORED_AGAIN_DAYS = 28
"""Who was drawn for anything in so many days is not explored: one open trial a user."""

SEGMENTED = """
select as_of_date, user_id from segments.user_segments
where as_of_date >= $start and as_of_date < $end and list_contains($segments, segment)
"""

USERS = """
select
    segments.as_of_date,
    segments.user_id,
    segments.segment,
    segments.lifecycle,
    barred.barred,
    cast(segments.expected_spend_28d as double) as expected_spend,
    profiles.top_category_1,
    profiles.top_category_2,
    profiles.top_category_3,
    profiles.preferred_channel,
    features.* exclude (as_of_date, user_id),
    draws.* exclude (as_of_date, user_id),
    coupons.open_offers
from segments.user_segments as segments
inner join ({barred}) as barred
    on barred.as_of_date = segments.as_of_date and barred.user_id = segments.user_id
inner join (
    select
        as_of_date, user_id, {features},
        coalesce(avg_order_value_90d, avg_order_value_life) as usual_basket,
        recency_days as days_since_purchase,
        date_diff('day', last_redemption_date, as_of_date) as days_since_offer_redeemed
    from features.user_features where as_of_date >= $start and as_of_date < $end
) as features
    on features.as_of_date = segments.as_of_date and features.user_id = segments.user_id
left join profiles.user_profiles as profiles
    on profiles.as_of_date = segments.as_of_date and profiles.user_id = segments.user_id
left join ({draws}) as draws
    on draws.as_of_date = segments.as_of_date and draws.user_id = segments.user_id
left join ({coupons}) as coupons
    on coupons.as_of_date = segments.as_of_date and coupons.user_id = segments.user_id
where segments.as_of_date >= $start and segments.as_of_date < $end
    and list_contains($segments, segments.segment)
order by segments.as_of_date, segments.user_id
"""


DRAWS = """
-- Of the days up to the send, which is the day after. A withheld draw counts as a send does: else
-- the held-out would be drawn again every day.
select
    calendar.day as as_of_date, drawn.user_id, {counts},
    date_diff(
        'day', max(drawn.event_date) filter (drawn.event_type = 'return'), calendar.day
    ) as days_since_return
from core.calendar as calendar
inner join core.events as drawn
    on drawn.event_date <= calendar.day and drawn.event_date > calendar.day - {most}
where calendar.day >= $start and calendar.day < $end
    and drawn.event_date >= cast($start - interval {most} day as date) and drawn.event_date < $end
    and drawn.event_type in ('offer_sent', 'offer_withheld', 'return')
group by calendar.day, drawn.user_id
"""


COUPONS = """
-- Of which offers a coupon is open: sent within its days, and not redeemed since.
select as_of_date, user_id, list(offer_id order by offer_id) as open_offers
from (
    select
        calendar.day as as_of_date,
        coupons.user_id,
        coupons.offer_id,
        max(coupons.event_time) filter (coupons.event_type = 'offer_sent') as sent_at,
        max(coupons.event_time) filter (coupons.event_type = 'offer_redeemed') as redeemed_at
    from core.calendar as calendar
    inner join core.events as coupons
        on coupons.event_date <= calendar.day and coupons.event_date > calendar.day - {most}
    inner join (
        select unnest($offers) as offer_id, unnest($open_days) as open_days
    ) as offers
        on offers.offer_id = coupons.offer_id
    where calendar.day >= $start and calendar.day < $end
        and coupons.event_date >= cast($start - interval {most} day as date)
        and coupons.event_date < $end
        and coupons.event_type in ('offer_sent', 'offer_redeemed')
        and date_diff('day', coupons.event_date, calendar.day) < offers.open_days
    group by calendar.day, coupons.user_id, coupons.offer_id
)
where sent_at is not null and (redeemed_at is null or redeemed_at < sent_at)
group by as_of_date, user_id
"""


DRAWN = """
select event_date, offer_id, count(*) as draws from core.events
where event_date >= $start and event_date < $end and offer_id is not null
    and event_type in ('offer_sent', 'offer_withheld')
group by event_date, offer_id
"""


MARGINS = """
select
    margins.event_date,
    users.place,
    cast(round(100 * (
        margins.spend - margins.goods_cost - $uncosted * margins.uncosted
        - margins.offer_costs - margins.send_costs
    ), 0) as bigint) as cents,
    margins.sends
from strategy.user_margins as margins
inner join (
    select user_id, row_number() over (order by user_id) - 1 as place
    from features.user_features where as_of_date = $last
) as users on users.user_id = margins.user_id
where margins.event_date >= $start and margins.event_date < $end
order by margins.event_date, users.place
"""
"""Net margin in whole cents, whose sums are exact, by place among the users of the last day."""


ASSIGNED = """
with assigned as (
    select * from strategy.assignments
    where as_of_date >= $start and as_of_date < $end and list_contains($segments, segment)
)
select assigned.*, known.* exclude (as_of_date, user_id)
from assigned
left join (
    select features.as_of_date, features.user_id, {features}
    from features.user_features as features
    semi join (select * from assigned where arm = 'offer') as sent
        on sent.as_of_date = features.as_of_date and sent.user_id = features.user_id
    where features.as_of_date >= $start and features.as_of_date < $end
) as known
    on known.as_of_date = assigned.as_of_date and known.user_id = assigned.user_id
order by assigned.as_of_date, assigned.user_id
"""


def campaign_effects(production: Production) -> pl.DataFrame:
    """The effect of each campaign whose trial closed in the window."""
    from promo_assets.strategy.effects.campaigns import campaign_effects as measured

    trials = _read(
        production.read, production.days, "strategy.offer_trials", "closed_date",
        "campaign_id, user_id",
    )  # fmt: skip
    return measured(trials)


def offer_effects(production: Production, given: Given) -> pl.DataFrame:
    """What is known of every offer in every segment at the end of each day."""
    return known_effects(production.read, production.days, given)


def known_effects(read: Read, days: Window, given: Given) -> pl.DataFrame:
    """The rows of ``strategy.offer_effects``, from the trials that are published."""
    import polars as pl

    from promo_assets.strategy.effects.campaigns import pool_effects
    from promo_assets.strategy.effects.response import TRIAL_COLUMNS, fit_responses

    catalogue = catalogue_of(given.catalogue)
    trials = read(
        f"select {', '.join(TRIAL_COLUMNS)} from strategy.offer_trials where arm <> 'comparison'"
        " and assignment_probability is not null and closed_date >= $start and closed_date < $end"
        " order by closed_date, sent_date, campaign_id, offer_id, user_id",
        {"start": days.start - timedelta(days=EVIDENCE_DAYS), "end": days.end},
    )
    known = _read(
        read,
        days,
        "strategy.campaign_effects",
        "closed_date",
        "closed_date, campaign_id, offer_id, segment",
        lookback=EVIDENCE_DAYS,
    )
    pooled: dict[tuple[date, ...], pl.DataFrame] = {}
    found = []
    for day in days.days:
        counts = pl.col("closed_date").is_between(day - timedelta(days=EVIDENCE_DAYS), day)
        recent = known.filter(counts)
        # Most days close no trial: what is known is then what was known the day before.
        closed = tuple(recent["closed_date"].unique().sort())
        if closed not in pooled:
            responses = fit_responses(trials.filter(counts), catalogue, given.margin_rate)
            pooled = {closed: pool_effects(recent, catalogue, day, SEGMENTS, responses)}
        found.append(pooled[closed].with_columns(as_of_date=pl.lit(day, pl.Date)))
    return pl.concat(found)


@dataclass(frozen=True)
class Decided:
    """What a day's decisions follow from: its users, what is known of the offers, what each may be
    worth to each user, the limits, and the plan and exploration that follow from all of these."""

    day: date
    users: pl.DataFrame
    known: pl.DataFrame
    catalogue: Catalogue
    candidates: Candidates
    limits: Limits
    experiment: Experiment
    plan: Plan
    exploration: Exploration


def decided(
    read: Read, days: Window, given: Given, known: pl.DataFrame | None = None
) -> Iterator[Decided]:
    """Each day with all that is decided over everybody together; ``known`` in place of what is
    published of the offers."""
    from promo_assets.strategy.allocation import decisions
    from promo_assets.strategy.allocation.plan import day_limits
    from promo_assets.strategy.offers.rules import eligible

    catalogue = catalogue_of(given.catalogue)
    drawn = Drawn(read, days, catalogue)
    for day, users, effects in _days(read, days, SEGMENTS, given, known):
        mask = eligible(users, catalogue, day, given.margin_rate).mask
        candidates = decisions.candidate_values(
            users, effects, catalogue, mask, given.margin_rate, given.worth_probability
        )
        experiment = given.holdout.on(day)
        limits = day_limits(catalogue, float(given.budget), drawn.by(day), users["open_offers"])
        plan = decisions.day_plan(users, candidates, catalogue, limits, experiment)
        exploration = decisions.explored_on(
            users, candidates, plan, float(given.exploration), limits, experiment, day
        )
        yield Decided(
            day, users, effects, catalogue, candidates, limits, experiment, plan, exploration
        )


def budget_prices(production: Production, given: Given) -> pl.DataFrame:
    """The price of a unit of budget on each day, and how good the optimum is."""
    from promo_assets.strategy.allocation import decisions
    from promo_assets.strategy.allocation.plan import columns_text

    rows = []
    for one in decided(production.read, production.days, given):
        price = one.plan.price
        withheld = decisions.withheld_value(one.users, one.candidates, one.plan, one.experiment)
        curve = decisions.budget_curve(
            one.users, one.candidates, float(given.budget), one.experiment
        )
        rows.append(
            {
                "as_of_date": one.day,
                **one.plan.to_row(),
                "limits": one.limits.to_text() if one.limits.more_than_a_budget else None,
                "curve": json.dumps(curve),
                "budget": given.budget,
                "expected_cost": round(Decimal(price.spent), 2),
                "gap": price.relative_gap,
                "users": one.users.height,
                "eligible_users": int(one.candidates.eligible.any(axis=1).sum()),
                "exploration_budget": given.exploration,
                "exploration_share": one.exploration.share,
                "unexplored": columns_text(one.exploration.closed),
                "worth_probability": given.worth_probability,
                "experiment": one.experiment.name,
                "holdout_share": one.experiment.share,
                "withheld_value": round(Decimal(withheld), 2),
                "margin_rate": given.margin_rate,
                "catalogue_version": catalogue_version(given.catalogue),
            }
        )
    if rows:
        production.note({"gap": rows[-1]["gap"], "price": rows[-1]["price"]})
    return production.frame(rows)


class Drawn:
    """How often each offer that has a stock was drawn, by day."""

    def __init__(self, read: Read, days: Window, catalogue: Catalogue) -> None:
        self.offers = catalogue.offers
        limited = {offer.id for offer in catalogue.offers if offer.stock is not None}
        start = days.start - timedelta(days=STOCK_DAYS - 1)
        rows = read(DRAWN, {"start": start, "end": days.end}).iter_rows() if limited else ()
        self.draws = [row for row in rows if row[1] in limited]

    def by(self, day: date) -> dict[str, int]:
        """Of each offer, in `STOCK_DAYS` up to ``day``."""
        first = day - timedelta(days=STOCK_DAYS - 1)
        drawn: dict[str, int] = {}
        for at, offer, count in self.draws:
            if first <= at <= day:
                drawn[offer] = drawn.get(offer, 0) + count
        return drawn

    def exhausted(self, day: date) -> list[bool]:
        """By offer of the catalogue: whether all of its stock was drawn up to ``day``."""
        drawn = self.by(day)
        return [
            offer.stock is not None and drawn.get(offer.id, 0) >= offer.stock
            for offer in self.offers
        ]


def holdout_effects(production: Production, given: Given) -> pl.DataFrame:
    """What the programme earned by each day, in each round of the holdout that still counts."""
    from promo_assets.strategy.effects.programme import programme_effects

    window, holdout = production.days, given.holdout
    counted = window.start - timedelta(days=holdout.counted_days - 1)
    last = window.end - timedelta(days=1)
    users = production.read(
        "select user_id, cast(as_of_date - tenure_days as date) as first_day"
        " from features.user_features where as_of_date = $last order by user_id",
        {"last": last},
    )
    margins = production.read(
        MARGINS,
        {
            "start": counted - timedelta(days=HOLDOUT_BEFORE_DAYS),
            "end": window.end,
            "last": last,
            "uncosted": round(Decimal(1 - given.margin_rate), 6),
        },
    )
    withheld = production.read(
        "select as_of_date, experiment, withheld_value from strategy.budget_prices"
        " where as_of_date >= $start and as_of_date < $end order by as_of_date",
        {"start": counted, "end": window.end},
    )
    rows = [
        row | {"withheld_value": _withheld(withheld, row)}
        for row in programme_effects(holdout, HOLDOUT_BEFORE_DAYS, window, users, margins)
    ]
    return production.frame(sorted(rows, key=lambda row: (row["as_of_date"], row["started_on"])))


def _withheld(prices: pl.DataFrame, row: Mapping[str, Any]) -> Decimal:
    """What the holdout's round cost so far."""
    import polars as pl

    of_round = prices.filter(
        pl.col("experiment") == row["experiment"],
        pl.col("as_of_date").is_between(row["started_on"], row["as_of_date"]),
    )
    return Decimal(of_round["withheld_value"].sum() or 0)


def assignments(production: Production, given: Given) -> pl.DataFrame:
    """Every user's offer and arm, given the day's price: each segment on its own."""
    import polars as pl

    from promo_assets.strategy.allocation import decisions
    from promo_assets.strategy.allocation.plan import Plan, columns_of
    from promo_assets.strategy.offers.rules import eligible

    catalogue = catalogue_of(given.catalogue)
    prices = {row["as_of_date"]: row for row in _prices(production).iter_rows(named=True)}
    frames = [production.frame()]
    for day, users, known in _days(production.read, production.days, production.parts, given):
        told = prices[day]
        if told["catalogue_version"] != catalogue_version(given.catalogue):
            raise ProductionError(
                f"the offer catalogue changed since the price of {day} was solved; materialise "
                f"strategy.offer_effects and strategy.budget_prices of {day} first"
            )
        plan = Plan.from_row(told)
        mask = eligible(users, catalogue, day, told["margin_rate"]).mask
        candidates = decisions.candidate_values(
            users, known, catalogue, mask, told["margin_rate"], told["worth_probability"]
        )
        experiment = Experiment(told["experiment"], told["holdout_share"])
        exploration = Exploration(
            told["experiment"], day, told["exploration_share"], columns_of(told["unexplored"])
        )
        assigned = decisions.assignments(
            users, candidates, catalogue, plan, experiment, exploration
        )
        frames.append(_dated(assigned, day))
    return pl.concat(frames)


def segment_strategy(production: Production, given: Given) -> pl.DataFrame:
    """Each segment's offers with audience, expected margin and cost, in a merchandiser's words."""
    import polars as pl

    from promo_assets.strategy.allocation import decisions
    from promo_assets.strategy.effects.response import FEATURES

    catalogue = catalogue_of(given.catalogue)
    assigned = _by_day(
        production.read(
            ASSIGNED.format(features=", ".join(FEATURES)),
            _bounds(production.days) | {"segments": list(production.parts)},
        )
    )
    known = _by_day(_effects(production.read, production.days))
    shares = dict(_prices(production).select("as_of_date", "holdout_share").iter_rows())
    frames = [production.frame()]
    for day in production.days.days:
        if day in assigned:
            strategy = decisions.segment_strategy(
                assigned[day].drop("as_of_date"), known[day], catalogue, shares[day]
            )
            frames.append(_dated(strategy, day))
    return pl.concat(frames)


def catalogue_of(path: Path) -> Catalogue:
    """The offer catalogue."""
    try:
        return load_catalogue(path, SEGMENTS)
    except CatalogueError as error:
        raise ProductionError(str(error)) from error


def users_sql(catalogue: Catalogue) -> str:
    """The select of `USERS` with what the catalogue's conditions read of each user."""
    from promo_assets.strategy.effects.response import FEATURES

    caps = {offer.frequency_cap.days for offer in catalogue.offers if offer.frequency_cap}
    # What is put in are the catalogue's whole numbers, checked by it; they carry no text.
    counts = [
        f"{made} filter (drawn.event_type <> 'return' and"
        f" drawn.event_date > calendar.day - {days - 1}) as {name}_{days}d"
        for days in sorted(caps | {EXPLORED_AGAIN_DAYS})
        for made, name in (("count(*)", "offers_drawn"), ("list(drawn.offer_id)", "drawn"))
    ]
    return USERS.format(
        barred=barred_sql(SEGMENTED),
        features=", ".join(FEATURES),
        draws=DRAWS.format(counts=", ".join(counts), most=MOST_CAP_DAYS),
        coupons=COUPONS.format(most=MOST_CAP_DAYS),
    )


def users_parameters(
    window: Window, segments: Sequence[str], consent: ConsentRule, catalogue: Catalogue
) -> dict[str, object]:
    """What `users_sql` reads."""
    offers = {
        "offers": list(catalogue.ids),
        "open_days": [offer.open_days for offer in catalogue.offers],
    }
    return _bounds(window) | {"segments": list(segments)} | offers | consent.parameters


def catalogue_version(path: Path) -> str:
    """The catalogue file's SHA-256, twelve digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def tables(contracts: Mapping[str, TableContract], given: Given) -> list[Table]:
    """The group's tables that Python makes; ``strategy.offer_trials`` is SQL."""

    def daily(name: str, produce: Produce, inputs: Mapping[str, int], *whole: str) -> Table:
        return Table(
            contracts[name], "strategy", produce, VERSION, inputs=inputs, whole=whole, kinds=KINDS
        )

    def by_segment(name: str, produce: Produce, inputs: Mapping[str, int], *same: str) -> Table:
        return Table(
            contracts[name],
            "strategy",
            produce,
            VERSION,
            grid="day_segment",
            inputs=inputs,
            segmented=same,
            kinds=KINDS,
        )

    users = {
        "segments.user_segments": 0,
        "features.user_features": 0,
        "profiles.user_profiles": 0,
        "core.events": MOST_CAP_DAYS,
        "core.identities": 0,
        "strategy.offer_effects": 0,
    }
    return [
        daily("strategy.campaign_effects", campaign_effects, {"strategy.offer_trials": 0}),
        daily(
            "strategy.offer_effects",
            partial(offer_effects, given=given),
            {"strategy.campaign_effects": EVIDENCE_DAYS, "strategy.offer_trials": EVIDENCE_DAYS},
            "core.offers",
        ),
        daily(
            "strategy.budget_prices",
            partial(budget_prices, given=given),
            users,
            "core.offers",
            "core.consents",
        ),
        daily(
            "strategy.holdout_effects",
            partial(holdout_effects, given=given),
            {
                "strategy.user_margins": given.holdout.counted_days - 1 + HOLDOUT_BEFORE_DAYS,
                "features.user_features": 0,
                "strategy.budget_prices": given.holdout.counted_days - 1,
            },
        ),
        by_segment(
            "strategy.assignments",
            partial(assignments, given=given),
            {**users, "strategy.budget_prices": 0},
        ),
        by_segment(
            "strategy.segment_strategy",
            partial(segment_strategy, given=given),
            {
                "features.user_features": 0,
                "strategy.offer_effects": 0,
                "strategy.budget_prices": 0,
            },
            "strategy.assignments",
        ),
    ]


KINDS = frozenset({"duckdb", "polars", "table"})


def _days(
    read: Read,
    days: Window,
    segments: tuple[str, ...],
    given: Given,
    effects: pl.DataFrame | None = None,
) -> Iterator[tuple[date, pl.DataFrame, pl.DataFrame]]:
    """Each day with its users of ``segments`` and what is known of the offers."""
    catalogue = catalogue_of(given.catalogue)
    parameters = users_parameters(days, segments, given.consent, catalogue)
    users = _by_day(read(users_sql(catalogue), parameters))
    known = _by_day(_effects(read, days) if effects is None else effects)
    for day in days.days:
        if day in users:
            yield day, users[day], known[day]


def _effects(read: Read, days: Window) -> pl.DataFrame:
    return _read(
        read, days, "strategy.offer_effects", "as_of_date", "as_of_date, segment, offer_id"
    )


def _prices(production: Production) -> pl.DataFrame:
    import polars as pl

    prices = _read(
        production.read, production.days, "strategy.budget_prices", "as_of_date", "as_of_date"
    )
    return prices.with_columns(pl.col("budget", "expected_cost").cast(pl.Float64))


def _read(
    read: Read, days: Window, table: str, window: str, order: str, lookback: int = 0
) -> pl.DataFrame:
    """The days' rows of one of this module's own inputs, in a fixed order."""
    return read(
        f"select * from {table} where {window} >= $start and {window} < $end order by {order}",
        {"start": days.start - timedelta(days=lookback), "end": days.end},
    )


def _dated(frame: pl.DataFrame, day: date) -> pl.DataFrame:
    import polars as pl

    return frame.select(pl.lit(day, pl.Date).alias("as_of_date"), pl.all())


def _by_day(frame: pl.DataFrame) -> dict[date, pl.DataFrame]:
    parts = frame.partition_by("as_of_date", as_dict=True, maintain_order=True)
    return {key[0]: part for key, part in parts.items()}


def _bounds(window: Window) -> dict[str, object]:
    return {"start": window.start, "end": window.end}
