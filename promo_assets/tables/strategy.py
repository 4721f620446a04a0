"""Group ``strategy``: what offers did, the price of budget, who gets what, and the export."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl

from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.contract.tables import TableContract
from promo_assets.orchestration.table_asset import Produce, Production, ProductionError, Table
from promo_assets.people.consent import barred_sql, consent_parameters
from promo_assets.report.export import write_export
from promo_assets.settings import Settings
from promo_assets.strategy.allocation import decisions
from promo_assets.strategy.allocation.budget import Price
from promo_assets.strategy.effects import campaigns as effects
from promo_assets.strategy.offers.catalogue import Catalogue, CatalogueError, load_catalogue
from promo_assets.strategy.offers.rules import eligible

EVIDENCE_DAYS = 364
"""Days back to which trials count: evidence ages, and a day must not cost more every year."""

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
    features.* exclude (as_of_date, user_id)
from segments.user_segments as segments
inner join ({barred}) as barred
    on barred.as_of_date = segments.as_of_date and barred.user_id = segments.user_id
inner join (
    select as_of_date, user_id, orders_life, {capped}
    from features.user_features where as_of_date >= $start and as_of_date < $end
) as features
    on features.as_of_date = segments.as_of_date and features.user_id = segments.user_id
where segments.as_of_date >= $start and segments.as_of_date < $end
    and list_contains($segments, segments.segment)
order by segments.as_of_date, segments.user_id
"""


def campaign_effects(production: Production) -> pl.DataFrame:
    """The effect of each campaign whose trial closed in the window."""
    trials = _read(production, "strategy.offer_trials", "closed_date", "campaign_id, user_id")
    return effects.campaign_effects(trials)


def offer_effects(production: Production) -> pl.DataFrame:
    """What is known of every offer in every segment at the end of each day."""
    catalogue = catalogue_of(production.settings)
    known = _read(
        production,
        "strategy.campaign_effects",
        "closed_date",
        "closed_date, campaign_id, offer_id, segment",
        lookback=EVIDENCE_DAYS,
    )
    assert production.window is not None
    pooled: dict[tuple[date, ...], pl.DataFrame] = {}
    days = []
    for day in production.window.days:
        recent = known.filter(
            pl.col("closed_date") <= day,
            pl.col("closed_date") >= day - timedelta(days=EVIDENCE_DAYS),
        )
        # Most days close no trial: what is known is then what was known the day before.
        closed = tuple(recent["closed_date"].unique().sort())
        if closed not in pooled:
            pooled = {closed: effects.pool_effects(recent, catalogue, day, SEGMENTS)}
        days.append(pooled[closed].with_columns(as_of_date=pl.lit(day, pl.Date)))
    return pl.concat(days)


def budget_prices(production: Production) -> pl.DataFrame:
    """The price of a unit of budget on each day, and how good the optimum is."""
    settings = production.settings
    catalogue = catalogue_of(settings)
    experiment = experiment_of(settings)
    rows = []
    for day, users, known in _days(production, SEGMENTS):
        candidates = decisions.candidate_values(
            users, known, catalogue, eligible(users, catalogue, day).mask, settings.margin_rate
        )
        price = decisions.budget_price(users, candidates, float(settings.budget), experiment)
        rows.append(
            {
                "as_of_date": day,
                **{item.name: getattr(price, item.name) for item in fields(Price)},
                "budget": settings.budget,
                "expected_cost": round(Decimal(price.spent), 2),
                "gap": price.relative_gap,
                "users": users.height,
                "eligible_users": int((candidates.value > float("-inf")).any(axis=1).sum()),
                "experiment": experiment.name,
                "holdout_share": experiment.share,
                "margin_rate": settings.margin_rate,
                "catalogue_version": catalogue_version(settings),
            }
        )
    if rows:
        production.note({"gap": rows[-1]["gap"], "price": rows[-1]["price"]})
    return production.frame(rows)


