"""Why a user has their score: the strongest reasons, in words.

Features that tell of the same behaviour (orders in 7, 28 and 90 days) share its weight among
them, as trees choose one or the other. So reasons are topics: a topic's weight is the sum of its
features' SHAP values, its words those of the feature that weighs most in its direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from promo_assets.propensity.model import BASE, PropensityModel

Snapshot = Mapping[str, Any]
"""A user's row of ``features.user_features``."""
Words = Callable[[Snapshot, str], str]
"""What the feature of that name tells of a user."""


@dataclass(frozen=True)
class Reason:
    """``weight``: by how much the topic moves the score's log-odds from what everybody's mean is;
    ``feature``: the one whose value ``words`` tell."""

    topic: str
    weight: float
    feature: str
    words: str


def reasons(model: PropensityModel, snapshot: pl.DataFrame, most: int = 3) -> list[Reason]:
    """The ``most`` strongest reasons of one user's score, the strongest first.

    ``snapshot``: one row with the model's features. By exact TreeSHAP, so slow: for the user who
    is shown (`PropensityModel.contributions`). Raises `MissingFeatureError` when a feature is
    missing.
    """
    told = topics(model, snapshot)
    return sorted(told, key=lambda reason: (-abs(reason.weight), reason.topic))[:most]


def topics(model: PropensityModel, snapshot: pl.DataFrame) -> list[Reason]:
    """Every topic of one user's score. Their weights and the mean's add up to its log-odds."""
    values = snapshot.row(0, named=True)
    (weights,) = model.contributions(snapshot)
    of_topic: dict[str, dict[str, float]] = {}
    for feature, weight in weights.items():
        if feature != BASE:
            of_topic.setdefault(topic_of(feature), {})[feature] = weight
    found = []
    for topic, parts in of_topic.items():
        weight = sum(parts.values())
        strongest = max(parts, key=lambda name: parts[name] * (1 if weight >= 0 else -1))
        found.append(Reason(topic, weight, strongest, MEANINGS[strongest][1](values, strongest)))
    return found


def topic_of(feature: str) -> str:
    """The behaviour that a feature tells of; its own name where it has no words."""
    return MEANINGS[feature][0] if feature in MEANINGS else feature


WINDOWS = {
    "1d": "that day",
    "7d": "in 7 days",
    "28d": "in 28 days",
    "90d": "in 90 days",
    "life": "so far",
}

COUNTS = {
    "orders": ("orders", "order", "orders"),
    "order_days": ("orders", "day with orders", "days with orders"),
    "purchases": ("orders", "line ordered", "lines ordered"),
    "items": ("orders", "item bought", "items bought"),
    "views": ("visits", "product view", "product views"),
    "searches": ("visits", "search", "searches"),
    "clicks": ("visits", "click", "clicks"),
    "carts": ("visits", "item put into the cart", "items put into the cart"),
    "active_days": ("visits", "active day", "active days"),
    "deal_searches": ("discounts", "search for coupons", "searches for coupons"),
    "offers_sent": ("offers", "offer sent", "offers sent"),
    "offers_viewed": ("offers", "offer viewed", "offers viewed"),
    "offers_redeemed": ("offers", "redemption", "redemptions"),
}
"""By the name before the window: topic, one of it, several."""

AMOUNTS = {
    "gross": ("spend", "bought before discounts"),
    "spend": ("spend", "spent"),
    "discount": ("discounts", "of discount"),
    "redemption_cost": ("offers", "of redeemed offers"),
}

SHARES = {
    "discount_share": ("discounts", "{:.0%} discount on what was bought", "nothing bought"),
    "orders_per_active_day": ("orders", "{:.2f} orders an active day", "not active"),
    "orders_per_view": ("visits", "{:.2f} orders a product view", "no product views"),
}
"""By the name before the window: topic, words of a value, words where it is null."""

HOURS = ("0 to 4", "4 to 8", "8 to 12", "12 to 16", "16 to 20", "20 to 24")


