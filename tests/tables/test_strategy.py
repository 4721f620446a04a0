"""What the strategy reads of users: who counts as addressed lately."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import duckdb
import pytest

from promo_assets.contract.days import Window
from promo_assets.contract.segments import SEGMENTS
from promo_assets.people.consent import ConsentRule
from promo_assets.strategy.effects.response import FEATURES
from promo_assets.strategy.offers.catalogue import Catalogue
from promo_assets.tables.strategy import users_parameters, users_sql

FIRST = date(2024, 1, 1)
TABLES = """
create schema core; create schema segments; create schema features; create schema profiles;
create table core.calendar as
    select cast(day as date) as day
    from range(date '2024-01-01', date '2024-04-01', interval 1 day) as r(day);
create table core.events (
    event_date date, event_time timestamp, event_type varchar, user_id varchar, offer_id varchar
);
create table profiles.user_profiles (
    as_of_date date, user_id varchar, top_category_1 varchar, top_category_2 varchar,
    top_category_3 varchar, preferred_channel varchar
);
create table core.identities (identifier varchar, kind varchar, user_id varchar, as_of_date date);
create table core.consents
    (identifier varchar, kind varchar, purpose varchar, granted boolean, since timestamp);
create table segments.user_segments
    (as_of_date date, user_id varchar, segment varchar, lifecycle varchar,
    expected_spend_28d double);
"""
KNOWN = sorted({*FEATURES, "avg_order_value_90d", "avg_order_value_life", "recency_days"})
COLUMNS = ", ".join(f"{name} double" for name in KNOWN)
TABLES += (
    "create table features.user_features"
    f" (as_of_date date, user_id varchar, last_redemption_date date, {COLUMNS});"
)


@pytest.fixture
def warehouse() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(TABLES)
    for user in ("sent", "withheld", "other"):
        for number in range(91):
            day = FIRST + timedelta(days=number)
            connection.execute(
                "insert into segments.user_segments values (?, ?, 'loyal', 'active', 1)",
                [day, user],
            )
            connection.execute(
                "insert into features.user_features by name select ? as as_of_date, ? as user_id",
                [day, user],
            )
    return connection


def happens(
    warehouse: duckdb.DuckDBPyConnection, day: int, kind: str, user: str, offer: str | None = None
) -> None:
    at = datetime(2024, 1, 1, 12) + timedelta(days=day)
    warehouse.execute(
        "insert into core.events values (?, ?, ?, ?, ?)", [at.date(), at, kind, user, offer]
    )


def catalogue(*days: int) -> Catalogue:
    offers = [
        {
            "id": f"o{d}",
            "name": "O",
            "kind": "amount_off",
            "value": 1,
            "frequency_cap": {"times": 1, "days": d},
        }
        for d in days
    ]
    return Catalogue.model_validate({"offers": offers})


def test_a_withheld_draw_counts_for_a_cap_as_a_send_does(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    """Else the held-out are drawn again every day, and the arms are no longer as large as drawn."""
    for kind, user in (("offer_sent", "sent"), ("offer_withheld", "withheld"), ("view", "other")):
        happens(warehouse, 0, kind, user)
    window = Window(FIRST, FIRST + timedelta(days=40))
    rule = ConsentRule((), unknown_allowed=True)
    caps = catalogue(28, 7)
    parameters = users_parameters(window, SEGMENTS, rule, caps)
    users = warehouse.execute(users_sql(caps), parameters).pl()
    assert "offers_drawn_28d" in users.columns
    for days in (7, 28):
        drawn = users.filter(users[f"offers_drawn_{days}d"] > 0)
        expected = {
            (FIRST + timedelta(days=number), user)
            for number in range(days - 1)
            for user in ("sent", "withheld")
        }
        assert set(drawn.select("as_of_date", "user_id").iter_rows()) == expected


def test_without_caps_draws_are_counted_for_exploration_only(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    plain = Catalogue.model_validate(
        {"offers": [{"id": "o", "name": "O", "kind": "amount_off", "value": 1}]}
    )
    window = Window(FIRST, FIRST + timedelta(days=2))
    rule = ConsentRule((), unknown_allowed=True)
    users = warehouse.execute(
        users_sql(plain), users_parameters(window, SEGMENTS, rule, plain)
    ).pl()
    assert users.height == 6
    assert [name for name in users.columns if name.startswith("offers_drawn")] == [
        "offers_drawn_28d"
    ]


def test_a_coupon_is_open_from_its_send_until_it_is_used_or_its_days_are_over(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    offers = [
        {"id": "short", "name": "O", "kind": "amount_off", "value": 1, "valid_days": 5},
        {"id": "long", "name": "O", "kind": "amount_off", "value": 1},
    ]
    both = Catalogue.model_validate({"offers": offers})
    for day, kind, user, offer in (
        (1, "offer_sent", "sent", "short"),
        (2, "offer_sent", "sent", "long"),
        (4, "offer_redeemed", "sent", "long"),
        (8, "offer_sent", "sent", "long"),
        (1, "offer_withheld", "withheld", "short"),
        (1, "offer_sent", "other", "of another catalogue"),
        (6, "return", "other", None),
    ):
        happens(warehouse, day, kind, user, offer)
    window = Window(FIRST, FIRST + timedelta(days=10))
    parameters = users_parameters(window, SEGMENTS, ConsentRule((), unknown_allowed=True), both)
    users = warehouse.execute(users_sql(both), parameters).pl()
    found = {
        (row["user_id"], (row["as_of_date"] - FIRST).days): row["open_offers"]
        for row in users.iter_rows(named=True)
        if row["open_offers"]
    }
    assert found == {
        ("sent", 1): ["short"], ("sent", 2): ["long", "short"], ("sent", 3): ["long", "short"],
        ("sent", 4): ["short"], ("sent", 5): ["short"], ("sent", 8): ["long"],
        ("sent", 9): ["long"],
    }  # fmt: skip
    since = users.filter(user_id="other").sort("as_of_date")["days_since_return"].to_list()
    assert since == [None] * 6 + [0, 1, 2, 3]
