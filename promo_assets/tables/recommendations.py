"""Group ``recommendations``: rules, neighbours, popularity and blends by week, each user's items on
the days on which they deal with items, and what each user's offers are worth and carry."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from promo_assets.contract.days import every_nth, week_of
from promo_assets.contract.tables import TableContract
from promo_assets.people.consent import ConsentRule, barred_sql
from promo_assets.strategy.offers.catalogue import MOST_CAP_DAYS
from promo_assets.tables.strategy import Drawn, Given, catalogue_of, users_parameters, users_sql
from promo_assets.tables.table import Production, Table

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from scipy.sparse import csr_matrix

    from promo_assets.recommendations.baskets import Baskets, Numbers
    from promo_assets.recommendations.offers import Item
    from promo_assets.recommendations.ranking import Blend, Model
    from promo_assets.strategy.offers.catalogue import Catalogue

WEEK = timedelta(days=7)
LEARNED_EVERY_WEEKS = 8
"""Weeks between rules, neighbours and blends: they change slowly, and a year of them takes a minute
where each week learns. Other weeks have no rows."""
RULE_DAYS = 56
"""Days up to a week's Sunday whose baskets make rules."""
RECENT_DAYS = 91
"""Days up to a week's Sunday whose buyers make popularity."""
LIKENESS_DAYS = 182
"""Days up to a week's Sunday whose purchases make neighbours and choose the blend."""
VALIDATION_DAYS = 28
"""The last of them, whose baskets a blend has to foresee."""
VALIDATED = 600
"""Baskets that a blend is chosen on, the first by a hash of user and day."""
HISTORY_DAYS = 364
"""Days of a user's baskets that recommendations read."""
SUPPORT = {"category": 0.02, "product": 0.001, "type": 0.01}
"""The share of baskets that an itemset must be in, by level."""
RULES_KEPT = 500
"""Rules of a level."""
POPULAR_ITEMS = 5_000
"""Items with a popularity; of a lifecycle `FAVOURITES`."""
FAVOURITES = 40

BASKETS = """
select level, basket, item from (
    select basket, item_id as product, category as whole,
        if(split_part(category, '/', 3) = '', null, category) as type,
        split_part(category, '/', 1)
        || if(split_part(category, '/', 2) = '', '', '/' || split_part(category, '/', 2))
            as category
    from (
        select
            hash(coalesce(user_id, device_id), event_date, coalesce(order_id, '')) as basket,
            item_id
        from core.events
        where event_date >= $start and event_date < $end
            and event_type = 'purchase' and item_id is not null
    )
    left join core.items using (item_id)
) unpivot (item for level in (product, type, category))
"""

PURCHASES = """
select distinct user_id, event_date, item_id
from core.events
where event_date >= $start and event_date < $end
    and event_type = 'purchase' and user_id is not null and item_id is not null
"""

POPULARITY = """
with bought as (
    select distinct events.user_id, events.item_id, profiles.lifecycle
    from core.events as events
    left join profiles.user_profiles as profiles
        on profiles.user_id = events.user_id and profiles.as_of_date = $last
    where events.event_date >= $start and events.event_date <= $last
        and events.event_type = 'purchase'
        and events.user_id is not null and events.item_id is not null
),
counted as (
    select '' as lifecycle, item_id, count(*) as buyers from bought group by item_id
    union all
    select lifecycle, item_id, count(*) from bought
    where lifecycle is not null group by lifecycle, item_id
),
totals as (
    select '' as lifecycle, count(distinct user_id) as all_buyers from bought
    union all
    select lifecycle, count(distinct user_id) from bought
    where lifecycle is not null group by lifecycle
)
select
    cast($week as date) as week, lifecycle, item_id, buyers,
    buyers / all_buyers as share, price,
    row_number() over (partition by lifecycle order by buyers desc, item_id) as popularity_rank
from counted
inner join totals using (lifecycle)
left join (
    select item_id, cast(round(avg(unit_price), 2) as decimal(18, 2)) as price
    from core.events
    where event_date >= $start and event_date <= $last
        and event_type = 'purchase' and item_id is not null
    group by item_id
) as paid using (item_id)
qualify popularity_rank <= if(lifecycle = '', $most, $favourites)
order by lifecycle, popularity_rank
"""

