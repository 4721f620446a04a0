"""``promo explain``: one screen on why a user got which offer on a day.

Everything is read from what was published for the day; only the offers that were considered are
valued again, by the same functions and with the day's price. Not here: deciding anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import polars as pl

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.people.identifiers import identifier
from promo_assets.people.pseudonyms import pseudonym
from promo_assets.settings import Settings
from promo_assets.warehouse.reading import Read, row

TOP_PRODUCTS = 3
WIDTH = 12

SNAPSHOT = "select * from features.user_features where user_id = $user and as_of_date = $day"
PROFILE = "select * from profiles.user_profiles where user_id = $user and as_of_date = $day"
FUTURE = """
select * from profiles.user_lifetimes
where user_id = $user and as_of_date <= $day order by week desc limit 1
"""
CLUSTER = """
select users.*, told.share, told.reason
from profiles.user_clusters as users
inner join profiles.cluster_profiles as told
    on told.week = users.week and told.cluster = users.cluster
where users.user_id = $user and users.as_of_date <= $day and users.as_of_date > $day - 14
order by users.week desc limit 1
"""
SEGMENT = "select * from segments.user_segments where user_id = $user and as_of_date = $day"
SCORE = """
select scores.propensity, scores.model_version, trainings.sha256, trainings.week
from propensity.scores as scores
left join propensity.trainings as trainings using (model_version)
where scores.user_id = $user and scores.as_of_date = $day
"""
ASSIGNMENT = "select * from strategy.assignments where user_id = $user and as_of_date = $day"
PRICE = "select * from strategy.budget_prices where as_of_date = $day"
ITEMS = """
select items.* from recommendations.user_items as items
inner join (
    select max(as_of_date) as renewed from recommendations.user_items
    where user_id = $user and as_of_date <= $day and as_of_date > $day - 90
) as newest on items.as_of_date = newest.renewed
where items.user_id = $user order by items.kind, items.kind_rank
"""
OFFERED = """
select * from recommendations.user_offers
where user_id = $user and as_of_date = $day order by offer_rank
"""
EFFECTS = "select * from strategy.offer_effects where as_of_date = $day order by segment, offer_id"
KNOWN = """
select min(as_of_date) as first, max(as_of_date) as last
from features.user_features where user_id = $user
"""


class UnknownUserError(ValueError):
    """There is nothing to explain; the message says what is known of the user."""


def known_as(user: str, read: Read, settings: Settings) -> str:
    """The user's pseudonym: of an id as the source delivers it, or of a pseudonym itself."""
    if read(KNOWN, {"user": user}).row(0) != (None, None):
        return user
    return pseudonym(identifier(user), "account", installation.pseudonym_keys(settings)[0])


def explain(user: str, day: date, read: Read, settings: Settings) -> str:
    """The day's decision on a user as lines of text: segment, propensity, offers, arm.

    ``user``: an account's id as the source delivers it, or a pseudonym as the export shows it.
    Raises `UnknownUserError` when the user has no snapshot on the day.
    """
    key = known_as(user, read, settings)
    keys = {"user": key, "day": day}
    snapshot = read(SNAPSHOT, keys)
    if not snapshot.height:
        raise UnknownUserError(_unknown(user, key, day, read))
    lines = [f"User {user} (pseudonym {key}), at the end of {day} (UTC)", ""]
    lines += _behaviour(snapshot.row(0, named=True), row(read, PROFILE, keys))
    lines += _future(row(read, FUTURE, keys))
    lines += _segment(row(read, SEGMENT, keys))
    lines += _cluster(row(read, CLUSTER, keys))
    lines += _propensity(snapshot, row(read, SCORE, keys), settings)
    lines += _products(read(ITEMS, keys))
    lines += _promotions(read(OFFERED, keys))
    lines += _offers(read, keys, settings)
    lines += _decision(row(read, ASSIGNMENT, keys), day)
    return "\n".join(lines)


def _unknown(user: str, key: str, day: date, read: Read) -> str:
    known = row(read, KNOWN, {"user": key})
    if known is None or known["first"] is None:
        return f"user {user!r} is in no day of features.user_features; check the id"
    return (
        f"user {user!r} has no snapshot of {day}: known from {known['first']} to {known['last']}; "
        f"choose such a day, or materialise it with `promo run --from {day} --to {day}`"
    )


