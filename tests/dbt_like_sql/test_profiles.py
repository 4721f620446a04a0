"""Interests and profiles: quintiles, lifecycles, sensitivity and habits mean what they say."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

if TYPE_CHECKING:
    from tests.dbt_like_sql.conftest import Shop

FIRST = date(2024, 1, 1)
PROFILES = (
    "features.user_daily",
    "features.user_features",
    "profiles.user_interests",
    "profiles.user_profiles",
)
POINTS = {"view": 1, "click": 1, "favourite": 2, "add_to_cart": 3, "purchase": 6}
CATEGORIES = {
    "i0": "FOOD/BREAD",
    "i1": "FOOD/BREAD",
    "i2": "FOOD/CHEESE",
    "i3": "HOME/SOAP",
    "i4": "HOME",
}


def on(offset: int) -> date:
    return FIRST + timedelta(days=offset)


def profile(shop: Shop, user: str, offset: int) -> dict[str, Any]:
    return shop.one("profiles.user_profiles", user, on(offset))


def test_category_interests_equal_points_halved_every_28_days(year: Shop) -> None:
    events = year.frame("core.events").filter(pl.col("item_id").is_not_null())
    found = year.frame("profiles.user_interests", "kind = 'category'")

    for (user, today), rows in found.group_by("user_id", "as_of_date"):
        scores: Counter[str] = Counter()
        for event in events.filter(pl.col("user_id") == user).iter_rows(named=True):
            age = (today - event["event_date"]).days
            if 0 <= age < 90 and event["item_id"] in CATEGORIES:
                points = POINTS.get(event["event_type"], 0) * 2 ** (3 - age // 28)
                scores[CATEGORIES[event["item_id"]]] += points
        scores = +scores
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:5]

        rows = rows.sort("strength_rank")
        assert list(zip(rows["value"], rows["score"], strict=True)) == ranked
        assert rows["share"].to_list() == [score / scores.total() for _, score in ranked]


def test_price_bands_are_of_one_piece_or_of_the_list_price(shop: Shop) -> None:
    shop.connection.execute("update core.items set list_price = 7 where item_id = 'i1'")
    paid = {"quantity": 3, "unit_price": Decimal("1.99"), "discount": Decimal("5.00")}
    shop.deliver(
        [
            shop.event("purchase", "u", 0, item_id="i0", **paid),
            shop.event("view", "u", 0, item_id="i1"),
            shop.event("view", "u", 0, item_id="i2"),
        ]
    )
    shop.run(FIRST, on(1), PROFILES)

    bands = shop.frame("profiles.user_interests", "kind = 'price_band'")
    assert dict(bands.select("value", "score").iter_rows()) == {"1 to 2": 48, "5 to 10": 8}
    assert profile(shop, "u", 0)["top_price_band"] == "1 to 2"


def test_less_is_left_to_explore_the_more_is_known(shop: Shop) -> None:
    bought = [shop.event("purchase", "v", 0, item_id="i0", order_id=f"o{n}") for n in range(9)]
    shop.deliver([shop.event("view", "u", 0, item_id="i0"), *bought])
    shop.run(FIRST, on(1), PROFILES)

    found = shop.frame("profiles.user_interests", "kind = 'category'")
    left = dict(found.select("user_id", "exploration_share").iter_rows())
    assert left == {"u": 144 / (144 + 8), "v": 144 / (144 + 9 * 48)}


def test_interests_are_renewed_on_the_first_day_of_a_week_with_an_item(shop: Shop) -> None:
    shop.deliver(
        [
            shop.event("search", "u", 0),
            *[shop.event("view", "u", day, item_id="i3") for day in (1, 3, 6, 9)],
        ]
    )
    shop.run(FIRST, on(14), PROFILES)

    renewed = shop.frame("profiles.user_interests", "kind = 'brand'")["as_of_date"].to_list()

    assert renewed == [on(1), on(9)], "1 January 2024 is a Monday"


def test_a_profile_keeps_its_interests_for_90_days(shop: Shop) -> None:
    shop.deliver(
        [
            shop.event("purchase", "u", 2, item_id="i2"),
            shop.event("view", "u", 2, item_id="i3"),
        ]
    )
    shop.run(FIRST, on(100), PROFILES)

    kept = [profile(shop, "u", day)["top_category_1"] for day in (2, 50, 92, 93)]

    assert kept == ["FOOD/CHEESE", "FOOD/CHEESE", "FOOD/CHEESE", None]
    assert profile(shop, "u", 2)["top_category_2"] == "HOME/SOAP"
    assert profile(shop, "u", 2)["top_brand"] == "bora"


def test_quintiles_equal_the_percent_rank_among_buyers(year: Shop) -> None:
    features = year.frame("features.user_features", "orders_life > 0")
    found = year.frame("profiles.user_profiles", "rfm is not null")
    measures = {
        "recency": [-days for days in features["recency_days"]],
        "frequency": features["orders_90d"].to_list(),
        "monetary": features["spend_90d"].to_list(),
    }
    keyed = features.select("user_id", "as_of_date").with_columns(
        *(pl.Series(name, values) for name, values in measures.items())
    )

    for _, rows in found.join(keyed, on=["user_id", "as_of_date"]).group_by("as_of_date"):
        for name in measures:
            values = rows[name].to_list()
            expected = [quintile(value, values) for value in values]
            assert rows[f"{name}_quintile"].to_list() == expected


def quintile(value: Any, values: list[Any]) -> int:
    """1 + the whole part of five times the percent rank, at most 5, in exact integers."""
    below = sum(other < value for other in values)
    return min(5, 1 + 5 * below // max(1, len(values) - 1))


def test_equal_shoppers_share_a_quintile(shop: Shop) -> None:
    shop.deliver([shop.event("purchase", f"u{number}", 0) for number in range(11)])
    shop.run(FIRST, on(1), PROFILES)

    assert {row["rfm"] for row in shop.frame("profiles.user_profiles").to_dicts()} == {"1-1-1"}


def test_who_never_ordered_has_no_quintiles_and_no_habits(shop: Shop) -> None:
    shop.deliver([shop.event("view", "looker", 0), shop.event("purchase", "buyer", 0)])
    shop.run(FIRST, on(1), PROFILES)

    row = profile(shop, "looker", 0)

    assert [row["rfm"], row["recency_quintile"], row["preferred_hours"]] == [None, None, None]
    assert profile(shop, "buyer", 0)["rfm"] == "1-1-1"


@pytest.mark.parametrize(
    ("lifecycle", "orders", "offset"),
    [
        ("new", [0], 0),
        ("new", [0, 5], 27),
        ("active", [0, 5, 9], 27),
        ("active", [0, 5], 28),
        ("active", [0, 4, 8, 12, 16, 20], 41),
        ("at_risk", [0, 4, 8, 12, 16, 20], 42),
        ("at_risk", [0, 4, 8, 12, 16, 20], 109),
        ("dormant", [0, 4, 8, 12, 16, 20], 110),
    ],
)
def test_a_lifecycle_follows_its_definition(
    shop: Shop, lifecycle: str, orders: list[int], offset: int
) -> None:
    shop.deliver([shop.event("purchase", "u", day) for day in orders])
    shop.run(FIRST, on(offset + 1), PROFILES)

    assert profile(shop, "u", offset)["lifecycle"] == lifecycle


def test_a_user_who_only_looks_is_active_until_90_days_of_silence(shop: Shop) -> None:
    shop.deliver([shop.event("view", "u", 0), shop.event("offer_sent", "u", 60)])
    shop.run(FIRST, on(91), PROFILES)

    lifecycles = [profile(shop, "u", day)["lifecycle"] for day in (27, 28, 89, 90)]

    assert lifecycles == ["new", "active", "active", "dormant"]


def test_price_sensitivity_lies_between_a_users_own_share_and_everybodys(shop: Shop) -> None:
    rng = random.Random(3)
    shop.deliver(
        [
            shop.event("purchase", f"u{user}", day, discount=Decimal(discount))
            for user, discount in enumerate((0, 2, 5, 10))
            for day in rng.sample(range(40), 3 + 4 * user)
        ]
    )
    shop.run(FIRST, on(40), PROFILES)
    features = shop.frame("features.user_features", f"as_of_date = date '{on(39)}'")
    everybody = float(features["discount_90d"].sum()) / float(features["gross_90d"].sum())

    for row in features.to_dicts():
        own = row["discount_share_90d"]
        found = profile(shop, row["user_id"], 39)["price_sensitivity"]
        orders = row["orders_90d"]
        assert min(own, everybody) <= found <= max(own, everybody)
        assert found == pytest.approx((own * orders + everybody * 3) / (orders + 3)), (
            "every order here is of 10.00, so three mean orders weigh as much as three of a user"
        )


def test_habits_are_those_of_most_orders(shop: Shop) -> None:
    shop.deliver(
        [
            shop.event("purchase", "u", 4, hour=23, channel="app"),
            shop.event("purchase", "u", 5, hour=9, channel="store"),
            shop.event("purchase", "u", 6, hour=10, channel="store"),
            shop.event("purchase", "v", 4, hour=9, channel="phone"),
        ]
    )
    shop.run(FIRST, on(7), PROFILES)

    habits = ("preferred_channel", "preferred_hours", "preferred_weekpart")

    assert [profile(shop, "u", 6)[name] for name in habits] == ["store", "08-12 UTC", "weekend"]
    assert [profile(shop, "v", 6)[name] for name in habits] == ["other", "08-12 UTC", "weekday"]


AUDITED = {
    ("profiles.user_interests", "interests_are_ranked"): "strength_rank = strength_rank + 1",
    ("profiles.user_interests", "users_were_active_that_day"): "user_id = 'nobody'",
    ("profiles.user_interests", "values_are_known"): "value = 'FOOD/MOON'",
    ("profiles.user_profiles", "values_are_in_range"): "lifecycle = 'asleep'",
    ("profiles.user_profiles", "better_quintiles_are_better"): (
        "recency_quintile = 6 - recency_quintile"
    ),
}


@pytest.mark.parametrize(("table", "audit"), AUDITED)
def test_the_gate_finds_the_day_of_a_wrong_row(shop: Shop, table: str, audit: str) -> None:
    shop.deliver(shop.shoppers(days=29))
    shop.run(FIRST, on(29), PROFILES)
    last = shop.frame(table)["as_of_date"].max()
    assert shop.offending(table, audit, on(10), on(29)) == []

    shop.connection.execute(
        f"update {table} set {AUDITED[table, audit]} where as_of_date = date '{last}'"
    )

    assert {row[0] for row in shop.offending(table, audit, on(10), on(29))} == {last}


def test_the_gate_finds_a_user_without_a_profile(shop: Shop) -> None:
    shop.deliver(shop.shoppers(days=12))
    shop.run(FIRST, on(12), PROFILES)
    shop.connection.execute(
        f"delete from profiles.user_profiles where as_of_date = date '{on(11)}' and user_id ="
        " (select min(user_id) from profiles.user_profiles)"
    )

    audit = "every_known_user_has_a_profile"

    found = shop.offending("profiles.user_profiles", audit, FIRST, on(12))
    assert [row[0] for row in found] == [on(11)]