ACTIVE = """
select as_of_date, user_id from (
    select user_id, min(event_date) as as_of_date
    from core.events
    where event_date >= cast(date_trunc('week', $start) as date) and event_date < $end
        and user_id is not null and item_id is not null
        and event_type in ('view', 'click', 'favourite', 'add_to_cart', 'purchase')
    group by user_id, date_trunc('week', event_date)
)
where as_of_date >= $start
"""
"""The first day of a calendar week on which a user deals with an item."""

VISITS = """
select allowed.as_of_date, allowed.user_id, coalesce(profiles.lifecycle, '') as segment
from ({allowed}) as allowed
left join profiles.user_profiles as profiles
    on profiles.as_of_date = allowed.as_of_date and profiles.user_id = allowed.user_id
    and profiles.as_of_date >= $start and profiles.as_of_date < $end
where allowed.barred is null
order by allowed.as_of_date, allowed.user_id
"""

HISTORY = """
select distinct events.user_id, events.event_date, events.item_id
from core.events as events
semi join ({active}) as visitors on visitors.user_id = events.user_id
where events.event_date >= $first and events.event_date < $end
    and events.event_type = 'purchase' and events.item_id is not null
"""

SEEN = """
select distinct event_date as as_of_date, user_id, item_id
from core.events
where event_date >= $start and event_date < $end
    and user_id is not null and item_id is not null
    and event_type in ('view', 'click', 'favourite', 'add_to_cart')
"""

CATEGORIES = """
select item_id,
    split_part(category, '/', 1)
    || if(split_part(category, '/', 2) = '', '', '/' || split_part(category, '/', 2)) as category
from core.items where category is not null
"""

GONE = "select item_id from core.items where in_stock = false"


LISTED_DAYS = 90
"""Days for which a user's lists hold."""

DUE = """
select as_of_date, user_id from recommendations.user_items
where as_of_date >= $start and as_of_date < $end
union
select as_of_date, user_id from strategy.assignments
where as_of_date >= $start and as_of_date < $end and arm = 'offer'
"""
"""Whose offers are listed: users whose items were renewed, and who gets one."""

SENT = """
select as_of_date, user_id, offer_id from strategy.assignments
where as_of_date >= $start and as_of_date < $end and arm = 'offer'
    and list_contains($segments, segment)
"""

CARRIED = """
with newest as (
    select sent.as_of_date, sent.user_id, max(items.as_of_date) as renewed
    from ({sent}) as sent
    inner join recommendations.user_items as items
        on items.user_id = sent.user_id and items.as_of_date <= sent.as_of_date
        and items.as_of_date > sent.as_of_date - $listed
    where items.as_of_date >= cast($start - to_days(cast($listed as integer)) as date)
        and items.as_of_date < $end
    group by sent.as_of_date, sent.user_id
)
select newest.as_of_date, newest.user_id, items.kind, items.item_id, items.because_item_id,
    items.times_bought, cast(items.price as double) as price, known.category
from newest
inner join recommendations.user_items as items
    on items.user_id = newest.user_id and items.as_of_date = newest.renewed
left join core.items as known on known.item_id = items.item_id
where known.in_stock is distinct from false
order by newest.as_of_date, newest.user_id,
    case items.kind when 'complement' then 1 when 'explore' then 2 else 3 end, items.kind_rank
"""


@dataclass(frozen=True)
class Recommending:
    """What the group depends on: the consent that a recommendation needs, threads, and what
    strategies depend on."""

    consent: ConsentRule
    threads: int
    deciding: Given