def assignments(production: Production) -> pl.DataFrame:
    """Every user's offer and arm, given the day's price: each segment on its own."""
    catalogue = catalogue_of(production.settings)
    prices = {row["as_of_date"]: row for row in _prices(production).iter_rows(named=True)}
    frames = [production.frame()]
    for day, users, known in _days(production, production.parts):
        told = prices[day]
        if told["catalogue_version"] != catalogue_version(production.settings):
            raise ProductionError(
                f"the offer catalogue changed since the price of {day} was solved; materialise "
                f"strategy.offer_effects and strategy.budget_prices of {day} first"
            )
        price = Price(**{item.name: told[item.name] for item in fields(Price)})
        candidates = decisions.candidate_values(
            users, known, catalogue, eligible(users, catalogue, day).mask, told["margin_rate"]
        )
        experiment = decisions.Experiment(told["experiment"], told["holdout_share"])
        assigned = decisions.assignments(users, candidates, catalogue, price, experiment)
        frames.append(_dated(assigned, day))
    return pl.concat(frames)


def segment_strategy(production: Production) -> pl.DataFrame:
    """Each segment's offers with audience, expected margin and cost, in a merchandiser's words."""
    catalogue = catalogue_of(production.settings)
    assert production.window is not None
    assigned = _by_day(
        production.connection.execute(
            "select * from strategy.assignments where as_of_date >= $start and as_of_date < $end"
            " and list_contains($segments, segment) order by as_of_date, user_id",
            _bounds(production.window) | {"segments": list(production.parts)},
        ).pl()
    )
    known = _by_day(_effects(production))
    shares = dict(_prices(production).select("as_of_date", "holdout_share").iter_rows())
    frames = [production.frame()]
    for day in production.window.days:
        if day in assigned:
            strategy = decisions.segment_strategy(
                assigned[day].drop("as_of_date"), known[day], catalogue, shares[day]
            )
            frames.append(_dated(strategy, day))
    return pl.concat(frames)


ALLOWED = """
select assigned.* from strategy.assignments as assigned
inner join ({barred}) as barred on barred.user_id = assigned.user_id
where assigned.as_of_date = $day and (assigned.arm = 'none' or barred.barred is null)
order by all
"""
ASSIGNED = """
select cast($start as date) as as_of_date, user_id from strategy.assignments
where as_of_date = $day
"""


def export_day(connection: duckdb.DuckDBPyConnection, day: date, settings: Settings) -> list[Path]:
    """Write a day's assignments and strategies under ``exports/<day>``; none if there are none.

    What people allow is asked again, as of now: who withdrew since the decision, or turned out to
    be somebody else's second account, is left out of offer and holdout alike.
    """
    found = connection.execute(
        "select count(*) from audit.publications"
        " where table_name = 'strategy.assignments' and day = ? and row_count > 0",
        [day],
    ).fetchone()
    if found == (0,):
        return []
    now = max(day, datetime.now(UTC).date())
    assigned = connection.execute(
        ALLOWED.format(barred=barred_sql(ASSIGNED)),
        _bounds(Window(now, now + timedelta(days=1))) | consent_parameters(settings) | {"day": day},
    ).pl()
    strategy = connection.execute(
        "select * from strategy.segment_strategy where as_of_date = ? order by all", [day]
    ).pl()
    return list(write_export(assigned, strategy, settings.exports, day))


def catalogue_of(settings: Settings) -> Catalogue:
    """The catalogue that ``PROMO_OFFERS`` names."""
    try:
        return load_catalogue(settings.catalogue, SEGMENTS)
    except CatalogueError as error:
        raise ProductionError(str(error)) from error


def users_sql(catalogue: Catalogue) -> str:
    """The select of `USERS` with what the catalogue's conditions read of each user."""
    caps = {
        f"offers_sent_{offer.frequency_cap.days}d"
        for offer in catalogue.offers
        if offer.frequency_cap is not None
    }
    # The names are of the catalogue's whole numbers, checked by it; they carry no text.
    return USERS.format(
        barred=barred_sql(SEGMENTED), capped=", ".join(sorted(caps)) or "first_event_date"
    )


