"""Customers' futures as a table: what is foreseen is what the models say of the same orders."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest

from promo_assets import installation
from promo_assets.contract.days import Window
from promo_assets.gates.suites import suite_of
from promo_assets.propensity.lifetimes import fit_bg_nbd, fit_gamma_gamma, order_histories
from promo_assets.tables.lifetimes import LEAST_CUSTOMERS, PENALTY, TOO_FEW, user_lifetimes
from promo_assets.tables.table import Production
from tests.support.shop import Shop

WEEK = date(2024, 1, 15)
SUNDAY = date(2024, 1, 21)
CONTRACT = installation.contracts()["profiles.user_lifetimes"]


def orders_of(users: int) -> pl.DataFrame:
    """Days with orders in the three weeks up to `SUNDAY` and the one after, of users who order at
    rates of their own."""
    rng = np.random.default_rng(1)
    rows = []
    for user in range(users):
        rate = rng.gamma(2, 0.1)
        for back in range(-7, 21):
            if rng.random() < rate or back == 20 - user % 10:
                value = round(rng.gamma(3, 10), 2) * (user > 0)
                rows.append((f"u{user:03}", SUNDAY - timedelta(days=back), value))
    return pl.DataFrame(rows, schema=["user_id", "event_date", "value"], orient="row")


def features(orders: pl.DataFrame) -> pl.DataFrame:
    """The columns of features.user_features that are read, of two Sundays."""
    days = [SUNDAY, SUNDAY + timedelta(days=7)]
    told = [
        orders.filter(pl.col("event_date") <= day)
        .group_by("user_id")
        .agg(
            order_days_life=pl.len().cast(pl.Int32),
            first_order_date=pl.col("event_date").min(),
            last_order_date=pl.col("event_date").max(),
            gross_life=(pl.col("value").sum() + 5).cast(pl.Decimal(18, 2)),
            discount_life=pl.lit(5).cast(pl.Decimal(18, 2)),
        )
        .with_columns(as_of_date=pl.lit(day))
        for day in days
    ]
    nobody = (
        told[0].head(1).with_columns(user_id=pl.lit("new"), order_days_life=pl.lit(0, pl.Int32))
    )
    return pl.concat([*told, nobody])


def foreseen(users: int, *weeks: date, orders: pl.DataFrame | None = None) -> pl.DataFrame:
    snapshot = features(orders_of(users) if orders is None else orders)  # noqa: F841 - read by the engine
    with duckdb.connect() as connection:
        connection.execute("create schema features")
        connection.execute("create table features.user_features as from snapshot")
        window = Window(weeks[0], weeks[-1] + timedelta(days=7))
        told = Production(CONTRACT, connection, window, ("",), weeks, "test", print, dict)
        return user_lifetimes(told).sort("week", "user_id")


def test_futures_are_those_of_the_models_fitted_to_the_same_orders() -> None:
    told = foreseen(150, WEEK)
    people = order_histories(orders_of(150), SUNDAY)
    assert told["user_id"].to_list() == people["user_id"].to_list()
    history = [people[name].to_numpy() for name in ("frequency", "recency", "age")]
    model = fit_bg_nbd(*history, penalty=PENALTY)
    for name, wanted in {
        "alive_probability": model.alive_probability(*history),
        "expected_orders_28d": model.expected_orders(28, *history),
        "expected_orders_90d": model.expected_orders(90, *history),
    }.items():
        assert told[name].to_numpy() == pytest.approx(wanted)
    paid = people["mean_value"] > 0
    assert paid.to_list() == [False] + [True] * 149  # Who paid nothing is like everybody.
    bought = people.with_columns(orders=pl.when(paid).then("orders").otherwise(0))
    values = fit_gamma_gamma(bought["orders"], bought["mean_value"], penalty=PENALTY)
    value = values.expected_value(bought["orders"], bought["mean_value"])
    assert value[0] == values.mean_value
    assert told["expected_order_value"].to_numpy() == pytest.approx(value)
    assert told["expected_value_90d"].to_numpy() == pytest.approx(
        value * model.expected_orders(90, *history)
    )
    wait = (told["next_order_date"] - told["as_of_date"]).dt.total_days().to_numpy()
    assert wait == pytest.approx(np.ceil(model.median_wait(*history)))
    assert told["reason"].is_null().all()


def test_a_week_knows_nothing_of_later_ones_whatever_is_made_with_it() -> None:
    later = WEEK + timedelta(weeks=1)
    both = foreseen(150, WEEK, later)
    assert both.equals(pl.concat([foreseen(150, WEEK), foreseen(150, later)]))
    assert set(both["as_of_date"]) == {SUNDAY, SUNDAY + timedelta(days=7)}


def test_of_too_few_customers_nothing_is_foreseen_and_the_reason_told() -> None:
    told = foreseen(LEAST_CUSTOMERS - 1, WEEK)
    assert set(told["reason"]) == {TOO_FEW}
    assert told["expected_orders_28d"].is_null().all()
    assert set(told["customers"]) == {LEAST_CUSTOMERS - 1}


def test_where_nobody_paid_orders_are_foreseen_without_a_value() -> None:
    told = foreseen(150, WEEK, orders=orders_of(150).with_columns(value=pl.lit(0.0)))
    assert told["expected_orders_28d"].null_count() == 0
    assert told["expected_order_value"].is_null().all()
    assert told["expected_value_90d"].is_null().all()


@pytest.mark.parametrize(("orders", "warned"), [(1, False), (3, True)])
def test_a_week_that_foresaw_too_little_is_warned_of(orders: int, warned: bool) -> None:
    monday = WEEK + timedelta(weeks=4)
    told = pl.DataFrame(  # noqa: F841 - read by the engine
        {
            "week": WEEK,
            "as_of_date": SUNDAY,
            "user_id": [f"u{user}" for user in range(250)],
            "expected_orders_28d": 1.0,
        }
    )
    came = pl.DataFrame(  # noqa: F841 - read by the engine
        [
            (f"u{user}", SUNDAY + timedelta(days=day + place), place < orders)
            for user in range(250)
            for place in range(-2, orders)
            for day in ((1,) if place >= 0 else (0, 31))
        ],
        schema=["user_id", "event_date", "orders"],
        orient="row",
    )
    (rule,) = [rule for rule in suite_of(CONTRACT) if rule.title == "orders_came_as_foreseen"]
    assert rule.severity == "warning"
    with duckdb.connect() as connection:
        connection.execute("create schema profiles; create schema features")
        connection.execute("create table profiles.user_lifetimes as from told")
        connection.execute("create table features.user_daily as from came where orders")
        window = f"(select date '{monday}' as day)"
        query = rule.query.format(batch="profiles.user_lifetimes", window=window)
        found = connection.execute(query).fetchall()
    assert found == ([(monday, 250.0, 250 * orders)] if warned else [])


def test_the_future_is_explained_as_the_newest_week_before_told_it(open_shop: Shop) -> None:
    user, *_ = open_shop.query("select user_id from profiles.user_lifetimes order by all limit 1")[
        0
    ]

    def line(day: date) -> str:
        return open_shop.explained(user, day, "Future")

    assert line(SUNDAY) == "Future      nothing foreseen: too few customers"
    assert "no order by the end of a week" in line(date(2024, 1, 6))
    open_shop.query(
        "update profiles.user_lifetimes set reason = null, alive_probability = .9,"
        " expected_orders_28d = 2, expected_orders_90d = 6.04, expected_value_90d = 1234.5,"
        f" next_order_date = date '2024-01-25' where week = date '{WEEK}'"
    )
    assert line(SUNDAY) == (
        "Future      2.0 orders expected in 28 days, 6.0 in 90 worth 1,234.50; still a customer "
        "with 90%, who then orders by 2024-01-25 as likely as not (as of 2024-01-21)"
    )