def learned_in(week: date) -> bool:
    """Whether rules, neighbours and the blend are learned in this week: every n-th by the calendar,
    whatever the range is."""
    return every_nth(week, LEARNED_EVERY_WEEKS, LEARNED_EVERY_WEEKS // 2)


def basket_rules(production: Production) -> pl.DataFrame:
    """The significant rules of the baskets before each week's end."""
    import polars as pl

    from promo_assets.recommendations.itemsets import Limits, itemsets_of
    from promo_assets.recommendations.rules import rules_of

    frames = [production.frame()]
    for week in filter(learned_in, production.weeks):
        found = itemsets_of(production.read(BASKETS, _before(week, RULE_DAYS)), Limits(SUPPORT))
        capped = found.group_by("level").agg(pl.col("capped_baskets").first()).sort("level")
        production.note({f"capped baskets, {level}": count for level, count in capped.iter_rows()})
        frames.append(_of_week(rules_of(found, RULES_KEPT), week, production))
    return pl.concat(frames)


def item_neighbours(production: Production, threads: int) -> pl.DataFrame:
    """Each item's nearest neighbours by who bought it before each week's end."""
    import polars as pl

    from promo_assets.recommendations.neighbours import neighbours_of

    frames = [production.frame()]
    for week in filter(learned_in, production.weeks):
        lines = production.read(PURCHASES, _before(week, LIKENESS_DAYS))
        frames.append(_of_week(neighbours_of(lines, threads=threads), week, production))
    return pl.concat(frames)


def item_popularity(production: Production) -> pl.DataFrame:
    """The share of buyers who bought an item before each week's end, of all and by lifecycle."""
    import polars as pl

    limits = {"most": POPULAR_ITEMS, "favourites": FAVOURITES}
    frames = [production.frame()]
    for week in production.weeks:
        bounds = _before(week, RECENT_DAYS)
        told = {"week": week, "last": week + timedelta(days=6), "start": bounds["start"]}
        frames.append(_of_week(production.read(POPULARITY, told | limits), week, production))
    return pl.concat(frames)


def blends(production: Production) -> pl.DataFrame:
    """The weights that foresee the newest baskets before each week's end best."""
    from promo_assets.recommendations.evaluation import GRID

    rows: list[dict[str, Any]] = []
    for week in filter(learned_in, production.weeks):
        lines = production.read(PURCHASES, _before(week, LIKENESS_DAYS))
        chosen = _chosen(lines, week + WEEK - timedelta(days=VALIDATION_DAYS))
        if chosen is None:
            rows.append({"week": week, "baskets": 0, **_weights(GRID[0])})
            continue
        blend, recalls, baskets = chosen
        reference = [
            recall for tried, recall in zip(GRID, recalls, strict=True) if not tried.purchases
        ]
        rows.append(
            {
                "week": week,
                "baskets": baskets,
                **_weights(blend),
                "recall": float(recalls.max()),
                "recall_without_purchases": float(max(reference)),
            }
        )
    return production.frame(rows)


def user_items(production: Production, given: Recommending) -> pl.DataFrame:
    """What to buy again and what to try, of each user on the days on which they deal with items."""
    import polars as pl

    from promo_assets.recommendations.baskets import baskets_of

    window = production.days
    bounds = {"start": window.start, "end": window.end}
    visits = production.read(
        VISITS.format(allowed=barred_sql(ACTIVE)), bounds | given.consent.parameters
    )
    history = production.read(
        HISTORY.format(active=ACTIVE),
        bounds | {"first": window.start - timedelta(days=HISTORY_DAYS)},
    )
    seen = production.read(SEEN, bounds)
    # Once for all weeks: what is known in each, and every item that any of them names.
    known = {week: _known(production, week) for week in {week_of(day) for day in window.days}}
    named = [told.names for told in known.values()]
    names = pl.concat([*named, history["item_id"], seen["item_id"]]).unique().sort()
    names = names.filter(~names.is_in(production.read(GONE)["item_id"].implode()))
    baskets = baskets_of(history, names, "event_date")
    categories = _categories(production, names)
    frames = [production.frame()]
    for week in sorted(known):
        of_week = pl.col("as_of_date").is_between(week, week + WEEK, closed="left")
        told = visits.filter(of_week)
        if told.height:
            model = _model(known[week], names, categories)
            rows = _recommended(told, seen.filter(of_week), baskets, model)
            frames.append(_priced(rows, known[week].popularity))
    return pl.concat(frames)


def user_offers(production: Production, given: Recommending) -> pl.DataFrame:
    """Each user's eligible offers in order, and what the assigned one carries."""
    import polars as pl

    from promo_assets.recommendations.offers import in_order
    from promo_assets.strategy.allocation.decisions import candidate_values
    from promo_assets.strategy.offers.rules import eligible

    catalogue = catalogue_of(given.deciding.catalogue)
    bounds = users_parameters(production.days, production.parts, given.consent, catalogue)
    users = production.read(
        f"select * from ({users_sql(catalogue)}) as users semi join ({DUE}) as due"
        " on due.as_of_date = users.as_of_date and due.user_id = users.user_id"
        " order by users.as_of_date, users.user_id",
        bounds,
    )
    effects = production.read(
        "select * from strategy.offer_effects where as_of_date >= $start and as_of_date < $end"
        " order by as_of_date, segment, offer_id",
        bounds,
    )
    sent = production.read(SENT, bounds)
    drawn_before = Drawn(production.read, production.days, catalogue)
    carrying = _carrying(production, bounds, users, sent, catalogue)
    frames = [production.frame()]
    for (day,), of_day in users.partition_by("as_of_date", as_dict=True).items():
        known = effects.filter(pl.col("as_of_date") == day)
        mask = eligible(of_day, catalogue, day, given.deciding.margin_rate).mask
        mask[:, drawn_before.exhausted(day)] = False
        worth = candidate_values(of_day, known, catalogue, mask, given.deciding.margin_rate)
        told = of_day.select("as_of_date", "user_id", "segment").with_row_index("user")
        drawn = told.join(sent, on=["as_of_date", "user_id"], how="left", maintain_order="left")
        ranked = in_order(worth.value, worth.cost, catalogue.ids, drawn["offer_id"].to_list())
        evidence = known.select("segment", "offer_id", "evidence")
        rows = (
            ranked.join(told.cast({"user": pl.Int64}), on="user")
            .join(evidence, on=["segment", "offer_id"], how="left")
            .join(carrying, on=["as_of_date", "user_id", "offer_id"], how="left")
            .with_columns(
                reason=pl.when(pl.col("expected_value") > pl.col("expected_cost"))
                .then(pl.format("should earn more than it costs ({} evidence)", "evidence"))
                .otherwise(pl.format("is not expected to earn its cost ({} evidence)", "evidence"))
            )
            .sort("user_id", "offer_rank")
        )
        schema = production.frame().schema
        frames.append(rows.select(pl.col(name).cast(kind) for name, kind in schema.items()))
    return pl.concat(frames)


def _carrying(
    production: Production,
    bounds: Mapping[str, Any],
    users: pl.DataFrame,
    sent: pl.DataFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """as_of_date, user_id, offer_id, items, items_reason of the offers that are ``sent``."""
    import polars as pl

    from promo_assets.recommendations.offers import carried

    offers = {offer.id: offer for offer in catalogue.offers}
    listed = production.read(CARRIED.format(sent=SENT), {**bounds, "listed": LISTED_DAYS})
    items: dict[tuple[date, str], list[Item]] = {}
    for row in listed.iter_rows(named=True):
        items.setdefault((row["as_of_date"], row["user_id"]), []).append(_item(row))
    spend = (pl.col("gross_90d") - pl.col("discount_90d")).cast(pl.Float64)
    usual = {
        (day, user): basket
        for day, user, basket in users.select(
            "as_of_date", "user_id", spend / pl.when(pl.col("orders_90d") > 0).then("orders_90d")
        ).iter_rows()
    }
    rows = []
    for day, user, offer_id in sent.iter_rows():
        offer = offers[offer_id]
        threshold = float(offer.min_spend) if offer.min_spend is not None else None
        told = carried(
            items.get((day, user), []), usual.get((day, user)), threshold, offer.eligible.categories
        )
        rows.append((day, user, offer_id, " + ".join(told.items) or None, told.reason))
    names = ("as_of_date", "user_id", "offer_id", "items", "items_reason")
    types = (pl.Date, *[pl.String] * 4)
    return pl.DataFrame(rows, dict(zip(names, types, strict=True)), orient="row")


def _item(row: Mapping[str, Any]) -> Item:
    from promo_assets.recommendations.offers import Item

    because = row["because_item_id"]
    why = {
        "complement": f"joins baskets with {because}, never bought",
        "explore": f"like {because}, never bought" if because else "popular, never bought",
        "repeat": f"bought in {row['times_bought']} of the last baskets",
    }[row["kind"]]
    return Item(row["item_id"], row["price"], row["category"], why)


def _recommended(
    visits: pl.DataFrame, seen: pl.DataFrame, baskets: Baskets, model: Model
) -> pl.DataFrame:
    """The rows of visits of one week."""
    import polars as pl

    from promo_assets.recommendations import ranking

    at, oldest = _places(visits, baskets)
    names = baskets.names
    found = ranking.recommend(
        ranking.Visits(at, oldest, visits["segment"], _seen(visits, seen, names)), baskets, model
    )
    return pl.DataFrame(
        {
            "as_of_date": visits["as_of_date"].gather(found["visit"]),
            "user_id": visits["user_id"].gather(found["visit"]),
            "kind": found["kind"],
            "kind_rank": found["kind_rank"],
            "item_id": names.gather(found["item"]),
            "score": found["score"].round(6),
            "times_bought": found["times"],
            "because_item_id": names.gather(found["because"]),
        }
    )


def _priced(rows: pl.DataFrame, popularity: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    prices = popularity.filter(pl.col("lifecycle") == "").select("item_id", "price")
    return rows.join(prices, on="item_id", how="left", maintain_order="left")


@dataclass(frozen=True)
class _Known:
    """What a week's days may read: the popularity of the week before, and the neighbours and the
    blend of the newest week before in which they were learned; empty where there is none."""

    popularity: pl.DataFrame
    neighbours: pl.DataFrame
    rules: pl.DataFrame
    blend: dict[str, Any] | None

    @property
    def names(self) -> pl.Series:
        """The items that are named."""
        import polars as pl

        similar = [self.neighbours[name] for name in ("item_id", "neighbour_id")]
        return pl.concat([self.popularity["item_id"], self.rules["item_id"], *similar]).unique()


def _known(production: Production, week: date) -> _Known:
    learned = next(
        week - back * WEEK
        for back in range(1, LEARNED_EVERY_WEEKS + 1)
        if learned_in(week - back * WEEK)
    )
    weeks = {"week": week - WEEK, "learned": learned}
    return _Known(
        production.read(
            "select lifecycle, item_id, share, price from recommendations.item_popularity"
            " where week = $week order by lifecycle, popularity_rank",
            weeks,
        ),
        production.read(
            "select item_id, neighbour_id, similarity from recommendations.item_neighbours"
            " where week = $learned",
            weeks,
        ),
        production.read(
            "select antecedent as because_id, consequent as item_id, lift_low as score"
            " from recommendations.basket_rules where week = $learned and level = 'product'"
            " and antecedent_size = 1 order by rule_rank",
            weeks,
        ),
        production.row(
            "select purchases, popularity from recommendations.blends where week = $learned", weeks
        ),
    )


def _model(known: _Known, names: pl.Series, categories: pl.Series) -> Model:
    """What is known, by the numbers of ``names``."""
    import numpy as np
    import polars as pl
    from scipy.sparse import csr_matrix

    from promo_assets.recommendations.baskets import numbers_of
    from promo_assets.recommendations.ranking import Blend, Model

    item = numbers_of(known.neighbours["item_id"], names)
    other = numbers_of(known.neighbours["neighbour_id"], names)
    offered = (item >= 0) & (other >= 0)
    similarity = known.neighbours["similarity"].to_numpy()[offered]
    cells = (item[offered], other[offered])
    similar = csr_matrix((similarity, cells), (len(names), len(names)))
    similar.sort_indices()
    shares = known.popularity.with_columns(
        item=pl.Series(numbers_of(known.popularity["item_id"], names))
    ).filter(pl.col("item") >= 0)
    of_all = shares.filter(pl.col("lifecycle") == "")
    popularity = np.zeros(len(names))
    popularity[of_all["item"].to_numpy()] = of_all["share"].to_numpy()
    favourites = shares.filter(pl.int_range(pl.len()).over("lifecycle") < FAVOURITES)
    return Model(
        Blend(**known.blend) if known.blend else Blend(),
        popularity,
        similar,
        categories,
        favourites.select("item", "share", segment="lifecycle"),
        known.rules.select(
            because=pl.Series(numbers_of(known.rules["because_id"], names)),
            item=pl.Series(numbers_of(known.rules["item_id"], names)),
            score=pl.col("score"),
        ).filter(pl.col("because") >= 0, pl.col("item") >= 0),
    )


def _categories(production: Production, names: pl.Series) -> pl.Series:
    """The first two levels of each item's category; null where it has none."""
    import polars as pl

    items = pl.DataFrame({"item_id": names})
    told = production.read(CATEGORIES)
    return items.join(told, on="item_id", how="left", maintain_order="left")["category"]


def _places(visits: pl.DataFrame, baskets: Baskets) -> tuple[Numbers, Numbers]:
    """For each visit the number of the user's newest basket by then, and of the first that counts;
    the newest is one less than the first where none counts."""
    import numpy as np

    from promo_assets.recommendations.baskets import numbers_of

    day = visits["as_of_date"].to_physical().to_numpy().astype(np.int64)
    user = numbers_of(visits["user_id"], baskets.users)
    at = baskets.until(user, day) - 1
    oldest = baskets.until(user, day - HISTORY_DAYS - 1)
    return np.where(user >= 0, at, -1), np.where(user >= 0, oldest, 0)


def _seen(visits: pl.DataFrame, seen: pl.DataFrame, names: pl.Series) -> csr_matrix:
    """[visits, items] of 0 and 1: what was looked at on the day."""
    import numpy as np
    from scipy.sparse import csr_matrix

    from promo_assets.recommendations.baskets import numbers_of

    rows = visits.select("as_of_date", "user_id").with_row_index("visit")
    cells = seen.join(rows, on=["as_of_date", "user_id"])
    item = numbers_of(cells["item_id"], names)
    places = (cells["visit"].to_numpy()[item >= 0], item[item >= 0])
    made = csr_matrix((np.ones(len(places[0])), places), (visits.height, len(names)))
    made.sort_indices()
    return made


def _chosen(lines: pl.DataFrame, since: date) -> tuple[Blend, np.ndarray, int] | None:
    """The blend that foresees the baskets from ``since`` on best, the recall of each of `GRID`, and
    the number of baskets; None without baskets of users who had any before."""
    import numpy as np
    import polars as pl

    from promo_assets.recommendations.baskets import baskets_of, numbers_of
    from promo_assets.recommendations.evaluation import learned

    names = lines["item_id"].unique().sort()
    baskets = baskets_of(lines, names, "event_date")
    before = lines.filter(pl.col("event_date") < since)
    counts = before.select("user_id", "item_id").unique().group_by("item_id").len()
    popularity = np.zeros(len(names))
    popularity[numbers_of(counts["item_id"], names)] = counts["len"].to_numpy() / max(
        before["user_id"].n_unique(), 1
    )
    first = (since - date(1970, 1, 1)).days
    foreseen = np.flatnonzero((baskets.moment >= first) & (baskets.place > 0))
    if not len(foreseen):
        return None
    keys = zip(baskets.users.gather(baskets.user[foreseen]), baskets.moment[foreseen], strict=True)
    drawn = np.array([zlib.crc32(f"{user} {day}".encode()) for user, day in keys])
    foreseen = np.sort(foreseen[np.argsort(drawn, kind="stable")][:VALIDATED])
    blend, recalls = learned(baskets, foreseen - 1, popularity)
    return blend, recalls, len(foreseen)


def _weights(blend: Blend) -> dict[str, float]:
    return {"purchases": blend.purchases, "popularity": blend.popularity}


def _before(week: date, days: int) -> dict[str, Any]:
    """The ``days`` up to the week's Sunday."""
    return {"start": week + WEEK - timedelta(days=days), "end": week + WEEK}


def _of_week(found: pl.DataFrame, week: date, production: Production) -> pl.DataFrame:
    import polars as pl

    frame = production.frame()
    dated = found.with_columns(week=pl.lit(week, pl.Date))
    return dated.select(pl.col(name).cast(kind) for name, kind in frame.schema.items())


def tables(contracts: Mapping[str, TableContract], given: Recommending) -> list[Table]:
    """The group's tables."""
    version = "1"

    def weekly(name: str, produce: Any, days: int, *whole: str, **inputs: int) -> Table:
        return Table(
            contracts[f"recommendations.{name}"],
            "recommendations",
            produce,
            version,
            grid="week",
            inputs={"core.events": days - 7} | inputs,
            whole=whole,
            kinds=frozenset({"duckdb", "polars", "table"}),
        )

    return [
        weekly("basket_rules", basket_rules, RULE_DAYS, "core.items"),
        weekly(
            "item_neighbours",
            partial(item_neighbours, threads=given.threads),
            LIKENESS_DAYS,
        ),
        weekly("item_popularity", item_popularity, RECENT_DAYS, **{"profiles.user_profiles": 0}),
        weekly("blends", blends, LIKENESS_DAYS),
        Table(
            contracts["recommendations.user_items"],
            "recommendations",
            partial(user_items, given=given),
            "3",
            inputs={
                "core.events": HISTORY_DAYS,
                "core.identities": 0,
                "profiles.user_profiles": 0,
            },
            whole=("core.items", "core.consents", "core.calendar"),
            weekly={
                "recommendations.item_popularity": (-1, -1),
                "recommendations.item_neighbours": (-LEARNED_EVERY_WEEKS, -1),
                "recommendations.basket_rules": (-LEARNED_EVERY_WEEKS, -1),
                "recommendations.blends": (-LEARNED_EVERY_WEEKS, -1),
            },
            kinds=frozenset({"duckdb", "polars", "table"}),
        ),
        Table(
            contracts["recommendations.user_offers"],
            "recommendations",
            partial(user_offers, given=given),
            "3",
            grid="day_segment",
            inputs={
                "recommendations.user_items": LISTED_DAYS,
                "segments.user_segments": 0,
                "features.user_features": 0,
                "profiles.user_profiles": 0,
                "core.events": MOST_CAP_DAYS,
                "core.identities": 0,
                "strategy.offer_effects": 0,
            },
            segmented=("strategy.assignments",),
            kinds=frozenset({"duckdb", "polars", "table"}),
        ),
    ]