def users_parameters(
    window: Window, segments: Sequence[str], settings: Settings
) -> dict[str, object]:
    """What `users_sql` reads."""
    return _bounds(window) | {"segments": list(segments)} | consent_parameters(settings)


def catalogue_version(settings: Settings) -> str:
    """The catalogue file's SHA-256, twelve digits."""
    return hashlib.sha256(settings.catalogue.read_bytes()).hexdigest()[:12]


def experiment_of(settings: Settings) -> decisions.Experiment:
    """The holdout under which offers are sent."""
    return decisions.Experiment(settings.experiment, settings.holdout_share)


def tables(contracts: Mapping[str, TableContract], settings: Settings) -> list[Table]:
    """The group's tables that Python makes; ``strategy.offer_trials`` is SQL."""

    def daily(name: str, produce: Produce, inputs: Mapping[str, int], *whole: str) -> Table:
        return Table(
            contracts[name], "strategy", produce, "1", inputs=inputs, whole=whole, kinds=KINDS
        )

    def by_segment(name: str, produce: Produce, inputs: Mapping[str, int], *same: str) -> Table:
        return Table(
            contracts[name],
            "strategy",
            produce,
            "1",
            grid="day_segment",
            inputs=inputs,
            segmented=same,
            kinds=KINDS,
        )

    users = {
        "segments.user_segments": 0,
        "features.user_features": 0,
        "core.identities": 0,
        "strategy.offer_effects": 0,
    }
    return [
        daily("strategy.campaign_effects", campaign_effects, {"strategy.offer_trials": 0}),
        daily(
            "strategy.offer_effects",
            offer_effects,
            {"strategy.campaign_effects": EVIDENCE_DAYS},
            "core.offers",
        ),
        daily("strategy.budget_prices", budget_prices, users, "core.offers", "core.consents"),
        by_segment("strategy.assignments", assignments, {**users, "strategy.budget_prices": 0}),
        by_segment(
            "strategy.segment_strategy",
            segment_strategy,
            {"strategy.offer_effects": 0, "strategy.budget_prices": 0},
            "strategy.assignments",
        ),
    ]


KINDS = frozenset({"duckdb", "polars", "table"})


def _days(
    production: Production, segments: tuple[str, ...]
) -> Iterator[tuple[date, pl.DataFrame, pl.DataFrame]]:
    """Each day of the window with its users of ``segments`` and what is known of the offers."""
    assert production.window is not None
    users = _by_day(
        production.connection.execute(
            users_sql(catalogue_of(production.settings)),
            users_parameters(production.window, segments, production.settings),
        ).pl()
    )
    known = _by_day(_effects(production))
    for day in production.window.days:
        if day in users:
            yield day, users[day], known[day]


def _effects(production: Production) -> pl.DataFrame:
    return _read(
        production, "strategy.offer_effects", "as_of_date", "as_of_date, segment, offer_id"
    )


def _prices(production: Production) -> pl.DataFrame:
    return _read(production, "strategy.budget_prices", "as_of_date", "as_of_date").with_columns(
        pl.col("budget", "expected_cost").cast(pl.Float64)
    )


def _read(
    production: Production, table: str, window: str, order: str, lookback: int = 0
) -> pl.DataFrame:
    """The window's rows of one of this module's own inputs, in a fixed order."""
    assert production.window is not None
    return production.connection.execute(
        f"select * from {table} where {window} >= $start and {window} < $end order by {order}",
        {
            "start": production.window.start - timedelta(days=lookback),
            "end": production.window.end,
        },
    ).pl()


def _dated(frame: pl.DataFrame, day: date) -> pl.DataFrame:
    return frame.select(pl.lit(day, pl.Date).alias("as_of_date"), pl.all())


def _by_day(frame: pl.DataFrame) -> dict[date, pl.DataFrame]:
    parts = frame.partition_by("as_of_date", as_dict=True, maintain_order=True)
    return {key[0]: part for key, part in parts.items()}


def _bounds(window: Window) -> dict[str, object]:
    return {"start": window.start, "end": window.end}