def _told(name: str, text: str) -> str:
    return f"{name:<{WIDTH}}{text}"


def _behaviour(snapshot: Mapping[str, Any], profile: Mapping[str, Any] | None) -> Iterator[str]:
    recency = snapshot["recency_days"]
    since = "never ordered" if recency is None else f"last order {recency} day(s) before"
    yield _told(
        "Behaviour",
        f"{since}; {snapshot['orders_28d']} orders in 28 days, {snapshot['orders_90d']} in 90, "
        f"{snapshot['orders_life']} so far; spend {snapshot['spend_28d']:,} in 28 days",
    )
    if profile is None:
        return
    sensitivity = profile["price_sensitivity"]
    interests = [profile[f"top_category_{place}"] for place in (1, 2, 3)]
    yield _told(
        "Profile",
        f"{profile['lifecycle']}; RFM {profile['rfm'] or 'unknown'}; price sensitivity "
        f"{'unknown' if sensitivity is None else f'{sensitivity:.2f}'}; buys "
        f"{', '.join(filter(None, interests)) or 'nothing known'}"
        + (f", mostly at {band} a piece" if (band := profile["top_price_band"]) else ""),
    )


def _future(future: Mapping[str, Any] | None) -> Iterator[str]:
    """What is still to come, as the newest week before the day's end told it."""
    if future is None:
        yield _told("Future", "nothing foreseen: no order by the end of a week that is published")
        return
    if future["reason"]:
        yield _told("Future", f"nothing foreseen: {future['reason'].replace('_', ' ')}")
        return
    value, again = future["expected_value_90d"], future["next_order_date"]
    yield _told(
        "Future",
        f"{future['expected_orders_28d']:.1f} orders expected in 28 days, "
        f"{future['expected_orders_90d']:.1f} in 90"
        + (f" worth {value:,.2f}" if value is not None else "")
        + f"; still a customer with {future['alive_probability']:.0%}, who then orders by "
        f"{again or 'no date within two years'} as likely as not (as of {future['as_of_date']})",
    )


def _segment(segment: Mapping[str, Any] | None) -> Iterator[str]:
    if segment is None:
        yield _told("Segment", "not published for this day")
        return
    before = segment["previous_segment"]
    moved = f" (the day before: {before})" if before not in (None, segment["segment"]) else ""
    yield _told("Segment", f"{segment['segment']}{moved}: {segment['reason']}")


def _cluster(cluster: Mapping[str, Any] | None) -> Iterator[str]:
    """How the user buys, as the newest of the last two weeks told it."""
    if cluster is None:
        yield _told("Cluster", "none: not active in the 90 days up to a week that is published")
    elif cluster["reason"]:
        yield _told("Cluster", f"everybody is one: {cluster['reason'].replace('_', ' ')}")
    else:
        yield _told(
            "Cluster",
            f"{cluster['name']} (number {cluster['cluster']}, {cluster['share']:.0%} of active "
            f"users; membership {cluster['membership']:.2f}, as of {cluster['as_of_date']})",
        )


def _propensity(
    snapshot: pl.DataFrame, score: Mapping[str, Any] | None, settings: Settings
) -> Iterator[str]:
    """The score, and its strongest reasons."""
    from promo_assets.propensity.dataset import MissingFeatureError
    from promo_assets.propensity.model import ModelFileError
    from promo_assets.propensity.reasons import reasons
    from promo_assets.tables.propensity import model_of

    if score is None:
        yield _told("Propensity", "no model had been trained by then")
        return
    yield _told(
        "Propensity",
        f"{score['propensity']:.4f} to buy within {settings.horizon_days} days; model version "
        f"{score['model_version']}, trained in the week of {score['week']}",
    )
    try:
        model = model_of(
            installation.learning(settings).store, score["model_version"], score["sha256"]
        )
        told = reasons(model, snapshot)
    except (ModelFileError, MissingFeatureError) as error:
        yield _told("", f"its reasons can't be told: {error}")
        return
    for reason in told:
        moves = "raises" if reason.weight > 0 else "lowers"
        yield _told("", f"{moves} it ({reason.weight:+.2f} log-odds): {reason.words}")