def _meanings() -> Iterator[tuple[str, tuple[str, Words]]]:
    for base, (topic, one, several) in COUNTS.items():
        for window, when in WINDOWS.items():
            yield f"{base}_{window}", (topic, _count(one, several, when))
    for base, (topic, what) in AMOUNTS.items():
        for window, when in WINDOWS.items():
            yield f"{base}_{window}", (topic, _value(f"{{:,.2f}} {what} {when}"))
    for base, (topic, words, unknown) in SHARES.items():
        for window in ("28d", "90d", "life"):
            when = WINDOWS[window]
            yield f"{base}_{window}", (topic, _value(f"{words} {when}", f"{unknown} {when}"))
    for block, hours in enumerate(HOURS):
        topic, when = "hours and weekdays", f"from {hours} h UTC"
        yield f"orders_block_{block}_life", (topic, _count("order", "orders", f"{when} so far"))
        share = _value(f"{{:.0%}} of orders {when}", "no orders")
        yield f"order_share_block_{block}", (topic, share)
    for channel, where in {"app": "in the app", "web": "on the web", "store": "in a store"}.items():
        told = _count("order", "orders", f"{where} so far")
        yield f"orders_{channel}_life", ("channels", told)
    for days in (7, 14, 21, 28):
        told = _value(f"{{}} gaps between orders of at most {days} days")
        yield f"gaps_within_{days}d", ("rhythm", told)


def _count(one: str, several: str, when: str) -> Words:
    def words(snapshot: Snapshot, name: str) -> str:
        number = snapshot[name]
        return f"{number or 'no'} {one if number == 1 else several} {when}"

    return words


def _value(words: str, unknown: str = "") -> Words:
    """``words`` formats the value; ``unknown`` tells of a null."""

    def told(snapshot: Snapshot, name: str) -> str:
        return unknown if snapshot[name] is None else words.format(snapshot[name])

    return told


def _last_order(snapshot: Snapshot, _: str) -> str:
    days, gap = snapshot["recency_days"], snapshot.get("gap_mean_days")
    if days is None:
        return "never ordered"
    usual = "" if gap is None else f" (usual gap {gap:.0f})"
    if days == 0:
        return f"ordered that day{usual}"
    return f"no order for {days} day{'s' * (days != 1)}{usual}"


def _last_action(snapshot: Snapshot, _: str) -> str:
    days = snapshot["days_since_active"]
    if days is None:
        return "never active"
    return f"not active for {days} day{'s' * (days != 1)}" if days else "active that day"


FEW_GAPS = "too few orders for a usual gap"

MEANINGS: Mapping[str, tuple[str, Words]] = dict(_meanings()) | {
    "recency_days": ("last order", _last_order),
    "recency_over_gap": ("last order", _last_order),
    "return_hazard_7d": (
        "last order",
        _value(
            "after so long a gap, {:.0%} of the user's orders came within a week",
            "no order for 28 days or more",
        ),
    ),
    "gap_count": ("rhythm", _count("gap", "gaps", "between orders so far")),
    "gap_sum_days": ("rhythm", _value("{} days between first and last order")),
    "gap_sumsq_days": ("rhythm", _value("gaps between orders of {} squared days")),
    "gap_capped_sum_days": ("rhythm", _value("{} days within a week after an earlier order")),
    "gap_mean_days": ("rhythm", _value("usual gap of {:.0f} days", FEW_GAPS)),
    "gap_sd_days": ("rhythm", _value("gaps between orders vary by {:.0f} days", FEW_GAPS)),
    "repurchase_rate": (
        "rhythm",
        _value("{:.0%} of orders followed by another in 28 days", FEW_GAPS),
    ),
    "covered_days_life": ("orders", _value("{} days so far with an order in the week before")),
    "order_cover_90d": (
        "orders",
        _value("an order in the week before on {:.0%} of the last 90 days"),
    ),
    "order_cover_life": (
        "orders",
        _value("an order in the week before on {:.0%} of all days so far"),
    ),
    "orders_trend_7d": (
        "pace",
        _value("{:.1f} times the pace of 28 days in 7 days", "no orders in 28 days"),
    ),
    "orders_trend_28d": (
        "pace",
        _value("{:.1f} times the pace of 90 days in 28 days", "no orders in 90 days"),
    ),
    "days_since_active": ("visits", _last_action),
    "tenure_days": ("time known", _value("known for {} days")),
    "avg_order_value_90d": ("spend", _value("{:,.2f} an order in 90 days", "no orders in 90 days")),
    "avg_order_value_life": ("spend", _value("{:,.2f} an order so far", "no orders so far")),
    "basket_max_life": ("spend", _value("{:,.2f} for the largest order so far")),
    "returns_life": ("returns", _count("returned line", "returned lines", "so far")),
    "orders_weekend_life": ("hours and weekdays", _count("order", "orders", "on weekends so far")),
    "weekend_order_share": (
        "hours and weekdays",
        _value("{:.0%} of orders on weekends", "no orders"),
    ),
    "offer_days": ("offers", _count("day", "days", "with offers so far")),
    "offer_days_answered": ("offers", _count("day", "days", "with offers that were answered")),
    "response_rate": (
        "offers",
        _value("{:.0%} of days with offers answered", "no offers sent so far"),
    ),
}
"""Topic and words of every feature. Words of a missing value say what is missing."""