def _products(items: pl.DataFrame) -> Iterator[str]:
    """The newest lists of products with reasons."""
    if not items.height:
        yield _told("Products", "none: the user dealt with no item in 90 days, or allows no offers")
    kinds = {"repeat": "to buy again", "explore": "to try", "complement": "with what they buy"}
    title = "Products"
    for kind, words in kinds.items():
        of_kind = items.filter(pl.col("kind") == kind).head(TOP_PRODUCTS)
        if of_kind.height:
            told = ", ".join(_product(item) for item in of_kind.iter_rows(named=True))
            yield _told(title, f"{words}: {told}")
            title = ""


def _promotions(offered: pl.DataFrame) -> Iterator[str]:
    """The day's offers of the user in order, with reasons, and what the assigned one carries."""
    if not offered.height:
        yield _told("Promotions", "none listed: no offer is possible, or lists are older")
    title = "Promotions"
    for offer in offered.iter_rows(named=True):
        net = offer["expected_value"] - offer["expected_cost"]
        yield _told(
            title, f"{offer['offer_rank']}. {offer['offer_id']}: {offer['reason']}, net {net:+.4f}"
        )
        title = ""
        if offer["is_assigned"]:
            yield _told(
                "", f"   assigned, carries {offer['items'] or 'nothing'} ({offer['items_reason']})"
            )


def _product(item: Mapping[str, Any]) -> str:
    because = item["because_item_id"]
    why = {
        "repeat": f"bought in {item['times_bought']} of the last baskets",
        "explore": f"like {because}" if because else "popular",
        "complement": f"joins {because}, lift at least {item['score']:.1f}",
    }[item["kind"]]
    return f"{item['item_id']} ({why})"


def _offers(read: Read, keys: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Every offer of the catalogue with its worth for the user, or the condition that bars it."""
    from promo_assets.strategy.allocation.decisions import candidate_values
    from promo_assets.strategy.offers.rules import REASONS, eligible
    from promo_assets.tables.strategy import (
        catalogue_of,
        catalogue_version,
        users_parameters,
        users_sql,
    )

    price, effects = row(read, PRICE, keys), read(EFFECTS, keys)
    if price is None or not effects.height:
        yield _told("Offers", "no price of budget was published for this day")
        return
    if price["catalogue_version"] != catalogue_version(settings.catalogue):
        yield _told(
            "Offers", f"{settings.catalogue} changed since; what was considered is not known"
        )
        return
    catalogue, day = catalogue_of(settings.catalogue), keys["day"]
    window = Window(day, day + timedelta(days=1))
    bounds = users_parameters(window, SEGMENTS, installation.consent(settings), catalogue)
    users = read(
        f"select * from ({users_sql(catalogue)}) where user_id = $user",
        bounds | {"user": keys["user"]},
    )
    if not users.height:
        yield _told("Offers", "none were considered: the user had no segment on this day")
        return
    rules = eligible(users, catalogue, day, price["margin_rate"])
    probability = price["worth_probability"]
    worth = candidate_values(
        users, effects, catalogue, rules.mask, price["margin_rate"], probability
    )
    yield _told(
        "Offers",
        f"a unit of budget must earn at least {price['price']:.4f} beyond its cost that day",
    )
    (segment,) = users["segment"]
    in_segment = effects.filter(pl.col("segment") == segment)
    known = {row["offer_id"]: row for row in in_segment.iter_rows(named=True)}
    for place, offer in enumerate(catalogue.ids):
        value, cost = worth.value[0, place], worth.cost[0, place]
        if reason := rules.reasons[0, place]:
            told = f"barred by its condition on {REASONS[reason].replace('_', ' ')}"
        else:
            told = (
                f"margin {value:.4f}, at least {worth.cautious[0, place]:.4f} with "
                f"{probability:.0%}, cost {cost:.4f}, net {value - cost:+.4f} "
                f"(lift {known[offer]['lift']:+.1%}, {known[offer]['evidence']})"
            )
        yield _told("", f"{offer:<16}{told}")


def _decision(assignment: Mapping[str, Any] | None, day: date) -> Iterator[str]:
    if assignment is None:
        yield _told("Decision", "not published for this day")
        return
    arm, offer = assignment["arm"], assignment["offer_id"]
    what = {
        "offer": f"gets {offer}",
        "holdout": f"{offer} is withheld (holdout)",
        "none": "no offer",
    }[arm]
    drawn = assignment["assignment_probability"]
    chance = "" if arm == "none" else f", drawn with probability {drawn:.2f}"
    yield _told("Decision", f"{what} on {day + timedelta(days=1)}{chance}: {assignment['reason']}")
